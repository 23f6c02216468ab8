"""Quix Streams doing the same work, exactly once: state in its RocksDB store, with its changelog.

``python -m tests.performance.quix BOOTSTRAP PREFIX COMMANDS``, in the environment of ``quix-requirements.txt``. The
state of an account is version, balance and the ids of its last 32 commands, as JSON, which is how Quix keeps state.
"""

from typing import Any

from quixstreams import Application, message_context
from quixstreams.models import Serializer

from schemas.topics import Topics
from tests.performance.account import Account
from tests.performance.invocation import Invocation, parse
from tests.performance.job import Job, Produced
from tests.performance.wire import outputs

_REMEMBERED_MAX = 32


class _Value(Serializer):  # type: ignore[misc]  # untyped where the types are checked
    """Takes the value out of a produced record."""

    def __call__(self, value: Produced, ctx: Any) -> bytes:
        return value[1]


class _Decide:
    """One command: looked up, decided, remembered."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, value: bytes, key: bytes, at_ms: int, headers: Any, state: Any) -> list[Produced]:
        command_id = dict(headers)["command-id"]
        told_id = command_id.decode()
        version, balance, ids = state.get("account") or (0, 0, [])
        if told_id in ids:
            return []
        context = message_context()
        source = (context.partition, context.offset, at_ms)
        out, version, account = self._job.do(key, value, command_id, source, version, Account(balance))
        state.set("account", [version, account.balance, [*ids[1 - _REMEMBERED_MAX :], told_id]])
        return out


def application(told: Invocation, count: Any) -> Application:
    """Return the application; ``paced`` commits every 10 ms instead of 100."""
    return Application(
        broker_address=told.bootstrap,
        consumer_group=f"{told.prefix}.quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.01 if told.paced else 0.1,
        consumer_poll_timeout=0.005 if told.paced else 1.0,
        state_dir=told.state,
        on_message_processed=count,
        auto_create_topics=True,
        consumer_extra_config={
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            "isolation.level": "read_committed",
        },
        producer_extra_config={
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 10,
            "compression.type": "lz4",
            "linger.ms": 1,
            "transaction.timeout.ms": 10_000,
            "enable.sparse.connections": False,
            "socket.nagle.disable": True,
        },
        loglevel="WARNING",
    )


def run(told: Invocation) -> None:
    """Process the commands and end."""
    done = 0

    def count(_topic: str, _partition: int, _offset: int) -> None:
        nonlocal done
        done += 1
        if done == told.commands:
            app.stop()

    app = application(told, count)
    own = outputs(told.prefix, "quix")
    raw = {"key_serializer": "bytes", "value_serializer": _Value()}
    targets = {name: app.topic(name, **raw) for name in (own.events("account"), own.outcomes("account"))}
    commands = app.topic(
        Topics(told.prefix).commands("account"), key_deserializer="bytes", value_deserializer="bytes"
    )
    decide = _Decide(Job(own, told.prefix, f"{told.prefix}/quix"))
    rows = app.dataframe(commands).apply(decide, stateful=True, expand=True, metadata=True)
    rows = rows.set_headers(lambda row, _key, _at, _headers: row[4])
    rows.to_topic(lambda row, _key, _at, _headers: targets[row[0]], key=lambda row: row[2])
    app.run()
    told.report()


if __name__ == "__main__":
    run(parse())
