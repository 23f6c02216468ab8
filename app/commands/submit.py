"""From a parsed request to an answer: one command, its outcome, and the resource as it is after it.

The semantics every write shares (``Idempotency-Key``, ``Prefer``, ``If-Match``) are here and
nowhere else; a handler only says which command it is and what to read afterwards.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from aiohttp import web

from app.errors import problem
from app.ports import Order, Row, WriteDependencies
from app.security import principal

Read = Callable[[], Awaitable[Row | None]]
_POLL_S = 0.05
_READ_WAIT_MIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the caller waits, in seconds; 0 answers as soon as Kafka has the command."""

    wait_s: float
    asked: str = ""


class Submitter:
    """Sends orders for requests, and answers them. How many there are at once is bounded by ``app.admission``."""

    def __init__(self, needs: WriteDependencies) -> None:
        self._needs = needs
        self._in_flight: dict[tuple[str, ...], tuple[dict[str, Any], int]] = {}

    async def outcome(self, request: web.Request, order: Order, preference: Preference) -> Row | None:
        """Return the accepted outcome, or None when it has not come in time.

        Raises the outcome's problem when it was rejected or failed; ``body_mismatch`` without sending when the same
        id is on its way with another body.
        """
        who = principal(request)
        key = (who.tenant, order.aggregate, order.aggregate_id, order.command_id)
        body, waiting = self._in_flight.get(key, (order.body, 0))
        if body != order.body:
            raise problem("body_mismatch", "This key is on its way with another body.")
        self._in_flight[key] = (body, waiting + 1)
        try:
            found = await self._needs.bus.ask(
                replace(
                    order,
                    tenant=who.tenant,
                    actor=who.actor,
                    expected_version=expected_version(request),
                    traceparent=request.headers.get("traceparent"),
                ),
                preference.wait_s,
            )
        finally:
            body, waiting = self._in_flight.pop(key)
            if waiting > 1:
                self._in_flight[key] = (body, waiting - 1)
        if found is not None and found["status"] != "accepted":
            raise refusal(found)
        return found

    async def answer(
        self,
        request: web.Request,
        order: Order,
        read: Read,
        *,
        created: Callable[[Row], bool] | None = None,
        location: str | None = None,
        other: bool = False,
    ) -> web.Response:
        """Do the order and answer with what ``read`` finds once the read store has caught up.

        ``other``: the resource belongs to another aggregate than the order (a run that a pipeline was asked for), so
        no position says when it is there: it is read until it is found. ``created`` decides on 201.
        """
        loop = asyncio.get_running_loop()
        preference = prefer(request, self._needs)
        deadline = loop.time() + preference.wait_s
        outcome = await self.outcome(request, order, preference)
        if outcome is None:
            return pending(order, preference)
        left = max(deadline - loop.time(), _READ_WAIT_MIN_S)
        resource = await self._resource(outcome, read, left, other)
        if resource is None:
            return pending(order, preference, outcome)
        headers = {"Flexcore-Position": position(outcome), "ETag": f'"{resource["version"]}"'}
        if location:
            headers["Location"] = location
        if preference.asked:
            headers["Preference-Applied"] = preference.asked
        status = 201 if created and created(outcome) else 200
        return web.json_response(resource, status=status, headers=headers)

    async def _resource(self, outcome: Row, read: Read, wait_s: float, other: bool) -> Row | None:
        resources = self._needs.resources
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        place = (outcome["aggregate"], outcome["shard"], outcome["position"])
        if not other:
            return await read() if await resources.wait_for(*place, wait_s) else None
        while True:
            if (resource := await read()) is not None or loop.time() >= deadline:
                return resource
            await asyncio.sleep(_POLL_S)


def command_id(request: web.Request) -> str:
    """Return the request's Idempotency-Key as a command id: a uuid as it is, other text as uuid5 of tenant and key."""
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if not key:
        return str(uuid4())
    if len(key) > 255:
        raise problem("bad_request", "Idempotency-Key is longer than 255 characters.")
    try:
        return str(UUID(key))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"{principal(request).tenant}/{key}"))


def prefer(request: web.Request, needs: WriteDependencies) -> Preference:
    """Return what the Prefer headers ask for (RFC 7240); what is not understood is ignored, as the RFC wants it."""
    text = ",".join(request.headers.getall("Prefer", []))
    if re.search(r"(?:^|[,;\s])respond-async(?:$|[,;\s])", text):
        return Preference(0.0, "respond-async")
    if found := re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,3})?)", text):
        wait_s = min(float(found[1]), needs.limits.wait_max_s)
        return Preference(wait_s, f"wait={wait_s:g}")
    return Preference(needs.limits.wait_default_s)


def expected_version(request: web.Request) -> int | None:
    """Return the version that If-Match names; ``If-None-Match: *`` expects none yet (0)."""
    if request.headers.get("If-None-Match", "").strip() == "*":
        return 0
    tag = request.headers.get("If-Match", "").strip()
    if not tag:
        return None
    if not (found := re.fullmatch(r'(?:W/)?"?(\d{1,18})"?', tag)):
        raise problem("bad_request", f'If-Match is {tag!r}; it must be an ETag this API gave, such as "3".')
    return int(found[1])


def refusal(outcome: Mapping[str, Any]) -> Exception:
    """Return the problem of an outcome that is not accepted."""
    reason = outcome["reason"] or "invalid"
    detail = outcome["detail"] or ""
    headers = {"Flexcore-Position": position(outcome)}
    if outcome["status"] == "failed":
        return problem("command_failed", f"{reason}: {detail}" if detail else str(reason), headers=headers)
    if reason == "overloaded":
        headers["Retry-After"] = "1"
    return problem(reason, f"{detail[:1].upper()}{detail[1:]}", headers=headers)


def position(outcome: Mapping[str, Any]) -> str:
    """Return the outcome's position token."""
    return f"{outcome['aggregate']}:{outcome['shard']}:{outcome['position']}"


def pending(order: Order, preference: Preference, outcome: Mapping[str, Any] | None = None) -> web.Response:
    """Answer 202: where to ask later, and, when the command is decided but not readable yet, its position."""
    headers = {"Location": f"/v1/commands/{order.command_id}"}
    if preference.asked:
        headers["Preference-Applied"] = preference.asked
    if outcome:
        headers["Flexcore-Position"] = position(outcome)
    status = outcome["status"] if outcome else "pending"
    return web.json_response({"command_id": order.command_id, "status": status}, status=202, headers=headers)
