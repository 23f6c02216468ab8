"""A change of the group: what the shards that stay have fetched is still decided."""

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from streams.transport.consumer import BatchConsumer

STAYS, COMES = TP("account.commands", 0), TP("account.commands", 1)


async def _nothing(*_args: Any) -> None:
    """Stand for what Faust does meanwhile."""


def _consumer() -> tuple[BatchConsumer, FlowControlQueue[str]]:
    """Return a consumer that owns one shard, with an app as far as a rebalance asks for it, and its agent's queue."""
    flow_control = FlowControlEvent(initially_suspended=True)
    signal = SimpleNamespace(send=_nothing)
    app = SimpleNamespace(
        should_stop=False,
        agents=SimpleNamespace(on_rebalance=_nothing),
        topics=SimpleNamespace(on_partitions_assigned=_nothing),
        on_partitions_assigned=signal,
        on_partitions_revoked=signal,
        flow_control=flow_control,
        _fetcher=SimpleNamespace(maybe_start=_nothing),
    )
    consumer: Any = object.__new__(BatchConsumer)
    consumer.app, consumer._owned = app, {STAYS}
    queue = FlowControlQueue[str](flow_control=flow_control)
    flow_control.manage_queue(queue)  # as Faust does for the queue of each agent
    return consumer, queue


def test_a_batch_on_its_way_to_the_agent_survives_that_other_shards_come_and_go() -> None:
    """Given a batch of a shard that stays in the agent's queue, when others come and go, then it is there still."""

    async def story() -> None:
        consumer, queue = _consumer()
        await consumer._changed(set(), {STAYS})
        await queue.put("batch")
        await consumer._changed(set(), {COMES})
        await consumer._changed({COMES}, set())
        assert queue.get_nowait() == "batch"

    asyncio.run(story())
