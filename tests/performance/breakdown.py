"""Where our CPU goes, for one run that is not timed: threads by the system's account, the main thread by samples.

A timer of the process's own CPU time interrupts the main thread 500 times a CPU second and notes what it is at. The
threads of librdkafka are the consumer's: fetch. The commit thread compresses, writes and commits: commit.
"""

import contextlib
import signal
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY_S = 0.002
# The innermost of these on the stack names what the main thread is at: file and function, or any function of the file.
_PLACES = {
    ("decoding.py", ""): "decode",
    ("encoding.py", ""): "encode",
    ("<avro>", ""): "encode",
    ("envelope.py", ""): "encode",
    ("outcome.py", ""): "encode",
    ("account.py", ""): "decide",
    ("decide.py", ""): "decide",
    ("record_batch.py", ""): "produce",
    ("engine.py", "_merge"): "commit",
    ("ownership.py", "take"): "fetch",
    ("ownership.py", "submit"): "fetch",
    ("work.py", ""): "fetch",
}


class Breakdown:
    """Begins with the worker's start; main thread only."""

    def __init__(self) -> None:
        self._samples: Counter[str] = Counter()
        self._begun = _threads()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def stop(self, commands: int) -> dict[str, float]:
        """Return microseconds of CPU per command: fetch, decode, decide, encode, produce, commit, rest."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        spent = {thread: seconds - self._begun.get(thread, 0.0) for thread, seconds in _threads().items()}
        ours = {str(thread.native_id): thread.name for thread in threading.enumerate()}
        main = str(threading.main_thread().native_id)
        parts = dict.fromkeys(("fetch", "decode", "decide", "encode", "produce", "commit", "rest"), 0.0)
        for thread, seconds in spent.items():
            name = ours.get(thread, "")
            if thread == main:
                taken = max(sum(self._samples.values()), 1)
                for part, count in self._samples.items():
                    parts[part] += seconds * count / taken
            elif name.startswith("commit"):
                parts["commit"] += seconds
            else:
                parts["fetch"] += seconds
        return {part: round(1e6 * seconds / max(commands, 1), 2) for part, seconds in parts.items()}

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        while frame is not None:
            file, function = Path(frame.f_code.co_filename).name, frame.f_code.co_name
            part = _PLACES.get((file, function)) or _PLACES.get((file, ""))
            if part is not None:
                if file == "<avro>" and function.startswith("decode"):
                    part = "decode"
                self._samples[part] += 1
                return
            frame = frame.f_back
        self._samples["rest"] += 1


def _threads() -> dict[str, float]:
    """Return CPU seconds of each thread of this process, by the system's id of it."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            # In nanoseconds, where the kernel keeps it; `stat` would tell hundredths of a second.
            found[task.name] = int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return found
