"""How notices leave: over HTTP, to Slack, by mail, against real servers on loopback."""

import smtplib
import socket
from collections.abc import Iterator
from typing import Any, Self

import pytest

from connectors.notifier.channels import Notice, Undelivered, deliver
from tests.support.desk import Desk, running

NOTICE = Notice(
    "5a0cf5c8-6bd5-5d5c-9e3c-0d9c3c1f7a11", "copy: failed", "copy: run r1 failed", {"pipeline": "copy"}
)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A running one."""
    with running() as server:
        yield server


def test_a_webhook_gets_the_notice_with_its_id(desk: Desk) -> None:
    """The id is what tells a notice that comes twice."""
    deliver(desk.url, NOTICE)
    ((key, body),) = desk.got
    assert key == NOTICE.id
    assert body == {"id": NOTICE.id, "subject": NOTICE.subject, "text": NOTICE.text, "pipeline": "copy"}


def test_slack_gets_a_text(desk: Desk) -> None:
    """As incoming webhooks take it."""
    deliver(f"slack+{desk.url}", NOTICE)
    assert desk.got[0][1] == {"text": "*copy: failed*\ncopy: run r1 failed"}


@pytest.mark.parametrize(("answer", "final"), [(503, False), (429, False), (404, True)])
def test_a_refusal_says_whether_trying_again_helps(desk: Desk, answer: int, final: bool) -> None:
    """A wrong address stays wrong."""
    desk.answers = [answer]
    with pytest.raises(Undelivered, match=str(answer)) as told:
        deliver(desk.url, NOTICE)
    assert told.value.final is final


def test_nobody_there_is_told_as_such() -> None:
    """A closed port: later, perhaps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Undelivered, match="no answer") as told:
        deliver(f"http://127.0.0.1:{port}/", NOTICE)
    assert not told.value.final


def test_a_mail_has_sender_receivers_and_the_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two receivers; a name and password are used only over TLS."""
    sent: list[Any] = []

    class Server:
        def __init__(self, host: str, port: int, timeout: float) -> None:
            sent.append((host, port))

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def starttls(self) -> None:
            sent.append("tls")

        def login(self, name: str, password: str) -> None:
            sent.append((name, password))

        def send_message(self, mail: Any) -> None:
            sent.append(mail)

    monkeypatch.setattr(smtplib, "SMTP", Server)
    deliver("smtp://me:s%40cret@mail.local:2525/?from=flexcore@local&to=a@local&to=b@local", NOTICE)
    place, tls, login, mail = sent
    assert (place, tls, login) == (("mail.local", 2525), "tls", ("me", "s@cret"))
    assert (mail["To"], mail["Subject"], mail.get_content().strip()) == (
        "a@local, b@local",
        NOTICE.subject,
        NOTICE.text,
    )


def test_a_channel_of_no_known_kind_is_refused_with_the_fix() -> None:
    """One sentence that names what would do."""
    with pytest.raises(Undelivered, match="https://, slack") as told:
        deliver("ftp://somewhere", NOTICE)
    assert told.value.final
