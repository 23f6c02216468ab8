"""``flexcore pipeline test`` on files: the README's example, what is printed, exit codes, mistakes with their lines."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from app.cli.main import run
from tests.support.readme import blocks, section
from tests.support.readme import pipeline as example

README = Path(__file__).parents[3] / "streams" / "rehearsal" / "README.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project of the README's example."""
    (tmp_path / "flexcore.toml").write_text("")
    pipeline, scenarios, *_ = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pipelines" / "tests").mkdir(parents=True)
    (tmp_path / "pipelines" / "month-end.yaml").write_text(pipeline)
    (tmp_path / "pipelines" / "tests" / "month-end.yaml").write_text(scenarios)
    return tmp_path


def test_the_example_of_the_readme_goes_as_it_says(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole project: two scenarios that end as expected, and the coverage of their branches."""
    assert run(["pipeline", "test", "--project", str(project)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[1].startswith("month-end\ta bad month that ends well\tok\tsucceeded\t29d")
    assert lines[2].startswith("month-end\tnobody signs\tok\tfailed\t35d\tstep sign-off failed: rejected")
    assert "month-end\tpost\tretried\t3" in lines
    assert "month-end\tpost\trunner lost\t1" in lines
    assert "month-end\treport\twhen false\tnever" in lines
    assert re.search(r"2 played, 0 failed; \d+ of \d+ branches taken; 64d\S+ of virtual time in", shown.err)


def test_the_examples_of_triggers_go_as_the_readme_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pipelines are those of the README of the pipeline file."""
    (tmp_path / "tests").mkdir()
    for name in ("big-orders", "build-marts"):
        (tmp_path / f"{name}.yaml").write_text(example("streams/domain", name))
        (scenarios,) = [
            block
            for block in blocks(section("streams/rehearsal", "What a trigger does"), "yaml")
            if f"pipeline: {name}" in block
        ]
        (tmp_path / "tests" / f"{name}.yaml").write_text(scenarios)
        assert run(["pipeline", "test", str(tmp_path / f"{name}.yaml")]) == 0
    shown = capsys.readouterr()
    assert "big-orders\ta small one starts nothing\tok\t\t0s\tthe event does not pass the filter" in shown.out
    assert "3 played, 0 failed" in shown.err
    assert "2 played, 0 failed" in shown.err


def test_what_fails_is_told_and_ends_with_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people, for programs, and for a build server."""
    scenarios = project / "pipelines" / "tests" / "month-end.yaml"
    scenarios.write_text(scenarios.read_text().replace("attempts: {post: 5", "attempts: {post: 4"))
    file, results = str(project / "pipelines" / "month-end.yaml"), project / "results.xml"
    assert run(["pipeline", "test", file, "--junit", str(results)]) == 1
    difference = "attempts.post: expected 4, but there were 5"
    assert f"month-end\ta bad month that ends well\t{difference}\n" in capsys.readouterr().out
    assert [failure.get("message") for failure in ET.parse(results).iter("failure")] == [difference]
    assert run(["pipeline", "test", file, "--scenario", str(scenarios), "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["differences"] for row in report["scenarios"]] == [[difference], []]
    assert {"pipeline": "month-end", "step": "invoices", "branch": "silence", "taken": 0} in report[
        "coverage"
    ]


def test_a_pipeline_without_a_scenario_is_played_once(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is said what that means."""
    (project / "pipelines" / "tests" / "month-end.yaml").unlink()
    assert run(["pipeline", "test", "--project", str(project)]) == 0
    shown = capsys.readouterr()
    assert "month-end\tno scenario\tok\tfailed\t25d\tstep invoices timed out" in shown.out
    assert "every step succeeds at once, nobody sends signals or decides" in shown.err


def test_the_schedule_of_the_readme_fires_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the night when clocks go back, twice; while a run is at work, not at all. The pipeline is the other README's."""
    (scenarios,) = blocks(section("streams/rehearsal", "What a schedule does"), "yaml")
    (tmp_path / "tests").mkdir()
    (tmp_path / "close-night.yaml").write_text(example("streams/domain", "close-night"))
    (tmp_path / "tests" / "close-night.yaml").write_text(scenarios)
    assert run(["pipeline", "test", str(tmp_path / "close-night.yaml")]) == 0
    shown = capsys.readouterr()
    assert "close-night\tclose\tsucceeded\t6\n" in shown.out
    assert "2 played, 0 failed" in shown.err


def nights() -> list[tuple[str, str, str, str, list[str]]]:
    """Return what the README says of each night and word: timezone, cron, date, word, times with their offsets."""
    table = re.findall(
        r"^\| ([\w/]+) \| `([^`]+)` \| ([\d-]+): .* \| (.*) \| (.*) \| (.*) ?\|$",
        section("streams/domain", "When it starts by itself"),
        re.MULTILINE,
    )
    return [
        (zone, cron, date, word, re.findall(r"[\d:]+-[\d:]+", times))
        for zone, cron, date, *cells in table
        for word, times in zip(("first", "both", "skip"), cells, strict=True)
    ]


@pytest.mark.parametrize(("zone", "cron", "date", "word", "times"), nights())
def test_a_schedule_goes_through_the_nights_when_clocks_change_as_the_readme_says(
    zone: str, cron: str, date: str, word: str, times: list[str], tmp_path: Path
) -> None:
    """From noon to noon; its file with the words of the table in place."""
    file = example("streams/domain", "close-night")
    for shown, meant in (("30 1 * * *", cron), ("America/New_York", zone), ("dst: both", f"dst: {word}")):
        file = file.replace(shown, meant)
    (tmp_path / "close-night.yaml").write_text(file)
    night = datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(zone))
    slots = [f"{date}T{time[:5]}:00{time[5:]}" for time in times]
    expected = {"expect": {"slots": slots}, "start": (night - timedelta(hours=12)).isoformat()}
    scenario = {"name": word, "schedule": "1d", **expected}
    document = {"apiVersion": "flexcore/v1", "kind": "PipelineTest", "pipeline": "close-night"}
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "close-night.yaml").write_text(json.dumps({**document, "scenarios": [scenario]}))
    assert run(["pipeline", "test", str(tmp_path / "close-night.yaml")]) == 0


def test_the_nights_of_the_readme_are_three_with_three_words_each() -> None:
    """None of them is left out by a change of the table's form."""
    assert len(nights()) == 9


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("post: skipped", "pots: skipped", "line 23, column 61: scenarios[1].expect.steps.pots: no step is named 'pots' (did you mean post?)"),
        ("  - name: nobody signs\n    signals", "  - signals", "line 21, column 5: scenarios[1].name: is missing"),
        ("pipeline: month-end", "pipeline: month-ned", "line 3, column 1: pipeline: no pipeline is named 'month-ned' (did you mean month-end?)"),
        ("times: 2}}", "times: 2}", "is not YAML: line 10, column"),
    ],
)  # fmt: skip
def test_a_broken_file_names_the_place_the_field_and_the_fix(
    right: str, wrong: str, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is played then."""
    scenarios = project / "pipelines" / "tests" / "month-end.yaml"
    text = scenarios.read_text()
    assert right in text
    scenarios.write_text(text.replace(right, wrong))
    assert run(["pipeline", "test", "--project", str(project)]) == 4
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out


def test_without_files_it_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in a project, or in one without pipelines."""
    (tmp_path / "flexcore.toml").write_text("")
    assert run(["pipeline", "test", "--project", str(tmp_path)]) == 2
    assert "holds no pipeline file" in capsys.readouterr().err
