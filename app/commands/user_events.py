"""Events of users' own: CloudEvents over HTTP to topics of their own."""

from aiohttp import web

from app.commands.cloudevents import BATCH, STRUCTURED, read_events
from app.ports import WriteDependencies
from app.routes import Query, Route
from app.security import principal


class UserEvents:
    """Handler of ``POST /v1/user-events``."""

    def __init__(self, needs: WriteDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "POST", "/v1/user-events", self.post, "postUserEvents",
                "Write CloudEvents to the topic user-events.NAME, made when it is first needed", "events",
                query=(Query("name", "Where they go; by default each event's type says it"),),
                bodies={STRUCTURED: "CloudEvent", BATCH: "CloudEventBatch", "*/*": "Any"},
                response="UserEventList", one_command=False,
            ),
        )  # fmt: skip

    async def post(self, request: web.Request) -> web.Response:
        """Answer with the place of each event once Kafka has it on all in-sync replicas."""
        content_type = request.headers.get("Content-Type", "")
        events = read_events(content_type, request.headers, await request.read(), request.query.get("name"))
        placed = await self._needs.events.publish(principal(request).tenant, events)
        return web.json_response({"items": placed})
