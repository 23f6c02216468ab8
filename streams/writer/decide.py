"""The hot path: commands in, records of one transaction out. Nothing here touches what is already committed.

A hundred commands go through three passes: read all, decide all in their order, write all. The processor meets one kind
of work at a time, which makes the whole a third faster than taking one command after the other through everything.

A command is staged whole or, when anything about it raises, not at all: then it is quarantined and its neighbours go on.
"""

import logging
from collections.abc import Callable, Mapping
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
from streams.domain.redaction import RedactEvent
from streams.failures import Poison, fingerprint
from streams.protocol.record import Record
from streams.protocol.record_batch import headers_of
from streams.shards.entry import Entry
from streams.shards.identity import derived, uuid_bytes
from streams.shards.saved import Remembered
from streams.writer.command import Command, of_timer
from streams.writer.decoding import Decoder
from streams.writer.draft import Draft
from streams.writer.encoding import Cause, EffectEncoder, Encoder
from streams.writer.parking import Parking
from streams.writer.quarantine import Quarantine
from streams.writer.redaction import Redaction, Redactor
from streams.writer.staged import Staged

_log = logging.getLogger(__name__)
Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]

# What was read: the record, its key, and the command with its cause; or why there is none; or nothing: forward it.
_Read = tuple[Record, bytes, Command | None, Cause | None, Poison | None]


class _Unwritable(Exception):
    """One of the decided commands cannot be encoded, because of ``cause``."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Decider:
    """Decides for one aggregate, on any of its slices. Single-threaded; never blocks."""

    def __init__(
        self,
        aggregate: Aggregate,
        decoder: Decoder,
        encoder: Encoder,
        effects: EffectEncoder,
        quarantine: Quarantine,
        redactor: Redactor,
        reactors: Mapping[type, Reactor],
        command_ids_max: int,
    ) -> None:
        self._aggregate = aggregate
        self._decoder = decoder
        self._encoder = encoder
        self._effects = effects
        self._redactor = redactor
        self._parking = Parking(quarantine, parks=aggregate.parks)
        self._reactors = {kind: react for kind, react in reactors.items() if kind in aggregate.events}
        self._effectless = aggregate.effects is no_effects and not self._reactors
        self._reply = None if aggregate.reply is no_reply else aggregate.reply
        self._shards = effects.shards
        self._command_ids_max = command_ids_max

    def stage(self, staged: Staged, records: list[Record], condemned: frozenset[int] = frozenset()) -> int:
        """Decide ``records`` in order, a hundred or so. Offsets in ``condemned`` broke a transaction alone: they fail undecided.

        Returns how many were decided: fewer than all, if the next one needs what is to be read back first
        (``staged.missing``, ``staged.unread``), or if those that waited behind a parked one come first (``staged.releasing``).
        """
        read = self._read(staged, records)
        try:
            return self._together(staged, read, condemned)
        except _Unwritable:
            return self._one_by_one(staged, read, condemned)

    def tick(self, staged: Staged, key: bytes, due: int, now_ms: int) -> None:
        """Let an aggregate's timer fire. It leaves events, but no outcome: nobody asked."""
        aggregate = self._aggregate
        entry = staged.entry(key)
        assert aggregate.tick is not None, "only slices with a tick have timers"
        assert entry is not None, "a timer is a state's"
        tenant, _, aggregate_id = key.decode().partition("/")
        namespace = uuid_bytes(f"{aggregate.name}/{key.decode()}".encode())
        command_id = derived(namespace + b"%d/%d" % (entry.version, due)).decode()
        message = Message(
            aggregate.tick(due=due), tenant, aggregate_id, command_id, now_ms, "timer", command_id
        )
        draft = Draft(staged, self._command_ids_max)
        try:
            events = aggregate.decide(message, entry.state)
            if isinstance(events, Rejected) or not events:
                _log.warning("timer of %s/%s at %d changed nothing", aggregate.name, aggregate_id, due)
                return
            command = of_timer(message)
            cause = self._encoder.cause(command, key, -1)
            state, following = self._evolve(command, entry.state, events)
            after, before = _after(entry, state, events), draft.part.sequence
            draft.keep((command, cause, key, entry, after, events, following, before))
            draft.part.timers += 1
            draft.write(self._encoder, self._effects)
        except Exception:  # noqa: BLE001  # a rule of somebody's own
            # The timer is not retried before the aggregate's next event: an endless loop would stop the shard.
            _log.exception("timer of %s/%s at %d failed", aggregate.name, aggregate_id, due)
            return
        staged.absorb(draft.part)

    def _together(self, staged: Staged, read: list[_Read], condemned: frozenset[int]) -> int:
        """Decide and write; all of it, or nothing (:class:`_Unwritable`)."""
        draft = Draft(staged, self._command_ids_max)
        count = self._decide(staged, draft, read, condemned)
        try:
            draft.write(self._encoder, self._effects)
        except Exception as error:  # whatever an event of somebody's own makes the codec say
            raise _Unwritable(error) from error
        draft.part.commands = count
        staged.absorb(draft.part)
        return count

    def _one_by_one(self, staged: Staged, read: list[_Read], condemned: frozenset[int]) -> int:
        """Find the command that cannot be written: it fails, the others go on."""
        for number, one in enumerate(read):
            try:
                if not self._together(staged, [one], condemned):
                    return number
            except _Unwritable as error:
                self._alone(staged, one, error.cause)
            if staged.releasing:
                return number + 1
        return len(read)

    def _alone(self, staged: Staged, one: _Read, error: Exception) -> None:
        """Let a command fail that was decided and cannot be written."""
        record, key, command, cause, _ = one
        assert command is not None, "a record that is none can always be written"
        assert cause is not None, "the same"
        draft = Draft(staged, self._command_ids_max)
        self._failed(draft, record, key, command, cause, error)
        draft.write(self._encoder, self._effects)
        draft.part.next, draft.part.commands = record.offset + 1, 1
        staged.absorb(draft.part)

    # ---------------------------------------------------------------- 1. read
    def _read(self, staged: Staged, records: list[Record]) -> list[_Read]:
        decode, cause_of, known = self._decoder.decode, self._encoder.cause, staged.entry
        shards, shard = self._shards, staged.slice.shard
        read: list[_Read] = []
        for record in records:
            key = record.key or b""
            if key and known(key) is None and partition_of(key, shards) != shard:
                read.append((record, key, None, None, None))
                continue
            try:
                command = decode(record)
            except Poison as poison:
                read.append((record, key, None, None, poison))
                continue
            read.append((record, key, command, cause_of(command, key, record.offset), None))
        return read

    # ---------------------------------------------------------------- 2. decide
    def _decide(self, staged: Staged, draft: Draft, read: list[_Read], condemned: frozenset[int]) -> int:
        """Decide in order, on the draft's overlay; return how many."""
        part = draft.part
        saved = part.slice.saved
        old = saved.older.among([cause.command_uuid for _, _, _, cause, _ in read if cause is not None])
        for number, (record, key, command, cause, poison) in enumerate(read):
            if command is None or cause is None:
                self._set_aside(part, record, key, poison)
            else:
                index_key = key + command.command_id
                remembered = part.remembered(index_key)
                if remembered is None and cause.command_uuid in old:
                    if missing := saved.missing(cause.command_uuid):
                        staged.missing = missing
                        return number
                    remembered = saved.answer(index_key, cause.command_uuid)
                if remembered is not None:
                    self._repeat(draft, command, cause, remembered, record.offset)
                    if part.parked:
                        self._parking.repeated(part, record, key, command.command_id)
                elif part.parked and self._waits(draft, record, key, command, cause):
                    pass
                elif not self._rule(draft, record, key, command, cause, condemned):
                    staged.unread = key
                    return number
            part.next = record.offset + 1
            if part.parked and part.releasing:
                return number + 1
        return len(read)

    def _rule(
        self,
        draft: Draft,
        record: Record,
        key: bytes,
        command: Command,
        cause: Cause,
        condemned: frozenset[int],
    ) -> bool:
        """Ask the rules about one command; False: the aggregate's events are to be read back first."""
        part, index_key = draft.part, key + command.command_id
        try:
            if record.offset in condemned:
                raise ValueError("this command alone makes its transaction fail: what it writes is too large")
            entry = part.entry(key) or Entry(0, self._aggregate.initial, START)
            decision = self._judge(draft, command, key, entry)
            if decision is None:
                return False
            if isinstance(decision, Rejected):
                self._refuse(draft, command, cause, decision, index_key)
            elif isinstance(decision, Redaction):
                self._redact(draft, command, cause, key, entry, decision, index_key)
            else:
                self._accept(draft, command, cause, key, entry, decision, index_key)
        except Exception as error:  # noqa: BLE001  # a rule of somebody's own
            self._failed(draft, record, key, command, cause, error)
            return True
        if part.parked:
            self._parking.through(part, record, key, command.command_id)
        return True

    def _judge(self, draft: Draft, command: Command, key: bytes, entry: Entry) -> Decision | Redaction | None:
        """Return what the rules say; None: the aggregate's events are to be read back first."""
        expected, piece = command.expected_version, draft.part.slice
        if expected is not None and expected != entry.version:
            detail = f"expected version {expected}, but it is {entry.version}"
            return Rejected("version_conflict", detail)
        if len(draft.part.index) >= draft.room:
            detail = f"shard {piece.shard} remembers as many command ids as it may: their number falls as those of 7.5 days ago expire"
            return Rejected("overloaded", detail)
        if type(command.message.body) is not RedactEvent:
            return self._aggregate.decide(command.message, entry.state)
        whose, history = piece.history or (b"", {})
        # What is decided but not committed yet cannot be read back: it is asked for again until it can.
        if whose != key or len(history) < entry.version:
            return None
        return self._redactor.decide(command.message, entry.version, entry.state, history, piece.shard)

    def _redact(
        self,
        draft: Draft,
        command: Command,
        cause: Cause,
        key: bytes,
        entry: Entry,
        redaction: Redaction,
        index_key: bytes,
    ) -> None:
        own, versions = draft.part.sequence + 1, (0, 0)
        if redaction.event is not None and redaction.record is not None:
            versions = (entry.version + 1, entry.version + 1)
            draft.part.out.append(redaction.record)
            draft.part.redacted.append(key)
            after = _after(entry, redaction.state, (redaction.event,))
            draft.keep((command, cause, key, entry, after, (redaction.event,), [], own))
        draft.tell(command, cause, Answer("accepted", None, None, redaction.reply), index_key, versions, own)

    def _waits(self, draft: Draft, record: Record, key: bytes, command: Command, cause: Cause) -> bool:
        """Let a command wait in quarantine while its aggregate is parked; it is told so, as one that failed is."""
        detail = self._parking.waits(draft.part, record, key)
        if detail:
            index_key = key + command.command_id
            draft.tell(command, cause, Answer("failed", "parked", detail), index_key)
        return detail is not None

    def _accept(
        self,
        draft: Draft,
        command: Command,
        cause: Cause,
        key: bytes,
        entry: Entry,
        events: tuple[Any, ...],
        index_key: bytes,
    ) -> None:
        aggregate, body = self._aggregate, command.message.body
        # The outcome takes its sequence before its events: the position it names is then the last one of both.
        own = draft.part.sequence + 1
        state, following = self._evolve(command, entry.state, events)
        answer = ACCEPTED
        if self._reply is not None or aggregate.unindexed:
            reply = None if self._reply is None else self._reply(body, state)
            answer = Answer("accepted", None, None, reply, not isinstance(body, aggregate.unindexed))
        # No rule can fail any more.
        versions = (entry.version + 1, entry.version + len(events)) if events else (0, 0)
        if state is not entry.state or events:
            draft.keep((command, cause, key, entry, _after(entry, state, events), events, following, own))
        draft.tell(command, cause, answer, index_key, versions, own)

    def _evolve(
        self, command: Command, state: Any, events: tuple[Any, ...]
    ) -> tuple[Any, list[tuple[Effect, ...]]]:
        """Return the state after the events, and what follows from each of them."""
        aggregate = self._aggregate
        if not events:
            return aggregate.touch(command.message, state), []
        following: list[tuple[Effect, ...]] = []
        tenant, aggregate_id = command.message.tenant, command.message.aggregate_id
        for event in events:
            state = aggregate.evolve(state, event)
            if not self._effectless:
                effects: tuple[Effect, ...] = aggregate.effects(tenant, aggregate_id, event, state)
                if (react := self._reactors.get(type(event))) is not None:
                    effects = (*effects, *react(tenant, aggregate_id, event, state))
                following.append(effects)
        return state, following

    def _refuse(
        self, draft: Draft, command: Command, cause: Cause, refusal: Rejected, index_key: bytes
    ) -> None:
        draft.part.rejected += 1
        # What is refused for being early or too many may be tried again under the same id.
        stored = refusal.reason != "overloaded" and not isinstance(
            command.message.body, self._aggregate.unindexed
        )
        answer = Answer("rejected", refusal.reason, refusal.detail, None, stored)
        draft.tell(command, cause, answer, index_key)

    def _repeat(
        self, draft: Draft, command: Command, cause: Cause, remembered: Remembered, offset: int
    ) -> None:
        draft.part.duplicates += 1
        if remembered.body_hash == command.body_hash:
            draft.repeat(command, remembered, offset)
            return
        detail = "this command id was used before with another body; use a new id for a new command"
        draft.tell(command, cause, Answer("rejected", "body_mismatch", detail, None, False), b"")

    def _failed(
        self,
        draft: Draft,
        record: Record,
        key: bytes,
        command: Command,
        cause: Cause,
        error: Exception,
    ) -> None:
        """A bug in a rule must not stop the shard: the command fails, and can be redriven after the fix."""
        _log.error("%s %s failed", command.kind, command.message.command_id, exc_info=error)
        draft.part.failed += 1
        detail, mark = f"{type(error).__name__}: {error}", fingerprint(error)
        draft.part.failure = f"{type(error).__name__} (fingerprint {mark})"
        self._parking.set_aside(draft.part, record, key, "handler_error", detail, mark)
        index_key = key + command.command_id
        draft.tell(command, cause, Answer("failed", "handler_error", detail), index_key)

    def _set_aside(self, part: Staged, record: Record, key: bytes, poison: Poison | None) -> None:
        """Quarantine a record that is no command, or send one on to the partition of its key, with all it carries."""
        headers: list[tuple[str, bytes]] = [(name, raw or b"") for name, raw in record.header_list()]
        carried = {name for name, _ in headers}
        if poison is None and "forwarded" in carried:
            where = f"forwarded to partition {record.partition}, where its key does not belong"
            poison = Poison("misrouted", where)
        if poison is not None:
            if self._parking.waits(part, record, key, f"{poison.cause}: {poison.detail}") is None:
                self._parking.set_aside(part, record, key, poison.cause, poison.detail, "")
            return
        if names.COMMAND_ID not in carried:
            headers.append((names.COMMAND_ID, derived(uuid_bytes(b"flexcore") + record.where.encode())))
        headers.append(("forwarded", b"1"))
        part.forwarded += 1
        partition = partition_of(key, self._shards)
        part.out.append((record.topic, record.value or b"", key, partition, headers_of(headers)))


def _after(entry: Entry, state: Any, events: tuple[Any, ...]) -> Entry:
    """Return the entry that follows; its chain is known when its events are written."""
    return Entry(entry.version + len(events), state, START)
