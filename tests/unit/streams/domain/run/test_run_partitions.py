"""Maps over the partitions of a dataset: each item reads its own range, and what they moved is told in sum."""

import json
from typing import Any

import pytest

from streams.domain.run.commands import Tick
from streams.domain.run.counts import moved
from streams.domain.run.events import StepFailed, StepMapped
from tests.support.pipeline_files import command, extract, step_problems
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RunSpec, creation

MADE = {"topic": "t", "topic_id": "i", "generation": "g", "starts": {"0": 5}, "ends": {"10": 3, "0": 9}, "streams": {}, "bookmark": {"long": 1}}  # fmt: skip
INTO = {"sink": "postgres", "config": {"url": "u", "table": "${{ item.topic }}"}}


def each(**block: Any) -> dict[str, Any]:
    """Return a step for each partition of what ``read`` makes."""
    return {"name": "all", "after": ["read"], "map": {"dataset": "read", **block}}


def mapped(step: dict[str, Any], output: dict[str, Any] = MADE) -> tuple[RunSpec, list[Any]]:
    """Return a run whose first step has made this, and its events."""
    told = RunSpec()
    events = [*told.do(creation(extract("read"), step)), *told.claim("read")]
    return told, [*events, *told.complete("read", json.dumps(output))]


def test_each_partition_is_loaded_by_an_item_that_is_given_its_range_only() -> None:
    """In the order of their numbers; counts are the sums, and known unless an item was tried again."""
    told, events = mapped(each(load=INTO))
    items = '[{"end":9,"partition":0,"start":5,"topic":"t"},{"end":3,"partition":10,"start":0,"topic":"t"}]'
    assert events[4] == StepMapped("all", items, 2, 0)
    first, second = told.offers()[1:]
    assert (first["step"], first["kind"], first["spec"]["config"]["table"]) == ("all[0]", "load", "t")
    here = {**MADE, "bookmark": None}
    assert first["upstream"] == {"read": {**here, "starts": {"0": 5}, "ends": {"0": 9}}}
    assert second["upstream"] == {"read": {**here, "starts": {"10": 0}, "ends": {"10": 3}}}
    for name, count in (("all[1]", 3), ("all[0]", 4)):
        events += [
            *told.claim(name),
            *told.complete(name, '{"sink":"postgres"}', records_in=count, records_out=count),
        ]
    done = told.step("all")
    assert (done.status, done.records_in, done.records_out, moved(told.state)) == ("succeeded", 7, 7, 7)
    assert findings_of_run(events) == []


def test_an_item_that_was_tried_again_leaves_the_run_without_a_count() -> None:
    """What the attempts before it moved is not known."""
    told, _ = mapped({**each(load=INTO), "retry": {"attempts": 2, "initial": "1ms"}})
    told.claim("all[1]")
    told.fail("all[1]")
    told.run("all[0]").at(10_000).do(Tick(10_000))
    told.run("all[1]")
    assert (told.state.status, moved(told.state)) == ("succeeded", None)


def test_a_program_is_given_the_range_and_no_result() -> None:
    """A step before it that has made no dataset fails it."""
    program = each(command={"argv": ["export", "${{ item.partition }}", "${{ item.end }}"]})
    told, _ = mapped(program)
    assert [offer["spec"]["argv"][1:] for offer in told.offers()[1:]] == [["0", "9"], ["10", "3"]]
    assert told.offers()[1]["upstream"] == {}
    told, events = mapped(program, {})
    (failed,) = [event for event in events if isinstance(event, StepFailed)]
    assert failed.error == "map.dataset: step read has made no dataset"


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        ({"over": [1], "command": {"argv": ["a"]}}, "", "exactly one of over and dataset"),
        ({"load": INTO, "command": {"argv": ["a"]}}, "", "command and load"),
        ({"load": {"sink": "http", "config": {}}}, ".load", "a position for each partition"),
        ({"load": {"target": "target-jsonl==0.1.4"}}, ".load", "a position for each partition"),
        ({"load": {"sink": "postgres", "config": {"mode": "overwrite"}}}, ".load.config.mode", "for the whole dataset"),
        ({"dataset": "other", "load": INTO}, ".dataset", "no step in its after list"),
        ({"dataset": "count", "load": INTO}, ".dataset", "makes no records"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_by_partition_is_refused(block: dict[str, Any], path: str, words: str) -> None:
    """With the place and the fix."""
    step = {**each(**block), "after": ["read", "count"]}
    assert words in step_problems(step, extract("read"), command("count"))[f"spec.steps[2].map{path}"]


def test_a_load_needs_a_dataset() -> None:
    """The items of a list are no records."""
    step = {"name": "all", "map": {"over": [1], "load": INTO}}
    assert "none is named" in step_problems(step)["spec.steps[0].map.load"]
