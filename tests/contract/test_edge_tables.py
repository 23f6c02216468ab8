"""The tables of app/README.md (routes, settings, problems) say what the code says, line by line."""

from pathlib import Path
from typing import Any, cast

import pytest

from app.api import SELF_DESCRIPTION
from app.commands.routes import write_routes
from app.config import PREFIX
from app.errors import TABLE
from app.health import Health
from app.ports import Limits, WriteDependencies
from app.settings import SETTINGS
from app.views.ports import ViewDependencies
from app.views.routes import read_routes

README = Path(__file__).parents[2] / "app" / "README.md"


def routes_table() -> list[str]:
    """Return the rows of every route, by path."""
    nothing = cast(Any, None)  # routes are declared without asking anybody anything
    routes = [
        *write_routes(WriteDependencies(nothing, nothing, nothing, nothing, nothing, {}, Limits())),
        *read_routes(ViewDependencies(nothing, nothing, nothing, nothing, nothing)),
        *Health(nothing).routes(),
        *SELF_DESCRIPTION,
    ]
    order = ("GET", "POST", "PUT", "PATCH", "DELETE")
    by_path = sorted(routes, key=lambda route: (route.path, order.index(route.method)))
    return [f"| {route.method} | `{route.path}` | {route.summary} |" for route in by_path]


def settings_table() -> list[str]:
    """Return the rows of every setting, in the order of `flexcore config`."""
    return [
        f"| `{PREFIX}{one.name}` | {f'`{one.default}`' if one.default else ''} | {one.meaning} |"
        for one in SETTINGS
    ]


def problems_table() -> list[str]:
    """Return the rows of every code."""
    return [
        f"| `{code}` | {row.status} | {row.exit_code} | {row.title} | {row.hint} |"
        for code, row in TABLE.items()
    ]


@pytest.mark.parametrize(
    ("heading", "rows"),
    [("Routes", routes_table()), ("Settings", settings_table()), ("Problems", problems_table())],
    ids=["routes", "settings", "problems"],
)
def test_the_table_is_the_codes_own(heading: str, rows: list[str]) -> None:
    """A row missing here, or one too many, is a lie to a reader; the failure shows the table as it must be."""
    section = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert shown == rows, "\n".join(["the table must read:", *rows])
