"""Faust the plain way: one table write an event, at least once. It is here to be wrong: the proof that trials can tell.

``python -m tests.kafka.plain_counter --server HOST:PORT --name N --data DIR`` counts events by account; ``?`` as an
event asks for the counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import faust


def build(server: str, name: str, data: Path) -> Any:
    """Return the application."""
    app = faust.App(
        name,
        broker=f"kafka://{server}",
        store="rocksdb://",
        datadir=str(data),
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=3.0,
        broker_heartbeat_interval=0.5,
        consumer_group_instance_id="one",
        stream_wait_empty=False,
        topic_allow_declare=True,
        topic_replication_factor=1,
    )
    inputs = app.topic(
        f"{name}-in", key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw", partitions=1
    )
    answers = app.topic(
        f"{name}-out", key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw", partitions=1
    )
    counts = app.Table(
        f"{name}-counts", default=int, partitions=1, options={"driver": "rocksdict", "block_cache_size": 8 << 20}
    )

    @app.agent(inputs)
    async def count(stream: Any) -> None:
        async for value in stream:
            if value.startswith(b"?"):
                await answers.send(value=json.dumps({"asked": value.decode(), "counts": dict(counts.items())}).encode())
            else:
                counts[value.decode()] += 1

    return app


def main() -> None:
    """Run the worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    app = build(given.server, given.name, given.data)
    sys.argv = [sys.argv[0], "worker", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    main()
