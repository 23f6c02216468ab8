"""Pipeline files in Python by the command line: the README's example, and what goes wrong in one, with its line."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.cli.main import run
from app.documents import read_yaml
from connectors.sdk.pipeline import Pipeline, made
from streams.domain.definition import canonical

README = Path(__file__).parents[3] / "streams" / "domain" / "README.md"
SECTION = README.read_text(encoding="utf-8").partition("\n## The same in Python\n")[2]
HEAD = 'from connectors.sdk.pipeline import Pipeline\ncopy = Pipeline("copy")\n'
STEP = 'copy.command("a", argv=["true"])\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without pipelines."""
    (tmp_path / "flexcore.toml").write_text("")
    (tmp_path / "pipelines").mkdir()
    return tmp_path


def told(project: Path, text: str, capfd: pytest.CaptureFixture[str], code: int = 4) -> str:
    """Validate a file named as a module of Python is, and return what is said on stderr."""
    file = project / "pipelines" / "copy.py"
    file.write_text(text)
    assert run(["pipeline", "validate", "--project", str(project), "-f", str(file)]) == code
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    return shown.replace(f"{project}/", "")


def test_the_example_of_the_readme_says_what_its_yaml_says() -> None:
    """Two pipelines from one loop; the first one's text is that of the file beside it."""
    (python,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (text,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    with made() as pipelines:
        exec(python, {"__name__": "sales"})
    assert [pipeline.document()["metadata"]["name"] for pipeline in pipelines] == [
        "sales-north",
        "sales-south",
    ]
    assert canonical(pipelines[0].document()) == canonical(read_yaml(text))


def test_every_pipeline_of_a_file_is_validated_and_what_it_prints_is_no_data(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Imports begin at the project; a helper beside it is none; its name may be that of a module of Python."""
    (project / "pipelines" / "_tables.py").write_text('TABLES = ["orders", "people"]\n')
    text = (
        "import copy, dataclasses\nfrom pipelines._tables import TABLES\nfrom _tables import TABLES as same\n"
        "from connectors.sdk.pipeline import Pipeline\n"
        "from threading import Thread\n"
        'def make(table):\n    print("about", table)\n    Pipeline(table).command("a", argv=["true"])\n'
        "make(TABLES[0])\nthread = Thread(target=make, args=TABLES[1:])\nthread.start()\nthread.join()\n"
        'if __name__ == "__main__":\n    raise SystemExit("run as a program")\n'
    )
    (project / "pipelines" / "copy.py").write_text(text)
    file = str(project / "pipelines" / "copy.py")
    assert run(["pipeline", "validate", "--project", str(project), "-f", file, "-o", "json"]) == 0
    shown = capfd.readouterr()
    assert [row["name"] for row in json.loads(shown.out)] == ["orders", "people"]
    assert shown.err == "about orders\nabout people\n"
    assert run(["pipeline", "graph", "people", "--project", str(project), "-f", file]) == 0
    assert capfd.readouterr().out == "a (command)\n"
    assert run(["pipeline", "graph", "-f", file, "--project", str(project)]) == 2
    assert "makes 2 pipelines\ntry: name one of orders, people" in capfd.readouterr().err
    assert run(["pipeline", "test", "--project", str(project)]) == 0
    assert "people\tno scenario\tok\tsucceeded" in capfd.readouterr().out


def test_mistakes_are_told_as_for_yaml_with_the_line_of_the_call(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Words that nobody knows, wrong values, wrong order; all at once, also those of calls in another file."""
    (project / "pipelines" / "_steps.py").write_text('def tidy(to):\n    to.command("tidy", argv=[])\n')
    text = HEAD + (
        "from _steps import tidy\n"
        'one = copy.extract(\n    "one",\n    tpa="tap-jsonl==0.3.1",\n)\n'
        'copy.load("two", sink="postgres", afer=[one], retry={"attempts": 5, "intial": "2s"})\n'
        "tidy(copy.finally_)\n"
        'copy = Pipeline("copy", schedul={"every": "5s"}, ownr="me")\n'
    )
    shown = told(project, text, capfd)
    assert shown.startswith("error: pipelines/copy.py has ")
    for line in (
        "line 4: spec.steps[0].extract.tpa: 'tpa' is not known here (did you mean tap?)",
        "line 8: spec.steps[1].afer: 'afer' is not known here (did you mean after?)",
        "line 8: spec.steps[1].retry.intial: 'intial' is not known here (did you mean initial?)",
        "pipelines/_steps.py line 2: spec.finally[0].command.argv: must be the program and its arguments",
        "line 10: metadata.ownr: 'ownr' is not known here (did you mean owner?)",
        "line 10: spec.schedul: 'schedul' is not known here (did you mean schedule?)",
        "line 10: spec.steps: needs at least one step",
    ):
        assert f"  {line}" in shown
    double = HEAD + STEP + 'copy = Pipeline("copy")\n' + STEP
    assert "line 4: metadata.name: 'copy' names two pipelines" in told(project, double, capfd)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (f"{HEAD}copy.extrct('a')\n", ", line 3: AttributeError: 'Pipeline' object has no attribute 'extrct'", "did you mean extract?"),
        (f"{HEAD}copyy.wait('a')\n", ", line 3: NameError: name 'copyy' is not defined", "did you mean copy?"),
        (f"{HEAD}copy.wait('a', for_=\n", ", line 3: SyntaxError: '(' was never closed", "correct that line"),
        (f"{HEAD}copy.extract('a', config={{'since': __import__('datetime').date(2026, 1, 1)}})\n",
         ", line 3: TypeError: extract 'a': config.since is a date, which JSON cannot say: write text, str(…)", "correct that line"),
        (f"{HEAD}copy.map('a', over=[{{1: 2}}])\n", ", line 3: TypeError: map 'a': over[0] has the key 1", "correct that line"),
        (f"{HEAD}import json\njson.loads('{{')\n", ", line 4: JSONDecodeError: ", "correct that line"),
        (f"{HEAD}raise SystemExit(3)\n", ", line 3: it ends the program (3)", "correct that line"),
        ("import os\nos._exit(7)\n", " ended its process with exit code 7", "let it end by itself"),
        ("print('nothing')\n", " makes no pipeline", 'write Pipeline("name") in it'),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_the_file_is_one_sentence_with_the_line(
    text: str, said: str, hint: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And with what to do; nothing of ours is shown."""
    shown = told(project, text, capfd)
    assert f"error: pipelines/copy.py{said}" in shown
    assert f"try: {hint}" in shown


def test_a_file_that_is_not_there_or_does_not_end_is_told(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline file describes; what takes long belongs into steps."""
    assert run(["pipeline", "validate", "-f", str(project / "none.py")]) == 2
    assert "none.py cannot be read" in capfd.readouterr().err
    monkeypatch.setattr("app.cli.builder._RUN_MAX_S", 0.2)
    assert "copy.py did not end within" in told(project, "import time\ntime.sleep(30)\n", capfd, code=5)


def test_what_is_built_is_a_copy() -> None:
    """Neither what was given nor what was returned changes the pipeline afterwards; None says nothing."""
    config = {"a": [1]}
    copy = Pipeline("copy", owner=None)
    copy.extract("a", source="file", config=config, after=None)
    config["a"].append(2)
    copy.document()["spec"]["steps"].clear()
    assert copy.document()["metadata"] == {"name": "copy"}
    assert copy.document()["spec"] == {
        "steps": [{"name": "a", "extract": {"source": "file", "config": {"a": [1]}}}]
    }


if TYPE_CHECKING:

    def wrong(copy: Pipeline) -> None:
        """What the type checker finds before the file is run: each line would be no error without its mark."""
        copy.extract("a", tpa="x")  # type: ignore[call-arg]  # there is no such option
        copy.transform("a")  # type: ignore[call-arg]  # python is missing
        copy.wait("a", for_="1s", retry={"attempts": 2})  # type: ignore[call-arg]  # nothing is tried
        copy.finally_.load("a", sink=5)  # type: ignore[arg-type]  # the name of a sink is text
        copy.command("a", argv=["x"], retry={"attempts": 2, "jitter": "some"})  # type: ignore[arg-type]  # full or none
        Pipeline("a", schedule={"cron": "* * * * *", "overlp": "skip"})  # type: ignore[arg-type]  # misspelt overlap
        Pipeline("a", alerts=[{"on": "quiet"}])  # type: ignore[typeddict-item]  # nobody to tell
