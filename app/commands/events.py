"""Taking personal data out of an event that has happened."""

import json

from aiohttp import web

from app.commands.bodies import RedactBody, read_body
from app.commands.submit import Submitter, command_id, pending, position, prefer
from app.errors import problem
from app.ports import Order, WriteDependencies
from app.routes import Route

_READ_WAIT_MIN_S = 2.0


class EventCommands:
    """Handler of ``POST /v1/events/redact``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the route."""
        return (
            Route(
                "POST", "/v1/events/redact", self.redact, "redactEvent",
                "Take the values of some fields out of an event", "events",
                body="Redact", response="Redaction", statuses=(200, 202),
            ),
        )  # fmt: skip

    async def redact(self, request: web.Request) -> web.Response:
        """Ask the aggregate; answer once the read store no longer shows the values."""
        body = await read_body(request, RedactBody)
        if body.aggregate not in self._needs.vocabulary:
            known = ", ".join(sorted(self._needs.vocabulary))
            fault = {"pointer": "/aggregate", "detail": "unknown", "fix": f"known: {known}"}
            raise problem("invalid", f"There is no aggregate {body.aggregate!r}.", [fault])
        wish = {
            "sequence": body.sequence,
            "fields": body.fields,
            "reason": body.reason,
            "dry_run": body.dry_run,
        }
        order = Order(body.aggregate, body.id, "RedactEvent", wish, command_id(request))
        preference = prefer(request, self._needs)
        outcome = await self._submitter.outcome(request, order, preference)
        if outcome is None:
            return pending(order, preference)
        place = (outcome["aggregate"], outcome["shard"], outcome["position"])
        wait_s = max(preference.wait_s, _READ_WAIT_MIN_S)
        if not await self._needs.resources.wait_for(*place, wait_s):
            return pending(order, preference, outcome)
        done = {
            "aggregate": body.aggregate,
            "id": body.id,
            **json.loads(outcome["reply"]),
            "dry_run": body.dry_run,
            "redacted_by_version": outcome["last_version"] or None,
        }
        return web.json_response(done, headers={"Flexcore-Position": position(outcome)})
