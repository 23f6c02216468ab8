"""Which events of users start which pipelines."""

import json
from typing import Any, cast

import pytest

from app.followers import asked_by_event
from connectors.triggers.cloudevent import NoEvent, read_event
from connectors.triggers.follower import TriggerFollower, TriggerSettings
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from streams.domain.definition import problems
from streams.domain.identity import event_key
from streams.domain.pipeline import PipelineApplied, PipelineDeleted
from streams.expressions import LANGUAGE
from streams.translation import to_record
from tests.contract.schema_releases import catalogue, sample
from tests.support.messages import FakeMessage
from tests.support.pipeline_files import command, pipeline, text_and_hash

Pairs = list[tuple[str, bytes | str | None]]
BINARY: Pairs = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"o-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"placed"),
]
PLACED = {"specversion": "1.0", "id": "o-1", "source": "/shop", "type": "placed"}
BIG = "${{ event.data.total > 100 }}"


class Events(FakeMessage):
    """A record of a topic of users' events."""

    def topic(self) -> str:
        return "user-events.orders"

    def timestamp(self) -> tuple[int, int]:
        return (2, self.at)


def follower(**filters: str | None) -> TriggerFollower:
    """Return a follower that knows pipelines, by name, that listen to ``orders`` since 100 ms, each with its filter."""
    codec = Codec(MemoryRegistry(), catalogue())
    settings = TriggerSettings({}, "test", "one", asked_by_event, lambda _names: None)
    made = TriggerFollower(settings, codec)
    for name, text in filters.items():
        applied(made, name, text, 100)
    return made


def applied(made: TriggerFollower, name: str, text: str | None, at: int, *events: str) -> None:
    """Let a version of a pipeline be applied that listens to ``events``, or to ``orders``."""
    block = {} if text is None else {"filter": text}
    triggers = [{"event": {"name": event, **block}} for event in events or ("orders",)]
    definition = text_and_hash(pipeline(command("a"), name=name, triggers=triggers))
    told(made, name, PipelineApplied(*definition, 1, at))


def told(made: TriggerFollower, name: str, event: Any) -> None:
    """Let an event of a pipeline be read."""
    kind = type(event).__name__
    schema = catalogue().schema(f"flexcore.pipeline.{kind}")
    record = {**sample(schema, ""), **to_record(event)}
    record["envelope"] |= {"tenant": "default", "aggregate_id": name}
    value = made._listeners._codec.encoder(f"pipeline.events-flexcore.pipeline.{kind}", schema)(record)
    made._listeners.take(cast(Any, FakeMessage(value, b"k", 1, [("ce_type", kind.encode())])))


def starts(
    made: TriggerFollower, data: object, at: int = 200, headers: Pairs = BINARY
) -> list[dict[str, Any]]:
    """Return the bodies of the commands for an event."""
    record: Any = Events(json.dumps(data).encode(), b"k", 1, cast(Any, headers), at)
    return [json.loads(sent.value) for sent in made._commands(record)]


def test_an_event_starts_each_pipeline_whose_filter_holds() -> None:
    """Under a key that follows from source and id; the run's input is the event."""
    made = follower(big=BIG, all=None, small="${{ event.data.total < 100 }}")
    first, second = starts(made, {"total": 120})
    assert first["key"] == second["key"] == event_key("/shop", "o-1")
    assert json.loads(first["input"]) == {**PLACED, "data": {"total": 120}}
    assert (first["trigger"], first["run_id"]) == ("event", None)
    assert event_key("/shop", "o-1") != event_key("/shop", "o-2")


def test_a_filter_that_fails_stops_no_other() -> None:
    """It is counted; so is a record that is no event."""
    made = follower(big=BIG, odd="${{ event.data }}", all=None)
    assert len(starts(made, {"sum": 1})) == 1
    assert made.counts["failed_filters"] == 2
    assert starts(made, {}, headers=[]) == []
    assert made.counts["unreadable"] == 1


def test_events_count_from_the_time_when_a_pipeline_began_to_listen() -> None:
    """Another version that listens too changes nothing; one that does not, and a deletion, end it."""
    made = follower(all=None)
    assert (len(starts(made, {}, at=99)), len(starts(made, {}, at=100))) == (0, 1)
    applied(made, "all", BIG, 300)
    assert len(starts(made, {"total": 101}, at=200)) == 1
    applied(made, "all", None, 400, "stock")
    assert (starts(made, {}, at=500), set(made._listeners.by_name)) == ([], {"stock"})
    told(made, "all", PipelineDeleted(600))
    assert made._listeners.by_name == {}


def test_an_event_of_another_tenant_starts_nothing() -> None:
    """Whose it is, its header says."""
    assert starts(follower(all=None), {}, headers=[*BINARY, ("tenant", b"acme")]) == []


@pytest.mark.parametrize(
    ("headers", "value", "data"),
    [
        ([*BINARY, ("content-type", "application/json")], b'{"a": 1}', {"data": {"a": 1}}),
        (BINARY, b'{"a": 1}', {"data": {"a": 1}}),
        (BINARY, b"words", {"data": "words"}),
        (BINARY, b"\xff", {"data_base64": "/w=="}),
        (BINARY, None, {}),
        ([("content-type", b"application/cloudevents+json; charset=utf-8")], json.dumps(PLACED).encode(), {}),
    ],
)
def test_an_event_is_read_in_either_mode(headers: Pairs, value: bytes | None, data: dict[str, Any]) -> None:
    """Binary, with data of any kind, or structured."""
    event = read_event(headers, value)
    event.pop("datacontenttype", None)
    assert event == {**PLACED, **data}


@pytest.mark.parametrize(
    ("headers", "value", "words"),
    [
        ([], b"{}", "specversion"),
        ([one for one in BINARY if one[0] != "ce_id"], b"{}", "no id"),
        ([*BINARY, ("content-type", "application/json")], b"{", "not JSON"),
        ([("content-type", "application/cloudevents+json")], b"[]", "no JSON object"),
        ([("content-type", "application/cloudevents+json")], b"{", "not JSON"),
    ],
)
def test_what_is_no_event_is_said(headers: Pairs, value: bytes, words: str) -> None:
    """Why not."""
    with pytest.raises(NoEvent, match=words):
        read_event(headers, value)


@pytest.mark.parametrize(
    ("event", "place", "words"),
    [
        ({"nam": "orders"}, ".nam", "did you mean name?"),
        ({"name": "Big Orders"}, ".name", "is no name"),
        ({"name": "orders", "filter": "total > 3"}, ".filter", "always the same"),
        ({"name": "orders", "filter": "${{ event.data.total > }}"}, ".filter", "is no expression"),
        ({"name": "orders", "filter": "${{ evnt.data.total > 1 }}"}, ".filter", "did you mean event?"),
        ({"name": "orders", "filter": "${{ inputs.total > 1 }}"}, ".filter", "there is no inputs here"),
        ({"name": "orders", "filter": "${{ item > 1 }}"}, ".filter", "there is no item here"),
        ({"name": "orders", "filter": "${{ event.a"}, ".filter", "has no end"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(event: Any, place: str, words: str) -> None:
    """Before it is applied."""
    file = pipeline(command("a"), triggers=[{"event": event}])
    found = problems(file, language=LANGUAGE)
    assert any(one.path == f"spec.triggers[0].event{place}" and words in str(one) for one in found), found


def test_a_step_knows_no_event() -> None:
    """It has the event as its input."""
    found = problems(
        pipeline({"name": "a", "command": {"argv": ["echo", "${{ event.id }}"]}}), language=LANGUAGE
    )
    assert ["there is no event here" in str(problem) for problem in found] == [True]
