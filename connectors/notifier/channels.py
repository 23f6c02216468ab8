"""Channels: how somebody is reached. The scheme of a channel's URL says how.

- ``http://`` and ``https://``: the notice as a JSON object, by POST, with its id as ``Idempotency-Key``.
- ``slack+https://``: ``{"text": …}``, as Slack's incoming webhooks (and those of Mattermost and Discord's ``/slack``)
  take it.
- ``smtp://user:password@host:port/?from=…&to=…``: a mail; ``smtps://`` speaks TLS from the start.
"""

import base64
import contextlib
import http.client
import json
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_TIMEOUT_S = 10.0


class Undelivered(Exception):
    """The channel did not take the notice; the message says why. ``final``: trying again is of no use."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. ``id`` is the event's: a notice that comes twice carries the same one."""

    id: str
    subject: str
    text: str
    fields: Mapping[str, Any]


def deliver(url: str, notice: Notice) -> None:
    """Deliver the notice. Blocking, at most about 10 s. Raises :class:`Undelivered`."""
    place = urlsplit(url)
    if place.scheme in ("http", "https"):
        _post(url, notice, {"id": notice.id, "subject": notice.subject, "text": notice.text, **notice.fields})
    elif place.scheme in ("slack+http", "slack+https"):
        _post(url.removeprefix("slack+"), notice, {"text": f"*{notice.subject}*\n{notice.text}"})
    elif place.scheme in ("smtp", "smtps"):
        _mail(place, notice)
    else:
        wanted = "https://, slack+https://, smtp:// or smtps://"
        raise Undelivered(f"the channel's URL begins with {place.scheme}://; it must be {wanted}", final=True)


def _post(url: str, notice: Notice, body: Mapping[str, Any]) -> None:
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    target = (place.path or "/") + (f"?{place.query}" if place.query else "")
    headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
    if place.username:
        pair = f"{unquote(place.username)}:{unquote(place.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    try:
        with contextlib.closing(kind(place.hostname or "", place.port, timeout=_TIMEOUT_S)) as connection:
            connection.request("POST", target, json.dumps(body), headers)
            answer = connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Undelivered(f"no answer: {type(error).__name__}: {error}") from error
    if not 200 <= answer.status < 300:
        refused = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)
        raise Undelivered(f"answered {answer.status} {answer.reason}", final=refused)


def _mail(place: SplitResult, notice: Notice) -> None:
    query = parse_qs(place.query)
    if not place.hostname or "from" not in query or "to" not in query:
        raise Undelivered("the channel's URL must be smtp://host:port/?from=…&to=…", final=True)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = query["from"][0], ", ".join(query["to"]), notice.subject
    mail["Message-ID"] = f"<{notice.id}@flexcore>"
    mail.set_content(notice.text)
    secure = place.scheme == "smtps"
    kind = smtplib.SMTP_SSL if secure else smtplib.SMTP
    try:
        with kind(place.hostname, place.port or (465 if secure else 25), timeout=_TIMEOUT_S) as server:
            if place.username:
                if not secure:
                    server.starttls()
                server.login(unquote(place.username), unquote(place.password or ""))
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise Undelivered(f"the mail server did not take it: {error}") from error
