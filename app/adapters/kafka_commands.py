"""The command bus on Kafka: the SDK's command client, with its errors turned into problems."""

from typing import Any

from app.errors import problem
from app.ports import Order, Row
from connectors.sdk.commands import CommandClient, InvalidCommand, UnknownAggregate
from connectors.sdk.errors import Unavailable
from schemas.errors import RegistryUnavailable


class KafkaCommands:
    """A :class:`app.ports.CommandBus`."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client

    async def ask(self, order: Order, timeout_s: float) -> Row | None:
        """Send and wait as the port says.

        Raises ``invalid`` (the body does not fit its schema) and ``unavailable`` (Kafka or the registry is away).
        """
        address = (order.aggregate, order.aggregate_id, order.type, order.body)
        headers: dict[str, Any] = {
            "tenant": order.tenant,
            "command_id": order.command_id,
            "actor": order.actor,
            "expected_version": order.expected_version,
            "traceparent": order.traceparent,
        }
        try:
            if timeout_s <= 0:
                await self._client.send(*address, **headers)
                return None
            return await self._client.ask(*address, timeout_s=timeout_s, **headers)
        except (InvalidCommand, UnknownAggregate) as error:
            raise problem("invalid", f"{error}.") from error
        except (Unavailable, RegistryUnavailable) as error:
            raise problem("unavailable", f"{error}.", headers={"Retry-After": "1"}) from error
