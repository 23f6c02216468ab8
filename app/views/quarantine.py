"""Reads of quarantine: records that were set aside, with their cause."""

import re
from datetime import UTC, datetime

from aiohttp import web

from app.errors import problem
from app.ports import Row
from app.routes import Query, Route
from app.security import principal
from app.views.answers import LISTING, complete, listing, many, moment, one
from app.views.ports import ViewDependencies
from streams.projections.quarantine import place_of

STATUSES = ("open", "redriven", "dropped")
_LISTED_BYTES = 1024  # of each record in a list; one by itself is shown with more


class QuarantineViews:
    """Handlers of ``GET /v1/quarantine…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        wanted = (
            Query("cause", "Only of this cause"),
            Query("aggregate", "Only commands of this kind of aggregate (run), or of one of them (run/ID)"),
            Query("fingerprint", "Only those that failed at this place in the code"),
            Query("since", "Only those from this time on"),
            Query("status", "Only those that wait, were sent again, or dropped", choices=STATUSES),
        )
        return (
            Route(
                "GET", "/v1/quarantine", self.list, "listQuarantine", "Quarantined records, the newest first",
                "quarantine", query=(*wanted, *LISTING), response="QuarantineList",
            ),
            Route(
                "GET", "/v1/quarantine/{topic}/{partition}/{offset}", self.get, "getQuarantined",
                "One record: cause, attempts, headers, the command in it, the beginning of its bytes", "quarantine", response="Quarantined",
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with quarantined records, the newest first."""
        limit, cursor = listing(request)
        tenant = principal(request).tenant
        page = await self._needs.store.quarantine(tenant, _filters(request, tenant), limit, cursor)
        await complete(request, self._needs, "quarantine")
        return many(request, ([_shown(row) for row in page[0]], page[1]))

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one record; its id is the place it came from."""
        topic, partition, offset = (request.match_info[name] for name in ("topic", "partition", "offset"))
        rows = []
        if re.fullmatch(r"\d{1,9}", partition) and re.fullmatch(r"\d{1,18}", offset):
            place = (topic, int(partition), int(offset))
            rows = await self._needs.store.quarantined(principal(request).tenant, [place])
        await complete(request, self._needs, "quarantine")
        found = None
        if rows:
            found = {**_shown(rows[0], len(rows[0]["sample"])), "command": await self._needs.command(rows[0])}
        return one(request, found, "quarantined record", f"{topic}/{partition}/{offset}")


def _filters(request: web.Request, tenant: str) -> dict[str, str | None]:
    query = request.query
    if (status := query.get("status")) not in (None, *STATUSES):
        raise problem("bad_request", f"status is {status[:40]!r}; it must be one of {', '.join(STATUSES)}.")
    kind, _, aggregate_id = query.get("aggregate", "").partition("/")
    since = moment(request, "since")
    return {
        "cause": query.get("cause"),
        "status": status,
        "aggregate": kind or None,
        "original_key": f"{tenant}/{aggregate_id}" if aggregate_id else None,
        "fingerprint": query.get("fingerprint"),
        "since": None if since is None else _written(since),
    }


def _written(at_ms: int) -> str:
    """Return a time as the records of quarantine write it: such texts sort by time."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        raise problem("bad_request", "since is no time between the years 1 and 9999.") from None


def _shown(row: Row, sample_bytes: int = _LISTED_BYTES) -> Row:
    sample = row["sample"][:sample_bytes]
    return {
        "id": place_of(row),
        **row,
        "sample": sample.decode("utf-8", "replace"),
        "sample_hex": sample[:256].hex(),
    }
