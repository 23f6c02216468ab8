"""A record of a Kafka topic."""

from typing import Final

from mypy_extensions import mypyc_attr

from schemas.numbers import unsigned

Headers = list[tuple[str, bytes | None]]

_NAMES: Final = dict[bytes, str]()  # headers have few names, and each record has all of them again
_NAMES_MAX: Final = 1000


@mypyc_attr(acyclic=True)
class Record:
    """A record, fetched or put together; read only. ``told`` are its headers as they stand in the log; ``time_ms`` is since the
    epoch; ``len`` is the size of the value in bytes.

    Neither frozen nor a dataclass, because there is one for every command and event: :class:`streams.writer.command.Command`.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        time_ms: int,
        key: bytes | None,
        value: bytes | None,
        told: bytes,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.time_ms = time_ms
        self.key = key
        self.value = value
        self.told = told

    def __len__(self) -> int:
        value = self.value
        return 0 if value is None else len(value)

    @property
    def where(self) -> str:
        """Topic, partition and offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def headers(self) -> dict[str, bytes | None]:
        """Return the headers by name; of several with one name the last."""
        data, found = self.told, dict[str, bytes | None]()
        count, at = unsigned(data, 0)
        for _ in range(count >> 1):
            name, value, at = _header(data, at)
            found[name] = value
        return found

    def header_list(self) -> Headers:
        """Return the headers in order. A name that is no UTF-8 is told as well as it can be."""
        data, found = self.told, Headers()
        count, at = unsigned(data, 0)
        for _ in range(count >> 1):
            name, value, at = _header(data, at)
            found.append((name, value))
        return found


def _header(data: bytes, at: int) -> tuple[str, bytes | None, int]:
    """Return a name, a value, and where they end."""
    size, at = unsigned(data, at)
    end = at + (size >> 1)
    raw = data[at:end]
    name = _NAMES.get(raw) or _named(raw)
    size, at = unsigned(data, end)
    if size & 1:  # -1: null
        return name, None, at
    end = at + (size >> 1)
    return name, data[at:end], end


def _named(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace")
    if len(_NAMES) < _NAMES_MAX:
        _NAMES[raw] = name
    return name
