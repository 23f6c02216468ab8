"""A node's life: parts start in order, stop in stages, and a crash ends it."""

import asyncio
import signal
import time

import pytest

from app.node import Node, NodeFailed, Part

Diary = list[str]


def part(diary: Diary, name: str, stage: int, **special: object) -> Part:
    async def start() -> None:
        diary.append(f"+{name}")
        if error := special.get("fails"):
            raise RuntimeError(str(error))

    async def stop() -> None:
        await asyncio.sleep(float(str(special.get("slow", 0))))
        diary.append(f"-{name}")

    crashed = special.get("crashed")
    return Part(name, start, stop, stage, 0.2, lambda: str(crashed) if crashed else None)


async def told_to_end(diary: Diary) -> None:
    """Send SIGTERM once the last part has started."""
    while "+worker" not in diary:  # noqa: ASYNC110 - a diary is a list
        await asyncio.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)


async def test_a_signal_stops_the_parts_last_stage_first() -> None:
    """SIGTERM is an orderly end."""
    diary: Diary = []
    node = Node([part(diary, "registry", 0), part(diary, "api", 1), part(diary, "worker", 2)])
    await asyncio.gather(node.run(), told_to_end(diary))
    assert diary == ["+registry", "+api", "+worker", "-worker", "-api", "-registry"]


async def test_a_part_that_cannot_start_stops_the_others_and_says_why() -> None:
    """Nothing is left running."""
    diary: Diary = []
    node = Node([part(diary, "registry", 0), part(diary, "api", 1, fails="port 80 is taken")])
    with pytest.raises(NodeFailed, match="api could not start: port 80 is taken"):
        await node.run()
    assert diary[-1] == "-registry"


async def test_a_crash_ends_the_node() -> None:
    """A node without its worker is no node: whoever supervises it must see it end."""
    diary: Diary = []
    node = Node([part(diary, "worker", 0, crashed="fenced three times")])
    with pytest.raises(NodeFailed, match="worker has stopped: fenced three times"):
        await node.run()
    assert diary == ["+worker", "-worker"]


async def test_a_part_that_hangs_is_left_behind() -> None:
    """The end comes in bounded time, whatever a part does."""
    diary: Diary = []
    node = Node([part(diary, "api", 0), part(diary, "worker", 1, slow=30)])
    begun = time.monotonic()
    await asyncio.gather(node.run(), told_to_end(diary))
    assert time.monotonic() - begun < 2
    assert diary[-1] == "-api"
