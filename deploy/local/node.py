"""One node of the product as a child process: started by its command, known by the file it writes when it listens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.process import Process, port_is_free

STOP_GRACE_S = 15
_ANSWER_TIMEOUT_S = 2
# What points a node at services: the stack's own win over what the shell happens to carry.
_OF_OTHER_STACKS = (
    "FLEXCORE_KAFKA_",
    "FLEXCORE_POSTGRES_URL",
    "FLEXCORE_REGISTRY_",
    "FLEXCORE_TEST_",
    "FLEXCORE_URL",
)


class LocalNode:
    """The node `name`, its data in `folder`, all FLEXCORE_* settings in `settings`."""

    def __init__(self, name: str, folder: Path, logs: Path, settings: Mapping[str, str], cwd: Path) -> None:
        self.name = name
        self.file = folder / "node.json"
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(_OF_OTHER_STACKS)}
        own = {"FLEXCORE_NODE": name, "FLEXCORE_DATA_DIR": str(folder)}
        self._env = {**inherited, **settings, **own}
        self.process = Process(
            name,
            [sys.executable, "-m", "app", "node", "run"],
            logs / f"{name}.log",
            env=self._env,
            cwd=cwd,
            stop_signal=signal.SIGTERM,
        )

    def start(self) -> None:
        """Start the node, at the addresses it last had where their ports are free; returns at once."""
        self._env["FLEXCORE_HTTP_PORT"] = str(_port_of(self.file, "url"))
        self._env["FLEXCORE_REGISTRY_PORT"] = str(_port_of(self.file, "registry_url"))
        self.file.unlink(missing_ok=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.process.start()

    def description(self) -> dict[str, Any] | None:
        """What the node wrote about itself once it listened, or None before that."""
        try:
            written: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not yet there, or half written
            return None
        return written if written.get("pid") == self.process.pid else None

    def missing(self) -> str:
        """What the node still waits for, in its own words; empty when it is ready."""
        described = self.description()
        if described is None:
            return "its listeners"
        parts = urlsplit(described["url"])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            return "an answer of its API"
        finally:
            connection.close()
        return "" if answer.status == 200 else _reasons(body)


def _reasons(body: bytes) -> str:
    try:
        missing = json.loads(body).get("missing")
    except (ValueError, AttributeError):
        missing = None
    return ", ".join(map(str, missing)) if missing else "its parts"


def _port_of(file: Path, key: str) -> int:
    """The port the node had when it last ran, if it is free, so that addresses stay over restarts; else 0."""
    try:
        port = urlsplit(json.loads(file.read_text(encoding="utf-8"))[key]).port or 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return port if port and port_is_free(port) else 0
