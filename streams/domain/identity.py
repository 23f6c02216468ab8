"""Ids that several places must compute alike: same input, same id, for ever."""

import json
from uuid import NAMESPACE_URL, uuid5


def run_id(tenant: str, pipeline: str, key: str) -> str:
    """Return the id of the run of ``pipeline`` that was asked for under ``key``.

    Without a key of its own, a start or rerun uses its command id; a schedule uses ``slot_key``.
    """
    return str(uuid5(NAMESPACE_URL, f"{tenant}/{pipeline}/{key}"))


def slot_key(slot: int) -> str:
    """Return the start key of a schedule's slot (nominal time in ms since the epoch)."""
    return f"slot/{slot}"


def end_key(run: str) -> str:
    """Return the start key of the runs that the end of ``run`` starts, one of each pipeline that listens."""
    return f"run/{run}"


def event_key(source: str, event_id: str) -> str:
    """Return the start key of the runs that a CloudEvent starts, one of each pipeline: the same however often it is sent."""
    return f"event/{uuid5(NAMESPACE_URL, json.dumps([source, event_id]))}"


def child_run_id(parent: str, step: str, attempt: int) -> str:
    """Return the id of the run that is an attempt of a step of the run ``parent``."""
    return str(uuid5(NAMESPACE_URL, f"{parent}/{step}/{attempt}"))
