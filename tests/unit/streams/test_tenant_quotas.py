"""How many runs of a tenant are at work at once: all aggregates together, and the judge that reads what they tell."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.aggregates import builtin
from streams.domain.aggregate import Aggregate, Message
from streams.domain.limit import TENANT_RUNS, LimitAcquired
from streams.domain.pipeline import ApplyPipeline
from streams.domain.run.commands import CancelRun, ClaimStep, CompleteStep, PauseRun, RerunRun, ResumeRun
from streams.domain.run.events import LimitAwaited, RunCreated, RunEnded
from streams.domain.run.state import Run
from streams.domain.starts import StartRun
from streams.rehearsal.world import Happened
from tests.support.pipeline_files import command, text_and_hash
from tests.support.pipeline_files import pipeline as pipeline_file
from tests.support.reacting import World
from tests.support.run_judging import findings
from tests.support.run_spec import creation


def world(most: int, **spec: Any) -> World:
    """Return a world in which so many runs of a tenant may be at work, with a pipeline of one step."""
    made = World(tenant_runs_max=most)
    apply(made, "work", command("a"), **spec)
    return made


def apply(made: World, name: str, *steps: dict[str, Any], **spec: Any) -> None:
    """Apply a pipeline of these steps."""
    text, _ = text_and_hash(pipeline_file(*steps, name=name, **spec))
    made.send("pipeline", name, ApplyPipeline(text))


def start(made: World, *runs: str, name: str = "work") -> None:
    """Start runs, one after the other."""
    for run in runs:
        made.send("pipeline", name, StartRun(run_id=run))


def done(made: World, run: str, step: str = "a") -> None:
    """Let a runner do the step."""
    attempt = made.states["run", run].steps[step].attempt
    made.send("run", run, ClaimStep(step, attempt, f"{run}/{step}", "n"))
    made.send("run", run, CompleteStep(step, attempt, f"{run}/{step}"))


def offered(made: World) -> list[str]:
    """Return the runs whose steps were offered, in order."""
    return [task["run"] for task in made.tasks]


def test_so_many_runs_of_a_tenant_are_at_work_and_the_others_have_their_turn() -> None:
    """In the order of their coming, whatever their pipeline; a run that waits says for what."""
    made = world(2)
    apply(made, "other", command("a"))
    start(made, "r1")
    start(made, "r2", name="other")
    start(made, "r3", "r4")
    assert (offered(made), made.states["run", "r3"].waiting_for) == (["r1", "r2"], "tenant:runs")
    done(made, "r2")
    assert offered(made) == ["r1", "r2", "r3"]
    for run in ("r1", "r3", "r4"):
        done(made, run)
    assert (made.states["limit", TENANT_RUNS].holders, made.states["limit", TENANT_RUNS].waiting) == ((), ())
    assert findings(made.happened) == []


def test_an_urgent_run_goes_before_others_that_wait_for_the_quota() -> None:
    """Which came before it."""
    made = world(1)
    start(made, "r1", "r2")
    made.send("pipeline", "work", StartRun(run_id="r3", priority="high"))
    for run in ("r1", "r3", "r2"):
        done(made, run)
    assert offered(made) == ["r1", "r3", "r2"]
    assert findings(made.happened) == []


def test_without_the_setting_nothing_is_asked_and_nothing_noted() -> None:
    """It costs nothing when it is off; events from before it are read as off."""
    made = world(0)
    start(made, "r1")
    assert made.told(LimitAwaited) == []
    assert [event.tenant_runs_max for event in made.told(RunCreated)] == [0]
    done(made, "r1")
    assert "limit" not in {name for name, _ in made.states}


def test_a_place_is_given_back_however_the_run_ends_and_kept_while_it_is_paused() -> None:
    """Cancelled while it waits, cancelled at work, paused, run again."""
    made = world(1)
    start(made, "r1", "r2", "r3")
    made.send("run", "r1", PauseRun())
    made.send("run", "r2", CancelRun())
    assert made.states["limit", TENANT_RUNS].holders == ("r1",)
    made.send("run", "r1", ResumeRun())
    made.send("run", "r1", CancelRun(now=True))
    assert made.states["limit", TENANT_RUNS].holders == ("r3",)
    made.send("run", "r1", RerunRun("r4"))
    assert made.states["limit", TENANT_RUNS].waiting == ("r4",)
    done(made, "r3")
    done(made, "r4")
    assert [event.status for event in made.told(RunEnded)] == [
        "cancelled",
        "cancelled",
        "succeeded",
        "succeeded",
    ]
    assert made.states["limit", TENANT_RUNS].holders == ()
    assert findings(made.happened) == []


def test_what_a_run_calls_does_not_count_so_nobody_waits_for_itself() -> None:
    """Its parent has the place; a file's limit comes after the tenant's, so no holder of it waits for the tenant."""
    made = world(1, limits=[{"name": "crm", "max": 1}])
    apply(made, "parent", {"name": "load", "pipeline": {"name": "work"}})
    start(made, "p", name="parent")
    start(made, "r1")
    child = made.states["run", "p"].steps["load"].child
    assert (offered(made), made.states["run", "r1"].waiting_for) == ([child], TENANT_RUNS)
    done(made, child)
    assert made.states["run", "p"].status == "succeeded"
    done(made, "r1")
    assert {
        (state.holders, state.waiting) for (name, _), state in made.states.items() if name == "limit"
    } == {((), ())}
    assert findings(made.happened) == []


def test_the_newest_setting_counts_from_the_next_run() -> None:
    """More let in who waits; fewer stop nobody; none lets those who wait have their turns."""
    made = world(1)
    start(made, "r1", "r2")

    def set_to(most: int) -> None:
        made.aggregates["run"] = run_rules(most)

    set_to(3)
    start(made, "r3")
    assert offered(made) == ["r1", "r2", "r3"]
    set_to(1)
    start(made, "r4")
    for run in ("r1", "r2"):
        done(made, run)
    assert offered(made) == ["r1", "r2", "r3"]
    set_to(0)
    start(made, "r5")
    assert offered(made) == ["r1", "r2", "r3", "r5"]
    done(made, "r3")
    assert offered(made)[-1] == "r4"
    done(made, "r4")
    done(made, "r5")
    assert findings(made.happened) == []


def test_the_setting_is_in_the_event_so_a_replay_needs_it_not() -> None:
    """Whoever folds the log, with whatever setting, has the same run."""
    decision = run_rules(7).decide(Message(creation(command("a")), "default", "r1", "c1", 0), Run())
    assert isinstance(decision, tuple)
    run, rules = Run(), run_rules(0)
    for event in decision:
        run = rules.evolve(run, event)
    assert (run.needs, run.waiting_for) == ({TENANT_RUNS: 7}, TENANT_RUNS)


def test_the_judge_sees_who_does_not_wait_or_asks_out_of_turn_and_too_many_at_once() -> None:
    """What a node would never tell, in a log that somebody else wrote."""
    made = world(1, limits=[{"name": "crm", "max": 1}])
    start(made, "r1", "r2")
    hasty = [one for one in made.happened if not isinstance(one.body, LimitAwaited)]
    assert "I8" in {one.invariant for one in findings(hasty)}
    swapped = [_with(one, limit="crm") if getattr(one.body, "limit", "") == TENANT_RUNS else one for one in made.happened]  # fmt: skip
    assert "limit crm was asked for out of turn" in {one.said for one in findings(swapped)}
    crowd = [*made.happened, Happened("limit", TENANT_RUNS, LimitAcquired("r2", 1, 9), 9)]
    assert "2 runs are in, and 1 may" in {one.said for one in findings(crowd)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("sdcpxqr"), st.integers(0, 9), st.integers(0, 3)), max_size=40))
def test_whatever_happens_no_place_is_lost_and_nobody_waits_for_ever(
    moves: list[tuple[str, int, int]],
) -> None:
    """Starts of runs that call others, ends, cancels, pauses and settings in any order; then all come to their end."""
    made = world(2, limits=[{"name": "crm", "max": 1}])
    apply(made, "parent", {"name": "load", "pipeline": {"name": "work"}})
    for number, (move, which, most) in enumerate(moves):
        runs = [name for kind, name in made.states if kind == "run"]
        chosen = runs[which % len(runs)] if runs else ""
        if move in "sp":
            start(made, f"r{number}", name="work" if move == "s" else "parent")
        elif move == "q":
            made.aggregates["run"] = run_rules(most)
        elif chosen and move == "d":
            _finish(made, chosen)
        elif chosen:
            made.send("run", chosen, {"c": CancelRun(), "x": PauseRun(), "r": ResumeRun()}[move])
    for _ in range(3 * len(moves) + 3):
        for name in [name for kind, name in made.states if kind == "run"]:
            made.send("run", name, ResumeRun())
            _finish(made, name)
    assert all(state.ended for (kind, _), state in made.states.items() if kind == "run")
    assert {(s.holders, s.waiting) for (kind, _), s in made.states.items() if kind == "limit"} <= {((), ())}
    assert findings(made.happened) == []


def run_rules(most: int) -> Aggregate:
    """Return the rules of runs on a node with this setting."""
    return next(one for one in builtin(most) if one.name == "run")


def _finish(made: World, run: str) -> None:
    step = made.states["run", run].steps.get("a")
    if step is not None and step.status == "queued":
        done(made, run)


def _with(one: Happened, **changes: Any) -> Happened:
    return replace(one, body=replace(one.body, **changes))
