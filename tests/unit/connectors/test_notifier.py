"""What the notifier tells of the events it reads."""

from typing import Any, cast

from connectors.notifier.channels import Notice
from connectors.notifier.notifier import Notifier, NotifierSettings, notice
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
