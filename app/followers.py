"""What a node follows beside its shards: alerts to tell, events of users that start runs, lineage."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.config import Config
from connectors.follower import Follower
from connectors.lineage.follower import LineageFollower, LineageSettings
from connectors.notifier.notifier import Notifier, NotifierSettings
from connectors.triggers.follower import TriggerFollower, TriggerSettings
from schemas.codec import Codec
from streams.domain.starts import event_start
from streams.expressions import LANGUAGE
from streams.translation import to_record


def followers(
    config: Config, node: str, codec: Codec, make: Callable[[Sequence[str]], None]
) -> tuple[Follower, ...]:
    """Return those of a node, not started. ``make`` makes the topics of users' events."""
    where = (config.kafka, config.get("CLUSTER"), node)
    topics = {"prefix": config.get("TOPIC_PREFIX"), "shards": config.get("SHARDS")}
    made: list[Follower] = [
        Notifier(NotifierSettings(*where, config.channels, **topics), codec),
        TriggerFollower(TriggerSettings(*where, asked_by_event, make, **topics), codec),
    ]
    if address := config.get("LINEAGE_URL"):
        token, replication = config.get("LINEAGE_TOKEN"), config.get("REPLICATION")
        lineage = LineageSettings(*where, address, token, replication, **topics)
        made.append(LineageFollower(lineage, codec))
    return tuple(made)


def asked_by_event(filter_text: str | None, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the body of StartRun for an event that passes the filter, or None. Raise ValueError when the filter fails."""
    start = event_start(LANGUAGE, filter_text, event)
    return None if start is None else to_record(start)
