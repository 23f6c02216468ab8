"""A rerun that takes up what a transform rejected."""

from typing import Any

import pytest

from streams.domain.aggregate import Send
from streams.domain.run.commands import CreateRun, RerunRun
from streams.domain.run.events import RerunRequested
from tests.support.pipeline_files import extract, load
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RUN, RunSpec, created, creation

CLEAN = {"name": "clean", "after": ["read"], "transform": {"python": "transforms.clean:row"}}
STEPS = (extract("read"), CLEAN, load("store", "clean"))


def done() -> RunSpec:
    """Return a run that has read everything anew, and succeeded."""
    return created(*STEPS, more={"full_refresh": True}).run("read", "clean", "store")


@pytest.mark.parametrize(("which", "of"), [("run", RUN), ("all", None)])
def test_only_the_step_it_begins_with_is_told_to_take_up_its_rejects(which: str, of: str | None) -> None:
    """Of the run that is run again, or of any; into the generation that there is, so nothing is read anew."""
    told = done().when(RerunRun("r2", "clean", which)).then(RerunRequested("r2", "clean", 0, which))
    (sent,) = [effect for effect in told.sent if isinstance(effect, Send)]
    assert isinstance(sent.body, CreateRun)
    assert (sent.body.redrive, sent.body.redrive_of, sent.body.full_refresh) == ("clean", of, False)
    again = RunSpec()
    again.do(sent.body)
    again.run("clean", "store")
    clean, store = again.offers()
    assert clean["redrive"] == {"run": of}
    assert "redrive" not in store
    assert again.state.status == "succeeded"
    # A rerun of the rerun is one like any other.
    again.do(RerunRun("r3", "clean"))
    third = again.sent[-1]
    assert isinstance(third, Send)
    assert isinstance(third.body, CreateRun)
    assert third.body.redrive is None


def test_only_a_transform_takes_up_rejects() -> None:
    """Nothing else rejects records; and it must be said which one."""
    done().when(RerunRun("r2", "store", "all")).refused("invalid", "store is no transform")
    done().when(RerunRun("r2", None, "all")).refused("invalid", "needs from_step")
    done().when(RerunRun("r2", "clean", "some")).refused("invalid", "redrive is one of run, all")
    RunSpec().when(creation(*STEPS, more={"redrive": "read"})).refused("invalid", "read is no transform")


def history(reused: str, *steps: str) -> list[Any]:
    """Return the events of a run that takes up what clean rejected."""
    told = RunSpec()
    events = [*told.do(creation(*STEPS, more={"redrive": "clean", "reused": reused}))]
    for step in steps:
        events += [*told.claim(step), *told.complete(step)]
    return events


def test_the_judge_knows_that_a_kept_result_takes_up_nothing() -> None:
    """A step whose result is another run's is not done."""
    assert findings_of_run(history('{"read":{}}', "clean", "store")) == []
    (found,) = findings_of_run(history('{"read":{},"clean":{}}', "store"))
    assert found.invariant == "I14"
