"""Records to bytes and back, in Confluent's wire format: 0, the schema id (4 bytes, big-endian), the Avro body."""

import struct
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError
from fastavro.validation import ValidationError, validate
from librt.strings import BytesWriter

from schemas import compiled
from schemas.catalogue import Catalogue
from schemas.errors import Undecodable, Unencodable, UnknownSchema
from schemas.parsing import Schema, bare, canonical, full_name, parse, wordless
from schemas.registry import SchemaRegistry

Encoder = Callable[[dict[str, Any]], bytes]
Decoder = Callable[[bytes], dict[str, Any]]

HEADER_BYTES: Final = 5
_MALFORMED: Final = (
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    SchemaResolutionError,
)
_MISFIT = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    ValidationError,
    struct.error,
)
_ASK_AGAIN_S: Final = 2.0
_UNKNOWN_MAX: Final = 4096


def header(schema_id: int) -> bytes:
    """Return the five bytes that come before every Avro body."""
    return b"\0" + schema_id.to_bytes(4, "big")


class Codec:
    """Encodes and decodes by schemas of a registry. Thread-safe.

    The registry is asked once for each subject and each schema id (which never change), then never again.
    With a ``catalogue``, a record whose name it knows is read as today's schema there, whatever version wrote it:
    fields added since take their defaults, fields of a newer writer are dropped. Who folds a long log names in
    ``without`` the fields it does not look at, by full name of the record: they may be missing from what is decoded.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        catalogue: Catalogue | None = None,
        without: compiled.Without = compiled.EVERYTHING,
    ) -> None:
        self.registry = registry
        self._catalogue = catalogue
        self._without = without
        self._encoders: dict[tuple[str, str], Encoder] = {}
        self._decoders: dict[bytes, tuple[str, Decoder]] = {}
        self._resolving: dict[tuple[bytes, int], tuple[str, Decoder, Schema]] = {}
        self._unknown: dict[bytes, float] = {}

    def encoder(self, subject: str, schema: Schema) -> Encoder:
        """Return the function that encodes records of ``schema``; the first call for a subject registers it (blocks).

        The function raises :class:`Unencodable` for a record that does not fit. Fields with a default may be missing.

        Raises ``Incompatible``, ``InvalidSchema`` or ``RegistryUnavailable`` as the registry does.
        """
        parsed = parse(schema)
        key = (subject, canonical(parsed))
        encoder = self._encoders.get(key)
        if encoder is None:
            schema_id = self.registry.register(subject, parsed)
            encoder = self._encoders[key] = _encoder(header(schema_id), parsed)
        return encoder

    def event_encoder(self, subject: str, schema: Schema) -> tuple[bytes, compiled.EncodeEvent]:
        """Return what stands before an event's envelope, and the function that appends what stands behind it: an object's
        attributes as the record's other fields.

        The record's first field must be the envelope. Otherwise as :meth:`encoder`.
        """
        parsed = parse(schema)
        prefix = header(self.registry.register(subject, parsed))
        fields = bare(parsed)["fields"][1:]
        general = _encoder(b"", parse({**bare(parsed), "fields": fields}))
        fast = compiled.event_encoder(parsed)

        def encode(out: BytesWriter, event: Any) -> None:
            begun = len(out)
            try:
                if fast is not None:
                    fast(out, event)
                    return
            except Exception:  # noqa: BLE001  # whatever it was, the general way names the field
                out.truncate(begun)
            out.write(general({field["name"]: getattr(event, field["name"]) for field in fields}))

        return prefix, encode

    def decode(self, data: bytes, reader: Schema | None = None) -> tuple[str, dict[str, Any]]:
        """Return the full name of the writer's record and the record, as ``reader`` (a parsed schema) if given.

        Raises :class:`Undecodable` for bytes that are no record of their schema, :class:`UnknownSchema` for an id
        that the registry does not have (asked again after 2 s), ``RegistryUnavailable`` when it cannot say.
        """
        key = data[:HEADER_BYTES]
        try:
            if reader is None:
                name, decoder = self._decoders[key]
            else:
                name, decoder, _kept_alive = self._resolving[key, id(reader)]
        except KeyError:
            name, decoder = self._found(key, reader)
        try:
            return name, decoder(data)
        except _MALFORMED as error:
            raise Undecodable(f"no {name}: {type(error).__name__}: {error}") from error

    def changed(self, data: bytes, values: Mapping[str, Any]) -> bytes:
        """Return a record with other values in some fields, under the schema it was written with.

        ``data`` must be a record that can be decoded. Fields that this schema does not have are passed over. Raises
        :class:`Unencodable` for a value that does not fit.
        """
        schema_id = int.from_bytes(data[1:HEADER_BYTES], "big")
        writer = parse(self.registry.schema(schema_id))
        record = _decoder(writer, None)(data)
        known = {name: value for name, value in values.items() if name in record}
        return _encoder(data[:HEADER_BYTES], writer)({**record, **known})

    def _found(self, key: bytes, reader: Schema | None) -> tuple[str, Decoder]:
        if len(key) < HEADER_BYTES or key[0]:
            raise Undecodable(
                "the value is not in Confluent framing: a 0, four bytes of schema id, the record"
            )
        schema_id = int.from_bytes(key[1:], "big")
        now = time.monotonic()
        if now - self._unknown.get(key, -_ASK_AGAIN_S) < _ASK_AGAIN_S:
            raise UnknownSchema(f"The registry has no schema {schema_id}")
        try:
            writer = parse(self.registry.schema(schema_id))
        except UnknownSchema:
            # Poison often comes in floods: one question for all of them.
            if len(self._unknown) >= _UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[key] = now
            raise
        name = full_name(writer)
        if reader is not None:
            decoder = _decoder(writer, parse(reader))
            self._resolving[key, id(reader)] = (name, decoder, reader)
            return name, decoder
        decoder = _decoder(writer, self._todays(name), self._without)
        self._decoders[key] = (name, decoder)
        return name, decoder

    def _todays(self, name: str) -> Schema | None:
        if self._catalogue is None:
            return None
        try:
            return self._catalogue.schema(name)
        except UnknownSchema:
            return None


def _encoder(prefix: bytes, schema: Schema) -> Encoder:
    # Any: compiled, what is no dict would be refused before it is found not to fit.
    def general(record: Any) -> bytes:
        stream = BytesIO()
        stream.write(prefix)
        try:
            # Alone, schemaless_writer would write 1.5 as the long 1, and anything as a null.
            validate(record, schema)
            schemaless_writer(stream, schema, record)
        except _MISFIT as error:
            raise Unencodable(f"no {full_name(schema)}: {error}") from error
        return stream.getvalue()

    fast = compiled.encoder(schema, prefix)
    if fast is None:
        return general

    def encode(record: Any) -> bytes:
        try:
            return fast(record)
        except Exception:  # noqa: BLE001  # whatever it was, the general way fills in defaults or names the field
            return general(record)

    return encode


def _refusal(reason: str) -> Decoder:
    def refuse(_data: bytes) -> dict[str, Any]:
        raise ValueError(reason)

    return refuse


def _decoder(
    writer: Schema, reader: Schema | None, without: compiled.Without = compiled.EVERYTHING
) -> Decoder:
    if compiled.is_recursive(writer):
        return _refusal("it contains itself, and data of any depth is not read here")
    if compiled.repeats_nothing(writer):
        return _refusal("it has an array whose items take no bytes, and data of any length is not read here")
    same = reader is None or canonical(wordless(reader)) == canonical(wordless(writer))
    resolve = None if same else reader
    if resolve is None and (fast := compiled.decoder(writer, HEADER_BYTES, without)) is not None:
        return fast

    def decode(data: bytes) -> dict[str, Any]:
        stream = BytesIO(data)
        stream.seek(HEADER_BYTES)
        record: Any = schemaless_reader(stream, writer, resolve)
        if stream.tell() != len(data):
            raise ValueError(f"the record ends at byte {stream.tell()} of {len(data)}")
        return record  # type: ignore[no-any-return]  # schemaless_reader types every Avro value

    return decode
