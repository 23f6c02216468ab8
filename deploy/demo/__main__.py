"""``python -m deploy.demo``: the whole way of the data on real input, checked; exit code 0 only if every check held."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.demo.customers import Export
from deploy.demo.directory import Directory
from deploy.demo.outside import CheckFailed
from deploy.demo.stack import Stack
from deploy.demo.story import Figures, Story

_console = Console(stderr=True, highlight=False)


def main() -> int:
    """Play the story, print what was moved and checked; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(".flexcore/demo"), help="where the demo's stack lives"
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    options = parser.parse_args()
    begun = time.monotonic()
    stack = Stack(options.folder.resolve())
    directory = Directory(unavailable=3)
    held = False
    table = Table("what", "checked", "seconds", title="customer-data-synchronization", title_justify="left")
    try:
        _play("a stack of two nodes", lambda: _prepare(stack, directory), table)
        export = Export(stack.customers)
        export.write()
        story = Story(stack, export, directory)
        for chapter in (
            story.first_run,
            story.changes,
            story.kill_in_a_load,
            story.repair,
            story.one_key,
            story.plain_kafka,
            story.drop_the_views,
            story.verify,
        ):
            _play((chapter.__doc__ or "").splitlines()[0], chapter, table)
        held = True
    except CheckFailed as failed:
        _console.print(f"[red]The demo failed:[/red] {failed}")
        _console.print(f"The logs of the stack are in {stack.folder / 'stack' / 'logs'}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        directory.close()
        if not options.keep:
            stack.stop(wipe=held)
    Console(highlight=False, width=110).print(table)
    print(f"Every figure above was checked by clients from outside. {time.monotonic() - begun:.0f} s in all.")
    return 0


def _prepare(stack: Stack, directory: Directory) -> Figures:
    status = stack.start()
    stack.make_warehouse()
    stack.secret("directory-url", directory.url)
    return [
        ("nodes", ", ".join(node["name"] for node in status["nodes"])),
        ("Kafka", status["kafka"]["bootstrap"]),
    ]


def _play(title: str, chapter: Callable[[], Figures], table: Table) -> None:
    _console.print(f"[bold]{title}[/bold]")
    start = time.monotonic()
    figures = chapter()
    took = time.monotonic() - start
    for number, (what, figure) in enumerate(figures):
        _console.print(f"  [green]checked[/green] {what}: {figure}")
        table.add_row(what, figure, f"{took:.1f}" if number == len(figures) - 1 else "")


if __name__ == "__main__":
    sys.exit(main())
