"""Every setting as data: its name, its default, how its text becomes a value, what it means."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = ("api", "worker", "runner")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name without ``FLEXCORE_``, its default as text, how text becomes a value, what it means."""

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


def _text(text: str) -> str:
    return text.strip()


def _name(text: str) -> str:
    if text and not NAME.fullmatch(text):
        raise ValueError(
            "lower-case letters, digits and hyphens, at most 63, beginning with a letter or digit"
        )
    return text


def _dotted_name(text: str) -> str:
    if text and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}", text):
        raise ValueError("letters, digits, dots, hyphens and underscores")
    return text


def _hosts(text: str) -> str:
    for host in filter(None, text.split(",")):
        if not re.fullmatch(r"\s*[^\s:/]+:\d{1,5}\s*|\s*\[[0-9a-fA-F:]+\]:\d{1,5}\s*", host):
            raise ValueError("host:port, several separated by commas, such as 127.0.0.1:9092")
    return text.strip()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return text.strip().lower()

    return parse


def _roles(text: str) -> tuple[str, ...]:
    roles = _names(text)
    if not roles or not set(roles) <= set(ROLES):
        raise ValueError("some of " + ", ".join(ROLES) + ", separated by commas")
    return tuple(role for role in ROLES if role in roles)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        _name(name)
    return names


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(_names(text)))
    if not labels:
        raise ValueError(
            "at least one label, separated by commas; without a runner leave it out of FLEXCORE_ROLES"
        )
    return labels


def _postgres(text: str) -> str:
    if text and not re.match(r"postgres(ql)?://", text):
        raise ValueError("a URL such as postgresql://user:password@host:5432/database")
    return text.strip()


def _url(text: str) -> str:
    if text and not re.match(r"https?://[^/\s]+", text):
        raise ValueError("a URL such as http://127.0.0.1:8080")
    return text.strip().rstrip("/")


def _lineage(text: str) -> str:
    if text and not re.match(r"https?://[^/\s]+|topic:[A-Za-z0-9._-]{1,200}$", text):
        raise ValueError(
            "a URL such as http://127.0.0.1:5000/api/v1/lineage, or a topic such as topic:lineage"
        )
    return text.strip()


def _folder(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


_PORT = _whole(0, 65_535)
SETTINGS: tuple[Setting, ...] = (
    Setting("KAFKA_BOOTSTRAP", "", _hosts, "brokers, host:port separated by commas"),
    Setting(
        "POSTGRES_URL",
        "",
        _postgres,
        "database of the read store; the role api needs it, the role worker fills it",
    ),
    Setting("POSTGRES_SCHEMA", "flexcore", _dotted_name, "database schema of the read store"),
    Setting("REGISTRY_URL", "", _url, "schema registry; empty: the node brings its own"),
    Setting("REGISTRY_PORT", "0", _PORT, "port of the node's own registry; 0: any free one"),
    Setting("CLUSTER", "flexcore", _name, "name of the cluster; part of every transactional id"),
    Setting("NODE", "", _name, "name of this node; empty: made once and kept in the data directory"),
    Setting(
        "DATA_DIR",
        "",
        _folder,
        "where the node keeps its name and caches; default .flexcore/node of the project",
    ),
    Setting(
        "PLUGINS_DIR",
        "",
        _folder,
        "where taps are installed, may be shared by the nodes of a machine; default below the data directory",
    ),
    Setting("HTTP_PORT", "8080", _PORT, "port of the HTTP API on 127.0.0.1; 0: any free one"),
    Setting("ROLES", ",".join(ROLES), _roles, "what this node does: api, worker, runner"),
    Setting(
        "PROJECT",
        "",
        _folder,
        "project folder (flexcore.toml, pipelines/, transforms/); default: upwards from here",
    ),
    Setting("TOPIC_PREFIX", "", _dotted_name, "put before every topic name, with a dot"),
    Setting(
        "SHARDS", "8", _whole(1, 1_000), "partitions of each command, event and outcome topic; fixed for good"
    ),
    Setting("REPLICATION", "1", _whole(1, 9), "replicas of each topic the platform creates"),
    Setting(
        "RUNNER_LABELS",
        "default",
        _labels,
        "what this node's runner may take: steps that ask for other labels it leaves; `default`: those that ask for none",
    ),
    Setting("CONCURRENCY", "4", _whole(1, 1_000), "attempts that this node's runner executes at once"),
    Setting(
        "IN_FLIGHT_MAX",
        "1000",
        _whole(1, 1_000_000),
        "writes open at once; beyond them 429 is answered",
    ),
    Setting("READS_MAX", "1000", _whole(1, 1_000_000), "reads open at once; beyond them 429 is answered"),
    Setting(
        "STREAMS_MAX", "100", _whole(1, 100_000), "event streams open at once; beyond them 429 is answered"
    ),
    Setting("BODY_BYTES_MAX", "1048576", _whole(1_024, 1 << 24), "largest request body in bytes"),
    Setting(
        "GROUP_PROTOCOL", "classic", _one_of("classic", "consumer"), "Kafka's group protocol of the workers"
    ),
    Setting(
        "FETCH_WAIT_MS",
        "0",
        _whole(0, 100),
        "how long brokers gather commands for a worker; 5 or 10 for a steady load of a thousand a second, 0: each at once",
    ),
    Setting(
        "COMMAND_IDS_MAX",
        "20000000",
        _whole(1, 1_000_000_000),
        "ids of the last 7.5 days' commands that a shard of an aggregate knows, 14 bytes of disk each; more commands are refused",
    ),
    Setting(
        "STANDBYS", "0", _whole(0, 1_000), "how many other nodes follow each shard, to take it over at once"
    ),
    Setting(
        "TENANT_RUNS_MAX",
        "0",
        _whole(0, 1_000_000),
        "how many runs of a tenant may be at work at once, the others wait; 0: any number; the same on all nodes",
    ),
    Setting(
        "PARKS",
        "",
        _names,
        "kinds of aggregates (limit,schedule) whose later commands wait behind one in quarantine; the same on all nodes",
    ),
    Setting(
        "SESSION_TIMEOUT_MS",
        "6000",
        _whole(1_000, 1_800_000),
        "a worker that was not heard of for so long is dead; brokers refuse less than group.min.session.timeout.ms",
    ),
    Setting(
        "AUDIT_KEY",
        "",
        _folder,
        "file of the key (Ed25519, PEM) that signs checkpoints; default: one made in the data directory",
    ),
    Setting("GROUP_INSTANCE_ID", "", _dotted_name, "static membership of this node's worker; empty: dynamic"),
    Setting(
        "LINEAGE_URL",
        "",
        _lineage,
        "where the lineage of runs is sent (OpenLineage): http(s)://…, or topic:NAME; empty: nowhere",
    ),
    Setting("LINEAGE_TOKEN", "", str.strip, "bearer token for FLEXCORE_LINEAGE_URL"),
    Setting(
        "LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "how much is logged, to stderr"
    ),
    Setting("LOG_FORMAT", "console", _one_of("console", "json"), "how log lines look"),
    Setting("URL", "", _url, "CLI: the API to speak to; default: the running dev stack"),
    Setting("TENANT", "default", _name, "CLI: the tenant to act in"),
)
