"""A list of mistakes being written, and the questions that every part of a file is asked."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from streams.domain import duration

DAY_MS = 86_400_000
DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is (``spec.steps[2].after[0]``), what it is, and what to do about it."""

    path: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message}{f' ({self.fix})' if self.fix else ''}"


class Findings:
    """Collects problems. Every question returns what it found usable, so that one mistake hides no other."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, path: str, message: str, fix: str = "") -> None:
        """Report a mistake."""
        self.problems.append(Problem(path, message, fix))

    def unknown(self, path: str, message: str, word: str, known: Iterable[str]) -> None:
        """Report a word that is not among the known ones, and name the one that was probably meant."""
        names = list(known)
        near = get_close_matches(word, names, n=1, cutoff=0.6)
        self.add(path, message, f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}")

    def plain(self, path: str, value: object, depth: int = 0) -> None:
        """Report everything that JSON cannot say (a date, a key that is no text, NaN), and nesting without end."""
        if depth > DEPTH_MAX:
            self.add(path, f"is nested deeper than {DEPTH_MAX} levels")
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(key, str):
                    self.plain(f"{path}.{key}" if path else key, item, depth + 1)
                else:
                    self.add(path, f"the key {key!r} is no text", "put it in quotes")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.plain(f"{path}[{index}]", item, depth + 1)
        elif isinstance(value, float) and not math.isfinite(value):
            self.add(path, f"{value} is no number that JSON knows", "write a finite number")
        elif value is not None and not isinstance(value, str | int | float | bool):
            self.add(path, f"{value!r} is no text, number or truth value", "put it in quotes")

    def mapping(self, path: str, value: object, known: tuple[str, ...] | None) -> dict[str, Any] | None:
        """Return ``value`` if it is a mapping; report keys outside ``known`` (None: any key goes)."""
        if not isinstance(value, dict):
            missing = value is None
            self.add(path, "is missing" if missing else "must be a mapping", _form(known))
            return None
        for key in value:
            if known is not None and key not in known:
                self.unknown(f"{path}.{key}" if path else key, f"{key!r} is not known here", key, known)
        return value

    def items(self, path: str, value: object) -> list[tuple[int, object]]:
        """Return the numbered items of a list; report anything else."""
        if isinstance(value, list):
            return list(enumerate(value))
        self.add(path, "must be a list", f"write [{value}]" if isinstance(value, str) else "write [...]")
        return []

    def text(self, path: str, value: object, *, empty: bool = False) -> None:
        """Report what is missing, no text, or (unless ``empty`` is fine) empty."""
        if value is None:
            self.add(path, "is missing")
        elif not isinstance(value, str):
            self.add(path, f"{value!r} is no text", "put it in quotes")
        elif not value and not empty:
            self.add(path, "is empty")

    def name(self, path: str, value: object, pattern: re.Pattern[str], fix: str) -> None:
        """Report what does not match the pattern of names."""
        if value is None:
            self.add(path, "is missing", fix)
        elif not isinstance(value, str) or not pattern.fullmatch(value):
            self.add(path, f"{value!r} is no name", fix)

    def equals(self, path: str, value: object, wanted: str) -> None:
        """Report anything but the one word that must stand here."""
        if value != wanted:
            self.add(
                path, "is missing" if value is None else f"{value!r} is not known", f"write {path}: {wanted}"
            )

    def one_of(self, path: str, value: object, wanted: tuple[str, ...]) -> None:
        """Report a word that is not among the wanted ones."""
        if not isinstance(value, str):
            self.add(
                path,
                "is missing" if value is None else f"{value!r} is no text",
                f"one of {', '.join(wanted)}",
            )
        elif value not in wanted:
            self.unknown(path, f"{value!r} is not known", value, wanted)

    def exactly_one(self, path: str, block: dict[str, Any], left: str, right: str, example: str) -> None:
        """Report unless ``block`` names one program, by ``left`` or ``right``, with a config that is a mapping."""
        if (left in block) == (right in block):
            self.add(path, f"needs exactly one of {left} and {right}", f"write {example}")
        for key in (left, right):
            if key in block:
                self.text(f"{path}.{key}", block[key])
        if "config" in block:
            self.mapping(f"{path}.config", block["config"], None)

    def truth(self, path: str, value: object) -> None:
        """Report anything but true and false."""
        if not isinstance(value, bool):
            self.add(path, f"{value!r} is neither true nor false", "write true or false")

    def integer(self, path: str, value: object, least: int, most: int) -> None:
        """Report what is no whole number within the bounds."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            wrong = "is missing" if value is None else f"{value!r} does not fit"
            self.add(path, wrong, f"write a whole number from {least} to {most}")

    def number(self, path: str, value: object, least: int, most: int) -> None:
        """Report what is no number within the bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.add(path, f"{value!r} does not fit", f"write a number from {least} to {most}")

    def duration(self, path: str, value: object, least_ms: int, most_ms: int) -> None:
        """Report what is no duration, or out of bounds."""
        if not isinstance(value, str):
            self.add(path, f"{value!r} is no duration", "write for example 250ms, 5s, 20m, 1h30m or 2d")
            return
        try:
            length_ms = duration.parse(value)
        except ValueError as error:
            message, _, fix = str(error).partition(": ")
            self.add(path, message, fix)
            return
        if not least_ms <= length_ms <= most_ms:
            bounds = f"{duration.render(least_ms)} to {duration.render(most_ms)}"
            self.add(path, f"{value} is out of bounds", f"write a duration from {bounds}")


def _form(known: tuple[str, ...] | None) -> str:
    return f"write {{{', '.join(f'{key}: …' for key in known)}}}" if known else "write {key: value}"
