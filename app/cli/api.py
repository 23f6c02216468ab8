"""``flexcore api``: call any route of the HTTP API."""

import json

import click

from app.cli.failure import Failed
from app.cli.session import Session, Verb
from app.errors import EXIT_USAGE


@click.command(
    "api",
    cls=Verb,
    example="flexcore api GET '/v1/runs?status=failed'\nflexcore api POST /v1/runs/5e0f…/cancel",
)
@click.argument("method", type=click.Choice(["GET", "POST", "PUT", "DELETE"], case_sensitive=False))
@click.argument("path")
@click.option("--data", help="The body, JSON; - is stdin.", metavar="JSON")
@click.option("-H", "--header", "headers", multiple=True, help="A further header, NAME:VALUE.")
@click.option("-i", "--include", is_flag=True, help="Print status and headers to stderr.")
@click.pass_obj
def api(
    session: Session, method: str, path: str, data: str | None, headers: tuple[str, ...], include: bool
) -> None:
    """Call a route and print its answer as it is."""
    if not path.startswith("/"):
        raise Failed(
            f"the path {path!r} must begin with /", hint="flexcore api GET /v1/runs", exit_code=EXIT_USAGE
        )
    given = dict(_header(header) for header in headers)
    text = click.get_text_stream("stdin").read() if data == "-" else data
    body = text.encode() if text is not None else None
    answer = session.api.call(method.upper(), path, body, headers=given, timeout_s=session.timeout_s + 5)
    if include:
        click.echo(f"HTTP {answer.status}", err=True)
        for name, value in answer.headers.items():
            click.echo(f"{name}: {value}", err=True)
    click.echo(
        json.dumps(answer.body, indent=2, ensure_ascii=False)
        if not isinstance(answer.body, str)
        else answer.body
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Failed(f"{text!r} is no header", hint="-H 'Prefer: respond-async'", exit_code=EXIT_USAGE)
    return name.strip(), value.strip()
