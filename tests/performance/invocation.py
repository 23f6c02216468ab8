"""How a contestant is called: ``python -m tests.performance.NAME BOOTSTRAP PREFIX COMMANDS [--state DIR] [--paced] ...``.

It reads ``PREFIX.account.commands``, writes to topics of its own, ends after COMMANDS commands (or by SIGTERM), and
prints one line of JSON: its CPU seconds from the start of its work, and what else it can tell of itself.
Standard library only: one contestant runs in another environment.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a contestant. ``state`` is its folder; ``paced`` asks for settings that keep latency low."""

    bootstrap: str
    prefix: str
    commands: int
    state: Path
    paced: bool = False
    shards: int = 4
    node: str = "bench"
    breakdown: bool = False
    cold: bool = False
    begun: float = field(default_factory=time.process_time)

    def report(self, **more: object) -> None:
        """Print what the run cost."""
        told = {"cpu_s": round(time.process_time() - self.begun, 3), "memory_mb": _memory_mb(), **more}
        print(json.dumps(told), flush=True)


def parse() -> Invocation:
    """Return the invocation that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("prefix")
    parser.add_argument("commands", type=int)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--node", default="bench")
    parser.add_argument("--breakdown", action="store_true")
    parser.add_argument("--cold", action="store_true")
    told = parser.parse_args()
    told.state = told.state or Path(tempfile.mkdtemp(prefix="bench-"))
    return Invocation(**vars(told))


def _memory_mb() -> float:
    """Resident memory now, where the system tells it; else its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return round(pages * resource.getpagesize() / 1e6, 1)
