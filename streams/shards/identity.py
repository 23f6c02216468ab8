"""Deterministic ids (RFC 9562 version 5), fast enough for the hot path: a replay names everything the same."""

from binascii import unhexlify
from hashlib import sha1
from typing import Final

from librt.strings import BytesWriter

_URL: Final = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")
_UUID_BYTES: Final = 16
_HEX: Final = tuple(b"%02x" % byte for byte in range(256))


def uuid_bytes(text: bytes) -> bytes:
    """Return the 16 bytes of a uuid's text; a text that is no uuid is first made one (uuid5 in the URL namespace)."""
    try:
        raw = unhexlify(text.replace(b"-", b""))
    except ValueError:
        raw = b""
    return raw if len(raw) == _UUID_BYTES else unhexlify(derived(_URL + text).replace(b"-", b""))


def derived(name: bytes) -> bytes:
    """Return ``str(uuid.uuid5(...))`` as bytes; ``name`` begins with the 16 bytes of the namespace."""
    digest = sha1(name, usedforsecurity=False).digest()
    out = BytesWriter()
    for at in range(_UUID_BYTES):
        byte = digest[at]
        if at == 6:
            byte = byte & 0x0F | 0x50  # the version
        elif at == 8:
            byte = byte & 0x3F | 0x80  # the variant: RFC 9562
        if 4 <= at <= 10 and not at & 1:
            out.append(45)  # a hyphen, after the 4th, 6th, 8th and 10th byte
        out.write(_HEX[byte])
    return out.getvalue()
