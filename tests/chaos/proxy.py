"""A TCP proxy between a client and a server, to be cut, stalled and slowed link by link.

Kafka's clients go where the brokers tell them to, so every worker has a listener of its own on each broker, and what
that listener advertises is the worker's link (see ``cluster.py``). A link thus is one worker's way to one broker.
"""

import asyncio
import contextlib
import threading
from typing import Literal

State = Literal["open", "reset", "stalled"]
_CHUNK = 1 << 16


class Link:
    """One way through the proxy, from ``port`` to ``target``. Use its methods from the proxy's loop only."""

    def __init__(self, name: str, port: int, target: int) -> None:
        self.name = name
        self.port = port
        self.target = target
        self.delay_s = 0.0
        self.state: State = "open"
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if self.state == "reset":
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(back)
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        self._writers -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    def set(self, state: State, delay_s: float) -> None:
        """Open the link, or break it: ``reset`` ends every connection, ``stalled`` carries nothing and says nothing."""
        self.state, self.delay_s = state, delay_s
        if state == "stalled":
            self._flows.clear()
        else:
            self._flows.set()
        if state == "reset":
            for writer in self._writers:
                writer.transport.abort()


class Proxy:
    """All links of a run, in a thread of their own."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def add(self, name: str, port: int, target: int) -> None:
        """Listen on ``port`` for what is to reach ``target``. Blocking."""

        async def listen() -> Link:
            link = Link(name, port, target)
            await asyncio.start_server(link.accept, "127.0.0.1", port)
            return link

        self.links[name] = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def set(self, name: str, state: State = "open", delay_s: float = 0.0) -> None:
        """Put one link into a state; from any thread."""
        self._loop.call_soon_threadsafe(self.links[name].set, state, delay_s)

    def stop(self) -> None:
        """Carry nothing any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
