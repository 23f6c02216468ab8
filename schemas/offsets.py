"""Where Kafka partitions begin and end."""

import time
from collections.abc import Iterable

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

_LOOK_S = 0.1

__all__ = ["OFFSET_BEGINNING", "OFFSET_END", "offsets"]


def offsets(
    consumer: Consumer, partitions: Iterable[tuple[str, int]], which: int, timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the first offset (``OFFSET_BEGINNING``) or the end (``OFFSET_END``) of each partition.

    The end is the last stable offset for a read_committed consumer, else the high watermark. Blocks up to ``timeout_s``,
    is safe from several threads, and raises ``KafkaException`` for the first partition that Kafka tells nothing of.
    """
    # Not the admin client's list_offsets: it ends the process when metadata comes at the wrong moment (librdkafka 2.16,
    # rd_kafka_topic_partition_list_query_leaders_async_worker). ListOffsets' two special times ask for the same.
    asked = [TopicPartition(topic, partition, which) for topic, partition in partitions]
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    found = consumer.offsets_for_times(asked, timeout=timeout_s)
    for entry in found:
        if entry.error is not None:
            # Otherwise the next call would ask by what is known of the leader now, for a minute and longer.
            consumer.list_topics(entry.topic, timeout=max(_LOOK_S, deadline - time.monotonic()))
            raise KafkaException(entry.error)
    return {(entry.topic, entry.partition): entry.offset for entry in found}
