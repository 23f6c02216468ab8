"""The hot path: commands in, records of one transaction out. Nothing here touches what is already committed.

For each command in order: decode, look its id up, decide on the overlay, encode. A command is staged whole or, when
anything about it raises, not at all: then it is quarantined and its neighbours go on.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import topics as names
from schemas.outcome import Answer
from schemas.partitioning import partition_of
from streams.domain.aggregate import Decision, Effect, Message, Rejected, Send
from streams.failures import Poison, fingerprint
from streams.shards.record import Record
from streams.shards.shard import Entry, Remembered, Slice
from streams.writer.decoding import Command, Decoder
from streams.writer.encoding import Cause, EffectEncoder, Encoder, Produced
from streams.writer.identity import derived, uuid_bytes
from streams.writer.quarantine import Quarantine

_log = logging.getLogger(__name__)
Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]


@dataclass(slots=True)
class Staged:
    """What one slice adds in a transaction: an overlay over its states, dropped whole if the transaction aborts."""

    slice: Slice
    next: int
    sequence: int
    position: int
    records: list[Record] = field(default_factory=list)
    states: dict[bytes, Entry] = field(default_factory=dict)
    index: dict[bytes, Remembered] = field(default_factory=dict)
    out: list[Produced] = field(default_factory=list)
    commands: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    quarantined: int = 0
    forwarded: int = 0
    timers: int = 0


class Decider:
    """Decides for one aggregate, on any of its slices. Single-threaded; never blocks."""

    def __init__(
        self,
        decoder: Decoder,
        encoder: Encoder,
        effects: EffectEncoder,
        quarantine: Quarantine,
        reactors: Mapping[type, Reactor],
        shards: int,
        index_entries_max: int,
    ) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._effects = effects
        self._quarantine = quarantine
        self._reactors = reactors
        self._shards = shards
        self._index_entries_max = index_entries_max

    def stage(self, piece: Slice, records: list[Record], condemned: frozenset[int]) -> Staged:
        """Decide ``records`` in order. Offsets in ``condemned`` broke a transaction alone: they fail undecided."""
        staged = Staged(piece, piece.next, piece.sequence, piece.position, records)
        for record in records:
            staged.commands += 1
            staged.next = record.offset() + 1
            try:
                self._command(staged, record, record.offset() in condemned)
            except Poison as poison:
                staged.quarantined += 1
                staged.out.append(self._quarantine.entry(record, poison.cause, poison.detail, ""))
        return staged

    def tick(self, staged: Staged, key: bytes, due: int, now_ms: int) -> None:
        """Let an aggregate's timer fire. It leaves events, but no outcome: nobody asked."""
        aggregate = staged.slice.aggregate
        entry = staged.states.get(key) or staged.slice.states[key]
        tenant, _, aggregate_id = key.decode().partition("/")
        namespace = uuid_bytes(f"{aggregate.name}/{key.decode()}")
        command_id = derived(namespace, f"{entry.version}/{due}")
        assert aggregate.tick is not None, "only slices with a tick have timers"
        message = Message(
            aggregate.tick(due=due), tenant, aggregate_id, command_id, now_ms, "timer", command_id
        )
        try:
            decision = aggregate.decide(message, entry.state)
            if isinstance(decision, Rejected) or not decision:
                _log.warning("timer of %s/%s at %d changed nothing", aggregate.name, aggregate_id, due)
                return
            self._apply(staged, message, key, entry, decision, self._encoder.cause(message, "", -1))
            staged.timers += 1
        except Exception:  # noqa: BLE001  # a rule of somebody's own
            # The timer is not retried before the aggregate's next event: an endless loop would stop the shard.
            _log.exception("timer of %s/%s at %d failed", aggregate.name, aggregate_id, due)

    def _command(self, staged: Staged, record: Record, condemned: bool) -> None:
        piece = staged.slice
        key: bytes = record.key() or b""
        entry = staged.states.get(key) or piece.states.get(key)
        if entry is None and key and partition_of(key, self._shards) != piece.shard:
            self._forward(staged, record, key)
            return
        command = self._decoder.decode(record)
        message = command.message
        index_key = key + message.command_id.encode()
        remembered = staged.index.get(index_key) or piece.index.get(index_key)
        if remembered is not None:
            self._again(staged, command, remembered, record)
            return
        if entry is None:
            entry = Entry(0, piece.aggregate.initial)
        cause = self._encoder.cause(message, command.causation_id, record.offset(), command.traceparent)
        try:
            if condemned:
                raise ValueError("this command alone makes its transaction fail: what it writes is too large")
            decision = self._decide(staged, command, entry)
            if isinstance(decision, Rejected):
                self._refuse(staged, command, cause, decision, index_key)
            else:
                self._accept(staged, command, cause, key, entry, decision, index_key)
        except Exception as error:  # noqa: BLE001  # a rule of somebody's own
            # A bug in a rule must not stop the shard: the command fails, and can be redriven after the fix.
            _log.exception("%s %s failed", command.kind, message.command_id)
            staged.quarantined += 1
            detail = f"{type(error).__name__}: {error}"
            staged.out.append(self._quarantine.entry(record, "handler_error", detail, fingerprint(error)))
            self._outcome(staged, command, cause, Answer("failed", "handler_error", detail), index_key)

    def _decide(self, staged: Staged, command: Command, entry: Entry) -> Decision:
        expected = command.expected_version
        if expected is not None and expected != entry.version:
            return Rejected("version_conflict", f"expected version {expected}, but it is {entry.version}")
        piece = staged.slice
        if len(piece.index) + len(staged.index) >= self._index_entries_max:
            return Rejected("overloaded", "the index of command ids is full; try again later")
        return piece.aggregate.decide(command.message, entry.state)

    def _accept(
        self,
        staged: Staged,
        command: Command,
        cause: Cause,
        key: bytes,
        entry: Entry,
        events: tuple[Any, ...],
        index_key: bytes,
    ) -> None:
        aggregate = staged.slice.aggregate
        first = entry.version + 1 if events else 0
        # The outcome takes its sequence before its events: the position it names is then the last one of both.
        own = staged.sequence + 1
        before = (own - 1, staged.position, staged.events, len(staged.out), staged.states.get(key))
        staged.sequence = own
        try:
            if events:
                entry = self._apply(staged, command.message, key, entry, events, cause)
            else:
                touched = aggregate.touch(command.message, entry.state)
                if touched is not entry.state:
                    entry = Entry(entry.version, touched)
                    staged.states[key] = entry
            reply = aggregate.reply(command.message.body, entry.state)
        except Exception:
            staged.sequence, staged.position, staged.events, length, previous = before
            del staged.out[length:]
            if previous is None:
                staged.states.pop(key, None)
            else:
                staged.states[key] = previous
            raise
        stored = not isinstance(command.message.body, aggregate.unindexed)
        versions = (first, entry.version if events else 0)
        self._outcome(
            staged, command, cause, Answer("accepted", None, None, reply, stored), index_key, versions, own
        )

    def _apply(
        self,
        staged: Staged,
        message: Message,
        key: bytes,
        entry: Entry,
        events: tuple[Any, ...],
        cause: Cause,
    ) -> Entry:
        aggregate, encoder = staged.slice.aggregate, self._encoder
        out: list[Produced] = []
        version, sequence, state = entry.version, staged.sequence, entry.state
        for index, event in enumerate(events):
            version += 1
            sequence += 1
            state = aggregate.evolve(state, event)
            event_id, produced = encoder.event(
                event, key, staged.slice.shard, version, sequence, index, cause
            )
            out.append(produced)
            effects: tuple[Effect, ...] = aggregate.effects(
                message.tenant, message.aggregate_id, event, state
            )
            if (react := self._reactors.get(type(event))) is not None:
                effects = (*effects, *react(message.tenant, message.aggregate_id, event, state))
            for number, effect in enumerate(effects):
                if isinstance(effect, Send):
                    out.append(self._effects.command(effect, message, event_id, number, cause.traceparent))
                else:
                    out.append(self._effects.offer(effect, message, event_id))
        staged.out += out
        staged.events += len(events)
        staged.sequence = staged.position = sequence
        entry = Entry(version, state)
        staged.states[key] = entry
        return entry

    def _refuse(
        self, staged: Staged, command: Command, cause: Cause, refusal: Rejected, index_key: bytes
    ) -> None:
        staged.rejected += 1
        aggregate = staged.slice.aggregate
        # What is refused for being early or too many may be tried again under the same id.
        stored = refusal.reason != "overloaded" and not isinstance(command.message.body, aggregate.unindexed)
        answer = Answer("rejected", refusal.reason, refusal.detail, None, stored)
        self._outcome(staged, command, cause, answer, index_key)

    def _again(self, staged: Staged, command: Command, remembered: Remembered, record: Record) -> None:
        staged.duplicates += 1
        message = command.message
        if remembered.body_hash == command.body_hash:
            offset = b"%d" % record.offset()
            staged.out.append(
                self._encoder.answer(
                    message.command_id.encode(), remembered.outcome, staged.slice.shard, offset, replayed=True
                )
            )
            return
        cause = self._encoder.cause(message, command.causation_id, record.offset(), command.traceparent)
        detail = "this command id was used before with another body; use a new id for a new command"
        self._outcome(staged, command, cause, Answer("rejected", "body_mismatch", detail, None, False), b"")

    def _outcome(
        self,
        staged: Staged,
        command: Command,
        cause: Cause,
        answer: Answer,
        index_key: bytes,
        versions: tuple[int, int] = (0, 0),
        sequence: int | None = None,
    ) -> None:
        if sequence is None:
            staged.sequence += 1
            sequence = staged.sequence
        numbers = (*versions, staged.slice.shard, sequence, staged.position)
        produced = self._encoder.outcome(cause, command, numbers, answer)
        staged.out.append(produced)
        if answer.stored:
            staged.index[index_key] = Remembered(command.body_hash, produced[1])

    def _forward(self, staged: Staged, record: Record, key: bytes) -> None:
        """Send a command on to the partition of its key, once, with all it carries."""
        headers: list[tuple[str, bytes]] = [(name, raw or b"") for name, raw in record.headers() or ()]
        carried = {name for name, _ in headers}
        if "forwarded" in carried:
            raise Poison(
                "misrouted", f"forwarded to partition {record.partition()}, where its key does not belong"
            )
        if names.COMMAND_ID not in carried:
            text = f"{record.topic()}/{record.partition()}/{record.offset()}"
            headers.append((names.COMMAND_ID, derived(uuid_bytes("flexcore"), text).encode()))
        headers.append(("forwarded", b"1"))
        staged.forwarded += 1
        partition = partition_of(key, self._shards)
        staged.out.append((record.topic(), record.value() or b"", key, partition, headers))
