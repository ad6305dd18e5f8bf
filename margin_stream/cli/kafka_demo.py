"""``make kafka-demo``: a broker and two workers on loopback, the crash day, a worker and the broker killed, and the
bytes of the embedded host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from margin_stream.cli.demo import Steps
from margin_stream.cli.error_output import diagnose, report
from margin_stream.cli.output import Common
from margin_stream.host.embedded import Host
from margin_stream.kafka import topics_admin, worker_client
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import DigestReader, await_folded, produce, records_of
from margin_stream.schemas.ndjson import encode_line
from margin_stream.simulation.broker import Broker, BrokerError
from margin_stream.simulation.scenarios import MIXED_PROFILES, simulate

ACCOUNTS = 1000
PARTITIONS = 4


class Workers:
    """Worker processes of the demo."""

    def __init__(self, store: str, folder: Path) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        for n in (1, 2):
            command = [
                sys.executable,
                "-m",
                "margin_stream.cli",
                "worker",
                "--store",
                store,
                "--data",
                str(folder / f"worker-{n}"),
            ]
            with (folder / f"worker-{n}.log").open("wb") as log:
                self._running.append(
                    subprocess.Popen(
                        [*command, "--name", f"worker-{n}"], stdout=log, stderr=log, start_new_session=True
                    )
                )

    def kill_one(self) -> None:
        """kill -9 the process that does the work of the second; its supervisor stays."""
        pid = self._running[1].pid
        for _ in range(100):
            with contextlib.suppress(OSError, IndexError, ProcessLookupError):
                child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
                os.kill(child, signal.SIGKILL)
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all of them."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> int:
    """Run the demo; everything that was started is stopped, whatever happens."""
    steps = Steps(Common())
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-kafka-demo-"))
    broker = Broker(folder / "broker")
    workers: Workers | None = None
    try:
        broker.start()
        steps.done("broker", f"Apache Kafka runs at {broker.server}")
        address = parse_address(f"kafka://{broker.server}/demo")
        with Client(address.servers) as client:
            manifest = topics_admin.init(client, address, PARTITIONS)
        workers = Workers(address.url, folder)
        lines = [encode_line(event).rstrip() for event in simulate("crash", ACCOUNTS, 1, MIXED_PROFILES)]
        steps.done(
            "workers",
            f"two workers share {PARTITIONS} partitions; a simulated crash day: {len(lines):,} inputs, {ACCOUNTS:,} "
            f"accounts, "
            "one in five in perpetuals",
        )

        with Host(folder / "embedded") as host:
            host.ingest(lines)
            expected = host.checkpoint()
        steps.done(
            "embedded", f"the embedded host has: state {expected.state[:16]}..., effects {expected.effects[:16]}..."
        )

        with Client(address.servers) as client:
            produce(client, address, records_of(lines[: len(lines) // 2], manifest.rules_version))
        time.sleep(1)
        workers.kill_one()
        steps.done("worker_killed", "half of the day is sent; a working worker killed with -9")
        time.sleep(1)
        broker.kill()
        time.sleep(1)
        broker.start()
        steps.done("broker_killed", "the broker killed with -9, and started again")
        with Client(address.servers) as client:
            produce(client, address, records_of(lines[len(lines) // 3 :], manifest.rules_version))
            end = client.end(address.topics.inputs)
            steps.done("sent", "the rest is sent, a sixth of the day a second time")
            reader = DigestReader(client, address, manifest)
            reported = await_folded(reader, end - 1, lambda: True)
            assert reported is not None
            same = reported.digests == expected
            steps.done(
                "equal",
                f"the workers report: {reported.digests.sequence:,} items, {reported.counts.duplicate:,} duplicates dropped, "
                f"{reported.effects:,} effects",
            )
            print(f"   state   {reported.digests.state}\n   effects {reported.digests.effects}")
            print(f"   {'EQUAL to the embedded host, byte for byte' if same else f'DIFFERENT: {expected}'}\n")
            rows = [
                row
                for worker in worker_client.workers(client, address)
                for row in worker_client.ask_shards(worker) or []
            ]
            restores, trimmed = (sum(row[key] for row in rows) for key in ("restores", "trimmed"))
        steps.done(
            "shards",
            f"{len(rows)} shards: restored {restores} times since the last start of their worker, {trimmed:,} "
            f"items trimmed",
        )
        return 0 if same else 3
    except BrokerError as error:
        return report(diagnose(error), as_json=False)
    finally:
        if workers is not None:
            workers.stop()
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
