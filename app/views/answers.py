"""What every read shares: bounds and cursors, freshness by ``min-position``, ETags, and how a list looks."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from app.errors import not_found, problem
from app.ports import Limits, Row
from app.routes import Query
from app.views.ports import Page, Positions, ViewDependencies

LIMIT_MAX = 500
LIMIT_DEFAULT = 100
_POSITION = re.compile(r"([a-z0-9][a-z0-9-]{0,62}):(\d{1,6}):(\d{1,18})")

LISTING = (
    Query("limit", "At most so many", "integer", maximum=LIMIT_MAX),
    Query("cursor", "Where the page before ended"),
)
FRESHNESS = (
    Query("min-position", "Answer with this position or later (a Flexcore-Position), or 504"),
    Query("wait", "How long to wait for it, in seconds"),
)


async def fresh(request: web.Request, needs: ViewDependencies, view: str) -> None:
    """Wait until ``min-position`` is reached, if one is asked for. Raises 504 ``not_yet`` in place of being stale."""
    token = request.query.get("min-position")
    if token is None:
        return
    for (aggregate, shard), sequence in positions_of(token).items():
        if not await needs.store.wait_for(aggregate, shard, sequence, wait_s(request, needs.limits)):
            raise problem("not_yet", f"The view {view} has not reached {aggregate}:{shard}:{sequence} yet.")


async def complete(request: web.Request, needs: ViewDependencies, view: str) -> None:
    """Raise ``unavailable`` while the view is being filled. Asked after reading: what was read is then complete."""
    if "min-position" not in request.query:
        await needs.store.require(view)


def positions_of(text: str) -> Positions:
    """Return the positions in a token or a comma-separated list of tokens; raises ``bad_request``."""
    found: Positions = {}
    for token in filter(None, text.split(",")):
        match = _POSITION.fullmatch(token.strip())
        if match is None:
            raise problem("bad_request", f"{token[:80]!r} is no position, such as run:3:1042.")
        found[match[1], int(match[2])] = int(match[3])
    return found


def listing(request: web.Request) -> tuple[int, str | None]:
    """Return limit and cursor; raises ``bad_request`` for a limit that is none."""
    return number(request, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX) or LIMIT_DEFAULT, request.query.get(
        "cursor"
    ) or None


def number(request: web.Request, name: str, default: int | None, low: int, high: int) -> int | None:
    """Return a whole number of the query; raises ``bad_request`` when it is none or out of bounds."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
        raise problem(
            "bad_request", f"{name} is {text[:40]!r}; it must be a whole number from {low} to {high}."
        )
    return int(text)


def moment(request: web.Request, name: str) -> int | None:
    """Return a time of the query in ms since the epoch: given as such, or as RFC 3339; raises ``bad_request``."""
    text = request.query.get(name)
    if not text:
        return None
    if re.fullmatch(r"\d{1,15}", text):
        return int(text)
    try:
        # A plus in a query is a space to who decodes it: 2026-01-01T00:00:00 01:00 was meant with a plus.
        found = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))
    except ValueError:
        raise problem(
            "bad_request",
            f"{name} is {text[:40]!r}; give a time such as 2026-11-24T06:00:00Z, or milliseconds.",
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def one(request: web.Request, row: Row | None, noun: str, name: str, *, live: bool = False) -> web.Response:
    """Answer with the row, its version as ETag (304 when the caller has it) and its position; 404 without a row.

    ``live``: the row holds more than its version tells, so it is never answered with 304.
    """
    if row is None:
        raise not_found(noun, name)
    headers: dict[str, str] = {}
    if isinstance(row.get("position"), str):
        headers["Flexcore-Position"] = row["position"]
    if "version" in row:
        headers["ETag"] = f'"{row["version"]}"'
        if not live and headers["ETag"] in (tag.strip().removeprefix("W/") for tag in _none_match(request)):
            return web.Response(status=304, headers=headers)
    return json_answer(row, headers)


def many(request: web.Request, page: Page, **extra: Any) -> web.Response:
    """Answer with ``items``, and where there is more, ``cursor`` and a Link to the next page."""
    items, cursor = page
    body: dict[str, Any] = {"items": items, **extra}
    headers: dict[str, str] = {}
    if cursor is not None:
        body["cursor"] = cursor
        following = request.rel_url.update_query(cursor=cursor)
        headers["Link"] = f'<{following}>; rel="next"'
    return json_answer(body, headers)


def json_answer(
    body: Mapping[str, Any], headers: Mapping[str, str] | None = None, status: int = 200
) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=dumps(body), content_type="application/json", headers=headers, status=status)


def dumps(body: Any) -> bytes:
    """Return JSON bytes; bytes of foreign records are shown as text."""
    try:
        return orjson.dumps(body, default=_shown)
    except TypeError:
        # Integers beyond 64 bits: slower, but exact.
        return json.dumps(body, default=_shown).encode()


def _shown(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _none_match(request: web.Request) -> list[str]:
    return request.headers.get("If-None-Match", "").split(",")


def wait_s(request: web.Request, limits: Limits) -> float:
    """Return how long the caller waits, in seconds; raises ``bad_request`` for what is no time."""
    text = request.query.get("wait")
    if text is None:
        return limits.wait_default_s
    if not (found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)s?", text)):
        raise problem("bad_request", f"wait is {text[:40]!r}; it must be seconds, such as 5.")
    return min(float(found[1]), limits.wait_max_s)
