"""What may be written: each function returns the records for a change, or raises the refusal. No Kafka here."""

from dataclasses import dataclass

from app.registry import failures
from app.registry.failures import RegistryFailure
from app.registry.records import (
    AVRO,
    Draft,
    Record,
    Version,
    erasure,
    soft_deletion,
    subject_deletion,
    subject_erasure,
    version_record,
)
from app.registry.subjects import Subjects
from schemas.compatibility import Mode, broken

MODES = ("READWRITE", "READONLY", "READONLY_OVERRIDE")


@dataclass(frozen=True, slots=True)
class Registration:
    """The version a schema has, and the record to write if it is new."""

    version: Version
    records: tuple[Record, ...] = ()


def registration(subjects: Subjects, subject: str, draft: Draft) -> Registration:
    """Find the schema under its subject, or make the next version of it.

    The id is that of the same schema under any subject, or else the next one. Refused: an invalid schema, an
    incompatible one, a subject in a read-only mode.
    """
    if known := subjects.same(subject, draft):
        return Registration(known)
    writable(subjects, subject)
    if problems := incompatibilities(
        subjects, subject, draft, list(subjects.versions(subject, deleted=False))
    ):
        level = subjects.level_for(subject)
        raise RegistryFailure(
            failures.INCOMPATIBLE,
            f"Schema being registered is incompatible with an earlier schema for subject {subject!r} ({level}): "
            + "; ".join(problems),
        )
    numbers = [version.number for version in subjects.versions(subject)]
    version = Version(
        subject, max(numbers, default=0) + 1, subjects.id_of(draft) or subjects.highest_id + 1, draft
    )
    return Registration(version, (version_record(version),))


def incompatibilities(subjects: Subjects, subject: str, draft: Draft, earlier: list[Version]) -> list[str]:
    """Return what the subject's level forbids about the schema after ``earlier`` (oldest first)."""
    mode = Mode(subjects.level_for(subject))
    if mode is Mode.NONE or not earlier:
        subjects.identity(draft)
        return []
    compared = earlier if mode.transitive else earlier[-1:]
    if draft.kind != AVRO or any(version.draft.kind != AVRO for version in compared):
        identity = subjects.identity(draft)
        if all(subjects.identity(version.draft, strict=False) == identity for version in compared):
            return []
        fix = f"set the compatibility of {subject} to NONE if you know the change to be safe"
        return [f"changes of {draft.kind} schemas cannot be checked here: {fix}"]
    new = subjects.parsed(draft)
    return [str(one) for one in broken(new, [subjects.parsed(version.draft) for version in compared], mode)]


def writable(subjects: Subjects, subject: str) -> None:
    """Refuse a change of a subject in a read-only mode."""
    mode = subjects.mode_for(subject)
    if mode != "READWRITE":
        raise RegistryFailure(failures.NOT_PERMITTED, f"Subject {subject} is in {mode} mode")


def existing(subjects: Subjects, subject: str, number: int | None, *, deleted: bool = False) -> Version:
    """Return a version (None: the newest). Refused when subject or version are not there, or hidden."""
    versions = list(subjects.versions(subject, deleted=deleted))
    if not versions:
        raise RegistryFailure(failures.SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
    found = versions[-1] if number is None else next((one for one in versions if one.number == number), None)
    if found is None:
        raise RegistryFailure(failures.VERSION_NOT_FOUND, f"Version {number} not found.")
    return found


def version_deletion(
    subjects: Subjects, subject: str, number: int | None, *, permanent: bool
) -> tuple[int, list[Record]]:
    """Hide a version, or, once hidden, erase it. Returns its number. Refused while others refer to it."""
    writable(subjects, subject)
    version = existing(subjects, subject, number, deleted=number is not None)
    _unreferenced(subjects, [version], permanent=permanent)
    if not permanent:
        if version.deleted:
            raise RegistryFailure(
                failures.VERSION_SOFT_DELETED,
                f"Subject '{subject}' Version {version.number} was soft deleted. Set permanent=true to delete permanently",
            )
        return version.number, [soft_deletion(version)]
    if not version.deleted:
        raise RegistryFailure(
            failures.VERSION_NOT_SOFT_DELETED,
            f"Subject '{subject}' Version {version.number} was not deleted first before being permanently deleted",
        )
    return version.number, [erasure(subject, version.number, subjects.highest_id)]


def subject_removal(subjects: Subjects, subject: str, *, permanent: bool) -> tuple[list[int], list[Record]]:
    """Hide all versions of a subject, or, once hidden, erase them. Returns their numbers."""
    writable(subjects, subject)
    versions = list(subjects.versions(subject))
    if not versions:
        raise RegistryFailure(failures.SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
    shown = [version for version in versions if not version.deleted]
    _unreferenced(subjects, versions if permanent else shown, permanent=permanent)
    if not permanent:
        if not shown:
            raise RegistryFailure(
                failures.SUBJECT_SOFT_DELETED,
                f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently",
            )
        return [version.number for version in shown], [subject_deletion(subject, versions[-1].number)]
    if shown:
        raise RegistryFailure(
            failures.SUBJECT_NOT_SOFT_DELETED,
            f"Subject '{subject}' was not deleted first before being permanently deleted",
        )
    records = [erasure(subject, version.number, subjects.highest_id) for version in versions]
    return [version.number for version in versions], [*records, *subject_erasure(subject)]


def _unreferenced(subjects: Subjects, versions: list[Version], *, permanent: bool) -> None:
    for version in versions:
        for other in subjects.referring_to(version.subject, version.number, deleted=permanent):
            if other.subject != version.subject:
                raise RegistryFailure(
                    failures.REFERENCE_EXISTS,
                    f"One or more references exist to version {version.number} of {version.subject}:"
                    f" version {other.number} of {other.subject}; delete that first",
                )


def valid_level(level: object) -> str:
    """Return the compatibility level in upper case. Refused when it is none."""
    if isinstance(level, str) and level.upper() in Mode.__members__:
        return level.upper()
    raise RegistryFailure(
        failures.INVALID_LEVEL,
        f"Invalid compatibility level {level!r}. Valid values are {', '.join(Mode.__members__)}",
    )


def valid_mode(mode: object) -> str:
    """Return the mode in upper case. Refused when it is none."""
    if isinstance(mode, str) and mode.upper() in MODES:
        return mode.upper()
    raise RegistryFailure(
        failures.INVALID_MODE, f"Invalid mode {mode!r}. Valid values are {', '.join(MODES)}"
    )
