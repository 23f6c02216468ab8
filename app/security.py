"""Who asks, and from where. Until authentication is configured every listener is loopback only, and this is why:
a posted pipeline is code execution. So a web page open on the same machine must not be able to post one either.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from app.errors import problem

TENANT_HEADER = "Flexcore-Tenant"
ACTOR_HEADER = "Flexcore-Actor"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ACTOR = re.compile(r"[\x20-\x7e]{1,200}")
_READS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Principal:
    """In whose name a request acts: the tenant it sees, and the actor that events will name."""

    tenant: str
    actor: str


def principal(request: web.Request) -> Principal:
    """Return the request's principal; raises ``bad_request`` for a tenant or actor that cannot be one."""
    tenant = request.headers.get(TENANT_HEADER, "default")
    actor = request.headers.get(ACTOR_HEADER, "anonymous")
    if not _TENANT.fullmatch(tenant):
        raise problem(
            "bad_request", f"{TENANT_HEADER} {tenant!r} is no name: use lower-case letters, digits, hyphens."
        )
    if not _ACTOR.fullmatch(actor):
        raise problem("bad_request", f"{ACTOR_HEADER} must be printable ASCII, at most 200 characters.")
    return Principal(tenant, actor)


def guard(request: web.Request) -> None:
    """Raise ``forbidden`` for what a foreign web page could send: another Host (DNS rebinding) or another Origin."""
    host = request.headers.get("Host")  # a browser always sends one
    if host is not None and _host(f"//{host}") not in LOOPBACK:
        raise problem("forbidden", f"The host {host!r} is not this machine's own name for itself.")
    origin = request.headers.get("Origin")
    if origin and request.method not in _READS and _host(origin) not in LOOPBACK:
        raise problem("forbidden", f"Pages of {origin} may not send commands.")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
