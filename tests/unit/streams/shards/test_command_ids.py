"""Many command ids in little memory say what a dict of them would say."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.shards.command_ids import CommandIds


def _new(chance: random.Random, count: int) -> list[bytes]:
    return [chance.randbytes(16) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.sampled_from(["add", "again", "forget", "reload"]), st.integers(0, 700)), max_size=24
    ),
)
def test_what_was_added_and_not_forgotten_is_found_and_nothing_else(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    """Whatever comes in which order, growth and take-overs in between; an id may be in several chunks."""
    chance, ids = random.Random(seed), CommandIds()
    chunks: dict[int, list[bytes]] = {}
    everything: list[bytes] = []
    for number, (step, size) in enumerate(steps):
        if step == "forget":
            for old in list(chunks)[: 1 + size % 3]:
                count = len(chunks.pop(old))
                ids.forget(count, next(iter(chunks), old + 1))
        elif step == "reload":
            ids = CommandIds()
            ids.reserve(sum(map(len, chunks.values())))
            for old, named in chunks.items():
                ids.add(old, b"".join(named))
        else:
            again = everything if step == "again" else []
            named = [*_new(chance, size), *chance.sample(again, min(len(again), size))]
            chunks[number] = named
            everything += named
            ids.add(number, b"".join(named))

    model: dict[bytes, list[int]] = {}
    for number, named in chunks.items():
        for one in set(named):
            model.setdefault(one, []).append(number)
    assert len(ids) == sum(map(len, chunks.values()))
    assert all(one in ids for one in model)
    for one in everything:
        assert [number for number in ids.chunks(one) if number in chunks] == model.get(one, [])
    assert [one for one in _new(chance, 200) if one in ids] == []


def test_memory_and_filter_stay_as_they_are_while_ids_come_and_go() -> None:
    """What is forgotten makes room for what comes, and most new ids are told by the filter alone."""
    chance, ids = random.Random(1), CommandIds()
    for number in range(300):
        ids.add(number, b"".join(_new(chance, 500)))
        if number >= 40:
            ids.forget(500, number - 39)
    flagged = sum(flags.bit_count() for flags in ids._flags) / (8 * len(ids._flags))

    assert len(ids) == 40 * 500
    assert sum(map(len, ids._buckets)) < 1.5 * 12 * len(ids)
    assert len(ids._buckets) < 1.5 * len(ids) / 64
    assert flagged < 0.2


def test_one_id_named_again_and_again_costs_what_its_chunks_cost() -> None:
    """A sender that gives every command the same id fills one bucket, and not with every command."""
    ids = CommandIds()
    for number in range(5):
        ids.add(number, bytes(16) * 1000)

    assert ids.chunks(bytes(16)) == [0, 1, 2, 3, 4]
    assert sum(map(len, ids._buckets)) == 5 * 12
    ids.forget(len(ids), 5)
    assert bytes(16) not in ids
