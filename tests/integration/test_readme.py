"""The README's examples run as they stand, and so does the reader of docs/journal.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    block = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    script = block.replace("margin-stream ", f"{sys.executable} -m margin_stream.cli ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    python = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, env=environment, check=True
    )
    assert done.stdout.split()[-1] == b"True"
    reader = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "journal.md").read_text(), re.DOTALL)[0]
    plain = subprocess.run(
        [sys.executable, "-I", "-S", "-c", reader, "margin-store"], cwd=tmp_path, capture_output=True, check=True
    )
    command = [sys.executable, "-m", "margin_stream.cli", "verify", "--quick"]
    ours = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment, check=True)
    assert plain.stdout.split()[1] in ours.stdout
