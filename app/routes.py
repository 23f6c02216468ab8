"""What a route of the HTTP API declares about itself; the router and the OpenAPI document are both made from it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ParameterType = Literal["string", "integer", "boolean"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter; the first line of ``summary`` is what the documentation shows."""

    name: str
    summary: str
    type: ParameterType = "string"
    required: bool = False
    choices: tuple[str, ...] = ()
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``path`` is an aiohttp pattern (``/v1/runs/{id}``); path parameters are read from it.

    ``response`` and ``body`` name a component schema of the OpenAPI document (None: no such body); ``statuses``
    are the statuses the operation answers besides the errors every operation may answer. ``media_type`` is the
    answer's content type. ``one_command``: a write that takes Idempotency-Key, Prefer and If-Match, and answers with ETag
    and position. ``bodies`` (content type → schema) stands in place of ``body`` where it may have other
    types than JSON.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    operation_id: str
    summary: str
    tag: str
    query: tuple[Query, ...] = ()
    response: str | None = None
    body: str | None = None
    bodies: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)
    media_type: str = "application/json"
    one_command: bool = True


def definitions(routes: Iterable[Route]) -> list[web.RouteDef]:
    """Return the aiohttp route table of ``routes``, in their order; a GET answers HEAD too."""
    return [web.route(route.method, route.path, route.handler) for route in routes]
