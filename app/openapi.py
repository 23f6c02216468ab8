"""The OpenAPI 3.1 document, made from the same declarations as the router: what it says is what is served."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.components import component_schemas
from app.errors import TABLE
from app.routes import Query, Route

_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_STATUS_TEXT: Mapping[int, str] = {
    200: "Done; the resource as it is now",
    201: "Made",
    202: "On its way: ask at Location",
    304: "Not changed since the version of If-None-Match",
    503: "A part of the node does not work",
}
_ANSWERED_WITH_202 = ("Redrive", "View")
_WRITE_HEADERS = (
    (
        "Idempotency-Key",
        "The command id: repeating the request under it changes nothing and gives the same answer",
    ),
    ("Prefer", "wait=SECONDS, or respond-async to be answered as soon as the command is kept"),
    ("If-Match", "The ETag that was read; 412 when it has changed since"),
)


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document that describes ``routes``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "FlexCore",
            "version": "1",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Move data between systems, and prove what was done. "
            "Writes are commands: they answer when their outcome is there.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": component_schemas(), "responses": {"Problem": _problem_response()}},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": {str(status): _response(route, status) for status in route.statuses},
    }
    operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    bodies = route.bodies or ({"application/json": route.body} if route.body else {})
    if bodies:
        operation["requestBody"] = {
            "required": route.body not in ("Empty", "Reason", "Rerun", "StartRun"),
            "content": {media_type: {"schema": _ref(name)} for media_type, name in bodies.items()},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PARAMETER.findall(route.path)
    ]
    found += [_query(query) for query in route.query]
    if route.path.startswith("/v1/"):
        tenant = {**text, "default": "default"}
        found.append(
            {
                "name": "Flexcore-Tenant",
                "in": "header",
                "description": "The tenant to act in",
                "schema": tenant,
            }
        )
    if route.method in _WRITES and route.one_command:
        found += [
            {"name": name, "in": "header", "description": summary, "schema": text}
            for name, summary in _WRITE_HEADERS
        ]
    return found


def _query(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.type}
    if query.choices:
        schema["enum"] = list(query.choices)
    if query.maximum is not None:
        schema["maximum"] = query.maximum
    return {
        "name": query.name,
        "in": "query",
        "required": query.required,
        "description": query.summary,
        "schema": schema,
    }


def _response(route: Route, status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _STATUS_TEXT.get(status, "Answer")}
    if status == 202 and route.response not in _ANSWERED_WITH_202:
        answer["headers"] = {"Location": {"schema": {"type": "string"}}}
        answer["content"] = {"application/json": {"schema": _ref("Pending")}}
    elif status == 304:
        return answer
    elif route.response:
        answer["content"] = {route.media_type: {"schema": _ref(route.response)}}
    else:
        answer["content"] = {route.media_type: {"schema": {"type": "string"}}}
    if route.method in _WRITES and route.one_command and status in (200, 201):
        answer["headers"] = {
            "ETag": {"description": "The version, for If-Match", "schema": {"type": "string"}},
            "Flexcore-Position": {"description": "For ?min-position= of reads", "schema": {"type": "string"}},
        }
    return answer


def _problem_response() -> dict[str, Any]:
    rows = "\n".join(f"- `{code}` ({failure.status}): {failure.title}" for code, failure in TABLE.items())
    return {
        "description": f"Refused, and why (RFC 9457). `code` is one of:\n{rows}",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def docs_page(document: Mapping[str, Any]) -> str:
    """Return the document as one page of HTML that loads nothing from anywhere."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>FlexCore API</title><style>",
        "body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}code{background:#f3f3f3}",
        "summary{cursor:pointer;padding:.3rem 0}b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse}",
        "td{padding:.1rem .8rem .1rem 0;vertical-align:top}</style><h1>FlexCore API</h1>",
        f"<p>{html.escape(document['info']['description'])} Machines read <a href=/v1/openapi.json>openapi.json</a>.</p>",
    ]
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation["tags"][0], []).append(_docs_operation(method, path, operation))
    for tag, entries in tags.items():
        parts += [f"<h2>{html.escape(tag)}</h2>", *entries]
    rows = "".join(
        f"<tr><td><code>{code}</code><td>{failure.status}<td>{html.escape(failure.title)}<td>{html.escape(failure.hint)}"
        for code, failure in TABLE.items()
    )
    parts.append(f"<h2>Problems</h2><table>{rows}</table>")
    return "\n".join(parts)


def _docs_operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{html.escape(entry['name'])}</code><td>{entry['in']}<td>{html.escape(entry.get('description', ''))}"
        for entry in operation["parameters"]
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary><table>{parameters}</table></details>"
    )
