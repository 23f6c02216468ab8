"""Which aggregates there are: every module of ``streams.domain`` that declares one, and those a caller adds."""

import inspect
import pkgutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import streams.domain
from streams.cron import next_slot
from streams.domain.aggregate import Aggregate
from streams.domain.redaction import redactable
from streams.expressions import LANGUAGE

OUTSIDE: Mapping[str, Any] = {"next_slot": next_slot, "language": LANGUAGE}
"""What rules may ask of the world outside, by the name they ask for it: pure functions."""


def builtin(tenant_runs_max: int = 0) -> tuple[Aggregate, ...]:
    """Return the product's aggregates by name. ``tenant_runs_max`` is the node's setting; 0: no such limit.

    A module of ``streams.domain`` declares one as ``AGGREGATE``, or, when it needs something of ``OUTSIDE`` or the
    setting, as a function ``aggregate`` of it. So a new aggregate is a new module and nothing else.
    """
    given = {**OUTSIDE, "tenant_runs_max": tenant_runs_max}
    found: list[Aggregate] = []
    for module in pkgutil.iter_modules(streams.domain.__path__):
        package = f"streams.domain.{module.name}"
        source = import_module(f"{package}.declaration" if module.ispkg else package)
        if (declared := getattr(source, "AGGREGATE", None)) is not None:
            found.append(declared)
        elif (make := getattr(source, "aggregate", None)) is not None:
            found.append(make(**{name: given[name] for name in inspect.signature(make).parameters}))
    return tuple(redactable(each) for each in sorted(found, key=lambda aggregate: aggregate.name))


def parking(aggregates: Sequence[Aggregate], kinds: Collection[str]) -> tuple[Aggregate, ...]:
    """Return the aggregates; of the named ones, those that declare it too, later commands wait behind one in quarantine."""
    return tuple(replace(one, parks=one.parks or one.name in kinds) for one in aggregates)
