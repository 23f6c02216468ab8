"""What runners do when things go wrong: kills, cancels, timeouts, stops, and wrong input of every kind."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.support.fake_tap import fake_tap
from tests.support.platform import platform
from tests.support.services import KafkaService, PostgresService


def _alive(mark: str) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if mark in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
    ]


async def _until(condition: Any, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the world outside sends no event
            await asyncio.sleep(0.05)


def _sleeper(mark: str) -> list[str]:
    """A program whose grandchild leaves the process group and ignores SIGTERM; both carry the mark."""
    code = (
        "import subprocess,sys,time;"
        "subprocess.Popen([sys.executable,'-c','import signal,time;signal.signal(15,signal.SIG_IGN);time.sleep(600)',"
        f"'{mark}'],start_new_session=True);print('working',flush=True);time.sleep(600)"
    )
    return [sys.executable, "-c", code, mark]


async def test_a_program_that_takes_too_long_is_killed_with_all_it_started(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """A timeout ends the whole process tree, also a grandchild in a session of its own, and the step fails."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        await held.runner()
        await held.apply(
            "slow", {"name": "sleep", "command": {"argv": _sleeper(topic_prefix), "timeout": "3s"}}
        )
        await held.start("slow", "run-1")
        await _until(lambda: len(_alive(topic_prefix)) >= 2)
        seen = await held.ended("run-1", 30)
        assert seen["run"]["status"] in {"failed", "timed_out"}
        assert "timeout" in seen["sleep"]["error"]
        assert _alive(topic_prefix) == []


async def test_a_cancelled_run_ends_its_program(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """The heartbeat after a cancel is refused, and the process tree is killed."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        await held.runner()
        await held.apply("slow", {"name": "sleep", "command": {"argv": _sleeper(topic_prefix)}})
        await held.start("slow", "run-1")
        await _until(lambda: len(_alive(topic_prefix)) >= 2)
        assert await held.client.ask("run", "run-1", "CancelRun", {}) is not None
        await _until(lambda: not _alive(topic_prefix), 60)
        assert (await held.ended("run-1"))["run"]["status"] == "cancelled"


async def test_a_stopping_runner_gives_its_steps_back(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """What is not done within the grace is killed and handed back; another runner finishes it, and no retry is used up."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        first = await held.runner("first")
        flag = held.project / "flag"
        argv = [
            "sh",
            "-c",
            f"if [ -e {flag} ]; then echo quick; else touch {flag}; sleep 600; fi",
            topic_prefix,
        ]
        await held.apply("slow", {"name": "once", "command": {"argv": argv}})
        await held.start("slow", "run-1")
        await _until(flag.exists)
        assert [attempt["step"] for attempt in first.running] == ["once"]
        await first.stop(0.2)
        held.runners.remove(first)
        assert _alive(topic_prefix) == []
        await held.runner("second")
        seen = await held.done("run-1")
        assert (seen["once"]["attempt"], seen["once"]["output"]["tail"]) == (2, "quick")


async def test_a_killed_runner_takes_its_programs_along_and_another_goes_on(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """After SIGKILL of the runner's process nothing it started lives, and its lease runs out to another runner."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        flag = held.project / "flag"
        sleeper = json.dumps(_sleeper(topic_prefix))
        script = held.project / "step.py"
        script.write_text(
            "import os,subprocess,json\n"
            f"if not os.path.exists({str(flag)!r}):\n"
            f"    open({str(flag)!r},'w').close()\n"
            f"    subprocess.run(json.loads({sleeper!r}))\n"
        )
        await held.apply(
            "slow",
            {"name": "once", "command": {"argv": [sys.executable, str(script)]}, "retry": {"attempts": 3}},
        )
        options = {
            "kafka": kafka.bootstrap, "prefix": topic_prefix, "registry": held.registry_url,
            "project": str(held.project), "data": str(tmp_path / "data-first"),
        }  # fmt: skip
        argv = [sys.executable, "-m", "tests.support.runner_process", json.dumps(options)]
        process = subprocess.Popen(argv)  # noqa: ASYNC220 - starting takes a moment only
        try:
            await held.start("slow", "run-1")
            await _until(lambda: len(_alive(topic_prefix)) >= 3)
            process.send_signal(signal.SIGKILL)
            process.wait()
            await _until(lambda: not _alive(topic_prefix), 60)
        finally:
            process.kill()
        killed = time.monotonic()
        await held.runner("second")
        seen = await held.done("run-1", 40)
        assert seen["once"]["attempt"] == 2
        assert time.monotonic() - killed < 20


async def test_a_load_killed_in_the_middle_leaves_an_exact_table(
    kafka: KafkaService, postgres: PostgresService, topic_prefix: str, tmp_path: Path
) -> None:
    """SIGKILL of a load between two batches: the second attempt goes on from the stored position, append stays exact."""
    url = postgres.new_database()
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        held.environ["CRM_URL"] = url
        with (held.project / "rows.jsonl").open("w") as file:
            for number in range(20_000):
                file.write(json.dumps({"id": number, "name": f"name {number}"}) + "\n")
        config = {"url": "${env:CRM_URL}", "table": "rows", "mode": "append", "batch_records": 500}
        await held.runner()
        await held.apply(
            "rows",
            {"name": "read", "extract": {"source": "file", "config": {"path": "rows.jsonl", "primary_key": ["id"]}}},
            {
                "name": "write", "after": ["read"], "load": {"sink": "postgres", "config": config},
                "retry": {"attempts": 3, "initial": "100ms"},
            },
        )  # fmt: skip
        await held.start("rows", "run-1")

        def held_up() -> bool:
            """Once some rows are there: let nobody write more of them while this connection is open."""
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                holder.execute("LOCK TABLE rows IN SHARE MODE")
                row = holder.execute("SELECT count(*) FROM rows").fetchone()
                if row is not None and row[0] > 0:
                    return True
            holder.rollback()
            return False

        with psycopg.connect(url) as holder:
            await _until(held_up)
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # other attempts come and go meanwhile
                    argv = process.cmdline()
                    if "connectors.runners.attempt" in argv and process.name().startswith("python"):
                        process.kill()
        seen = await held.done("run-1")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*), count(DISTINCT id) FROM rows").fetchone() == (
                20_000,
                20_000,
            )
        assert seen["write"]["attempt"] == 2


_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"command": {"argv": ["no-such-program"]}}, "runs 'no-such-program', which is no program"),
    ({"command": {"argv": ["true"], "env": {"A": "${env:NOT_THERE}"}}}, "refers to ${env:NOT_THERE}, but"),
    ({"command": {"argv": ["true"], "env": {"A": "${env:FLEXCORE_KAFKA}"}}}, "are not for steps"),
    ({"command": {"argv": ["sh", "-c", "echo oops >&2; exit 3"]}}, "sh: exit code 3: oops"),
    ({"extract": {"tap": "tap-that-nobody-made==9.9.9"}}, "tap-that-nobody-made==9.9.9 cannot be installed"),
    ({"extract": {"tap": "tap-jsonl"}}, "names no program and version"),
    (
        {"extract": {"tap": "tap-garbage==1.0"}},
        "tap-garbage printed a line that is not JSON: 'Hello, I am no tap'",
    ),
    ({"extract": {"tap": "tap-broken==1.0"}}, "tap-broken ended with exit code 7: database is on fire"),
    ({"extract": {"source": "file", "config": {"path": "no.csv"}}}, "finds no file no.csv"),
]


async def test_wrong_input_is_told_in_one_sentence(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """A step that cannot work fails with one sentence that names what is wrong, and leaves no process."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        fake_tap(held.folder / "data", "tap-garbage", "print('Hello, I am no tap')")
        fake_tap(
            held.folder / "data", "tap-broken", "print('database is on fire', file=sys.stderr); sys.exit(7)"
        )
        await held.runner(concurrency=4)
        for number, (step, _said) in enumerate(_WRONG):
            await held.apply(f"wrong-{number}", {"name": "wrong", **step})
            await held.start(f"wrong-{number}", f"run-{number}")
        for number, (_step, said) in enumerate(_WRONG):
            failed = (await held.ended(f"run-{number}"))["wrong"]
            assert failed["type"] == "StepFailed"
            assert said in failed["error"]
            assert "\n" not in failed["error"]


async def test_an_unreachable_database_is_told_without_its_password(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """The sentence names host, port and database, never the password; the step may be tried again."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        held.environ["DB"] = "postgresql://user:hunter2@127.0.0.1:1/crm"
        (held.project / "rows.csv").write_text("id,name\n1,a\n")
        await held.runner()
        await held.apply(
            "rows",
            {
                "name": "read",
                "extract": {"source": "file", "config": {"path": "rows.csv", "primary_key": ["id"]}},
            },
            {
                "name": "write",
                "after": ["read"],
                "load": {"sink": "postgres", "config": {"url": "${env:DB}", "table": "t"}},
            },
        )
        await held.start("rows", "run-1")
        failed = (await held.ended("run-1"))["write"]
        assert failed["error"].startswith("PostgreSQL at 127.0.0.1:1/crm cannot")
        assert "hunter2" not in json.dumps(failed, default=str)
