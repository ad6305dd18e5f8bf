"""The README's examples run as they stand, and so does the reader of docs/journal.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.picture import PICTURE, drawn, lines_of, text_of

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str, page: str = "README.md") -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for named, block in fences if named == language]


def shell(script: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "COLUMNS": "80"}
    words = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(words, cwd=folder, capture_output=True, env=environment, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow(reason="runs the whole tour")
def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    first, second = blocks("sh")
    demo, *others = first.strip().splitlines()
    assert demo.startswith("make demo ")  # Tested where a fresh clone is: it makes the environment that runs this.
    assert len(others) == 4
    shown = shell("\n".join(others), tmp_path)
    assert re.search(r"A-\d{6}/call/\d+", shown.split("clock")[-1])
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "equal" in shell(second, tmp_path)
    (python,) = blocks("python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, env=environment, check=True
    )
    assert done.stdout.split()[-1] == b"True"
    own = next(block for block in blocks("") if "import accounts" in block)
    assert own.count("\n") == 5
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "examples").symlink_to(ROOT / "examples")
    assert re.search(r"C-\d{4}/call/\d+", shell(own, tmp_path / "own"))
    reader = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "journal.md").read_text(), re.DOTALL)[0]
    plain = subprocess.run(
        [sys.executable, "-I", "-S", "-c", reader, "margin-store"], cwd=tmp_path, capture_output=True, check=True
    )
    command = [sys.executable, "-m", "margin_stream.cli", "verify", "--quick"]
    ours = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment, check=True)
    assert plain.stdout.split()[1] in ours.stdout


@pytest.mark.slow(reason="runs the demo")
def test_the_picture_shows_what_the_demo_prints(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "margin_stream.cli", "demo"]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert PICTURE.read_text() == drawn(lines_of(done.stdout))
    assert [line.strip() for line in text_of(PICTURE.read_text())] == [
        line.strip() for line in lines_of(done.stdout) if line
    ]


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
