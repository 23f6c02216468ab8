"""The topics of offers: one for each set of labels, made when the first step asks for it."""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.failures import TopicRefused
from streams.settings import WorkerSettings
from streams.topics import task_topic

_TIMEOUT_S = 10.0
_REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
}


class TaskTopics:
    """Makes what is missing. ``offered`` are the topics of all offers so far; it grows while they are encoded."""

    def __init__(self, settings: WorkerSettings, offered: set[str]) -> None:
        self._settings = settings
        self._offered = offered
        self._there: set[str] = set()

    @property
    def missing(self) -> set[str]:
        """The topics that may not be there."""
        return self._offered - self._there

    def make(self) -> None:
        """Make them. Blocks for 10 s at most. Raises ``KafkaException`` when it is worth another try, and
        :class:`TopicRefused` when it is not.
        """
        settings = self._settings
        specs = [task_topic(name, settings.shards) for name in sorted(self.missing)]
        admin = AdminClient({**settings.kafka, "enable.sparse.connections": "false", "log_level": 3})
        topics = [
            NewTopic(one.name, one.partitions, settings.replication, config=one.config) for one in specs
        ]
        made = admin.create_topics(topics, operation_timeout=_TIMEOUT_S, request_timeout=_TIMEOUT_S)
        for name, future in made.items():
            try:
                future.result(_TIMEOUT_S)
            except KafkaException as error:
                code = error.args[0].code()
                if code in _REFUSALS:
                    self._offered.discard(name)
                    raise TopicRefused(f"topic {name} cannot be made: {error.args[0].str()}") from error
                if code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            self._there.add(name)

    def forget(self) -> None:
        """Ask again before the next offer: somebody may have deleted a topic."""
        self._there.clear()
