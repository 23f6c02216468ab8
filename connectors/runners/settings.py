"""What a runner must be told; frozen, filled once by the composition root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Settings of one runner.

    ``kafka`` goes to librdkafka as it is. ``node`` is unique in the cluster and stable across restarts: the
    transactional id of claims is ``<cluster>/runner/<node>``. ``environ`` is the environment of this process: the
    programs of steps get it without the names that begin with ``FLEXCORE_``, and ``${env:NAME}`` reads from it.
    ``project_dir`` is the user's project, the working directory of every step; ``plugins_dir`` keeps installed
    taps; the runners of a machine may share it. ``labels``: steps that ask for others are left to other runners; the
    label of steps that ask for nothing is ``default``.
    """

    kafka: Mapping[str, str]
    cluster: str
    node: str
    registry_url: str
    project_dir: Path
    plugins_dir: Path
    prefix: str = ""
    shards: int = 8
    replication: int = 1
    labels: tuple[str, ...] = ("default",)
    concurrency: int = 4
    kill_grace_s: float = 3.0
    environ: Mapping[str, str] = field(default_factory=dict)
