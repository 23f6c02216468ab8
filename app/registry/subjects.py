"""What the topic says: subjects, versions, ids, levels and modes. A plain fold of its records."""

import json
from collections.abc import Iterator
from typing import Any

from app.registry.failures import INVALID_SCHEMA, RegistryFailure
from app.registry.records import AVRO, Draft, Record, Version, version_of
from schemas.errors import FlexcoreSchemaError
from schemas.parsing import Schema, canonical, parse_text

DEFAULT_LEVEL = "BACKWARD_TRANSITIVE"
DEFAULT_MODE = "READWRITE"


class Subjects:
    """The registry's contents. Not thread-safe; ``copy`` gives a draft to try changes on."""

    def __init__(self) -> None:
        self.highest_id = 0
        self._versions: dict[str, dict[int, Version]] = {}
        self._identities: dict[Version, str] = {}
        self._ids: dict[str, int] = {}
        self._levels: dict[str | None, str] = {}
        self._modes: dict[str | None, str] = {}

    def copy(self) -> "Subjects":
        """Return an independent copy."""
        twin = Subjects()
        twin.highest_id = self.highest_id
        twin._versions = {subject: dict(versions) for subject, versions in self._versions.items()}
        twin._identities, twin._ids = dict(self._identities), dict(self._ids)
        twin._levels, twin._modes = dict(self._levels), dict(self._modes)
        return twin

    # ---------------------------------------------------------------- the fold
    def apply(self, record: Record) -> None:
        """Take one record. Raises KeyError, TypeError or ValueError for a malformed one and changes nothing."""
        kind, subject = record.key["keytype"], record.key.get("subject")
        if kind == "SCHEMA":
            if record.value is None:
                self._erase(record.key["subject"], int(record.key["version"]), record.highest_id)
            else:
                self._put(version_of(record.value))
        elif kind == "DELETE_SUBJECT" and record.value is not None:
            self._hide(record.value["subject"], int(record.value["version"]))
        elif kind in ("CONFIG", "MODE"):
            settings = self._levels if kind == "CONFIG" else self._modes
            if record.value is None:
                settings.pop(subject, None)
            else:
                settings[subject] = record.value["compatibilityLevel" if kind == "CONFIG" else "mode"]

    def _put(self, version: Version) -> None:
        identity = self.identity(version.draft, strict=False)
        self._versions.setdefault(version.subject, {})[version.number] = version
        self._identities[version] = identity
        self._ids[identity] = version.id
        self.highest_id = max(self.highest_id, version.id)

    def _hide(self, subject: str, last: int) -> None:
        for version in list(self._versions.get(subject, {}).values()):
            if version.number <= last and not version.deleted:
                self._put(Version(version.subject, version.number, version.id, version.draft, deleted=True))

    def _erase(self, subject: str, number: int, highest_id: int) -> None:
        self.highest_id = max(self.highest_id, highest_id)
        version = self._versions.get(subject, {}).pop(number, None)
        if version is None:
            return
        if not self._versions[subject]:
            del self._versions[subject]
        if not any(other.id == version.id for other in self.versions()):
            self._ids.pop(self._identities[version], None)

    # ---------------------------------------------------------------- questions
    def versions(self, subject: str | None = None, *, deleted: bool = True) -> Iterator[Version]:
        """Yield the versions of a subject, or of all, in order; ``deleted`` includes the hidden ones."""
        names = sorted(self._versions) if subject is None else [subject]
        for name in names:
            for _number, version in sorted(self._versions.get(name, {}).items()):
                if deleted or not version.deleted:
                    yield version

    def version(self, subject: str, number: int) -> Version | None:
        """Return one version, hidden or not."""
        return self._versions.get(subject, {}).get(number)

    def with_id(self, schema_id: int) -> list[Version]:
        """Return every version that has this id, hidden ones last."""
        found = [version for version in self.versions() if version.id == schema_id]
        return sorted(found, key=lambda version: version.deleted)

    def same(self, subject: str, draft: Draft, *, deleted: bool = False) -> Version | None:
        """Return the newest version of the subject that is this schema in any spelling."""
        identity = self.identity(draft)
        found = [one for one in self.versions(subject, deleted=deleted) if self._identities[one] == identity]
        return found[-1] if found else None

    def id_of(self, draft: Draft) -> int | None:
        """Return the id that this schema has under any subject."""
        return self._ids.get(self.identity(draft))

    def level(self, subject: str | None) -> str | None:
        """Return the compatibility level set for a subject, or for all."""
        return self._levels.get(subject)

    def level_for(self, subject: str) -> str:
        """Return the level that holds for a subject."""
        return self._levels.get(subject) or self._levels.get(None) or DEFAULT_LEVEL

    def mode(self, subject: str | None) -> str | None:
        """Return the mode set for a subject, or for all."""
        return self._modes.get(subject)

    def mode_for(self, subject: str | None) -> str:
        """Return the mode that holds for a subject."""
        return self._modes.get(subject) or self._modes.get(None) or DEFAULT_MODE

    def referring_to(self, subject: str, number: int, *, deleted: bool) -> list[Version]:
        """Return the versions that refer to this one."""
        return [
            one
            for one in self.versions(deleted=deleted)
            if any(
                (reference.subject, reference.version) == (subject, number)
                for reference in one.draft.references
            )
        ]

    # ---------------------------------------------------------------- documents
    def parsed(self, draft: Draft, named: dict[str, Any] | None = None) -> Schema:
        """Return the parsed Avro schema, what it refers to included.

        Raises :class:`RegistryFailure` (invalid schema) when it is none.
        """
        named = {} if named is None else named
        for reference in draft.references:
            if reference.name in named:
                continue
            target = self.version(reference.subject, reference.version)
            if target is None:
                raise RegistryFailure(
                    INVALID_SCHEMA,
                    f"Invalid schema: the reference {reference.name} points to version {reference.version} of"
                    f" {reference.subject}, which does not exist: register it first",
                )
            self.parsed(target.draft, named)
        try:
            return parse_text(draft.text, named)
        except FlexcoreSchemaError as error:
            raise RegistryFailure(INVALID_SCHEMA, f"Invalid schema: {error}") from error

    def identity(self, draft: Draft, *, strict: bool = True) -> str:
        """Return a text that is equal for equal schemas.

        With ``strict``, raises :class:`RegistryFailure` (invalid schema) for a document that is none of its kind.
        """
        try:
            text = self._normal(draft)
        except RegistryFailure:
            if strict:
                raise
            text = draft.text
        return json.dumps([draft.kind, text, sorted(draft.references)])

    def _normal(self, draft: Draft) -> str:
        if draft.kind == AVRO:
            return canonical(self.parsed(draft))
        if draft.kind == "JSON":
            try:
                return json.dumps(json.loads(draft.text), sort_keys=True)
            except (ValueError, RecursionError) as error:
                raise RegistryFailure(INVALID_SCHEMA, f"Invalid schema: not JSON: {error}") from error
        if draft.kind == "PROTOBUF" and draft.text.strip():
            return draft.text.strip()
        raise RegistryFailure(
            INVALID_SCHEMA,
            f"Invalid schema: {draft.kind!r} with {len(draft.text)} characters; types are {SCHEMA_TYPES}",
        )


SCHEMA_TYPES = ["AVRO", "JSON", "PROTOBUF"]
