"""Which queues a runner reads: those whose labels it has, all of them."""

import re

import pytest

from schemas.topics import Topics


@pytest.mark.parametrize(
    ("queue", "taken"),
    [
        ("default", True),
        ("eu", True),
        ("default.eu", True),
        ("eu.gpu", False),
        ("gpu", False),
        ("eu-west", False),
        ("", False),
    ],
)
def test_a_runner_reads_the_queues_whose_labels_it_has(queue: str, taken: bool) -> None:
    """One label more is another queue; a label that begins like one of its own is another label."""
    topics = Topics("my.own")
    pattern = re.compile(topics.tasks_for(("default", "eu")))
    assert bool(pattern.match(topics.tasks(queue))) is taken
    assert pattern.match("my-own.tasks.default") is None
