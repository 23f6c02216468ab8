"""Avro's numbers as bytes and back: zigzag, little by little seven bits a byte, as lengths and counts are too."""

from typing import Final

from librt.strings import BytesWriter

_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1
_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1
_CONTINUED: Final = 0x80
_BITS_MAX: Final = 64


# Fourteen bits at a time: two bytes that go on, and one or two bytes that end a number.
_PAIRS: Final = tuple(bytes((pair & 0x7F | _CONTINUED, pair >> 7 | _CONTINUED)) for pair in range(1 << 14))
_ENDS: Final = (
    *(bytes((low,)) for low in range(1 << 7)),
    *(bytes((pair & 0x7F | _CONTINUED, pair >> 7)) for pair in range(1 << 7, 1 << 14)),
)


def zigzag(number: int) -> bytes:
    """Return an Avro long. Raises OverflowError outside 64 bits, TypeError for anything but an int."""
    # Versions, sizes and young sequences are small; then come most sequences and offsets, then times in ms and in µs.
    if number >= 0:
        if number < 1 << 13:
            return _ENDS[number << 1]
        if number < 1 << 27:
            return _PAIRS[number << 1 & 0x3FFF] + _ENDS[number >> 13]
        if number < 1 << 41:
            return _PAIRS[number << 1 & 0x3FFF] + _PAIRS[number >> 13 & 0x3FFF] + _ENDS[number >> 27]
        if number < 1 << 55:
            low, middle = _PAIRS[number << 1 & 0x3FFF], _PAIRS[number >> 13 & 0x3FFF]
            return low + middle + _PAIRS[number >> 27 & 0x3FFF] + _ENDS[number >> 41]
    if not isinstance(number, int):
        raise TypeError(f"an integer is required, not {number!r}")
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise OverflowError(f"{number} does not fit into 64 bits")
    rest = (number << 1) ^ (number >> 63)
    out = b""
    while rest >= 1 << 14:
        out += _PAIRS[rest & 0x3FFF]
        rest >>= 14
    return out + _ENDS[rest]


def put_long(out: BytesWriter, number: int) -> None:
    """Append an Avro long. Raises as :func:`zigzag` does."""
    if not 0 <= number < 1 << 55:  # rare, and some of them are to be refused
        out.write(zigzag(number))
        return
    rest = number << 1
    while rest >= _CONTINUED:
        out.append(rest & 0x7F | _CONTINUED)
        rest >>= 7
    out.append(rest)


def put_sized(out: BytesWriter, raw: bytes) -> None:
    """Append Avro bytes, or a string from its UTF-8 bytes."""
    put_long(out, len(raw))
    out.write(raw)


def zigzag_int(number: int) -> bytes:
    """Return an Avro int. Raises OverflowError outside 32 bits, TypeError for anything but an int."""
    if not _INT_MIN <= number <= _INT_MAX:
        raise OverflowError(f"{number} does not fit into 32 bits")
    return zigzag(number)


class Lengths(dict[int, bytes]):
    """Encoded lengths: the small ones ready made, the others computed when asked for."""

    def __missing__(self, length: int) -> bytes:
        return zigzag(length)


LENGTHS: Lengths = Lengths((length, zigzag(length)) for length in range(1024))


def boolean(value: bool) -> bytes:
    """Return an Avro boolean. Raises TypeError for anything else, 0 and 1 included."""
    if value is True:
        return b"\1"
    if value is False:
        return b"\0"
    raise TypeError(f"a boolean is required, not {value!r}")


def rest(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Return the unsigned number whose first byte was ``first``, and where it ends."""
    byte = data[at]
    at += 1
    number = first & 0x7F | (byte & 0x7F) << 7
    if byte < _CONTINUED:
        return number, at
    shift = 14
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < _CONTINUED:
            if number >> _BITS_MAX:
                raise ValueError("a number does not fit into 64 bits")
            return number, at
        shift += 7
        if shift >= _BITS_MAX:
            raise ValueError("a number does not fit into 64 bits")


def unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number at ``at``, and where it ends; of a zigzag one the sign is in the last bit."""
    first = data[at]
    return (first, at + 1) if first < _CONTINUED else rest(data, at + 1, first)


def odd(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The same for a length: refuses a negative one (zigzag: odd)."""
    number, end = rest(data, at, first) if first >= _CONTINUED else (first, at)
    if number & 1:
        raise ValueError("a length is negative")
    return number, end


def count(data: bytes, at: int) -> tuple[int, int]:
    """Return how many items the next block holds, and where they begin; a negative count is followed by a size."""
    number, at = unsigned(data, at)
    if not number & 1:
        return number >> 1, at
    _size, at = unsigned(data, at)
    return (number + 1) >> 1, at


def no_branch(number: int) -> None:
    """Raise ValueError: the union has no such branch."""
    raise ValueError(f"the union has no branch {number >> 1}")
