"""SIGINT and SIGTERM: every command ends at once wherever it waits, and a slow feed is durable before it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from margin_stream.host.embedded import Host
from tests.days import random_day

COMMAND = [sys.executable, "-m", "margin_stream.cli"]
LINES = random_day(9, accounts=4, steps=100)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def deaf() -> Iterator[str]:
    """A broker that takes connections and answers nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"kafka://127.0.0.1:{listening.getsockname()[1]}/x"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("signals") / "store"
    with Host(folder) as host:
        host.ingest(LINES)
    return str(folder)


def ended(words: list[str], number: signal.Signals, tmp_path: Path) -> tuple[int, float, str]:
    """Run a command that waits, send it a signal; return code, seconds until it ended, and what it printed."""
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen([*COMMAND, *words], stdin=subprocess.PIPE, stdout=file, stderr=file)
    time.sleep(1.2)
    assert process.poll() is None, out.read_text()
    started = time.monotonic()
    process.send_signal(number)
    try:
        process.wait(20)
    finally:
        process.kill()
    return process.returncode, time.monotonic() - started, out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "words",
    [
        ["digest", "--store", "KAFKA"],
        ["kafka", "status", "--store", "KAFKA"],
        ["kafka", "init", "--store", "KAFKA"],
        ["ingest", "-", "--store", "KAFKA"],
        ["events", "--follow", "--store", "FOLDER"],
        ["ingest", "-", "--store", "NEW"],
        ["margin", "-"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_ends_wherever_it_waits(
    words: list[str], number: signal.Signals, deaf: str, store: str, tmp_path: Path
) -> None:
    places = {"KAFKA": deaf, "FOLDER": store, "NEW": str(tmp_path / "new")}
    code, seconds, said = ended([places.get(word, word) for word in words], number, tmp_path)
    assert code == CODES[number]
    assert seconds < 2
    assert "Traceback" not in said


@pytest.mark.slow
def test_arithmetic_of_the_compiled_core_is_not_interrupted(store: str, tmp_path: Path) -> None:
    code = """
import os, signal, threading, time
from margin_stream.cli.signals import leave_at_once
leave_at_once()
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
value = 3**20_000
while True:
    value * value
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_files_made_for_itself_are_removed(tmp_path: Path) -> None:
    code = """
import os, signal, tempfile, time
from margin_stream.cli.signals import leave_at_once
leave_at_once()
kept = tempfile.TemporaryDirectory(dir=os.environ["PLACE"])
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
    environment = {"PLACE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 143, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir()


def last(store: Path) -> int:
    done = subprocess.run([*COMMAND, "digest", "--store", str(store), "--json"], capture_output=True, check=False)
    return int(json.loads(done.stdout)["last"]) if done.returncode == 0 else 0


@pytest.mark.slow
def test_a_slow_feed_is_durable_at_once_and_half_a_line_is_no_input(tmp_path: Path) -> None:
    store = tmp_path / "live"
    process = subprocess.Popen(
        [*COMMAND, "ingest", "-", "--store", str(store), "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"\n".join(LINES[:30]) + b"\n" + LINES[30][:20])
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while last(store) < 30 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert last(store) == 30
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert json.loads(out)["refused"] == 0
    assert json.loads(out)["last"] == 30
