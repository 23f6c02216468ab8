"""A runner: claims offered steps, carries them out, and reports, within bounds."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.runners.claims import Claim, ClaimWriter, OfferConsumer
from connectors.runners.execution import Execution, for_programs
from connectors.runners.lease import Lease
from connectors.runners.logs import RunLog
from connectors.runners.settings import RunnerSettings
from connectors.runners.spares import Spares
from connectors.sdk.commands import CommandClient
from schemas.codec import Codec
from schemas.topics import Topics

_log = logging.getLogger(__name__)
_CLAIM_TIMEOUT_S = 60.0
_EXPECT_TIMEOUT_S = 10.0
_LAST_WORDS_S = 8.0


@dataclass(slots=True)
class _Running:
    execution: Execution
    since_ms: int


class Runner:
    """Runs at most ``concurrency`` attempts at a time, each under a lease.

    ``start`` and ``stop`` are called on one event loop, where everything but polling Kafka happens. If this process
    is killed, every program it started dies with it, and the leases run out.
    """

    def __init__(self, settings: RunnerSettings, codec: Codec) -> None:
        self.counts = {"stale_results": 0, "lost_leases": 0}
        self._settings = settings
        topics = Topics(settings.prefix)
        client_id = f"{settings.cluster}-{settings.node}-runner"
        self._client = CommandClient(settings.kafka, codec, topics, settings.shards, ("run",), client_id)
        self._log = RunLog(settings.kafka, topics, settings.shards, client_id)
        writer = ClaimWriter(settings, codec)
        self._offers = OfferConsumer(
            settings, writer, self._take, self._give_back, self._expect, self._written
        )
        self._spares = Spares(for_programs(settings.environ), settings.kill_grace_s)
        self._lock = threading.Lock()
        self._free = settings.concurrency
        self._tasks: set[asyncio.Task[None]] = set()
        self._claimed: dict[str, asyncio.Future[bool]] = {}
        self._running: dict[str, _Running] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._give_up_at: float | None = None

    @property
    def running(self) -> list[dict[str, Any]]:
        """The attempts of this moment."""
        return [
            {
                "run": held.execution.offer.run,
                "pipeline": held.execution.offer.pipeline,
                "step": held.execution.offer.step,
                "attempt": held.execution.offer.attempt,
                "kind": held.execution.offer.kind,
                "since": held.since_ms,
                "records_in": held.execution.progress.records_in,
                "records_out": held.execution.progress.records_out,
                "bytes": held.execution.progress.bytes,
                "percent": held.execution.progress.percent,
                "progress": held.execution.progress.text or None,
            }
            for held in self._running.values()
        ]

    @property
    def problem(self) -> str | None:
        """What keeps this runner from claiming steps, or None."""
        return self._client.problem or self._offers.problem

    async def start(self) -> None:
        """Follow outcomes, then join the group of the runners. Raise Unavailable when Kafka does not answer."""
        self._loop = asyncio.get_running_loop()
        await self._client.start()
        self._log.start()
        self._spares.prepare()
        self._offers.start()

    async def stop(self, grace_s: float) -> None:
        """Claim no more, let attempts finish for ``grace_s``, then end the rest and hand their steps back."""
        await asyncio.to_thread(self._offers.stop)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        self._give_up_at = time.monotonic() + _LAST_WORDS_S
        reason = f"the node {self._settings.node} is stopping"
        await asyncio.gather(*(held.execution.hand_back(reason) for held in list(self._running.values())))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._spares.stop()
        await self._client.stop()
        await asyncio.to_thread(self._log.stop)

    # ------------------------------------------------------------ called on the consumer's thread
    def _take(self, wanted: int) -> int:
        with self._lock:
            granted = min(wanted, self._free)
            self._free -= granted
            return granted

    def _give_back(self, slots: int) -> None:
        with self._lock:
            self._free += slots

    def _expect(self, claims: Sequence[Claim]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._begin(claims), self._loop).result(_EXPECT_TIMEOUT_S)

    def _written(self, claims: Sequence[Claim], ok: bool) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._tell_written, tuple(claim.command_id for claim in claims), ok)

    # ------------------------------------------------------------ on the event loop
    async def _begin(self, claims: Sequence[Claim]) -> None:
        """Start one task for each claim; all of them wait for their outcomes when this returns."""
        for claim in claims:
            ready = asyncio.Event()
            self._claimed[claim.command_id] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(
                self._handle(claim, ready), name=f"{claim.offer.run}/{claim.offer.step}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._done)
            await ready.wait()

    def _tell_written(self, command_ids: Sequence[str], ok: bool) -> None:
        for command_id in command_ids:
            claimed = self._claimed.get(command_id)
            if claimed is not None and not claimed.done():
                claimed.set_result(ok)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._give_back(1)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the attempt %s ended in an error of the runner", task.get_name(), exc_info=error)

    async def _handle(self, claim: Claim, ready: asyncio.Event) -> None:
        offer = claim.offer
        try:
            with self._client.expecting("run", offer.run, claim.command_id, offer.tenant) as expected:
                ready.set()
                if not await self._claimed[claim.command_id]:
                    return
                try:
                    outcome = await asyncio.wait_for(expected, _CLAIM_TIMEOUT_S)
                except TimeoutError:
                    _log.warning("no outcome for the claim of %s %s: dropped", offer.run, offer.step)
                    return
        finally:
            self._claimed.pop(claim.command_id, None)
        if outcome["status"] == "accepted":
            await self._work(claim)

    async def _work(self, claim: Claim) -> None:
        execution = Execution(claim.offer, claim.token, self._settings, self._log, self._spares)
        lease = Lease(self._client, execution)
        self._running[claim.token] = _Running(execution, int(time.time() * 1000))
        working = asyncio.create_task(execution.run())
        beating = asyncio.create_task(lease.beat())
        try:
            await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                reason = beating.result()
                _log.info(
                    "attempt %d of %s %s is over: %s",
                    claim.offer.attempt,
                    claim.offer.run,
                    claim.offer.step,
                    reason,
                )
                self.counts["lost_leases"] += 1
                execution.stale(reason)
                await execution.kill(reason)
                await working
                return
            beating.cancel()
            if (late := await lease.settle(working.result(), self._should_give_up)) is not None:
                self.counts["stale_results"] += 1
                execution.stale(late)
        finally:
            beating.cancel()
            if not working.done():
                await asyncio.shield(execution.kill("the runner is ending"))
            del self._running[claim.token]

    def _should_give_up(self) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at
