"""The registry's rules and the fold of its topic, without Kafka: what is written, what is refused, what is read back."""

import json
from typing import Any

import pytest

from app.registry import rules
from app.registry.failures import RegistryFailure
from app.registry.records import Draft, Record, Reference, level_record, mode_record, parsed_record
from app.registry.subjects import Subjects


def record(*fields: Any, name: str = "a.R") -> Draft:
    return Draft(json.dumps({"type": "record", "name": name, "fields": [*fields]}))


X = {"name": "x", "type": "long"}
V1 = record(X)
V2 = record(X, {"name": "y", "type": ["null", "string"], "default": None})
BREAKING = record(X, {"name": "z", "type": "long"})


class Registry:
    """A registry on a list of records in place of a topic; everything goes through bytes, as it would in Kafka."""

    def __init__(self) -> None:
        self.topic: list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self.subjects = Subjects()

    def write(self, *records: Record) -> None:
        for one in records:
            self.topic.append(one.encoded())
            self.subjects.apply(parsed_record(*one.encoded()))

    def register(self, subject: str, draft: Draft) -> tuple[int, int]:
        made = rules.registration(self.subjects, subject, draft)
        self.write(*made.records)
        return made.version.id, made.version.number

    def delete(self, subject: str, number: int | None = None, *, permanent: bool = False) -> Any:
        if number is None:
            result, records = rules.subject_removal(self.subjects, subject, permanent=permanent)
        else:
            result, records = rules.version_deletion(self.subjects, subject, number, permanent=permanent)  # type: ignore[assignment]  # a number or a list of them
        self.write(*records)
        return result

    def compacted(self) -> "Registry":
        """The registry after a restart on a compacted topic: the last record of each key."""
        last = {key: at for at, (key, _value, _headers) in enumerate(self.topic)}
        twin = Registry()
        for at, (key, value, headers) in enumerate(self.topic):
            if last[key] == at:
                twin.subjects.apply(parsed_record(key, value, headers))
        return twin

    def numbers(self, subject: str, *, deleted: bool = False) -> list[int]:
        return [version.number for version in self.subjects.versions(subject, deleted=deleted)]


@pytest.fixture
def registry() -> Registry:
    return Registry()


def refused(code: int, call: Any) -> str:
    with pytest.raises(RegistryFailure) as failure:
        call()
    assert failure.value.code == code, failure.value.message
    return failure.value.message


def test_ids_are_gapless_and_shared_by_equal_schemas(registry: Registry) -> None:
    """One schema, one id, under as many subjects as there are; versions count for each subject."""
    assert registry.register("s", V1) == (1, 1)
    assert registry.register("s", V2) == (2, 2)
    assert registry.register("t", V2) == (2, 1)
    assert registry.register("u", BREAKING) == (3, 1)


def test_registering_again_writes_nothing(registry: Registry) -> None:
    """Another spelling of the same schema is the same schema."""
    registry.register("s", V1)
    spelled = '{"namespace": "a", "name": "R", "fields": [{"type": {"type": "long"}, "name": "x"}], "type": "record"}'
    assert registry.register("s", Draft(spelled)) == (1, 1)
    assert len(registry.topic) == 1


def test_records_have_confluents_shape(registry: Registry) -> None:
    """Another registry, pointed at the topic, goes on with it."""
    registry.register("s", V1)
    key, value, headers = registry.topic[0]
    assert json.loads(key) == {"keytype": "SCHEMA", "subject": "s", "version": 1, "magic": 1}
    assert value is not None
    assert json.loads(value) == {"subject": "s", "version": 1, "id": 1, "schema": V1.text, "deleted": False}
    assert headers == []
    registry.register("p", Draft('"a.R"', references=(Reference("a.R", "s", 1),)))
    value = registry.topic[1][1]
    assert value is not None
    assert json.loads(value)["references"] == [{"name": "a.R", "subject": "s", "version": 1}]


def test_records_written_by_confluents_registry_are_read(registry: Registry) -> None:
    """Its record for nothing, its extra fields and its null settings do no harm."""
    lines: list[tuple[Any, Any]] = [
        ({"keytype": "NOOP", "magic": 0}, None),
        ({"keytype": "CONFIG", "subject": None, "magic": 0}, {"compatibilityLevel": "FULL"}),
        ({"keytype": "MODE", "subject": "s", "magic": 0}, {"mode": "READONLY"}),
        (
            {"keytype": "SCHEMA", "subject": "s", "version": 4, "magic": 1},
            {
                "subject": "s",
                "version": 4,
                "id": 17,
                "md5": "x",
                "schema": V1.text,
                "references": None,
                "deleted": False,
            },
        ),
    ]
    for key, value in lines:
        registry.subjects.apply(
            parsed_record(
                json.dumps(key).encode(), None if value is None else json.dumps(value).encode(), None
            )
        )
    assert registry.subjects.level_for("s") == "FULL"
    assert registry.subjects.mode_for("s") == "READONLY"
    assert registry.register("t", V2) == (18, 1)


def test_a_breaking_schema_is_refused_with_path_and_fix(registry: Registry) -> None:
    """The default level is backward-transitive; another level is set for a subject or for all."""
    registry.register("s", V1)
    assert "a.R.z" in refused(409, lambda: registry.register("s", BREAKING))
    registry.write(level_record("s", "FORWARD"))
    assert registry.register("s", BREAKING) == (2, 2)
    registry.write(level_record("s", None), level_record(None, "NONE"))
    assert registry.register("s", record(name="a.Other")) == (3, 3)


def test_a_transitive_level_looks_at_every_version(registry: Registry) -> None:
    """A field that was a string once cannot come back as a number, though the newest version lacks it."""
    registry.register("s", record({"name": "x", "type": "string"}))
    registry.register("s", record())
    again = record({"name": "x", "type": "long", "default": 0})
    assert "string cannot be read as long" in refused(409, lambda: registry.register("s", again))
    registry.write(level_record("s", "BACKWARD"))
    assert registry.register("s", again) == (3, 3)


def test_other_kinds_are_kept_but_not_evolved(registry: Registry) -> None:
    """JSON and Protobuf are stored for those who use them; what cannot be checked is refused, with the way out."""
    assert registry.register("j", Draft('{"type": "object"}', "JSON")) == (1, 1)
    assert registry.register("j", Draft('{ "type":"object" }', "JSON")) == (1, 1)
    assert registry.register("p", Draft("message M {}", "PROTOBUF")) == (2, 1)
    changed = Draft('{"type": "string"}', "JSON")
    assert "to NONE" in refused(409, lambda: registry.register("j", changed))
    registry.write(level_record("j", "NONE"))
    assert registry.register("j", changed) == (3, 2)


@pytest.mark.parametrize(
    "draft",
    [
        Draft("{"), Draft('"nothing"'), Draft('{"type": "nope"}'), Draft("[" * 100_000), Draft("{", "JSON"),
        Draft(" ", "PROTOBUF"), Draft("x", "XML"), Draft('"a.R"'), Draft('"a.R"', references=(Reference("a.R", "no", 1),)),
    ],
    ids=lambda draft: f"{draft.kind} {draft.text[:12]}",
)  # fmt: skip
def test_an_invalid_schema_is_refused(registry: Registry, draft: Draft) -> None:
    """Whatever the level, and before anything is written."""
    registry.write(level_record(None, "NONE"))
    refused(42201, lambda: registry.register("s", draft))
    assert registry.numbers("s", deleted=True) == []


def test_a_reference_protects_what_it_points_to(registry: Registry) -> None:
    """Hiding waits for the referring schema to be hidden, erasing for it to be erased."""
    registry.register("part", V1)
    registry.register("whole", Draft('{"type":"record","name":"W","fields":[{"name":"r","type":"a.R"}]}', references=(Reference("a.R", "part", 1),)))  # fmt: skip
    refused(42206, lambda: registry.delete("part", 1))
    refused(42206, lambda: registry.delete("part"))
    registry.delete("whole")
    registry.delete("part", 1)
    refused(42206, lambda: registry.delete("part", 1, permanent=True))
    registry.delete("whole", permanent=True)
    assert registry.delete("part", 1, permanent=True) == 1


def test_a_version_is_hidden_then_erased(registry: Registry) -> None:
    """Two steps, in this order only; its number is not given again while a later one exists."""
    registry.register("s", V1)
    registry.register("s", V2)
    refused(40407, lambda: registry.delete("s", 1, permanent=True))
    assert registry.delete("s", 1) == 1
    assert (registry.numbers("s"), registry.numbers("s", deleted=True)) == ([2], [1, 2])
    refused(40406, lambda: registry.delete("s", 1))
    assert registry.register("s", V1) == (1, 3)
    assert registry.delete("s", 1, permanent=True) == 1
    refused(40402, lambda: registry.delete("s", 1))
    assert registry.subjects.with_id(1)[0].number == 3


def test_a_subject_is_hidden_then_erased(registry: Registry) -> None:
    """Its level and mode go with it; it may begin anew."""
    registry.register("s", V1)
    registry.register("s", V2)
    registry.write(level_record("s", "NONE"))
    refused(40405, lambda: registry.delete("s", permanent=True))
    assert registry.delete("s") == [1, 2]
    refused(40401, lambda: rules.existing(registry.subjects, "s", None))
    refused(40404, lambda: registry.delete("s"))
    assert registry.delete("s", permanent=True) == [1, 2]
    refused(40401, lambda: registry.delete("s"))
    assert registry.subjects.level("s") is None
    assert registry.register("s", BREAKING) == (3, 1)


def test_an_id_is_never_given_twice(registry: Registry) -> None:
    """Not even when its schema was erased and compaction has removed every trace but the tombstone."""
    registry.register("s", V1)
    registry.register("s", V2)
    registry.delete("s")
    registry.delete("s", permanent=True)
    restarted = registry.compacted()
    assert restarted.numbers("s", deleted=True) == []
    assert restarted.register("t", V2) == (3, 1)


def test_a_restart_on_a_compacted_topic_finds_everything(registry: Registry) -> None:
    """The fold of the last record of each key is the fold of all records."""
    registry.register("s", V1)
    registry.register("s", V2)
    registry.register("t", V1)
    registry.write(level_record("t", "FULL"), mode_record(None, "READONLY"), mode_record(None, None))
    registry.delete("s", 2)
    restarted = registry.compacted()
    assert (restarted.numbers("s"), restarted.numbers("s", deleted=True), restarted.numbers("t")) == (
        [1],
        [1, 2],
        [1],
    )
    assert (restarted.subjects.level_for("t"), restarted.subjects.mode_for("t")) == ("FULL", "READWRITE")
    assert restarted.register("u", BREAKING) == (3, 1)


def test_a_read_only_subject_takes_nothing_new(registry: Registry) -> None:
    """What is there already is still answered."""
    registry.register("s", V1)
    registry.write(mode_record("s", "READONLY"))
    assert registry.register("s", V1) == (1, 1)
    refused(42205, lambda: registry.register("s", V2))
    refused(42205, lambda: registry.delete("s", 1))
    refused(42205, lambda: registry.delete("s"))


def test_a_copy_takes_changes_of_its_own(registry: Registry) -> None:
    """Many schemas are tried on a copy before one transaction holds them all."""
    registry.register("s", V1)
    copy = registry.subjects.copy()
    for one in rules.registration(copy, "s", V2).records:
        copy.apply(one)
    assert rules.registration(copy, "t", BREAKING).version.id == 3
    assert registry.numbers("s") == [1]


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"x", None), (b"[]", b"{}"), (b"{}", b"{}"), (b'{"keytype":"SCHEMA"}', b"{}"), (b'{"keytype":"CONFIG"}', b"{}"),
     (b'{"keytype":"SCHEMA","subject":"s","version":1}', b'{"subject":"s","version":"x","id":1,"schema":"x"}')],
)  # fmt: skip
def test_a_foreign_record_is_told_apart(registry: Registry, key: bytes, value: bytes | None) -> None:
    """Whoever writes garbage into the topic is noticed; the registry stays as it was."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        registry.subjects.apply(parsed_record(key, value, None))
    assert registry.register("s", V1) == (1, 1)


def test_levels_and_modes_are_checked() -> None:
    """A closed set each, in any case of letters."""
    assert (rules.valid_level("full_transitive"), rules.valid_mode("readonly")) == (
        "FULL_TRANSITIVE",
        "READONLY",
    )
    for wrong in ("SIDEWAYS", None, 5):
        assert "BACKWARD_TRANSITIVE" in refused(42203, lambda level=wrong: rules.valid_level(level))
        assert "READWRITE" in refused(42204, lambda mode=wrong: rules.valid_mode(mode))
