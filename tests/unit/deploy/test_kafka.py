"""What Kafka is started with."""

import base64

from deploy.local.kafka import new_cluster_id


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    """One in 64 random ones begins with a hyphen, and the storage could not be formatted under it."""
    made = {new_cluster_id() for _ in range(2_000)}
    assert len(made) == 2_000
    assert {len(base64.urlsafe_b64decode(f"{one}==")) for one in made} == {16}
    assert not [one for one in made if one.startswith("-")]
