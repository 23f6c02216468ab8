"""The records of ``_schemas``, in Confluent's shape: another registry can be pointed at the topic."""

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

AVRO = "AVRO"
HIGHEST_ID = "highest-id"
"""Header of a tombstone: no id up to this one may be given again, though its schema is gone."""


class Reference(NamedTuple):
    """A name used in a schema, and the version that defines it."""

    name: str
    subject: str
    version: int

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"name": self.name, "subject": self.subject, "version": self.version}


@dataclass(frozen=True, slots=True)
class Draft:
    """A schema as a client sent it."""

    text: str
    kind: str = AVRO
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A schema under a subject."""

    subject: str
    number: int
    id: int
    draft: Draft
    deleted: bool = False


class Record(NamedTuple):
    """What lies in the topic: ``key`` and ``value`` as JSON data; no value erases the key."""

    key: dict[str, Any]
    value: dict[str, Any] | None
    highest_id: int = 0

    def encoded(self) -> tuple[bytes, bytes | None, list[tuple[str, bytes]]]:
        """Return key, value and headers as bytes; keys are stable, or compaction would not find its match."""
        value = None if self.value is None else json.dumps(self.value, separators=(",", ":")).encode()
        headers = [(HIGHEST_ID, str(self.highest_id).encode())] if self.highest_id else []
        return json.dumps(self.key, separators=(",", ":")).encode(), value, headers


def version_record(version: Version) -> Record:
    """The record that holds a version."""
    draft = version.draft
    value: dict[str, Any] = {"subject": version.subject, "version": version.number, "id": version.id}
    if draft.kind != AVRO:
        value["schemaType"] = draft.kind
    if draft.references:
        value["references"] = [reference.document() for reference in draft.references]
    value |= {"schema": draft.text, "deleted": version.deleted}
    return Record(_version_key(version.subject, version.number), value)


def soft_deletion(version: Version) -> Record:
    """The record that hides a version."""
    return version_record(replace(version, deleted=True))


def subject_deletion(subject: str, number: int) -> Record:
    """The record that hides all versions of a subject up to ``number``."""
    return Record(
        {"keytype": "DELETE_SUBJECT", "subject": subject, "magic": 0}, {"subject": subject, "version": number}
    )


def erasure(subject: str, number: int, highest_id: int) -> Record:
    """The record that lets compaction remove a version."""
    return Record(_version_key(subject, number), None, highest_id)


def subject_erasure(subject: str) -> tuple[Record, ...]:
    """The records that remove everything else about a subject."""
    deletion = subject_deletion(subject, 0)
    return (Record(deletion.key, None), level_record(subject, None), mode_record(subject, None))


def level_record(subject: str | None, level: str | None) -> Record:
    """The record that sets a compatibility level (None: takes it back) of a subject (None: of all)."""
    value = None if level is None else {"compatibilityLevel": level}
    return Record({"keytype": "CONFIG", "subject": subject, "magic": 0}, value)


def mode_record(subject: str | None, mode: str | None) -> Record:
    """The record that sets a mode (None: takes it back) of a subject (None: of all)."""
    return Record(
        {"keytype": "MODE", "subject": subject, "magic": 0}, None if mode is None else {"mode": mode}
    )


def _version_key(subject: str, number: int) -> dict[str, Any]:
    return {"keytype": "SCHEMA", "subject": subject, "version": number, "magic": 1}


def parsed_record(key: bytes, value: bytes | None, headers: list[tuple[str, bytes]] | None) -> Record:
    """Return the record of these bytes. Raises ValueError when they are none."""
    keyed = json.loads(key)
    valued = None if value is None else json.loads(value)
    if not isinstance(keyed, dict) or not (valued is None or isinstance(valued, dict)):
        raise ValueError("key and value must be JSON objects")
    return Record(keyed, valued, int(dict(headers or ()).get(HIGHEST_ID, b"0")))


def version_of(value: dict[str, Any]) -> Version:
    """Return the version that a SCHEMA record holds. Raises KeyError, TypeError or ValueError when it is malformed."""
    references = tuple(
        Reference(one["name"], one["subject"], int(one["version"])) for one in value.get("references") or ()
    )
    draft = Draft(value["schema"], value.get("schemaType") or AVRO, references)
    return Version(
        value["subject"], int(value["version"]), int(value["id"]), draft, bool(value.get("deleted", False))
    )
