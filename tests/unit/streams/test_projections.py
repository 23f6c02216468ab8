"""Given a row, when an event comes, then the row is this: the folds of all views."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from streams.aggregates import builtin
from streams.domain import bookmark as bookmark_domain
from streams.domain.bookmark import (
    BookmarkAdvanced,
    BookmarkBegun,
    BookmarkReleased,
    BookmarkReset,
    BookmarkSet,
    GenerationStarted,
)
from streams.domain.pipeline import PipelineApplied, PipelineDeleted, PipelinePaused, PipelineResumed
from streams.domain.redaction import EventRedacted
from streams.domain.run.events import (
    RerunRequested,
    RunCompensating,
    RunCreated,
    RunEnded,
    RunPaused,
    RunResumed,
    StepCancelled,
    StepClaimed,
    StepFailed,
    StepLost,
    StepOffered,
    StepRetryScheduled,
    StepSkipped,
    StepSucceeded,
)
from streams.domain.schedule import (
    ScheduleCleared,
    ScheduledRunEnded,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSet,
    SlotFired,
    SlotKept,
    SlotSkipped,
)
from streams.domain.starts import RunRefused, RunRequested
from streams.projections import bookmark, command, event, pipeline, run, schedule
from streams.projections.view import Meta, Row, View, versioned
from streams.projections.views import VIEWS, by_name, generation

DEFINITION = json.dumps(
    {
        "spec": {
            "schedule": {"every": "5s"},
            "steps": [{"name": "read", "extract": {}}, {"name": "write", "load": {}, "after": ["read"]}],
        }
    }
)
CREATED = RunCreated("sync", DEFINITION, "h1", '{"n": 1}', True, "schedule", 5, "slot/5", None, "{}", 100)


def meta(aggregate: str, aggregate_id: str, version: int, at: int = 100) -> Meta:
    return Meta(
        tenant="default",
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=version,
        sequence=10 + version,
        event_id=f"e{version}",
        type="T",
        command_id="c",
        causation_id="",
        correlation_id="k",
        actor="ann",
        at=at,
        writer="w",
        topic=f"{aggregate}.events",
        shard=3,
        offset=20 + version,
    )


def folded(view: View, aggregate_id: str, *events: Any) -> Row:
    """Return the row after the events; each fold must leave the row it was given as it was."""
    row: Row | None = None
    for version, happened in enumerate(events, start=1):
        before = json.dumps(row, default=str)
        after = view.fold(row, happened, meta(view.name, aggregate_id, version, 100 + version))
        assert json.dumps(row, default=str) == before
        row = after if after is not None else row
    assert row is not None
    assert set(row) == {column.name for column in view.table.columns}
    return row


def step(row: Row, name: str) -> Row:
    found: Row = next(each for each in row["steps"] if each["name"] == name)
    return found


def test_every_event_of_every_aggregate_is_known_to_its_view() -> None:
    """An event added to the domain without its view fails here, not in the read store."""
    for aggregate in builtin():
        view = by_name(aggregate.name)
        assert view is not None, aggregate.name
        known = {
            *get_args(view.fold.__annotations__["event"]),
            EventRedacted,
        }  # of it the projector takes care
        assert known >= set(aggregate.events), aggregate.name


def test_a_pipeline_is_active_once_applied() -> None:
    """Definition, number and schedule come from the newest version."""
    row = folded(
        pipeline.VIEW, "sync", PipelineApplied(DEFINITION, "h1", 1, 100), PipelineApplied("{}", "h2", 2, 101)
    )
    assert (row["status"], row["number"], row["definition_hash"], row["schedule"]) == (
        "active",
        2,
        "h2",
        None,
    )
    assert (row["created_at"], row["updated_at"], row["version"]) == (101, 102, 2)


def test_a_paused_pipeline_stays_paused_under_a_new_version() -> None:
    """Only a resume makes it active again."""
    paused = (
        PipelineApplied(DEFINITION, "h1", 1, 1),
        PipelinePaused(2, "holiday"),
        PipelineApplied("{}", "h2", 2, 3),
    )
    assert folded(pipeline.VIEW, "sync", *paused)["status"] == "paused"
    resumed = folded(pipeline.VIEW, "sync", *paused, PipelineResumed(4))
    assert (resumed["status"], resumed["reason"]) == ("active", None)


def test_a_deleted_pipeline_keeps_its_row_without_schedule() -> None:
    """Applied again it is active again."""
    events = (PipelineApplied(DEFINITION, "h1", 1, 1), PipelineDeleted(2))
    row = folded(pipeline.VIEW, "sync", *events)
    assert (row["status"], row["schedule"]) == ("deleted", None)
    assert (
        folded(pipeline.VIEW, "sync", *events, PipelineApplied(DEFINITION, "h", 2, 3))["status"] == "active"
    )


def test_runs_asked_for_move_the_pipelines_version() -> None:
    """The ETag follows the aggregate, whatever the event; a refused run is not the last one."""
    asked = RunRequested("r1", "h1", "{}", False, "manual", None, None, 50)
    refused = RunRefused("r2", 7, "paused", 60)
    row = folded(pipeline.VIEW, "sync", PipelineApplied(DEFINITION, "h1", 1, 1), asked, refused)
    assert (row["version"], row["last_run"], row["last_run_at"]) == (3, "r1", 50)


def test_a_run_begins_queued_with_its_steps_pending() -> None:
    """Names, kinds and edges come from the pinned definition."""
    row = folded(run.VIEW, "r1", CREATED)
    assert (row["status"], row["input"], row["slot"], row["trigger"]) == ("queued", {"n": 1}, 5, "schedule")
    assert [(each["name"], each["kind"], each["after"], each["status"]) for each in row["steps"]] == [
        ("read", "extract", [], "pending"),
        ("write", "load", ["read"], "pending"),
    ]


def test_a_run_is_running_from_its_first_claim() -> None:
    """The first claim sets started_at; later ones leave it."""
    row = folded(
        run.VIEW, "r1", CREATED, StepOffered("read", 1, "default", 1), StepClaimed("read", 1, "t", "a", 7),
        StepSucceeded("read", 1, '{"records": 2}', 2, 2, 1, 30, 8), StepOffered("write", 1, "default", 9),
        StepClaimed("write", 1, "t", "b", 10),
    )  # fmt: skip
    assert (row["status"], row["started_at"]) == ("running", 7)
    read = step(row, "read")
    assert (read["status"], read["runner"], read["started_at"], read["ended_at"]) == ("succeeded", "a", 7, 8)
    assert (read["records_in"], read["records_out"], read["records_rejected"], read["bytes"]) == (2, 2, 1, 30)
    assert read["output"] == {"records": 2}
    assert (step(row, "write")["status"], step(row, "write")["runner"]) == ("running", "b")


def test_what_is_undone_is_shown_as_steps_of_its_own() -> None:
    """Once there is something to undo: each after what it undoes and the one before it."""
    names = '["write:compensate","read:compensate"]'
    row = folded(run.VIEW, "r1", CREATED, RunCompensating("failed", "broken", names, 9))
    assert (row["status"], row["error"]) == ("compensating", None)
    assert [(each["name"], each["after"], each["status"]) for each in row["steps"][2:]] == [
        ("write:compensate", ["write"], "pending"),
        ("read:compensate", ["read", "write:compensate"], "pending"),
    ]
    undone = StepSucceeded("write:compensate", 1, "{}", 0, 0, 0, 0, 10)
    row = folded(run.VIEW, "r1", CREATED, RunCompensating("failed", "broken", names, 9), undone)
    assert [each["status"] for each in row["steps"]] == ["pending", "compensated", "succeeded", "pending"]


def test_a_retry_shows_its_error_until_the_next_claim() -> None:
    """Attempt and time of the next try are in the step."""
    failed = (
        CREATED,
        StepClaimed("read", 1, "t", "a", 1),
        StepRetryScheduled("read", 1, "no file", "tail", 90, 2),
    )
    row = folded(run.VIEW, "r1", *failed)
    assert (step(row, "read")["status"], step(row, "read")["error"], step(row, "read")["retry_at"]) == (
        "retrying", "no file", 90,
    )  # fmt: skip
    again = folded(
        run.VIEW, "r1", *failed, StepOffered("read", 2, "default", 3), StepClaimed("read", 2, "t", "a", 4)
    )
    read = step(again, "read")
    assert (read["status"], read["attempt"], read["error"], read["tail"], read["retry_at"]) == (
        "running", 2, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("happened", "status"),
    [
        (StepLost("read", 1, "a", 5), "queued"),
        (StepLost("read", 1, "a", 5, handed_back=True), "queued"),
        (StepFailed("read", 1, "x", "", "timed_out", 5), "timed_out"),
        (StepSkipped("read", "upstream", 5), "skipped"),
        (StepCancelled("read", 1, 5), "cancelled"),
    ],
)
def test_a_step_shows_how_it_ended(happened: Any, status: str) -> None:
    """Lost, timed out, skipped, cancelled."""
    assert step(folded(run.VIEW, "r1", CREATED, happened), "read")["status"] == status


def test_a_run_pauses_resumes_and_ends() -> None:
    """A rerun asked for later changes nothing but the version."""
    assert folded(run.VIEW, "r1", CREATED, RunPaused(2, "later"))["status"] == "paused"
    assert folded(run.VIEW, "r1", CREATED, RunPaused(2), RunResumed(3))["status"] == "queued"
    claimed = StepClaimed("read", 1, "t", "a", 2)
    assert folded(run.VIEW, "r1", CREATED, claimed, RunPaused(3), RunResumed(4))["status"] == "running"
    ended = RunEnded("failed", "no file", "sync", 5, "schedule", 9)
    row = folded(run.VIEW, "r1", CREATED, ended, RerunRequested("r2", None, 10))
    assert (row["status"], row["error"], row["ended_at"], row["version"]) == ("failed", "no file", 9, 3)


def test_an_event_of_a_run_that_was_never_created_leaves_nothing() -> None:
    """Not even an empty row."""
    assert run.VIEW.fold(None, RunPaused(1), meta("run", "r1", 1)) is None


def test_a_schedule_counts_slots_and_knows_what_is_active() -> None:
    """Fired and skipped slots, the runs that have not ended."""
    row = folded(
        schedule.VIEW, "sync", ScheduleSet('{"every": "5s"}', 5, 1), SlotFired(5, "r1", 10, 5),
        SlotSkipped(10, "overlap", 15, 10, 2), SlotFired(15, "r2", 20, 15), ScheduledRunEnded("r1", 16),
    )  # fmt: skip
    assert (row["status"], row["fired"], row["skipped"], row["last_skip"]) == ("active", 2, 2, "overlap")
    assert (row["next_slot"], row["last_slot"], row["last_run"], row["active_runs"]) == (20, 15, "r2", ["r2"])


def test_a_schedule_knows_the_slots_that_are_kept() -> None:
    """Until they fire, or a later one takes their place."""
    told = (ScheduleSet('{"every": "5s"}', 5, 1), SlotKept(5, 10, 5), SlotKept(10, 15, 10))
    assert folded(schedule.VIEW, "sync", *told)["kept_slots"] == [5, 10]
    assert folded(schedule.VIEW, "sync", *told, SlotFired(5, "r1", 15, 12))["kept_slots"] == [10]
    assert folded(schedule.VIEW, "sync", *told, SlotSkipped(10, "replaced", 15, 13))["kept_slots"] == [5]
    assert folded(schedule.VIEW, "sync", *told, ScheduleCleared(14))["kept_slots"] == []


def test_a_schedule_rests_and_goes_on() -> None:
    """A new spec does not wake a paused schedule; clearing forgets the next slot."""
    paused = (ScheduleSet("{}", 5, 1), SchedulePaused(2, "x"), ScheduleSet("{}", 6, 3))
    assert folded(schedule.VIEW, "sync", *paused)["status"] == "paused"
    resumed = folded(schedule.VIEW, "sync", *paused, ScheduleResumed(9, 4))
    assert (resumed["status"], resumed["next_slot"], resumed["reason"]) == ("active", 9, None)
    cleared = folded(schedule.VIEW, "sync", *paused, ScheduleCleared(5))
    assert (cleared["status"], cleared["next_slot"], cleared["spec"]) == ("cleared", None, None)


def test_a_bookmark_counts_by_partition_within_its_generation() -> None:
    """A new generation begins from nothing."""
    begun = (
        BookmarkBegun("r1", 1, "t", 1),
        GenerationStarted("g1", "topic", {"0": 4}, "r1", 1),
        BookmarkAdvanced("r1", 1, '{"p": 1}', {"0": 2, "1": 3}, 5, 1, 2),
        BookmarkAdvanced("r1", 1, '{"p": 2}', {"1": 1}, 6, 1, 3),
    )
    row = folded(bookmark.VIEW, "sync/read", *begun)
    assert (row["pipeline"], row["step"], row["bookmark"]) == ("sync", "read", {"p": 2})
    assert (row["counts"], row["records"], row["rejected"], row["starts"]) == (
        {"0": 2, "1": 4},
        6,
        1,
        {"0": 4},
    )
    assert (row["holder_run"], row["holder_attempt"]) == ("r1", 1)
    again = folded(bookmark.VIEW, "sync/read", *begun, GenerationStarted("g2", "topic", {}, "r2", 4))
    assert (again["bookmark"], again["counts"], again["records"], again["generation_run"]) == (
        None,
        {},
        0,
        "r2",
    )


def test_a_bookmark_is_released_set_and_reset() -> None:
    """By the run's end, and by an operator."""
    row = folded(bookmark.VIEW, "sync/read", BookmarkBegun("r1", 1, "t", 1), BookmarkReleased("r1", 2))
    assert (row["holder_run"], row["holder_attempt"]) == (None, None)
    assert folded(bookmark.VIEW, "sync/read", BookmarkSet("[1]", 1))["bookmark"] == [1]
    assert folded(bookmark.VIEW, "sync/read", BookmarkSet("[1]", 1), BookmarkReset(2))["bookmark"] is None
    assert bookmark_domain.AGGREGATE.name == "bookmark"


def test_an_event_is_a_row_of_its_own() -> None:
    """Whatever aggregate it comes from, known here or not."""
    place = meta("house", "h/1", 2)
    row = event.VIEW.fold(None, {"floor": 3}, place)
    assert row is not None
    assert event.VIEW.key({}, place) == ("house", 3, 12, 22)
    assert (row["body"], row["aggregate"], row["aggregate_id"], row["version"]) == (
        {"floor": 3},
        "house",
        "h/1",
        2,
    )
    assert set(row) == {column.name for column in event.TABLE.columns}


def test_the_stored_outcome_stays() -> None:
    """An answer that is not stored fills the gap, and gives way to the stored one; never the other way round."""
    stored = {column.name: column.name for column in command.TABLE.columns} | {
        "stored": True,
        "status": "accepted",
    }
    told = stored | {"stored": False, "status": "rejected"}
    row = command.VIEW.fold(None, told, None)
    assert row == told
    assert command.VIEW.fold(row, stored, None) == stored
    assert command.VIEW.fold(stored, told, None) is None
    assert command.VIEW.fold(stored, stored, None) is None


def test_a_table_is_named_by_its_shape() -> None:
    """Another column, index or revision is another table; the same shape is the same name."""
    names = {view.table.name for view in VIEWS}
    assert len(names) == len(VIEWS)
    columns = [column._copy() for column in run.TABLE.columns]
    same = versioned("run", columns, dict(_INDEXES), revision=8)
    assert same.name == run.TABLE.name
    fewer = versioned(
        "run", [column._copy() for column in list(run.TABLE.columns)[:-1]], dict(_INDEXES), revision=8
    )
    revised = versioned("run", [column._copy() for column in run.TABLE.columns], dict(_INDEXES), revision=1)
    assert len({same.name, fewer.name, revised.name}) == 3
    assert generation() != generation(VIEWS[:-1])


_INDEXES = {
    "time": ("tenant", "created_at", "id"),
    "pipeline": ("tenant", "pipeline", "created_at", "id"),
    "status": ("tenant", "status", "created_at", "id"),
}
