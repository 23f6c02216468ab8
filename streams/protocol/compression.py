"""What records are compressed by: any producer may choose, so who reads must know all of it."""

import gzip
import zlib
from collections.abc import Callable

import cramjam
import lz4.frame

_XERIAL = b"\x82SNAPPY\0"  # Java's snappy writes blocks behind a head of its own
_XERIAL_HEAD_BYTES = 16
_SIZE_BYTES = 4


def decompress(kind: int, data: bytes) -> bytes:
    """Return what a batch's attributes say is compressed by ``kind``. Raises ``ValueError`` for what cannot be."""
    reader = _READERS.get(kind)
    if reader is None:
        raise ValueError(f"nobody knows compression {kind}")
    try:
        return reader(data)
    except (RuntimeError, EOFError, OSError, zlib.error, cramjam.DecompressionError) as error:
        raise ValueError(f"cannot be decompressed: {error}") from error


def _snappy(data: bytes) -> bytes:
    if not data.startswith(_XERIAL):
        return bytes(cramjam.snappy.decompress_raw(data))
    out, at = [], _XERIAL_HEAD_BYTES
    while at < len(data):
        begin = at + _SIZE_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        out.append(bytes(cramjam.snappy.decompress_raw(data[begin:at])))
    return b"".join(out)


_READERS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda data: data,
    1: gzip.decompress,
    2: _snappy,
    3: lz4.frame.decompress,
    4: lambda data: bytes(cramjam.zstd.decompress(data)),
}
