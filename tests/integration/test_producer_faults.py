"""A transaction whose brokers die is committed all the same, once, and read to its end by who reads on meanwhile."""

import time
from collections.abc import Iterator

from confluent_kafka.cimpl import NewTopic

from streams.protocol.fetcher import Fetcher
from streams.protocol.security import Security
from tests.support.services import LocalKafka
from tests.support.transactions import stage_of


def test_a_transaction_survives_the_death_of_a_leader(kafka3: LocalKafka) -> None:
    """Given a leader dies within a transaction, then it is committed, as the next ones are, and all of it is there once."""
    replicas = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
    stage = stage_of(kafka3.bootstrap, lambda topic: NewTopic(topic, 3, replica_assignment=replicas))
    written: list[bytes] = []
    fetcher = Fetcher(kafka3.bootstrap, Security(), "a-reader")
    fetcher.at = {(stage.topic, partition): 0 for partition in range(3)}
    read = list(_values(fetcher))
    try:
        for number in range(3):
            stage.begin()
            for half in ("a", "b"):
                values = [b"%d%s%d" % (number, half.encode(), partition) for partition in range(3)]
                for partition, value in enumerate(values):
                    stage.write(value, partition=partition)
                stage.producer.flush()
                written += values
                if (number, half) == (0, "a"):
                    kafka3.kill(0)
            stage.producer.commit_transaction()
            read += _values(fetcher)
        deadline = time.monotonic() + 30
        while len(read) < len(written) and time.monotonic() < deadline:
            read += _values(fetcher)
    finally:
        kafka3.restart(0)
    assert sorted(stage.committed(len(written))) == sorted(written)
    assert sorted(read) == sorted(written)
    fetcher.close()
    stage.producer.close()


def _values(fetcher: Fetcher) -> Iterator[bytes]:
    for one in fetcher.read(0.2, 0.1):
        yield from (record.value or b"" for record in one.records)
