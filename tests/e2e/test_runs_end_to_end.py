"""Runs over HTTP against a real node: steps are carried out, and whatever goes wrong with them is told and mended."""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.support.node_process import NodeProcess, eventually, steps_of
from tests.support.readme import blocks, commands, pipeline, readme, section


def command(name: str, script: str, after: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """Return a step that runs a shell script."""
    step = {"name": name, "command": {"argv": ["sh", "-c", script]}, **more}
    return {**step, "after": list(after)} if after else step


def test_a_run_carries_out_its_steps_in_order(node: NodeProcess, tmp_path: Path) -> None:
    """The whole way: posted, decided, offered, claimed, carried out, told."""
    diary = tmp_path / "diary"
    node.apply(
        "in-order", [command("one", f"echo one >> {diary}"), command("two", f"echo two >> {diary}", ("one",))]
    )
    run = node.ended(node.run("in-order", input={"day": 1}))
    assert (run["status"], steps_of(run)) == ("succeeded", {"one": "succeeded", "two": "succeeded"})
    assert diary.read_text() == "one\ntwo\n"
    assert run["input"] == {"day": 1}
    assert run["started_at"] <= run["ended_at"]


def test_a_failing_branch_leaves_the_others_alone(node: NodeProcess) -> None:
    """What comes after the failure is skipped; what does not goes on."""
    node.apply(
        "branches",
        [command("start", "true"), command("bad", "echo broken >&2; exit 3", ("start",)), command("after-bad", "true", ("bad",)),
         command("good", "sleep 1", ("start",)), command("after-good", "true", ("good",))],
    )  # fmt: skip
    run = node.ended(node.run("branches"))
    assert run["status"] == "failed"
    assert steps_of(run) == {
        "start": "succeeded", "bad": "failed", "after-bad": "skipped", "good": "succeeded", "after-good": "succeeded",
    }  # fmt: skip
    bad = next(step for step in run["steps"] if step["name"] == "bad")
    assert "3" in bad["error"]
    assert "broken" in (bad["tail"] or "")


def test_a_step_is_tried_again(node: NodeProcess, tmp_path: Path) -> None:
    """The third attempt succeeds; the run knows which one it was."""
    tries = tmp_path / "tries"
    script = f"echo x >> {tries}; test $(wc -l < {tries}) -ge 3"
    node.apply("again", [command("flaky", script, retry={"attempts": 4, "initial": "100ms", "max": "200ms"})])
    run = node.ended(node.run("again"))
    assert (run["status"], run["steps"][0]["attempt"]) == ("succeeded", 3)


def test_a_step_says_how_far_it_is_and_goes_on_from_its_checkpoint(node: NodeProcess, tmp_path: Path) -> None:
    """As the README shows it: seen over HTTP and on the command line, and nothing is done twice."""
    (program,) = (code for code in blocks(readme("connectors"), "python") if "RUN_PROGRESS" in code)
    (tmp_path / "export.py").write_text(program)
    (tmp_path / "pages.py").write_text(
        "import os, pathlib, time\n"
        "def copy(page):\n"
        "    here = pathlib.Path(__file__).parent\n"
        "    if page == 5 and os.environ['RUN_ATTEMPT'] == '1':\n"
        "        while not (here / 'seen').exists(): time.sleep(0.05)\n"
        "        raise SystemExit('page 5 is gone')\n"
        "    with (here / 'copied').open('a') as out: print(page, file=out)\n"
    )
    step = {"name": "pages", "command": {"argv": [sys.executable, str(tmp_path / "export.py")]}}
    node.apply("paged", [{**step, "retry": {"attempts": 2, "initial": "1ms"}}])
    run_id = node.run("paged")
    (shown,) = node.until(run_id, lambda run: run["steps"][0]["percent"] == 40)["steps"]
    assert (shown["progress"], shown["records_out"]) == ("page 4 of 10", 2_000)
    assert "page 4 of 10" in node.cli("run", "get", run_id)
    (tmp_path / "seen").touch()
    run = node.ended(run_id)
    assert (run["status"], run["steps"][0]["attempt"], run["steps"][0]["records_out"]) == (
        "succeeded",
        2,
        5_000,
    )
    assert (tmp_path / "copied").read_text().split() == [str(page) for page in range(1, 11)]
    events = node.ok("GET", f"/v1/runs/{run_id}/events")["items"]
    saved = [event["body"]["checkpoint"] for event in events if event["type"].endswith("StepCheckpointed")]
    assert '{"page":4}' in saved
    assert len(saved) <= 4


def test_a_step_that_takes_too_long_is_ended_with_all_it_started(node: NodeProcess, tmp_path: Path) -> None:
    """A time-out ends the whole process tree."""
    pid_file = tmp_path / "pid"
    node.apply("slow", [command("sleeper", f"sleep 300 & echo $! > {pid_file}; wait", timeout="1s")])
    run = node.ended(node.run("slow"))
    assert steps_of(run) == {"sleeper": "timed_out"}
    gone(int(pid_file.read_text()))


def test_silence_of_a_step_and_the_time_of_a_step_and_of_a_run_are_bounded(
    node: NodeProcess, tmp_path: Path
) -> None:
    """As the README shows it: who is silent is tried again, and left alone when it prints now and then."""
    file = tmp_path / "pipeline.yaml"
    for name in ("wait-for-files", "export-orders"):
        file.write_text(pipeline("streams/domain", name))
        node.cli("pipeline", "apply", "-f", str(file))
    waiting, exporting = node.run("wait-for-files"), node.run("export-orders")
    run = node.ended(exporting)
    assert [(step["status"], step["attempt"]) for step in run["steps"]] == [
        ("succeeded", 2),
        ("timed_out", 1),
    ]
    assert "was silent for its heartbeat_timeout of 2 s" in node.cli("run", "trace", exporting)
    late = node.ended(waiting)
    assert (late["status"], steps_of(late)) == ("timed_out", {"files": "cancelled"})
    assert 1_000 <= late["ended_at"] - late["created_at"] < 20_000


def test_a_cancelled_run_leaves_nothing_running(node: NodeProcess, tmp_path: Path) -> None:
    """Cancel answers at once, and the programs end."""
    pid_file = tmp_path / "pid"
    node.apply(
        "endless",
        [
            command("sleeper", f"sleep 300 & echo $! > {pid_file}; wait"),
            command("next", "true", ("sleeper",)),
        ],
    )
    run_id = node.run("endless")
    eventually(lambda: pid_file.exists() and bool(pid_file.read_text()), 20, node.log)
    cancelled = node.ok("POST", f"/v1/runs/{run_id}/cancel", {"reason": "enough"})
    assert cancelled["status"] == "cancelled"
    assert set(steps_of(cancelled).values()) <= {"cancelled", "skipped"}
    gone(int(pid_file.read_text()))
    refused = node.call("POST", f"/v1/runs/{run_id}/pause", {})
    assert (refused.status, refused.body["code"]) == (409, "already_ended")


def gone(pid: int) -> None:
    eventually(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie",
        10,
        lambda: f"{pid} lives",
    )


def test_a_rerun_from_a_step_keeps_what_was_before_it(node: NodeProcess, tmp_path: Path) -> None:
    """The repaired branch runs; the expensive part is not repeated."""
    diary, cure = tmp_path / "diary", tmp_path / "cure"
    node.apply(
        "repair",
        [command("extract", f"echo extracted >> {diary}"), command("load", f"test -e {cure}", ("extract",))],
    )
    first = node.ended(node.run("repair"))
    assert steps_of(first) == {"extract": "succeeded", "load": "failed"}
    cure.touch()
    whole, from_load = commands(section("app", "A run again"), {"5e0f…": first["id"]})
    again = json.loads(node.cli(*from_load, "-o", "json"))
    second = node.ended(again["id"])
    assert (second["status"], second["rerun_of"]) == ("succeeded", first["id"])
    assert second["steps"][0]["reused"]
    assert diary.read_text() == "extracted\n"

    cure.unlink()
    broken = [node.ended(node.run("repair"))["id"] for _ in range(2)]
    cure.touch()
    (dry_run,) = commands(section("app", "Many runs again"), {"--pipeline copy": "--pipeline repair"})
    many = [word for word in dry_run if word != "--dry-run"]
    # The first one was run again by its id; whoever asks for many is not told so.
    would = json.loads(node.cli(*dry_run, "-o", "json"))
    assert [(row["id"], row["from"], row["run"]) for row in would] == [
        (run, "load", None) for run in (first["id"], *broken)
    ]
    made = json.loads(node.cli(*many, "-o", "json"))
    assert {node.ended(row["run"])["status"] for row in made} == {"succeeded"}
    assert "3 not" in node.cli(*many, code=4)
    assert len(node.ok("GET", "/v1/runs?pipeline=repair")["items"]) == 7
    assert diary.read_text() == "extracted\n" * 3
    anew = node.ended(json.loads(node.cli(*whole, "-o", "json"))["id"])
    assert (anew["status"], anew["rerun_of"], diary.read_text()) == (
        "succeeded",
        first["id"],
        "extracted\n" * 4,
    )


def test_a_paused_run_offers_nothing_further(node: NodeProcess, tmp_path: Path) -> None:
    """What runs goes on; the next step waits for resume."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    one = command("one", f"touch {begun}; until test -e {go}; do sleep 0.1; done")
    node.apply("pausing", [one, command("two", "true", ("one",))])
    run_id = node.run("pausing")
    eventually(begun.exists, 20, node.log)
    assert node.ok("POST", f"/v1/runs/{run_id}/pause", {})["status"] == "paused"
    go.touch()
    node.until(run_id, lambda run: steps_of(run)["one"] == "succeeded")
    time.sleep(1)
    assert steps_of(node.ok("GET", f"/v1/runs/{run_id}"))["two"] == "pending"
    node.ok("POST", f"/v1/runs/{run_id}/resume", {})
    assert node.ended(run_id)["status"] == "succeeded"


def test_a_schedule_fires_by_itself_until_it_is_paused(node: NodeProcess) -> None:
    """One run per slot, each with its own slot; a paused schedule says why, and fires when it is triggered only."""
    node.apply("ticking", [command("one", "true")], schedule={"every": "1s", "overlap": "allow"})
    # The schedule follows the pipeline by a command of its own: it is there a moment later.
    eventually(lambda: node.call("GET", "/v1/schedules/ticking").body.get("fired", 0) >= 3, 60, node.log)
    node.ok("POST", "/v1/schedules/ticking/pause", {"reason": "quiet please"})
    fired = node.ok("GET", "/v1/schedules/ticking")["fired"]
    runs = node.ok("GET", "/v1/runs?pipeline=ticking&limit=500")["items"]
    assert len({run["slot"] for run in runs}) == len(runs)
    time.sleep(2.5)
    rests = node.ok("GET", "/v1/schedules/ticking")
    assert (rests["fired"], rests["status"], rests["reason"]) == (fired, "paused", "quiet please")
    node.cli("schedule", "trigger", "ticking")
    assert node.ok("GET", "/v1/schedules/ticking")["fired"] == fired + 1


def test_a_program_that_does_not_exist_fails_in_one_sentence(node: NodeProcess) -> None:
    """The error names it; the run has ended, and nothing waits."""
    node.apply("no-such-program", [{"name": "one", "command": {"argv": ["no-such-program-here"]}}])
    run = node.ended(node.run("no-such-program"))
    assert "no-such-program-here" in run["steps"][0]["error"]
    assert "Traceback" not in run["steps"][0]["error"]


def test_a_secret_is_masked_in_all_that_is_told(node: NodeProcess, project: Path) -> None:
    """As the README shows it: the program has it; its output, results, words of itself and error do not."""
    (project / "token.txt").write_text("open-sesame\n")
    (project / "pipeline.yaml").write_text(pipeline("connectors", "ask-the-shop"))
    node.cli("pipeline", "apply", "-f", str(project / "pipeline.yaml"))
    run = node.ended(node.run("ask-the-shop"))
    assert (run["steps"][0]["output"]["letters"], run["steps"][0]["output"]["token"]) == (11, "••••")
    assert run["steps"][1]["error"] == "sh: exit code 1: refused: ••••"
    logged = f"/v1/runs/{run['id']}/logs"
    eventually(lambda: len(node.ok("GET", logged)["items"]) == 2, 20, node.log)
    (shown,) = (text for text in blocks(readme("connectors"), "") if text.startswith("ask "))
    printed = node.cli("run", "logs", run["id"]).splitlines()
    assert printed == [re.sub(" +", "\t", line, count=1) for line in shown.splitlines()]
    told = (
        node.ok("GET", f"/v1/runs/{run['id']}{part}")
        for part in ("", "/events?limit=500", "/logs", "/report")
    )
    assert "open-sesame" not in json.dumps([*told])
    assert "open-sesame" not in node.log()


def test_a_missing_secret_fails_before_anything_runs(node: NodeProcess) -> None:
    """The reference is named, its value is nowhere."""
    step = {"name": "one", "command": {"argv": ["true"], "env": {"PASSWORD": "${env:NOT_THERE_AT_ALL}"}}}
    node.apply("no-secret", [step])
    run = node.ended(node.run("no-secret"))
    assert run["status"] == "failed"
    assert "NOT_THERE_AT_ALL" in run["steps"][0]["error"]
