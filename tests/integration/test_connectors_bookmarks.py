"""Commands, bookmarks and datasets on real Kafka, with a real worker as the bookmarks' owner."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.runners.bookmark import BookmarkHolder, Interrupted, Lease, Place
from connectors.runners.reader import DatasetReader, Upstream
from connectors.runners.writer import Counts, DatasetWriter
from connectors.sdk.commands import CommandClient, InvalidCommand, UnknownAggregate
from connectors.sdk.errors import BookmarkHeld, RangeExpired, Superseded
from connectors.sdk.record import StreamSchema
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.registry import MemoryRegistry
from schemas.topics import Topics, key_of
from tests.support.platform import SHARDS, Platform, platform
from tests.support.services import KafkaService


def _place(held: Platform, step: str = "read") -> Place:
    kafka = {"bootstrap.servers": held.bootstrap}
    return Place(kafka, held.prefix, Topics(held.prefix), SHARDS, held.codec, "default", "pipe", step)


def _writer(held: Platform, attempt: int = 1, run: str = "run-1") -> DatasetWriter:
    writer = DatasetWriter(_place(held), Lease(run, attempt, f"token-{run}-{attempt}"), Counts())
    writer.declare(StreamSchema("s", {"type": "object", "properties": {"id": {"type": "integer"}}}, ("id",)))
    return writer


def _write(writer: DatasetWriter, *numbers: int) -> None:
    for number in numbers:
        writer.write("s", writer.key_of("s", {"id": number}), orjson.dumps({"id": number}))


def _numbers(held: Platform, output: dict[str, Any]) -> list[int]:
    reader = DatasetReader(_place(held, "load"), Upstream.of({"read": output}, "load"), {})
    return sorted(
        orjson.loads(record.value)["id"] for batch in reader.batches(10) for record in batch.records
    )


async def test_records_and_bookmark_commit_together(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """What was not committed is seen by nobody, and the next attempt goes on from the newest bookmark."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:

        def story() -> None:
            first = _writer(held)
            assert first.open(full_refresh=False).bookmark is None
            _write(first, 1, 2, 3)
            first.commit({"at": 3})
            _write(first, 4, 5)
            second = _writer(held, attempt=2)
            begun = second.open(full_refresh=False)
            assert begun.bookmark == {"at": 3}
            assert begun.generation == first.begun.generation
            with pytest.raises(Interrupted):
                first.commit({"at": 5})
            first.close()
            zombie = _writer(held)
            with pytest.raises(Superseded):
                zombie.open(full_refresh=False)
            zombie.close()
            second.close()
            # The zombie fenced the writer, not the lease: the second attempt begins again and finishes.
            second = _writer(held, attempt=2)
            assert second.open(full_refresh=False).bookmark == {"at": 3}
            _write(second, 4)
            output = second.finish({"at": 4})
            second.close()
            assert _numbers(held, output) == [1, 2, 3, 4]
            assert (output["records"], output["bookmark"]) == (1, {"at": 4})

        await asyncio.to_thread(story)


async def test_a_bookmark_has_one_holder(kafka: KafkaService, topic_prefix: str, tmp_path: Path) -> None:
    """Another run is told to wait until the holder has finished."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:

        def story() -> None:
            mine, other = _writer(held), _writer(held, run="run-2")
            mine.open(full_refresh=False)
            with pytest.raises(BookmarkHeld, match="pipe/read is in use"):
                other.open(full_refresh=False)
            other.close()
            mine.close()
            mine = _writer(held)
            mine.open(full_refresh=False)
            mine.finish(None)
            mine.close()
            other = _writer(held, run="run-2")
            assert other.open(full_refresh=False).bookmark is None
            other.close()

        await asyncio.to_thread(story)


async def test_a_range_that_is_gone_is_told(kafka: KafkaService, topic_prefix: str, tmp_path: Path) -> None:
    """Records deleted by retention before they were read make an error, not a hole; read ranges may go."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:

        def story() -> None:
            writer = _writer(held)
            writer.open(full_refresh=False)
            _write(writer, *range(40))
            output = writer.finish(None)
            writer.close()
            ends = {int(partition): end for partition, end in output["ends"].items()}
            admin = AdminClient({"bootstrap.servers": held.bootstrap})
            cut = [TopicPartition(output["topic"], partition, 1) for partition in ends]
            for future in admin.delete_records(cut).values():
                future.result()
            with pytest.raises(RangeExpired, match="--full-refresh"):
                _numbers(held, output)
            reader = DatasetReader(_place(held, "load"), Upstream.of({"read": output}, "load"), ends)
            assert list(reader.batches(10)) == []
            with pytest.raises(RangeExpired):
                _numbers(held, {**output, "topic_id": "another"})

        await asyncio.to_thread(story)


async def test_batches_are_cut_at_the_same_offsets(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """From wherever reading begins, the cuts are at multiples of the size, whole and without holes."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:

        def story() -> None:
            writer = _writer(held)
            writer.open(full_refresh=False)
            for number in range(100):
                _write(writer, number)
                if number % 7 == 0:
                    writer.commit(number)
            output = writer.finish(None)
            writer.close()
            upstream = Upstream.of({"read": output}, "load")
            for start in (0, 3, 11):
                reader = DatasetReader(_place(held, "load"), upstream, dict.fromkeys(range(4), start))
                at = dict.fromkeys(range(4), start)
                for batch in reader.batches(8):
                    assert batch.start == at[batch.partition]
                    assert batch.end % 8 == 0 or batch.end == upstream.ends[batch.partition]
                    assert all(batch.start <= record.offset < batch.end for record in batch.records)
                    at[batch.partition] = batch.end
                assert at == dict(upstream.ends)

        await asyncio.to_thread(story)


async def test_commands_are_answered(kafka: KafkaService, topic_prefix: str, tmp_path: Path) -> None:
    """An outcome comes back to whoever asked; what nobody decides is None in time; mistakes are told at once."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        client = held.client
        refused = await client.ask("run", "no-run", "CancelRun", {}, timeout_s=60)
        assert refused is not None
        assert (refused["status"], refused["reason"]) == ("rejected", "not_found")
        again = await client.ask("run", "no-run", "CancelRun", {}, command_id=refused["command_id"])
        assert again == refused
        with pytest.raises(UnknownAggregate, match="no aggregate 'star'; known are alert, bookmark"):
            await client.send("star", "x", "Shine", {})
        with pytest.raises(InvalidCommand, match="run ClaimStep does not fit"):
            await client.send("run", "x", "ClaimStep", {"step": 3})
        asked = [
            client.ask("pipeline", f"p{number}", "PausePipeline", {}, timeout_s=60) for number in range(50)
        ]
        outcomes = await asyncio.gather(*asked)
        assert [outcome and outcome["aggregate_id"] for outcome in outcomes] == [f"p{n}" for n in range(50)]
        elsewhere = (partition_of(key_of("default", "no-run"), SHARDS) + 1) % SHARDS
        lonely = CommandClient(
            {"bootstrap.servers": held.bootstrap},
            held.codec,
            Topics(held.prefix),
            SHARDS,
            ["run"],
            "lonely",
            {"run": [elsewhere]},
        )
        await lonely.start()
        assert await lonely.ask("run", "no-run", "CancelRun", {}, timeout_s=0.3) is None
        await lonely.stop()


def test_a_holder_that_never_began_can_be_closed(kafka: KafkaService, topic_prefix: str) -> None:
    """Closing is safe at every moment of an attempt."""
    kafka_settings = {"bootstrap.servers": kafka.bootstrap}
    codec = Codec(MemoryRegistry())
    place = Place(
        kafka_settings, topic_prefix, Topics(topic_prefix), SHARDS, codec, "default", "pipe", "step"
    )
    BookmarkHolder(place, Lease("run-1", 1, "token")).close()
