"""A transaction whose brokers die is committed all the same, once."""

from confluent_kafka.cimpl import NewTopic

from tests.support.services import LocalKafka
from tests.support.transactions import stage_of


def test_a_transaction_survives_the_death_of_a_leader(kafka3: LocalKafka) -> None:
    """Given a leader dies within a transaction, then it is committed, as the next ones are, and all of it is there once."""
    replicas = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
    stage = stage_of(kafka3.bootstrap, lambda topic: NewTopic(topic, 3, replica_assignment=replicas))
    written: list[bytes] = []
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
    finally:
        kafka3.restart(0)
    assert sorted(stage.committed(len(written))) == sorted(written)
    stage.producer.close()
