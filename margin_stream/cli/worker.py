"""``margin-stream worker``: one Faust worker, started again whenever it ends."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from margin_stream.cli.error_output import failure, report
from margin_stream.cli.on_kafka import address_of
from margin_stream.cli.output import Common, OnStore, print_note
from margin_stream.cli.usage import UsageError
from margin_stream.settings import child_environment

if TYPE_CHECKING:
    pass

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
STOP_S = 20.0


def worker(
    *,
    data: Annotated[Path, Parameter(help="This worker's own folder: tables, kept between starts.")],
    name: Annotated[
        str | None, Parameter(help="Its name: with the same name it gets its partitions back at once.")
    ] = None,
    http: Annotated[
        str, Parameter(help="HOST:PORT for /livez, /readyz, /metrics and questions; port 0 takes a free one.")
    ] = "127.0.0.1:0",
    advertise: Annotated[
        str | None, Parameter(help="The URL at which other processes reach it; by default that of --http.")
    ] = None,
    checkpoint_s: Annotated[float, Parameter(help="Seconds between checkpoints.")] = 1.0,
    session_s: Annotated[
        float, Parameter(help="Seconds without a heartbeat after which its partitions go to other workers.")
    ] = 6.0,
    verbose: Annotated[bool, Parameter(negative="", help="Print what Faust does.")] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Run one Faust worker; it is started again whenever it ends, and comes back when the broker does.

    SIGTERM stops it cleanly.

    Try:
      margin-stream worker --store kafka://localhost:9092/demo --data ./w1
      margin-stream worker --store kafka://localhost:9092/demo --data ./w2 --http 0.0.0.0:8080
    """
    from margin_stream.host.lock import Lock

    address = address_of(common)
    host, _, port_text = http.rpartition(":")
    if not host or not port_text.isdigit() or int(port_text) > 65535:
        raise UsageError(f"--http {http}: write HOST:PORT", option="--http")
    if not 0.05 <= checkpoint_s <= 3600 or not 1 <= session_s <= 300:
        raise UsageError("--checkpoint-s: from 0.05 to 3600; --session-s: from 1 to 300", option="--checkpoint-s")
    data.mkdir(parents=True, exist_ok=True)
    lock = Lock(data / "lock")
    try:
        port = int(port_text) or _free_port(host)
        url = advertise or f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        label = name or "w-" + hashlib.sha256(f"{socket.gethostname()}:{data.resolve()}".encode()).hexdigest()[:12]
        command = [
            sys.executable,
            "-m",
            "margin_stream.agents",
            "--store",
            address.url,
            "--data",
            str(data.absolute()),
            "--worker",
            label,
        ]
        command += ["--host", host, "--port", str(port), "--url", url]
        command += [
            "--checkpoint-s",
            str(checkpoint_s),
            "--session-s",
            str(session_s),
            *(["--verbose"] if verbose else []),
        ]
        print_note(common, f"worker {label}: {url}")
        return _Supervisor(common, command).run()
    finally:
        lock.release()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class _Supervisor:
    """Keeps one child running until told to stop."""

    def __init__(self, common: Common, command: list[str]) -> None:
        self._common = common
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped: int | None = None
        self._stop_at = 0.0

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopped = number
        self._stop_at = time.monotonic() + STOP_S
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)

    def run(self) -> int:

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        failures = 0
        while self._stopped is None:
            started = time.monotonic()
            # A session of its own: Ctrl-C reaches the child through us alone; a parent that dies takes it along.
            self._child = subprocess.Popen(
                self._command, start_new_session=True, env=child_environment(MARGIN_STREAM_PARENT=str(os.getpid()))
            )
            code = self._wait()
            if self._stopped is not None:
                break
            failures = 0 if time.monotonic() - started > 30 else failures + 1
            pause = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            print_note(self._common, f"the worker ended with {code}; started again in {pause} s")
            deadline = time.monotonic() + pause
            while time.monotonic() < deadline and self._stopped is None:
                time.sleep(0.05)
        return 143 if self._stopped == signal.SIGTERM else 130

    def _wait(self) -> int:
        child = self._child
        assert child is not None
        while True:
            try:
                return child.wait(0.2)
            except subprocess.TimeoutExpired:
                if self._stopped is not None and time.monotonic() > self._stop_at:
                    text = f"the worker did not stop within {STOP_S:.0f} s: killed"
                    report(failure("worker_killed", text), as_json=self._common.json)
                    child.kill()


# ---- ingest ----------------------------------------------------------------------------------------------------------
