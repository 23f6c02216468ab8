"""What we use of Faust that it does not promise: each test fails when Faust changes it."""

import inspect
from pathlib import Path
from typing import Any

import faust
from faust.app.base import App
from faust.tables.manager import TableManager
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer, Fetcher
from faust.types import ConsumerMessage
from mode.utils.queues import FlowControlEvent

from schemas.catalogue import Catalogue
from schemas.registry import MemoryRegistry
from streams.settings import WorkerSettings
from streams.transport.consumer import BatchConsumer
from streams.worker import create_worker
from tests.performance.account import AGGREGATE, SCHEMAS


def _worker(folder: Path) -> Any:
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    settings = WorkerSettings({"bootstrap.servers": "127.0.0.1:1"}, "c", "n", folder)
    return create_worker(settings, MemoryRegistry(), catalogue, [AGGREGATE], {})


def test_the_version_is_the_one_we_tested() -> None:
    """Faust is pinned, because what follows is not promised."""
    assert faust.__version__ == "0.15.3"


def test_the_app_takes_our_transport(tmp_path: Path) -> None:
    """`app.transport` may be set, and its Consumer class is what `app.consumer` becomes."""
    worker = _worker(tmp_path)
    assert isinstance(worker.app.consumer, BatchConsumer)


def test_the_consumer_has_nothing_abstract_left() -> None:
    """Every abstract method of Faust's consumer is there; a new one would be noticed here."""
    assert getattr(BatchConsumer, "__abstractmethods__", frozenset()) == frozenset()


def test_the_fetcher_drains_through_the_consumer() -> None:
    """The Fetcher service runs `_drain_messages(self)` of the consumer: our one way in."""
    assert "_drain_messages" in inspect.getsource(Fetcher)
    assert list(inspect.signature(Consumer._drain_messages).parameters) == ["self", "fetcher"]


def test_a_rebalance_is_what_we_repeat() -> None:
    """The parts of App._on_partitions_assigned that we call ourselves exist, with these arguments."""
    assert list(inspect.signature(Conductor.on_partitions_assigned).parameters)[1:2] == ["assigned"]
    source = inspect.getsource(App._on_partitions_assigned)
    assert "self.agents.on_rebalance" in source
    assert "self.topics.on_partitions_assigned" in source
    assert callable(FlowControlEvent.resume)
    assert "_fetcher" in vars(App)


def test_a_message_carries_its_generation() -> None:
    """Streams drop messages of another generation: ours carry the app's own, which never changes."""
    assert "generation_id" in inspect.signature(ConsumerMessage.__init__).parameters
    assert App.consumer_generation_id == 0


def test_tables_decide_when_the_app_has_started() -> None:
    """The two events that the conductor waits for, and the answer that means `go on`."""
    assert "_tables_registered" in inspect.getsource(TableManager)
    assert "wait_until_recovery_completed" in inspect.getsource(App._wait_for_table_recovery_completed)


def test_agents_are_registered_by_plain_calls(tmp_path: Path) -> None:
    """Two apps in one process do not know of each other."""
    one, two = _worker(tmp_path / "a"), _worker(tmp_path / "b")
    assert list(one.app.agents) == list(two.app.agents)
    assert one.app is not two.app
