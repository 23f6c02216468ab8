"""The command line against a real node: the words of the surface, their output and exit codes."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.node_process import FLEXCORE, NodeProcess, eventually
from tests.support.readme import blocks, commands, section

FILE = """
apiVersion: flexcore/v1
kind: Pipeline
metadata: {name: by-cli, owner: tests}
spec:
  schedule: {cron: "0 3 * * *", timezone: America/Sao_Paulo}
  steps:
    - {name: first, command: {argv: [sh, -c, "echo said by first"]}}
    - {name: second, after: [first], command: {argv: [sh, -c, "sleep 0.5"]}}
    - {name: third, after: [first], command: {argv: ["true"]}}
"""


@pytest.fixture(scope="module")
def applied(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline applied from a file."""
    file = tmp_path_factory.mktemp("files") / "by-cli.yaml"
    file.write_text(FILE)
    assert "created" in node.cli("pipeline", "apply", "-f", str(file))
    assert "applied" in node.cli("pipeline", "apply", "-f", str(file))
    return "by-cli"


def test_a_run_is_started_and_watched_to_its_end(node: NodeProcess, applied: str) -> None:
    """In a pipe every change is a line; the exit code is the run's fate."""
    lines = node.program("run", "start", applied, "--watch").splitlines()
    assert lines[-1].startswith("run\tsucceeded")
    assert [line for line in lines if line.startswith("second\tsucceeded")]


def test_a_failing_run_exits_one(node: NodeProcess) -> None:
    """Scripts must notice."""
    node.apply("failing-by-cli", [{"name": "one", "command": {"argv": ["false"]}}])
    node.program("run", "start", "failing-by-cli", "--watch", code=1)


def test_things_are_listed_and_shown_in_every_form(node: NodeProcess, applied: str) -> None:
    """Tables in a pipe are TSV; data formats carry everything."""
    run_id = node.cli("run", "start", applied, "-o", "name").strip()
    node.ended(run_id)
    assert node.cli("pipeline", "list").splitlines()[0] == "name\tstatus\tnumber\tschedule\tlast_run_at"
    assert json.loads(node.cli("-o", "json", "pipeline", "get", applied))["definition"]["kind"] == "Pipeline"
    assert "kind: Pipeline" in node.cli("pipeline", "get", applied, "-o", "yaml")
    assert "└ second (command)  ← first" in node.cli("pipeline", "graph", applied)
    assert run_id in node.cli("run", "list", "--pipeline", applied, "-o", "name").split()
    shown = node.cli("run", "get", run_id)
    assert "status\tsucceeded" in shown
    assert "second\tcommand\tsucceeded" in shown
    assert json.loads(node.cli("run", "get", run_id, "-o", "jsonl"))["id"] == run_id
    assert applied in node.cli("schedule", "list")
    assert "America/Sao_Paulo" in node.cli("schedule", "get", applied)
    assert "bookmark" in node.cli("bookmark", "list", "-o", "wide")
    assert node.cli("dataset", "list").startswith("name\t")
    assert node.cli("view", "status", "-o", "name").split()
    assert node.cli("cluster", "members", "-o", "name").split() == ["one"]
    assert "worker\tok" in node.cli("cluster", "health")
    assert json.loads(node.cli("api", "GET", f"/v1/runs/{run_id}"))["id"] == run_id


def test_the_trace_of_a_run_says_who_what_when_and_why_and_its_report_what_it_cost(
    node: NodeProcess, applied: str, tmp_path: Path
) -> None:
    """From the request to the end, causes before what they caused; and the account of it, also as a page."""
    run_id = node.cli("run", "start", applied, "-o", "name").strip()
    node.ended(run_id)
    trace = [line.split("\t") for line in node.cli("run", "trace", run_id).splitlines()[1:]]
    kinds = [row[2].split()[0] for row in trace]
    assert kinds[0] == "RunRequested"
    assert kinds[1] == "RunCreated"
    assert kinds[-1] == "RunEnded"
    assert kinds.count("StepSucceeded") == 3
    assert "because of RunRequested of pipeline" in trace[1][3]
    assert "@" in trace[0][1]
    given = {"5e0f…": run_id, "report.html": str(tmp_path / "report.html")}
    shown = [node.cli(*words) for words in commands(section("app", "What a run did"), given)]
    assert len(shown) == 5
    assert f"run {run_id}" in shown[0]
    assert "<h2>Steps</h2>" in (tmp_path / "report.html").read_text()
    told = json.loads(shown[2])
    assert (told["status"], [step["attempts"] for step in told["steps"]]) == ("succeeded", [1, 1, 1])
    assert 0 < told["worked_ms"] <= 3 * told["took_ms"]
    assert "@" in told["started_by"]


def test_every_mistake_of_a_file_is_named_at_once_with_its_place_and_what_was_meant(
    node: NodeProcess, tmp_path: Path
) -> None:
    """As the README shows it; apply says the same."""
    text, file = section("streams/domain", "What is wrong with a file"), tmp_path / "load-stock.yaml"
    (wrong,), (shown,) = blocks(text, "yaml"), blocks(text, "")
    file.write_text(wrong)
    for verb in ("validate", "apply"):
        told = node.cli("pipeline", verb, "-f", str(file), code=4).splitlines()
        assert [line.strip() for line in told if line.startswith("  line ")] == shown.splitlines()


def test_versions_are_compared_place_by_place(node: NodeProcess, tmp_path: Path) -> None:
    """Two versions from the log, or the newest one and a file."""
    block = {"until": "${{ result.page > 2 }}", "command": {"argv": ["true"]}}
    again = {"name": "again", "repeat": {**block, "max": 5}}
    node.apply("compared", [{"name": "one", "command": {"argv": ["true"]}}, again])
    again = {"name": "again", "repeat": {**block, "max": 9, "wait": "1s"}}
    node.apply("compared", [{"name": "one", "command": {"argv": ["false"]}}, again], timeout="1h")
    rows = json.loads(node.cli("pipeline", "diff", "compared", "-o", "json"))
    assert sorted(rows, key=lambda row: row["path"]) == [
        {"path": "spec.steps[again].repeat.max", "before": "5", "after": "9"},
        {"path": "spec.steps[again].repeat.wait", "before": "", "after": "1s"},
        {"path": "spec.steps[one].command.argv", "before": '["true"]', "after": '["false"]'},
        {"path": "spec.timeout", "before": "", "after": "1h"},
    ]
    file = tmp_path / "compared.yaml"
    file.write_text(
        "{apiVersion: flexcore/v1, kind: Pipeline, metadata: {name: compared}, spec: {timeout: 1h, steps: "
        "[{name: one, command: {argv: ['false']}}, {name: two, command: {argv: ['true']}}]}}"
    )
    assert "spec.steps[two]" in node.cli("pipeline", "diff", "compared", "-f", str(file))
    assert "no version 9" in node.cli("pipeline", "diff", "compared", "--to", "9", code=3)


def test_a_run_keeps_its_version_what_is_new_is_shown_and_what_is_in_use_is_not_deleted(
    node: NodeProcess, tmp_path: Path
) -> None:
    """As the README shows it: apply, start, change, diff, apply, delete; both runs end as they began."""
    text, path = section("app", "Versions of a pipeline"), tmp_path / "close-day.yaml"
    (file,), (shown,) = blocks(text, "yaml"), blocks(text, "")
    lines = commands(text, {"pipelines/close-day.yaml": str(path)})
    apply, start, to_file, again, between, delete, force = lines
    path.write_text(file)
    node.cli(*apply)
    runs = [node.cli(*start, "-o", "name").strip()]
    ((old, new),) = re.findall(r"^sed -i 's/(.*?)/(.*?)/'", text, re.MULTILINE)
    path.write_text(file.replace(old, new))
    told = node.cli(*to_file).splitlines()
    assert [line.split("\t") for line in told] == [re.split(" {2,}", line) for line in shown.splitlines()]
    node.cli(*again)
    assert node.cli(*between).splitlines() == told
    runs.append(node.run("close-day"))
    newest = node.ok("GET", "/v1/pipelines/close-day")["definition_hash"]
    assert f"is in use: run {runs[0]} is " in node.cli(*delete, code=4)
    node.cli(*force)
    node.cli(*start, code=3)
    for run_id, said in zip(runs, ("closed", "booked and closed"), strict=True):
        node.ok("POST", f"/v1/runs/{run_id}/signals/invoices-in", {})
        run = node.ended(run_id)
        assert (run["status"], run["steps"][1]["output"]["tail"]) == ("succeeded", said)
        assert (run["definition_hash"] == newest) == (run_id == runs[1])


def test_a_schedule_is_paused_with_a_note_triggered_and_filled_for_a_time_that_has_passed(
    node: NodeProcess,
) -> None:
    """By the README's words. A backfill starts a run for each slot, one after the other; done again, it starts none."""
    pause, trigger, resume, dry_run, backfill = (
        [*words, "-o", "json"] for words in commands(section("app", "Schedules by hand"), {"copy": "filled"})
    )
    schedule = {"cron": "0 6 * * *", "timezone": "UTC"}
    node.apply("filled", [{"name": "one", "command": {"argv": ["true"]}}], schedule=schedule)
    eventually(lambda: node.call("GET", "/v1/schedules/filled").status == 200, 20, node.log)
    paused = json.loads(node.cli(*pause))
    assert (paused["status"], paused["reason"]) == ("paused", "the source is being moved")
    triggered = json.loads(node.cli(*trigger))
    assert (triggered["status"], triggered["fired"]) == ("paused", 1)
    assert json.loads(node.cli(*resume))["status"] == "active"
    assert [row["result"] for row in json.loads(node.cli(*dry_run))] == ["would be started"] * 2
    rows = json.loads(node.cli(*backfill))
    assert [row["result"] for row in rows] == ["started", "started"]
    run, later = (node.ended(row["run"]) for row in rows)
    assert run["ended_at"] <= later["created_at"]
    assert (run["status"], run["slot"]) == ("succeeded", 1_793_512_800_000)
    assert {row["result"] for row in json.loads(node.cli(*backfill))} == {"had its run"}
    node.ok("POST", "/v1/pipelines/filled/pause", {})
    assert "pipeline filled is paused" in node.cli(*backfill, code=4)
    assert len(node.ok("GET", "/v1/runs?pipeline=filled")["items"]) == 3


def test_what_programs_print_is_kept(node: NodeProcess, applied: str) -> None:
    """Logs by step and by a text in them, as long as they are kept."""
    run_id = node.cli("run", "start", applied, "-o", "name").strip()
    node.ended(run_id)
    node.printed(run_id, "first", "said by first")
    assert "said by first" not in node.cli("run", "logs", run_id, "third")
    assert node.cli("run", "logs", run_id, "--grep", "SAID BY").splitlines() == ["first\tsaid by first"]


def test_events_are_searched_and_got(node: NodeProcess, applied: str) -> None:
    """Audit by kind and type."""
    found = node.cli(
        "event", "search", "--aggregate", "pipeline", "--type", "PipelineApplied", "-o", "name"
    ).split()
    assert json.loads(node.cli("event", "get", found[0], "-o", "json"))["type"] == "PipelineApplied"


def test_commands_are_sent_and_asked_for(node: NodeProcess, applied: str) -> None:
    """The generic way: any command, any aggregate."""
    sent = json.loads(
        node.cli(
            "command",
            "send",
            "pipeline",
            "PausePipeline",
            "--id",
            applied,
            "--data",
            "{}",
            "--wait",
            "5s",
            "-o",
            "json",
        )
    )
    assert sent["status"] == "accepted"
    assert node.cli("pipeline", "resume", applied)
    assert "No command" not in node.cli("command", "get", sent["command_id"])


def test_a_view_is_folded_anew(node: NodeProcess, applied: str) -> None:
    """The answers are the same before and after."""
    before = node.cli("pipeline", "get", applied, "-o", "json")
    assert json.loads(node.cli("view", "rebuild", "pipeline", "-o", "json"))["complete"]
    assert node.cli("pipeline", "get", applied, "-o", "json") == before


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["pipeline", "get", "absent"], 3, "no pipeline 'absent'"),
        (["run", "start", "absent"], 3, "absent"),
        (["run", "get", "absent"], 3, "no run 'absent'"),
        (["run", "watch", "absent"], 3, "no run"),
        (["run", "cancel", "absent"], 3, "absent"),
        (["schedule", "trigger", "absent"], 3, "absent"),
        (["bookmark", "reset", "absent/step"], 3, "absent/step"),
        (["event", "get", "absent"], 3, "no event"),
        (["view", "rebuild", "absent"], 3, "no view"),
        (["api", "GET", "/v1/absent"], 3, "no route"),
        (["command", "send", "pipeline", "PausePipline", "--id", "x"], 4, "did you mean PausePipeline"),
        (["command", "send", "pipeline", "PausePipeline", "--id", "x", "--expect-version", "7"], 4, "7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_has_an_exit_code_and_a_hint(
    node: NodeProcess, argv: list[str], code: int, says: str
) -> None:
    """One or two lines, and what to try."""
    err = node.program(*argv, code=code)
    assert says in err
    assert len(err.strip().splitlines()) <= 3
    assert "try:" in err


def test_an_interrupted_watch_exits_130_and_leaves_the_run(node: NodeProcess, tmp_path: Path) -> None:
    """Ctrl-C ends the watching, not the run."""
    node.apply("long", [{"name": "one", "command": {"argv": ["sleep", "60"]}}])
    run_id = node.run("long")
    watching = subprocess.Popen(
        [*FLEXCORE, "run", "watch", run_id],
        env={**node.environ, "FLEXCORE_URL": node.url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell that starts the tests in the background lets all of them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # it calls nothing else
    )  # fmt: skip
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert (watching.returncode, b"Traceback" in err) == (130, False)
    assert json.loads(node.cli("run", "get", run_id, "-o", "json"))["status"] in {"queued", "running"}
    node.cli("run", "cancel", run_id)


def test_the_log_of_all_this_is_whole(node: NodeProcess, settings: dict[str, str]) -> None:
    """The proof from Kafka itself, by the README's words, and what the runs of all these tests did."""
    whole, lawful, *_ = commands(section("app", "Proof"))
    judged = json.loads(node.cli(*lawful, "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])
    result = json.loads(node.cli(*whole, "-o", "json"))
    assert result["whole"] is True
    assert result["events"]["run"] > 0
    assert all(check["wrong"] == 0 for check in result["checks"])
