"""Where Kafka partitions begin and end, and what stands in them at a time."""

import contextlib
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

_LOOK_S = 0.1

__all__ = ["OFFSET_BEGINNING", "OFFSET_END", "offsets", "offsets_at"]


def offsets(
    consumer: Consumer, partitions: Iterable[tuple[str, int]], which: int, timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the first offset (``OFFSET_BEGINNING``) or the end (``OFFSET_END``) of each partition.

    The end is the last stable offset for a read_committed consumer, else the high watermark. Blocking, errors and threads
    as in :func:`offsets_at`.
    """
    # Not the admin client's list_offsets: it ends the process when metadata comes at the wrong moment (librdkafka 2.16,
    # rd_kafka_topic_partition_list_query_leaders_async_worker). ListOffsets' two special times ask for the same.
    return offsets_at(consumer, dict.fromkeys(partitions, which), timeout_s)


def offsets_at(
    consumer: Consumer, times_ms: Mapping[tuple[str, int], int], timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the offset of the first record of each partition that is not older than the time; -1 where there is none.

    Blocks up to ``timeout_s``, is safe from several threads, and raises ``KafkaException`` for the first partition that
    Kafka tells nothing of. Whoever asks again then finds what has changed meanwhile.
    """
    asked = [TopicPartition(*place, time_ms) for place, time_ms in times_ms.items()]
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    try:
        found = consumer.offsets_for_times(asked, timeout=timeout_s)
        failed = next((KafkaException(entry.error) for entry in found if entry.error is not None), None)
    except KafkaException as error:
        failed = error
    if failed is not None:
        # librdkafka asks whoever led when it last looked, and nobody at all if nobody led then. By itself it looks again
        # after seconds, or minutes.
        with contextlib.suppress(KafkaException):
            consumer.list_topics(timeout=max(_LOOK_S, deadline - time.monotonic()))
        raise failed
    return {(entry.topic, entry.partition): entry.offset for entry in found}
