"""The only reader of the environment: ``FLEXCORE_*`` over ``flexcore.toml`` over a running dev stack over defaults.

Read once, at start; every package gets the frozen settings it declares (``worker_settings`` and its sisters).
A wrong value raises :class:`ConfigError`, one sentence that names the setting, where it came from, and the fix.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.settings import SETTINGS, Setting
from connectors.runners.settings import RunnerSettings
from streams.domain.aggregate import Aggregate
from streams.settings import ProjectorSettings, WorkerSettings

PREFIX = "FLEXCORE_"
PROJECT_FILE = "flexcore.toml"
STACK_FILE = Path(".flexcore") / "stack.json"
_SECRET = re.compile(r"^NOTIFY_|PASSWORD|SECRET|TOKEN|SSL_KEY_PEM|JAAS")
_CREDENTIALS = re.compile(r"(?<=://)([^/@:]*):([^@/]+)@")


class ConfigError(Exception):
    """A setting cannot be used; the message says which one, why, and what to write instead."""


# What every Kafka client here has unless FLEXCORE_KAFKA_… says otherwise. librdkafka's own 10 s would keep a shard
# waiting for that long after a link that was broken for a moment works again. And one that heard of a leader from before a
# broker's restart would ask by that until it looks again, after five minutes.
KAFKA_DEFAULTS = {"reconnect.backoff.max.ms": "1000", "topic.metadata.refresh.interval.ms": "10000"}


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's text and value, and where it came from (as a person would say it)."""

    name: str
    text: str
    value: Any
    origin: str
    meaning: str

    @property
    def shown(self) -> str:
        """The text as it may be printed: passwords are replaced by ``***``."""
        if self.text and _SECRET.search(self.name):
            return "***"
        return _CREDENTIALS.sub(r"\1:***@", self.text)


_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was set, parsed.

    ``values`` keeps each text with its origin, ``kafka`` goes to librdkafka, ``stack`` is what ``flexcore dev up``
    wrote about the running stack, ``unknown`` are ``FLEXCORE_*`` variables that no setting reads, ``environ`` is what programs of steps may
    refer to, ``channels`` are the URLs of ``FLEXCORE_NOTIFY_*`` by the names that alerts use.
    """

    values: Mapping[str, Value]
    kafka: Mapping[str, str]
    project: Path | None
    stack: Mapping[str, Any]
    unknown: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    channels: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> Any:
        """Return the parsed value of the setting ``name`` (without the prefix)."""
        return self.values[name].value

    @property
    def data_dir(self) -> Path:
        """The node's own directory (may not exist yet)."""
        given: Path | None = self.get("DATA_DIR")
        return given or (self.project or Path.cwd()) / ".flexcore" / "node"

    def require_kafka(self) -> None:
        """Raise :class:`ConfigError` unless brokers are known."""
        if not self.kafka.get("bootstrap.servers"):
            raise ConfigError(
                "FLEXCORE_KAFKA_BOOTSTRAP is not set; start a local stack with `flexcore dev up`, or set it to your "
                "brokers, such as 127.0.0.1:9092."
            )

    def require_read_store(self) -> None:
        """Raise :class:`ConfigError` unless a node of these roles knows the database it answers from."""
        if "api" in self.get("ROLES") and not self.get("POSTGRES_URL"):
            raise ConfigError(
                "FLEXCORE_POSTGRES_URL is not set, and the role api answers from it; start a local stack with "
                "`flexcore dev up`, set it, or leave api out of FLEXCORE_ROLES."
            )

    def aggregates(self) -> tuple[Aggregate, ...]:
        """Return the product's aggregates. Raises :class:`ConfigError` when one that shall park is none of them."""
        from streams.aggregates import builtin, parking  # noqa: PLC0415 - the command line starts without the rules

        known, kinds = builtin(self.get("TENANT_RUNS_MAX")), self.get("PARKS")
        if unknown := sorted(set(kinds) - {aggregate.name for aggregate in known}):
            names = ", ".join(aggregate.name for aggregate in known)
            raise ConfigError(f"FLEXCORE_PARKS names {', '.join(unknown)}; it must be some of {names}.")
        return parking(known, kinds)

    def worker_settings(self, node: str) -> WorkerSettings:
        """Return what ``streams.worker`` must be told."""
        return WorkerSettings(
            kafka=self.kafka,
            cluster=self.get("CLUSTER"),
            node=node,
            data_dir=self.data_dir,
            prefix=self.get("TOPIC_PREFIX"),
            shards=self.get("SHARDS"),
            replication=self.get("REPLICATION"),
            session_timeout_ms=self.get("SESSION_TIMEOUT_MS"),
            heartbeat_interval_ms=self.get("SESSION_TIMEOUT_MS") // 8,
            fetch_wait_ms=self.get("FETCH_WAIT_MS"),
            command_ids_max=self.get("COMMAND_IDS_MAX"),
            standbys=self.get("STANDBYS"),
            audit_key=self.get("AUDIT_KEY"),
            group_protocol=self.get("GROUP_PROTOCOL"),
            group_instance_id=self.get("GROUP_INSTANCE_ID") or None,
            labels=self.get("RUNNER_LABELS"),
        )

    def runner_settings(self, node: str, registry_url: str) -> RunnerSettings:
        """Return what ``connectors.runners`` must be told."""
        return RunnerSettings(
            kafka=self.kafka,
            cluster=self.get("CLUSTER"),
            node=node,
            registry_url=registry_url,
            project_dir=self.project or Path.cwd(),
            plugins_dir=self.get("PLUGINS_DIR") or self.data_dir / "runner" / "plugins",
            prefix=self.get("TOPIC_PREFIX"),
            shards=self.get("SHARDS"),
            replication=self.get("REPLICATION"),
            labels=self.get("RUNNER_LABELS"),
            concurrency=self.get("CONCURRENCY"),
            environ=self.environ,
        )

    def projector_settings(self, node: str) -> ProjectorSettings:
        """Return what ``streams.agents.project`` must be told."""
        return ProjectorSettings(
            kafka=self.kafka,
            cluster=self.get("CLUSTER"),
            node=node,
            postgres_url=self.get("POSTGRES_URL"),
            prefix=self.get("TOPIC_PREFIX"),
            shards=self.get("SHARDS"),
            schema_name=self.get("POSTGRES_SCHEMA"),
        )


def load(
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """Read every setting; ``overrides`` (command-line options) win, ``start`` is where the project is looked for.

    Raises :class:`ConfigError`. Reads files, opens no connection.
    """
    environ = os.environ if environ is None else environ
    given = {name.removeprefix(PREFIX): text for name, text in environ.items() if name.startswith(PREFIX)}
    overrides = overrides or {}
    project = _project(overrides.get("PROJECT") or given.get("PROJECT") or "", start or Path.cwd())
    layers: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("command line", overrides),
        ("environment", given),
        (f"{project / PROJECT_FILE}" if project else PROJECT_FILE, _from_file(project)),
    )
    stack = _stack(project or start or Path.cwd())
    layers += (("running dev stack", _from_stack(stack)),)
    values = {setting.name: _value(setting, layers) for setting in SETTINGS}
    kafka = {"bootstrap.servers": values["KAFKA_BOOTSTRAP"].text, **KAFKA_DEFAULTS}
    channels: dict[str, str] = {}
    for origin, texts in reversed(layers):
        for name, text in texts.items():
            if name.startswith("KAFKA_") and name not in _BY_NAME:
                kafka[name.removeprefix("KAFKA_").lower().replace("_", ".")] = text
                values[name] = Value(name, text, text, _origin(origin, name), "passed through to librdkafka")
            elif name.startswith("NOTIFY_"):
                channels[name.removeprefix("NOTIFY_").lower().replace("_", "-")] = text
                values[name] = Value(
                    name, text, text, _origin(origin, name), "a channel that alerts can name"
                )
    unknown = tuple(
        sorted(f"{PREFIX}{name}" for name in given if name not in values and not name.startswith("TEST_"))
    )
    return Config(values, kafka, project, stack, unknown, dict(environ), channels)


def _origin(layer: str, name: str) -> str:
    return f"environment {PREFIX}{name}" if layer == "environment" else layer


def _value(setting: Setting, layers: tuple[tuple[str, Mapping[str, str]], ...]) -> Value:
    for layer, texts in layers:
        if (text := texts.get(setting.name)) is None:
            continue
        if not text and setting.default:
            break
        origin = _origin(layer, setting.name)
        try:
            return Value(setting.name, text, setting.parse(text), origin, setting.meaning)
        except ValueError as error:
            shown = Value(setting.name, text, None, origin, "").shown
            raise ConfigError(
                f"{PREFIX}{setting.name} is {shown!r} ({origin}), which cannot be used; it must be {error}."
            ) from None
    return Value(setting.name, setting.default, setting.parse(setting.default), "default", setting.meaning)


def _project(given: str, start: Path) -> Path | None:
    if given:
        folder = Path(given).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(
                f"{PREFIX}PROJECT is {given!r}, which is no folder; name the folder of {PROJECT_FILE}."
            )
        return folder
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


def _from_file(project: Path | None) -> dict[str, str]:
    """Return the settings of ``flexcore.toml``: ``[kafka] bootstrap = …`` is ``KAFKA_BOOTSTRAP``."""
    path = project / PROJECT_FILE if project else None
    if path is None or not path.is_file():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; correct it (TOML).") from None
    texts: dict[str, str] = {}
    _flatten("", document, texts)
    for name in texts:
        if name not in _BY_NAME and not name.startswith("KAFKA_"):
            raise ConfigError(f"{path} sets {name.lower()!r}, which is no setting{_near(name)}.")
    return texts


def _flatten(prefix: str, table: Mapping[str, Any], texts: dict[str, str]) -> None:
    for key, value in table.items():
        name = prefix + re.sub(r"[.\-]", "_", key).upper()
        if isinstance(value, dict):
            _flatten(f"{name}_", value, texts)
        elif isinstance(value, list):
            texts[name] = ",".join(str(part) for part in value)
        else:
            texts[name] = str(value).lower() if isinstance(value, bool) else str(value)


def _near(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a misspelt setting needs it, and it is slow to import

    near = get_close_matches(name, _BY_NAME, n=1)
    return f"; did you mean {near[0].lower()!r}?" if near else "; `flexcore config` lists them all"


def _stack(start: Path) -> Mapping[str, Any]:
    """Return what ``flexcore dev up`` wrote about the stack that runs in this folder or one above it, else nothing."""
    for folder in (start, *start.absolute().parents):
        try:
            document = json.loads((folder / STACK_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return document if isinstance(document, dict) else {}
    return {}


def _from_stack(stack: Mapping[str, Any]) -> dict[str, str]:
    places = {"KAFKA_BOOTSTRAP": ("kafka", "bootstrap"), "POSTGRES_URL": ("postgres", "url")}
    texts = {}
    for name, (part, key) in places.items():
        if isinstance(entry := stack.get(part), dict) and entry.get(key):
            texts[name] = str(entry[key])
    return texts
