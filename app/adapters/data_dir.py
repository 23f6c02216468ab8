"""A node's own directory: its name is kept there, and one process at a time may be that node."""

import fcntl
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


class NodeTaken(Exception):
    """The data directory cannot be used; the message says by whom it is, and what to do."""


class DataDir:
    """Claims a directory for one node. The claim ends with the process, however it ends: the kernel keeps the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def claim(self, wanted: str) -> str:
        """Lock the directory and return the node's name: the one kept, else ``wanted``, else a new one that is kept.

        Raises :class:`NodeTaken` when another process holds it, when it belongs to a node of another name, or when it
        cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "node.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise NodeTaken(
                f"{self.path} cannot be written ({error.strerror}); set FLEXCORE_DATA_DIR."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise NodeTaken(
                f"{self.path} is in use by {holder}; give each node its own FLEXCORE_DATA_DIR, or stop that process."
            ) from None
        kept_in = self.path / "node-name"
        kept = kept_in.read_text(encoding="utf-8").strip() if kept_in.exists() else ""
        if kept and wanted and kept != wanted:
            lock.close()
            raise NodeTaken(
                f"{self.path} belongs to node {kept!r}, not {wanted!r}; the name is part of its transactional id, so "
                "start it under its own name, or give the new node its own FLEXCORE_DATA_DIR."
            )
        name = kept or wanted or _new_name()
        if not kept:
            kept_in.write_text(f"{name}\n", encoding="utf-8")
        lock.truncate(0)
        lock.write(f"process {os.getpid()} (node {name})\n")
        lock.flush()
        self._lock = lock
        return name

    def publish(self, document: Mapping[str, Any]) -> None:
        """Write ``node.json``: where the node's listeners are. Readers see the old file or the new one, never half."""
        fresh = self.path / "node.json.new"
        fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.path / "node.json")

    def published(self) -> dict[str, Any]:
        """Return what was published last; nothing before the first time."""
        found = self.path / "node.json"
        written: dict[str, Any] = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
        return written

    def release(self) -> None:
        """Take ``node.json`` away and give the directory back."""
        (self.path / "node.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _new_name() -> str:
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:40] or "node"
    return f"{host}-{uuid4().hex[:6]}"
