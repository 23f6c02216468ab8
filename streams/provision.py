"""Make the topics, and refuse to start on topics that are not what they must be."""

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from schemas.topics import MANIFEST, Topics
from streams.domain.aggregate import Aggregate
from streams.domain.labels import ANY
from streams.failures import WrongTopic
from streams.manifest import Manifest
from streams.settings import WorkerSettings
from streams.topics import TopicSpec, platform_topics


def provision(settings: WorkerSettings, aggregates: Sequence[Aggregate], timeout_s: float = 60.0) -> None:
    """Create the platform's topics that are missing, then check all of them. Blocking; safe from several nodes at once.

    Raises :class:`WrongTopic` when a topic has another partition count or policy than it must have, or is not the
    one the manifest remembers, and ``KafkaException`` when the broker cannot be reached in time.
    """
    names = [aggregate.name for aggregate in aggregates]
    topics = Topics(settings.prefix)
    specs = platform_topics(topics, names, sorted({ANY, *settings.labels}), settings.shards)
    admin = AdminClient({**settings.kafka, "enable.sparse.connections": "false", "log_level": 3})
    known = admin.list_topics(timeout=timeout_s).topics
    missing = [
        NewTopic(spec.name, spec.partitions, settings.replication, config=spec.config)
        for spec in specs
        if spec.name not in known
    ]
    if missing:
        for name, future in admin.create_topics(missing, operation_timeout=timeout_s).items():
            _created(name, future, timeout_s)
    _known(admin, specs, timeout_s)
    Manifest(settings.kafka, topics.named(MANIFEST)).agree(_identities(admin, specs, timeout_s))


def _known(admin: AdminClient, specs: Sequence[TopicSpec], timeout_s: float) -> None:
    """Check the topics. A broker may not know a topic yet that was made a moment ago: asked again in that case."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _check(admin, specs, timeout_s)
            _identities(admin, specs, timeout_s)
            return
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _identities(admin: AdminClient, specs: Sequence[TopicSpec], timeout_s: float) -> dict[str, str]:
    """Return topic name to topic id, for the topics that hold the truth."""
    names = [spec.name for spec in specs if spec.name.endswith((".events", ".outcomes", ".commands"))]
    described = admin.describe_topics(TopicCollection(names), request_timeout=timeout_s)
    return {name: str(future.result(timeout_s).topic_id) for name, future in described.items()}


def _created(name: str, future: Any, timeout_s: float) -> None:
    try:
        future.result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise WrongTopic(f"Topic {name} could not be created: {error.args[0].str()}") from error


def _check(admin: AdminClient, specs: Sequence[TopicSpec], timeout_s: float) -> None:
    known = admin.list_topics(timeout=timeout_s).topics
    wrong = [
        f"{spec.name} has {len(known[spec.name].partitions)} partitions, not {spec.partitions}: set FLEXCORE_SHARDS"
        " to what the topics have (it cannot change later), or use another FLEXCORE_TOPIC_PREFIX"
        for spec in specs
        if spec.name in known and len(known[spec.name].partitions) != spec.partitions
    ]
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    asserted = {spec.name: spec for spec in specs}
    for resource, future in admin.describe_configs(resources).items():
        spec = asserted[resource.name]
        config = future.result(timeout_s)
        for key in (*spec.asserted, *spec.at_least, *spec.at_most):
            if must := spec.complaint(key, config[key].value):
                wrong.append(
                    f"{spec.name} has {key}={config[key].value}, not {must}: mend it with"
                    f" kafka-configs --alter --topic {spec.name} --add-config {key}={spec.config[key]}"
                )
    if wrong:
        raise WrongTopic("; ".join(wrong))
