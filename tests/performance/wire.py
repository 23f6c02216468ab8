"""The bytes that all contestants agree on: schemas with fixed ids, and the topics each one writes to.

Imports nothing that talks to Kafka: one contestant runs in another environment.
"""

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from schemas.topics import Topics
from tests.performance.account import SCHEMAS

DEPOSIT = "flexcore.account.Deposit"
DEPOSITED = "flexcore.account.Deposited"
OUTCOME = "flexcore.common.Outcome"


def codec_of_all() -> tuple[Codec, Catalogue]:
    """Return a codec whose schema ids are the same in every process of the benchmark."""
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    codec = Codec(registry_of_all(catalogue), catalogue)
    return codec, catalogue


def registry_of_all(catalogue: Catalogue) -> MemoryRegistry:
    """Return a registry in which commands, events and outcomes have the ids 1, 2 and 3."""
    registry = MemoryRegistry()
    for topic, name in (("commands", DEPOSIT), ("events", DEPOSITED), ("outcomes", OUTCOME)):
        registry.register(f"account.{topic}-{name}", catalogue.schema(name))
    return registry


def outputs(prefix: str, contestant: str) -> Topics:
    """Return the topics a contestant writes to: ours beside the commands, each other one under its name."""
    return Topics(prefix if contestant == "ours" else f"{prefix}.{contestant}")
