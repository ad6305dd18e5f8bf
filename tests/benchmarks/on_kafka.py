"""Benchmarks on a real broker, one worker, beside Faust the plain way on the same broker: JSON a line. ``make
bench-kafka``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from margin_stream.kafka import topics_admin, worker_client
from margin_stream.kafka.address import KafkaAddress, parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.messages import decode_effects
from margin_stream.kafka.producer import records_of
from margin_stream.schemas.binary import canonical_bytes, encode_payload
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from tests.benchmarks.__main__ import book_day
from tests.days import Day
from tests.kafka.test_plain_faust import counted, start
from tests.kafka.trials import run_trials

RUNS = 3
WARM_UP = 600
"""Samples that do not count: the broker makes its files at the first message of each topic, which stalls it once for
0.2 s."""


@contextmanager
def worker(store: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker."""
    command = [
        sys.executable,
        "-m",
        "margin_stream.cli",
        "worker",
        "--store",
        store,
        "--data",
        str(folder),
        "--name",
        "bench",
    ]
    with Path(f"{folder}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def shards(client: Client, address: KafkaAddress) -> list[dict[str, Any]]:
    """Return what the worker says of its shards, once it does."""
    for _ in range(400):
        found = [row for one in worker_client.workers(client, address) for row in worker_client.ask_shards(one) or []]
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit("no worker answers")


class Bench:
    """One broker for all benchmarks."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self._number = 0

    def store(self, partitions: int = 1) -> KafkaAddress:
        self._number += 1
        address = parse_address(f"kafka://{self.broker.server}/bench{self._number}")
        with Client(address.servers) as client:
            topics_admin.init(client, address, partitions)
        return address

    def backlog(self, records: list[bytes], items: int) -> float:
        """Let a worker fold a backlog; return items a second between the first fold and the last."""
        address = self.store()
        with Client(address.servers) as client:
            for place in range(0, len(records), 500):
                client.send(address.topics.inputs, records[place : place + 500])
            with worker(address.url, self.folder / address.name):
                started = first = 0.0
                while True:
                    rows = {row["topic"]: row for row in shards(client, address) if row["kind"] != "effects"}
                    now = time.perf_counter()
                    if len(rows) < 2:
                        continue
                    intake, accounts = rows[address.topics.inputs], rows[address.topics.accounts]
                    if intake["sequence"] and not started:
                        started, first = now, accounts["sequence"]
                    if intake["offset"] == len(records) - 1 and accounts["sequence"] == intake["sequence"]:
                        return (items - first) / (now - started)
                    time.sleep(0.02)

    def single_records(self) -> dict[str, Any]:
        """One account event a record."""
        lines = book_day(1000, 40_000)
        records = [encode_payload([canonical_bytes(decode_line(line, LATEST))]) for line in lines]
        rates = [self.backlog(records, len(records)) for _ in range(RUNS)]
        plain = [self.plain(len(records)) for _ in range(RUNS)]
        return {
            "what": "records/s, one account event each",
            "target": 10_000,
            **_spread(rates),
            "peer": "Faust, one table write an event",
            "peer_median": round(statistics.median(plain)),
            "ratio": round(statistics.median(rates) / statistics.median(plain), 2),
        }

    def quiet_records(self) -> dict[str, Any]:
        """One tick a record, which concerns nobody."""
        day = Day().opened()
        for n in range(200):
            day.account(f"A{n}")
            day.money(f"A{n}", "5000000")
        rng = Random(1)
        for _ in range(60_000):
            day.tick("BTCUSDT", f"{40000 + rng.randrange(-50, 50)}.00")
        records = [encode_payload([canonical_bytes(decode_line(line, LATEST))]) for line in day.lines]
        rates = [self.backlog(records, len(records)) for _ in range(RUNS)]
        return {"what": "records/s, one tick each, no effects", "target": 10_000, **_spread(rates)}

    def packed_records(self) -> dict[str, Any]:
        """A hundred account events a record."""
        lines = book_day(1000, 120_000)
        encoded = [canonical_bytes(decode_line(line, LATEST)) for line in lines]
        records = [encode_payload(encoded[n : n + 100]) for n in range(0, len(encoded), 100)]
        rates = [self.backlog(records, len(lines)) for _ in range(RUNS)]
        return {"what": "account events/s, 100 a record", "target": 40_000, **_spread(rates)}

    def plain(self, count: int) -> float:
        """The plain counter on a backlog of as many records; events a second."""
        self._number += 1
        name = f"plain{self._number}"
        folder = self.folder / name
        folder.mkdir()
        rng = Random(1)
        with Client([self.broker.server]) as client:
            client.create_topics({f"{name}-in": 1, f"{name}-out": 1}, {}, 1)
            client.send(f"{name}-in", [b"?"])
            for place in range(0, count, 500):
                client.send(f"{name}-in", [f"A-{rng.randrange(1000)}".encode() for _ in range(min(500, count - place))])
            client.send(f"{name}-in", [b"?"])
            process = start(self.broker, name, folder)
            try:
                started = 0.0
                while True:
                    end = client.end(f"{name}-out")
                    if end and not started:
                        started = time.perf_counter()
                    if end >= 2:
                        return count / (time.perf_counter() - started)
                    time.sleep(0.02)
            finally:
                process.kill()
                process.wait()

    def latency(self) -> dict[str, Any]:
        """From sending an input to its effect, 200 records a second, checkpoints on."""
        address = self.store()
        with Client(address.servers) as client, worker(address.url, self.folder / address.name):
            day = Day().opened()
            for n in range(200):
                day.account(f"A{n}")
                day.money(f"A{n}", "5000000")
            client.send(address.topics.inputs, list(records_of(day.lines, LATEST)))
            shards(client, address)
            lines = len(day.lines)
            for n in range(3600):
                day.money(f"A{n % 200}", "1", call=f"A{n % 200}/call/99")
            records = [encode_payload([canonical_bytes(decode_line(line, LATEST))]) for line in day.lines[lines:]]
            times = asyncio.run(_latencies(address, records))
        values = sorted(times)[: len(times)]
        return {
            "what": "ms from sending an input to reading its effect, 200 records/s, checkpoints each second",
            "target": "p50 8, p99 25",
            "p50": round(1000 * values[len(values) // 2], 2),
            "p99": round(1000 * values[len(values) * 99 // 100], 2),
            "highest": round(1000 * values[-1], 2),
            "samples": len(values),
        }

    def recovery(self) -> dict[str, Any]:
        """From kill -9 to the first fold after it, and what of it restoring 100,000 accounts takes."""
        address = self.store()
        gaps, restores = [], []
        with Client(address.servers) as client, worker(address.url, self.folder / address.name) as process:
            day = Day().opened()
            for n in range(100_000):
                day.account(f"A{n}")
            for n in range(100_000):
                day.money(f"A{n}", "5000")
            client.send(address.topics.inputs, list(records_of(day.lines, LATEST)))
            items = len(day.lines)
            _await(
                lambda: all(row["sequence"] >= items for row in shards(client, address) if row["kind"] == "accounts"),
                300,
            )
            time.sleep(4)
            for n in range(RUNS):
                child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
                end = client.end(address.topics.effects, 1)
                killed = time.perf_counter()
                os.kill(child, signal.SIGKILL)
                day.money(f"A{n}", "1", call=f"A{n}/call/9")
                client.send(address.topics.inputs, list(records_of(day.lines[-1:], LATEST)))
                _await(lambda end=end: client.end(address.topics.effects, 1) > end, 120)
                gaps.append(time.perf_counter() - killed)
                restores.append(max(row["restore_s"] for row in shards(client, address)))
                time.sleep(3)
        return {
            "what": "s from kill -9 to the first effect after it, 100,000 accounts, static membership",
            "target": "5, of it 1 restoring",
            **_spread(gaps, 2),
            "restore_s": round(statistics.median(restores), 2),
        }

    def exactness(self) -> dict[str, Any]:
        """Runs that are exact after kill -9: ours and the plain way."""
        _, failures = run_trials([901, 902, 903], ("kill",))
        wrong = 0
        for n in range(3):
            found, truth = counted(self.broker, f"exact{n}", self.folder / f"exact{n}", 3, Random(n))
            wrong += found != truth
        return {"what": "runs exact after kill -9", "ours": f"{3 - len(failures)} of 3", "peer": f"{3 - wrong} of 3"}


async def _latencies(address: KafkaAddress, records: list[bytes]) -> list[float]:
    producer = AIOKafkaProducer(bootstrap_servers=list(address.servers), acks="all", linger_ms=0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(address.servers), group_id=None, fetch_max_wait_ms=50, auto_offset_reset="latest"
    )
    await producer.start()
    await consumer.start()
    place = TopicPartition(address.topics.effects, 1)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    sent: list[float] = []
    seen: list[float] = []

    async def read() -> None:
        while len(seen) < len(records):
            for batch in (await consumer.getmany(place, timeout_ms=100)).values():
                now = time.perf_counter()
                for message in batch:
                    seen.extend(now for _ in decode_effects(message.value).effects)

    reading = asyncio.create_task(read())
    begun = time.perf_counter()
    for n, record in enumerate(records):
        await asyncio.sleep(max(0.0, begun + n / 200 - time.perf_counter()))
        sent.append(time.perf_counter())
        await producer.send(address.topics.inputs, record, partition=0)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(reading, 20)
    await producer.stop()
    await consumer.stop()
    return [after - before for before, after in zip(sent, seen, strict=False)][WARM_UP:]


def _await(holds: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("it takes too long")
        time.sleep(0.01)


def _spread(values: list[float], digits: int = 0) -> dict[str, Any]:
    def cut(value: float) -> float:
        return round(value, digits) if digits else round(value)

    return {
        "median": cut(statistics.median(values)),
        "lowest": cut(min(values)),
        "highest": cut(max(values)),
        "runs": len(values),
    }


NAMES = ("single_records", "quiet_records", "packed_records", "latency", "recovery", "exactness")


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(NAMES))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-bench-"))
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    try:
        with Broker(folder / "broker") as broker:
            bench = Bench(broker, folder)
            for name in given.names:
                row = {"bench": f"kafka_{name}", **getattr(bench, name)()}
                line = json.dumps(row)
                print(line, flush=True)
                (results / f"kafka_{name}.json").write_text(line + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
