"""What the documents name exists: make targets, commands, settings, topics, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from app.cli.main import cli
from app.settings import SETTINGS
from schemas import topics as topic_names

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(d for p in ("app", "streams", "schemas", "connectors", "deploy") for d in (ROOT / p).rglob("*.md")),
    ]
)
IDS = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
AGGREGATES = ("pipeline", "run", "bookmark", "schedule")


def _code(document: Path) -> str:
    """What stands in code blocks and between backticks, line by line."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@each_document
def test_make_targets_exist(document: Path) -> None:
    """Every `make X` of the document is a target."""
    named = re.findall(r"(?:^|[\s`$])make ([a-z]+)", _code(document), re.MULTILINE)
    assert sorted(set(named) - _make_targets()) == []


@each_document
def test_commands_exist(document: Path) -> None:
    """Every `flexcore noun verb` of the document is one, and takes the options it is shown with."""
    wrong = []
    for line in re.findall(r"(?:^|\s|\$ )(flexcore [a-z][^\n#|]*)", _code(document), re.MULTILINE):
        try:
            words = shlex.split(line.replace("…", " "))[1:]
        except ValueError:  # a quotation that goes on in the next line
            words = line.split()[1:]
        if (trouble := _trouble(words)) is not None:
            wrong.append(f"{line.strip()}: {trouble}")
    assert wrong == []


def _trouble(words: list[str]) -> str | None:
    """Follow the words down the tree of commands; return what is not there."""
    context = click.Context(cli, obj={})
    found: click.Command | None = cli
    for position, word in enumerate(words):
        if not isinstance(found, click.Group):
            return _unknown_option(found, words[position:])
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            return None
        found = found.get_command(context, word)
        if found is None:
            return f"no command {word!r}"
    return None


def _unknown_option(command: click.Command | None, words: list[str]) -> str | None:
    if command is None:
        return None
    known = {"-h", "--help"} | {option for param in command.params for option in param.opts}
    used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
    if command.context_settings.get("ignore_unknown_options"):
        return None
    unknown = sorted(used - known)
    return f"no option {', '.join(unknown)}" if unknown else None


@each_document
def test_settings_exist(document: Path) -> None:
    """Every FLEXCORE_* of the document is a setting, a passed-through Kafka one, a channel, or one of the tests'."""
    named = set(re.findall(r"\bFLEXCORE_([A-Z][A-Z0-9_]*[A-Z0-9])\b", document.read_text(encoding="utf-8")))
    known = {setting.name for setting in SETTINGS}
    unknown = {
        name for name in named - known if not name.startswith(("KAFKA_", "NOTIFY_", "TEST_", "BENCH_"))
    }
    assert sorted(unknown) == []


@each_document
def test_topics_exist(document: Path) -> None:
    """Every `<aggregate>.<kind>` of the document is a topic the platform makes."""
    kinds = {"commands", "events", "outcomes", "snapshots", "quarantine", "logs"}
    known_elsewhere = Path(topic_names.__file__).read_text(encoding="utf-8")
    wrong = []
    code = re.sub(r"\$\{\{.*?\}\}", "", _code(document))  # expressions have names of their own
    for aggregate, kind in re.findall(r"(?<![\w./-])([a-z]+)\.([a-z]+)(?![\w/.])", code):
        if aggregate in AGGREGATES and kind not in kinds and f'"{aggregate}.{kind}"' not in known_elsewhere:
            wrong.append(f"{aggregate}.{kind}")
    assert wrong == []


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of the document leads to a file."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []
