"""Newest states from their owner's memory, whichever node is asked.

A shard has one owner at a time, and it moves when nodes come and go. So a read is tried again until it is answered or
its time is up: no owner known, an owner that does not answer or is none any more (421), a position not reached yet.
A node asked by another one answers for itself or not at all: no read goes around in circles.
"""

import asyncio
from collections.abc import Mapping, Sequence

from aiohttp import web

from app.admission import FORWARDED_HEADER
from app.errors import not_found, problem
from app.ports import Held, Limits, Memory, Peers, Reply, Row
from app.security import ACTOR_HEADER, TENANT_HEADER, principal
from app.views.answers import one, positions_of, wait_s

STALE_HEADER = "Flexcore-Stale"
# An owner that hangs must not use up the caller's time: its shard may have moved meanwhile.
_ATTEMPT_S = 1.0
_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_TRY_AGAIN = (421, 429, 503, 504)
_SPEAKER = (TENANT_HEADER, ACTOR_HEADER)
_PASSED_ON = ("If-None-Match", *_SPEAKER)
_PASSED_BACK = ("Content-Type", "ETag", "Flexcore-Position")


class OwnerReads:
    """Answers with the newest state of an aggregate: this node's own, or its owner's."""

    def __init__(self, memory: Memory, peers: Peers, limits: Limits) -> None:
        self._memory = memory
        self._peers = peers
        self._limits = limits

    async def answer(self, request: web.Request, kind: str, aggregate_id: str) -> web.StreamResponse:
        """Answer by the owner, at or after ``min-position``, within ``wait``.

        Raises 504 ``not_yet`` or, when no owner was found in time, 503 ``unavailable``; 421 ``not_owner`` at once to
        another node.
        """
        tenant = principal(request).tenant
        shard = self._memory.shard_of(tenant, kind, aggregate_id)
        least = asked_position(request, kind, shard)
        forwarded = FORWARDED_HEADER in request.headers
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s(request, self._limits)
        path = f"{request.rel_url.raw_path}?min-position={kind}:{shard}:{least}"
        headers = self._headers(request, _PASSED_ON)
        attempt = 0
        while True:
            held = self._memory.held(tenant, kind, aggregate_id)
            mine = held is not None and not held.stale
            if held is not None and mine and held.position >= least:
                return self.shown(request, kind, aggregate_id, shard, held)
            if forwarded and not mine:
                raise problem("not_owner", f"Shard {shard} is not owned by {self._memory.node}.")
            if not mine and (reply := await self._first(shard, path, headers, deadline)) is not None:
                return _passed(reply)
            if (left := deadline - loop.time()) <= 0:
                raise self._late(kind, shard, least)
            await asyncio.sleep(min(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)], left))
            attempt += 1

    def near(self, request: web.Request, kind: str, aggregate_id: str) -> web.StreamResponse | None:
        """Answer from this node's memory, marked if there may be newer; None when it holds nothing, or too little."""
        tenant = principal(request).tenant
        shard = self._memory.shard_of(tenant, kind, aggregate_id)
        held = self._memory.held(tenant, kind, aggregate_id)
        if held is None or held.position < asked_position(request, kind, shard):
            return None
        if held.stale and not held.version:
            return None
        return self.shown(request, kind, aggregate_id, shard, held)

    def shown(
        self, request: web.Request, kind: str, aggregate_id: str, shard: int, held: Held
    ) -> web.StreamResponse:
        """Answer with what is held; raises ``not_found`` when nothing has happened to the aggregate."""
        if not held.version:
            raise not_found(kind, aggregate_id)
        row: Row = {
            "aggregate": kind,
            "id": aggregate_id,
            "version": held.version,
            "shard": shard,
            "position": f"{kind}:{shard}:{held.position}",
            "owner": self.name(shard) if held.stale else self._memory.node,
            "state": self._memory.shown(held.state),
        }
        response = one(request, row, kind, aggregate_id)
        if held.stale:
            response.headers[STALE_HEADER] = "true"
        return response

    def name(self, shard: int) -> str | None:
        """Return the node that owns the shard as far as is known here."""
        return next((node for node, _url in self._peers.owners(shard)), None)

    async def ask(
        self, request: web.Request, kind: str, aggregate_id: str, path: str, deadline: float
    ) -> Reply | None:
        """Return what another node that owns the aggregate answers to ``path`` before ``deadline``; None: none did.

        The caller's ``If-None-Match`` is not passed on: it is about another answer.
        """
        shard = self._memory.shard_of(principal(request).tenant, kind, aggregate_id)
        headers = self._headers(request, _SPEAKER)
        return await self._first(shard, f"{path}?min-position={kind}:{shard}:0", headers, deadline)

    def _headers(self, request: web.Request, names: Sequence[str]) -> dict[str, str]:
        headers = {name: request.headers[name] for name in names if name in request.headers}
        return {**headers, FORWARDED_HEADER: self._memory.node}

    async def _first(
        self, shard: int, path: str, headers: Mapping[str, str], deadline: float
    ) -> Reply | None:
        """Ask those who say they own the shard, one after the other; None when none of them answers for it."""
        loop = asyncio.get_running_loop()
        for node, url in self._peers.owners(shard):
            if node == self._memory.node:
                continue
            wait = min(_ATTEMPT_S, deadline - loop.time())
            if wait <= 0:
                break
            reply = await self._peers.get(url, f"{path}&wait={wait:.3f}", headers, wait + 0.5)
            if reply is not None and reply.status not in _TRY_AGAIN:
                return reply
        return None

    def _late(self, kind: str, shard: int, least: int) -> Exception:
        if least:
            return problem(
                "not_yet", f"The owner of shard {shard} has not reached {kind}:{shard}:{least} yet."
            )
        detail = f"No node answers for shard {shard}: it is being taken over, or no worker is there."
        return problem("unavailable", detail, headers={"Retry-After": str(self._limits.retry_after_s)})


def asked_position(request: web.Request, kind: str, shard: int) -> int:
    """Return the sequence of this slice that ``min-position`` names; 0 when it names none."""
    return positions_of(request.query.get("min-position", "")).get((kind, shard), 0)


def _passed(reply: Reply) -> web.Response:
    headers = {name: reply.headers[name] for name in _PASSED_BACK if name in reply.headers}
    return web.Response(status=reply.status, body=reply.body or None, headers=headers)
