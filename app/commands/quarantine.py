"""Writes on quarantine: send records again, as they are or edited, or drop them.

Many at once are named one by one, a page at a time: so the caller sets the pace, and what fails again meanwhile does
not go a second time.
"""

import re
from collections.abc import Callable, Sequence

from aiohttp import web

from app.commands.bodies import DropBody, DropManyBody, EditBody, EmptyBody, RedriveBody, read_body
from app.errors import not_found, problem
from app.ports import Edit, Place, Row, WriteDependencies
from app.routes import Route
from app.security import principal
from streams.projections.quarantine import place_of

RECORDS_MAX = 500
REDRIVES_ALIKE_MAX = 3
REASON_MAX = 1000
_ONE = "/v1/quarantine/{topic}/{partition}/{offset}"


class QuarantineCommands:
    """Handlers of ``POST /v1/quarantine…``."""

    def __init__(self, needs: WriteDependencies) -> None:
        self._quarantine = needs.quarantine

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "POST", "/v1/quarantine/redrive", self.redrive_many, "redriveRecords",
                "Send up to 500 records again, in this order", "quarantine", body="RedriveMany", response="Deeds",
                one_command=False,
            ),
            Route(
                "POST", "/v1/quarantine/drop", self.drop_many, "dropRecords",
                "Note of up to 500 records that nobody will send them again", "quarantine",
                body="DropMany", response="Deeds", one_command=False,
            ),
            Route(
                "POST", f"{_ONE}/redrive", self.redrive, "redriveRecord",
                "Send the record again, under a new command id", "quarantine",
                body="Empty", response="Redrive", statuses=(202,), one_command=False,
            ),
            Route(
                "POST", f"{_ONE}/edit", self.edit, "editRecord",
                "Send the record again with another body, checked before it is sent", "quarantine",
                body="EditRecord", response="Redrive", statuses=(202,), one_command=False,
            ),
            Route(
                "POST", f"{_ONE}/drop", self.drop, "dropRecord", "Note that nobody will send the record again",
                "quarantine", body="DropRecord", response="Deed", one_command=False,
            ),
        )  # fmt: skip

    async def redrive(self, request: web.Request) -> web.Response:
        """Send the record again, whatever was done about it before; its new outcome is under the new command id."""
        await read_body(request, EmptyBody)
        return await self._send(request, None)

    async def edit(self, request: web.Request) -> web.Response:
        """Send the record again with the body's data in place of its own."""
        body = await read_body(request, EditBody)
        return await self._send(request, Edit(body.type, body.data))

    async def drop(self, request: web.Request) -> web.Response:
        """Note that nobody will send the record again; its bytes stay until their time is over."""
        body = await read_body(request, DropBody)
        reason = _reason(body.reason)
        row = await self._one(request)
        await self._quarantine.drop([row], principal(request).actor, reason)
        return web.json_response({"id": place_of(row), "done": True, "why_not": None, "command_id": None})

    async def redrive_many(self, request: web.Request) -> web.Response:
        """Send the named records again; those that keep failing alike only by force."""
        body = await read_body(request, RedriveBody)
        who = principal(request)
        rows, reasons = await self._chosen(
            who.tenant, body.records, lambda row: held_back(row, force=body.force)
        )
        ids: list[str | None] = [None] * len(rows)
        if not body.dry_run:
            ids = await self._quarantine.redrive(rows, who.actor)
            gone = "Kafka does not keep it any more"
            reasons |= {place_of(row): gone for row, sent in zip(rows, ids, strict=True) if sent is None}
        sent_as = dict(zip(map(place_of, rows), ids, strict=True))
        return _deeds(body.records, reasons, sent_as, body.dry_run)

    async def drop_many(self, request: web.Request) -> web.Response:
        """Drop the named records."""
        body = await read_body(request, DropManyBody)
        reason, who = _reason(body.reason), principal(request)
        rows, reasons = await self._chosen(who.tenant, body.records, settled)
        if not body.dry_run:
            await self._quarantine.drop(rows, who.actor, reason)
        return _deeds(body.records, reasons, {}, body.dry_run)

    async def _send(self, request: web.Request, edit: Edit | None) -> web.Response:
        row = await self._one(request)
        if why_not := unsendable(row):
            raise problem("invalid", f"The record cannot be sent: {why_not}.")
        (sent,) = await self._quarantine.redrive([row], principal(request).actor, edit)
        if sent is None:
            raise problem("not_found", f"Kafka does not keep {place_of(row)} any more.")
        answer = {
            "command_id": sent,
            "causation_id": row["command_id"],
            "aggregate": row["aggregate"],
            "aggregate_id": row["original_key"].partition("/")[2],
        }
        return web.json_response(answer, status=202, headers={"Location": f"/v1/commands/{sent}"})

    async def _one(self, request: web.Request) -> Row:
        name = "/".join(request.match_info[part] for part in ("topic", "partition", "offset"))
        place = parse_place(name)
        rows = [] if place is None else await self._quarantine.find(principal(request).tenant, [place])
        if not rows:
            raise not_found("quarantined record", name)
        return rows[0]

    async def _chosen(
        self, tenant: str, records: Sequence[str], judge: Callable[[Row], str]
    ) -> tuple[list[Row], dict[str, str]]:
        """Return the rows to go, in the order asked for, and why the others do not."""
        if len(records) > RECORDS_MAX:
            detail = f"{len(records)} records, and one request takes at most {RECORDS_MAX}"
            raise problem("invalid", f"{detail}.", [{"pointer": "/records", "detail": detail}])
        places = {name: parse_place(name) for name in records}
        for number, name in enumerate(records):
            if places[name] is None:
                detail = f"{name!r} is no id of a record"
                fix = "GET /v1/quarantine lists ids such as run.commands/3/1042"
                fault = {"pointer": f"/records/{number}", "detail": detail, "fix": fix}
                raise problem("invalid", f"{detail}.", [fault])
        found = await self._quarantine.find(tenant, [place for place in places.values() if place])
        rows = {place_of(row): row for row in found}
        reasons = {name: "there is no such record" for name in places if name not in rows}
        reasons |= {name: why for name, row in rows.items() if (why := judge(row))}
        return [rows[name] for name in places if name not in reasons], reasons


def parse_place(name: str) -> Place | None:
    """Return the place that an id names, or None when it is none."""
    found = re.fullmatch(r"(.{1,249})/(\d{1,9})/(\d{1,18})", name)
    return (found[1], int(found[2]), int(found[3])) if found else None


def unsendable(row: Row) -> str:
    """Return why a record cannot be sent to any aggregate, or not now, or nothing."""
    if row["parked"] == "behind":
        return f"it waits ({row['detail']}) and goes by itself once the first of its aggregate is redriven or dropped"
    if "/" in row["original_key"]:
        return ""
    return "its key is not `tenant/aggregate-id`, so no aggregate is meant; its sender must send it anew"


def settled(row: Row) -> str:
    """Return what was done about a record before, or nothing."""
    return "" if row["status"] == "open" else f"it was {row['status']} already"


def held_back(row: Row, *, force: bool) -> str:
    """Return why a record does not go along with others, or nothing.

    A loop guard: who sends everything again, again and again, shall not send for ever what cannot succeed.
    """
    if why := settled(row) or unsendable(row):
        return why
    if row["failed_alike"] > REDRIVES_ALIKE_MAX and not force:
        return f"it failed {row['failed_alike']} times alike; mend the cause, then use force"
    return ""


def _reason(text: str) -> str:
    if not 0 < len(text.strip()) <= REASON_MAX:
        detail = f"say why, in 1 to {REASON_MAX} characters"
        raise problem("invalid", f"A reason is needed: {detail}.", [{"pointer": "/reason", "detail": detail}])
    return text.strip()


def _deeds(
    records: Sequence[str], reasons: dict[str, str], ids: dict[str, str | None], dry_run: bool
) -> web.Response:
    """Answer per record: whether it was done, and why not; in a dry run nothing is, and what would go has no reason."""
    items = [
        {
            "id": name,
            "done": name not in reasons and not dry_run,
            "why_not": reasons.get(name),
            "command_id": ids.get(name),
        }
        for name in dict.fromkeys(records)
    ]
    return web.json_response({"items": items})
