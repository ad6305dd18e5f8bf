"""A soak: millions of inputs at a steady rate while a writer (on Kafka a worker and the broker, in turn) is killed every
two minutes. Memory must stay flat, the lag bounded, and nothing be lost.

``python -m tests.simulation.soak folder|kafka --minutes 30 --inputs 2500000``. Prints a JSON object: samples of memory
and lag, and the digests beside those of a fold that nothing happened to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import FIRST, INSTRUMENTS, Day, text

ACCOUNTS = 300
TICKS_A_CLOCK = 40
GROUP = 500
COMMAND = [sys.executable, "-m", "margin_stream.cli"]


def inputs(seed: int, count: int) -> Iterator[bytes]:
    """Yield a day without end: prices walk, accounts trade and are paid, a clock now and then."""
    rng, day = Random(seed), Day().opened()
    for n in range(ACCOUNTS):
        day.account(f"S{n:04d}")
        day.money(f"S{n:04d}", "50000.00")
        day.trade(f"S{n:04d}", "BTCUSDT", f"{rng.randrange(1, 30) / 10:.4f}", "40000.00")
    prices = dict(FIRST)
    given = 0
    while True:
        for line in day.lines:
            yield line
            given += 1
            if given == count:
                return
        day.lines.clear()
        for name in rng.choices(list(INSTRUMENTS), k=TICKS_A_CLOCK):
            first = FIRST[name]
            moved = prices[name] + rng.randrange(-first // 1000, first // 1000 + 1)
            prices[name] = min(max(moved, first // 2), first * 2)
            day.tick(name, text(prices[name], INSTRUMENTS[name][2]))
        account = f"S{rng.randrange(ACCOUNTS):04d}"
        if rng.random() < 0.3:
            day.money(account, f"{rng.randrange(-2000, 4000)}.00")
        if rng.random() < 0.3:
            day.trade(account, "ETHUSDT", f"{rng.randrange(-20, 20) / 10:.4f}", text(prices["ETHUSDT"], 2))
        day.clock(rng.randrange(1, 4))


def resident_mb(process: int) -> int:
    """Return the memory of a process and of its children, in MB; 0 where it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        total = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            total += resident_mb(int(child))
    return total


class Folder:
    """``ingest -`` into a folder; after a kill all is sent again from what was durable."""

    def __init__(self, root: Path) -> None:
        self.store = str(root / "s")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "ingest", "-", "--store", self.store, "--partitions", "4", "--quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def send(self, lines: list[bytes]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n".join(lines) + b"\n")
        self.process.stdin.flush()

    def kill(self, number: int) -> str:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.start()
        return "writer"

    def measure(self) -> dict[str, int]:
        assert self.process is not None
        return {"memory_mb": resident_mb(self.process.pid)}

    def end(self) -> dict[str, str]:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        return self.digest()

    def digest(self) -> dict[str, str]:
        done = subprocess.run([*COMMAND, "digest", "--store", self.store, "--json"], capture_output=True, check=True)
        row: dict[str, str] = json.loads(done.stdout)
        return row


class Kafka:
    """A broker and a worker; the producer is this process."""

    def __init__(self, root: Path) -> None:
        from margin_stream.simulation.broker import Broker

        self.root = root
        self.broker = Broker(root / "broker")
        self.broker.start()
        self.store = f"kafka://{self.broker.server}/soak"
        subprocess.run(
            [*COMMAND, "kafka", "init", "--store", self.store, "--partitions", "4", "--quiet"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.root / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [*COMMAND, "worker", "--store", self.store, "--data", str(self.root / "w"), "--session-s", "3"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, lines: list[bytes]) -> None:
        from margin_stream.kafka.address import parse_address
        from margin_stream.kafka.client import Client, KafkaError, Unreachable

        address = parse_address(self.store)
        for _ in range(60):
            try:
                with Client(address.servers) as client:
                    client.send(address.topics.inputs, [b"\n".join(lines)])
                return
            except (Unreachable, KafkaError):
                time.sleep(1)
        raise SystemExit("the broker does not come back")

    def kill(self, number: int) -> str:
        assert self.worker is not None
        if number % 2:
            self.broker.kill()
            self.broker.start()
            return "broker"
        for child in Path(f"/proc/{self.worker.pid}/task/{self.worker.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        return "worker"

    def measure(self) -> dict[str, int]:
        assert self.worker is not None
        found = {"memory_mb": resident_mb(self.worker.pid)}
        done = subprocess.run(
            [*COMMAND, "kafka", "status", "--store", self.store, "--json"], capture_output=True, check=False, timeout=60
        )
        if done.returncode == 0:
            row = json.loads(done.stdout)
            found["lag_records"] = max((shard["lag"] or 0 for shard in row["shards"]), default=-1)
            found["shards"] = len(row["shards"])
        return found

    def end(self) -> dict[str, str]:
        assert self.worker is not None
        # Nothing is sent: it waits until all is folded, and prints the digests.
        (self.root / "nothing").touch()
        command = [*COMMAND, "ingest", str(self.root / "nothing"), "--store", self.store, "--json"]
        done = subprocess.run(command, capture_output=True, check=True)
        self.worker.terminate()
        self.worker.wait()
        self.broker.stop()
        row: dict[str, str] = json.loads(done.stdout)
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", choices=("folder", "kafka"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--inputs", type=int, default=2_500_000)
    parser.add_argument("--kill-s", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    rate = given.inputs / (given.minutes * 60)
    samples: list[dict[str, object]] = []
    reference = StoreFold(4, rules_version=LATEST)
    try:
        host = Folder(root) if given.host == "folder" else Kafka(root)
        host.start()
        started = time.monotonic()
        next_kill, kills, sent = given.kill_s, 0, 0
        group: list[bytes] = []
        # After a kill of the writer nobody knows what it has: the last groups are sent again, from before its pipe.
        recent: list[list[bytes]] = []

        def flush() -> None:
            nonlocal sent
            if not group:
                return
            try:
                host.send(group)
            except BrokenPipeError:
                host.start()
            recent.append(list(group))
            del recent[:-400]
            sent += len(group)
            group.clear()

        for line in inputs(given.seed, given.inputs):
            reference.admission.line(line)
            group.append(line)
            if len(group) < GROUP:
                continue
            flush()
            reference.fold()
            now = time.monotonic() - started
            if now > next_kill:
                sample = {"minute": round(now / 60, 1), "sent": sent, **host.measure()}
                killed = host.kill(kills)
                samples.append(sample | {"killed": killed})
                print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
                kills, next_kill = kills + 1, next_kill + given.kill_s
                if killed == "writer":
                    for again in recent:
                        host.send(again)
            ahead = sent / rate - (time.monotonic() - started)
            if ahead > 0:
                time.sleep(ahead)
        flush()
        reference.fold()
        last = {"minute": round((time.monotonic() - started) / 60, 1), "sent": sent, **host.measure()}
        digests = host.end()
        expected = reference.digests()
        same = (digests["state_digest"], digests["effects_digest"]) == (expected.state, expected.effects)
        row = {"host": given.host, "inputs": sent, "kills": kills, "equal": same, "samples": [*samples, last]}
        print(json.dumps(row))
        sys.exit(0 if same else 1)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
