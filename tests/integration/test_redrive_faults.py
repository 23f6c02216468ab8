"""Taking rejects up while the attempt that does it is killed, on real Kafka."""

import json
from pathlib import Path

from tests.support.platform import platform
from tests.support.services import KafkaService

_REJECTING = "def row(record):\n    raise ValueError('not yet')\n"
_DYING = (
    "import os, pathlib, time\n"
    "MARK = pathlib.Path(__file__).with_name('died')\n"
    "seen = 0\n"
    "def row(record):\n"
    "    global seen\n"
    "    seen += 1\n"
    "    time.sleep(0.1)\n"
    "    if seen == 25 and not MARK.exists():\n"
    "        MARK.touch()\n"
    "        os._exit(9)\n"
    "    return record\n"
)


async def test_a_redrive_killed_in_the_middle_takes_each_record_up_once(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """What the dead attempt had committed is marked; the next one takes up the others, and a second redrive nothing."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        numbers = range(40)
        (held.project / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in numbers))
        (held.project / "transforms").mkdir()
        function = held.project / "transforms" / "late.py"
        function.write_text(_REJECTING)
        await held.runner()
        await held.apply(
            "rows",
            {"name": "read", "extract": {"source": "file", "config": {"path": "rows.jsonl", "primary_key": ["id"]}}},
            {
                "name": "clean", "after": ["read"], "transform": {"python": "transforms.late:row"},
                "retry": {"attempts": 3, "initial": "100ms"},
            },
        )  # fmt: skip
        await held.start("rows", "run-1")
        first = await held.done("run-1")
        assert first["clean"]["records_rejected"] == 40

        function.write_text(_DYING)
        order = {"run_id": "run-2", "from_step": "clean", "redrive": "run"}
        await held.client.ask("run", "run-1", "RerunRun", order)
        second = (await held.done("run-2"))["clean"]
        taken = second["output"]["redriven"]["taken"]
        assert second["attempt"] == 2
        assert 0 < taken < 40
        records = held.records(f"{topic_prefix}.dataset.default.rows.clean")
        assert sorted(json.loads(record.value)["id"] for record in records) == list(numbers)

        await held.client.ask("run", "run-1", "RerunRun", {**order, "run_id": "run-3", "redrive": "all"})
        third = (await held.done("run-3"))["clean"]["output"]
        assert third["redriven"] == {"taken": 0, "rejected": 0, "overtaken": 0}
        assert third["generation"] == first["clean"]["output"]["generation"]
