"""The envelope's bytes are those of the general codec."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas import envelope
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.registry import MemoryRegistry

_CATALOGUE = Catalogue.load()
_LONG = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(max_size=300)


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
    whence = envelope.origin(command_id, causation_id, correlation_id, actor, offset, writer, at, trace)
    parts = envelope.envelope(str(event_id).encode(), envelope.place(*whose), version, sequence, whence)
    values = (str(event_id), *whose, *numbers, *causes, offset, writer, at, trace)
    body = {"at": 5, "reason": None}
    whole = {"envelope": dict(zip(envelope.FIELDS, values, strict=True)), **body}

    assert codec.event_encoder("s", schema)(parts, body) == codec.encoder("s", schema)(whole)
