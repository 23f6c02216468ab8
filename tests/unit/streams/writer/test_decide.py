"""The hot path, without Kafka: what a batch of commands becomes."""

from dataclasses import replace
from typing import Any

from schemas.partitioning import partition_of
from streams.domain.aggregate import Message, Send, TaskOffer
from streams.writer.staged import Staged
from tests.performance.account import AGGREGATE, Deposit, Deposited
from tests.support.records import Bench, deposit, record_of, told


def _outcomes(bench: Bench, *records: Any) -> list[dict[str, Any]]:
    return bench.on(bench.decide(*records), "account.outcomes")


def test_the_second_command_of_a_batch_sees_the_first() -> None:
    """Two deposits into one account in one batch: the second is decided on the first's event."""
    bench = Bench()
    staged = bench.decide(deposit(1, 0), deposit(2, 1))
    assert [event["balance"] for event in bench.on(staged, "account.events")] == [1, 3]
    assert [outcome["last_version"] for outcome in bench.on(staged, "account.outcomes")] == [1, 2]


def test_nothing_committed_is_touched_before_the_merge() -> None:
    """A dropped overlay leaves the slice as it was."""
    bench = Bench()
    bench.decide(deposit(1))
    bench.decider.stage(Staged.on(bench.slice, None), [deposit(5, 1)])
    assert bench.slice.states[b"default/a"].version == 1
    assert bench.slice.sequence == 2


def test_sequences_count_outcomes_and_events_without_a_gap() -> None:
    """The outcome's number comes before its events'; its position is the last event's."""
    bench = Bench()
    staged = bench.decide(deposit(1, 0), deposit(-1, 1), deposit(2, 2))
    assert [outcome["sequence"] for outcome in bench.on(staged, "account.outcomes")] == [1, 3, 4]
    assert [outcome["position"] for outcome in bench.on(staged, "account.outcomes")] == [2, 2, 5]
    assert [event["envelope"]["sequence"] for event in bench.on(staged, "account.events")] == [2, 5]


def test_the_same_command_in_one_batch_is_answered_twice_alike() -> None:
    """Also before anything is committed."""
    bench = Bench()
    staged = bench.decide(deposit(1, 0, "c" * 32), deposit(1, 1, "c" * 32))
    values = [value for topic, value, *_ in staged.out if topic == "account.outcomes"]
    assert values[0] == values[1]
    assert (staged.duplicates, staged.events) == (1, 1)


def test_answers_stand_in_the_order_of_the_commands() -> None:
    """Given repeats and refusals between others, then who reads the outcomes sees one command after the other."""
    bench = Bench()
    commands = (
        deposit(1, 0, "x"),
        deposit(1, 1, "y"),
        deposit(1, 2, "x"),
        deposit(-1, 3),
        deposit(1, 4, "y"),
        deposit(1, 5),
    )
    staged = bench.decide(*commands)
    answered = [
        dict(told(headers))["source-offset"]
        for topic, _, _, _, headers in staged.out
        if topic == "account.outcomes"
    ]
    assert answered == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_one_id_may_be_used_for_two_aggregates() -> None:
    """The scope of a command id is its aggregate. Events have ids of their own all the same, and so has what follows."""
    with_fees = replace(AGGREGATE, effects=lambda *_: (Send("account", "fees", Deposit(1, 0)),))
    bench = Bench(with_fees)
    staged = bench.decide(deposit(1, 0, "x"), deposit(2, 1, "x", b"default/b"))
    assert {one["status"] for one in bench.on(staged, "account.outcomes")} == {"accepted"}
    events = {event["envelope"]["event_id"] for event in bench.on(staged, "account.events")}
    sent = {
        dict(told(headers))["command-id"]
        for topic, _, _, _, headers in staged.out
        if topic == "account.commands"
    }
    assert (len(events), len(sent)) == (2, 2)


def test_a_full_index_refuses_and_forgets_the_refusal() -> None:
    """Beyond the bound commands are refused as overloaded; the id may be used again later."""
    bench = Bench(command_ids_max=1)
    first, second = _outcomes(bench, deposit(1, 0), deposit(1, 1, "late"))
    assert (first["status"], second["reason"], second["stored"]) == ("accepted", "overloaded", False)
    assert b"default/alate" not in bench.slice.index


def test_a_rule_that_raises_fails_its_command_alone() -> None:
    """The command is failed and quarantined with a fingerprint; its neighbours go on."""

    def decide(message: Message, account: Any) -> Any:
        if message.body.amount == 13:
            raise RuntimeError("a bug")
        return AGGREGATE.decide(message, account)

    bench = Bench(replace(AGGREGATE, decide=decide))
    staged = bench.decide(deposit(1, 0), deposit(13, 1), deposit(2, 2))
    statuses = [outcome["status"] for outcome in bench.on(staged, "account.outcomes")]
    parked = [dict(told(headers)) for topic, _, _, _, headers in staged.out if topic == "account.quarantine"]
    assert statuses == ["accepted", "failed", "accepted"]
    assert parked[0]["cause"] == b"handler_error"
    assert parked[0]["fingerprint"]


def test_an_event_that_cannot_be_encoded_fails_its_command_alone() -> None:
    """That shows only after its neighbours were decided on it: they are decided again, without it."""

    def decide(message: Message, account: Any) -> Any:
        amount = message.body.amount
        return (Deposited("no number" if amount == 13 else amount, account.balance + amount, 0),)  # type: ignore[arg-type]  # a bug

    bench = Bench(replace(AGGREGATE, decide=decide))
    staged = bench.decide(deposit(1, 0), deposit(13, 1), deposit(2, 2), deposit(13, 3, "c" * 32))
    outcomes = bench.on(staged, "account.outcomes")
    assert [outcome["status"] for outcome in outcomes] == ["accepted", "failed", "accepted", "failed"]
    assert [outcome["sequence"] for outcome in outcomes] == [1, 3, 4, 6]
    assert [event["balance"] for event in bench.on(staged, "account.events")] == [1, 3]
    assert (staged.quarantined, staged.commands, staged.next, bench.slice.sequence) == (2, 4, 4, 6)
    assert bench.slice.states[b"default/a"].version == 2


def test_a_failing_effect_leaves_nothing_of_its_command() -> None:
    """An event whose effects raise is not written, and takes no sequence or version."""

    def effects(_tenant: str, _name: str, event: Any, _state: Any) -> tuple[Any, ...]:
        if event.amount == 13:
            raise RuntimeError("a bug")
        return ()

    bench = Bench(replace(AGGREGATE, effects=effects))
    staged = bench.decide(deposit(13, 0), deposit(2, 1))
    events = bench.on(staged, "account.events")
    assert [(event["envelope"]["version"], event["envelope"]["sequence"]) for event in events] == [(1, 3)]


def test_a_failing_reply_leaves_nothing_of_its_command() -> None:
    """Also when the events were staged already."""

    def reply(command: Any, _state: Any) -> str | None:
        if command.amount == 13:
            raise RuntimeError("a bug")
        return "{}"

    bench = Bench(replace(AGGREGATE, reply=reply))
    staged = bench.decide(deposit(13, 0), deposit(2, 1))
    assert [event["amount"] for event in bench.on(staged, "account.events")] == [2]
    assert bench.slice.states[b"default/a"].version == 1


def test_a_condemned_command_fails_undecided() -> None:
    """A command that alone makes its transaction fail is failed when it comes again."""
    bench = Bench()
    staged = bench.decide(deposit(1, 7), condemned=frozenset({7}))
    (outcome,) = bench.on(staged, "account.outcomes")
    assert outcome["status"] == "failed"
    assert "too large" in outcome["detail"]


def test_effects_ride_in_the_transaction_of_their_event() -> None:
    """A follow-up command names the event that caused it, a task offer goes to its queue; reactors come after."""

    def effects(_tenant: str, name: str, event: Any, _state: Any) -> tuple[Any, ...]:
        return (TaskOffer("default", name, {"amount": event.amount}),)

    def react(_tenant: str, _name: str, event: Any, _state: Any) -> tuple[Send, ...]:
        return (Send("account", "savings", Deposit(event.amount)),)

    bench = Bench(replace(AGGREGATE, effects=effects), reactors={AGGREGATE.events[0]: react})
    staged = bench.decide(deposit(4))
    event = bench.on(staged, "account.events")[0]
    topics = [topic for topic, *_ in staged.out]
    follow_up = next(
        dict(told(headers)) for topic, _, _, _, headers in staged.out if topic == "account.commands"
    )
    assert topics == ["account.events", "tasks.default", "account.commands", "account.outcomes"]
    assert follow_up["causation-id"].decode() == event["envelope"]["event_id"]
    assert follow_up["correlation-id"].decode() == event["envelope"]["correlation_id"]


def test_a_command_of_another_shard_is_forwarded_once() -> None:
    """With all its headers; one that was forwarded already and is still wrong is quarantined."""
    bench = Bench(shards=4)
    key = next(b"default/%d" % n for n in range(99) if partition_of(b"default/%d" % n, 4) != 0)
    staged = bench.decide(deposit(1, 0, key=key, x_team=b"crm"), deposit(1, 1, key=key, forwarded=b"1"))
    topic, _, _, partition, headers = staged.out[0]
    assert (topic, partition) == ("account.commands", partition_of(key, 4))
    assert dict(told(headers))["x-team"] == b"crm"
    assert dict(told(staged.out[1][4]))["cause"] == b"misrouted"
    assert (staged.forwarded, staged.quarantined, staged.sequence) == (1, 1, 0)


def test_what_cannot_be_read_says_why() -> None:
    """Every cause of poison, and a detail for the person who has to mend it."""
    kind = [("command-type", b"Deposit")]
    wrong = {
        "no_key": record_of(b"{}", None, headers=kind),
        "undecodable": record_of(None, headers=kind),
        "too_large": record_of(b"{" + b" " * (1 << 20), headers=kind),
        "unknown_type": record_of(b"{}", headers=[("command-type", b"Nope")]),
        "unknown_schema": record_of(b"\0\0\0\xff\xff\2", headers=kind),
    }
    for cause, record in wrong.items():
        headers = dict(told(Bench().decide(record).out[0][4]))
        assert headers["cause"] == cause.encode()
        assert headers["detail"]


def test_json_is_held_to_the_schema() -> None:
    """A missing, unknown or mistyped field is named."""
    kind = [("command-type", b"Deposit")]
    for value, named in (
        (b"{}", b"amount"),
        (b'{"amount": "1"}', b"amount"),
        (b'{"amount": 1, "x": 2}', b"x"),
        (b"{", b"JSON"),
    ):
        headers = dict(told(Bench().decide(record_of(value, headers=kind)).out[0][4]))
        assert headers["cause"] == b"undecodable"
        assert named in headers["detail"]


def test_avro_and_json_of_one_command_are_one_command() -> None:
    """The hash of the body is that of the decoded fields, so either form may repeat the other."""
    bench = Bench()
    encode = bench.codec.encoder(
        "account.commands-flexcore.account.Deposit", bench.catalogue.schema("flexcore.account.Deposit")
    )
    avro = deposit(5, 1, "same")
    avro.value = encode({"amount": 5, "sent_at": 0})
    first, second = _outcomes(bench, deposit(5, 0, "same"), avro)
    assert first == second
