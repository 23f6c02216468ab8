"""The HTTP API put together: routes, problems, bounds. It listens nowhere by itself; ``app.node`` gives it a socket."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.admission import Admission
from app.errors import Problem, problem
from app.openapi import docs_page, openapi_document
from app.ports import Limits
from app.routes import Route, definitions
from app.security import guard
from app.telemetry import HTTP_REQUESTS, HTTP_SECONDS

_log = logging.getLogger(__name__)
PROBLEM_JSON = "application/problem+json"
_BY_STATUS: Mapping[int, str] = {
    404: "no_such_route",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
}


def create_api(routes: Iterable[Route], limits: Limits) -> web.Application:
    """Return the application that serves ``routes`` and describes them at ``/v1/openapi.json`` and ``/docs``."""
    described = (*routes, *SELF_DESCRIPTION)
    bounded = _bounded(Admission(limits, described))
    api = web.Application(
        middlewares=[_observed, _problems, _guarded, bounded], client_max_size=limits.body_bytes_max
    )
    api[DOCUMENT] = openapi_document(described)
    api.add_routes(definitions(described))
    return api


async def _openapi(request: web.Request) -> web.Response:
    return web.json_response(request.app[DOCUMENT])


async def _docs(request: web.Request) -> web.Response:
    document = request.app[DOCUMENT]
    return web.Response(text=docs_page(document), content_type="text/html")


DOCUMENT = web.AppKey("DOCUMENT", dict[str, Any])
SELF_DESCRIPTION = (
    Route("GET", "/v1/openapi.json", _openapi, "getOpenApi", "This document", "meta", response="Any"),
    Route("GET", "/docs", _docs, "getDocs", "This document, for people", "meta", media_type="text/html"),
)


def render(fault: Problem, request: web.Request) -> web.Response:
    """Return the problem as an RFC 9457 answer."""
    response = web.json_response(fault.document(request.path), status=fault.status, headers=fault.headers)
    response.content_type = PROBLEM_JSON
    return response


async def _problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as fault:
        return render(fault, request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return render(_translated(error, request), request)
    except Exception as error:
        if isinstance(error, ConnectionResetError) and (
            request.transport is None or request.transport.is_closing()
        ):
            raise  # the client went away in the middle of an answer: nobody is left to be told
        reference = str(uuid4())
        _log.exception("request %s %s failed (%s)", request.method, request.path, reference)
        return render(
            problem("internal", f"Something unexpected happened; the log has it under {reference}."), request
        )


def _translated(error: web.HTTPException, request: web.Request) -> Problem:
    code = _BY_STATUS.get(error.status, "bad_request" if error.status < 500 else "internal")
    details = {
        "no_such_route": f"{request.path} is no route of this API.",
        "method_not_allowed": f"{request.path} does not know {request.method}.",
        "too_large": "The body is larger than this node accepts (FLEXCORE_BODY_BYTES_MAX).",
    }
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(code, details.get(code, str(error.reason)), headers=headers)


async def _guard_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    guard(request)
    return await handler(request)


def _bounded(admission: Admission) -> Middleware:
    async def bound(request: web.Request, handler: Handler) -> web.StreamResponse:
        with admission.admitted(request):
            return await handler(request)

    return web.middleware(bound)


async def _observe_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    begun = time.perf_counter()
    response = await handler(request)
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "(none)"
    HTTP_REQUESTS.labels(request.method, path, str(response.status)).inc()
    HTTP_SECONDS.labels(request.method, path).observe(time.perf_counter() - begun)
    return response


_problems: Middleware = web.middleware(_problem_middleware)
_guarded: Middleware = web.middleware(_guard_middleware)
_observed: Middleware = web.middleware(_observe_middleware)
