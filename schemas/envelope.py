"""The envelope of an event as bytes: the one place that encodes it, by parts that a command's events share.

An Avro record is the concatenation of its fields, so an event's value is: framing, envelope, body. The order here is the
order of ``avro/common/Envelope.avsc``; a test holds both together. Wire format: version with care.
"""

from schemas.numbers import zigzag

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


def optional(value: str | None) -> bytes:
    """Return an Avro ``["null", "string"]``."""
    return b"\0" if value is None else b"\2" + text(value)


def place(tenant: bytes, aggregate: bytes, aggregate_id: bytes) -> bytes:
    """Return the part that says whose event it is, fields two to four; ``aggregate`` is an Avro string already."""
    return b"".join((zigzag(len(tenant)), tenant, aggregate, zigzag(len(aggregate_id)), aggregate_id))


def origin(
    command_id: bytes,
    causation_id: bytes,
    correlation_id: bytes,
    actor: bytes,
    source_offset: int,
    writer: bytes,
    at: bytes,
    traceparent: bytes | None,
) -> bytes:
    """Return the part that says where it comes from: all fields from the seventh on. Bytes are Avro values already,
    except ``causation_id`` and ``traceparent``.
    """
    return b"".join(
        (
            command_id,
            zigzag(len(causation_id)),
            causation_id,
            correlation_id,
            actor,
            zigzag(source_offset),
            writer,
            at,
            b"\0" if traceparent is None else b"\2" + sized(traceparent),
        )
    )


def envelope(event_id: bytes, whose: bytes, version: int, sequence: int, whence: bytes) -> bytes:
    """Return the envelope; ``event_id`` is its text, ``whose`` is from :func:`place`, ``whence`` from :func:`origin`."""
    return b"".join((zigzag(len(event_id)), event_id, whose, zigzag(version), zigzag(sequence), whence))
