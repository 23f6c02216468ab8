"""A shard loaded from snapshots and tail is the shard folded from its first event, whatever was written when."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.failures import BrokenLog
from streams.recovery import fold
from streams.recovery.snapshots import MARK_KEY, StateCodec, Unusable, chunk_key, chunk_number, fold_hash
from streams.shards.entry import Entry, Packed
from streams.shards.identity import uuid_bytes
from streams.shards.saved import Chunk, Named, Saved
from streams.shards.shard import Slice
from streams.writer import snapshots
from streams.writer.staged import Staged
from tests.performance.account import AGGREGATE
from tests.support.records import Bench, deposit
from tests.unit.streams.recovery.log import NOW_MS, Log

_DAY_MS = 86_400_000


@pytest.fixture(scope="module", autouse=True)
def _small_steps() -> Iterator[None]:
    """Let a sweep take many transactions, and answers leave memory soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "_STATES_MIN", 2)
        patch.setattr(snapshots, "_CHUNK_IDS", 5)
        patch.setattr(snapshots, "ANSWERS_KEPT", 8)
        patch.setattr(fold, "ANSWERS_KEPT", 8)
        yield


def _log(*, resting: bool) -> Log:
    """Return a log whose accounts rest, if so, while there is an even sum on them."""
    if not resting:
        return Log()
    aggregate = replace(AGGREGATE, rests=lambda account: account.balance % 2 == 0)
    return Log(Bench(aggregate, command_ids_max=1_000_000))


def _told(piece: Slice) -> tuple[Any, ...]:
    states = {key: (entry.version, entry.state, entry.chain) for key, entry in piece.states.items()}
    unsigned = (piece.trail.vouched, piece.trail.hashes(), piece.trail.events, piece.trail.outcomes)
    return states, piece.sequence, piece.position, piece.next, unsigned


def _answered(piece: Slice, everything: Slice) -> bool:
    """Whether every command id that has an answer is known."""
    asked = {uuid_bytes(key[-36:]) for key in everything.index if key not in piece.index}
    return asked == set(piece.saved.older.among(list(asked)))


def _swept(log: Log, chance: random.Random) -> None:
    """Go through one whole sweep, at work."""
    log.cut()
    while log.bench.slice.saved.cut is not None:
        _work(log, chance, 1)


def _work(log: Log, chance: random.Random, transactions: int, accounts: int = 12, size: int = 6) -> None:
    for _ in range(transactions):
        keys = [b"default/a%d" % chance.randrange(accounts) for _ in range(chance.randrange(size))]
        ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in keys]
        commands = [deposit(chance.randint(-2, 9), 0, one, key) for one, key in zip(ids, keys, strict=True)]
        log.commit(*commands, closing=chance.random() < 0.1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(["work", "cut", "move", "upgrade"]), min_size=2, max_size=14),
)
def test_what_is_loaded_with_snapshots_is_what_the_first_event_on_gives(seed: int, steps: list[str]) -> None:
    """Sweeps at any time, owners that change in the middle of one, and folds that change and change back."""
    chance, log = random.Random(seed), _log(resting=seed % 2 == 1)
    for step in steps:
        if step == "work":
            _work(log, chance, 5)
        elif step == "cut":
            log.cut()
        elif step == "move":
            log.move()
        else:
            log.move(fold=chance.choice(["log", "other"]))
        loaded = log.load()
        everything = log.load(with_snapshots=False)
        assert _told(loaded) == _told(everything) == _told(log.bench.slice)
        assert _answered(loaded, everything)
        assert _answered(log.bench.slice, everything)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 14))
def test_a_follower_takes_over_what_a_fold_from_the_first_event_gives(seed: int, rounds: int) -> None:
    """It may begin in the middle of a sweep, and read the three topics unevenly; its own sweeps go on rightly."""
    chance, log = random.Random(seed), _log(resting=seed % 2 == 1)
    follower = None
    for _ in range(rounds):
        _work(log, chance, 4)
        if chance.random() < 0.5:
            log.cut()
        if follower is None and chance.random() < 0.5:
            follower = log.follow()
        elif follower is not None:
            follower.read(chance.choice(["account.snapshots", "account.events", "account.outcomes"]))
    everything = log.load(with_snapshots=False)
    taken = (follower or log.follow()).finish()
    assert _told(taken) == _told(everything)
    assert _answered(taken, everything)

    log.bench.slice = taken
    for _ in range(2):
        _swept(log, chance)
        assert _told(log.load()) == _told(log.load(with_snapshots=False)) == _told(log.bench.slice)
        assert _answered(log.load(), log.load(with_snapshots=False))


def test_a_finished_sweep_leaves_a_short_tail() -> None:
    """The mark is where the sweep began: what is read behind it is what was written since."""
    log, chance = Log(), random.Random(1)
    _work(log, chance, 60)
    before = log.ends["account.events"]
    _swept(log, chance)
    loaded = log.load()

    assert loaded.saved.mark is not None
    assert loaded.saved.mark.events == before
    assert len(loaded.index) < len(log.load(with_snapshots=False).index) / 2
    assert _told(loaded) == _told(log.load(with_snapshots=False))


def test_slices_that_sweep_take_turns_unless_much_was_decided_of_them() -> None:
    """Else a transaction of a few commands would wait for the steps of all."""
    log, other = Log(), Log()
    for one in (log, other):
        one.commit(*[deposit(1, key=b"default/a%d" % number) for number in range(9)])
        one.cut()

    def step(*, commands: int) -> list[bool]:
        parts = [Staged.on(one.bench.slice, None) for one in (log, other)]
        for part in parts:
            part.commands = commands
        log.snapshots.stage(parts, NOW_MS)
        return [part.written is not None for part in parts]

    assert sorted([step(commands=1), step(commands=1)]) == [[False, True], [True, False]]
    assert step(commands=2) == [True, True]


def test_what_rests_is_kept_packed_until_it_is_changed() -> None:
    """By its owner once it is snapshotted, and by the next one from the beginning; it is decided on as ever."""
    log = _log(resting=True)
    log.commit(deposit(2), deposit(3, key=b"default/b"))
    log.cut()
    log.commit()
    for piece in (log.bench.slice, log.load()):
        packed = {key for key, entry in piece.states.items() if type(entry.kept) is Packed}
        assert packed == {b"default/a"}
        assert piece.states[b"default/a"].state.balance == 2

    log.move()
    log.commit(deposit(-9))
    assert log.bench.slice.states[b"default/a"].state.balance == 2  # refused, on what it was
    log.commit(deposit(1))
    assert log.bench.slice.states[b"default/a"].kept.balance == 3
    assert _told(log.load()) == _told(log.load(with_snapshots=False)) == _told(log.bench.slice)


def test_whether_a_state_rests_is_asked_once_for_each_snapshot() -> None:
    """To open one that is packed costs more than to write it."""
    asked: list[int] = []

    def rests(account: Any) -> bool:
        asked.append(account.balance)
        return bool(account.balance % 2 == 0)

    log = Log(Bench(replace(AGGREGATE, rests=rests), command_ids_max=1_000_000))
    log.commit(deposit(2), deposit(3, key=b"default/b"))
    log.cut()
    log.commit()
    assert sorted(asked) == [2, 3]


def test_a_state_at_rest_that_is_damaged_is_said_to_be_when_it_is_opened() -> None:
    """Not before: nobody has looked."""
    codec = StateCodec(replace(AGGREGATE, rests=lambda _account: True), b"12345678")
    entry = codec.entry(codec.state(3, AGGREGATE.initial, b"c"))
    assert entry is not None
    damaged = Entry(3, Packed(entry.kept.packed[:-1], entry.kept.open), b"c")
    with pytest.raises(Unusable, match="damaged"):
        _ = damaged.state


def test_snapshots_of_another_fold_are_as_if_they_were_not_there() -> None:
    """Rules or schemas changed: everything is folded from its first event, and the next sweep begins anew."""
    log, chance = Log(), random.Random(2)
    _work(log, chance, 40)
    _swept(log, chance)
    loaded = log.load(fold="other")

    assert loaded.saved.mark is None
    assert loaded.saved.dirty == set(loaded.states)
    assert _told(loaded) == _told(log.bench.slice)


def test_half_a_sweep_of_new_rules_leaves_nothing_that_old_rules_could_misread() -> None:
    """An upgrade that is taken back in the middle of its first sweep: the old mark must not stand over new snapshots."""
    log, chance = Log(), random.Random(6)
    _work(log, chance, 40)
    _swept(log, chance)
    log.move(fold="other")
    log.cut()
    _work(log, chance, 2)
    log.move(fold="log")

    assert _told(log.bench.slice) == _told(log.load(with_snapshots=False))


def test_a_damaged_snapshot_costs_time_and_nothing_else() -> None:
    """Bytes that cannot be read back: the log itself has the last word."""
    log, chance = Log(), random.Random(3)
    _work(log, chance, 40)
    _swept(log, chance)
    records = log.topics["account.snapshots"]
    damaged = next(record for record in records if b"/" in (record.key or b""))
    damaged.value = (damaged.value or b"")[:-1]

    assert _told(log.load()) == _told(log.bench.slice)


def test_a_missing_event_is_found_behind_the_mark() -> None:
    """Sequences are checked in the tail as they are in the whole log."""
    log, chance = Log(), random.Random(4)
    _work(log, chance, 40)
    _swept(log, chance)
    del log.topics["account.events"][-2]

    with pytest.raises(BrokenLog):
        log.load()


def test_old_chunks_of_the_index_are_dropped() -> None:
    """A command id is held longer than a command can come back, and no longer."""
    log, chance = Log(), random.Random(5)
    _work(log, chance, 40)
    _swept(log, chance)
    assert log.load().saved.older
    log.cut()
    for number in range(30):
        log.commit(deposit(1, 0, str(uuid.UUID(int=number))), now_ms=NOW_MS + 8 * _DAY_MS)

    assert None in [record.value for record in log.topics["account.snapshots"]]
    assert {chunk.at for chunk in log.load().saved.chunks.values()} == {NOW_MS + 8 * _DAY_MS}


def test_keys_of_chunks_and_of_aggregates_cannot_meet() -> None:
    """An aggregate's key has a slash; the others have none."""
    assert chunk_number(chunk_key(12)) == 12
    assert chunk_number(b"index-1/x") is None
    assert b"/" not in MARK_KEY + chunk_key(1)


def test_the_fold_hash_follows_log_and_rules() -> None:
    """Another log, or another number said by the aggregate, is another fold."""
    catalogue = Log().bench.catalogue
    here = fold_hash(AGGREGATE, catalogue, "a")

    assert here == fold_hash(AGGREGATE, catalogue, "a")
    assert (
        len(
            {
                here,
                fold_hash(AGGREGATE, catalogue, "b"),
                fold_hash(replace(AGGREGATE, fold=2), catalogue, "a"),
            }
        )
        == 3
    )


@dataclass(frozen=True, slots=True)
class _Loose:
    anything: Any = None


def test_a_state_that_would_not_come_back_is_refused() -> None:
    """A tuple where any type is allowed would come back as a list: better no snapshot than another state."""
    codec = StateCodec(replace(AGGREGATE, initial=_Loose()), b"12345678")

    assert codec.read_state(codec.state(3, _Loose([1, "a"]), b"c")) == (3, _Loose([1, "a"]), b"c")
    with pytest.raises(Unusable):
        codec.state(3, _Loose((1, "a")), b"")
    with pytest.raises(Unusable):
        codec.state(3, _Loose(object()), b"")


def test_a_command_from_long_ago_waits_until_its_answer_is_read_back() -> None:
    """What comes before it is decided, it and the rest are not; then it gets the very first answer."""
    log, chance = Log(), random.Random(7)
    first = log.commit(deposit(3, 0, str(uuid.UUID(int=99)))).out[-1][1]
    _work(log, chance, 40)
    _swept(log, chance)
    log.move()
    piece, new = log.bench.slice, str(uuid.UUID(int=100))
    staged = log.commit(deposit(1, 0, new), deposit(3, 0, str(uuid.UUID(int=99))), deposit(1, 0))
    assert (staged.commands, staged.duplicates, len(staged.missing)) == (1, 0, 1)

    piece.saved.recalled[staged.missing[0]] = log.recall(staged.missing[0])
    staged = log.commit(deposit(3, 0, str(uuid.UUID(int=99))), deposit(1, 0))

    assert (staged.commands, staged.duplicates, staged.missing) == (2, 1, ())
    assert first in [value for _, value, *_ in staged.out]


def test_the_same_id_for_another_aggregate_is_no_repetition() -> None:
    """The scope of an id is its aggregate: the old answer is read back, found to be another's, and the command decided."""
    log, chance = Log(), random.Random(8)
    log.commit(deposit(3, 0, str(uuid.UUID(int=99))))
    _work(log, chance, 40)
    _swept(log, chance)
    log.move()
    log.bench.slice.saved.recalled = {number: {} for number in log.bench.slice.saved.chunks}
    staged = log.commit(deposit(3, 0, str(uuid.UUID(int=99)), b"default/other"))

    assert (staged.commands, staged.events, staged.duplicates) == (1, 1, 0)


def test_a_chunk_reads_back_its_own_answers_whatever_stands_before_them() -> None:
    """An id of its own that another aggregate used earlier must not end the reading: all answers after it would be lost."""
    log, chance = Log(), random.Random(10)
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(20)]
    for name in (b"default/a", b"default/b"):
        for one in ids:
            log.commit(deposit(3, 0, one, name))
    _swept(log, chance)
    saved = log.bench.slice.saved
    everything = log.load(with_snapshots=False).index
    found: dict[bytes, Any] = {}
    for number, chunk in saved.chunks.items():
        answers = log.recall(number)
        assert len(answers) == chunk.count
        found |= answers

    assert found == dict(list(everything.items())[: 2 * len(ids)])


def test_an_id_in_several_chunks_is_held_until_the_last_is_dropped() -> None:
    """One id may have been used for several aggregates, or be listed twice after a take-over."""
    saved = Saved()
    saved.remember(Named(Chunk(0, 0, 1, 2, 0, 2), b"a" * 16 + b"b" * 16))
    saved.remember(Named(Chunk(1, 9, 3, 3, 0, 1), b"b" * 16))
    assert saved.missing(b"b" * 16) == (0, 1)

    saved.forget(0)

    assert (saved.missing(b"b" * 16), saved.missing(b"a" * 16), len(saved.older)) == ((1,), (), 1)


def test_answers_given_again_are_no_outcomes_of_their_own() -> None:
    """Whether the first answer stands before the tail or in it, what is loaded counts it once."""
    log, chance = Log(), random.Random(9)
    early, late = (str(uuid.UUID(int=number)) for number in (98, 99))
    log.commit(deposit(3, 0, early))
    _work(log, chance, 40)
    _swept(log, chance)
    log.bench.slice.saved.recalled = {number: {} for number in log.bench.slice.saved.chunks}
    index = log.load(with_snapshots=False).index
    log.bench.slice.saved.recalled[0] = index
    log.commit(deposit(4, 0, late))
    staged = log.commit(deposit(3, 0, early), deposit(4, 0, late), deposit(3, 0, early))

    assert staged.duplicates == 3
    assert _told(log.load()) == _told(log.load(with_snapshots=False)) == _told(log.bench.slice)
