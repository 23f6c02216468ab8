"""Which aggregates there are: every module of ``streams.domain`` that declares one, and those a caller adds."""

import pkgutil
from importlib import import_module

import streams.domain
from streams.cron import next_slot
from streams.domain.aggregate import Aggregate


def builtin() -> tuple[Aggregate, ...]:
    """Return the product's aggregates by name.

    A module of ``streams.domain`` declares one as ``AGGREGATE``, or, when it needs the calendar, as a function
    ``aggregate(next_slot)``. So a new aggregate is a new module and nothing else.
    """
    found: list[Aggregate] = []
    for module in pkgutil.iter_modules(streams.domain.__path__):
        package = f"streams.domain.{module.name}"
        source = import_module(f"{package}.declaration" if module.ispkg else package)
        if (declared := getattr(source, "AGGREGATE", None)) is not None:
            found.append(declared)
        elif (make := getattr(source, "aggregate", None)) is not None:
            found.append(make(next_slot))
    return tuple(sorted(found, key=lambda aggregate: aggregate.name))
