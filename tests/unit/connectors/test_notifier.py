"""What the notifier tells of the events it reads."""

from typing import Any

from confluent_kafka import Producer

from connectors.notifier.channels import Notice
from connectors.notifier.notifier import Notifier, NotifierSettings
from schemas.chain import REDACTED
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from streams.domain.alert.events import IncidentOpened
from streams.translation import to_record
from tests.contract.schema_releases import catalogue, sample
from tests.support.records import FakeRecord

NAME = "flexcore.alert.IncidentOpened"


def test_a_redacted_incident_is_not_told_again() -> None:
    """It was told when it happened."""
    told: list[Notice] = []
    codec = Codec(MemoryRegistry(), catalogue())
    settings = NotifierSettings({}, "test", "one", {"hook": "http://127.0.0.1:1"})
    notifier = Notifier(settings, codec, lambda _url, notice: told.append(notice))
    schema = catalogue().schema(NAME)
    event = to_record(IncidentOpened("failed-1-1", "failed", "[redacted]", "r1", "hook", 1))
    value = codec.encoder(f"alert.events-{NAME}", schema)({**sample(schema, ""), **event})
    redacted: Any = FakeRecord(value, b"k", 1, [(REDACTED, b"ada: asked for")], 0)
    notifier._handle(redacted, Producer({"bootstrap.servers": "127.0.0.1:1"}))
    assert told == []
