"""Names of jobs, runs and data sets, as OpenLineage wants them: the same thing has the same name for every tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.topics import Topics

Dataset = dict[str, Any]
"""A data set of an event: ``namespace``, ``name``, and facets."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one cluster. ``kafka`` is its bootstrap list; data sets are named by the first broker in it."""

    cluster: str = "flexcore"
    kafka: str = ""
    prefix: str = ""

    def jobs(self, tenant: str) -> str:
        """Return the namespace of a tenant's jobs."""
        return f"flexcore://{self.cluster}/{tenant}"

    def topic(self, name: str) -> Dataset:
        """Return the data set that is a Kafka topic."""
        return {"namespace": f"kafka://{self.kafka.partition(',')[0]}", "name": name}

    def records(self, tenant: str, pipeline: str, step: str) -> str:
        """Return the topic of a step's records."""
        return Topics(self.prefix).dataset(tenant, pipeline, step)


def run_uuid(tenant: str, run_id: str) -> str:
    """Return the run's id, which is a uuid already unless somebody chose another one, as a uuid."""
    try:
        return str(UUID(run_id))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"{tenant}/{run_id}"))


def step_uuid(run: str, step: str) -> str:
    """Return the id of a step of the run with this uuid: the same for all its attempts."""
    return str(uuid5(UUID(run), step))


def singer(program: object, owner: tuple[str, str, str], stream: str) -> Dataset:
    """Return a stream of a Singer program. What it stands for only its configuration says, so its step is in the name."""
    name = str(program).partition("==")[0]
    return {"namespace": f"singer://{name}/{'/'.join(owner)}", "name": stream}


def file(config: Mapping[str, Any]) -> Dataset:
    """Return a file as the pipeline names it: references to secrets stay references."""
    return {"namespace": "file", "name": str(config.get("path", ""))}
