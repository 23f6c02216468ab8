"""What users see of alerts: what is usual, by the same runs as the rules judge by."""

from streams.domain.alert.declaration import AGGREGATE
from streams.domain.alert.events import IncidentOpened, RunSeen
from streams.domain.alert.evolve import SAMPLES_MAX
from streams.projections.alert import fold
from streams.projections.view import Meta, Row


def meta(number: int) -> Meta:
    """Return where an event comes from."""
    ids = (f"event-{number}", "RunSeen", "command", "cause", "correlation", "ann")
    return Meta("default", "alert", "copy", number, number, *ids, number, "one", "alert.events", 0, number)


def test_what_is_usual_is_what_the_rules_take_for_it() -> None:
    """Whichever runs there were."""
    seen = [RunSeen(f"r{n}", "succeeded", n, n * 10, None if n % 3 else n) for n in range(30)]
    seen += [
        RunSeen("refresh", "succeeded", 31, 9_000, 9_000, full_refresh=True),
        RunSeen("rerun", "succeeded", 32),
        RunSeen("broken", "failed", 33, 5),
        RunSeen("next", "running", 34),
    ]
    row: Row | None = None
    state = AGGREGATE.initial
    for number, event in enumerate(seen):
        row = fold(row, event, meta(number))
        state = AGGREGATE.evolve(state, event)
    assert row is not None
    usual = row["usual"]
    assert (usual["took_ms"], usual["records"]) == (state.usual_ms, state.usual_records) == (195, 19)
    assert len(usual["runs"]) == SAMPLES_MAX
    assert usual["runs"][-1] == {"run_id": "r29", "took_ms": 290, "records": None}
    assert (row["last_run"], row["last_status"]) == ("next", "running")


def test_incidents_of_rules_that_differ_in_their_channel_only_are_told_apart() -> None:
    """By whom they tell."""
    row: Row | None = None
    for number, channel in enumerate(("desk", "oncall")):
        row = fold(row, IncidentOpened(f"failed-9-{number}", "failed", "no", "r1", channel, 9), meta(number))
    assert row is not None
    assert [(one["on"], one["notify"]) for one in row["incidents"]] == [
        ("failed", "oncall"),
        ("failed", "desk"),
    ]
