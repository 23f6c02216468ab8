"""Moving only what changed: records are compared with what the dataset holds already."""

from collections.abc import Mapping
from typing import Any

import orjson

from connectors.runners.bookmark import Place
from connectors.runners.reader import DatasetReader, Upstream
from connectors.runners.topic import DatasetTopics
from connectors.runners.writer import DatasetWriter

_READ_OFFSETS = 10_000
_TECHNICAL = "_sdc_"


class Changes:
    """Remembers one 64-bit hash for each primary key of the generation, about 150 bytes of memory a key.

    The dataset itself is the store, so what is known is exactly what was committed; records older than the dataset's
    retention are unknown and move again. Fields whose names begin with ``_sdc_`` are about the reading, not about the
    record, and are not compared. Rows that disappear from the source are not noticed.
    """

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    @staticmethod
    def known(place: Place, writer: DatasetWriter) -> "Changes":
        """Read what the generation of ``writer`` holds now. Blocks for about 4 s a million records."""
        changes = Changes()
        topics = DatasetTopics(place.kafka, place.client_id)
        begun, facts = writer.begun, writer.facts
        held = Upstream(facts.name, facts.topic_id, begun.generation, begun.starts, topics.ends(facts), {})
        for batch in DatasetReader(place, held, topics.lows(facts)).batches(_READ_OFFSETS):
            for record in batch.records:
                changes.is_new(record.key, orjson.loads(record.value))
        return changes

    def is_new(self, key: bytes, data: Mapping[str, Any]) -> bool:
        """Tell whether the record differs from the last one of this key; from now on it is the last one."""
        told = {name: value for name, value in data.items() if not name.startswith(_TECHNICAL)}
        digest = hash(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
        if self._hashes.get(key) == digest:
            return False
        self._hashes[key] = digest
        return True
