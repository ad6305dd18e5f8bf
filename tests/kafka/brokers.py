"""Three brokers, two of which must have every record: one is killed while records are produced, five times. Nothing
acknowledged is lost.

``python -m tests.kafka.brokers`` (or ``make simulate-brokers``). Prints a JSON line.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random

from margin_stream.kafka import topics_admin
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.broker_info import describe_brokers
from margin_stream.kafka.client import Client, KafkaError, Unreachable
from margin_stream.simulation.broker import Broker, free_port
from tests.kafka import checker

NODES = (1, 2, 3)


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = Random(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-brokers-"))
    ports = {node: (free_port(), free_port()) for node in NODES}
    voters = {node: controller for node, (_, controller) in ports.items()}
    brokers = {
        node: Broker(folder / str(node), node=node, ports=ports[node], voters=voters, replicas=3) for node in NODES
    }
    report: dict[str, object] = {}
    failures: list[str] = []
    acknowledged: dict[int, bytes | None] = {}
    uncertain = 0
    try:
        starters = [threading.Thread(target=broker.start) for broker in brokers.values()]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
        address = parse_address(f"kafka://{','.join(broker.server for broker in brokers.values())}/three")
        _ready(address.servers)
        with Client(address.servers) as client:
            topics_admin.init(client, address, 2, replicas=3)
        topic = address.topics.inputs
        longest = 0.0
        number = 0
        for _ in range(given.rounds):
            victim = brokers[rng.choice(NODES)]
            threading.Timer(rng.uniform(1, 4), victim.kill).start()
            with Client(address.servers) as client:
                started = time.monotonic()
                while time.monotonic() - started < given.seconds:
                    records: list[bytes | None] = [f'{{"number":{number + n}}}'.encode() for n in range(20)]
                    number += 20
                    before = time.monotonic()
                    try:
                        last = client.send(topic, records)
                        for back, record in enumerate(reversed(records)):
                            acknowledged[last - back] = record
                    except (Unreachable, KafkaError):
                        uncertain += 20
                        time.sleep(0.5)
                    longest = max(longest, time.monotonic() - before)
            victim.stop()
            victim.start()
            time.sleep(3)
        with Client(address.servers) as client:
            journal = [record.value for record in client.read(topic)]
        try:
            checker.check_journal(acknowledged, journal)
        except checker.Broken as error:
            failures.append(str(error))
        doubled = len(journal) - len(set(journal))
        report = {
            "records": len(journal),
            "acknowledged": len(acknowledged),
            "uncertain": uncertain,
            "doubled": doubled,
        }
        report["longest_stall_s"] = round(longest, 2)
    finally:
        for broker in brokers.values():
            broker.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"rounds": given.rounds, "failures": failures, **report}))
    sys.exit(1 if failures or not acknowledged else 0)


def _ready(servers: tuple[str, ...]) -> None:
    """Wait until all three are part of the cluster."""
    for _ in range(100):
        try:
            with Client(servers) as client:
                if describe_brokers(client).size == len(NODES):
                    return
        except (Unreachable, KafkaError):
            pass
        time.sleep(0.3)
    raise SystemExit("the brokers do not find each other")


if __name__ == "__main__":
    main()
