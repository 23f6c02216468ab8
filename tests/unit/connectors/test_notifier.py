"""What the notifier tells of the events it reads."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.notifier.channels import Notice
from connectors.notifier.notifier import Notifier, NotifierSettings, notice
from schemas.chain import REDACTED
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from streams.domain.alert.events import IncidentOpened
from streams.translation import to_record
from tests.contract.schema_releases import catalogue, sample
from tests.support.messages import FakeMessage

NAME = "flexcore.alert.IncidentOpened"


class Group:
    """A consumer that is given ``polled``, one by one; ``refusals`` of its commits fail first."""

    def __init__(self, polled: list[Any], refusals: int = 0) -> None:
        self.polled, self.refusals = polled, refusals
        self.committed: list[Any] = []

    def poll(self, _timeout: float) -> Any:
        return self.polled.pop(0) if self.polled else None

    def commit(self, message: Any, **_: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))
        self.committed.append(message)


@dataclass
class Failed:
    """What is polled instead of a record."""

    value: str = "the broker is away"

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._TRANSPORT)


@pytest.fixture
def notifier(monkeypatch: pytest.MonkeyPatch) -> Notifier:
    """One that finds nothing to tell in any record, and does not wait after a failure."""
    one = Notifier(NotifierSettings({}, "test", "one", {}), Codec(MemoryRegistry(), catalogue()))
    monkeypatch.setattr(one, "_handle", lambda _record, _producer: None)
    one._stopping.set()
    return one


@pytest.mark.parametrize("trouble", ["no member any more", "an error instead of a record"])
def test_after_a_failure_it_polls_on(notifier: Notifier, trouble: str) -> None:
    """Else it would never be a member again, or see the same error for ever: alerts would be quiet."""
    records = [FakeMessage(b"1", offset_=1), FakeMessage(b"2", offset_=2)]
    if trouble == "no member any more":
        group = Group([*records], refusals=1)
    else:
        group = Group([Failed(), records[1]])
    notifier._turn(cast(Any, group), cast(Any, None))
    assert "alerts are not told" in str(notifier.problem)
    notifier._turn(cast(Any, group), cast(Any, None))
    assert (group.committed, notifier.problem) == ([records[1]], None)


def test_a_redacted_incident_is_not_told_again() -> None:
    """It was told when it happened."""
    told: list[Notice] = []
    codec = Codec(MemoryRegistry(), catalogue())
    settings = NotifierSettings({}, "test", "one", {"hook": "http://127.0.0.1:1"})
    notifier = Notifier(settings, codec, lambda _url, notice: told.append(notice))
    schema = catalogue().schema(NAME)
    event = to_record(IncidentOpened("failed-1-1", "failed", "[redacted]", "r1", "hook", 1))
    value = codec.encoder(f"alert.events-{NAME}", schema)({**sample(schema, ""), **event})
    redacted: Any = FakeMessage(value, b"k", 1, [(REDACTED, b"ada: asked for")], 0)
    notifier._handle(redacted, cast(Any, None))
    assert told == []


def test_a_late_run_is_told_with_what_is_usual_and_what_to_do() -> None:
    """Whoever is woken up needs no other window for that."""
    detail = "run r1 has been running for 40m; 20m is usual"
    event = {
        **to_record(IncidentOpened("late-9-0", "late", detail, "r1", "hook", 9)),
        "envelope": {"aggregate_id": "copy", "tenant": "default", "event_id": "e1"},
    }
    told = notice("opened", event)
    assert told.subject == "copy: late"
    assert told.text == f"copy: {detail}\nflexcore alert acknowledge copy late-9-0"
    assert (told.fields["on"], told.fields["run_id"]) == ("late", "r1")
