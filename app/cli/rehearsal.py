"""``flexcore pipeline test``: pipelines played in memory, in virtual time, against what scenarios expect."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.failure import Failed
from app.cli.files import read_file, read_pipelines
from app.cli.output import say, show_data, show_list
from app.cli.session import Session, Verb
from app.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from streams.rehearsal.rehearsal import Rehearsal
    from streams.rehearsal.scenario import Scenario

SCENARIOS = "tests"
"""The folder beside pipeline files that holds their scenario files."""


@dataclass(slots=True)
class Piece:
    """A pipeline with its scenarios, and what came of each."""

    document: Mapping[str, Any]
    scenarios: "list[Scenario]" = field(default_factory=list)
    rehearsals: "list[Rehearsal]" = field(default_factory=list)


@click.command(
    "test",
    cls=Verb,
    example="flexcore pipeline test\nflexcore pipeline test pipelines/copy.yaml --scenario copy-tests.yaml",
)
@click.argument("file", required=False)
@click.option("-f", "--file", "named", help="The same file, named as other verbs take it.")
@click.option(
    "--scenario", "files", multiple=True, help="A scenario file [all in tests/ beside the pipelines]."
)
@click.option("--junit", type=click.Path(dir_okay=False), help="Write the results as JUnit XML, too.")
@click.pass_obj
def test(
    session: Session, file: str | None, named: str | None, files: tuple[str, ...], junit: str | None
) -> int:
    """Play a pipeline file, or all of the project, in memory and in virtual time; nothing is executed.

    Steps do what a scenario says. A pipeline without one is played once: every step succeeds at once, and nobody sends
    signals or decides. Exit code 1: something came differently than expected.
    """
    from streams.domain import duration
    from streams.domain.definition import canonical
    from streams.rehearsal.rehearsal import rehearse
    from streams.rehearsal.scenario import UNWRITTEN

    pieces = _pieces(session, file or named, files)
    began = time.perf_counter()
    for name, piece in pieces.items():
        if not piece.scenarios:
            say(f"{name} has no scenario: every step succeeds at once, nobody sends signals or decides")
        definition = canonical(piece.document)
        piece.rehearsals = [rehearse(definition, scenario) for scenario in piece.scenarios or [UNWRITTEN]]
    took_s = time.perf_counter() - began
    report = _report(pieces)
    _show(session.output, report)
    if junit is not None:
        _write_junit(Path(junit), report["scenarios"])
    failed = sum(row["result"] != "ok" for row in report["scenarios"])
    taken = sum(row["taken"] > 0 for row in report["coverage"])
    virtual = duration.render(sum(row["virtual_ms"] for row in report["scenarios"]))
    say(
        f"{len(report['scenarios'])} played, {failed} failed; {taken} of {len(report['coverage'])} branches taken; "
        f"{virtual} of virtual time in {took_s:.2f} s"
    )
    return EXIT_FAILED if failed else EXIT_OK


# ---------------------------------------------------------------- what is to be played
def _pieces(session: Session, file: str | None, files: Sequence[str]) -> dict[str, Piece]:
    from streams.domain.definition import Definition, canonical
    from streams.domain.findings import Findings
    from streams.rehearsal.scenario_file import pipeline_of, scenarios_of

    folder = Path(file).parent if file else _pipelines(session.project)
    pieces: dict[str, Piece] = {}
    for path in [file] if file else [*_yaml(folder), *_python(folder)]:
        for document in read_pipelines(path, session):
            name = document["metadata"]["name"]
            if name in pieces:
                raise Failed(
                    f"{path}: another file is pipeline {name} already",
                    hint="rename one",
                    exit_code=EXIT_USAGE,
                )
            pieces[name] = Piece(document)
    for written in map(read_file, files or _yaml(folder / SCENARIOS)):
        name, problems = pipeline_of(written.document)
        if not problems and name not in pieces:
            if file and not files:
                continue  # it is about another pipeline of the folder
            found = Findings()
            found.unknown("pipeline", f"no pipeline is named {name!r}", name, pieces)
            problems = found.problems
        written.refuse(problems)
        piece = pieces[name]
        scenarios, problems = scenarios_of(written.document, Definition.parse(canonical(piece.document)))
        written.refuse(problems)
        piece.scenarios += scenarios
    return pieces


def _pipelines(project: Path | None) -> Path:
    if project is None:
        hint = "name a pipeline file, or go into a folder with flexcore.toml"
        raise Failed("there is no project here", hint=hint, exit_code=EXIT_USAGE)
    folder = project / "pipelines"
    if not _yaml(folder) and not _python(folder):
        raise Failed(f"{folder} holds no pipeline file", hint="write one", exit_code=EXIT_USAGE)
    return folder


def _yaml(folder: Path) -> list[str]:
    return sorted(str(path) for ending in ("yaml", "yml") for path in folder.glob(f"*.{ending}"))


def _python(folder: Path) -> list[str]:
    """Return the pipeline files in Python: others import what begins with an underscore."""
    return sorted(str(path) for path in folder.glob("*.py") if not path.name.startswith("_"))


# ---------------------------------------------------------------- what came of it
def _report(pieces: Mapping[str, Piece]) -> dict[str, Any]:
    from streams.domain.definition import Definition, canonical
    from streams.rehearsal.coverage import coverage

    scenarios, branches = [], []
    for name, piece in pieces.items():
        scenarios += [_row(name, rehearsal) for rehearsal in piece.rehearsals]
        ways: Counter[tuple[str, str]] = Counter()
        for rehearsal in piece.rehearsals:
            ways.update(rehearsal.ways)
        for taken in coverage(Definition.parse(canonical(piece.document)), ways):
            branches.append(
                {"pipeline": name, "step": taken.step, "branch": taken.branch, "taken": taken.times}
            )
    return {"scenarios": scenarios, "coverage": branches}


def _row(name: str, rehearsal: "Rehearsal") -> dict[str, Any]:
    from streams.domain import duration

    return {
        "pipeline": name,
        "scenario": rehearsal.scenario,
        "result": "failed" if rehearsal.differences else "ok",
        "status": rehearsal.run.get("status"),
        "virtual_time": duration.render(rehearsal.virtual_ms),
        "virtual_ms": rehearsal.virtual_ms,
        "detail": rehearsal.waits or rehearsal.run.get("error"),
        "differences": list(rehearsal.differences),
        "run": rehearsal.run,
    }


def _show(output: str, report: Mapping[str, Any]) -> None:
    if output in ("json", "yaml", "jsonl"):
        show_data(output, report)
        return
    scenarios = report["scenarios"]
    columns = ("pipeline", "scenario", "result", "status", "virtual_time", "detail")
    show_list(output, scenarios, columns, name="scenario")
    if output == "name":
        return
    if wrong := list(_differences(scenarios)):
        click.echo()
        show_list(output, wrong, ("pipeline", "scenario", "what"))
    click.echo()
    shown = [{**row, "taken": row["taken"] or "never"} for row in report["coverage"]]
    show_list(output, shown, ("pipeline", "step", "branch", "taken"))


def _differences(scenarios: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in scenarios:
        for what in row["differences"]:
            yield {"pipeline": row["pipeline"], "scenario": row["scenario"], "what": what}


def _write_junit(path: Path, scenarios: Sequence[Mapping[str, Any]]) -> None:
    from xml.etree import ElementTree as ET

    failures = sum(row["result"] != "ok" for row in scenarios)
    root = ET.Element("testsuite", name="flexcore", tests=str(len(scenarios)), failures=str(failures))
    for row in scenarios:
        case = ET.SubElement(root, "testcase", classname=row["pipeline"], name=row["scenario"])
        if row["differences"]:
            failure = ET.SubElement(case, "failure", message=row["differences"][0])
            failure.text = "\n".join(row["differences"])
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
