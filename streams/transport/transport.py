"""What Faust is given instead of aiokafka: transport, producer, schema and monitor of the batch path."""

from typing import Any

import faust
from faust.sensors import Monitor
from faust.tables.manager import TableManager
from faust.transport import base
from faust.transport.producer import Producer as FaustProducer

from streams.transport.consumer import BatchConsumer


class NoProducer(FaustProducer):
    """Faust wants a producer to exist; nothing is sent through it."""


class LibrdkafkaTransport(base.Transport):
    """A Faust transport whose consumer is :class:`BatchConsumer`."""

    Consumer = BatchConsumer
    Producer = NoProducer
    driver_version = "librdkafka"


class QuietMonitor(Monitor):
    """Counts nothing per message: the engine counts per batch."""

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    on_message_in = on_message_out = on_stream_event_in = on_stream_event_out = _nothing
    on_topic_buffer_full = track_tp_end_offset = _nothing


class NoTables(TableManager):
    """Starts at once: there are no Faust tables, and the stock manager sleeps a second before it subscribes."""

    async def on_start(self) -> None:
        """Let the conductor subscribe."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def wait_until_recovery_completed(self) -> bool:
        """Return False, which to Faust means: not stopped meanwhile, go on."""
        return False

    async def on_stop(self) -> None:
        """Do nothing: nothing was started."""


class PassThrough(faust.Schema[Any, Any]):
    """Hands batches to agents as they are: decoding is the engine's, so a bad record cannot stop the stream."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """Return the key unchanged."""
        return message.key

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """Return the batch unchanged."""
        return message.value
