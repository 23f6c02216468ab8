"""What every verb shares: the options all of them take, the API they speak to, how they fail."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from app.cli.client import Client
    from app.config import Config

FORMATS = ("table", "wide", "json", "jsonl", "yaml", "name")
# Option → (flags, click arguments); each may stand before the noun or after the verb.
COMMON_OPTIONS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    "url": (
        ("--url",),
        {"help": "The API to speak to [FLEXCORE_URL; else the running dev stack].", "metavar": "URL"},
    ),
    "tenant": (("--tenant",), {"help": "The tenant to act in [FLEXCORE_TENANT].", "metavar": "NAME"}),
    "output": (("-o", "--output"), {"help": "How data is printed.", "type": click.Choice(FORMATS)}),
    "project": (("--project",), {"help": "The project folder [upwards from here].", "metavar": "DIR"}),
    "timeout": (
        ("--timeout",),
        {"help": "Longest wait for an answer, in seconds.", "type": click.FloatRange(0.1)},
    ),
}


def common_option(name: str) -> click.Option:
    """Return a new instance of the option ``name`` that all verbs take."""
    flags, arguments = COMMON_OPTIONS[name]
    return click.Option([*flags, name], **arguments)


def remember(ctx: click.Context, options: Mapping[str, Any]) -> None:
    """Keep the options given so far for the verb; a later one wins."""
    known = ctx.ensure_object(dict)
    known.update({name: value for name, value in options.items() if value is not None})


class Session:
    """What a verb is given: its common options, and the configuration and API client made from them when asked for."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @property
    def output(self) -> str:
        """How data is to be printed: one of FORMATS."""
        return self.options.get("output") or "table"

    @property
    def timeout_s(self) -> float:
        """How long the verb may wait for an answer."""
        return float(self.options.get("timeout") or 30.0)

    @property
    def project(self) -> Path | None:
        """The project folder, if there is one here or above."""
        return self.config.project

    @cached_property
    def config(self) -> "Config":
        """The settings, with the command line's options over them."""
        from app.config import load  # here: `--help` needs no configuration

        names = {"url": "URL", "tenant": "TENANT", "project": "PROJECT"}
        given = {names[option]: str(value) for option, value in self.options.items() if option in names}
        return load(overrides=given)

    @cached_property
    def api(self) -> "Client":
        """The client of the HTTP API."""
        from app.cli.client import Client, find_url  # here: not every verb speaks HTTP

        return Client(find_url(self.config), self.config.get("TENANT"), self.timeout_s)


class Verb(click.Command):
    """A command with the common options and, in its help, an example that can be copied."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.extend(common_option(option) for option in COMMON_OPTIONS)

    def invoke(self, ctx: click.Context) -> Any:
        """Take the common options out and call the verb with its session."""
        remember(ctx, {option: ctx.params.pop(option, None) for option in COMMON_OPTIONS})
        ctx.obj = Session(ctx.obj)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write_text(line)


def noun(name: str, text: str) -> click.Group:
    """Return an empty group of verbs."""
    return click.Group(name, help=text, context_settings={"help_option_names": ["-h", "--help"]})
