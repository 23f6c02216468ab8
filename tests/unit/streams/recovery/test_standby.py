"""Which nodes follow a shard that another one owns."""

from streams.recovery.standby import followers

NODES = ["a", "b", "c", "d"]


def test_a_shard_is_followed_by_as_many_nodes_as_are_wanted_and_never_by_its_owner() -> None:
    """Every node computes the same answer from the same members."""
    for shard in range(20):
        found = followers(shard, "b", NODES, 2)
        assert len(found) == 2
        assert "b" not in found
        assert found == followers(shard, "b", NODES[::-1], 2)


def test_a_node_that_leaves_moves_only_what_it_followed() -> None:
    """Followers hold state: few of them change."""
    for shard in range(20):
        before = followers(shard, "a", NODES, 1)
        after = followers(shard, "a", [node for node in NODES if node != "d"], 1)
        assert before in (["d"], after)


def test_with_as_many_standbys_as_other_nodes_everything_is_followed() -> None:
    """Then every take-over is a warm one."""
    assert sorted(followers(3, "a", NODES, 3)) == ["b", "c", "d"]
    assert sorted(followers(3, "a", NODES, 9)) == ["b", "c", "d"]
