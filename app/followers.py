"""What a node follows beside its shards: alerts to tell, events of users that start runs, lineage."""

from collections.abc import Callable, Sequence
from functools import partial

from app.config import Config
from connectors.follower import Follower
from connectors.lineage.follower import LineageFollower, LineageSettings
from connectors.notifier.notifier import Notifier, NotifierSettings
from connectors.triggers.follower import TriggerFollower, TriggerSettings
from schemas.codec import Codec
from streams.domain.triggers import holds
from streams.expressions import LANGUAGE


def followers(
    config: Config, node: str, codec: Codec, make: Callable[[Sequence[str]], None]
) -> tuple[Follower, ...]:
    """Return those of a node, not started. ``make`` makes the topics of users' events."""
    where = (config.kafka, config.get("CLUSTER"), node)
    topics = {"prefix": config.get("TOPIC_PREFIX"), "shards": config.get("SHARDS")}
    made: list[Follower] = [
        Notifier(NotifierSettings(*where, config.channels, **topics), codec),
        TriggerFollower(TriggerSettings(*where, partial(holds, LANGUAGE), make, **topics), codec),
    ]
    if address := config.get("LINEAGE_URL"):
        token, replication = config.get("LINEAGE_TOKEN"), config.get("REPLICATION")
        lineage = LineageSettings(*where, address, token, replication, **topics)
        made.append(LineageFollower(lineage, codec))
    return tuple(made)
