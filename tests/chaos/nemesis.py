"""Does the faults of a plan to a cluster and undoes them, on time. Runs on the cluster's own thread."""

import contextlib
import heapq
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.process import Process
from tests.chaos.cluster import Cluster
from tests.chaos.plan import Fault

_HOLD_WAIT_S = 2.0
_SETTLED_S = 1.0
_BACK_S = 4.0
_AWAKE_S = (
    3.0  # a thawed worker hears that it has lost its shards, and may be back, before its held batch goes on
)


class Nemesis:
    """``run`` returns when every fault of the plan is done and undone; ``faults.jsonl`` tells when each was."""

    def __init__(
        self, cluster: Cluster, faults: list[Fault], file: Path, hush: Callable[[float], None]
    ) -> None:
        self._cluster = cluster
        self._hush = hush
        self._faults = faults
        self._file = file
        self._undo: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def run(self, alive: Callable[[], None]) -> None:
        """Do the plan. ``alive`` is called all the time, and may raise. Blocking."""
        begun = time.monotonic()
        todo = list(self._faults)
        with self._file.open("w") as out:
            while todo or self._undo:
                alive()
                now = time.monotonic()
                while self._undo and self._undo[0][0] <= now:
                    heapq.heappop(self._undo)[2]()
                if todo and begun + todo[0].at <= now:
                    fault = todo.pop(0)
                    kind = self._do(fault)
                    entry = {"kind": kind or fault.kind, "target": fault.target, "lasts": fault.lasts}
                    out.write(json.dumps({**entry, "at": now, "done": kind is not None}) + "\n")
                    out.flush()
                self._keep_running()
                time.sleep(0.01)

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._undo, (time.monotonic() + seconds, self._number, undo))

    def _keep_running(self) -> None:
        """Start again what ended by itself, as a supervisor would; what a fault keeps down is in ``_down``."""
        for name, worker in self._cluster.workers.items():
            if not worker.running and name not in self._down():
                worker.start()

    def _down(self) -> set[str]:
        return {getattr(undo, "worker", "") for _, _, undo in self._undo}

    # ---------------------------------------------------------------- what a fault is
    def _do(self, fault: Fault) -> str | None:
        """Begin a fault. Return its kind, that of the one done in its place, or None if there could be none."""
        kind, lasts = fault.kind, fault.lasts
        if kind in ("broker-kill", "controller-kill", "broker-freeze", "broker-disk-full"):
            return kind if self._harm_broker(fault) else None
        worker = self._cluster.workers[fault.target]
        if kind == "kill-all":
            for name in self._cluster.names:
                self._kill(name, lasts)
        elif kind == "kill":
            self._kill(fault.target, lasts)
        elif kind == "terminate":
            worker.terminate()
            self._later(lasts, _Start(fault.target, worker))
        elif kind == "freeze":
            self._freeze(worker, lasts)
        elif kind == "freeze-idle":
            # Nothing but timers is written until it has its shards back: their offsets are then what they were.
            self._hush(lasts + _BACK_S)
            self._later(_SETTLED_S, lambda: self._freeze(worker, lasts - _SETTLED_S))
        elif kind in ("freeze-decided", "freeze-written"):
            return self._freeze_holding(fault, worker)
        elif kind in ("lost-answer", "refused", "clock"):
            self._ask_inside(fault, lasts)
        elif kind == "disk-full":
            self._fill_disk(worker, lasts)
        elif kind == "registry-away":
            self._cluster.proxy.set("registry", "reset")
            self._later(lasts, lambda: self._cluster.proxy.set("registry"))
            self._kill(fault.target, 0.2)
        else:
            self._break_links(fault)
        return kind

    def _kill(self, name: str, lasts: float) -> None:
        worker = self._cluster.workers[name]
        for file in ("hold-begin", "hold-commit", "holding"):
            (self._cluster.data(name) / file).unlink(missing_ok=True)
        worker.kill()
        self._later(lasts, _Start(name, worker))

    def _freeze(self, process: Process, lasts: float) -> None:
        process.pause()
        self._later(lasts, process.resume)

    def _freeze_holding(self, fault: Fault, worker: Process) -> str | None:
        """Freeze it with a batch in its hands: decided and not begun, or written and not committed. If it comes to none, as
        while its broker is away, freeze it as it is.
        """
        folder = self._cluster.data(fault.target)
        hold = folder / ("hold-begin" if fault.kind == "freeze-decided" else "hold-commit")
        hold.touch()
        deadline = time.monotonic() + _HOLD_WAIT_S
        while not (folder / "holding").exists():
            if not worker.running:
                hold.unlink(missing_ok=True)
                return None
            if time.monotonic() > deadline:
                self._freeze(worker, fault.lasts)
                hold.unlink(missing_ok=True)
                return "freeze"
            time.sleep(0.01)
        self._freeze(worker, fault.lasts)
        # A batch not begun goes on when its worker knows better; a commit on its way goes on at once.
        awake = _AWAKE_S if fault.kind == "freeze-decided" else 0.0
        self._later(fault.lasts + awake, lambda: hold.unlink(missing_ok=True))
        return fault.kind

    def _ask_inside(self, fault: Fault, lasts: float) -> None:
        file = self._cluster.data(fault.target) / fault.kind
        file.write_text(str(int(fault.detail * 1000)))
        self._later(lasts, lambda: file.unlink(missing_ok=True))

    def _fill_disk(self, process: Process, lasts: float) -> None:
        """No file of the process may grow any more; ended or not, that is over after a while."""
        if not process.running:
            return
        pid = process.pid
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

        def free() -> None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        self._later(lasts, free)

    def _break_links(self, fault: Fault) -> None:
        links = self._cluster.links(fault.target)
        if fault.kind == "stall-one-broker":
            links = [links[int(fault.detail) - 1]]
        for link in links:
            if fault.kind == "reset":
                self._cluster.proxy.set(link, "reset")
            elif fault.kind == "delay":
                self._cluster.proxy.set(link, "open", fault.detail)
            else:
                self._cluster.proxy.set(link, "stalled")

        def mend() -> None:
            for link in links:
                self._cluster.proxy.set(link)

        self._later(fault.lasts, mend)

    def _harm_broker(self, fault: Fault) -> bool:
        number = int(fault.target) - 1
        if fault.kind == "controller-kill":
            number = self._cluster.controller()
        broker = self._cluster.kafka.brokers[number].process
        if not broker.running:
            return False
        if fault.kind == "broker-freeze":
            self._freeze(broker, fault.lasts)
            return True
        if fault.kind == "broker-disk-full":
            self._fill_disk(broker, fault.lasts)
            self._later(fault.lasts + 0.5, lambda: self._revive(broker))
            return True
        broker.kill()
        self._later(fault.lasts, broker.start)
        return True

    @staticmethod
    def _revive(broker: Process) -> None:
        """A broker ends by itself when it cannot write."""
        if broker.wait(5):
            broker.start()

    # ---------------------------------------------------------------- after the faults
    def heal(self, timeout_s: float = 60.0) -> None:
        """Undo what is left, and wait until every broker serves and every worker runs. Blocking."""
        while self._undo:
            heapq.heappop(self._undo)[2]()
        for broker in self._cluster.kafka.brokers:
            broker.process.resume()
            if not broker.process.running:
                broker.process.start()
        for link in self._cluster.proxy.links:
            self._cluster.proxy.set(link)
        self._cluster.kafka.await_ready()
        for worker in self._cluster.workers.values():
            worker.resume()
            if not worker.running:
                worker.start()

    def ask_for_states(self, timeout_s: float = 5.0) -> dict[str, Path]:
        """Let every worker write down what it holds in memory; return the files that came. Blocking."""
        files = {name: self._cluster.data(name) / "state.json" for name in self._cluster.names}
        for file in files.values():
            file.unlink(missing_ok=True)
            (file.parent / "dump").touch()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not all(file.exists() for file in files.values()):
            time.sleep(0.05)
        return {name: file for name, file in files.items() if file.exists()}


class _Start:
    """Starts a worker that a fault keeps down until then."""

    def __init__(self, name: str, process: Process) -> None:
        self.worker = name
        self._process = process

    def __call__(self) -> None:
        if self._process.running and not self._process.wait(0.0):
            # Told to end and still ending: a supervisor would wait; the kill is a fault of its own.
            self._process.wait(10)
            self._process.kill()
        self._process.start()
