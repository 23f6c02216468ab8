"""Marks every test by the folder it lives in, which is its cost; starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.services"]

_HERE = Path(__file__).parent

# The same examples every time, so that a change is judged by what it changed; no deadline, machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker named as its top folder below tests/."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(item.path.relative_to(_HERE).parts[0])
