"""How a run goes on: from its creation, step by step, to its end."""

import json
from dataclasses import replace

import pytest

from streams.domain.aggregate import Send
from streams.domain.identity import run_id
from streams.domain.run.commands import (
    CancelRun,
    ClaimStep,
    CompleteStep,
    CreateRun,
    Heartbeat,
    PauseRun,
    RerunRun,
    ResumeRun,
    Tick,
)
from streams.domain.run.events import (
    RerunRequested,
    RunCreated,
    RunEnded,
    RunPaused,
    RunResumed,
    StepCancelled,
    StepClaimed,
    StepFailed,
    StepOffered,
    StepSkipped,
    StepSucceeded,
)
from streams.domain.run.state import document
from tests.support.pipeline_files import command, extract, load
from tests.support.run_spec import AGGREGATE, RUN, RunSpec, created, creation
from tests.support.spec import TENANT

DIAMOND = (extract("a"), load("b", "a"), load("c", "a"), command("d", "b", "c"))

SOUND = creation(*DIAMOND)


def ended(status: str, error: str | None = None, at: int = 0) -> RunEnded:
    """Return the terminal event of a run that a person started."""
    return RunEnded(status, error, "customers", None, "manual", at)


# ---------------------------------------------------------------- creation
def test_a_run_is_created_and_offers_every_step_that_waits_for_nothing() -> None:
    """Branches start side by side."""
    make = creation(command("a"), command("b"), command("c", "a"))
    fact = RunCreated(
        "customers", make.definition, make.definition_hash, "{}", False, "manual", None, None, None, "{}", 7
    )
    told = RunSpec().at(7).when(make)
    told.then(fact, StepOffered("a", 1, "default", 7), StepOffered("b", 1, "default", 7))


def test_a_run_exists_once() -> None:
    """The same creation again is accepted; another one under the same id is not."""
    told = created(*DIAMOND, more={"key": "monday"})
    told.when(creation(command("x"), more={"key": "monday"})).then()
    told.when(creation(*DIAMOND, more={"key": "tuesday"})).refused("already_exists", RUN)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (replace(SOUND, definition="{"), "not JSON"),
        (replace(SOUND, definition="{}"), "apiVersion"),
        (replace(SOUND, definition_hash="0"), "sha256"),
        (replace(SOUND, input="[]"), "input"),
        (replace(SOUND, reused="{"), "reused"),
        (replace(SOUND, reused='{"a":1}'), "reused"),
        (replace(SOUND, reused='{"z":{}}'), "z"),
    ],
)
def test_a_run_is_not_created_from_what_it_cannot_use(make: CreateRun, words: str) -> None:
    """Anybody may send the command."""
    RunSpec().when(make).refused("invalid", words)


@pytest.mark.parametrize("body", [CancelRun(), PauseRun(), RerunRun(), Tick(0), Heartbeat("a", 1, "t")])
def test_a_run_that_was_never_created_is_not_found(body: object) -> None:
    """Whatever is asked of it."""
    RunSpec().when(body).refused("not_found", RUN)


# ---------------------------------------------------------------- the way through
def test_an_offer_carries_everything_the_runner_needs() -> None:
    """The step's block, its limits, and the outputs of the steps before it."""
    told = created(
        extract("a"), load("b", "a", timeout="5s"), more={"input": '{"day":1}', "full_refresh": True}
    )
    told.at(9).claim("a")
    told.complete("a", '{"topic":"t"}')
    assert told.offers()[-1] == {
        "tenant": TENANT,
        "pipeline": "customers",
        "run": RUN,
        "step": "b",
        "attempt": 1,
        "kind": "load",
        "spec": {"sink": "postgres"},
        "timeout_ms": 5_000,
        "lease_ms": 6_000,
        "heartbeat_ms": 2_000,
        "input": {"day": 1},
        "full_refresh": True,
        "upstream": {"a": {"topic": "t"}},
        "checkpoint": None,
        "offered_at": 9,
    }


def test_a_step_is_offered_when_all_steps_before_it_have_succeeded() -> None:
    """Not earlier, and once."""
    told = created(*DIAMOND).run("a")
    assert told.statuses() == {"a": "succeeded", "b": "queued", "c": "queued", "d": "pending"}
    told.run("b")
    assert told.statuses()["d"] == "pending"
    told.run("c")
    assert [offer["step"] for offer in told.offers()] == ["a", "b", "c", "d"]


def test_a_run_ends_with_its_last_step() -> None:
    """In the same decision."""
    told = created(command("a")).at(3)
    told.claim("a")
    told.when(CompleteStep("a", 1, "a/1", '{"x":1}', 4, 3, 1, 99))
    told.then(StepSucceeded("a", 1, '{"x":1}', 4, 3, 1, 99, 3), ended("succeeded", at=3))


def test_a_run_is_queued_until_its_first_claim() -> None:
    """Then it runs."""
    told = created(command("a"))
    assert (told.state.status, told.state.started_at) == ("queued", None)
    told.at(8).claim("a")
    assert (told.state.status, told.state.started_at) == ("running", 8)


def test_a_failed_step_leaves_other_branches_alone() -> None:
    """What comes after it is skipped; the run fails when the rest is done."""
    told = created(*DIAMOND, command("e", "d")).run("a")
    told.claim("b")
    assert told.fail("b", "no table") == (
        StepFailed("b", 1, "no table", "", "failed", 0),
        StepSkipped("d", "step b failed", 0),
        StepSkipped("e", "step b failed", 0),
    )
    told.claim("c")
    assert told.complete("c")[-1] == ended("failed", "step b failed: no table")


def test_two_failed_branches_skip_what_joins_them_once() -> None:
    """The second failure finds it skipped."""
    told = created(*DIAMOND).run("a")
    told.claim("b")
    told.claim("c")
    told.fail("b")
    assert [type(event) for event in told.fail("c")] == [StepFailed, RunEnded]


def test_an_output_that_nobody_could_read_fails_the_step() -> None:
    """The next step would be offered it."""
    for output, words in (
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"a":"' + "x" * 300_000 + '"}', "300008"),
    ):
        told = created(command("a", retry={"attempts": 5}))
        told.claim("a")
        failed, *_ = told.complete("a", output)
        assert isinstance(failed, StepFailed)
        assert words in failed.error


def test_a_run_shows_itself() -> None:
    """With everything a reader of runs is promised."""
    told = created(command("a"), more={"input": '{"day":1}', "slot": 60_000, "trigger": "schedule"}).at(5)
    told.claim("a")
    told.at(7).complete("a", '{"x":1}', records_in=4, records_out=3, records_rejected=1, bytes=99)
    shown = document(RUN, told.state)
    assert shown == {
        "id": RUN,
        "pipeline": "customers",
        "definition_hash": told.state.definition_hash,
        "status": "succeeded",
        "trigger": "schedule",
        "created_at": 0,
        "started_at": 5,
        "ended_at": 7,
        "input": {"day": 1},
        "full_refresh": False,
        "error": None,
        "slot": 60_000,
        "key": None,
        "rerun_of": None,
        "parent": None,
        "priority": "normal",
        "waiting_for": None,
        "steps": [
            {
                "name": "a",
                "kind": "command",
                "status": "succeeded",
                "attempt": 1,
                "runner": "runner-1",
                "started_at": 5,
                "ended_at": 7,
                "waits_until": None,
                "child": None,
                "records_in": 4,
                "records_out": 3,
                "records_rejected": 1,
                "bytes": 99,
                "percent": None,
                "progress": None,
                "error": None,
                "tail": "",
                "output": {"x": 1},
                "reused": False,
                "skipped": None,
                "items": None,
            }
        ],
    }
    assert document(RUN, created(command("a")).state)["steps"][0]["output"] is None


# ---------------------------------------------------------------- cancel
def test_cancelling_ends_everything_that_has_not_ended() -> None:
    """In one decision, with the reason."""
    told = created(*DIAMOND).run("a").at(4)
    told.claim("b")
    told.when(CancelRun("wrong day")).then(
        StepCancelled("b", 1, 4),
        StepCancelled("c", 1, 4),
        StepCancelled("d", 0, 4),
        ended("cancelled", "cancelled: wrong day", 4),
    )
    assert told.state.ended_at == 4


def test_a_cancelled_run_tells_its_runners_to_stop() -> None:
    """By their next heartbeat; results come too late, and offers are dropped."""
    told = created(*DIAMOND).run("a")
    told.claim("b")
    told.do(CancelRun())
    told.when(Heartbeat("b", 1, "b/1")).refused("stale_lease", "was cancelled")
    told.when(CompleteStep("b", 1, "b/1")).refused("stale_lease", "was cancelled")
    told.when(ClaimStep("c", 1, "t", "runner-2")).refused("stale_lease", "was cancelled")


def test_what_has_ended_cannot_be_cancelled_paused_or_resumed() -> None:
    """The refusal says how it ended."""
    told = created(command("a")).run("a")
    for body in (CancelRun(), PauseRun(), ResumeRun()):
        told.when(body).refused("already_ended", "succeeded")


# ---------------------------------------------------------------- pause
def test_a_paused_run_offers_nothing_and_lets_attempts_go_on() -> None:
    """Their results count."""
    told = created(*DIAMOND)
    told.claim("a")
    told.when(PauseRun("wait")).then(RunPaused(0, "wait"))
    assert [type(event) for event in told.complete("a")] == [StepSucceeded]
    told.when(ResumeRun()).then(
        RunResumed(0), StepOffered("b", 1, "default", 0), StepOffered("c", 1, "default", 0)
    )
    assert told.state.status == "running"


def test_an_offer_dropped_during_a_pause_is_made_again() -> None:
    """A runner that came by was sent away; the attempt keeps its number, so only one claim of it can win."""
    told = created(command("a"))
    told.do(PauseRun())
    told.when(ClaimStep("a", 1, "t", "runner-1")).refused("paused", "drop the offer")
    told.when(ResumeRun()).then(RunResumed(0), StepOffered("a", 1, "default", 0))
    assert told.state.status == "queued"
    told.when(ClaimStep("a", 1, "t1", "runner-1")).then(StepClaimed("a", 1, "t1", "runner-1", 0))
    told.when(ClaimStep("a", 1, "t2", "runner-2")).refused("stale_lease", "is running")


def test_a_paused_run_may_end() -> None:
    """When nothing is left to offer."""
    told = created(command("a"))
    told.claim("a")
    told.do(PauseRun())
    assert told.complete("a")[-1] == ended("succeeded")


def test_resuming_what_runs_is_no_news() -> None:
    """Nor is pausing what is paused."""
    created(command("a")).when(ResumeRun()).then()


# ---------------------------------------------------------------- rerun
def failed_at_c() -> RunSpec:
    """Return a run whose step c failed, after a and b succeeded."""
    told = created(*DIAMOND, more={"input": '{"day":1}', "slot": 60_000, "trigger": "schedule"}).run("a", "b")
    told.claim("c")
    told.fail("c")
    assert told.state.status == "failed"
    return told


def test_a_rerun_is_a_new_run() -> None:
    """Of the same definition and input, with nothing reused unless a step is named."""
    told = failed_at_c().when(RerunRun("r2")).then(RerunRequested("r2", None, 0))
    (sent,) = [effect for effect in told.sent if isinstance(effect, Send)]
    state = told.state
    body = CreateRun(
        "customers",
        state.definition_text,
        state.definition_hash,
        '{"day":1}',
        slot=60_000,
        rerun_of=RUN,
        reused="{}",
        priority="normal",
        listened=True,
    )
    assert sent == Send("run", "r2", body)


def test_a_rerun_from_a_step_reuses_what_succeeded_beside_and_before_it() -> None:
    """That step, what comes after it, and what had not succeeded run again."""
    told = failed_at_c()
    told.do(RerunRun("r2", "c"))
    (sent,) = [effect for effect in told.sent if isinstance(effect, Send)]
    assert set(json.loads(sent.body.reused)) == {"a", "b"}
    again = RunSpec()
    facts = again.do(sent.body)
    assert [(type(event), event.step) for event in facts[1:]] == [
        (StepSucceeded, "a"),
        (StepSucceeded, "b"),
        (StepOffered, "c"),
    ]
    assert all(event.reused for event in facts[1:3])
    assert again.statuses() == {"a": "succeeded", "b": "succeeded", "c": "queued", "d": "pending"}
    assert again.run("c", "d").state.status == "succeeded"


def test_reused_results_keep_output_and_counts() -> None:
    """The next step reads them as if they had been made here."""
    told = created(extract("a"), load("b", "a"))
    told.claim("a")
    told.complete("a", '{"topic":"t","n":1.5}', records_in=3, records_out=2, records_rejected=1, bytes=9)
    told.claim("b")
    told.fail("b")
    told.do(RerunRun("r2", "b"))
    (sent,) = [effect for effect in told.sent if isinstance(effect, Send)]
    again = RunSpec()
    again.do(sent.body)
    old, new = told.step("a"), again.step("a")
    for name in ("records_in", "records_out", "records_rejected", "bytes", "status"):
        assert getattr(new, name) == getattr(old, name)
    assert json.loads(new.output or "") == json.loads(old.output or "")
    assert again.offers()[0]["upstream"] == {"a": {"topic": "t", "n": 1.5}}


def test_a_run_whose_steps_are_all_reused_has_ended() -> None:
    """There is nothing to wait for."""
    told = RunSpec()
    facts = told.do(creation(command("a"), more={"reused": '{"a":{"status":"succeeded"}}'}))
    assert facts[-1] == ended("succeeded")


def test_a_rerun_without_an_id_is_named_after_its_command() -> None:
    """And the answer names it."""
    new_id = run_id(TENANT, "customers", "c9")
    told = failed_at_c().when(RerunRun(), command_id="c9").then(RerunRequested(new_id, None, 0))
    assert AGGREGATE.reply(RerunRun(), told.state) == f'{{"run":"{new_id}"}}'
    assert AGGREGATE.reply(CancelRun(), told.state) is None


def test_only_what_has_ended_is_run_again() -> None:
    """From a step that it has, under an id of its own."""
    created(command("a")).when(RerunRun()).refused("not_ended", "queued")
    failed_at_c().when(RerunRun("r2", "x")).refused("invalid", "a, b, c, d")
    failed_at_c().when(RerunRun(RUN)).refused("invalid", "id of its own")
