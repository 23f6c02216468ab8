"""``flexcore dev``: a local stack of real Kafka, real PostgreSQL and nodes, as processes of this machine."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.failure import Failed
from app.cli.output import show_data, show_table
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_CONFLICT, EXIT_FAILED, EXIT_NOT_FOUND

if TYPE_CHECKING:
    from deploy.local.failures import LocalStackError

dev = noun("dev", "A local stack: Kafka, PostgreSQL and nodes, on this machine.")
_DATA_DIR = click.Option(
    ["--data-dir"], help="Where its data are [.flexcore of the project, else of this folder].", metavar="DIR"
)
_PUBLISHED = ("kafka", "postgres", "registry", "connect", "nodes", "data_dir")
_FOLLOW_EVERY_S = 0.2


class StackVerb(Verb):
    """A verb about the stack of one data directory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_DATA_DIR)


@dev.command("up", cls=StackVerb, example="flexcore dev up --nodes 3 --detach\nflexcore dev up --brokers 3")
@click.option(
    "--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Kafka brokers."
)
@click.option(
    "--nodes", type=click.IntRange(0, 32), default=1, show_default=True, help="Nodes of the platform."
)
@click.option("--detach", is_flag=True, help="Return when everything is ready; `flexcore dev down` stops it.")
@click.option("--restart", is_flag=True, help="Start again whatever is killed.")
@click.pass_obj
def up(session: Session, brokers: str, nodes: int, detach: bool, restart: bool, data_dir: str | None) -> None:
    """Start Kafka, PostgreSQL and nodes, and wait until all are ready.

    Without --detach it stays in the foreground until Ctrl-C. Data stay in the data directory: started again there,
    it is the same stack, at the same addresses where their ports are still free. The first start on a machine
    fetches Kafka (about 50 MB).
    """
    from deploy.local import supervisor
    from deploy.local.failures import LocalStackError
    from deploy.local.stack import StackSettings

    folder = _folder(session, data_dir)
    settings = StackSettings(folder, session.project, int(brokers), nodes, restart)
    try:
        with _progress() as say:
            if detach:
                _show(session.output, supervisor.detach(settings, say))
            else:
                supervisor.run(settings, say, lambda description: _stay(session.output, description, say))
    except LocalStackError as error:
        raise _failure(error) from None


@dev.command("status", cls=StackVerb, example="flexcore dev status\nflexcore dev status -o json")
@click.pass_obj
def status(session: Session, data_dir: str | None) -> None:
    """Show the addresses of the running stack. Exit code 3 when none runs."""
    from deploy.local import stack

    folder = _folder(session, data_dir)
    published = stack.read(folder)
    if published is None:
        pid = stack.owner(folder)
        if pid is not None:
            raise Failed(
                f"the stack of {folder} is still starting (process {pid})", hint="flexcore dev logs -f"
            )
        raise _not_running(folder)
    _show(session.output, published)


@dev.command("down", cls=StackVerb, example="flexcore dev down\nflexcore dev down --wipe")
@click.option("--wipe", is_flag=True, help="Delete its data too: topics, tables, logs.")
@click.pass_obj
def down(session: Session, wipe: bool, data_dir: str | None) -> None:
    """Stop the stack and everything it started. Nothing to do is no failure."""
    from deploy.local import stack, supervisor

    folder = _folder(session, data_dir)
    with _progress() as say:
        stopped = supervisor.down(folder, say)
        if not stopped:
            say(f"no stack is running on {folder}")
        if wipe and (gone := stack.wipe(folder)):
            say(f"deleted {', '.join(gone)} of {folder}")


@dev.command("logs", cls=StackVerb, example="flexcore dev logs\nflexcore dev logs -f node-1")
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written, until Ctrl-C.")
@click.option(
    "--lines", type=click.IntRange(0), default=40, show_default=True, help="Last lines of each log."
)
@click.pass_obj
def logs(session: Session, name: str | None, follow: bool, lines: int, data_dir: str | None) -> None:
    """Print what the stack's processes wrote: all of them, or one by NAME (kafka-1, postgres, node-1, …)."""
    from deploy.local.process import log_tail

    folder = _folder(session, data_dir) / "logs"
    files = {file.stem: file for file in sorted(folder.glob("*.log"))}
    if not files:
        raise _not_running(folder.parent)
    if name is not None and name not in files:
        raise Failed(f"there is no log {name!r}", hint=f"one of {', '.join(files)}", exit_code=EXIT_NOT_FOUND)
    chosen = files if name is None else {name: files[name]}
    ends = {log: file.stat().st_size for log, file in chosen.items()}
    for log, file in chosen.items():
        _print_lines(log, log_tail(file, lines), alone=name is not None)
    while follow:
        time.sleep(_FOLLOW_EVERY_S)
        for log, file in chosen.items():
            ends[log] = _print_new(log, file, ends[log], alone=name is not None)


def _folder(session: Session, data_dir: str | None) -> Path:
    if data_dir:
        return Path(data_dir).expanduser().absolute()
    return (session.project or Path.cwd()) / ".flexcore"


def _print_lines(log: str, lines: tuple[str, ...], alone: bool) -> None:
    for line in lines:
        click.echo(line if alone else f"{log:10} | {line}")


def _print_new(log: str, file: Path, seen: int, alone: bool) -> int:
    """Print the whole lines added to `file` after byte `seen`; return how far that was."""
    size = file.stat().st_size if file.exists() else 0
    if size <= seen:
        return size  # begun anew by another start, or nothing new
    with file.open("rb") as handle:
        handle.seek(seen)
        added = handle.read(size - seen)
    whole = added[: added.rfind(b"\n") + 1]
    _print_lines(log, tuple(whole.decode("utf-8", "replace").splitlines()), alone)
    return seen + len(whole)


def _stay(output: str, description: Mapping[str, Any], say: Callable[[str], None]) -> None:
    _show(output, description)
    say("the stack is up; Ctrl-C stops it")


def _show(output: str, published: Mapping[str, Any]) -> None:
    if output not in ("table", "wide", "name"):
        show_data(output, {key: published[key] for key in _PUBLISHED})
        return
    if output == "name":
        click.echo("\n".join(node["name"] for node in published["nodes"]))
        return
    rows = [
        ["Kafka", published["kafka"]["bootstrap"]],
        ["PostgreSQL", published["postgres"]["url"]],
        ["schema registry", published["registry"]["url"] or "-"],
    ]
    rows += [[node["name"], f"{node['url']}  ({', '.join(node['roles'])})"] for node in published["nodes"]]
    rows += [[name, f"ended with {code}"] for name, code in published.get("ended", {}).items()]
    rows.append(["data", published["data_dir"]])
    show_table(("what", "where"), rows)


def _not_running(folder: Path) -> Failed:
    return Failed(
        f"no stack is running on {folder}", hint="flexcore dev up --detach", exit_code=EXIT_NOT_FOUND
    )


def _failure(error: "LocalStackError") -> Failed:
    from deploy.local.failures import DataDirLocked

    code = EXIT_CONFLICT if isinstance(error, DataDirLocked) else EXIT_FAILED
    return Failed(error.cause.rstrip("."), hint=error.fix, exit_code=code, details=error.log_tail)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that tells a person on stderr what happens: a spinner on a terminal, lines elsewhere."""
    began = time.monotonic()
    if not click.get_text_stream("stderr").isatty():
        yield lambda line: click.echo(f"[{time.monotonic() - began:5.1f} s] {line}", err=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    with console.status("") as spinner:

        def say(line: str) -> None:
            console.print(Text(f"{time.monotonic() - began:6.1f} s  {line}", style="dim"))
            spinner.update(Text(line))

        yield say
