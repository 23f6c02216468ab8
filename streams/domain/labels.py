"""Labels: what a runner says of itself, and what a step asks of the runner that takes it."""

from collections.abc import Iterable

from streams.domain.findings import Findings
from streams.domain.kinds import NAME, NAME_FIX, NO_RUNNER_KINDS

ANY = "default"
"""The label of steps that ask for nothing."""
CHARS_MAX = 120
"""All labels of a step together: they are the name of a topic."""


def queue_of(labels: Iterable[str]) -> str:
    """Return the queue on which steps are offered that ask for these labels; equal sets have the same one."""
    return ".".join(sorted(labels))


def missing(wanted: Iterable[str], has: str) -> list[str]:
    """Return the labels a runner lacks for a step; ``has`` are its own, separated by commas."""
    return [label for label in wanted if label not in has.split(",")]


def runs_on(found: Findings, path: str, value: object, kind: str) -> None:
    """Note what is wrong with the labels that a step asks for."""
    if kind in NO_RUNNER_KINDS:
        found.add(path, f"means nothing for a {kind}: no runner takes it", "remove it")
    labels = found.items(path, value)
    if isinstance(value, list) and not labels:
        found.add(path, "is empty", "name a label, or remove it")
    seen: list[object] = []
    for index, label in labels:
        found.name(f"{path}[{index}]", label, NAME, NAME_FIX)
        if label in seen:
            found.add(f"{path}[{index}]", f"{label!r} is there twice", "keep one of them")
        seen.append(label)
    names = [label for label in seen if isinstance(label, str)]
    if len(queue_of(names)) > CHARS_MAX:
        found.add(path, f"has more than {CHARS_MAX} characters together", "ask for fewer or shorter labels")
