"""Everything that can go wrong at the edge, in one table: code → HTTP status, CLI exit code, title, what to try.

A :class:`Problem` is how a handler, a reader or the bus refuses; ``app.api`` renders it as RFC 9457
``application/problem+json``, the CLI renders it in one or two lines. Codes are promises: programs branch on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_TIMEOUT, EXIT_INTERRUPTED = (
    0,
    1,
    2,
    3,
    4,
    5,
    130,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table. ``hint`` completes the sentence "try: …"; empty when there is nothing useful to say."""

    status: int
    exit_code: int
    title: str
    hint: str = ""


# Why an aggregate refused a command. The set is closed: it equals the reasons the domain may return.
REJECTIONS: Mapping[str, Failure] = {
    "invalid": Failure(
        422, EXIT_CONFLICT, "The request is not valid", "fix what is listed and send it again"
    ),
    "not_found": Failure(404, EXIT_NOT_FOUND, "There is no such thing", "list what exists"),
    "already_exists": Failure(
        409, EXIT_CONFLICT, "It exists already", "choose another name, or read the existing one"
    ),
    "paused": Failure(409, EXIT_CONFLICT, "It is paused", "resume it first"),
    "not_running": Failure(409, EXIT_CONFLICT, "It is not running", "look at its status"),
    "already_ended": Failure(409, EXIT_CONFLICT, "It has ended already", "rerun it, or start a new run"),
    "not_ended": Failure(409, EXIT_CONFLICT, "It has not ended yet", "wait for its end, or cancel it"),
    "stale_lease": Failure(409, EXIT_CONFLICT, "The lease belongs to somebody else now", "stop this attempt"),
    "stale_attempt": Failure(409, EXIT_CONFLICT, "A newer attempt exists", "stop this attempt"),
    "held": Failure(409, EXIT_CONFLICT, "Another run holds it", "wait for that run's end, or cancel it"),
    "not_held": Failure(409, EXIT_CONFLICT, "Nobody holds it under this token", "begin again"),
    "range_expired": Failure(410, EXIT_CONFLICT, "The records are not kept any more", "reset the bookmark"),
    "not_allowed": Failure(403, EXIT_CONFLICT, "It is for others to decide", "ask one of those it names"),
    "version_conflict": Failure(
        412, EXIT_CONFLICT, "It was changed meanwhile", "read it again, then repeat the change"
    ),
    "body_mismatch": Failure(
        422,
        EXIT_CONFLICT,
        "This idempotency key was used for another request",
        "use a new key for a new request",
    ),
    "overloaded": Failure(429, EXIT_FAILED, "Too much at once", "send it again in a moment"),
    "misrouted_twice": Failure(
        500,
        EXIT_FAILED,
        "The command did not find its shard",
        "check that all nodes agree on the number of shards",
    ),
}

# What the edge itself says no to, and what the world does to it.
FAILURES: Mapping[str, Failure] = {
    "in_use": Failure(409, EXIT_CONFLICT, "It is in use", "let what uses it end, or delete it with force"),
    "bad_json": Failure(
        400, EXIT_USAGE, "The body cannot be read", "send JSON (or YAML where a pipeline is expected)"
    ),
    "bad_request": Failure(400, EXIT_USAGE, "The request cannot be read", "look at the route in /docs"),
    "forbidden": Failure(
        403, EXIT_FAILED, "Not from there", "speak to http://127.0.0.1 on the node's own machine"
    ),
    "no_such_route": Failure(404, EXIT_NOT_FOUND, "There is no such route", "look at /docs for the routes"),
    "method_not_allowed": Failure(
        405, EXIT_USAGE, "The route does not know this method", "use one of the Allow header"
    ),
    "not_acceptable": Failure(406, EXIT_USAGE, "The answer has no such form", "ask for application/json"),
    "not_owner": Failure(
        421, EXIT_FAILED, "Another node owns it now", "ask any node; it finds the owner by itself"
    ),
    "too_large": Failure(413, EXIT_USAGE, "The body is too large", "send less in one request"),
    "unsupported_media_type": Failure(
        415, EXIT_USAGE, "The body's type is not understood", "set Content-Type: application/json"
    ),
    "command_failed": Failure(
        500, EXIT_FAILED, "The command was put into quarantine", "flexcore quarantine list shows its cause"
    ),
    "internal": Failure(
        500, EXIT_FAILED, "The node made a mistake", "look at the node's log under this request id"
    ),
    "unavailable": Failure(
        503, EXIT_FAILED, "A service the node needs is away", "flexcore cluster health names it"
    ),
    "not_yet": Failure(504, EXIT_TIMEOUT, "The answer is not there yet", "ask again, or wait longer"),
}

TABLE: Mapping[str, Failure] = {**REJECTIONS, **FAILURES}


class Problem(Exception):
    """A refusal with everything a caller needs: what, why, and (by ``code``) what to do about it.

    ``errors`` lists single faults as objects with ``pointer`` and ``detail`` (and ``fix`` where there is one);
    ``headers`` are added to the HTTP answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})

    def document(self, instance: str = "") -> dict[str, Any]:
        """Return the RFC 9457 object; ``instance`` is the path that was asked."""
        return {
            "type": f"urn:flexcore:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "errors": self.errors,
        }


def problem(
    code: str,
    detail: str,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """Return the :class:`Problem` of ``code``, with status and title from the table."""
    failure = TABLE.get(code, FAILURES["internal"])
    return Problem(failure.status, code, failure.title, detail, errors, headers)


def not_found(noun: str, name: str) -> Problem:
    """Return the problem of asking for something that does not exist: ``not_found("pipeline", "x")``."""
    return problem("not_found", f"There is no {noun} {name!r}.")


def exit_code(code: str, status: int = 500) -> int:
    """Return the CLI's exit code for a problem; an unknown code is judged by its HTTP status."""
    failure = TABLE.get(code)
    if failure is not None:
        return failure.exit_code
    by_status = {404: EXIT_NOT_FOUND, 409: EXIT_CONFLICT, 412: EXIT_CONFLICT, 504: EXIT_TIMEOUT}
    return by_status.get(status, EXIT_FAILED)
