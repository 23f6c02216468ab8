"""Why a step waits for a runner: what it asks for, and whether anybody alive has it. Not in the view: nodes come and go."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.ports import Row
from streams.domain.kinds import FAN_KINDS
from streams.domain.labels import ANY

_FANNED = frozenset(FAN_KINDS.values())


def with_waiting(row: Row, members: Sequence[Mapping[str, Any]]) -> Row:
    """Return the run with ``waits_for`` of the steps on offer; the row itself when there is nothing to say.

    Of items and turns only that nobody can take them. Without members nothing is known.
    """
    if not members or row["ended_at"] is not None:
        return row
    alive = [set(member.get("labels", ())) for member in members if member["status"] == "alive"]
    said = {step["name"]: text for step in row["steps"] if (text := _waits_for(step, alive))}
    if not said:
        return row
    steps = [{**step, "waits_for": said.get(step["name"], step["waits_for"])} for step in row["steps"]]
    return {**row, "steps": steps}


def _waits_for(step: Row, alive: Sequence[set[str]]) -> str:
    if step["status"] != "queued" and step["status"] not in _FANNED:
        return ""
    wanted = step["runs_on"]
    runner = "a runner" if wanted == [ANY] else f"a runner labelled {', '.join(wanted)}"
    if not any(labels.issuperset(wanted) for labels in alive):
        return f"{runner}: none is alive"
    return runner if step["status"] == "queued" and wanted != [ANY] else ""
