"""Runs whose events were written by the first release: they fold as they did, and go on."""

import dataclasses
from typing import Any

from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from streams.domain.run.commands import CancelRun, ClaimStep, CompleteStep, FailStep
from streams.domain.run.state import Run
from streams.translation import from_record
from tests.contract.schema_releases import catalogue, released, sample
from tests.support.pipeline_files import command
from tests.support.run_spec import AGGREGATE, RunSpec, created


def read_by_today(event: Any) -> Any:
    """Return the event as today's reader has it, written with the first released schema of its type."""
    name = f"flexcore.run.{type(event).__name__}"
    first = next(release for release in released() if release.name == name).schema
    assert isinstance(first, dict)
    codec = Codec(MemoryRegistry(), catalogue())
    told = dataclasses.asdict(event)
    record = {
        field["name"]: sample(field["type"], "envelope")
        if field["name"] == "envelope"
        else told[field["name"]]
        for field in first["fields"]
    }
    _name, body = codec.decode(codec.encoder(f"run.events-{name}", first)(record))
    body.pop("envelope")
    return from_record(type(event), body)


def test_a_run_of_the_first_release_folds_to_the_same_state_and_goes_on() -> None:
    """A failure that skips, a retry, a rerun's beginning: nothing of today's fields is in its events."""
    told = created(command("a", retry={"attempts": 2}), command("b", "a"), command("c"))
    told.claim("a")
    told.do(FailStep("a", 1, "a/1", "broken"))
    told.claim("c")
    told.do(FailStep("c", 1, "c/1", "broken", retryable=False))
    told.tick(60_000)
    old: Run = AGGREGATE.initial
    for event in told.log:
        old = AGGREGATE.evolve(old, read_by_today(event))
    assert old == told.state
    again = RunSpec().given(*(read_by_today(event) for event in told.log)).at(60_000)
    again.do(ClaimStep("a", 2, "t", "n"))
    again.do(CompleteStep("a", 2, "t"))
    assert again.do(CancelRun())[-1].status == "cancelled"
