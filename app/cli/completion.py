"""``flexcore completion``: what a shell needs to complete nouns, verbs and options."""

import click
from click.shell_completion import get_completion_class

from app.cli.failure import Failed
from app.cli.session import Verb


@click.command("completion", cls=Verb, example="flexcore completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise Failed(f"{shell} cannot be completed")
    click.echo(kind(ctx.find_root().command, {}, "flexcore", "_FLEXCORE_COMPLETE").source())
