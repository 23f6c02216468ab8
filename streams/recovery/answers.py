"""Answers to commands, read back from the outcomes that were written."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.codec import Codec
from streams.protocol.record import Record
from streams.shards.saved import Chunk, Remembered


def remember(index: dict[bytes, Remembered], body: Mapping[str, Any], value: bytes) -> None:
    """Put an outcome into an index of command ids, unless it is one that is told and not kept."""
    if body["stored"]:
        key = f"{body['tenant']}/{body['aggregate_id']}{body['command_id']}".encode()
        index[key] = Remembered(body["body_hash"], body["sequence"], value)


class Recall:
    """Picks the answers of one chunk out of the outcomes that stand from its offset on."""

    def __init__(self, chunk: Chunk, codec: Codec) -> None:
        self._chunk = chunk
        self._codec = codec
        self._at = 0
        self.found: dict[bytes, Remembered] = {}

    @property
    def missing(self) -> bool:
        """Tell whether more is to come."""
        return self._at < self._chunk.last

    def outcomes(self, records: Sequence[Record]) -> None:
        """Take records, in order."""
        chunk = self._chunk
        for record in records:
            value = record.value or b""
            body = self._codec.decode(value)[1]
            self._at = max(self._at, body["sequence"])
            if chunk.first <= body["sequence"] <= chunk.last:
                remember(self.found, body, value)
