"""Between domain dataclasses and schema records: the single place that knows both, in both directions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MemberDescriptorType
from typing import Any

from schemas.catalogue import Catalogue
from schemas.parsing import Schema
from schemas.topics import AUDIT, Topics
from streams.domain.aggregate import Aggregate
from streams.domain.redaction import EventRedacted, RedactEvent

_PLAIN = Topics()  # subjects are named without the topic prefix
_SHARED = frozenset({RedactEvent, EventRedacted})


def fullname(aggregate: str, kind: type) -> str:
    """Return the full name of the record of a command or event."""
    return f"flexcore.{'common' if kind in _SHARED else aggregate}.{kind.__name__}"


class Untranslatable(ValueError):
    """A record lacks a field that its dataclass requires; the message names it."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The commands and events of one aggregate by record name."""

    aggregate: str
    commands: Mapping[str, type]
    events: Mapping[str, type]


def vocabulary(aggregate: Aggregate) -> Vocabulary:
    """Return the names of an aggregate's commands (its tick included) and events."""
    commands = {kind.__name__: kind for kind in aggregate.commands}
    return Vocabulary(aggregate.name, commands, {kind.__name__: kind for kind in aggregate.events})


def subjects(aggregates: Iterable[Aggregate], catalogue: Catalogue) -> list[tuple[str, Schema]]:
    """Return (subject, schema) of everything the platform writes for these aggregates, to be registered at once."""
    found: list[tuple[str, Schema]] = []
    for words in map(vocabulary, aggregates):
        for topic, kinds in ((_PLAIN.commands, words.commands), (_PLAIN.events, words.events)):
            fullnames = [fullname(words.aggregate, kind) for kind in kinds.values()]
            found += [(f"{topic(words.aggregate)}-{name}", catalogue.schema(name)) for name in fullnames]
        outcome = "flexcore.common.Outcome"
        found.append((f"{_PLAIN.outcomes(words.aggregate)}-{outcome}", catalogue.schema(outcome)))
    for name in ("flexcore.common.Checkpoint", "flexcore.common.AuditKey"):
        found.append((f"{AUDIT}-{name}", catalogue.schema(name)))
    return found


_makers: dict[type, Callable[[Mapping[str, Any]], Any]] = {}


def _maker(kind: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return what makes a dataclass from a record with all its fields, and raises ``KeyError`` for one that lacks some.

    A frozen dataclass that only keeps its fields in slots is given them directly: its own constructor takes twice as long.
    """
    found = fields(kind)
    slots = {field.name: getattr(kind, field.name, None) for field in found if field.init}
    plain = found and kind.__dataclass_params__.init and not hasattr(kind, "__post_init__")
    if (
        not plain
        or len(slots) < len(found)
        or any(type(one) is not MemberDescriptorType for one in slots.values())
    ):
        names = tuple(slots)
        return lambda record: kind(**{name: record[name] for name in names})
    lines = "".join(f"    set_{name}(made, record[{name!r}])\n" for name in slots)
    scope: dict[str, Any] = {f"set_{name}": slot.__set__ for name, slot in slots.items() if slot is not None}
    scope |= {"new": object.__new__, "kind": kind}
    text = f"def make(record):\n    made = new(kind)\n{lines}    return made\n"
    exec(compile(text, "<dataclass>", "exec"), scope)  # noqa: S102  # the text holds only the names of fields
    made: Callable[[Mapping[str, Any]], Any] = scope["make"]
    return made


def from_record(kind: type, record: Mapping[str, Any]) -> Any:
    """Return the dataclass for a decoded record of any version of its schema.

    Unknown fields (the envelope, fields of a newer writer) are dropped, missing ones take the default.

    Raises :class:`Untranslatable` naming a required field that is missing.
    """
    make = _makers.get(kind)
    if make is None:
        make = _makers[kind] = _maker(kind)
    try:
        return make(record)
    except KeyError:
        known: dict[str, Any] = {}
        for field in fields(kind):
            if field.name in record:
                known[field.name] = record[field.name]
            elif field.default is MISSING and field.default_factory is MISSING:
                raise Untranslatable(f"{kind.__name__} needs the field `{field.name}`") from None
        return kind(**known)


def to_record(body: Any) -> dict[str, Any]:
    """Return the record of a command or event: field name to value, in the order of the schema."""
    return {name: getattr(body, name) for name in body.__slots__}
