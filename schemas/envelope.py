"""The envelope of an event as bytes: the one place that encodes it, by parts that a command's events share.

An Avro record is the concatenation of its fields, so an event's value is: framing, envelope, body. The order here is the
order of ``avro/common/Envelope.avsc``; a test holds both together. Wire format: version with care.

What is put goes to the end of what a writer holds; between the parts nothing is made that is thrown away.
"""

from librt.strings import BytesWriter

from schemas.numbers import put_long, put_sized, zigzag

FIELDS = (
    "event_id", "tenant", "aggregate", "aggregate_id", "version", "sequence", "command_id", "causation_id",
    "correlation_id", "actor", "source_offset", "writer", "at", "traceparent",
)  # fmt: skip


def text(value: str) -> bytes:
    """Return an Avro string."""
    return sized(value.encode())


def sized(raw: bytes) -> bytes:
    """Return an Avro string from its UTF-8 bytes."""
    return zigzag(len(raw)) + raw


def put_optional(out: BytesWriter, raw: bytes | None) -> None:
    """Append an Avro ``["null", "string"]``."""
    if raw is None:
        out.append(0)
    else:
        out.append(2)
        put_sized(out, raw)


def put_place(out: BytesWriter, tenant: bytes, aggregate: bytes, aggregate_id: bytes) -> None:
    """Append the part that says whose event it is, fields two to four; ``aggregate`` is an Avro string already."""
    put_sized(out, tenant)
    out.write(aggregate)
    put_sized(out, aggregate_id)


def put_origin(
    out: BytesWriter,
    ids: tuple[bytes, bytes, bytes],
    actor: bytes,
    source_offset: int,
    writer: bytes,
    at: bytes,
    traceparent: bytes | None,
) -> None:
    """Append the part that says where it comes from: all fields from the seventh on. ``ids`` are those of command, causation
    and correlation. ``writer`` and ``at`` are Avro values already.
    """
    command_id, causation_id, correlation_id = ids
    put_sized(out, command_id)
    put_sized(out, causation_id)
    put_sized(out, correlation_id)
    put_sized(out, actor)
    put_long(out, source_offset)
    out.write(writer)
    out.write(at)
    put_optional(out, traceparent)


def put_envelope(
    out: BytesWriter, event_id: bytes, whose: bytes, version: int, sequence: int, whence: bytes
) -> None:
    """Append the envelope; ``event_id`` is its text, ``whose`` is of :func:`put_place`, ``whence`` of :func:`put_origin`."""
    put_sized(out, event_id)
    out.write(whose)
    put_long(out, version)
    put_long(out, sequence)
    out.write(whence)
