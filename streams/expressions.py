"""The language of expressions in pipeline files: CEL (cel.dev), by Google's own runtime. Pure: no IO, clock or chance."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from streams.domain.expressions import ITEM_ROOTS, ROOTS, Language, Mistake

_CACHED_MAX = 1_024
_ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys((*ROOTS, *ITEM_ROOTS), cel.Type.DYN))
_UNKNOWN = re.compile(r"undeclared reference to '([\w.]+)'")
_PLACE = re.compile(r"ERROR: <input>:\d+:\d+: ([^\n]+)")
_CODE = re.compile(r"^[A-Z_]+: ")


@lru_cache(_CACHED_MAX)
def check(expression: str) -> Mistake | None:
    """Return what is wrong with an expression before anything is known of its values; None for a good one."""
    try:
        _compiled(expression)
    except ValueError as error:
        unknown = _UNKNOWN.search(str(error))
        return Mistake(str(error), unknown[1].partition(".")[0] if unknown else "")
    return None


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:
    """Return the value as JSON data, times as datetime, lengths as timedelta. Raise ValueError with the reason.

    A loop goes round 10,000 times at most, in all, and nothing nests deeper than 32: the runtime's own bounds.
    """
    try:
        value = _compiled(expression).eval(data=dict(names))
    except RuntimeError as error:
        raise ValueError(_said(error)) from error
    plain = value.plain_value()
    if value.type() == cel.Type.ERROR:
        raise ValueError(_CODE.sub("", str(plain)))
    return _plain(plain)


LANGUAGE = Language(check, evaluate)


@lru_cache(_CACHED_MAX)
def _compiled(expression: str) -> cel.Expression:
    try:
        return _ENVIRONMENT.compile(expression)
    except RuntimeError as error:
        raise ValueError(_said(error)) from error
    except TypeError as error:
        raise ValueError("it has characters that are no Unicode text") from error


def _said(error: RuntimeError) -> str:
    """Return the runtime's message without its code and its drawing of the place."""
    text = str(error)
    found = _PLACE.search(text)
    return found[1] if found else re.sub(r" \[[A-Z_]+\]$", "", _CODE.sub("", text)).strip()


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str() | datetime() | timedelta():
            return value
        case list():
            return [_plain(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
        case dict():
            raise ValueError("the keys of a map must be text")
        case _:
            raise ValueError(f"{type(value).__name__} is nothing that JSON knows: use string(…)")
