"""What a run's events set going: offers to runners, and the new run of a rerun."""

import json
from typing import Any

from streams.domain.aggregate import Effect, Send, TaskOffer
from streams.domain.definition import StepDefinition, compact
from streams.domain.kinds import OWN_KINDS, undone_by
from streams.domain.run import events as happened
from streams.domain.run.commands import Command, CreateRun, RerunRun
from streams.domain.run.settings import items_of
from streams.domain.run.state import Run, Step, item_of
from streams.domain.run.timing import HEARTBEAT_MS, LEASE_MS


def effects(tenant: str, run_id: str, event: happened.Event, run: Run) -> tuple[Effect, ...]:
    """Return the offer of a step, or the creation of a rerun. ``run`` is the state after ``event``."""
    match event:
        case happened.StepOffered():
            return (TaskOffer(event.queue, run_id, _task(tenant, run_id, event, run), event.priority),)
        case happened.RerunRequested():
            return (Send("run", event.run_id, _new_run(run_id, event, run)),)
        case _:
            return ()


def reply(command: Command, run: Run) -> str | None:
    """Return the id of the new run for a rerun, as JSON: {"run": id}."""
    if isinstance(command, RerunRun) and run.reruns:
        return compact({"run": command.run_id or run.reruns[-1]})
    return None


def _task(tenant: str, run_id: str, event: happened.StepOffered, run: Run) -> dict[str, Any]:
    step = run.plan.step(event.step)
    checkpoint = run.steps[event.step].checkpoint
    return {
        "tenant": tenant,
        "pipeline": run.pipeline,
        "run": run_id,
        "step": event.step,
        "attempt": event.attempt,
        "kind": step.kind,
        "spec": step.spec if event.settings is None else json.loads(event.settings),
        "timeout_ms": step.timeout_ms,
        **({} if step.heartbeat_timeout_ms is None else {"heartbeat_timeout_ms": step.heartbeat_timeout_ms}),
        "lease_ms": LEASE_MS,
        "heartbeat_ms": HEARTBEAT_MS,
        "input": json.loads(run.input),
        "full_refresh": run.full_refresh,
        "upstream": _upstream(step, event.step, run),
        **_turn(event.step, run),
        **({"redrive": {"run": run.redrive_of}} if event.step == run.redrive else {}),
        "checkpoint": None if checkpoint is None else json.loads(checkpoint),
        "offered_at": event.at,
    }


def _upstream(plan: StepDefinition, name: str, run: Run) -> dict[str, Any]:
    """Return the results of the steps before, by name: for an item, of the dataset whose partition it loads only."""
    if not item_of(name):
        # What people send must not pass for a dataset.
        before = [one for one in plan.after if run.steps[one].kind not in OWN_KINDS]
        return {one: json.loads(run.steps[one].output or "{}") for one in before}
    owner = run.plan.steps[item_of(name)]
    fan = run.steps[owner.name].fan
    if plan.kind != "load" or fan is None:
        # Ten thousand items would carry the list they come from ten thousand times.
        return {}
    made = json.loads(run.steps[owner.spec["dataset"]].output or "{}")
    item = items_of(fan.items)[int(name.partition("[")[2][:-1])]
    part = str(item["partition"])
    own = {"starts": {part: item["start"]}, "ends": {part: item["end"]}}
    return {owner.spec["dataset"]: {**made, **own, "bookmark": None}}


def _turn(name: str, run: Run) -> dict[str, Any]:
    """Return which item or turn the step is; of a turn, what the one before it handed over."""
    base, item, index = name.partition("[")
    if not item:
        return {}
    owner, told = run.steps[base], {"index": int(index[:-1])}
    fan = owner.fan
    return told if owner.kind != "repeat" or fan is None else {**told, "result": json.loads(fan.result)}


def _new_run(run_id: str, event: happened.RerunRequested, run: Run) -> CreateRun:
    again: frozenset[str] = frozenset(run.steps)
    if event.from_step is not None:
        again = run.plan.downstream(event.from_step) | {event.from_step}
    reused = {
        step.name: _result(step)
        for step in run.steps.values()
        # What was undone is done again.
        if step.status == "succeeded"
        and not undone_by(step.name)
        and step.name not in again
        and not run.plan.step(step.name).last
    }
    return CreateRun(
        pipeline=run.pipeline,
        definition=run.definition_text,
        definition_hash=run.definition_hash,
        input=run.input,
        # What is taken up goes into the generation that there is.
        full_refresh=run.full_refresh and event.redrive is None,
        trigger="manual",
        slot=run.slot,
        rerun_of=run_id,
        redrive=event.from_step if event.redrive else None,
        redrive_of=run_id if event.redrive == "run" else None,
        priority=run.priority,
        reused=compact(reused),
        chain=run.chain,
        # Pipelines that have begun to listen since then hear of this end too.
        listened=True,
    )


def _result(step: Step) -> dict[str, Any]:
    return {
        "status": step.status,
        "output": json.loads(step.output or "{}"),
        "records_in": step.records_in,
        "records_out": step.records_out,
        "records_rejected": step.records_rejected,
        "bytes": step.bytes,
    }
