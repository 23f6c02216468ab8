"""The examples of the READMEs, for the tests that run them."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def readme(package: str) -> str:
    """Return the README of a package, ``app`` or ``streams/domain``."""
    return (_ROOT / package / "README.md").read_text(encoding="utf-8")


def section(package: str, title: str) -> str:
    """Return what stands under a heading of the second level."""
    _, found, text = readme(package).partition(f"\n## {title}\n")
    assert found, f"{package}/README.md has no section {title!r}"
    return text.partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks in a language; "" is those that name none."""
    return [body for named, body in _FENCED.findall(text) if named == language]


def pipeline(package: str, name: str) -> str:
    """Return the pipeline of this name in a package's README."""
    (text,) = [block for block in blocks(readme(package), "yaml") if f"name: {name}}}" in block]
    return text


def commands(text: str, given: Mapping[str, str] | None = None) -> list[list[str]]:
    """Return the words of each ``flexcore …`` line after that word; comments are left out, ``given`` is put in place."""
    for old, new in (given or {}).items():
        text = text.replace(old, new)
    lines = re.findall(r"^flexcore (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def request(line: str) -> tuple[str, str, dict[str, str], str]:
    """Return what a line of curl sends: method, path, headers, body."""
    words = shlex.split(line.replace("\\\n", " "))
    told = [(words[at], words[at + 1]) for at in range(len(words) - 1) if words[at] in ("-X", "-H", "-d")]
    (method,), (body,) = ([value for option, value in told if option == wanted] for wanted in ("-X", "-d"))
    headers = dict(value.split(": ", 1) for option, value in told if option == "-H")
    (url,) = [word for word in words if "://" in word]
    return method, "/" + url.split("/", 3)[3], headers, body
