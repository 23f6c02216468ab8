"""A parked aggregate: its later commands wait in order behind one that is in quarantine."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.aggregate import Message
from tests.performance.account import AGGREGATE, Deposit
from tests.support.records import Bench, deposit, record_of
from tests.unit.streams.writer.parking_world import World


def _parked_world(*, waiting: int = 2) -> World:
    """An account whose command 2 failed, and others that came after it."""
    world = World(bad={2})
    for amount in range(1, 3 + waiting):
        world.send(amount)
    world.send(100, "b")
    world.work()
    return world


def test_later_commands_of_a_parked_aggregate_wait_and_others_go_on() -> None:
    """Given a command that fails, then those after it are set aside behind it, undecided; other accounts do not notice."""
    world = _parked_world()
    assert (world.amounts(), world.amounts("b")) == ([1], [100])
    rows = world.rows()
    assert [(row["cause"], row["parked"], row["attempts"]) for row in rows] == [
        ("handler_error", "first", 1),
        ("parked", "behind", 0),
        ("parked", "behind", 0),
    ]
    assert rows[1]["detail"] == "parked behind account.commands/0/1"
    assert world.outcomes() == [
        ("accepted", None),
        ("failed", "handler_error"),
        ("failed", "parked"),
        ("failed", "parked"),
        ("accepted", None),
    ]
    assert world.parked() == {b"default/a": (b"account.commands/0/1", 2)}


def test_what_waits_comes_back_in_order_once_the_first_is_through() -> None:
    """Given the first is sent again after a mend, then it is decided, those behind it after it, and what came meanwhile last."""
    world = _parked_world()
    world.bad.clear()
    world.send(5)
    world.redrive(world.rows()[0])
    world.send(6)
    world.work()
    assert world.amounts() == [1, 2, 3, 4, 5, 6]
    assert world.parked() == {}
    assert {(row["status"], row["parked"]) for row in world.rows()} == {("redriven", None)}
    assert [row["redriven_by"] for row in world.rows()] == ["ada"] * 4


def test_a_command_that_waited_is_a_new_one_caused_by_the_old() -> None:
    """Its id follows from the old one, as with every redrive; both can be followed by one correlation."""
    world = World(bad={1})
    world.send(1)
    world.send(2, command_id="11111111-1111-4111-8111-111111111111")
    world.work()
    world.bad.clear()
    world.redrive(world.rows()[0])
    world.work()
    last = world.log.topics["account.events"][-1]
    headers = last.headers()
    assert headers["command-id"] == world.rows()[1]["redrive_command_id"].encode()
    assert headers["causation-id"] == headers["correlation-id"] == b"11111111-1111-4111-8111-111111111111"
    assert headers["actor"] == b"ada"


def test_the_first_that_fails_again_keeps_its_place() -> None:
    """Given it is sent again too early, then the others still wait behind it, and it knows how often it was tried."""
    world = _parked_world()
    world.redrive(world.rows()[0])
    world.work()
    first = world.rows()[0]
    assert (first["status"], first["parked"], first["attempts"], first["failed_alike"]) == (
        "open",
        "first",
        2,
        2,
    )
    assert world.parked() == {b"default/a": (b"account.commands/0/1", 2)}
    assert world.amounts() == [1]
    world.bad.clear()
    world.redrive(world.rows()[0])
    world.work()
    assert world.amounts() == [1, 2, 3, 4]


def test_a_note_that_comes_after_the_failure_hides_nothing() -> None:
    """Given the owner is faster than the edge's note, then the record that failed again is still open."""
    world = _parked_world()
    row = world.rows()[0]
    world.redrive(row, noted=False)
    world.work()
    again = world.rows()[0]
    world.note(row, b"", [("redriven-by", b"ada"), ("redrive-command-id", again["command_id"].encode())])
    assert world.rows()[0]["status"] == "open"


def test_one_that_waited_and_fails_is_the_first_then() -> None:
    """Given the second of those that wait fails when its turn comes, then the rest waits behind it."""
    world = _parked_world(waiting=4)
    world.bad = {4}
    world.redrive(world.rows()[0])
    world.send(7)
    world.work()
    assert world.amounts() == [1, 2, 3]
    rows = {row["source_offset"]: row for row in world.rows()}
    assert (rows[3]["cause"], rows[3]["parked"], rows[3]["attempts"]) == ("handler_error", "first", 1)
    assert world.parked() == {b"default/a": (b"account.commands/0/3", 3)}
    world.bad.clear()
    world.redrive(rows[3])
    world.work()
    assert world.amounts() == [1, 2, 3, 4, 5, 6, 7]


def test_a_first_that_is_dropped_lets_the_others_go() -> None:
    """Given the cause is dropped, then it is missing, and the rest comes in order."""
    world = _parked_world()
    world.drop([world.rows()[0]])
    world.work()
    assert world.amounts() == [1, 3, 4]
    assert [(row["status"], row["parked"]) for row in world.rows()] == [
        ("dropped", None),
        ("redriven", None),
        ("redriven", None),
    ]


def test_one_that_waits_and_is_dropped_is_passed_over() -> None:
    """Also when all of them are dropped at once: nothing of them is decided."""
    world = _parked_world()
    world.bad.clear()
    world.drop([world.rows()[1]])
    world.redrive(world.rows()[0])
    world.work()
    assert world.amounts() == [1, 2, 4]
    assert world.rows()[1]["status"] == "dropped"
    whole = _parked_world()
    whole.drop(whole.rows())
    whole.send(9)
    whole.work()
    assert whole.amounts() == [1, 9]
    assert {row["status"] for row in whole.rows()} == {"dropped"}


def test_a_drop_that_comes_twice_or_too_late_does_nothing() -> None:
    """The record that tells the owner is no command: it is not quarantined, and lets nobody else go."""
    world = _parked_world()
    row = world.rows()[0]
    world.drop([row])
    world.drop([row])
    world.work()
    assert (world.amounts(), world.parked(), len(world.rows())) == ([1, 3, 4], {}, 3)


def test_garbage_parks_too_and_what_is_garbage_itself_waits_its_turn() -> None:
    """Whatever cannot be decided is missing from the sequence; mended, it takes its place."""
    world = World()
    world.garbage()
    world.send(2)
    world.garbage()
    world.send(3)
    world.work()
    assert [row["cause"] for row in world.rows()] == ["undecodable", "parked", "parked", "parked"]
    assert "cannot be decided itself: undecodable" in world.rows()[2]["detail"]
    world.redrive(world.rows()[0], data={"amount": 1})
    world.work()
    assert world.amounts() == [1, 2]
    assert [(row["cause"], row["parked"]) for row in world.rows()[2:]] == [
        ("undecodable", "first"),
        ("parked", "behind"),
    ]
    world.drop([world.rows()[2]])
    world.work()
    assert world.amounts() == [1, 2, 3]


def test_a_record_of_nobody_parks_nobody() -> None:
    """Without a key there is no aggregate to wait."""
    bench = Bench(replace(AGGREGATE, parks=True))
    staged = bench.decide(record_of(b"x", b""), deposit(1, 1))
    assert (bench.slice.parked, staged.quarantined, staged.events) == ({}, 1, 1)


def test_aggregates_that_do_not_park_go_on() -> None:
    """The default: later commands are decided, as an aggregate's rules are ready for it."""
    bench = Bench()
    staged = bench.decide(record_of(b"\xff"), deposit(1, 1))
    assert (bench.slice.parked, staged.events) == ({}, 1)


def test_the_same_command_again_waits_once() -> None:
    """Given a client that sends it again while it waits, then it hears the same, and it is decided once."""
    world = World(bad={1})
    world.send(1)
    for _ in range(3):
        world.send(2, command_id="22222222-2222-4222-8222-222222222222")
    world.work()
    assert world.parked() == {b"default/a": (b"account.commands/0/0", 1)}
    world.bad.clear()
    world.redrive(world.rows()[0])
    world.work()
    assert world.amounts() == [1, 2]


def test_what_waits_is_no_failure_of_the_rules() -> None:
    """The limit on quarantine counts the first one only."""
    world = _parked_world(waiting=20)
    judged = sum(staged.judged for staged in world.staged)
    assert (judged, sum(staged.failed for staged in world.staged)) == (3, 1)


def test_a_new_owner_knows_who_is_parked() -> None:
    """Given a take-over while it is parked, and another amid its release, then order is kept all the same."""
    world = _parked_world(waiting=6)
    world.move()
    assert world.parked() == {b"default/a": (b"account.commands/0/1", 6)}
    world.bad.clear()
    world.chunk = 2
    world.redrive(world.rows()[0])
    world.send(9)
    world.step()
    world.move()
    world.step(at_once=1)
    world.move()
    world.work()
    assert world.amounts() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert world.parked() == {}


def test_what_kafka_keeps_no_longer_holds_nobody_up() -> None:
    """Given retention took those that wait, then the aggregate goes on without them."""
    world = _parked_world()
    row = world.rows()[0]
    world.drop([row])
    quarantined = world.log.topics["account.quarantine"]
    del quarantined[1:3]
    world.send(9)
    world.work()
    assert (world.amounts(), world.parked()) == ([1, 9], {})


def test_the_timer_of_a_parked_aggregate_counts_again_when_it_is_over() -> None:
    """Given it was due meanwhile, then it is in the heap again."""
    world = World(
        bad={2},
        aggregate=replace(AGGREGATE, tick=Deposit, due=lambda account: account.balance or None),
    )
    world.send(1)
    world.send(2)
    world.work()
    piece = world.log.bench.slice
    piece.armed, piece.timers = True, []
    world.drop([world.rows()[0]])
    world.work()
    assert piece.timers == [(1, b"default/a")]


def test_an_event_that_cannot_be_encoded_parks_as_well() -> None:
    """That shows after its neighbours were decided: they are decided again, behind it."""

    def decide(message: Message, account: Any) -> Any:
        events = AGGREGATE.decide(message, account)
        if message.body.amount == 2:
            return (replace(events[0], amount="no number"),)  # type: ignore[index]  # a bug
        return events

    world = World(aggregate=replace(AGGREGATE, decide=decide))
    for amount in (1, 2, 3):
        world.send(amount)
    world.work()
    assert (world.amounts(), world.parked()) == ([1], {b"default/a": (b"account.commands/0/1", 1)})


_ACCOUNTS = ("a", "b")
_DEEDS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(_ACCOUNTS), st.sampled_from([0, 0, 1, 2, 9])),
    st.tuples(st.just("step"), st.integers(1, 12), st.just(0)),
    st.tuples(st.sampled_from(["redrive", "drop", "mend"]), st.integers(0, 20), st.integers(0, 3)),
    st.tuples(st.just("move"), st.none(), st.just(0)),
)


class _People:
    """Senders and operators, who do anything at any time; ``sent`` is what each account was to get, in order."""

    def __init__(self, chunk: int) -> None:
        self.world = World(chunk=chunk)
        self.sent: dict[str, list[int]] = {account: [] for account in _ACCOUNTS}

    def do(self, deed: str, what: Any, how: int) -> None:
        """Do something; ``how``: which of five commands are bad, or whether a redrive is noted."""
        world = self.world
        if deed == "send":
            for place in range(5):
                number = 1 + sum(map(len, self.sent.values()))
                self.sent[what].append(number)
                world.bad |= {number} if how >> place & 1 else set()
                world.send(number, what)
        elif deed == "step":
            world.step(what)
        elif deed == "move":
            world.move()
        elif deed == "mend":
            world.bad = {amount for amount in world.bad if amount % 3 != what % 3}
        elif rows := [row for row in world.rows() if row["status"] == "open"]:
            row = rows[what % len(rows)]
            if deed == "drop":
                world.drop([row])
            elif row["parked"] != "behind":
                world.redrive(row, noted=how > 0)

    def look(self) -> None:
        """What was done is what was sent, in that order, each once, with holes at most."""
        for account, sent in self.sent.items():
            done = self.world.amounts(account)
            assert done == [amount for amount in sent if amount in done]

    def mend_all(self) -> None:
        """Mend everything, and send it again until nobody is parked."""
        self.world.bad.clear()
        self.world.work()
        for _ in range(3):
            for row in self.world.rows():
                if row["parked"] == "first":
                    self.world.redrive(row)
            self.world.work()


@settings(max_examples=40, deadline=None)
@given(st.lists(_DEEDS, max_size=20), st.integers(1, 3))
def test_order_is_kept_whatever_happens(deeds: list[Any], chunk: int) -> None:
    """Commands fail, are mended, sent again, dropped; the shard moves: none is lost, doubled, or overtakes another."""
    people = _People(chunk)
    for deed, what, how in deeds:
        people.do(deed, what, how)
        people.look()
    people.mend_all()
    people.look()
    rows = people.world.rows()
    assert people.world.parked() == {}
    assert {row["parked"] for row in rows} <= {None}
    dropped = {row["sample"] for row in rows if row["status"] == "dropped"}
    for account, sent in people.sent.items():
        lost = set(sent) - set(people.world.amounts(account))
        assert all(b'{"amount": %d}' % amount in dropped for amount in lost)
