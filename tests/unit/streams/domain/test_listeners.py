"""Pipelines that start when a run of another one has ended."""

from typing import Any

import pytest

from streams.cron import next_slot
from streams.domain.definition import problems
from streams.domain.identity import end_key, run_id
from streams.domain.listeners import ListenersCalled, ListenerSet, NoteRunEnded, SetListener
from streams.domain.pipeline import ApplyPipeline, DeletePipeline, PausePipeline, aggregate
from streams.domain.run.commands import CancelRun, ClaimStep, CompleteStep, RerunRun
from streams.domain.run.events import RunCreated
from streams.domain.run.state import Run
from streams.domain.starts import RunRefused, StartRun
from streams.expressions import LANGUAGE
from tests.support.pipeline_files import command, pipeline, text_and_hash
from tests.support.reacting import World
from tests.support.run_judging import findings
from tests.support.spec import Spec


def file(name: str, *upstream: str, status: tuple[str, ...] = (), calls: str = "") -> ApplyPipeline:
    """Return the application of a pipeline that starts after others; its step is a program, or a run of ``calls``."""
    ends = {"status": list(status)} if status else {}
    triggers = [{"after": {"pipeline": other, **ends}} for other in upstream]
    step: dict[str, Any] = {"name": "a", "pipeline": {"name": calls}} if calls else command("a")
    return ApplyPipeline(text_and_hash(pipeline(step, name=name, triggers=triggers))[0])


def world(**files: ApplyPipeline) -> World:
    """Return a world in which these pipelines have been applied."""
    made = World()
    for name, applied in files.items():
        made.send("pipeline", name, applied)
    return made


def work(made: World, run: str, output: str = "{}") -> None:
    """Let a run succeed."""
    made.send("run", run, ClaimStep("a", 1, f"{run}/a", "n"))
    made.send("run", run, CompleteStep("a", 1, f"{run}/a", output=output))


def started(made: World, pipeline_name: str) -> list[str]:
    """Return the runs of a pipeline, in the order of their creation."""
    told = (event for event in made.happened if isinstance(event.body, RunCreated))
    return [event.aggregate_id for event in told if event.body.pipeline == pipeline_name]


def after(name: str, run: str) -> str:
    """Return the id of the run of a pipeline that the end of ``run`` starts."""
    return run_id("default", name, end_key(run))


def test_a_runs_end_starts_one_run_of_each_that_listens() -> None:
    """Whichever file was applied first; the input says how it ended and what came of it."""
    made = world(marts=file("marts", "load"), load=file("load"), audit=file("audit", "load"))
    made.send("pipeline", "load", StartRun(run_id="r1"))
    work(made, "r1", '{"rows":3,"tail":"words"}')
    assert [started(made, name) for name in ("marts", "audit")] == [
        [after("marts", "r1")],
        [after("audit", "r1")],
    ]
    run: Run = made.states["run", after("marts", "r1")]
    assert (run.trigger, run.key, run.parent, run.chain) == ("run", "run/r1", None, ("load",))
    assert (
        run.input
        == '{"error":null,"pipeline":"load","run":"r1","status":"succeeded","steps":{"a":{"rows":3}}}'
    )
    assert (findings(made.happened), made.rejected) == ([], [])


def test_only_the_ends_that_the_file_names_count() -> None:
    """Success, unless it says otherwise."""
    made = world(
        load=file("load"), marts=file("marts", "load"), clean=file("clean", "load", status=("cancelled",))
    )
    made.send("pipeline", "load", StartRun(run_id="r1"))
    made.send("run", "r1", CancelRun())
    assert (started(made, "marts"), started(made, "clean")) == ([], [after("clean", "r1")])


def test_the_newest_file_says_who_is_listened_to() -> None:
    """A version without the trigger, and a deletion, end it; the same file again changes nothing."""
    made = world(load=file("load"), marts=file("marts", "load", "stock"))
    made.send("pipeline", "load", StartRun(run_id="r1"))
    made.send("pipeline", "marts", file("marts", "stock"))
    work(made, "r1")
    assert started(made, "marts") == []
    assert made.states["pipeline", "stock"].listeners == {"marts": ("succeeded",)}
    made.send("pipeline", "marts", DeletePipeline())
    assert made.states["pipeline", "stock"].listeners == {}
    made.send("pipeline", "marts", file("marts", "load"))
    assert made.states["pipeline", "load"].listeners == {"marts": ("succeeded",)}


def test_a_rerun_is_told_though_nobody_listened_to_the_first_run() -> None:
    """Runs of a pipeline that nobody listens to tell nothing: that would cost each of them a command."""
    made = world(load=file("load"))
    made.send("pipeline", "load", StartRun(run_id="r1"))
    made.send("pipeline", "marts", file("marts", "load"))
    work(made, "r1")
    assert started(made, "marts") == []
    made.send("run", "r1", RerunRun("r2"))
    work(made, "r2")
    assert started(made, "marts") == [after("marts", "r2")]


def test_a_paused_listener_refuses_and_nobody_is_told_a_second_time() -> None:
    """Its runs are not made up for."""
    made = world(load=file("load"), marts=file("marts", "load"))
    made.send("pipeline", "marts", PausePipeline())
    made.send("pipeline", "load", StartRun(run_id="r1"))
    work(made, "r1")
    assert [(event.run_id, event.reason) for event in made.told(RunRefused)] == [
        (after("marts", "r1"), "paused")
    ]
    assert (findings(made.happened), made.rejected) == ([], [])


def test_two_pipelines_cannot_start_each_other() -> None:
    """The second file is refused, with both names."""
    made = world(load=file("load"), marts=file("marts", "load"))
    made.send("pipeline", "load", file("load", "marts"))
    (refused,) = made.rejected
    assert "load would start after marts, and marts starts after load" in refused.detail


def test_a_longer_circle_goes_round_once() -> None:
    """Each pipeline knows its neighbours only: the run that would begin anew is refused, and says how it came to that."""
    made = world(a=file("a", "c"), b=file("b", "a"), c=file("c", "b"))
    made.send("pipeline", "a", StartRun(run_id="r1"))
    for number in range(3):
        work(made, [*started(made, "a"), *started(made, "b"), *started(made, "c")][number])
    assert [event.reason for event in made.told(RunRefused)] == ["cycle: a → b → c → a"]
    assert findings(made.happened) == []


def test_a_circle_by_way_of_a_step_is_seen_too() -> None:
    """It calls a pipeline, and would start again when that has ended."""
    made = world(inner=file("inner"), outer=file("outer", "inner", calls="inner"))
    made.send("pipeline", "outer", StartRun(run_id="r1"))
    (called,) = started(made, "inner")
    work(made, called)
    assert [event.reason for event in made.told(RunRefused)] == ["cycle: outer → inner → outer"]


def test_a_listener_is_set_once() -> None:
    """Before the pipeline was ever applied, too; what nobody listens to calls nobody."""
    spec = Spec(aggregate(next_slot, LANGUAGE), "load").at(5)
    spec.when(NoteRunEnded("r1", "succeeded")).then()
    spec.when(SetListener("marts")).then()
    spec.when(SetListener("marts", ("failed",))).then(ListenerSet("marts", ("failed",), 5))
    spec.when(NoteRunEnded("r1", "succeeded")).then()
    called = ListenersCalled("r1", "failed", ("marts",), "{}", ("load",), 5)
    spec.when(NoteRunEnded("r1", "failed")).then(called, once=False)
    spec.when(SetListener("marts")).then(ListenerSet("marts", (), 5))


def test_the_judge_misses_a_run_that_an_end_has_called_for() -> None:
    """A call that came to nothing is a start that got lost."""
    made = world(load=file("load"), marts=file("marts", "load"))
    made.send("pipeline", "load", StartRun(run_id="r1"))
    work(made, "r1")
    made.now += 100_000
    made.send("pipeline", "load", PausePipeline())
    assert findings(made.happened) == []
    lost = [event for event in made.happened if event.aggregate_id != after("marts", "r1")]
    assert [found.invariant for found in findings(lost)] == ["I5"]


@pytest.mark.parametrize(
    ("triggers", "path", "words"),
    [
        ({"after": "b"}, "spec.triggers", "must be a list"),
        ([{"aftr": {"pipeline": "b"}}], "spec.triggers[0].aftr", "did you mean after?"),
        ([{}], "spec.triggers[0]", "must be one trigger"),
        ([{"after": {"pipelin": "b"}}], "spec.triggers[0].after.pipelin", "did you mean pipeline?"),
        ([{"after": {"pipeline": "B b"}}], "spec.triggers[0].after.pipeline", "is no name"),
        ([{"after": {"pipeline": "own"}}], "spec.triggers[0].after.pipeline", "cannot start after itself"),
        ([{"after": {"pipeline": "b"}}] * 2, "spec.triggers[1].after.pipeline", "is there twice"),
        ([{"after": {"pipeline": "b", "status": []}}], "spec.triggers[0].after.status", "is empty"),
        ([{"after": {"pipeline": "b", "status": ["fail"]}}], "spec.triggers[0].after.status[0]", "failed"),
        ([{"after": {"pipeline": "b", "status": "failed"}}], "spec.triggers[0].after.status", "write [failed]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_trigger_is_said(triggers: Any, path: str, words: str) -> None:
    """With its place, and the way out."""
    found = problems(pipeline(command("a"), name="own", triggers=triggers))
    assert any(problem.path == path and words in str(problem) for problem in found), found
