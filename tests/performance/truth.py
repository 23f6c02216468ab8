"""The gate of every run: what must have come out, computed without any contestant, against what is in the topics."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.codec import Codec
from tests.performance.contestants import Contestant
from tests.performance.load import Work, commands_of, key_of_account
from tests.performance.watch import reader, records
from tests.performance.wire import codec_of_all, outputs

_SILENCE_MAX = 100


@dataclass(slots=True)
class Truth:
    """The balance after each version of every account, and whether each command is accepted."""

    balances: dict[bytes, list[int]] = field(default_factory=dict)
    accepted: dict[bytes, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, works: Iterable[Work]) -> "Truth":
        """Compute what the commands of ``works``, in that order, must lead to."""
        truth = cls()
        for work in works:
            for account, amount, command_id in commands_of(work):
                truth.accepted[command_id] = amount > 0
                if amount > 0:
                    after = truth.balances.setdefault(key_of_account(account), [])
                    after.append((after[-1] if after else 0) + amount)
        return truth


@dataclass(slots=True)
class Found:
    """What a read_committed reader found, and in what it differs: counts by kind of difference."""

    events: int = 0
    outcomes: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """Return the differences as a sentence, or an empty string."""
        return ", ".join(f"{count} {what}" for what, count in sorted(self.wrong.items()))


def check(contestant: Contestant, works: list[Work]) -> Found:
    """Read the contestant's events and outcomes from end to end and compare them with the truth. Blocking."""
    truth, found = Truth.of(works), Found()
    codec, _ = codec_of_all()
    last = works[-1]
    topics = outputs(last.prefix, contestant.name)
    events, outcomes = topics.events("account"), topics.outcomes("account")
    consumer = reader(last.bootstrap, {events: last.shards, outcomes: last.shards})
    versions: dict[bytes, set[int]] = {key: set() for key in truth.balances}
    answered: set[bytes] = set()
    ended = silence = 0
    while ended < 2 * last.shards and silence < _SILENCE_MAX:
        batch, ends = records(consumer, 0.2)
        ended += ends
        silence = 0 if batch or ends else silence + 1
        for record in batch:
            if record.topic() == events:
                _event(record.value(), codec, truth, versions, found)
            else:
                _outcome(record.value(), codec, truth, answered, found)
    consumer.close()
    if silence == _SILENCE_MAX:
        found.wrong["partitions whose end is not visible"] += 2 * last.shards - ended
    found.wrong["events missing"] += sum(len(truth.balances[key]) - len(got) for key, got in versions.items())
    found.wrong["commands without an outcome"] += len(truth.accepted) - len(answered)
    found.wrong = +found.wrong
    return found


def _event(value: bytes, codec: Codec, truth: Truth, versions: dict[bytes, set[int]], found: Found) -> None:
    _, body = codec.decode(value)
    envelope = body["envelope"]
    key, version = f"{envelope['tenant']}/{envelope['aggregate_id']}".encode(), envelope["version"]
    found.events += 1
    wanted = truth.balances.get(key, [])
    if not 0 < version <= len(wanted):
        found.wrong["events too many"] += 1
    elif version in versions[key]:
        found.wrong["events twice"] += 1
    elif body["balance"] != wanted[version - 1]:
        found.wrong["wrong balances"] += 1
    else:
        versions[key].add(version)


def _outcome(value: bytes, codec: Codec, truth: Truth, answered: set[bytes], found: Found) -> None:
    _, body = codec.decode(value)
    command_id = body["command_id"].encode()
    found.outcomes += 1
    if command_id in answered:
        found.wrong["outcomes twice"] += 1
    elif (body["status"] == "accepted") is not truth.accepted.get(command_id):
        found.wrong["wrong outcomes"] += 1
    answered.add(command_id)
