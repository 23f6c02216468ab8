"""Every topic of the platform as data: name, partitions, policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.topics import AUDIT, LANES, MANIFEST, NODES, RUN_LOGS, Topics

_DAY_MS = 86_400_000
TOPIC_BYTES_MAX = 4 << 20
QUARANTINE_BYTES_MAX = 5 << 20
COMMANDS_RETENTION_MS = 7 * _DAY_MS
_SNAPSHOTS_SEGMENT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be. ``config`` holds what start-up creates; ``asserted`` what it refuses to differ on,
    ``at_least`` and ``at_most`` what may be more or less than stated (-1 is without a limit).
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    asserted: tuple[str, ...] = ("cleanup.policy", "message.timestamp.type")
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()

    def complaint(self, key: str, value: str | None) -> str:
        """Return what a setting must be instead of ``value``, nothing when it is right."""
        wanted = self.config[key]
        if key in self.asserted:
            return "" if value == wanted else wanted
        number, limit = (1 << 63 if int(text or 0) < 0 else int(text or 0) for text in (value, wanted))
        if key in self.at_least:
            return "" if number >= limit else f"{wanted} or more"
        return "" if number <= limit else f"{wanted} or less"


def _config(policy: str, **extra: object) -> dict[str, str]:
    stated = {key.replace("_", "."): str(value) for key, value in extra.items()}
    return {"cleanup.policy": policy, "message.timestamp.type": "LogAppendTime", **stated}


def aggregate_topics(topics: Topics, aggregate: str, shards: int) -> tuple[TopicSpec, ...]:
    """Return the closed set of topics of one aggregate; all have one partition per shard."""
    return (
        TopicSpec(
            topics.commands(aggregate),
            shards,
            _config("delete", retention_ms=COMMANDS_RETENTION_MS, max_message_bytes=TOPIC_BYTES_MAX),
            at_most=("retention.ms",),
        ),
        TopicSpec(
            topics.events(aggregate),
            shards,
            # Keys are unique, so compaction removes only retries, redacted bodies and erased streams.
            _config("compact", min_compaction_lag_ms=_DAY_MS, max_message_bytes=TOPIC_BYTES_MAX),
            at_least=("min.compaction.lag.ms",),
        ),
        TopicSpec(
            topics.outcomes(aggregate),
            shards,
            # Longer than the commands, so that no command can come back after its outcome is gone.
            _config(
                "delete", retention_ms=COMMANDS_RETENTION_MS + _DAY_MS, max_message_bytes=TOPIC_BYTES_MAX
            ),
            at_least=("retention.ms",),
        ),
        TopicSpec(
            topics.snapshots(aggregate),
            shards,
            # A take-over reads all of it, superseded snapshots included: small segments, cleaned early, keep it short.
            _config(
                "compact",
                segment_bytes=_SNAPSHOTS_SEGMENT_BYTES,
                segment_ms=_DAY_MS,
                min_cleanable_dirty_ratio=0.2,
                delete_retention_ms=60_000,
                max_message_bytes=TOPIC_BYTES_MAX,
            ),
        ),
        TopicSpec(
            topics.quarantine(aggregate),
            shards,
            _config("delete", retention_ms=90 * _DAY_MS, max_message_bytes=QUARANTINE_BYTES_MAX),
        ),
    )


def user_events(topics: Topics, name: str, shards: int) -> TopicSpec:
    """Return a topic of users' own events; it is made when it is first written to."""
    config = _config("delete", retention_ms=COMMANDS_RETENTION_MS, max_message_bytes=TOPIC_BYTES_MAX)
    return TopicSpec(topics.user_events(name), shards, config)


def task_topic(name: str, shards: int) -> TopicSpec:
    """Return a topic of offers; it is made when the first step asks for its labels."""
    return TopicSpec(name, shards, _config("delete", retention_ms=COMMANDS_RETENTION_MS))


def platform_topics(
    topics: Topics, aggregates: Sequence[str], queues: Sequence[str], shards: int
) -> tuple[TopicSpec, ...]:
    """Return every topic that must exist before a node serves."""
    per_aggregate = [spec for name in aggregates for spec in aggregate_topics(topics, name, shards)]
    per_queue = [task_topic(topics.tasks(queue, lane), shards) for queue in queues for lane in LANES]
    once = [
        TopicSpec(topics.named(RUN_LOGS), shards, _config("delete", retention_ms=COMMANDS_RETENTION_MS)),
        TopicSpec(topics.named(NODES), 1, _config("compact")),
        TopicSpec(topics.named(MANIFEST), 1, _config("compact")),
        TopicSpec(topics.named(AUDIT), shards, _config("compact", min_compaction_lag_ms=_DAY_MS)),
    ]
    return (*per_aggregate, *per_queue, *once)
