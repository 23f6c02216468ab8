"""The whole local stack in one data directory: Kafka, PostgreSQL, nodes, and the parent that watches them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.failures import DataDirLocked, LocalStackError, ServiceFailed
from deploy.local.kafka import KafkaCluster
from deploy.local.node import STOP_GRACE_S, LocalNode
from deploy.local.paths import cache_dir
from deploy.local.postgres import PostgresServer
from deploy.local.process import Process

NODES_READY_TIMEOUT_S = 120
PARENT_LOG = "stack.log"
_WATCH_EVERY_S = 0.25
_FREE_BYTES_MIN = 1 << 30
# What `wipe` may delete: the names a stack makes in its data directory.
_OURS = ("kafka", "postgres", "nodes", "logs", "stack.json", "lock")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What a stack is made of. `project` is the folder whose pipelines and transforms the nodes use."""

    data_dir: Path
    project: Path | None = None
    brokers: int = 1
    nodes: int = 1
    restart: bool = False


class Stack:
    """Starts, watches and stops everything; one at a time per data directory.

    To be used on the main thread of a process that lives as long as the stack: when it ends, however it
    ends, so do all children. `progress` is told, line by line, what happens.
    """

    def __init__(self, settings: StackSettings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._logs = settings.data_dir / "logs"
        folder, logs = settings.data_dir, self._logs
        self.kafka = KafkaCluster(
            folder / "kafka",
            logs,
            cache=cache_dir(),
            brokers=settings.brokers,
            optimised=False,
            progress=progress,
        )
        self.postgres = PostgresServer(folder / "postgres", logs, progress=progress)
        self.nodes: list[LocalNode] = []
        self._gone: dict[str, int] = {}
        self._published = ""

    @contextmanager
    def running(self) -> Iterator[Stack]:
        """Everything started and ready inside, stopped after. Raises LocalStackError when it does not start."""
        with _explained(self._settings.data_dir), _held(self._settings.data_dir):
            _check_disk(self._settings.data_dir)
            try:
                self._start()
                yield self
            finally:
                self._stop()

    def watch(self, until: Callable[[], bool]) -> None:
        """Notice children that end, until `until()`; start them again only if the settings say so. Blocks."""
        while not until():
            for process, start in self._children():
                code = process.returncode
                if code is None:
                    continue
                if self._settings.restart:
                    self._progress(f"{process.name} ended ({_how(code)}); starting it again")
                    start()
                elif process.name not in self._gone:
                    self._progress(f"{process.name} ended ({_how(code)}); the others go on")
                    self._gone[process.name] = code
            self._publish()
            time.sleep(_WATCH_EVERY_S)

    def kill(self) -> None:
        """End every child by SIGKILL."""
        for process in self._processes():
            process.kill()

    def description(self) -> dict[str, Any]:
        """The addresses of what runs, in the form `flexcore dev status -o json` prints."""
        alive = [d for node in self.nodes if node.process.running and (d := node.description())]
        return {
            "kafka": {"bootstrap": self.kafka.bootstrap},
            "postgres": {"url": self.postgres.url},
            "registry": {"url": alive[0]["registry_url"] if alive else None},
            "connect": {"url": alive[0].get("connect_url") if alive else None},
            "nodes": [{key: node[key] for key in ("name", "url", "pid", "roles")} for node in alive],
            "data_dir": str(self._settings.data_dir),
        }

    def _children(self) -> list[tuple[Process, Callable[[], None]]]:
        """Every process of the stack, and what starts it again."""
        services = [broker.process for broker in self.kafka.brokers]
        if self.postgres.port:
            services.append(self.postgres.process)
        children = [(service, service.start) for service in services]
        return children + [(node.process, node.start) for node in self.nodes]

    def _processes(self) -> list[Process]:
        return [process for process, _ in self._children()]

    def _start(self) -> None:
        _keep_one_older(self._logs)
        self.kafka.launch()
        self.postgres.launch()
        # The nodes wait for Kafka by themselves, and load their programs while it starts.
        self._launch_nodes()
        self.postgres.await_ready()
        self._progress(f"PostgreSQL {self.postgres.version} is ready: {self.postgres.url}")
        self.kafka.await_ready()
        self._progress(f"Apache Kafka {self.kafka.version} is ready: {self.kafka.bootstrap}")
        self._await_nodes()
        self._publish()

    def _launch_nodes(self) -> None:
        settings = self._settings
        if settings.nodes:
            self._progress(f"starting {settings.nodes} node{'s' * (settings.nodes > 1)}")
        for number in range(1, settings.nodes + 1):
            name = f"node-{number}"
            folder = settings.data_dir / "nodes" / name
            cwd = settings.project or Path.cwd()
            self.nodes.append(LocalNode(name, folder, self._logs, self._node_settings(), cwd))
            self.nodes[-1].start()

    def _await_nodes(self) -> None:
        deadline = time.monotonic() + NODES_READY_TIMEOUT_S
        waiting = {node.name: node for node in self.nodes}
        while waiting:
            for node in list(waiting.values()):
                missing = node.missing()
                if not missing:
                    del waiting[node.name]
                    self._progress(f"{node.name} is ready: {(node.description() or {}).get('url')}")
                elif not node.process.running:
                    raise _failed(node, f"ended ({_how(node.process.returncode or 0)}) before it was ready.")
                elif time.monotonic() > deadline:
                    raise _failed(
                        node, f"was not ready after {NODES_READY_TIMEOUT_S} s; it waits for {missing}."
                    )
            time.sleep(0.1)

    def _node_settings(self) -> dict[str, str]:
        settings = {
            "FLEXCORE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "FLEXCORE_POSTGRES_URL": self.postgres.url,
            "FLEXCORE_REGISTRY_URL": "",  # each node brings its own, so none depends on another
            "FLEXCORE_REPLICATION": str(self._settings.brokers),
            "FLEXCORE_PLUGINS_DIR": os.environ.get("FLEXCORE_PLUGINS_DIR") or str(cache_dir() / "plugins"),
        }
        if self._settings.project is not None:
            settings["FLEXCORE_PROJECT"] = str(self._settings.project)
        return settings

    def _publish(self) -> None:
        text = json.dumps(self.description() | {"supervisor": os.getpid(), "ended": self._gone})
        if text != self._published:
            file = self._settings.data_dir / "stack.json"
            fresh = file.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(file)
            self._published = text

    def _stop(self) -> None:
        if any(process.running for process in self._processes()):
            self._progress("stopping")
        for node in self.nodes:
            node.process.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for node in self.nodes:
            if not node.process.wait(max(0.0, deadline - time.monotonic())):
                self._progress(f"{node.name} did not stop within {STOP_GRACE_S} s; killing it")
            node.process.kill()
        self.kafka.stop()
        self.postgres.stop()
        (self._settings.data_dir / "stack.json").unlink(missing_ok=True)


def owner(data_dir: Path) -> int | None:
    """Return the process id of the stack that runs on `data_dir`, or None."""
    try:
        handle = (data_dir / "lock").open("r+")
    except FileNotFoundError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(handle.read() or 0)
    return None


def read(data_dir: Path) -> dict[str, Any] | None:
    """Return what the running stack of `data_dir` published, or None when none is ready there."""
    if owner(data_dir) is None:
        return None
    try:
        published: dict[str, Any] = json.loads((data_dir / "stack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return published


def wipe(data_dir: Path) -> list[str]:
    """Delete what a stopped stack left in `data_dir`, and the folder if that empties it; return what went."""
    gone = [name for name in _OURS if (data_dir / name).exists()]
    for name in gone:
        path = data_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):  # something of somebody else's is in it: it stays
        data_dir.rmdir()
    return gone


@contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise DataDirLocked(
                f"A stack is already running on {data_dir} (process {handle.read()}).",
                "`flexcore dev status` shows it, `flexcore dev down` stops it, --data-dir names another folder.",
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """Turn what an operating system says about the data directory into a cause and a fix."""
    try:
        yield
    except OSError as error:
        where = error.filename or data_dir
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LocalStackError(
                f"The disk of {data_dir} is full.", "Free some space, or choose another folder by --data-dir."
            ) from error
        raise LocalStackError(
            f"{where} cannot be used: {error.strerror}.", "Choose another folder by --data-dir."
        ) from error


def _check_disk(data_dir: Path) -> None:
    free = shutil.disk_usage(data_dir).free
    if free < _FREE_BYTES_MIN:
        raise LocalStackError(
            f"Only {free >> 20} MiB are free on the disk of {data_dir}; a stack needs {_FREE_BYTES_MIN >> 20}.",
            "Free some space, or choose another folder by --data-dir.",
        )


def _keep_one_older(logs: Path) -> None:
    """Begin new log files, keeping those of the last run as NAME.log.1."""
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        if log.name == PARENT_LOG:  # a detached parent already writes there
            continue
        log.replace(log.with_suffix(".log.1"))


def _failed(node: LocalNode, what: str) -> ServiceFailed:
    return ServiceFailed(
        f"{node.name} {what}", f"Its log says why: {node.process.log}", node.process.log_tail()
    )


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
