"""The examples of streams/domain/README.md on a real node: each is applied by the command line as it stands there."""

import getpass
import os
import re
import shlex
from pathlib import Path
from typing import Any

import psutil

from app.documents import read_yaml
from streams.domain import identity
from streams.domain.definition import Definition, canonical
from streams.rehearsal.rehearsal import rehearse
from streams.rehearsal.scenario_file import scenarios_of
from streams.translation import to_record
from tests.support.node_process import NodeProcess, eventually, steps_of
from tests.support.readme import commands, pipeline, section

ME = f"{getpass.getuser()}@{os.uname().nodename}"


def apply_example(node: NodeProcess, folder: Path, name: str) -> None:
    """Apply the README's pipeline of this name; its Ann is whoever runs the tests."""
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(pipeline("streams/domain", name).replace("ann@ops", ME))
    node.cli("pipeline", "apply", "-f", str(folder / "pipeline.yaml"))


def start_example(node: NodeProcess, folder: Path, name: str, **body: Any) -> str:
    """Apply the README's pipeline of this name, start a run, and return its id."""
    apply_example(node, folder, name)
    return node.run(name, **body)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """Return an event's body without what differs from run to run: times, ids, who. How long a wait is stays."""
    if body.get("until") is not None:
        body = {**body, "until": body["until"] - body["at"]}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in body.items()
        if name not in {"at", "key", "token", "runner", "trigger", "retry_at"}
    }


def rehearsed(file: Path, printed: dict[str, str], **scenario: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of an example played in memory, whose programs print what the real ones do."""
    text = canonical(read_yaml(file.read_text()))
    steps: dict[str, Any] = {
        name: {"succeed": {"output": {"exit_code": 0, "tail": tail}}} for name, tail in printed.items()
    }
    told = {"name": "one", **scenario, "steps": {**steps, **scenario.get("steps", {})}}
    (played,), _ = scenarios_of({"scenarios": [told]}, Definition.parse(text))
    events = [event.body for event in rehearse(text, played).events if event.aggregate == "run"]
    return [(type(event).__name__, plain(to_record(event))) for event in events]


def happened(node: NodeProcess, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a run on the node."""
    told = node.ok("GET", f"/v1/runs/{run_id}/events?limit=500")["items"]
    return [(event["type"], plain(event["body"])) for event in told]


def test_a_slot_that_meets_a_run_at_work_is_passed_over_or_kept_or_ends_it_or_is_at_work_beside_it(
    node: NodeProcess, tmp_path: Path
) -> None:
    """Each policy as its example says; cancelled ones fire within their jitter, under the time that was meant."""
    names = ("copy-newest", "copy-when-free", "copy-once-more", "copy-side-by-side")
    for name in names:
        apply_example(node, tmp_path, name)
    slow = [{"name": "wait", "wait": {"for": "1d"}}]
    node.apply("copy-kept", slow, schedule={"every": "1s", "overlap": "buffer_one"})

    def runs(pipeline: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = node.ok("GET", f"/v1/runs?pipeline={pipeline}")["items"]
        return sorted(items, key=lambda run: run["slot"])

    eventually(lambda: all(len(runs(name)) >= 2 for name in names), 30, node.log)

    def passing_over(name: str) -> dict[str, Any]:
        path = f"/v1/schedules/{name}"
        eventually(lambda: node.ok("GET", path)["last_skip"] == "overlap", 20, node.log)
        schedule: dict[str, Any] = node.ok("GET", path)
        return schedule

    kept = passing_over("copy-kept")
    assert (kept["fired"], len(kept["kept_slots"])) == (1, 1)
    assert passing_over("copy-when-free")["kept_slots"] == []
    assert "is in use: run " in node.cli("pipeline", "delete", "copy-kept", code=4)
    for name in (*names, "copy-kept"):
        node.ok("DELETE", f"/v1/pipelines/{name}?force=true")
    first, second, *_ = runs("copy-newest")
    assert (first["status"], first["error"]) == ("cancelled", "cancelled: the next slot has come")
    assert second["created_at"] >= first["ended_at"]
    assert all(run["slot"] % 1_000 == 0 for run in (first, second))
    for name in ("copy-when-free", "copy-once-more"):
        first, second, *_ = runs(name)
        assert node.ended(first["id"])["status"] == "succeeded"
        assert second["created_at"] >= first["ended_at"], name
    assert second["slot"] < first["ended_at"], "it came while the first was at work"
    first, second, *_ = runs("copy-side-by-side")
    assert second["created_at"] < node.ended(first["id"])["ended_at"]
    for run in (run for name in (*names, "copy-kept") for run in runs(name)):
        reply = node.call("POST", f"/v1/runs/{run['id']}/cancel", {})
        assert reply.status == 200 or reply.body["code"] == "already_ended"


def test_a_step_is_tried_again_unless_its_error_says_that_this_is_of_no_use(
    node: NodeProcess, tmp_path: Path
) -> None:
    """The pauses grow; what was printed counts as error; the two runs are at work one after the other."""
    runs = [start_example(node, tmp_path, "load-orders", input={"says": "connection reset"})]
    runs.append(node.run("load-orders", input={"says": "no such table: orders"}))
    (tried,), (given_up,) = (node.ended(run)["steps"] for run in runs)
    assert [(step["status"], step["attempt"]) for step in (tried, given_up)] == [("failed", 3), ("failed", 1)]
    events = node.ok("GET", f"/v1/runs/{runs[0]}/events?limit=500")["items"]
    pauses = [
        event["body"]["retry_at"] - event["body"]["at"]
        for event in events
        if event["type"].endswith("StepRetryScheduled")
    ]
    assert pauses == [100, 200]
    ended, begun = (node.ok("GET", f"/v1/runs/{run}") for run in runs)
    assert ended["ended_at"] <= begun["started_at"]


def test_a_run_waits_for_time_for_a_signal_and_for_somebody_who_may_approve(
    node: NodeProcess, tmp_path: Path
) -> None:
    """By the README's words. The signal comes twice; a stranger is turned away; a rehearsal has the same events."""
    run_id = start_example(node, tmp_path, "month-end")
    refused_id = node.run("month-end")
    silent = start_example(node, tmp_path / "silent", "nobody-answers")
    text = section("streams/domain", "Waiting for time, for systems, for people")
    signal, approve, _ = commands(text, {"5e0f…": run_id})
    other_signal, _, reject = commands(text, {"5e0f…": refused_id})
    node.until(run_id, lambda run: steps_of(run)["settle"] in {"waiting", "succeeded"})
    for line in (signal, other_signal):
        node.cli(*line)
    node.ok("POST", f"/v1/runs/{run_id}/signals/invoices-in", {"count": 99})
    asked = node.until(run_id, lambda run: steps_of(run)["sign-off"] == "waiting")
    step = {step["name"]: step for step in asked["steps"]}
    assert step["invoices"]["output"] == {"count": 12}
    assert step["sign-off"]["waits_for"] == f"approval by {ME} or ben@ops"
    assert step["sign-off"]["waits_until"] - step["sign-off"]["started_at"] == 86_400_000
    refused = node.call("POST", f"/v1/runs/{run_id}/steps/sign-off/approve", {}, Flexcore_Actor="carl")
    assert (refused.status, refused.body["code"]) == (403, "not_allowed")
    node.cli(*approve)
    again = {"note": "figures checked"}
    repeated = node.call("POST", f"/v1/runs/{run_id}/steps/sign-off/approve", again, Flexcore_Actor=ME)
    assert repeated.status == 200 or repeated.body["code"] == "already_ended"  # one echo may outrun this
    assert node.ended(run_id)["status"] == "succeeded"
    told = happened(node, run_id)
    ends = [body["step"] for kind, body in told if kind == "StepSucceeded"]
    assert told == rehearsed(
        tmp_path / "pipeline.yaml",
        {"report": "closed"},
        signals=[
            {"name": "invoices-in", "payload": {"count": 12}, "at": "1ms" if ends[0] == "invoices" else "5s"}
        ],
        approvals=[{"step": "sign-off", "by": ME, "note": "figures checked", "after": "1s"}],
    )
    assert f"StepDecided sign-off, approved, {ME}" in node.cli("run", "trace", run_id)
    assert "sign-off\tsucceeded" in node.cli("run", "watch", run_id)
    node.until(refused_id, lambda run: steps_of(run)["sign-off"] == "waiting")
    node.cli(*reject)
    refused_run = node.ended(refused_id)
    assert refused_run["error"] == f"step sign-off failed: rejected by {ME}: wrong month"
    assert steps_of(refused_run)["report"] == "skipped"
    unheard = node.ended(silent)
    assert steps_of(unheard) == {"corrections": "succeeded", "look": "succeeded", "sign-off": "timed_out"}
    waits = [step["ended_at"] - step["started_at"] for step in unheard["steps"]]
    assert all(1_000 <= wait < 20_000 for wait in waits)


def test_the_end_of_a_run_starts_a_run_of_the_pipeline_that_listens(
    node: NodeProcess, tmp_path: Path
) -> None:
    """The ends that the file names start one run each, a rerun's too; no run of a circle of two can be had."""
    file = tmp_path / "orders.yaml"
    head = "apiVersion: flexcore/v1\nkind: Pipeline\nmetadata: {name: load-orders}\nspec:\n"
    pause = '{name: pause, after: [load], wait: {for: "${{ steps.load.outputs.pause }}"}}'
    steps = f"  steps: [{{name: load, signal: {{}}}}, {pause}]\n"
    file.write_text(head + steps)
    apply_example(node, tmp_path, "build-marts")
    node.cli("pipeline", "apply", "-f", str(file))
    first, second, cancelled = (node.run("load-orders") for _ in range(3))
    node.ok("POST", f"/v1/runs/{first}/signals/load", {"rows": 3, "pause": "1ms"})
    node.ok("POST", f"/v1/runs/{second}/signals/load", {"rows": 0})
    node.ok("POST", f"/v1/runs/{cancelled}/cancel", {})
    assert node.ended(second)["status"] == "failed"
    again = node.ok("POST", f"/v1/runs/{second}/rerun", {})["id"]
    node.ok("POST", f"/v1/runs/{again}/signals/load", {"rows": 1, "pause": "1ms"})
    ended = {first: ("succeeded", 3), second: ("failed", 0), again: ("succeeded", 1)}
    started = "/v1/runs?pipeline=build-marts"
    eventually(lambda: len(node.ok("GET", started)["items"]) >= len(ended), 30, node.log)
    for run_id, (status, rows) in ended.items():
        run = node.ended(identity.run_id("default", "build-marts", f"run/{run_id}"))
        assert (run["trigger"], run["start_key"], run["status"]) == (
            "run", f"run/{run_id}", "succeeded",
        )  # fmt: skip
        given = run["input"]
        assert [given[name] for name in ("run", "pipeline", "status")] == [run_id, "load-orders", status]
        assert given["steps"]["load"]["rows"] == rows
        node.printed(run["id"], "report", f"load-orders {status}, run {run_id}")
    assert len(node.ok("GET", started)["items"]) == len(ended)
    assert "build-marts" in node.cli("pipeline", "get", "load-orders")
    file.write_text(f"{head}  triggers: [{{after: {{pipeline: build-marts}}}}]\n{steps}")
    told = node.cli("pipeline", "apply", "-f", str(file), code=4)
    assert "load-orders would start after build-marts, and build-marts starts after load-orders" in told


def test_settings_of_a_step_are_reckoned_from_the_input_and_the_results_before_it(
    node: NodeProcess, tmp_path: Path
) -> None:
    """The program is given values; a wrong name is found before anything is applied, a missing key says where it is."""
    run_id = start_example(node, tmp_path, "export-day", input={"day": "monday", "pause": "100ms"})
    node.ok("POST", f"/v1/runs/{run_id}/signals/count-rows", {"rows": 21})
    assert node.ended(run_id)["status"] == "succeeded"
    node.printed(run_id, "report", "monday: 42 rows")
    wrong = (tmp_path / "pipeline.yaml").read_text().replace("outputs.rows", "output.rows")
    (tmp_path / "wrong.yaml").write_text(wrong)
    told = node.cli("pipeline", "validate", "-f", str(tmp_path / "wrong.yaml"), code=4)
    assert "did you mean outputs?" in told
    poor = node.run("export-day", input={"pause": "1ms"})
    node.cli("run", "signal", poor, "count-rows", "--payload", '{"rows": 1}')
    failed = node.ended(poor)
    assert failed["error"].startswith("step report failed: command.argv[1]: ")
    assert "day" in failed["error"]


def test_a_run_chooses_its_branch_passes_over_a_step_and_tidies_up_in_any_case(
    node: NodeProcess, tmp_path: Path
) -> None:
    """One run takes a branch and is tidied up, with the events that a rehearsal in memory has; another is cancelled."""
    run_id = start_example(node, tmp_path, "choose-load", input={"publish": True})
    other = node.run("choose-load", input={"publish": False})
    node.ok("POST", f"/v1/runs/{run_id}/signals/count", {"rows": 7})
    node.cli("run", "skip", other, "count", "--reason", "nothing to count")
    run = node.ended(run_id)
    assert (run["status"], run["error"].startswith("step publish failed")) == ("failed", True)
    assert steps_of(run) == {
        "count": "succeeded", "size": "succeeded", "bulk": "skipped", "single": "succeeded", "nothing-new": "skipped",
        "index": "succeeded", "publish": "failed", "tidy": "succeeded",
    }  # fmt: skip
    node.printed(run_id, "tidy", "the run failed")
    assert happened(node, run_id) == rehearsed(
        tmp_path / "pipeline.yaml",
        {"single": "single", "index": "index", "tidy": "the run failed"},
        input={"publish": True},
        steps={"publish": {"fail": {"error": "false: exit code 1"}}},
        signals=[{"name": "count", "payload": {"rows": 7}}],
    )
    skipped = node.ended(other)
    assert steps_of(skipped)["count"] == "skipped"
    assert "switch.cases[0].when" in skipped["error"], "what was left out has no results"
    waiting = node.run("choose-load", input={})
    node.until(waiting, lambda run: steps_of(run)["count"] == "waiting")
    (line,) = re.findall(r"`flexcore (run skip [^`]*)`", section("streams/domain", "Which steps are done"))
    node.cli(*shlex.split(line.replace("5e0f…", waiting)))
    assert steps_of(node.ok("GET", f"/v1/runs/{waiting}"))["publish"] == "skipped"
    assert node.ok("POST", f"/v1/runs/{waiting}/cancel", {})["status"] in {"cancelling", "cancelled"}
    assert steps_of(node.ended(waiting))["tidy"] == "succeeded"


def test_a_run_cancelled_now_is_neither_undone_nor_tidied_up_any_further(
    node: NodeProcess, tmp_path: Path
) -> None:
    """By the README's words: cancelled first, a run is at its last steps, another at undoing; cancelled now, all is stopped."""
    tidying = start_example(node, tmp_path, "copy-under-lock")
    undo = {"command": {"argv": ["sleep", "3603"]}}
    done = {"name": "done", "command": {"argv": ["true"]}, "compensate": undo}
    node.apply("undone-slowly", [done, {"name": "late", "after": ["done"], "signal": {}}])
    undoing = node.run("undone-slowly")
    node.until(tidying, lambda run: steps_of(run)["copy"] == "running")
    node.until(undoing, lambda run: steps_of(run)["late"] == "waiting")
    text = section("streams/domain", "Which steps are done")
    lines = [commands(text, {"5e0f…": run_id}) for run_id in (tidying, undoing)]
    for cancel, _ in lines:
        node.cli(*cancel)
    node.until(tidying, lambda run: (run["status"], steps_of(run)["unlock"]) == ("cancelling", "running"))
    node.until(undoing, lambda run: steps_of(run).get("done:compensate") == "running")
    for _, now in lines:
        node.cli(*now)
    assert steps_of(node.ended(tidying)) == {"copy": "cancelled", "unlock": "cancelled"}
    assert steps_of(node.ended(undoing))["done:compensate"] == "cancelled"

    def left() -> list[list[str]]:
        found = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
        return [argv for argv in found if argv and argv[0] == "sleep" and argv[-1].startswith("360")]

    eventually(lambda: not left(), 10, lambda: f"{left()} goes on")


def test_a_step_is_done_once_for_each_item_of_a_list_that_a_program_made(
    node: NodeProcess, tmp_path: Path
) -> None:
    """A failure within what is tolerated leaves the others alone; the join knows each item's output."""
    run = node.ended(start_example(node, tmp_path, "per-country"))
    sync = run["steps"][1]
    assert (run["status"], sync["items"]) == ("succeeded", {"total": 3, "ended": 3, "failed": 1})
    outputs = [{"code": "de", "exit_code": 0}, None, {"code": "it", "exit_code": 0}]
    assert sync["output"] == {"total": 3, "failed": 1, "outputs": outputs}
    node.printed(run["id"], "report", "1 of 3 failed")
    trace = node.cli("run", "trace", run["id"])
    assert "StepFailed sync[1]" in trace


def test_a_step_is_repeated_until_its_result_is_what_is_wanted_or_its_turns_are_used_up(
    node: NodeProcess, tmp_path: Path
) -> None:
    """Each turn is given its number and the result of the turn before; view, trace, watch and logs show them."""
    run_id = start_example(node, tmp_path, "all-pages", input={"pages": 3})
    endless = node.run("all-pages", input={"pages": 99})
    run = node.ended(run_id)
    fetch = run["steps"][0]
    assert (run["status"], fetch["output"]["page"]) == ("succeeded", 3), run["error"]
    assert fetch["items"] == {"total": 5, "ended": 3, "failed": 0}
    node.printed(run_id, "report", "3 pages")
    assert '"page":2' in node.printed(run_id, "fetch[2]", "turn 2 after {")
    trace = node.cli("run", "trace", run_id)
    assert (trace.count("StepWaiting fetch["), trace.count("StepClaimed fetch[")) == (2, 3)
    assert "fetch\tsucceeded" in node.cli("run", "watch", run_id)
    failed = node.ended(endless)
    error = "until result.page >= inputs.pages did not hold after 5 turns"
    assert (failed["status"], failed["error"]) == ("failed", f"step fetch failed: {error}")
    assert (failed["steps"][0]["items"]["ended"], failed["steps"][1]["status"]) == (5, "skipped")


def test_a_step_is_a_run_of_another_pipeline_whose_results_and_end_are_its_own(
    node: NodeProcess, tmp_path: Path
) -> None:
    """Its results are read, its failure is tried again as another run, a cancel reaches it unless it is to be left alone."""
    apply_example(node, tmp_path, "load-region")
    background = start_example(node, tmp_path, "load-in-the-background")
    waiting = start_example(node, tmp_path, "load-and-tell", input={"region": "de", "ask": True})
    broken = node.run("load-and-tell", input={"region": "nowhere", "ask": False})
    run = node.ended(node.run("load-and-tell", input={"region": "de", "ask": False}))
    assert run["status"] == "succeeded", run["error"]
    node.printed(run["id"], "tell", "3 rows")
    child = node.ended(run["steps"][0]["child"])
    assert (child["pipeline"], child["parent"], child["trigger"]) == ("load-region", run["id"], "run")
    assert run["steps"][0]["output"]["run"] == child["id"]
    above, below = (node.ok("GET", f"/v1/runs/{one['id']}/lineage")["events"] for one in (run, child))
    told = below[0]["run"]["facets"]["parent"]
    assert (told["run"], told["job"]) == (
        {"runId": above[1]["run"]["runId"]},
        {**told["job"], "name": "load-and-tell.load"},
    )
    assert told["root"]["run"]["runId"] == run["id"]
    failed = node.ended(broken)
    assert (failed["steps"][0]["status"], failed["steps"][0]["attempt"]) == ("failed", 2)
    assert failed["error"].startswith(
        f"step load failed: run {failed['steps'][0]['child']} failed: step count"
    )
    trace = node.cli("run", "trace", broken)
    assert trace.count("ChildEnded load, failed") == 2
    asked = node.until(waiting, lambda run: steps_of(run)["load"] == "waiting")["steps"][0]["child"]
    node.until(asked, lambda run: steps_of(run)["sign-off"] == "waiting")
    node.ok("POST", f"/v1/runs/{waiting}/cancel", {})
    assert [node.ended(each)["status"] for each in (waiting, asked)] == ["cancelled", "cancelled"]
    left = node.ended(background)
    assert (left["status"], steps_of(left)) == ("timed_out", {"load": "cancelled"})
    outlives = left["steps"][0]["child"]
    node.until(outlives, lambda run: steps_of(run)["sign-off"] == "waiting")
    node.ok("POST", f"/v1/runs/{outlives}/steps/sign-off/approve", {})
    assert node.ended(outlives)["status"] == "succeeded"


def test_a_run_that_fails_undoes_what_was_done_the_latest_first_then_tidies_up(
    node: NodeProcess, tmp_path: Path
) -> None:
    """A compensation that fails is told and stops no other; view, trace, watch and logs show each of them."""
    run = node.ended(start_example(node, tmp_path, "publish-month"))
    assert run["status"] == "failed"
    assert run["error"].startswith("step publish failed: ")
    assert "; compensation of announce failed: " in run["error"]
    assert steps_of(run) == {
        "reserve": "compensated", "announce": "succeeded", "publish": "failed", "tidy": "succeeded",
        "announce:compensate": "failed", "reserve:compensate": "succeeded",
    }  # fmt: skip
    node.printed(run["id"], "reserve:compensate", "drop month_7")
    node.printed(run["id"], "tidy", "reserve is compensated")
    begun = [line for line in node.cli("run", "trace", run["id"]).splitlines() if "StepClaimed" in line]
    order = ["reserve", "announce", "publish", "announce:compensate", "reserve:compensate", "tidy"]
    assert [next(word for word in order if f" {word}," in line) for line in begun] == order
    assert "reserve\tcommand\tcompensated" in node.cli("run", "get", run["id"])
