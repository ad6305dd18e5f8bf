"""One worker process: ``python -m margin_stream.agents --store kafka://... --data DIR``. It ends when the broker goes; a supervisor
starts it again."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path

import faust
from aiokafka.errors import KafkaError

from margin_stream.agents.app import build
from margin_stream.agents.metrics import REBALANCES
from margin_stream.agents.web import Web
from margin_stream.journal.layout import StoreError
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client, SecurityError, Unreachable
from margin_stream.kafka.topics_admin import read_manifest

UNREACHABLE, FAILED = 5, 1


def main() -> None:
    """Run one worker until it is told to stop, or cannot go on."""
    parser = argparse.ArgumentParser(prog="python -m margin_stream.agents")
    parser.add_argument("--store", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--checkpoint-s", type=float, default=1.0)
    parser.add_argument("--session-s", type=float, default=6.0)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    try:
        address = parse_address(given.store)
        with Client(address.servers) as client:
            manifest = read_manifest(client, address)
        app = build(
            address,
            manifest,
            given.data,
            worker=given.worker,
            url=given.url,
            checkpoint_s=given.checkpoint_s,
            session_s=given.session_s,
        )
    except Unreachable as error:
        print(f"worker: {error}", file=sys.stderr)
        sys.exit(UNREACHABLE)
    except (StoreError, SecurityError, KafkaError) as error:
        print(f"worker: {error}", file=sys.stderr)
        sys.exit(FAILED)

    @app.on_partitions_assigned.connect
    async def assigned(*_: object, **__: object) -> None:
        REBALANCES.inc()

    # The folds make no reference cycles; what is long-lived is kept out of the collector's way.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    threading.Thread(target=_follow_parent, daemon=True).start()
    given.data.mkdir(parents=True, exist_ok=True)
    app.answers = Web(app, given.host, given.port)
    level = logging.INFO if given.verbose else logging.WARNING
    faust.Worker(app, loglevel=level, redirect_stdouts=False, quiet=True).execute_from_commandline()


def _follow_parent() -> None:
    """End with the supervisor: one that was killed cannot say so."""
    parent = int(os.environ.get("MARGIN_STREAM_PARENT", "0"))
    while parent:
        time.sleep(0.2)
        if os.getppid() != parent:
            os._exit(70)


if __name__ == "__main__":
    main()
