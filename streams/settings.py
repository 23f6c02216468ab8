"""What the streams package must be told; frozen, filled once by the composition root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one worker process.

    ``kafka`` are librdkafka's settings (``bootstrap.servers``, security). ``node`` is unique in the cluster and
    stable across restarts of the same data directory: the transactional id is ``<cluster>/node/<node>``. ``audit_key`` is
    the file of the key that signs checkpoints; None: one of the node's own, made in its data directory. ``labels`` are
    those of the node's runner: the topics of their offers are made at the start.

    ``fetch_wait_ms`` lets brokers gather commands for that long before they hand them over; 0: each at once. A steady
    thousand commands a second then takes a fifth to a third less of the worker's CPU; without commands it costs 1000 / ``fetch_wait_ms``
    requests a second, and a command that comes alone waits as long.

    ``command_ids_max`` bounds the command ids of the last 7.5 days that are remembered for one aggregate on one shard;
    beyond it commands are rejected ``overloaded``. Each costs 14 bytes of the data directory's disk, so the default is at
    most 280 MB a shard of an aggregate, and lets it take 30 commands/s all the time, or 1,000/s for five and a half hours.
    """

    kafka: Mapping[str, str]
    cluster: str
    node: str
    data_dir: Path
    prefix: str = ""
    shards: int = 8
    replication: int = 1
    batch_records_max: int = 8000
    batch_bytes_max: int = 8 << 20
    commit_gap_ms: float = 1.0
    fetch_wait_ms: int = 0
    transaction_timeout_ms: int = 10_000
    session_timeout_ms: int = 6_000
    heartbeat_interval_ms: int = 750
    group_protocol: str = "classic"
    group_instance_id: str | None = None
    fence_after_s: float = 0.3
    command_bytes_max: int = 1 << 20
    command_ids_max: int = 20_000_000
    snapshot_tail_records: int = 20_000
    standbys: int = 0
    audit_key: Path | None = None
    labels: tuple[str, ...] = ("default",)
    buffer_records_max: int = 20_000
    buffer_bytes_max: int = 64 << 20


@dataclass(frozen=True, slots=True)
class ProjectorSettings:
    """Settings of the projections' writer. ``postgres_url`` is a libpq URL."""

    kafka: Mapping[str, str]
    cluster: str
    node: str
    postgres_url: str
    prefix: str = ""
    shards: int = 8
    batch_records_max: int = 2000
    schema_name: str = field(default="flexcore")
