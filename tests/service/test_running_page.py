"""The examples of docs/running.md, and the client, as they stand; the unit is one that systemd reads."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream.simulation.broker import free_port
from tests.integration.test_errors import command
from tests.service.running import running, token

ROOT = Path(__file__).parents[2]


@pytest.mark.slow(reason="runs a service")
def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    (tmp_path / "day.ndjson").write_bytes(
        command("simulate", "--scenario", "crash", "--accounts", "20", "--seed", "1")[2]
    )
    block = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/running.md").read_text(), re.DOTALL)[0].replace(
        "8787", str(free_port())
    )
    first, rest = block.split("\n", 1)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    wait = "for i in $(seq 100); do [ -f live/manifest.json ] && break; sleep 0.1; done; sleep 0.5\n"
    script = f"{first}\nserved=$!\ntrap 'kill $served; wait $served || true' EXIT\n{wait}{rest}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "sent.json").read_text())["refused"] == 0
    assert '"short":true' in done.stdout
    assert "event: margin_call_issued" in done.stdout
    assert '"writer": true' in done.stdout


@pytest.mark.slow(reason="runs a service")
def test_the_client_sends_and_asks(tmp_path: Path) -> None:
    (tmp_path / "day.ndjson").write_bytes(
        command("simulate", "--scenario", "crash", "--accounts", "20", "--seed", "1")[2]
    )
    with running(tmp_path / "s") as service:
        operations = token(tmp_path / "s", "operations")
        words = [
            sys.executable,
            "-I",
            str(ROOT / "examples/service/client.py"),
            f"http://127.0.0.1:{service.port}",
            operations,
        ]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "inputs are durable" in done.stdout
        assert re.search(r"A-\d{6}/call/\d+ [\d.]+ USDT due 2021-", done.stdout)
        assert service.stop(signal.SIGTERM) == 143


def test_the_unit_runs_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "examples/service/margin-stream.service")
    words = unit["Service"]["ExecStart"].split()
    assert words[0].endswith("/margin-stream")
    assert words[1] == "run"
    assert unit["Service"]["SuccessExitStatus"] == "143"
