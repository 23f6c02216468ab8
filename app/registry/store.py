"""The registry itself: answers from memory, changes by the log, the same rules for HTTP and for this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from app.registry import failures, rules
from app.registry.failures import RegistryFailure
from app.registry.log import SchemaLog
from app.registry.records import Draft, Record, Version, level_record, mode_record
from app.registry.subjects import DEFAULT_LEVEL, DEFAULT_MODE, Subjects
from schemas.errors import Incompatible, InvalidSchema, RegistryUnavailable, UnknownSchema
from schemas.parsing import Schema, text_of
from schemas.topics import SCHEMAS

T = TypeVar("T")


class RegistryStore:
    """A schema registry kept in a Kafka topic. Thread-safe; every call may block.

    It is a ``SchemaRegistry`` for its own process (``register``, ``register_all``, ``schema``, ``latest``), and the
    server offers the rest to others. Any number of processes may host one over the same topic and ``cluster``: ids
    count from 1 without a gap, because only one of them at a time can commit.

    What is found in memory and can never change (a schema by its id, the id of a schema already registered) is
    answered at once. For everything else the store first reads what has been committed by others.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str = SCHEMAS, cluster: str = "flexcore", replication: int = 1
    ) -> None:
        self._lock = threading.RLock()
        self._subjects = Subjects()
        self._log = SchemaLog(kafka, topic, f"{cluster}/registry", replication, self._apply)

    def start(self, timeout_s: float = 30.0) -> None:
        """Create the topic if it is missing and read it to its end. Blocks.

        Raises :class:`RegistryUnavailable` when Kafka does not answer within ``timeout_s`` or the topic is unfit.
        """
        with _Translated():
            self._log.start(timeout_s)

    def stop(self) -> None:
        """Stop following the topic. Blocks until a change under way is over."""
        self._log.stop()

    def _apply(self, record: Record) -> None:
        with self._lock:
            self._subjects.apply(record)

    # ---------------------------------------------------------------- for this process
    def register(self, subject: str, schema: Schema) -> int:
        """Return the id of ``schema`` under ``subject``, registering it if needed.

        Raises ``Incompatible``, ``InvalidSchema`` or ``RegistryUnavailable``.
        """
        return self.register_all([(subject, schema)])[0]

    def register_all(self, schemas: Sequence[tuple[str, Schema]]) -> list[int]:
        """Register many (subject, schema) pairs in one transaction: all of them or none. Returns ids in order.

        Writes nothing when all are known. Raises as :meth:`register` does.
        """
        drafts = [(subject, Draft(text_of(schema))) for subject, schema in schemas]
        with _Translated():
            with self._lock:
                known = [self._subjects.same(subject, draft) for subject, draft in drafts]
            if None not in known:
                return [version.id for version in known if version is not None]
            return [version.id for version in self._register(drafts)]

    def schema(self, schema_id: int) -> Schema:
        """Return the parsed schema. Raises ``UnknownSchema`` or ``RegistryUnavailable``."""
        with _Translated():
            version = self.by_id(schema_id)
            with self._lock:
                return self._subjects.parsed(version.draft)

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """Return id and parsed schema of the newest version, or None."""
        with _Translated():
            try:
                version = self.version(subject, None)
            except RegistryFailure as failure:
                if failure.code == failures.SUBJECT_NOT_FOUND:
                    return None
                raise
            with self._lock:
                return version.id, self._subjects.parsed(version.draft)

    # ---------------------------------------------------------------- questions
    def subjects(self, prefix: str = "", *, deleted: bool = False) -> list[str]:
        """Return the names of all subjects that begin with ``prefix``."""
        found = self._fresh(lambda all_: [version.subject for version in all_.versions(deleted=deleted)])
        return sorted({name for name in found if name.startswith(prefix)})

    def all_versions(self, *, deleted: bool = False) -> list[Version]:
        """Return every version of every subject."""
        return self._fresh(lambda all_: list(all_.versions(deleted=deleted)))

    def versions(self, subject: str, *, deleted: bool = False) -> list[int]:
        """Return the numbers of a subject's versions."""

        def numbers(all_: Subjects) -> list[int]:
            rules.existing(all_, subject, None, deleted=deleted)
            return [version.number for version in all_.versions(subject, deleted=deleted)]

        return self._fresh(numbers)

    def version(self, subject: str, number: int | None, *, deleted: bool = False) -> Version:
        """Return one version (None: the newest)."""
        return self._fresh(lambda all_: rules.existing(all_, subject, number, deleted=deleted))

    def by_id(self, schema_id: int) -> Version:
        """Return a version that has this id."""
        with self._lock:
            found = self._subjects.with_id(schema_id)
        if not found:
            found = self._fresh(lambda all_: all_.with_id(schema_id))
        if not found:
            raise RegistryFailure(failures.SCHEMA_NOT_FOUND, f"Schema {schema_id} not found")
        return found[0]

    def users_of(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """Return every version that has this id."""
        self.by_id(schema_id)
        found = self._fresh(lambda all_: all_.with_id(schema_id))
        return [version for version in found if deleted or not version.deleted]

    def referring_to(self, subject: str, number: int | None) -> list[int]:
        """Return the ids of the schemas that refer to a version."""

        def ids(all_: Subjects) -> list[int]:
            version = rules.existing(all_, subject, number)
            found = all_.referring_to(subject, version.number, deleted=False)
            return sorted({one.id for one in found})

        return self._fresh(ids)

    def lookup(self, subject: str, draft: Draft, *, deleted: bool = False) -> Version:
        """Return the version of the subject that is this schema."""

        def same(all_: Subjects) -> Version | None:
            rules.existing(all_, subject, None, deleted=deleted)
            return all_.same(subject, draft, deleted=deleted)

        found = self._fresh(same)
        if found is None:
            raise RegistryFailure(failures.SCHEMA_NOT_FOUND, f"Schema not found in subject {subject}")
        return found

    def incompatibilities(
        self, subject: str, number: int | None, draft: Draft, *, every: bool = False
    ) -> list[str]:
        """Return what the subject's level forbids about the schema: after one version, or after ``every``."""

        def problems(all_: Subjects) -> list[str]:
            if every:
                return rules.incompatibilities(
                    all_, subject, draft, list(all_.versions(subject, deleted=False))
                )
            return rules.incompatibilities(all_, subject, draft, [rules.existing(all_, subject, number)])

        return self._fresh(problems)

    def level(self, subject: str | None, *, or_global: bool = False) -> str:
        """Return the compatibility level of a subject (None: of all)."""
        found = self._fresh(lambda all_: all_.level(subject))
        if found is None and subject is not None and not or_global:
            raise RegistryFailure(
                failures.SUBJECT_LEVEL_NOT_FOUND,
                f"Subject '{subject}' does not have subject-level compatibility configured",
            )
        return found or self._fresh(lambda all_: all_.level(None)) or DEFAULT_LEVEL

    def mode(self, subject: str | None, *, or_global: bool = False) -> str:
        """Return the mode of a subject (None: of all)."""
        found = self._fresh(lambda all_: all_.mode(subject))
        if found is None and subject is not None and not or_global:
            raise RegistryFailure(
                failures.SUBJECT_MODE_NOT_FOUND,
                f"Subject '{subject}' does not have subject-level mode configured",
            )
        return found or self._fresh(lambda all_: all_.mode(None)) or DEFAULT_MODE

    def _fresh(self, question: Callable[[Subjects], T]) -> T:
        self._log.catch_up()
        with self._lock:
            return question(self._subjects)

    # ---------------------------------------------------------------- changes
    def add(self, subject: str, draft: Draft) -> Version:
        """Return the schema's version, registering it if it is new."""
        with self._lock:
            known = self._subjects.same(subject, draft)
        return known or self._register([(subject, draft)])[0]

    def delete_version(self, subject: str, number: int | None, *, permanent: bool = False) -> int:
        """Hide or erase a version; return its number."""
        return self._change(lambda all_: rules.version_deletion(all_, subject, number, permanent=permanent))

    def delete_subject(self, subject: str, *, permanent: bool = False) -> list[int]:
        """Hide or erase a subject; return the numbers of its versions."""
        return self._change(lambda all_: rules.subject_removal(all_, subject, permanent=permanent))

    def set_level(self, subject: str | None, level: object) -> str:
        """Set the compatibility level of a subject (None: of all)."""
        valid = rules.valid_level(level)
        return self._change(lambda _all: (valid, [level_record(subject, valid)]))

    def clear_level(self, subject: str | None) -> str:
        """Take a level back; return what it was."""
        old = self.level(subject)
        return self._change(lambda _all: (old, [level_record(subject, None)]))

    def set_mode(self, subject: str | None, mode: object) -> str:
        """Set the mode of a subject (None: of all)."""
        valid = rules.valid_mode(mode)
        return self._change(lambda _all: (valid, [mode_record(subject, valid)]))

    def clear_mode(self, subject: str) -> str:
        """Take a subject's mode back; return what it was."""
        old = self.mode(subject)
        return self._change(lambda _all: (old, [mode_record(subject, None)]))

    def _register(self, drafts: Sequence[tuple[str, Draft]]) -> list[Version]:
        def all_of_them(subjects: Subjects) -> tuple[list[Version], list[Record]]:
            staged, made = subjects.copy(), []
            for subject, draft in drafts:
                one = rules.registration(staged, subject, draft)
                for record in one.records:
                    staged.apply(record)
                made.append(one)
            return [one.version for one in made], [record for one in made for record in one.records]

        return self._change(all_of_them)

    def _change(self, plan: Callable[[Subjects], tuple[T, Sequence[Record]]]) -> T:
        results: list[T] = []

        def decide() -> Sequence[Record]:
            with self._lock:
                result, records = plan(self._subjects)
            results.append(result)
            return records

        self._log.append(decide)
        return results[-1]


class _Translated:
    """Turns the server's refusals into the errors of ``schemas``."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, RegistryFailure):
            return
        kinds = {
            failures.INCOMPATIBLE: Incompatible,
            failures.INVALID_SCHEMA: InvalidSchema,
            failures.SCHEMA_NOT_FOUND: UnknownSchema,
        }
        raise kinds.get(error.code, RegistryUnavailable)(error.message) from error
