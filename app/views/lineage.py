"""The lineage of a run: what is told about it as OpenLineage, and the same as a graph of steps and data sets."""

from collections.abc import Sequence

from app.ports import Row
from connectors.lineage.naming import Names
from connectors.lineage.story import RunEvent, Story


def lineage(names: Names, run: Row, events: Sequence[Row]) -> Row:
    """Return the lineage as data; ``events`` are all of the run's, in order."""
    story = Story(names, run["tenant"], run["id"])
    told = [one for event in events for one in story.take(event["type"], event["body"])]
    return {
        **{name: run[name] for name in ("id", "pipeline", "status")},
        "events": told,
        "datasets": _datasets(run["pipeline"], told),
    }


def _datasets(pipeline: str, told: Sequence[RunEvent]) -> list[Row]:
    """Return each data set with the steps that wrote and read it, in the order they are first told of."""
    found: dict[tuple[str, str], Row] = {}
    for event in told:
        step = event["job"]["name"].removeprefix(f"{pipeline}.")
        for side, deed in (("inputs", "read_by"), ("outputs", "written_by")):
            for one in event[side]:
                place = one["namespace"], one["name"]
                row = found.setdefault(
                    place,
                    {"namespace": place[0], "name": place[1], "columns": [], "written_by": [], "read_by": []},
                )
                row[deed] += [step] if step not in row[deed] else []
                fields = one.get("facets", {}).get("schema", {}).get("fields", ())
                row["columns"] = [field["name"] for field in fields] or row["columns"]
    return [*found.values()]
