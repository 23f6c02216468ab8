"""The hot path: commands in, records of one transaction out. Nothing here touches what is already committed.

For each command in order: decode, look its id up, decide on the overlay, encode. A command is staged whole or, when
anything about it raises, not at all: then it is quarantined and its neighbours go on.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import topics as names
from schemas.chain import START
from schemas.outcome import ACCEPTED, Answer
from schemas.partitioning import partition_of
from streams.domain.aggregate import (
    Aggregate,
    Decision,
    Effect,
    Message,
    Rejected,
    Send,
    no_effects,
    no_reply,
)
from streams.failures import Poison, fingerprint
from streams.shards.identity import derived, uuid_bytes
from streams.shards.record import Record
from streams.shards.saved import Remembered, Saved, Written
from streams.shards.shard import Entry, Slice
from streams.shards.trail import Vouched
from streams.writer.command import Command, of_timer
from streams.writer.decoding import Decoder
from streams.writer.encoding import Cause, EffectEncoder, Encoder, Produced
from streams.writer.quarantine import Quarantine

_log = logging.getLogger(__name__)
Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]


class _Unread(Exception):
    """Chunks of old answers (their numbers) have to be read back before a command can be decided."""


@dataclass(slots=True)
class Staged:
    """What one slice adds in a transaction: an overlay over its states, dropped whole if the transaction aborts.

    ``under`` is the overlay of the transaction before, while that one is being committed. ``chains`` and ``answers`` are
    what the next checkpoints vouch for: of events and outcomes, in order. ``written`` is what the transaction adds to the
    snapshots, ``vouched`` its checkpoint over everything before it. ``missing`` are the chunks of old answers that must be read back before the next
    command can be decided.
    """

    slice: Slice
    next: int
    sequence: int
    position: int
    under: "Staged | None" = None
    states: dict[bytes, Entry] = field(default_factory=dict)
    index: dict[bytes, Remembered] = field(default_factory=dict)
    out: list[Produced] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    commands: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    quarantined: int = 0
    forwarded: int = 0
    timers: int = 0
    written: Written | None = None
    vouched: Vouched | None = None
    missing: tuple[int, ...] = ()

    @classmethod
    def on(cls, piece: Slice, under: "Staged | None") -> "Staged":
        """Return an empty overlay on a slice, or on what is being committed of it."""
        base = under or piece
        return cls(piece, base.next, base.sequence, base.position, under)

    def entry(self, key: bytes) -> Entry | None:
        """Return the newest state of an aggregate, decided or committed."""
        found = self.states.get(key)
        if found is None and self.under is not None:
            found = self.under.states.get(key)
        return self.slice.states.get(key) if found is None else found

    def remembered(self, key: bytes) -> Remembered | None:
        """Return the answer that a command id already has."""
        found = self.index.get(key)
        if found is None and self.under is not None:
            found = self.under.index.get(key)
        return self.slice.index.get(key) if found is None else found


class Decider:
    """Decides for one aggregate, on any of its slices. Single-threaded; never blocks."""

    def __init__(
        self,
        aggregate: Aggregate,
        decoder: Decoder,
        encoder: Encoder,
        effects: EffectEncoder,
        quarantine: Quarantine,
        reactors: Mapping[type, Reactor],
        shards: int,
        index_entries_max: int,
    ) -> None:
        self._aggregate = aggregate
        self._decoder = decoder
        self._encoder = encoder
        self._effects = effects
        self._quarantine = quarantine
        self._reactors = {kind: react for kind, react in reactors.items() if kind in aggregate.events}
        self._effectless = aggregate.effects is no_effects and not self._reactors
        self._reply = None if aggregate.reply is no_reply else aggregate.reply
        self._shards = shards
        self._index_entries_max = index_entries_max

    def stage(self, staged: Staged, records: list[Record], condemned: frozenset[int] = frozenset()) -> int:
        """Decide ``records`` in order. Offsets in ``condemned`` broke a transaction alone: they fail undecided.

        Returns how many were decided: fewer than all, if the next one needs answers that are to be read back first
        (``staged.missing``).
        """
        for number, record in enumerate(records):
            offset = record.offset()
            try:
                self._command(staged, record, offset, offset in condemned)
            except _Unread as unread:
                staged.missing = unread.args
                staged.commands += number
                return number
            except Poison as poison:
                staged.quarantined += 1
                staged.out.append(self._quarantine.entry(record, poison.cause, poison.detail, ""))
            staged.next = offset + 1
        staged.commands += len(records)
        return len(records)

    def _command(self, staged: Staged, record: Record, offset: int, condemned: bool) -> None:
        key = record.key() or b""
        entry = staged.entry(key)
        if entry is None and key and partition_of(key, self._shards) != staged.slice.shard:
            self._forward(staged, record, key)
            return
        command = self._decoder.decode(record)
        index_key = key + command.command_id
        remembered = staged.remembered(index_key)
        cause = self._encoder.cause(command, key, offset)
        if remembered is None and cause.command_uuid in staged.slice.saved.older:
            remembered = _read_back(staged.slice.saved, index_key, cause.command_uuid)
        if remembered is not None:
            self._again(staged, command, cause, remembered, offset)
            return
        if entry is None:
            entry = Entry(0, self._aggregate.initial, START)
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
            _log.exception("%s %s failed", command.kind, command.message.command_id)
            staged.quarantined += 1
            detail = f"{type(error).__name__}: {error}"
            staged.out.append(self._quarantine.entry(record, "handler_error", detail, fingerprint(error)))
            self._outcome(staged, command, cause, Answer("failed", "handler_error", detail), index_key)

    def _decide(self, staged: Staged, command: Command, entry: Entry) -> Decision:
        expected = command.expected_version
        if expected is not None and expected != entry.version:
            return Rejected("version_conflict", f"expected version {expected}, but it is {entry.version}")
        piece = staged.slice
        if len(piece.index) + len(piece.saved.older) + len(staged.index) >= self._index_entries_max:
            return Rejected("overloaded", "the index of command ids is full; try again later")
        return self._aggregate.decide(command.message, entry.state)

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
        aggregate = self._aggregate
        # The outcome takes its sequence before its events: the position it names is then the last one of both.
        own = staged.sequence + 1
        out: list[Produced] = []
        chains: list[bytes] = []
        if events:
            after, chains = self._apply(staged, out, command, key, entry, events, cause, own)
            first, last = entry.version + 1, after.version
        else:
            first = last = 0
            touched = aggregate.touch(command.message, entry.state)
            after = entry if touched is entry.state else Entry(entry.version, touched, entry.chain)
        body = command.message.body
        reply = None if self._reply is None else self._reply(body, after.state)
        stored = not (aggregate.unindexed and isinstance(body, aggregate.unindexed))
        answer = ACCEPTED if stored and reply is None else Answer("accepted", None, None, reply, stored)
        # Nothing can fail any more: the command is staged whole.
        staged.sequence = own + len(events)
        if events:
            staged.position = staged.sequence
            staged.events += len(events)
            staged.out += out
            staged.chains += chains
        if after is not entry:
            staged.states[key] = after
        self._outcome(staged, command, cause, answer, index_key, (first, last), own)

    def tick(self, staged: Staged, key: bytes, due: int, now_ms: int) -> None:
        """Let an aggregate's timer fire. It leaves events, but no outcome: nobody asked."""
        aggregate = self._aggregate
        entry = staged.entry(key)
        assert aggregate.tick is not None, "only slices with a tick have timers"
        assert entry is not None, "a timer is a state's"
        tenant, _, aggregate_id = key.decode().partition("/")
        namespace = uuid_bytes(f"{aggregate.name}/{key.decode()}")
        command_id = derived(namespace, f"{entry.version}/{due}")
        message = Message(
            aggregate.tick(due=due), tenant, aggregate_id, command_id, now_ms, "timer", command_id
        )
        out: list[Produced] = []
        try:
            events = aggregate.decide(message, entry.state)
            if isinstance(events, Rejected) or not events:
                _log.warning("timer of %s/%s at %d changed nothing", aggregate.name, aggregate_id, due)
                return
            command = of_timer(message)
            cause = self._encoder.cause(command, key, -1)
            entry, chains = self._apply(staged, out, command, key, entry, events, cause, staged.sequence)
        except Exception:  # noqa: BLE001  # a rule of somebody's own
            # The timer is not retried before the aggregate's next event: an endless loop would stop the shard.
            _log.exception("timer of %s/%s at %d failed", aggregate.name, aggregate_id, due)
            return
        staged.out += out
        staged.chains += chains
        staged.events += len(events)
        staged.sequence = staged.position = staged.sequence + len(events)
        staged.states[key] = entry
        staged.timers += 1

    def _apply(
        self,
        staged: Staged,
        out: list[Produced],
        command: Command,
        key: bytes,
        entry: Entry,
        events: tuple[Any, ...],
        cause: Cause,
        sequence: int,
    ) -> tuple[Entry, list[bytes]]:
        """Append the records of ``events`` and of their effects to ``out``; return what they make of ``entry``, and their
        chains.
        """
        evolve, encode, shard = self._aggregate.evolve, self._encoder.event, staged.slice.shard
        version, state, chain = entry.version, entry.state, entry.chain
        chains = []
        for index, event in enumerate(events):
            version += 1
            sequence += 1
            state = evolve(state, event)
            event_id, chain, produced = encode(event, key, shard, (version, sequence, index), cause, chain)
            out.append(produced)
            chains.append(chain)
            if not self._effectless:
                self._follow(out, command, event, state, event_id)
        return Entry(version, state, chain), chains

    def _follow(self, out: list[Produced], command: Command, event: Any, state: Any, event_id: str) -> None:
        tenant, aggregate_id = command.message.tenant, command.message.aggregate_id
        effects: tuple[Effect, ...] = self._aggregate.effects(tenant, aggregate_id, event, state)
        if (react := self._reactors.get(type(event))) is not None:
            effects = (*effects, *react(tenant, aggregate_id, event, state))
        for number, effect in enumerate(effects):
            if isinstance(effect, Send):
                out.append(self._effects.command(effect, command, event_id, number))
            else:
                out.append(self._effects.offer(effect, command, event_id))

    def _refuse(
        self, staged: Staged, command: Command, cause: Cause, refusal: Rejected, index_key: bytes
    ) -> None:
        staged.rejected += 1
        # What is refused for being early or too many may be tried again under the same id.
        stored = refusal.reason != "overloaded" and not isinstance(
            command.message.body, self._aggregate.unindexed
        )
        answer = Answer("rejected", refusal.reason, refusal.detail, None, stored)
        self._outcome(staged, command, cause, answer, index_key)

    def _again(
        self, staged: Staged, command: Command, cause: Cause, remembered: Remembered, offset: int
    ) -> None:
        staged.duplicates += 1
        if remembered.body_hash == command.body_hash:
            staged.out.append(self._encoder.again(command, remembered.outcome, staged.slice.shard, offset))
            return
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
            staged.sequence = sequence = staged.sequence + 1
        numbers = (*versions, staged.slice.shard, sequence, staged.position)
        produced = self._encoder.outcome(cause, command, numbers, answer)
        staged.out.append(produced)
        staged.answers.append(produced[1])
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


def _read_back(saved: Saved, index_key: bytes, command_uuid: bytes) -> Remembered | None:
    """Return the answer of a command whose id was used long ago, for whatever aggregate."""
    if missing := saved.missing(command_uuid):
        raise _Unread(*missing)
    return saved.answer(index_key, command_uuid)
