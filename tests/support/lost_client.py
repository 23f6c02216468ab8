"""A node with a Kafka client that knows no broker, nor ever will; the process that takes its place has none."""

import os
import threading
from pathlib import Path

from confluent_kafka import Consumer

from app.cli.main import main
from schemas.clients import watched


def _poll(consumer: Consumer) -> None:
    while True:
        consumer.poll(0.2)


begun = Path(os.environ["FLEXCORE_DATA_DIR"]) / "begun"
if not begun.exists():
    begun.touch()
    lost = Consumer(watched({"group.id": "the-lost-one", "log_level": 0}))
    threading.Thread(target=_poll, args=(lost,), daemon=True).start()
main(["node", "run"])
