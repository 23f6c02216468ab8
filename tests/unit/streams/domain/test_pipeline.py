"""The rules of a pipeline."""

import json
from dataclasses import replace

import pytest

from streams.cron import next_slot
from streams.domain.aggregate import Send
from streams.domain.identity import run_id, slot_key
from streams.domain.pipeline import (
    STARTS_KEPT,
    ApplyPipeline,
    DeletePipeline,
    PausePipeline,
    PipelineApplied,
    PipelineDeleted,
    PipelinePaused,
    PipelineResumed,
    ResumePipeline,
    aggregate,
)
from streams.domain.run.commands import CreateRun
from streams.domain.starts import RunRefused, RunRequested, StartRun
from streams.expressions import LANGUAGE
from tests.support.pipeline_files import command, pipeline, text_and_hash
from tests.support.spec import TENANT, Spec

NAME = "customers"
TEXT, HASH = text_and_hash(pipeline(command("a")))
TEXT2, HASH2 = text_and_hash(pipeline(command("a"), command("b")))
APPLIED = PipelineApplied(TEXT, HASH, 1, 5)
REQUESTED = RunRequested("r1", HASH, "{}", False, "manual", None, None, 5)


def spec(*events: object) -> Spec:
    """Return the pipeline after these events, at 5 ms."""
    return Spec(aggregate(next_slot, LANGUAGE), NAME).given(*events).at(5)


def test_a_pipeline_is_applied() -> None:
    """The first version has number one."""
    spec().when(ApplyPipeline(TEXT)).then(APPLIED)


def test_the_definition_is_kept_in_canonical_form() -> None:
    """However the producer wrote it, the hash is the same."""
    spec().when(ApplyPipeline(json.dumps(json.loads(TEXT), indent=2))).then(APPLIED)


def test_another_definition_is_a_new_version() -> None:
    """Versions count on."""
    spec(APPLIED).when(ApplyPipeline(TEXT2)).then(PipelineApplied(TEXT2, HASH2, 2, 5))


def test_the_same_definition_changes_nothing() -> None:
    """Applying is what one does after every checkout."""
    spec(APPLIED).when(ApplyPipeline(TEXT)).then()


def test_an_invalid_definition_is_refused_with_every_problem() -> None:
    """All of them, one a line."""
    text, _ = text_and_hash(pipeline({"name": "X", "extrct": 1}, schedule={"cron": "61 * * * *"}))
    refused = (
        spec().when(ApplyPipeline(text)).refused("invalid", "bad minute", "did you mean extract?", "'X'")
    )
    assert refused.decision.detail.count("\n") == 3


def test_a_definition_that_is_no_json_is_refused() -> None:
    """Whatever a producer sends, it gets an answer."""
    spec().when(ApplyPipeline("no")).refused("invalid", "not JSON")


def test_the_name_in_the_file_is_the_pipelines() -> None:
    """A file cannot be applied under another name."""
    text, _ = text_and_hash(pipeline(command("a"), name="orders"))
    spec().when(ApplyPipeline(text)).refused("invalid", "'orders'", "'customers'")


def test_a_pipeline_is_paused_and_resumed() -> None:
    """Each once."""
    paused = spec(APPLIED).when(PausePipeline("night")).then(PipelinePaused(5, "night"))
    paused.when(ResumePipeline()).then(PipelineResumed(5))


def test_a_new_version_does_not_resume_a_paused_pipeline() -> None:
    """Whoever paused it decides."""
    after = (
        spec(APPLIED, PipelinePaused(5)).when(ApplyPipeline(TEXT2)).then(PipelineApplied(TEXT2, HASH2, 2, 5))
    )
    assert after.state.status == "paused"


def test_a_deleted_pipeline_can_come_back() -> None:
    """Its versions go on counting."""
    gone = spec(APPLIED).when(DeletePipeline()).then(PipelineDeleted(5))
    gone.when(ApplyPipeline(TEXT)).then(replace(APPLIED, number=2))


@pytest.mark.parametrize("body", [PausePipeline(), ResumePipeline(), DeletePipeline(), StartRun()])
def test_a_pipeline_that_was_never_applied_is_not_found(body: object) -> None:
    """The answer says what to do first."""
    spec().when(body).refused("not_found", "apply its file first")


@pytest.mark.parametrize("body", [PausePipeline(), ResumePipeline(), StartRun()])
def test_a_deleted_pipeline_is_not_found(body: object) -> None:
    """It is as if it had never been."""
    spec(APPLIED, PipelineDeleted(5)).when(body).refused("not_found")


def test_a_start_requests_a_run_named_after_its_command() -> None:
    """Said again under the same command id, it is the same run."""
    new_id = run_id(TENANT, NAME, "c9")
    after = spec(APPLIED).when(StartRun(input='{"day":1}'), command_id="c9")
    after.then(replace(REQUESTED, run_id=new_id, input='{"day":1}'))


def test_a_start_key_makes_one_run() -> None:
    """However often and by whomever it is asked for."""
    new_id = run_id(TENANT, NAME, "monday")
    asked = spec(APPLIED).when(StartRun(key="monday"))
    asked.then(replace(REQUESTED, run_id=new_id, key="monday"))
    for _ in range(20):
        asked.when(StartRun(key="monday", input='{"other":1}')).then()
    assert asked.aggregate.reply(StartRun(key="monday"), asked.state) == f'{{"run":"{new_id}"}}'


def test_a_start_with_an_id_of_its_own_uses_it() -> None:
    """The caller may want to know it beforehand."""
    spec(APPLIED).when(StartRun(run_id="r1")).then(REQUESTED)


def test_an_empty_key_is_none() -> None:
    """It could name one run only, for ever."""
    new_id = run_id(TENANT, NAME, "c1")
    spec(APPLIED).when(StartRun(key="")).then(replace(REQUESTED, run_id=new_id))


def test_the_memory_of_start_keys_is_bounded() -> None:
    """The oldest goes first."""
    keys = [replace(REQUESTED, key=f"k{i}", run_id=f"r{i}") for i in range(STARTS_KEPT + 1)]
    starts = spec(APPLIED, *keys).state.starts
    assert len(starts) == STARTS_KEPT
    assert "k0" not in starts


def test_a_granted_run_is_created_with_the_definition_of_this_moment() -> None:
    """A later version does not touch it."""
    asked = (
        spec(APPLIED)
        .when(StartRun(run_id="r1", full_refresh=True))
        .then(replace(REQUESTED, full_refresh=True))
    )
    assert asked.sent == [Send("run", "r1", CreateRun(NAME, TEXT, HASH, full_refresh=True))]


def test_the_answer_to_a_start_names_the_run() -> None:
    """For producers that know only Kafka."""
    asked = spec(APPLIED).when(StartRun(run_id="r1")).then(REQUESTED)
    assert asked.aggregate.reply(StartRun(run_id="r1"), asked.state) == '{"run":"r1"}'
    assert asked.aggregate.reply(StartRun(), asked.state) == '{"run":"r1"}'
    assert asked.aggregate.reply(PausePipeline(), asked.state) is None


def test_a_paused_pipeline_refuses_a_person() -> None:
    """With the way out."""
    spec(APPLIED, PipelinePaused(5)).when(StartRun()).refused("paused", "resume it")


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ((), "not_found"),
        ((APPLIED, PipelinePaused(5)), "paused"),
        ((APPLIED, PipelineDeleted(5)), "not_found"),
    ],
)
def test_a_schedule_is_refused_by_an_event(history: tuple[object, ...], reason: str) -> None:
    """Nobody waits for the answer: the schedule must hear of it from the log."""
    start = StartRun(run_id="r1", key=slot_key(60_000), trigger="schedule", slot=60_000)
    spec(*history).when(start).then(RunRefused("r1", 60_000, reason, 5), once=False)


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_the_input_of_a_run_is_an_object(text: str) -> None:
    """Steps read it by name."""
    spec(APPLIED).when(StartRun(input=text)).refused("invalid", "JSON object")


def test_triggers_are_a_closed_set() -> None:
    """A typo would hide a run from whoever looks for it."""
    spec(APPLIED).when(StartRun(trigger="cron")).refused("invalid", "manual, schedule, api")
