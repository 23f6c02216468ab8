"""Messages of confluent-kafka without Kafka."""

from dataclasses import dataclass, field


@dataclass
class FakeMessage:
    """What is asked of a message."""

    value_: bytes | None
    key_: bytes | None = b"default/a"
    offset_: int = 0
    headers_: list[tuple[str, bytes | None]] = field(default_factory=list)
    at: int = 1_700_000_000_000

    def topic(self) -> str:
        return "account.commands"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.offset_

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def headers(self) -> list[tuple[str, bytes | None]]:
        return self.headers_

    def timestamp(self) -> tuple[int, int]:
        return (1, self.at)

    def error(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self.value_ or b"")
