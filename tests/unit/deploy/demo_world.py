"""A world in which the demo's pipeline works as it must, in memory, and how it can go wrong in one way at a time."""

import json
import threading
import uuid
from pathlib import Path
from typing import Any

from deploy.demo.customers import Export, expected, is_bad
from deploy.demo.directory import Directory
from deploy.demo.outside import check
from deploy.demo.stack import PIPELINE
from deploy.demo.story import Story

Record = tuple[bytes, bytes, dict[str, bytes]]
_DATASET = f"dataset.default.{PIPELINE}."


class World:
    """Stands for the stack and for Kafka. ``flaw`` names what is wrong from then on; empty: nothing."""

    project = Path("project")

    def __init__(self, folder: Path) -> None:
        self.flaw = ""
        self.export = Export(folder / "customers.jsonl")
        self.directory = Directory(unavailable=3)
        self.directory.close()
        self.topics_held: dict[str, list[Record]] = {}
        self.rows: dict[int, tuple[Any, ...]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self._moved: dict[int, int] = {}
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()
        self.story = Story(self, self.export, self.directory)  # type: ignore[arg-type]  # it stands for the stack

    # ------------------------------------------------------------ what the platform does
    def run(self, steps: tuple[str, ...] = ("extract-customers", "clean-customers", "load")) -> str:
        """Do what a run does, as the flaw has it; return the run's id."""
        run = str(uuid.uuid4())
        self.event("pipeline.events", PIPELINE, "RunRequested", run_id=run)
        self.event("run.events", run, "RunCreated")
        flaw, counts = self.flaw, (0, 0, 0)
        for step in steps:
            name = "update-directory" if step == "load" else step
            self.event("run.events", run, "StepClaimed", step=name)
        if "extract-customers" in steps:
            counts = self._move(flaw)
        broken = self.directory.broken and flaw != "the broken directory is not noticed"
        self.runs[run] = {
            "status": "failed" if broken else "succeeded",
            "steps": [
                {"name": "sync-customers", "status": "succeeded"},
                {"name": "count-customers", "status": "succeeded"},
                {"name": "update-directory", "status": "failed" if broken else "succeeded"},
                dict(
                    zip(("records_in", "records_out", "records_rejected"), counts, strict=True),
                    name="clean-customers",
                    status="succeeded",
                ),
            ],
        }
        if not broken:
            self._load(flaw)
        return run

    def _move(self, flaw: str) -> tuple[int, int, int]:
        everything = flaw == "unchanged records move too"
        moved = [n for n, rev in self.export.revisions.items() if everything or self._moved.get(n) != rev]
        self._moved = dict(self.export.revisions)
        good = [number for number in moved if not is_bad(number)]
        bad = [number for number in moved if is_bad(number)]
        cause = b"" if flaw == "a reject has no cause" else b"ValueError"
        for number in moved + moved[:1] * (flaw == "a record is extracted twice"):
            self.held(f"{_DATASET}extract-customers").append((str(number).encode(), b"", {}))
        for number in good[flaw == "the transform drops a record" :]:
            self.held(f"{_DATASET}clean-customers").append((str(number).encode(), b"", {}))
        for number in bad[flaw == "a reject is lost" :]:
            self.held(f"{_DATASET}clean-customers.quarantine").append(
                (str(number).encode(), b"", {"cause": cause})
            )
        return len(moved), len(good) + (flaw == "the run counts wrongly"), len(bad)

    def _load(self, flaw: str) -> None:
        changed = [n for n, rev in self.export.good().items() if self.rows.get(n, [0])[-1] != rev]
        for number in changed[flaw == "the sink skips a row" :]:
            self.rows[number] = expected(number, self.export.revisions[number])
        if flaw == "a row is written wrongly":
            self.rows[1] = expected(1, 99)
        if flaw == "a refused customer arrives":
            self.rows[400] = expected(400, 1)
        skipped = flaw == "the directory misses a customer"
        records = [{"id": n, "revision": self.export.revisions[n]} for n in changed[skipped:]]
        while records and self.directory.take(json.dumps(records).encode(), str(uuid.uuid4())) == 503:
            pass
        if flaw == "the directory gets a batch twice":
            self.directory.take(json.dumps(records).encode(), "another key")

    def event(self, topic: str, aggregate: str, kind: str, **body: Any) -> None:
        """Append an event with the next version of its aggregate."""
        known = [e for e in self.decoded(topic) if e["envelope"]["aggregate_id"] == aggregate]
        version = len(known) + 1 + (self.flaw == "an event is missing" and kind == "RunCreated")
        envelope = {"tenant": "default", "aggregate_id": aggregate, "version": version}
        key = f"{aggregate}/{version}".encode()
        value = json.dumps({"type": kind, "envelope": envelope, **body}).encode()
        self.held(topic).append((key, value, {}))
        if self.flaw == "an event stands twice" and kind == "RunCreated":
            second = json.dumps({"type": kind, "envelope": {**envelope, "version": version + 1}}).encode()
            self.held(topic).append((key, second, {}))

    def held(self, topic: str) -> list[Record]:
        """The records of a topic."""
        return self.topics_held.setdefault(topic, [])

    # ------------------------------------------------------------ what the story asks
    def kafka(self) -> "World":
        """Kafka is here too."""
        return self

    def http(self) -> "World":
        """So is the API."""
        return self

    def warehouse(self) -> dict[int, tuple[Any, ...]]:
        """The rows loaded."""
        return self.rows

    def records(self, topic: str) -> list[Record]:
        """All records of a topic."""
        return list(self.held(topic))

    def topics(self, suffix: str) -> list[str]:
        """The topics that end so."""
        return [name for name in self.topics_held if name.endswith(suffix)]

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """All records of a topic, decoded."""
        return [self.decode(value) for _, value, _ in self.held(topic)]

    def decode(self, value: bytes) -> dict[str, Any]:
        """One record, decoded."""
        decoded: dict[str, Any] = json.loads(value)
        return decoded

    def start_run(self) -> str:
        """Start a run and wait for it."""
        return self.run()

    def ended(self, run: str, status: str, timeout_s: float = 0) -> dict[str, Any]:
        """Check how a run ended, as the real one does."""
        found = self.runs[run]
        check(found["status"] == status, f"run {run} {found['status']}, not {status}")
        return found

    def get(self, path: str) -> Any:
        """The run of that path."""
        return self.runs[path.rpartition("/")[2]]

    def post(self, _path: str, _body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """Start a run by its key: the same key, the same run."""
        key = headers["Idempotency-Key"]
        with self._lock:
            if self.flaw == "a key is forgotten" or key not in self._keys:
                self._keys[key] = self.run()
                if self.flaw == "a run is started behind the key's back":
                    self.run()
            return (429 if self.flaw == "a post is refused" else 201), {"id": self._keys[key]}

    def cli(self, *words: str) -> str:
        """The commands that the story gives."""
        if "verify" in words:
            names = self.topics(".events")
            counts = {name: len(self.held(name)) - (self.flaw == "the fold skips an event") for name in names}
            return json.dumps({"whole": self.flaw != "the log is not whole", "events": counts})
        if "rerun" in words:
            if self.flaw == "the rerun extracts again":
                self.held(f"{_DATASET}extract-customers").append((b"1", b"", {}))
            steps = ("clean-customers", "load") if self.flaw == "the rerun does more" else ("load",)
            return f"run/{self.run(steps)}\n"
        return ""
