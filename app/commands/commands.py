"""Any command to any aggregate: what a Kafka client would write to ``<aggregate>.commands``, over HTTP."""

from collections.abc import Iterable
from difflib import get_close_matches

from aiohttp import web

from app.commands.bodies import CommandBody, convert, read_body
from app.commands.submit import Submitter, command_id, pending, position, prefer
from app.errors import Problem, problem
from app.ports import Order, WriteDependencies
from app.routes import Route

_ID_MAX = 200


class AnyCommand:
    """Handler of ``POST /v1/commands``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        summary = "Send any command to any aggregate"
        return (
            Route(
                "POST", "/v1/commands", self.send, "sendCommand", summary, "commands",
                body="Command", response="Outcome", statuses=(200, 202),
            ),
        )  # fmt: skip

    async def send(self, request: web.Request) -> web.Response:
        """Send the command in the body; the answer is its outcome."""
        body = await read_body(request, CommandBody)
        kinds = self._needs.vocabulary.get(body.aggregate)
        if kinds is None:
            raise _unknown("/aggregate", "aggregate", body.aggregate, self._needs.vocabulary)
        kind = kinds.get(body.type)
        if kind is None:
            raise _unknown("/type", f"command of {body.aggregate}", body.type, kinds)
        if not 0 < len(body.id) <= _ID_MAX or any(character.isspace() for character in body.id):
            detail = f"an id has 1 to {_ID_MAX} characters and no white space"
            raise problem(
                "invalid", f"The id cannot be used: {detail}.", [{"pointer": "/id", "detail": detail}]
            )
        _fit(body.data, kind)
        order = Order(body.aggregate, body.id, body.type, body.data, command_id(request))
        preference = prefer(request, self._needs)
        outcome = await self._submitter.outcome(request, order, preference)
        if outcome is None:
            return pending(order, preference)
        token = position(outcome)
        headers = {"Flexcore-Position": token, "ETag": f'"{outcome["last_version"]}"'}
        return web.json_response({**outcome, "position": token}, headers=headers)


def _fit(data: dict[str, object], kind: type) -> None:
    """Refuse data that the command's record cannot hold, before it becomes a quarantined record."""
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]  # every command is a dataclass
    if strangers := sorted(data.keys() - fields.keys()):
        raise _unknown(f"/data/{strangers[0]}", f"field of {kind.__name__}", strangers[0], fields)
    try:
        convert(data, kind)
    except Problem as fault:
        errors = [{**error, "pointer": f"/data{error['pointer']}"} for error in fault.errors]
        raise problem("invalid", fault.detail, errors) from None


def _unknown(pointer: str, noun: str, word: str, known: Iterable[str]) -> Problem:
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    fix = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return problem(
        "invalid", f"There is no {noun} {word!r}.", [{"pointer": pointer, "detail": "unknown", "fix": fix}]
    )
