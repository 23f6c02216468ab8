"""The report of a run: told from its row and its events alone."""

from typing import Any

import pytest

from app.cli.report import lines, row
from app.views.report import page, report

COUNTS = {"records_in": 0, "records_out": 0, "records_rejected": 0, "bytes": 0}
STEP = {"attempt": 1, "status": "succeeded", "error": None, "reused": False, **COUNTS}
RUN: dict[str, Any] = {
    "id": "5e0f", "pipeline": "copy", "status": "failed", "error": "step update failed", "trigger": "schedule",
    "slot": 1_000, "rerun_of": None, "definition_hash": "ab12", "created_at": 1_200, "started_at": 1_500, "ended_at": 9_000,
    "steps": [
        {**STEP, "name": "extract", "kind": "extract", "records_out": 20_000, "bytes": 300},
        {**STEP, "name": "load", "kind": "load", "attempt": 2, "records_in": 20_000, "records_out": 19_950, "records_rejected": 50},
        {**STEP, "name": "update", "kind": "load", "status": "failed", "error": "<b>503</b>"},
    ],
}  # fmt: skip


def event(kind: str, at: int, step: str = "", attempt: int = 1, **body: Any) -> dict[str, Any]:
    return {"type": kind, "at": at, "actor": "schedule", "body": {"step": step, "attempt": attempt, **body}}


EVENTS = [
    event("RunCreated", 1_200),
    event("StepClaimed", 1_500, "extract"),
    event("StepSucceeded", 2_500, "extract"),
    event("StepClaimed", 3_000, "load"),
    event("StepLost", 5_000, "load"),
    event("StepClaimed", 5_100, "load", 2),
    event("StepSucceeded", 6_100, "load", 2),
    event("StepClaimed", 6_500, "update"),
    event("StepFailed", 8_500, "update", error="<b>503</b>"),
]


def test_a_report_counts_what_moved_and_the_work_of_every_attempt() -> None:
    """Given a lost and a failed attempt, then their time is work too, and both are told as troubles."""
    told = report(RUN, EVENTS)
    assert (told["read"], told["written"], told["rejected"], told["bytes"]) == (20_000, 19_950, 50, 300)
    assert (told["waited_ms"], told["took_ms"], told["late_ms"], told["worked_ms"]) == (
        300,
        7_800,
        8_000,
        6_000,
    )
    assert [step["worked_ms"] for step in told["steps"]] == [1_000, 3_000, 2_000]
    assert [(one["step"], one["attempt"]) for one in told["troubles"]] == [("load", 1), ("update", 1)]


def test_a_step_that_was_handed_back_is_no_loss() -> None:
    """The report says which of the two it was."""
    lost = [event("StepLost", 5_000, "load", handed_back=back) for back in (False, True)]
    said = [one["what"] for one in report(RUN, lost)["troubles"]]
    assert said == ["its runner was not heard of any more", "its runner was told to stop, and handed it back"]


def test_what_a_run_did_not_do_itself_is_not_counted() -> None:
    """A rerun keeps the extract of the run before: its records were read by that one."""
    extract, *others = RUN["steps"]
    told = report({**RUN, "steps": [{**extract, "reused": True}, *others]}, EVENTS[:1])
    assert (told["read"], told["worked_ms"]) == (0, 0)


def test_a_run_that_goes_on_has_no_end_in_its_report() -> None:
    """Nothing is guessed from a clock."""
    told = report({**RUN, "status": "running", "ended_at": None, "error": None}, EVENTS[:2])
    assert (told["took_ms"], told["late_ms"]) == (None, None)
    assert "Took" in page(told)


@pytest.mark.parametrize("slot", [None, 1_000])
def test_the_report_reads_well(slot: int | None) -> None:
    """On a terminal and as a page; what others wrote is text there, not markup."""
    told = report({**RUN, "slot": slot}, EVENTS)
    assert "read 20,000 · written 19,950 · rejected 50" in lines(told)
    assert row(told["steps"][1]) == ("load", "succeeded", "2", "20,000", "19,950", "50", "3.0 s")
    written = page(told)
    assert "&lt;b&gt;503&lt;/b&gt;" in written
    assert "<b>503" not in written
