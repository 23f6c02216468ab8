"""Whose turn it is among offers that a runner has read: the urgent ones first, and each lane in the end."""

from collections import Counter

from connectors.runners.lanes import Held, Lanes
from schemas.topics import LANES, Topics
from streams.domain import priority


def lanes(**counts: int) -> Lanes:
    """Return lanes that hold so many offers, of two partitions each."""
    made = Lanes()
    for lane, count in counts.items():
        for number in range(count):
            made.put(lane, Held(Topics().tasks("default", lane), number % 2, number, None))
    return made


def order(made: Lanes, most: int) -> list[str]:
    """Return the lanes of what is taken, one by one."""
    return [Topics().lane_of(held.topic) for _ in range(most) for held in made.take(1)]


def test_the_urgent_go_first() -> None:
    """As long as others are patient; all together or one by one is the same."""
    assert order(lanes(low=3, normal=3, high=3), 4) == ["high", "high", "high", "normal"]
    at_once = lanes(low=3, normal=3, high=3).take(20)
    assert [Topics().lane_of(held.topic) for held in at_once] == order(lanes(low=3, normal=3, high=3), 20)


def test_no_lane_waits_for_ever() -> None:
    """Of 170 turns, while all have offers, the low ones get ten and the normal ones at least thirty."""
    turns = Counter(order(lanes(low=200, normal=200, high=200), 170))
    assert turns["low"] == 10
    assert 30 <= turns["normal"] <= 34
    assert turns["high"] == 170 - 10 - turns["normal"]


def test_a_low_offer_waits_for_sixteen_others_at_most() -> None:
    """However the others come."""
    for others in ({"high": 40}, {"normal": 40}, {"high": 20, "normal": 20}):
        assert order(lanes(low=1, **others), 40).index("low") == 16


def test_a_lane_alone_waits_for_nobody() -> None:
    """And patience begins anew when a lane is empty."""
    assert order(lanes(low=5), 5) == ["low"] * 5
    made = lanes(high=3, normal=1)
    assert order(made, 4) == ["high", "high", "high", "normal"]
    for held in lanes(high=5, normal=1).take(6):
        made.put(Topics().lane_of(held.topic), held)
    assert order(made, 6) == ["high"] * 4 + ["normal", "high"]


def test_each_partition_keeps_its_order() -> None:
    """The offset that is committed with an offer is behind all that were read before it."""
    taken = lanes(low=6, high=6).take(12)
    for place in {(held.topic, held.partition) for held in taken}:
        offsets = [held.offset for held in taken if (held.topic, held.partition) == place]
        assert offsets == sorted(offsets)


def test_what_will_be_read_again_is_forgotten() -> None:
    """Of some partitions, or of all."""
    made = lanes(low=4, high=2)
    made.drop({("tasks-low.default", 0)})
    assert [(held.topic, held.partition) for held in made.take(9)] == [
        ("tasks-high.default", 0),
        ("tasks-high.default", 1),
        ("tasks-low.default", 1),
        ("tasks-low.default", 1),
    ]
    made = lanes(low=4, high=2)
    made.drop()
    assert (len(made), made.take(9)) == (0, [])


def test_the_rules_and_the_topics_know_the_same_lanes() -> None:
    """The domain imports nothing: it has the words once more."""
    assert priority.LANES == LANES
