"""The other nodes, asked over HTTP: who owns what is their own word on the topic ``nodes``."""

from collections.abc import Mapping, Sequence

import aiohttp
from yarl import URL

from app.ports import Cluster, Reply

_CONNECTIONS_MAX = 200
_CONNECT_S = 0.5


class HttpPeers:
    """A :class:`app.ports.Peers`. Connects when first asked; call :meth:`close` at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session: aiohttp.ClientSession | None = None

    def owners(self, shard: int) -> Sequence[tuple[str, str]]:
        """Return name and URL of the nodes that say they own the shard, the newest word first.

        A killed owner is believed for some seconds more: its successor's word is newer.
        """
        words = [
            word
            for word in self._cluster.members()
            if word.get("status") == "alive" and shard in word.get("shards", ())
        ]
        words.sort(key=lambda word: word.get("at", 0), reverse=True)
        return [(str(word["node"]), str(word["url"])) for word in words if word.get("url")]

    async def get(self, url: str, path: str, headers: Mapping[str, str], timeout_s: float) -> Reply | None:
        """Read ``path`` there; None when that node does not answer in time, or the connection breaks."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX))
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(_CONNECT_S, timeout_s))
        try:
            async with self._session.get(
                URL(url + path, encoded=True), headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return Reply(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
