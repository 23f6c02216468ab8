"""The view of quarantined records, without a database."""

import pytest

from streams.projections import quarantine
from streams.projections.quarantine import Entry
from streams.projections.view import Row


def entry(value: bytes, **headers: str) -> Entry:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Entry("run", "dev.run.commands/3/7", value, named, 3, 40)


def test_a_quarantined_record_keeps_what_it_was() -> None:
    """Its place, its headers, the beginning of its bytes; the tenant comes from its key."""
    row = quarantine.VIEW.fold(
        None, entry(b"\xff" * 100_000, cause="too_large", original_key="acme/r1", original_x="1"), None
    )
    assert row is not None
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == ("dev.run.commands", 3, 7)
    assert (row["tenant"], row["headers"], row["size"], len(row["sample"])) == (
        "acme",
        {"x": "1"},
        100_000,
        65_536,
    )
    assert set(row) == {column.name for column in quarantine.TABLE.columns}
    unkeyed = quarantine.VIEW.fold(None, entry(b"", cause="no_key"), None)
    assert unkeyed is not None
    assert (unkeyed["tenant"], unkeyed["status"]) == ("", "open")


def test_a_redrive_marks_the_record() -> None:
    """An empty value alone is no marker; a marker without its record leaves nothing."""
    marker = entry(b"", redriven_by="ops", redrive_command_id="c2", at="2026-01-01T00:00:00Z")
    row = quarantine.VIEW.fold(
        quarantine.VIEW.fold(None, entry(b"x", cause="undecodable"), None), marker, None
    )
    assert row is not None
    assert (row["status"], row["redriven_by"], row["redrive_command_id"]) == ("redriven", "ops", "c2")
    assert quarantine.VIEW.fold(None, marker, None) is None


def folded(*entries: Entry) -> Row:
    """Return the row of a quarantined record after these records."""
    row: Row | None = None
    for one in entries:
        row = quarantine.VIEW.fold(row, one, None) or row
    assert row is not None
    return row


def test_a_redrive_that_was_noted_twice_counts_once() -> None:
    """The same new command id is the same attempt; another one is another, and an edit is told."""
    first = entry(b"", redriven_by="ops", redrive_command_id="c2")
    second = entry(b"{}", redriven_by="eve", redrive_command_id="c3", edited="true")
    row = folded(entry(b"x", cause="handler_error"), first, first)
    assert (row["redrives"], row["edited"]) == (1, False)
    row = folded(entry(b"x", cause="handler_error"), first, second)
    assert (row["redrives"], row["edited"], row["redriven_by"]) == (2, True, "eve")


def test_a_dropped_record_says_by_whom_and_why() -> None:
    """What came before stays."""
    row = folded(entry(b"x", cause="no_key"), entry(b"", dropped_by="ops", reason="a test", at="t"))
    assert (row["status"], row["dropped_by"], row["drop_reason"], row["dropped_at"]) == (
        "dropped",
        "ops",
        "a test",
        "t",
    )
    assert (row["cause"], row["sample"]) == ("no_key", b"x")


@pytest.mark.parametrize(
    ("before", "counted", "expected"),
    [(None, None, (1, 1)), ("handler_error/f1", "2", (4, 3)), ("handler_error/f2", "2", (4, 1)),
     ("undecodable/", "2", (4, 1)), ("handler_error/f1", "many", (4, 1))],
)  # fmt: skip
def test_a_command_that_fails_again_knows_how_often(
    before: str | None, counted: str | None, expected: tuple[int, int]
) -> None:
    """Attempts are counted through all redrives; failures alike only as long as nothing else came between."""
    said = {} if before is None else {"original_redrive_attempts": "3", "original_redrive_failure": before}
    said |= {} if counted is None else {"original_redrive_failed_alike": counted}
    row = folded(entry(b"x", cause="handler_error", fingerprint="f1", **said))
    assert (row["attempts"], row["failed_alike"]) == expected


def test_one_that_waits_was_not_tried() -> None:
    """It counts no attempt; when its owner has decided it, it waits no more and is redriven."""
    waits = entry(b"x", cause="parked", parked="behind", original_key="default/r1")
    row = folded(waits)
    assert (row["parked"], row["attempts"], row["failed_alike"]) == ("behind", 0, 0)
    decided = entry(
        b"", parked="released", redriven_by="ada", redrive_command_id="c2", original_key="default/r1"
    )
    row = folded(waits, decided)
    assert (row["parked"], row["status"], row["redriven_by"]) == (None, "redriven", "ada")
    let_go = folded(entry(b"x", cause="handler_error", parked="first"), entry(b"", parked="released"))
    assert (let_go["parked"], let_go["status"]) == (None, "open")
