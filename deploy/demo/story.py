"""What the demo shows, chapter by chapter. Each returns the figures it has checked; a wrong one raises CheckFailed."""

import json
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from deploy.demo.customers import CHANGED, CUSTOMERS, Export, expected
from deploy.demo.directory import Directory
from deploy.demo.outside import Kafka, check, eventually
from deploy.demo.stack import PIPELINE, Stack

Figures = list[tuple[str, str]]


class Story:
    """The world of the demo: a stack, an export file that changes, a directory service with bad days."""

    def __init__(self, stack: Stack, export: Export, directory: Directory) -> None:
        self.stack = stack
        self.export = export
        self.directory = directory
        self.kafka: Kafka = stack.kafka()

    # ---------------------------------------------------------------- the main job
    def first_run(self) -> Figures:
        """Everything moves: tap, dataset, transform, and both targets side by side."""
        self.stack.cli("pipeline", "apply", "-f", str(self.stack.project / "pipelines" / f"{PIPELINE}.yaml"))
        run = self.stack.start_run()
        self.stack.ended(run, "succeeded", 120)
        good = self.export.good()
        bad = CUSTOMERS - len(good)
        self._targets_are_exact()
        self._each_once("extract-customers", CUSTOMERS)
        self._each_once("clean-customers", len(good))
        rejects = self.kafka.records(f"dataset.default.{PIPELINE}.clean-customers.quarantine")
        causes = {headers["cause"] for _, _, headers in rejects}
        check(
            len(rejects) == bad and b"" not in causes,
            f"{len(rejects)} records in quarantine, not {bad} with a cause",
        )
        step = self._step(run, "clean-customers")
        told = (step["records_in"], step["records_out"], step["records_rejected"])
        check(told == (CUSTOMERS, len(good), bad), f"the run tells {told} for clean-customers")
        check(self.directory.answers.get(503, 0) == 3, "the directory service was not down at first")
        return [
            ("customers read by the Singer tap", f"{CUSTOMERS:,}"),
            ("refused by the transform, in quarantine with cause", f"{bad}"),
            ("rows in PostgreSQL, each compared", f"{len(good):,}"),
            ("entries in the directory, after 3 answers of 503", f"{len(good):,}"),
        ]

    def changes(self) -> Figures:
        """(a) 500 customers change: the next run moves exactly those."""
        before = self._ends("extract-customers"), self._ends("clean-customers"), self.directory.received
        self.export.change(1001, CHANGED)
        self.export.write()
        self.stack.ended(self.stack.start_run(), "succeeded")
        changed = {number for number in range(1001, 1001 + CHANGED) if number in self.export.good()}
        self._targets_are_exact()
        moved = self._ends("extract-customers") - before[0]
        check(moved == CHANGED, f"{moved} records were extracted, not {CHANGED}")
        moved = self._ends("clean-customers") - before[1]
        check(moved == len(changed), f"{moved} records were transformed, not {len(changed)}")
        sent = self.directory.received - before[2]
        check(sent == len(changed), f"{sent} records were sent to the directory, not {len(changed)}")
        return [("changed, extracted / good ones loaded", f"{CHANGED} / {len(changed)}")]

    def kill_in_a_load(self) -> Figures:
        """(b) The node that loads is killed in the middle: the run completes, the table is exact."""
        self.export.change(1, CUSTOMERS)
        self.export.write()
        with psycopg.connect(self.stack.crm_url) as connection:
            # The load stands still, half done, when it comes to a row that is locked.
            connection.execute("SELECT FROM customers WHERE id = %s FOR UPDATE", [CUSTOMERS // 2 - 1])
            run = self.stack.start_run()
            eventually(
                lambda: self._somebody_waits(connection), "the load has not come to the locked row", 60
            )
            loaded = self._loaded(connection)
            check(0 < loaded < len(self.export.good()), f"the load was not in its middle: {loaded} rows")
            claim = self._last_claim(run, "sync-customers")
            killed = time.monotonic()
            self.stack.kill(claim["runner"])
        found = self.stack.ended(run, "succeeded", 120)
        took = time.monotonic() - killed
        self._targets_are_exact()
        attempts = next(step["attempt"] for step in found["steps"] if step["name"] == "sync-customers")
        check(attempts > 1, "the load was not attempted again")
        events = [event for event in self._events(run) if event["type"] == "StepLost"]
        check(bool(events), "the log does not tell of the lost attempt")
        return [
            (
                f"SIGKILL of {claim['runner']} after {loaded:,} rows; run complete after",
                f"{took:.1f} s, table exact",
            )
        ]

    def repair(self) -> Figures:
        """(c) The directory fails for good: `rerun --from` repairs that branch without extracting again."""
        self.export.change(2001, 100)
        self.export.write()
        self.directory.broken = True
        run = self.stack.start_run()
        found = self.stack.ended(run, "failed")
        statuses = {step["name"]: step["status"] for step in found["steps"]}
        check(
            statuses["sync-customers"] == statuses["count-customers"] == "succeeded",
            f"the other branch: {statuses}",
        )
        check(statuses["update-directory"] == "failed", f"update-directory: {statuses}")
        self.directory.broken = False
        before = self._ends("extract-customers")
        again = (
            self.stack.cli("-o", "name", "run", "rerun", run, "--from", "update-directory")
            .strip()
            .rsplit("/", 1)[-1]
        )
        self.stack.ended(again, "succeeded")
        self._targets_are_exact()
        claimed = {event["step"] for event in self._events(again) if event["type"] == "StepClaimed"}
        check(claimed == {"update-directory"}, f"the rerun worked on {sorted(claimed)}")
        check(self._ends("extract-customers") == before, "the rerun extracted again")
        return [("failed branch repaired; steps that ran again", "update-directory only")]

    # ---------------------------------------------------------------- the edge
    def one_key(self) -> Figures:
        """(d) The same start posted 20 times with one key: one run."""
        key = str(uuid.uuid4())
        url = f"/v1/pipelines/{PIPELINE}/runs"
        http = self.stack.http()
        before = len(self._requests())
        with ThreadPoolExecutor(20) as pool:
            posts = [
                pool.submit(http.post, url, {}, {"Idempotency-Key": key, "Prefer": "wait=20"})
                for _ in range(20)
            ]
        answers = [post.result() for post in posts]
        wrong = Counter(status for status, _ in answers if status not in (200, 201))
        check(not wrong, f"of 20 posts these were not taken: {dict(wrong)}")
        runs = {answer["id"] for _, answer in answers}
        check(len(runs) == 1, f"20 posts with one key made {len(runs)} runs")
        run = runs.pop()
        self.stack.ended(run, "succeeded")
        created = [event for event in self._events(run) if event["type"] == "RunCreated"]
        asked = self._requests()[before:]
        check(
            len(created) == 1 and [event["run_id"] for event in asked] == [run],
            f"the log holds {len(created)} creations of the run and {len(asked)} requests",
        )
        return [("20 posts with one Idempotency-Key, runs in the log", "1")]

    def plain_kafka(self) -> Figures:
        """(e) A program that knows only Kafka starts a run, and reads the answer from the topic and over HTTP."""
        command_id = str(uuid.uuid4())
        self.kafka.produce(
            "pipeline.commands",
            f"default/{PIPELINE}",
            {"key": command_id},
            {"command-id": command_id, "command-type": "StartRun", "actor": "a-java-program"},
        )

        def answered() -> dict[str, Any] | None:
            for key, value, _ in self.kafka.records("pipeline.outcomes"):
                if key == command_id.encode():
                    return self.kafka.decode(value)
            return None

        outcome = eventually(answered, "the outcome is not on pipeline.outcomes", 20)
        check(outcome["status"] == "accepted", f"the command was {outcome['status']}: {outcome['detail']}")
        over_http = eventually(
            lambda: next(
                (
                    got
                    for got in [self.stack.http().get(f"/v1/commands/{command_id}")]
                    if got and got["status"] != "pending"
                ),
                None,
            ),
            "the outcome is not at /v1/commands",
            20,
        )
        check(over_http["status"] == "accepted", f"HTTP tells {over_http['status']}")
        runs = [event for event in self._requests() if event["key"] == command_id]
        check(
            len(runs) == 1 and runs[0]["envelope"]["actor"] == "a-java-program",
            "the event does not name its actor",
        )
        self.stack.ended(runs[0]["run_id"], "succeeded")
        return [
            ("command by a plain Kafka client: topic / HTTP", f"{outcome['status']} / {over_http['status']}")
        ]

    # ---------------------------------------------------------------- the proof
    def drop_the_views(self) -> Figures:
        """(f) DROP SCHEMA while the nodes run: the views come back from the log, byte for byte."""
        http = self.stack.http()
        runs = [run["id"] for run in http.get("/v1/runs?limit=50")["items"]]
        paths = [f"/v1/runs/{run}" for run in runs] + [f"/v1/runs/{run}/events?limit=500" for run in runs]
        paths += [f"/v1/pipelines/{PIPELINE}", "/v1/runs?limit=50", "/v1/events?limit=500"]
        paths += [f"/v1/bookmarks/{PIPELINE}/extract-customers", "/v1/datasets"]
        before = {path: http.body(path) for path in paths}
        check(
            None not in before.values(),
            f"no answer for {[path for path, body in before.items() if body is None]}",
        )
        with psycopg.connect(self.stack.views_url, autocommit=True) as connection:
            old = _schema(connection)
            connection.execute("DROP SCHEMA flexcore CASCADE")
            dropped = time.monotonic()

            def same() -> bool:
                return all(http.body(path) == body for path, body in before.items())

            eventually(same, "the answers are not what they were before DROP SCHEMA", 60, 0.2)
            check(_schema(connection) not in (None, old), "the answers did not come from the views made anew")
        return [
            (
                f"answers equal byte for byte {time.monotonic() - dropped:.1f} s after DROP SCHEMA",
                f"{len(paths)}",
            )
        ]

    def verify(self) -> Figures:
        """(g) The log is folded from nothing: no gap, no duplicate."""
        proof = json.loads(self.stack.cli("-o", "json", "event", "verify"))
        seen: dict[tuple[str, str], int] = {}
        keys: Counter[bytes] = Counter()
        total = 0
        for topic in self.kafka.topics(".events"):
            for key, value, _ in self.kafka.records(topic):
                envelope = self.kafka.decode(value)["envelope"]
                place = (topic, f"{envelope['tenant']}/{envelope['aggregate_id']}")
                check(
                    envelope["version"] == seen.get(place, 0) + 1,
                    f"{place} has a gap at version {envelope['version']}",
                )
                seen[place] = envelope["version"]
                keys[key] += 1
                total += 1
        twice = [key.decode() for key, times in keys.items() if times > 1]
        check(not twice, f"these events are there twice: {twice[:3]}")
        folded = sum(proof["events"].values())
        check(
            proof["whole"] and folded == total > 0,
            f"`flexcore event verify` folded {folded} events; the log holds {total}",
        )
        return [
            (
                "events folded by `flexcore event verify` and by a foreign client",
                f"{total:,}, no gap, no duplicate",
            )
        ]

    # ---------------------------------------------------------------- looking, from outside
    def _targets_are_exact(self) -> None:
        good = self.export.good()
        rows = self.stack.warehouse()
        wrong = [
            number for number, revision in good.items() if rows.get(number) != expected(number, revision)
        ]
        check(
            len(rows) == len(good) and not wrong,
            f"warehouse: {len(rows)} rows of {len(good)}, {len(wrong)} wrong {wrong[:3]}",
        )
        entries = self.directory.entries
        wrong = [
            number for number, revision in good.items() if entries.get(number, {}).get("revision") != revision
        ]
        check(
            len(entries) == len(good) and not wrong,
            f"directory: {len(entries)} of {len(good)}, {len(wrong)} wrong {wrong[:3]}",
        )

    def _each_once(self, step: str, customers: int) -> None:
        records = self._records(step)
        held = len({key for key, _, _ in records})
        check(
            held == len(records) == customers,
            f"the dataset of {step} has {len(records)} records of {held} customers, not one of each of {customers}",
        )

    def _ends(self, step: str) -> int:
        return len(self._records(step))

    def _records(self, step: str) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
        return self.kafka.records(f"dataset.default.{PIPELINE}.{step}")

    @staticmethod
    def _somebody_waits(connection: psycopg.Connection[Any]) -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        row = connection.execute(query).fetchone()
        return row is not None and row[0] > 0

    def _loaded(self, connection: psycopg.Connection[Any]) -> int:
        rows = connection.execute("SELECT id, revision FROM customers").fetchall()
        return sum(revision == self.export.revisions[number] for number, revision in rows)

    def _requests(self) -> list[dict[str, Any]]:
        return [event for event in self.kafka.decoded("pipeline.events") if event["type"] == "RunRequested"]

    def _events(self, run: str) -> list[dict[str, Any]]:
        return [e for e in self.kafka.decoded("run.events") if e["envelope"]["aggregate_id"] == run]

    def _last_claim(self, run: str, step: str) -> dict[str, Any]:
        claims = [e for e in self._events(run) if e["type"] == "StepClaimed" and e["step"] == step]
        check(bool(claims), f"nobody has claimed {step}")
        return claims[-1]

    def _step(self, run: str, name: str) -> dict[str, Any]:
        found = self.stack.http().get(f"/v1/runs/{run}")
        step: dict[str, Any] = next(step for step in found["steps"] if step["name"] == name)
        return step


def _schema(connection: psycopg.Connection[Any]) -> int | None:
    """The views' schema as PostgreSQL tells it apart: one that was made again is another."""
    row = connection.execute("SELECT oid FROM pg_namespace WHERE nspname = 'flexcore'").fetchone()
    return int(row[0]) if row else None
