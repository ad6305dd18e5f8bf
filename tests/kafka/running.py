"""Workers and commands as a user runs them, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client

COMMAND = [sys.executable, "-m", "margin_stream.cli"]


def run(*words: str, code: int = 0, timeout: float = 300) -> list[dict[str, Any]]:
    """Run a command with --json and return its rows; its exit code must be the one given."""
    done = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, timeout=timeout, check=False)
    assert done.returncode == code, f"{words}: exit {done.returncode}: {done.stderr.decode()[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def complaint(*words: str, code: int, timeout: float = 120) -> str:
    """Run a command that must fail; return what it says."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, timeout=timeout, check=False)
    assert done.returncode == code, f"{words}: exit {done.returncode}: {done.stderr.decode()[-2000:]}"
    text = done.stderr.decode()
    assert "Traceback" not in text
    return text


@contextmanager
def workers(
    store: str, folder: Path, count: int = 1, *options: str, environment: dict[str, str] | None = None
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run workers; they are stopped cleanly at the end."""
    running = []
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        with (folder / f"w{n}.log").open("ab") as log:
            command = [
                *COMMAND,
                "worker",
                "--store",
                store,
                "--data",
                str(folder / f"w{n}"),
                "--session-s",
                "3",
                *options,
            ]
            env = {**os.environ, **(environment or {})}
            running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=env))
    try:
        address = parse_address(store)
        with Client(address.servers) as client:
            deadline = time.monotonic() + 60
            while len(client.members(address.group)) < count:
                assert time.monotonic() < deadline, (folder / "w0.log").read_text()[-2000:]
                time.sleep(0.1)
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def summary(row: dict[str, Any]) -> tuple[int, str, str]:
    """Return position and digests of what a command printed."""
    position = row.get("last", row.get("sequence"))
    assert isinstance(position, int)
    return position, row["state_digest"], row["effects_digest"]
