"""The demo's checks can fail: a right world passes each, and a world that is wrong in one way does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.outside import CheckFailed, eventually
from deploy.demo.story import Story
from tests.unit.deploy.demo_world import World

Chapter = Callable[[Story], Any]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of 2,400 customers, six of them wrong, whose first run has not been."""
    monkeypatch.setattr("deploy.demo.customers.CUSTOMERS", 2_400)
    monkeypatch.setattr("deploy.demo.story.CUSTOMERS", 2_400)
    return World(tmp_path)


def test_a_right_world_passes_every_check(world: World) -> None:
    """Given a platform that does what it must, when its chapters are told, then no check fails."""
    story = world.story
    for chapter in (story.first_run, story.changes, story.repair, story.one_key, story.verify):
        assert chapter()


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        ("the transform drops a record", "the dataset of clean-customers has 2393 records"),
        (
            "a record is extracted twice",
            "the dataset of extract-customers has 2401 records of 2400 customers",
        ),
        ("a reject is lost", "5 records in quarantine, not 6"),
        ("a reject has no cause", "not 6 with a cause"),
        ("the run counts wrongly", r"the run tells \(2400, 2395, 6\)"),
        ("the sink skips a row", "warehouse: 2393 rows of 2394"),
        ("a row is written wrongly", r"1 wrong \[1\]"),
        ("a refused customer arrives", "warehouse: 2395 rows of 2394"),
        ("the directory misses a customer", "directory: 2393 of 2394"),
    ],
)
def test_a_wrong_first_run_is_noticed(world: World, flaw: str, said: str) -> None:
    """Given a world with this flaw, when everything moves, then the demo fails and says what is wrong."""
    world.flaw = flaw
    with pytest.raises(CheckFailed, match=said):
        world.story.first_run()


@pytest.mark.parametrize(
    ("chapter", "flaw", "said"),
    [
        (Story.changes, "unchanged records move too", "2400 records were extracted, not 500"),
        (Story.changes, "the transform drops a record", "498 records were transformed, not 499"),
        (Story.changes, "the sink skips a row", "1 wrong"),
        (
            Story.changes,
            "the directory gets a batch twice",
            "998 records were sent to the directory, not 499",
        ),
        (Story.repair, "the broken directory is not noticed", "succeeded, not failed"),
        (Story.repair, "the rerun does more", "the rerun worked on"),
        (Story.repair, "the rerun extracts again", "the rerun extracted again"),
        (Story.one_key, "a key is forgotten", "20 posts with one key made 20 runs"),
        (Story.one_key, "a run is started behind the key's back", "1 creations of the run and 2 requests"),
        (Story.one_key, "a post is refused", "were not taken"),
        (Story.verify, "the fold skips an event", "folded"),
        (Story.verify, "the log is not whole", "folded"),
    ],
)
def test_a_later_flaw_is_noticed(world: World, chapter: Chapter, flaw: str, said: str) -> None:
    """Given a right first run and then this flaw, when the chapter is told, then the demo fails and says what is wrong."""
    world.story.first_run()
    world.flaw = flaw
    with pytest.raises(CheckFailed, match=said):
        chapter(world.story)


@pytest.mark.parametrize(
    ("flaw", "said"),
    [("an event is missing", "has a gap at version 2"), ("an event stands twice", "are there twice")],
)
def test_a_log_that_is_not_whole_is_noticed(world: World, flaw: str, said: str) -> None:
    """Given a log with a gap or a duplicate, when a foreign client folds it, then the demo fails."""
    world.flaw = flaw
    world.run()
    with pytest.raises(CheckFailed, match=said):
        world.story.verify()


def test_waiting_ends_with_a_sentence() -> None:
    """Given an answer that never comes, when the time is over, then the demo fails and says what it waited for."""
    with pytest.raises(CheckFailed, match="the run has not ended: not within 0 s"):
        eventually(lambda: None, "the run has not ended", 0.05, 0.01)
