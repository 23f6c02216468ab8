"""Start-up holds the topics' settings: a wrong one refuses to start, and says how to mend it."""

from pathlib import Path

import pytest

from streams.failures import WrongTopic
from streams.provision import provision
from streams.settings import WorkerSettings
from tests.performance.account import AGGREGATE
from tests.support.services import KafkaService
from tests.support.topic_settings import set_config


@pytest.mark.parametrize(
    ("topic", "key", "wrong", "right"),
    [
        ("account.events", "cleanup.policy", "delete", "compact"),
        ("account.events", "min.compaction.lag.ms", "0", "86400000"),
        ("account.outcomes", "retention.ms", "604800000", "-1"),
        ("account.commands", "retention.ms", "-1", "1000"),
        ("audit", "cleanup.policy", "compact,delete", "compact"),
    ],
)
def test_a_topic_that_would_lose_what_is_promised_refuses_to_start(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, topic: str, key: str, wrong: str, right: str
) -> None:
    """The message names topic, setting and remedy; more than is promised is fine."""
    settings = WorkerSettings(
        {"bootstrap.servers": kafka.bootstrap}, topic_prefix, "a", tmp_path, prefix=topic_prefix, shards=1
    )
    provision(settings, [AGGREGATE])
    set_config(kafka.bootstrap, f"{topic_prefix}.{topic}", {key: wrong})
    with pytest.raises(WrongTopic, match=rf"{topic} has {key}={wrong}.*kafka-configs --alter --topic"):
        provision(settings, [AGGREGATE])
    set_config(kafka.bootstrap, f"{topic_prefix}.{topic}", {key: right})
    provision(settings, [AGGREGATE])
