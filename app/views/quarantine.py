"""Reads of quarantine: records that were set aside, with their cause."""

import re

from aiohttp import web

from app.ports import Row
from app.routes import Query, Route
from app.security import principal
from app.views.answers import LISTING, complete, listing, many, one
from app.views.ports import ViewDependencies


class QuarantineViews:
    """Handlers of ``GET /v1/quarantine…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        wanted = (
            Query("cause", "Only of this cause"),
            Query("status", "Only those that wait, or that were sent again", choices=("open", "redriven")),
        )
        return (
            Route(
                "GET", "/v1/quarantine", self.list, "listQuarantine", "Quarantined records, the newest first",
                "quarantine", query=(*wanted, *LISTING), response="QuarantineList",
            ),
            Route(
                "GET", "/v1/quarantine/{topic}/{partition}/{offset}", self.get, "getQuarantined",
                "One record: cause, headers, the beginning of its bytes", "quarantine", response="Quarantined",
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with quarantined records, the newest first."""
        limit, cursor = listing(request)
        query, tenant = request.query, principal(request).tenant
        page = await self._needs.store.quarantine(
            tenant, query.get("cause"), query.get("status"), limit, cursor
        )
        await complete(request, self._needs, "quarantine")
        return many(request, ([_shown(row) for row in page[0]], page[1]))

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one record; its id is the place it came from."""
        topic, partition, offset = (request.match_info[name] for name in ("topic", "partition", "offset"))
        row = None
        if re.fullmatch(r"\d{1,9}", partition) and re.fullmatch(r"\d{1,18}", offset):
            tenant = principal(request).tenant
            row = await self._needs.store.quarantined(tenant, topic, int(partition), int(offset))
        await complete(request, self._needs, "quarantine")
        return one(
            request, _shown(row) if row else None, "quarantined record", f"{topic}/{partition}/{offset}"
        )


def _shown(row: Row) -> Row:
    place = f"{row['source_topic']}/{row['source_partition']}/{row['source_offset']}"
    sample = row["sample"]
    return {"id": place, **row, "sample": sample.decode("utf-8", "replace"), "sample_hex": sample[:256].hex()}
