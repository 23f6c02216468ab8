"""What all followers of the log have in common."""

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.follower import Follower, FollowerSettings
from connectors.notifier.notifier import Notifier, NotifierSettings
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from tests.contract.schema_releases import catalogue


class Idle(Follower):
    """One that has nothing to do, and begins where it is told."""

    name = "idle"
    fails = "nothing is done"

    def _follow(self) -> None:
        """End at once."""

    def _begins(
        self, _consumer: Any, known: list[TopicPartition], new: list[TopicPartition]
    ) -> list[TopicPartition]:
        return [*known, *new]


class Broken(Idle):
    """One with a mistake."""

    def _follow(self) -> None:
        raise ZeroDivisionError("a mistake")


class Group:
    """A consumer: partition 0 has position 7, partition 1 has none and ends at 5; the first question gets an error."""

    def __init__(self, error: KafkaError | None = None) -> None:
        self.error = error
        self.assigned: list[tuple[int, int]] = []
        self.committed_: list[tuple[int, int]] = []

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[Any]:
        assert timeout
        error, self.error = self.error, None
        offsets = {0: 7, 1: -1001}
        found: list[Any] = [TopicPartition(one.topic, one.partition, offsets[one.partition]) for one in asked]
        return [Refused(), *found[1:]] if error else found

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout
        return [TopicPartition(one.topic, one.partition, 5) for one in asked]

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = [(one.partition, one.offset) for one in partitions]

    def commit(self, offsets: list[TopicPartition], **_: Any) -> None:
        self.committed_ = [(one.partition, one.offset) for one in offsets]


class Refused:
    """What Kafka says of a partition whose position it cannot tell."""

    offset = -1001
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


BOTH = [TopicPartition("t", 0), TopicPartition("t", 1)]


def test_a_follower_that_breaks_says_so() -> None:
    """A thread that ends in silence would be noticed by nobody."""
    broken = Broken(FollowerSettings({}, "test", "one"))
    broken.start()
    broken.stop()
    assert broken.problem == "nothing is done, until the node is started anew: ZeroDivisionError('a mistake')"


def test_a_position_that_cannot_be_told_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for one that is not there: what lies before the end would be passed over."""
    idle, group = Idle(FollowerSettings({}, "test", "one")), Group(KafkaError(KafkaError._TRANSPORT))
    seen: list[Exception] = []
    monkeypatch.setattr(idle, "_trouble", seen.append)
    idle._assigned(cast(Any, group), BOTH)
    assert [type(one) for one in seen] == [KafkaException]
    assert (group.assigned, idle.problem) == ([(0, 7), (1, 5)], None)


def test_the_notifier_keeps_its_place_where_nothing_was_told_yet() -> None:
    """Whoever takes over before the first notice would begin behind it."""
    notifier = Notifier(NotifierSettings({}, "test", "one", {}), Codec(MemoryRegistry(), catalogue()))
    group = Group()
    notifier._assigned(cast(Any, group), BOTH)
    assert (group.assigned, group.committed_) == ([(0, 7), (1, 5)], [(1, 5)])
