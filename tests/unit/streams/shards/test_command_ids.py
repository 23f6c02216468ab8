"""Many command ids in little memory say what a dict of them would say."""

import logging
import random
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.shards import command_ids
from streams.shards.command_ids import CommandIds, Spill


def _new(chance: random.Random, count: int) -> list[bytes]:
    return [chance.randbytes(16) for _ in range(count)]


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few thousand ids make as many levels as hundreds of millions do."""
    monkeypatch.setattr(command_ids, "_LEVEL_IDS", 128)
    monkeypatch.setattr(command_ids, "_FACTOR", 4)
    monkeypatch.setattr(command_ids, "_PART_IDS", 100)


def _merged(ids: CommandIds) -> None:
    """Wait for what is being merged, and for what that begins."""
    while ids._merging is not None:
        ids._merging[1].result(10)
        ids._take_merged()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["add", "again", "forget", "reload", "wait"]), st.integers(0, 700)),
        max_size=24,
    ),
)
def test_what_was_added_and_not_forgotten_is_found_and_nothing_else(
    seed: int, on_disk: bool, steps: list[tuple[str, int]]
) -> None:
    """Whatever comes in which order, merges and take-overs in between; an id may be in several chunks."""
    spill = Spill(Path(tempfile.gettempdir())) if on_disk else None
    chance, ids = random.Random(seed), CommandIds(spill)
    chunks: dict[int, list[bytes]] = {}
    everything: list[bytes] = []
    for number, (step, size) in enumerate(steps):
        if step == "forget":
            for old in list(chunks)[: 1 + size % 3]:
                count = len(chunks.pop(old))
                ids.forget(count, next(iter(chunks), old + 1))
        elif step == "reload":
            ids = CommandIds(spill)
            for old, named in chunks.items():
                ids.add(old, b"".join(named))
        elif step == "wait":
            _merged(ids)
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
    assert model.keys() <= set(ids.among(everything))
    for one in everything:
        assert [number for number in ids.chunks(one) if number in chunks] == model.get(one, [])
    assert list(ids.among(_new(chance, 200))) == []


def test_ids_that_are_many_are_in_files_without_names(tmp_path: Path) -> None:
    """All but the newest are on the disk, in what a crash cannot leave behind; their memory does not grow."""
    chance, ids = random.Random(1), CommandIds(Spill(tmp_path))
    named = _new(chance, 60_000)
    for number in range(600):
        ids.add(number, b"".join(named[100 * number : 100 * number + 100]))
        _merged(ids)
    levels = ids._levels

    assert sum(map(len, levels[:2])) < 1000
    assert sum(map(len, levels)) == 60_000
    assert all(run.hashes.base is not None for run in levels[2:] if len(run)), "read from a file"
    assert list(tmp_path.iterdir()) == []
    assert set(ids.among(named)) == set(named)


def test_what_is_forgotten_leaves_the_disk(tmp_path: Path) -> None:
    """While ids come and go, what is there stays a small multiple of what counts."""
    chance, ids = random.Random(1), CommandIds(Spill(tmp_path))
    for number in range(1000):
        ids.add(number, b"".join(_new(chance, 100)))
        _merged(ids)
        if number >= 100:
            ids.forget(100, number - 99)

    assert len(ids) == 100 * 100
    assert sum(map(len, ids._levels)) < 3 * len(ids)
    ids.forget(len(ids), 1000)
    assert sum(map(len, ids._levels)) == 0


def test_ids_are_found_while_they_are_being_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that takes long stops nobody and hides nothing."""
    go_on, merge = threading.Event(), Spill._in_files

    def slow(spill: Spill, older: Any, newer: Any, oldest: int) -> Any:
        go_on.wait(10)
        return merge(spill, older, newer, oldest)

    monkeypatch.setattr(Spill, "_in_files", slow)
    chance, ids = random.Random(1), CommandIds(Spill(tmp_path))
    named = _new(chance, 20_000)
    for number in range(200):
        ids.add(number, b"".join(named[100 * number : 100 * number + 100]))
    during = set(ids.among(named))
    go_on.set()
    _merged(ids)

    assert during == set(ids.among(named)) == set(named)
    assert [ids.chunks(one) for one in named[::999]] == [[at // 100] for at in range(0, 20_000, 999)]


def test_a_full_disk_leaves_ids_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is forgotten for want of room, and it is said."""
    chance, ids = random.Random(1), CommandIds(Spill(tmp_path / "is-not-there"))
    named = _new(chance, 5_000)
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            ids.add(number, b"".join(named[100 * number : 100 * number + 100]))
            _merged(ids)

    assert set(ids.among(named)) == set(named)
    assert "command ids stay in memory" in caplog.text


def test_one_id_named_again_and_again_costs_what_its_chunks_cost() -> None:
    """A sender that gives every command the same id adds one entry a chunk, and not one a command."""
    ids = CommandIds()
    for number in range(5):
        ids.add(number, bytes(16) * 1000)

    assert ids.chunks(bytes(16)) == [0, 1, 2, 3, 4]
    assert sum(map(len, ids._levels)) == 5
    ids.forget(len(ids), 5)
    assert not ids.among([bytes(16)])


def test_an_id_in_more_chunks_than_are_merged_at_one_go_is_merged(tmp_path: Path) -> None:
    """Many aggregates may be sent commands under one id; the parts of a merge never end within it."""
    chance, ids = random.Random(1), CommandIds(Spill(tmp_path))
    for number in range(1500):
        ids.add(number, b"".join([bytes(16), *_new(chance, 3)]))
        _merged(ids)

    assert ids.chunks(bytes(16)) == list(range(1500))
    assert len(ids._levels) > 2


@pytest.mark.parametrize(("older", "newer"), [(0, 1000), (1000, 0), (30, 1000), (1000, 30)])
def test_runs_are_merged_in_parts_whichever_is_the_longer_one(older: int, newer: int) -> None:
    """The first run that comes to a level finds nothing there, and has all ids of the levels below."""
    old, new = (
        command_ids._Run.of(np.arange(count, dtype=np.uint64), np.full(count, number, np.uint32))
        for number, count in enumerate((older, newer))
    )

    parts = list(old.parts(new, 0))

    assert max(len(hashes) for hashes, _ in parts) <= 2 * (command_ids._PART_IDS + 1)
    assert sum(len(hashes) for hashes, _ in parts) == older + newer
