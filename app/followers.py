"""The parts of a node that follow what has happened, each a thread of its own: notices, lineage, runs that events start."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from app.config import Config
from app.node import Part
from app.vitals import Vitals
from connectors.lineage.follower import LineageFollower, LineageSettings
from connectors.notifier.notifier import Notifier, NotifierSettings
from connectors.triggers.follower import TriggerFollower, TriggerSettings
from schemas.codec import Codec
from streams.domain.triggers import holds
from streams.expressions import LANGUAGE

_STAGE, _STOP_S = 2, 3.0


class Followers:
    """Makes each when its turn comes. ``codec`` is asked then; ``make`` makes the topics of users' events."""

    def __init__(
        self,
        config: Config,
        node: str,
        codec: Callable[[], Codec],
        live: Vitals,
        make: Callable[[Sequence[str]], None],
    ) -> None:
        self._config = config
        self._node = node
        self._codec = codec
        self._live = live
        self._make = make

    def parts(self) -> list[Part]:
        """Return the parts, in the order of their start."""
        parts = [
            Part("notifier", self._start_notifier, self._stop_notifier, _STAGE, _STOP_S),
            Part("triggers", self._start_triggers, self._stop_triggers, _STAGE, _STOP_S),
        ]
        if self._config.get("LINEAGE_URL"):
            parts.append(Part("lineage", self._start_lineage, self._stop_lineage, _STAGE, _STOP_S))
        return parts

    async def _start_notifier(self) -> None:
        config = self._config
        settings = NotifierSettings(
            kafka=config.kafka,
            cluster=config.get("CLUSTER"),
            node=self._node,
            channels=config.channels,
            prefix=config.get("TOPIC_PREFIX"),
            shards=config.get("SHARDS"),
        )
        self._live.notifier = Notifier(settings, self._codec())
        self._live.notifier.start()

    async def _stop_notifier(self) -> None:
        if self._live.notifier is not None:
            await asyncio.to_thread(self._live.notifier.stop)

    async def _start_triggers(self) -> None:
        config = self._config
        settings = TriggerSettings(
            kafka=config.kafka,
            cluster=config.get("CLUSTER"),
            node=self._node,
            holds=partial(holds, LANGUAGE),
            make=self._make,
            prefix=config.get("TOPIC_PREFIX"),
            shards=config.get("SHARDS"),
        )
        self._live.triggers = TriggerFollower(settings, self._codec())
        self._live.triggers.start()

    async def _stop_triggers(self) -> None:
        if self._live.triggers is not None:
            await asyncio.to_thread(self._live.triggers.stop)

    async def _start_lineage(self) -> None:
        config = self._config
        settings = LineageSettings(
            kafka=config.kafka,
            cluster=config.get("CLUSTER"),
            node=self._node,
            address=config.get("LINEAGE_URL"),
            token=config.get("LINEAGE_TOKEN"),
            prefix=config.get("TOPIC_PREFIX"),
            shards=config.get("SHARDS"),
            replication=config.get("REPLICATION"),
        )
        self._live.lineage = LineageFollower(settings, self._codec())
        self._live.lineage.start()

    async def _stop_lineage(self) -> None:
        if self._live.lineage is not None:
            await asyncio.to_thread(self._live.lineage.stop)
