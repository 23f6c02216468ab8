"""What one aggregate asks of another: all four of them together, with the transactions done by hand."""

from typing import Any

from streams.domain import pipeline
from streams.domain.alert.events import RunSeen
from streams.domain.bookmark import Begin, BookmarkReleased
from streams.domain.identity import run_id, slot_key
from streams.domain.pipeline import ApplyPipeline, DeletePipeline, PausePipeline, ResumePipeline
from streams.domain.run.commands import CancelRun, ClaimStep, CompleteStep, RerunRun
from streams.domain.run.counts import rejected
from streams.domain.run.events import RunEnded
from streams.domain.schedule import ScheduledRunEnded, SlotFired, SlotSkipped
from streams.domain.starts import RunRefused, StartRun
from tests.support.pipeline_files import command, extract, load, text_and_hash
from tests.support.pipeline_files import pipeline as pipeline_file
from tests.support.reacting import World

MINUTE = 60_000
NAME = "customers"


def world(*steps: dict[str, Any], **spec: Any) -> World:
    """Return a world in which a pipeline of these steps has just been applied."""
    made = World()
    made.send("pipeline", NAME, ApplyPipeline(text_and_hash(pipeline_file(*steps, **spec))[0]))
    return made


def slot_run(slot: int) -> str:
    """Return the id of a slot's run."""
    return run_id("default", NAME, slot_key(slot))


def work(made: World, run: str, step: str) -> None:
    """Claim and complete a step's first attempt."""
    made.send("run", run, ClaimStep(step, 1, f"{run}/{step}", "n"))
    made.send("run", run, CompleteStep(step, 1, f"{run}/{step}"))


def test_a_slot_makes_a_run_and_its_end_frees_the_schedule() -> None:
    """Fired, granted, created, offered; ended, noted, ready for the next."""
    made = world(command("a"), schedule={"every": "1m"})
    made.tick(MINUTE)
    assert made.tasks[0]["run"] == slot_run(MINUTE)
    work(made, slot_run(MINUTE), "a")
    assert [event.status for event in made.told(RunEnded)] == ["succeeded"]
    assert made.told(ScheduledRunEnded)
    made.tick(2 * MINUTE)
    assert [event.slot for event in made.told(SlotFired)] == [MINUTE, 2 * MINUTE]
    assert made.rejected == []


def test_a_slot_is_skipped_while_the_last_run_goes_on() -> None:
    """Cancelled counts as ended."""
    made = world(command("a"), schedule={"every": "1m"})
    made.tick(MINUTE)
    made.tick(2 * MINUTE)
    assert [event.reason for event in made.told(SlotSkipped)] == ["overlap"]
    made.send("run", slot_run(MINUTE), CancelRun())
    made.tick(3 * MINUTE)
    assert len(made.told(SlotFired)) == 2


def test_the_next_slot_may_cancel_the_run_in_its_way() -> None:
    """And fires when that has ended, in the same moment if nothing is left to tidy up."""
    made = world(command("a"), schedule={"every": "1m", "overlap": "cancel_other"})
    made.tick(MINUTE)
    made.tick(2 * MINUTE)
    assert [event.status for event in made.told(RunEnded)] == ["cancelled"]
    assert [event.slot for event in made.told(SlotFired)] == [MINUTE, 2 * MINUTE]
    assert made.rejected == []


def test_a_slot_that_fires_into_a_paused_pipeline_is_refused_and_noted() -> None:
    """The schedule had not heard of the pause yet."""
    made = world(command("a"), schedule={"every": "1m"})
    place = ("pipeline", NAME)
    made.states[place] = made.aggregates["pipeline"].evolve(made.states[place], pipeline.PipelinePaused(0))
    made.tick(MINUTE)
    assert [event.reason for event in made.told(RunRefused)] == ["paused"]
    assert made.states["schedule", NAME].active == ()


def test_a_paused_pipeline_pauses_its_schedule() -> None:
    """And resumes it from the next slot on."""
    made = world(command("a"), schedule={"every": "1m"})
    made.send("pipeline", NAME, PausePipeline())
    made.tick(5 * MINUTE)
    assert made.told(SlotFired) == []
    made.send("pipeline", NAME, ResumePipeline())
    made.tick(6 * MINUTE)
    assert [event.slot for event in made.told(SlotFired)] == [6 * MINUTE]


def test_a_schedule_given_to_a_paused_pipeline_is_paused() -> None:
    """Until somebody resumes the pipeline."""
    made = world(command("a"))
    made.send("pipeline", NAME, PausePipeline())
    made.send(
        "pipeline",
        NAME,
        ApplyPipeline(text_and_hash(pipeline_file(command("a"), schedule={"every": "1m"}))[0]),
    )
    assert made.states["schedule", NAME].paused
    made.send("pipeline", NAME, ResumePipeline())
    assert not made.states["schedule", NAME].paused


def test_a_pipeline_without_a_schedule_clears_it() -> None:
    """By a new version, or by being deleted."""
    text = text_and_hash(pipeline_file(command("a")))[0]
    for body in (ApplyPipeline(text), DeletePipeline()):
        made = world(command("a"), schedule={"every": "1m"})
        made.send("pipeline", NAME, body)
        made.tick(5 * MINUTE)
        assert made.told(SlotFired) == []


def test_a_pipeline_without_a_schedule_bothers_nobody() -> None:
    """Pausing, resuming and deleting it asks no schedule that is not there."""
    made = world(command("a"))
    for body in (PausePipeline(), ResumePipeline(), DeletePipeline()):
        made.send("pipeline", NAME, body)
    assert made.rejected == []


def test_the_end_of_a_run_frees_the_bookmarks_of_the_steps_it_took() -> None:
    """Not those of steps that nobody took, nor of programs."""
    made = world(extract("a"), load("b", "a"), command("c"))
    made.send("pipeline", NAME, StartRun(run_id="r1"))
    made.send("run", "r1", ClaimStep("a", 1, "t", "n"))
    made.send("run", "r1", ClaimStep("c", 1, "u", "n"))
    made.send("bookmark", f"{NAME}/a", Begin("r1", 1, "t", "g", "topic", {}))
    made.send("run", "r1", CancelRun())
    assert made.told(BookmarkReleased) == [BookmarkReleased("r1", 1_000, ended=True)]
    assert not made.states["bookmark", f"{NAME}/a"].held
    made.send("bookmark", f"{NAME}/a", Begin("r1", 1, "t", "g", "topic", {}))
    assert made.rejected[-1].reason == "stale_attempt"


def test_twenty_starts_under_one_key_make_one_run() -> None:
    """Whoever sends them."""
    made = world(command("a"))
    for _ in range(20):
        made.send("pipeline", NAME, StartRun(key="monday"))
    assert [task["run"] for task in made.tasks] == [run_id("default", NAME, "monday")]


def test_runs_with_a_limit_work_one_at_a_time_and_free_it_however_they_end() -> None:
    """One is cancelled while it waits, one while it works; the last gets its turn."""
    limits = [{"name": "crm", "max": 1}, {"name": "api", "max": 2}]
    made = world({"name": "a", "command": {"argv": ["true"]}}, limits=limits)
    for key in ("one", "two", "three"):
        made.send("pipeline", NAME, StartRun(key=key))
    first, second, third = (run for name, run in made.states if name == "run")
    assert [task["run"] for task in made.tasks] == [first]
    assert made.states["run", second].waiting_for == "crm"
    made.send("run", second, CancelRun())
    made.send("run", first, CancelRun())
    assert [task["run"] for task in made.tasks] == [first, third]
    work(made, third, "a")
    held = [made.states["limit", name] for name in ("crm", "api")]
    assert [(one.holders, one.waiting) for one in held] == [((), ()), ((), ())]
    assert not made.rejected


def test_the_alerts_hear_what_a_run_took_moved_and_rejected() -> None:
    """Records are those that load steps wrote; a second attempt does not know what the first one moved."""
    alerts = [{"on": "late", "notify": "w"}]
    made = world(extract("a"), load("b", "a"), command("c"), alerts=alerts)
    for run in ("r1", "r2"):
        made.send("pipeline", NAME, StartRun(run_id=run))
        made.send("run", run, ClaimStep("a", 1, "t", "n"))
        made.send("run", run, CompleteStep("a", 1, "t", records_out=9, records_rejected=2))
        work(made, run, "c")
    made.now += MINUTE
    made.send("run", "r1", ClaimStep("b", 1, "t", "n"))
    made.send("run", "r1", CompleteStep("b", 1, "t", records_in=9, records_out=7, records_rejected=1))
    made.send("run", "r2", ClaimStep("b", 1, "t", "n"))
    made.tick(made.now + 10 * MINUTE)
    made.send("run", "r2", ClaimStep("b", 2, "u", "n"))
    made.send("run", "r2", CompleteStep("b", 2, "u", records_out=3))
    ends = [seen for seen in made.told(RunSeen) if seen.status == "succeeded"]
    assert [(seen.run_id, seen.took_ms, seen.records) for seen in ends] == [
        ("r1", MINUTE, 7),
        ("r2", 11 * MINUTE, None),
    ]
    assert rejected(made.states["run", "r1"]) == 3


def test_a_rerun_says_nothing_of_what_is_usual() -> None:
    """It did a part of the work only; and without a load step the last records count, or what programs say."""
    made = world(extract("a"), alerts=[{"on": "records", "notify": "w"}])
    made.send("pipeline", NAME, StartRun(run_id="r1", full_refresh=True))
    made.send("run", "r1", ClaimStep("a", 1, "t", "n"))
    made.send("run", "r1", CompleteStep("a", 1, "t", records_out=9))
    made.send("run", "r1", RerunRun(run_id="r2"))
    work(made, "r2", "a")
    first, second = made.told(RunSeen)
    assert (first.took_ms, first.records, first.full_refresh) == (0, 9, True)
    assert (second.run_id, second.took_ms, second.records) == ("r2", None, None)
    programs = world(command("a"), alerts=[{"on": "records", "notify": "w"}])
    programs.send("pipeline", NAME, StartRun(run_id="r1"))
    programs.send("run", "r1", ClaimStep("a", 1, "t", "n"))
    programs.send("run", "r1", CompleteStep("a", 1, "t", records_out=4))
    assert programs.told(RunSeen)[0].records == 4
