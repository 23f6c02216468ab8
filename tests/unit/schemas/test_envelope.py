"""The envelope's bytes are those of the general codec."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from schemas import envelope, outcome
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.numbers import zigzag
from schemas.registry import MemoryRegistry

_CATALOGUE = Catalogue.load()
_LONG = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(max_size=300)


def _place(whose: tuple[str, str, str]) -> bytes:
    tenant, aggregate, aggregate_id = whose
    return _put(envelope.put_place, tenant.encode(), envelope.text(aggregate), aggregate_id.encode())


def _put(put: Callable[..., None], *values: Any) -> bytes:
    out = BytesWriter()
    put(out, *values)
    return out.getvalue()


def test_the_fields_are_those_of_the_schema() -> None:
    """The order in code is the order of the committed schema."""
    fields = _CATALOGUE.schema("flexcore.common.Envelope")["fields"]
    assert tuple(field["name"] for field in fields) == envelope.FIELDS


@given(
    st.uuids(), st.tuples(_TEXT, _TEXT, _TEXT), st.tuples(_LONG, _LONG), st.tuples(_TEXT, _TEXT, _TEXT, _TEXT),
    _LONG, _TEXT, _LONG, st.none() | _TEXT,
)  # fmt: skip
def test_an_event_by_parts_is_the_event_as_a_whole(
    event_id: Any, whose: Any, numbers: Any, causes: Any, offset: int, writer: str, at: int, trace: str | None
) -> None:
    """Whatever is in it, the parts put together are what the codec writes for the whole record."""
    codec = Codec(MemoryRegistry(), _CATALOGUE)
    schema = _CATALOGUE.schema("flexcore.pipeline.PipelinePaused")
    version, sequence = numbers
    command_id, causation_id, correlation_id, actor = causes
    ids = (command_id.encode(), causation_id.encode(), correlation_id.encode())
    traced = None if trace is None else trace.encode()
    whence = _put(envelope.put_origin, ids, actor.encode(), offset, envelope.text(writer), zigzag(at), traced)
    parts = _put(envelope.put_envelope, str(event_id).encode(), _place(whose), version, sequence, whence)
    values = (str(event_id), *whose, *numbers, *causes, offset, writer, at, trace)
    body = {"at": 5, "reason": None}
    whole = {"envelope": dict(zip(envelope.FIELDS, values, strict=True)), **body}

    framed, encode = codec.event_encoder("s", schema)
    assert framed + parts + _put(encode, SimpleNamespace(**body)) == codec.encoder("s", schema)(whole)


@given(
    st.tuples(_TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT), st.tuples(st.none() | _TEXT, st.none() | _TEXT, st.none() | _TEXT),
    st.tuples(_LONG, _LONG, st.integers(0, 2**31 - 1), _LONG, _LONG), st.tuples(_TEXT, _TEXT, _TEXT), _LONG, st.booleans(),
)  # fmt: skip
def test_an_outcome_by_parts_is_the_outcome_as_a_whole(
    names: Any, maybe: Any, numbers: Any, ends: Any, at: int, stored: bool
) -> None:
    """As for events; and the fields are those of the schema, in order."""
    schema = _CATALOGUE.schema("flexcore.common.Outcome")
    assert tuple(field["name"] for field in schema["fields"]) == outcome.FIELDS
    command_id, kind, *whose, status = names
    reason, detail, reply = maybe
    body_hash, actor, correlation_id = ends
    who_and_when = envelope.text(actor) + envelope.text(correlation_id) + zigzag(at)
    values = (*names, reason, detail, *numbers, *ends, at, stored, reply)
    answer = outcome.Answer(status, reason, detail, reply, stored)
    parts = _put(
        outcome.put_outcome,
        command_id.encode(),
        envelope.text(kind),
        _place(whose),
        answer,
        numbers,
        body_hash,
        who_and_when,
    )

    codec = Codec(MemoryRegistry(), _CATALOGUE)
    assert codec.encoder("s", schema)(dict(zip(outcome.FIELDS, values, strict=True)))[5:] == parts
