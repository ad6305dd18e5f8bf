"""The examples of docs/how-to-add.md, applied to a copy of the tree, with the tests that they come with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def applied(path: Path, diff: str) -> None:
    """Change a file: a line with ``-`` goes, those with ``+`` come in its place, or behind the line of context above."""
    lines = path.read_text().splitlines()
    place = 0
    for row in diff.splitlines():
        sign, text = row[0], row[1:]
        if sign == "+":
            lines.insert(place, text)
            place += 1
        else:
            # The page shows the line as it is in the file, from ``place`` on.
            place = lines.index(text, place)
            if sign == "-":
                del lines[place]
            else:
                place += 1
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.slow(reason="copies the tree and runs tests in it")
def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "built")
    for name in ("margin_stream", "schemas", "replay", "agents", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    page = (ROOT / "docs" / "how-to-add.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```") // 2 == 9
    tests = []
    for kind, name, body in blocks:
        if kind == "diff":
            applied(copy / name, body)
        else:
            assert not (copy / name).exists(), name
            (copy / name).write_text(body)
            tests += [name] if name.startswith("tests/") else []
    assert len(tests) == 3
    environment = {**os.environ, "MARGIN_STREAM_COMPILED": "0", "PYTHONPATH": str(copy)}

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=copy, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("margin_stream.schemas.publish")
    run("ruff", "check", "--no-cache", "margin_stream", "schemas", "tests/unit", "tests/integration")
    run("mypy", "--no-incremental", "margin_stream/core/margin/models/flat_futures.py", "margin_stream/cli/desks.py")
    also = ("unit/test_schemas.py", "golden/test_tiny_day.py", "unit/test_core_intake.py", "mutation/test_harness.py")
    run("pytest", "-q", "-p", "no:cacheprovider", *tests, *(f"tests/{name}" for name in also))
