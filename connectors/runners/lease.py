"""Holding the lease of an attempt: heartbeats while it works, and its result until somebody has taken it."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from connectors.runners.execution import Execution
from connectors.runners.offer import Ended
from connectors.sdk.commands import CommandClient
from connectors.sdk.errors import Unavailable

_log = logging.getLogger(__name__)
_CUT_OFF_LEASES = 5
_AGAIN_S = 1.0
_RESULT_TIMEOUT_S = 5.0
_OUTPUT_CHARS_MAX = 900_000
_IGNORED = frozenset({"overloaded", "misrouted_twice"})


class Lease:
    """Speaks for one attempt to its run, under the attempt's token."""

    def __init__(self, client: CommandClient, execution: Execution) -> None:
        self._client = client
        self._execution = execution
        offer = execution.offer
        self._offer = offer
        self._attempt: dict[str, Any] = {
            "step": offer.step,
            "attempt": offer.attempt,
            "token": execution.token,
        }
        self._kept: str | None = None

    async def beat(self) -> str:
        """Send heartbeats; return why the lease is lost, when it is.

        It is lost when the run says so, or when Kafka could not be reached for five leases: then another runner has
        the step, or may get it at any moment.
        """
        every_s, lease_s = self._offer.heartbeat_ms / 1000, self._offer.lease_ms / 1000
        reached = time.monotonic()
        while True:
            began = time.monotonic()
            body = self._progress()
            try:
                outcome = await self._ask("Heartbeat", body, every_s)
                reached = time.monotonic()
                if (
                    outcome is not None
                    and outcome["status"] == "rejected"
                    and outcome["reason"] not in _IGNORED
                ):
                    return outcome["detail"] or str(outcome["reason"])
                if outcome is not None and outcome["status"] == "accepted":
                    self._kept = body["checkpoint"] or self._kept
            except Unavailable as error:
                _log.warning("heartbeat of %s %s: %s", self._offer.run, self._offer.step, error)
                if time.monotonic() - reached > _CUT_OFF_LEASES * lease_s:
                    return f"Kafka could not be reached for {_CUT_OFF_LEASES * lease_s:.0f} s"
            await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))

    async def settle(self, ended: Ended, give_up: Callable[[], bool]) -> str | None:
        """Tell the run how the attempt ended, again and again until the outcome is seen or ``give_up`` says so.

        Return why the run does not take it, which is when it comes too late; None if it does.
        """
        if ended.handed_back:
            await self._hand_back(self._failure(ended.error, ended.retryable, ended.tail))
            return None
        if ended.output is None:
            if (last := self._progress())["checkpoint"] is not None:
                await self._tell("Heartbeat", last, give_up)
            failure = self._failure(ended.error, ended.retryable, ended.tail)
            return await self._tell("FailStep", failure, give_up)
        output = orjson.dumps(ended.output).decode()
        if len(output) > _OUTPUT_CHARS_MAX:
            told = f"the step's output object has {len(output)} characters, more than {_OUTPUT_CHARS_MAX}"
            return await self._tell("FailStep", self._failure(told, False, ended.tail), give_up)
        progress = self._execution.progress
        body = {
            **self._attempt,
            "output": output,
            "records_in": progress.records_in,
            "records_out": progress.records_out,
            "records_rejected": progress.records_rejected,
            "bytes": progress.bytes,
        }
        return await self._tell("CompleteStep", body, give_up)

    def _progress(self) -> dict[str, Any]:
        """Return a heartbeat: how far the attempt is, and its checkpoint, if the run does not have it yet."""
        self._execution.look()
        progress = self._execution.progress
        return {
            **self._attempt,
            "records_in": progress.records_in,
            "records_out": progress.records_out,
            "records_rejected": progress.records_rejected,
            "bytes": progress.bytes,
            "percent": progress.percent,
            "text": progress.text,
            "checkpoint": None if progress.checkpoint == self._kept else progress.checkpoint,
        }

    def _failure(self, error: str, retryable: bool, tail: str) -> dict[str, Any]:
        said = {"error": error, "retryable": retryable, "tail": tail, "handed_back": False}
        return {**self._attempt, **said}

    async def _hand_back(self, failure: dict[str, Any]) -> None:
        """Give the lease up, and wait for no answer: the run's owner may be stopping too, in this very process.

        What gets lost is made good by the lease, which runs out.
        """
        last_words = {"Heartbeat": self._progress(), "FailStep": {**failure, "handed_back": True}}
        try:
            for command_type, body in last_words.items():
                await self._client.send(
                    "run", self._offer.run, command_type, body, tenant=self._offer.tenant, actor="runner",
                    correlation_id=self._offer.run,
                )  # fmt: skip
        except Unavailable as error:
            _log.warning("%s %s is not handed back: %s", self._offer.run, self._offer.step, error)

    async def _tell(self, command_type: str, body: dict[str, Any], give_up: Callable[[], bool]) -> str | None:
        command_id = str(uuid.uuid4())
        while True:
            try:
                outcome = await self._ask(command_type, body, _RESULT_TIMEOUT_S, command_id)
            except Unavailable as error:
                _log.warning("%s of %s %s: %s", command_type, self._offer.run, self._offer.step, error)
                outcome = None
            if outcome is not None and outcome["reason"] not in _IGNORED:
                return (
                    None if outcome["status"] == "accepted" else outcome["detail"] or str(outcome["reason"])
                )
            if give_up():
                return None
            await asyncio.sleep(_AGAIN_S)

    async def _ask(
        self, command_type: str, body: dict[str, Any], timeout_s: float, command_id: str | None = None
    ) -> dict[str, Any] | None:
        return await self._client.ask(
            "run",
            self._offer.run,
            command_type,
            body,
            tenant=self._offer.tenant,
            command_id=command_id,
            actor="runner",
            correlation_id=self._offer.run,
            timeout_s=timeout_s,
        )
