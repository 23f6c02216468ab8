"""Is the node alive, is it ready, and if not: what is missing. Also ``/metrics`` and ``GET /v1/cluster``."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.adapters.system_clock import now_ms
from app.ports import Cluster, Ping
from app.routes import Route

_log = logging.getLogger(__name__)
_PING_TIMEOUT_S = 2.0
_WATCH_S = 2.0
_TAG = "health"


@dataclass(frozen=True, slots=True)
class HealthDependencies:
    """``pings``: part of the node → what is wrong with it; ``node``: what the node says about itself right now."""

    pings: Mapping[str, Ping]
    node: Callable[[], Mapping[str, Any]]
    cluster: Cluster


class Health:
    """Handlers of ``/health…``, ``/metrics`` and ``/v1/cluster``."""

    def __init__(self, needs: HealthDependencies) -> None:
        self._needs = needs
        self._since: dict[str, tuple[bool, int]] = {}

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this page."""
        both = (200, 503)
        return (
            Route("GET", "/health/live", self.live, "getLive", "The process answers", _TAG, response="Live"),
            Route("GET", "/health/ready", self.ready, "getReady", "Every part works; or which does not", _TAG,
                  response="Health", statuses=both),
            Route("GET", "/health", self.health, "getHealth", "Every part of this node", _TAG, response="Health"),
            Route("GET", "/metrics", self.metrics, "getMetrics", "Counters for Prometheus", _TAG,
                  media_type="text/plain"),
            Route("GET", "/v1/cluster", self.cluster, "getCluster", "The nodes and the shards they own", "cluster",
                  response="Cluster"),
        )  # fmt: skip

    async def watch(self) -> None:
        """Ask every part every two seconds, until cancelled: so ``since`` is true, and changes are in the log."""
        while True:
            await self._checks()
            await asyncio.sleep(_WATCH_S)

    async def live(self, _request: web.Request) -> web.Response:
        """Answer, which is all there is to say."""
        return web.json_response({"status": "live"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer 200 when every part works, else 503 naming those that do not."""
        checks = await self._checks()
        return web.json_response(self._report(checks), status=503 if any(checks.values()) else 200)

    async def health(self, _request: web.Request) -> web.Response:
        """Answer the same report, always with 200: for people and for tools that read bodies."""
        return web.json_response(self._report(await self._checks()))

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer the counters in Prometheus' text format."""
        body = await asyncio.to_thread(generate_latest)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def cluster(self, _request: web.Request) -> web.Response:
        """Answer what every node published last."""
        members = sorted(
            (dict(member) for member in self._needs.cluster.members()), key=lambda member: member["node"]
        )
        # Of two that claim a shard, the newer word is true: a killed node is believed for some seconds more.
        by_age = sorted(members, key=lambda member: member.get("at", 0))
        owners = {shard: member["node"] for member in by_age for shard in member.get("shards", ())}
        shards = [{"shard": shard, "owner": owners[shard]} for shard in sorted(owners)]
        return web.json_response({"nodes": members, "shards": shards})

    def _report(self, checks: Mapping[str, str | None]) -> dict[str, Any]:
        parts = [
            {
                "name": name,
                "status": "failing" if wrong else "ok",
                "detail": wrong,
                "since": self._since[name][1],
            }
            for name, wrong in checks.items()
        ]
        missing = [name for name, wrong in checks.items() if wrong]
        return {
            **self._needs.node(),
            "status": "not_ready" if missing else "ready",
            "missing": missing,
            "parts": parts,
        }

    async def _checks(self) -> dict[str, str | None]:
        names = list(self._needs.pings)
        found = await asyncio.gather(*(self._ask(self._needs.pings[name]) for name in names))
        checks = dict(zip(names, found, strict=True))
        for name, wrong in checks.items():
            self._note(name, wrong)
        return checks

    def _note(self, name: str, wrong: str | None) -> None:
        """Remember since when a part is as it is, and log the change."""
        before = self._since.get(name)
        if before is not None and before[0] == bool(wrong):
            return
        self._since[name] = (bool(wrong), now_ms())
        if wrong and before is None:
            _log.info("%s does not work yet: %s", name, wrong)  # no reason to worry while a node starts
        elif wrong:
            _log.warning("%s does not work: %s", name, wrong)
        elif before is not None:
            _log.info("%s works, after %.1f s", name, (now_ms() - before[1]) / 1000)

    async def _ask(self, ping: Ping) -> str | None:
        try:
            return await asyncio.wait_for(ping(), _PING_TIMEOUT_S)
        except TimeoutError:
            return f"did not answer within {_PING_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the part does not work
            return f"{type(error).__name__}: {error}"
