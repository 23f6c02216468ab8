"""Signed checkpoints: records of the audit topic, made by the owner of a shard, checked by whoever doubts it.

The signature is Ed25519 over the context ``flexcore checkpoint`` and the record's Avro bytes before the field
``signature``, its last. So it holds whatever registry gave the schema its id. Wire format: version with care.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.catalogue import Catalogue
from schemas.codec import HEADER_BYTES, Codec
from schemas.topics import AUDIT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHECKPOINT = "flexcore.common.Checkpoint"
AUDIT_KEY = "flexcore.common.AuditKey"
_CONTEXT = b"flexcore checkpoint\0"
_NO_SIGNATURE = 1  # bytes of an empty Avro string
_SIGNATURE_BYTES = 128  # in hex
_SIGNATURE_SIZE = b"\x80\x02"  # 128 as an Avro long


class BadKey(ValueError):
    """The file is no Ed25519 private key, or cannot be read; the message names it and says how to make one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says; the fields of ``avro/common/Checkpoint.avsc`` but for the signature. Hashes are hex."""

    number: int
    aggregate: str
    shard: int
    after: int
    to: int
    events: int
    events_hash: str
    outcomes: int
    outcomes_hash: str
    previous: str
    root: str
    writer: str
    at: int
    key_id: str

    @property
    def key(self) -> bytes:
        """The record's key."""
        return checkpoint_key(self.aggregate, self.shard, self.number)


def checkpoint_key(aggregate: str, shard: int, number: int) -> bytes:
    """Return the key under which a checkpoint stands."""
    return f"{aggregate}/{shard}/{number:020d}".encode()


def key_id_of(public_key: bytes) -> str:
    """Return the name of a public key."""
    return sha256(public_key).hexdigest()[:16]


class Signer:
    """An Ed25519 key pair. Signing takes some 50 µs and does not block."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """Read the private key (PEM, PKCS 8, not encrypted). Raises :class:`BadKey`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - only who signs needs it
            Ed25519PrivateKey,
        )
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above

        try:
            private = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise BadKey(
                f"{path} cannot be read as a private key ({said}); {_MAKE_ONE.format(path)}"
            ) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise BadKey(f"{path} holds another kind of key; {_MAKE_ONE.format(path)}")
        return cls(private)

    @classmethod
    def own(cls, path: Path) -> "Signer":
        """Read the private key, made at the first call: readable by its owner only. Raises :class:`BadKey`."""
        if not path.exists():
            _make(path)
        return cls.load(path)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._private.sign(message)


_MAKE_ONE = "make one with: openssl genpkey -algorithm ed25519 -out {}"


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only who signs needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(pem)
        fresh.replace(path)
    except OSError as error:
        raise BadKey(f"{path} cannot be written ({error.strerror}); set FLEXCORE_AUDIT_KEY") from None


class CheckpointEncoder:
    """Makes the records of one signer. Blocking once: registers the two schemas."""

    def __init__(self, signer: Signer, catalogue: Catalogue, codec: Codec) -> None:
        self.key_id = signer.key_id
        self._signer = signer
        self._checkpoint = codec.encoder(f"{AUDIT}-{CHECKPOINT}", catalogue.schema(CHECKPOINT))
        key = codec.encoder(f"{AUDIT}-{AUDIT_KEY}", catalogue.schema(AUDIT_KEY))
        self.key_record = (
            f"key/{signer.key_id}".encode(),
            key({"key_id": signer.key_id, "public_key": signer.public_key.hex()}),
        )

    def checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """Return the record, signed."""
        value = self._checkpoint({**asdict(checkpoint), "signature": ""})[:-_NO_SIGNATURE]
        signature = self._signer.sign(_CONTEXT + value[HEADER_BYTES:])
        return value + _SIGNATURE_SIZE + signature.hex().encode()


def checkpoint_of(body: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint that a decoded record holds."""
    return Checkpoint(**{name: body[name] for name in Checkpoint.__slots__})


def unhex(text: str) -> bytes:
    """Return the bytes of lower-case hex digits, none for anything else: one hash has one spelling."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return b""
    return raw if raw.hex() == text else b""


def signed_by(public_key: bytes) -> Callable[[bytes], bool]:
    """Return a function that tells whether a record's value was signed by this key."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only who checks needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    public = Ed25519PublicKey.from_public_bytes(public_key)

    def check(value: bytes) -> bool:
        message = _CONTEXT + value[HEADER_BYTES : -_SIGNATURE_BYTES - len(_SIGNATURE_SIZE)]
        try:
            public.verify(unhex(value[-_SIGNATURE_BYTES:].decode()), message)
        except (InvalidSignature, ValueError):
            return False
        return True

    return check
