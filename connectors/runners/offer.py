"""What a runner reads from ``tasks.<queue>``: an attempt of a step, on offer to whoever claims it first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Offer:
    """One attempt on offer. ``spec`` is the step's block of the pipeline file, secrets still as references.

    ``checkpoint`` is the newest one that an earlier attempt saved. ``index``: which item of a map, or turn of a repeat, the
    step is; ``result``: what the turn before handed over. ``redrive``: the transform also takes up what it rejected in its
    ``run`` (None: in any).
    """

    tenant: str
    pipeline: str
    run: str
    step: str
    attempt: int
    kind: str
    spec: Mapping[str, Any]
    timeout_ms: int | None
    lease_ms: int
    heartbeat_ms: int
    input: Mapping[str, Any]
    full_refresh: bool
    upstream: Mapping[str, Mapping[str, Any]]
    offered_at: int
    checkpoint: Mapping[str, Any] | None = None
    index: int | None = None
    result: Mapping[str, Any] | None = None
    redrive: Mapping[str, str | None] | None = None
    heartbeat_timeout_ms: int | None = None

    @staticmethod
    def parse(value: bytes | None) -> "Offer | None":
        """Return the offer, or None for bytes that are none."""
        try:
            return msgspec.json.decode(value or b"", type=Offer)
        except msgspec.DecodeError:
            return None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. ``output`` is None when it failed, and then ``error`` says why.

    ``handed_back``: it was ended because its runner is stopping.
    """

    output: Mapping[str, Any] | None = None
    error: str = ""
    retryable: bool = True
    tail: str = ""
    handed_back: bool = False
