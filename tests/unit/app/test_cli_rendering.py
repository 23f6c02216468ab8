"""What people see: the steps of a run, tables on narrow terminals, the trace of a run, failures and their hints."""

import json
from typing import Any

import pytest

from app.cli import output
from app.cli.client import Answer, failure_of
from app.cli.dag import duration, layers, size, step_lines
from app.cli.output import fitting, show_list, show_one, text_of
from app.cli.trace import in_order, what, why
from app.cli.watch import picture


def step(name: str, status: str = "succeeded", after: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    plain = {
        "attempt": 1,
        "started_at": 1_000,
        "ended_at": 3_500,
        "records_in": 0,
        "records_out": 0,
        "error": None,
    }
    return {"name": name, "status": status, "after": list(after), **plain, **more}


RUN: dict[str, Any] = {
    "id": "86be3db3-e278-55e8-934b-76737ca5d00a",
    "pipeline": "customer-data-synchronization",
    "status": "failed",
    "created_at": 1_000,
    "ended_at": 5_500,
    "steps": [
        step("extract", records_out=20_000),
        step(
            "load",
            "failed",
            ("extract",),
            attempt=3,
            error="the directory service\nanswered 503 " + "again and " * 20,
        ),
        step(
            "a-step-with-a-name-that-is-as-long-as-it-may-ever-be-allowed",
            "skipped",
            ("load",),
            started_at=None,
        ),
        step("clean", after=("extract",), reused=True, started_at=None),
    ],
}


def test_steps_stand_in_the_order_they_can_run() -> None:
    """Each below everything it comes after, the file's order otherwise."""
    assert layers({"c": ["a", "b"], "a": [], "b": ["a"], "d": []}) == [["a", "d"], ["b"], ["c"]]
    assert sorted(name for row in layers({"a": ["b"], "b": ["a"]}) for name in row) == ["a", "b"]


def test_a_line_says_what_there_is_to_say() -> None:
    """Counts of what worked, the error of what did not, nothing of what never ran."""
    lines = {line[0].strip("✓✗–· "): line for line in step_lines(RUN, 9_000)}
    assert lines["extract"][1:] == ("succeeded", "", "2.5 s", "20,000 out")
    assert lines["load"][2] == "#3"
    assert "\n" not in lines["load"][4]
    assert lines["clean"][4] == "reused"


def test_a_step_at_work_says_how_far_it_is() -> None:
    """Its share, its own words, what it moved; no more than its counts when it has ended."""
    far: dict[str, Any] = {"percent": 41.6, "progress": "page\n7", "records_out": 1_200, "bytes": 4_200_000}
    steps = [
        step("pull", "running", ended_at=None, **far),
        step("done", **{**far, "percent": None, "progress": None}),
    ]
    said = [line[4] for line in step_lines({"steps": steps}, 9_000)]
    assert said == ["42 % · page 7 · 1,200 out · 4.2 MB", "1,200 out"]
    assert [size(count) for count in (0, 999, 1_000, 17_300_000, 10**16)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "17 MB",
        "10000 TB",
    ]


def test_a_repeat_says_which_turn_of_how_many_it_is_at() -> None:
    """And when the next one begins, while it waits for that."""
    items = {"total": 20, "ended": 2, "failed": 0}
    waits = {"ask": None, "wait": 1_700_000_000_000}
    steps = [step(name, "repeating", items=items, waits_until=at) for name, at in waits.items()]
    said = [line[4] for line in step_lines({"steps": steps}, 9_000)]
    assert said[0] == "turn 3 of 20"
    assert said[1].startswith("turn 3 of 20, at 2023-11-1")


def test_twenty_steps_with_a_failing_branch_can_be_read_at_80_columns() -> None:
    """Why it failed is told in full below the step, names of a long chain are still there, and 24 rows are enough."""
    error = "tap-invoices: HTTP 503 from https://billing.example.com/v2/invoices: maintained until 04:00, try again"
    steps = [step("extract-invoices", "failed", attempt=3, error=error)]
    steps += [step("load-invoices", "skipped", ("extract-invoices",), started_at=None)]
    steps += [step("customers-0", records_in=20_000, records_out=20_000)]
    steps += [step(f"customers-{at}", after=(f"customers-{at - 1}",)) for at in range(1, 18)]
    lines = picture({**RUN, "steps": steps}, 80).plain.splitlines()
    assert (len(lines), max(map(len, lines)) <= 80) == (24, True)
    failed = next(at for at, line in enumerate(lines) if "extract-invoices" in line)
    row, *why = (" ".join(line.split()) for line in lines[failed : failed + 3])
    assert (row, " ".join(why)) == ("✗ extract-invoices failed #3 2.5 s", error)
    assert "20,000 in · 20,000 out" in lines[failed + 3]
    assert "customers-17  succeeded" in lines[-1]
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_can_be_read_on_a_narrow_terminal(width: int) -> None:
    """No line is longer than the terminal, and name, status and time are never what is cut off."""
    lines = picture(RUN, width).plain.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 2 + len(RUN["steps"]) + 2, "two lines say why it failed"
    assert all(status in "\n".join(lines) for status in ("succeeded", "failed", "skipped"))
    assert RUN["id"] in lines[1]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(400, "0.4 s"), (12_000, "12 s"), (185_000, "3 m 05 s"), (7_800_000, "2 h 10 m"), (-5, "0.0 s")],
)
def test_durations_are_as_people_say_them(ms: int, text: str) -> None:
    """Precision where it matters."""
    assert duration(ms) == text


def test_a_table_gives_way_where_it_hurts_least() -> None:
    """Ids stay whole; the widest of the others is cut."""
    widths = fitting(("id", "pipeline", "status"), [["x" * 36, "y" * 40, "failed"]], 60)
    assert widths == [36, 18, 6]
    assert sum(fitting(("id", "name"), [["x" * 90, "y" * 90]], 40)) <= 40


def test_a_terminal_gets_a_table_and_a_pipe_tsv(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows, for eyes or for programs."""
    rows = [{"name": "a", "status": "ready", "note": "x\ty"}]
    show_list("table", rows, ("name", "status", "note"))
    assert capsys.readouterr().out == "name\tstatus\tnote\na\tready\tx y\n"
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    show_list("table", rows, ("name", "status"))
    assert "ready" in capsys.readouterr().out


def test_data_formats_carry_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """json, jsonl, yaml and name."""
    rows = [{"name": "a", "n": 1}, {"name": "b", "n": 2}]
    show_list("json", rows, ("name",))
    assert json.loads(capsys.readouterr().out) == rows
    show_list("jsonl", rows, ("name",))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    show_list("yaml", rows, ("name",))
    assert capsys.readouterr().out == "- name: a\n  n: 1\n- name: b\n  n: 2\n"
    show_list("name", rows, ("name",))
    assert capsys.readouterr().out == "a\nb\n"
    show_one("table", {"name": "a", "n": None}, ("name", "n"))
    assert capsys.readouterr().out == "field\tvalue\nname\ta\n"
    show_one("name", rows[0], ())
    assert capsys.readouterr().out == "a\n"


def test_fields_are_shown_as_people_read_them() -> None:
    """Times are local, nothing is empty, lists are short."""
    assert text_of(None) == ""
    assert text_of(True) == "yes"
    assert text_of([1, "b"]) == "1, b"
    assert text_of({"every": "5s"}) == '{"every": "5s"}'
    assert text_of(1_795_502_897_045, "created_at").startswith("2026-11-2")
    assert text_of(17, "records_at") == "17"


def event(event_id: str, at: int, causation: str = "", actor: str = "ada", **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "at": at, "causation_id": causation, "actor": actor, "aggregate": "run",
        "aggregate_id": "r", "version": 1, "type": "Made", "command_id": "c", "body": {}, **more,
    }  # fmt: skip


def test_a_trace_puts_causes_first_and_names_them() -> None:
    """At one instant the cause comes before what it caused, whatever the names."""
    request = event("1", 5, type="RunRequested", aggregate="pipeline", aggregate_id="p")
    created = event("2", 5, "1", type="RunCreated", aggregate="a-first-by-name")
    tick = event("3", 6, actor="timer")
    known = {one["event_id"]: one for one in (request, created, tick)}
    assert [one["event_id"] for one in in_order([tick, created, request])] == ["1", "2", "3"]
    assert why(created, known) == "because of RunRequested of pipeline v1"
    assert why(tick, known) == "because its time had come"
    assert why(request, known) == "because of command c"
    assert why(event("4", 7, "elsewhere"), known) == "because of elsewhere"


def test_a_trace_says_what_happened_to_what() -> None:
    """Step, attempt and error; the run itself is not named again."""
    failed = event("1", 5, type="StepFailed", body={"step": "load", "attempt": 2, "error": "no\nroute"})
    assert what(failed, "r") == "StepFailed load, attempt 2, no route (run v1)"
    assert what(failed) == "StepFailed load, attempt 2, no route (run r v1)"


def test_a_problem_becomes_a_line_its_faults_and_a_hint() -> None:
    """The server's words, the table's hint, the exit code of its kind."""
    body = {
        "code": "invalid", "detail": "The pipeline file has one mistake.", "title": "x",
        "errors": [{"pointer": "spec.steps", "detail": "is missing", "fix": "write [...]"}],
    }  # fmt: skip
    failure = failure_of(Answer(422, {}, body))
    assert (str(failure), failure.exit_code) == ("The pipeline file has one mistake.", 4)
    assert failure.details == ("spec.steps: is missing (write [...])",)
    assert failure.hint
    assert failure_of(Answer(404, {}, "no JSON at all")).exit_code == 3
