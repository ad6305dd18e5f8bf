"""The same bytes on every supported Python that is on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.days import random_day
from tests.folding import fold

ROOT = Path(__file__).resolve().parents[2]
LINES = random_day(8, accounts=6, steps=120)


def interpreter(version: str) -> str | None:
    """Return a Python of a version: from the path, or from pyenv beside this one."""
    found = [shutil.which(f"python{version}")]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += sorted(str(path) for path in versions.glob(f"{version}.*/bin/python{version}"))
    for name in found:
        if name and subprocess.run([name, "-c", "import sys"], capture_output=True, check=False).returncode == 0:
            return name
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_gives_the_same_digests(tmp_path: Path, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    uv = [sys.executable, "-m", "uv"]
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "venv"), "PYTHONPATH": str(ROOT)}
    subprocess.run([*uv, "venv", "--quiet", "--python", python, str(tmp_path / "venv")], check=True, env=environment)
    requirements = [
        *uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(tmp_path / "venv" / "bin" / "python"),
        "--require-hashes",
        "-r",
        str(ROOT / "requirements.lock"),
    ]
    subprocess.run(requirements, check=True, env=environment)
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES))
    command = [
        str(tmp_path / "venv" / "bin" / "python"),
        "-m",
        "margin_stream.cli",
        "ingest",
        str(day),
        "--store",
        str(tmp_path / "s"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    row = json.loads(done.stdout)
    assert (row["last"], row["state_digest"], row["effects_digest"]) == fold(LINES)[0]
