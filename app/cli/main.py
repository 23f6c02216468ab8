"""The command ``flexcore``: nouns loaded only when used, so that ``flexcore --help`` answers at once.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict or
rejected, 5 timed out, 130 interrupted.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from app.cli.failure import Failed
from app.cli.session import COMMON_OPTIONS, common_option, remember
from app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

# Noun → (where its click command is, the line shown by `flexcore --help`).
NOUNS: Mapping[str, tuple[str, str]] = {
    "dev": ("app.cli.dev:dev", "A local stack: Kafka, PostgreSQL and nodes, on this machine."),
    "node": ("app.cli.node:node", "Run one process of the platform."),
    "pipeline": ("app.cli.pipeline:pipeline", "Define what is moved, and how."),
    "run": ("app.cli.run:run", "Start, watch and repair executions of pipelines."),
    "alert": ("app.cli.alert:alert", "What failed, went quiet or is unusual, and who looks after it."),
    "limit": ("app.cli.limit:limit", "How many runs may be at work at once, and which wait."),
    "schedule": ("app.cli.schedule:schedule", "When pipelines start by themselves."),
    "bookmark": ("app.cli.bookmark:bookmark", "How far each step has read its source."),
    "dataset": ("app.cli.dataset:dataset", "The records of steps."),
    "event": ("app.cli.event:event", "The log of everything that was decided; audit and proof."),
    "audit": ("app.cli.audit:audit", "Who did what, and what the owners of the shards vouch for."),
    "view": ("app.cli.view:view", "The read store, folded from the log."),
    "command": ("app.cli.command:command", "Send commands, ask for their outcomes."),
    "quarantine": (
        "app.cli.quarantine:quarantine",
        "Records nobody could handle; look, mend, send again, or drop.",
    ),
    "cluster": ("app.cli.cluster:cluster", "Nodes, shards and health."),
    "config": ("app.cli.settings:config", "Every setting with its origin."),
    "api": ("app.cli.api:api", "Call any route of the HTTP API."),
    "completion": ("app.cli.completion:completion", "Completion for bash, zsh or fish."),
}


class LazyNouns(click.Group):
    """A group whose commands are imported when they are called; their help lines come from the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in the order of the table."""
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the noun's module and return its command."""
        if cmd_name not in NOUNS:
            return None
        module, _, attribute = NOUNS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, text) for noun, (_, text) in NOUNS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown noun and name the one that was probably meant."""
        if args and args[0] not in NOUNS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r}{_near(args[0])}")
        return super().resolve_command(ctx, args)


def _near(word: str) -> str:
    from difflib import get_close_matches  # here: only a misspelt command needs it, and it is slow to import

    near = get_close_matches(word, NOUNS, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; `flexcore --help` lists them all."


@click.group(
    cls=LazyNouns,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: flexcore dev up --detach && flexcore pipeline apply -f pipeline.yaml",
)
@click.version_option(package_name="flexcore", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """FlexCore moves data between systems, and can prove what it did."""
    remember(ctx, options)


cli.params.extend(common_option(option) for option in COMMON_OPTIONS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code; no traceback reaches the user."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = cli.main(args=list(argv), prog_name="flexcore", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone (`| head`): nothing to say, and nobody to say it to
        return 0
    except Failed as failure:
        failure.show()
        return failure.exit_code
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    from app.config import ConfigError  # here: `--help` needs no configuration

    if isinstance(error, ConfigError):
        click.echo(f"error: {error}", err=True)
        return EXIT_USAGE
    click.echo(f"error: {type(error).__name__}: {error}", err=True)
    click.echo(
        "try: report this with the command that caused it; it is a mistake of flexcore's own", err=True
    )
    return EXIT_FAILED
