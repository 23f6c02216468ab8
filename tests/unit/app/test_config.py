"""Settings: where they come from, what they say when they are wrong, and what is never shown."""

import json
from pathlib import Path

import pytest

from app.config import KAFKA_DEFAULTS, ConfigError, load
from app.settings import SETTINGS


def test_the_environment_wins_over_the_file_over_defaults(tmp_path: Path) -> None:
    """Each value says where it comes from."""
    (tmp_path / "flexcore.toml").write_text(
        'cluster = "filed"\nhttp-port = 9000\n[kafka]\nbootstrap = "a:1"\n'
    )
    found = load({"FLEXCORE_CLUSTER": "given"}, tmp_path)
    assert (found.get("CLUSTER"), found.get("HTTP_PORT"), found.get("SHARDS")) == ("given", 9000, 8)
    assert found.values["CLUSTER"].origin == "environment FLEXCORE_CLUSTER"
    assert found.values["HTTP_PORT"].origin == str(tmp_path / "flexcore.toml")
    assert found.values["SHARDS"].origin == "default"
    assert found.kafka["bootstrap.servers"] == "a:1"


def test_options_of_the_command_line_win_over_everything(tmp_path: Path) -> None:
    """What is said now counts."""
    found = load({"FLEXCORE_URL": "http://a:1"}, tmp_path, {"URL": "http://b:2/"})
    assert (found.get("URL"), found.values["URL"].origin) == ("http://b:2", "command line")


def test_the_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    """Commands work anywhere inside a project."""
    (tmp_path / "flexcore.toml").write_text("")
    below = tmp_path / "pipelines" / "deep"
    below.mkdir(parents=True)
    assert load({}, below).project == tmp_path


def test_kafka_settings_pass_through_to_librdkafka(tmp_path: Path) -> None:
    """Security needs no settings of our own; a file's value yields to the environment's."""
    (tmp_path / "flexcore.toml").write_text(
        '[kafka]\n"sasl.mechanism" = "PLAIN"\nsecurity_protocol = "SSL"\n'
    )
    found = load(
        {"FLEXCORE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "FLEXCORE_KAFKA_BOOTSTRAP": "k:9092"}, tmp_path
    )
    assert found.kafka == {
        "bootstrap.servers": "k:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        **KAFKA_DEFAULTS,
    }


def test_a_librdkafka_default_of_ours_yields_to_a_setting(tmp_path: Path) -> None:
    """What we think better than librdkafka's default is a default as well."""
    found = load({"FLEXCORE_KAFKA_RECONNECT_BACKOFF_MAX_MS": "2000"}, tmp_path)
    assert found.kafka["reconnect.backoff.max.ms"] == "2000"


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Passwords are masked, in URLs too."""
    found = load(
        {
            "FLEXCORE_KAFKA_SASL_PASSWORD": "hunter2",
            "FLEXCORE_POSTGRES_URL": "postgresql://ada:hunter2@db:5432/flex",
        },
        tmp_path,
    )
    assert found.values["KAFKA_SASL_PASSWORD"].shown == "***"
    assert found.values["POSTGRES_URL"].shown == "postgresql://ada:***@db:5432/flex"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FLEXCORE_HTTP_PORT", "eighty"),
        ("FLEXCORE_HTTP_PORT", "70000"),
        ("FLEXCORE_SHARDS", "0"),
        ("FLEXCORE_ROLES", "api,dancer"),
        ("FLEXCORE_CLUSTER", "My Cluster"),
        ("FLEXCORE_POSTGRES_URL", "mysql://x"),
        ("FLEXCORE_REGISTRY_URL", "registry:8081"),
        ("FLEXCORE_KAFKA_BOOTSTRAP", "localhost"),
        ("FLEXCORE_LOG_FORMAT", "xml"),
        ("FLEXCORE_PROJECT", "/does/not/exist"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_fix(name: str, text: str, tmp_path: Path) -> None:
    """The message names the setting and the value, in one line."""
    with pytest.raises(ConfigError) as refused:
        load({name: text}, tmp_path)
    message = str(refused.value)
    assert name in message
    assert text in message
    assert "\n" not in message


def test_a_wrong_secret_is_masked_in_the_complaint_too(tmp_path: Path) -> None:
    """A complaint ends up in logs."""
    with pytest.raises(ConfigError) as refused:
        load({"FLEXCORE_POSTGRES_URL": "oracle://ada:hunter2@db"}, tmp_path)
    assert "hunter2" not in str(refused.value)


def test_a_misspelt_setting_in_the_file_is_named_with_the_one_meant(tmp_path: Path) -> None:
    """A file is read strictly: what it says must mean something."""
    (tmp_path / "flexcore.toml").write_text("shard = 4\n")
    with pytest.raises(ConfigError, match="did you mean 'shards'"):
        load({}, tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """TOML errors say where."""
    (tmp_path / "flexcore.toml").write_text("a = [\n")
    with pytest.raises(ConfigError, match=r"flexcore\.toml cannot be read"):
        load({}, tmp_path)


def test_unknown_variables_are_told(tmp_path: Path) -> None:
    """A misspelt variable is not silently ignored."""
    assert load({"FLEXCORE_HTPP_PORT": "1"}, tmp_path).unknown == ("FLEXCORE_HTPP_PORT",)


def test_a_running_dev_stack_is_the_default(tmp_path: Path) -> None:
    """Beside `flexcore dev up` nothing needs to be set."""
    (tmp_path / ".flexcore").mkdir()
    stack = {"kafka": {"bootstrap": "127.0.0.1:1"}, "postgres": {"url": "postgresql://p@h/d"}, "nodes": []}
    (tmp_path / ".flexcore" / "stack.json").write_text(json.dumps(stack))
    found = load({}, tmp_path)
    assert found.kafka["bootstrap.servers"] == "127.0.0.1:1"
    assert found.values["POSTGRES_URL"].origin == "running dev stack"


def test_no_brokers_is_said_with_the_fix(tmp_path: Path) -> None:
    """Whoever needs Kafka asks for it."""
    with pytest.raises(ConfigError, match="flexcore dev up"):
        load({}, tmp_path).require_kafka()


def test_packages_get_the_settings_they_declare(tmp_path: Path) -> None:
    """The worker's and projector's settings are filled from the same values."""
    found = load(
        {"FLEXCORE_KAFKA_BOOTSTRAP": "k:1", "FLEXCORE_TOPIC_PREFIX": "t", "FLEXCORE_SHARDS": "3"}, tmp_path
    )
    assert (found.worker_settings("n").prefix, found.worker_settings("n").shards) == ("t", 3)
    assert found.projector_settings("n").schema_name == "flexcore"


def test_every_setting_says_what_it_means() -> None:
    """`flexcore config -o wide` is the reference."""
    assert all(setting.meaning for setting in SETTINGS)


def test_kinds_that_park_are_kinds_of_the_product(tmp_path: Path) -> None:
    """The named ones park, no other does; a wrong name is told, with the right ones."""
    parks = [one.name for one in load({"FLEXCORE_PARKS": "limit"}, tmp_path).aggregates() if one.parks]
    assert parks == ["limit"]
    assert not any(one.parks for one in load({}, tmp_path).aggregates())
    with pytest.raises(ConfigError, match="names account; it must be some of alert, bookmark"):
        load({"FLEXCORE_PARKS": "account"}, tmp_path).aggregates()
