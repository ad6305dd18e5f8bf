"""Mounts for tests: a small tmpfs, a read-only view of a folder, a disk that breaks on demand. All need root, which CI
has."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MUST = bool(os.environ.get("CI") or os.environ.get("MARGIN_STREAM_FAULTS")) and os.geteuid() == 0
"""On CI, as root, nothing here is skipped: what is missing there is a failure."""


def lacking(what: str) -> None:
    """Skip a test whose machine lacks something; on CI fail it."""
    if MUST:
        pytest.fail(f"{what} (CI must have it: .ci/faults/fetch)")
    pytest.skip(what)


@contextlib.contextmanager
def mounted(*words: str, target: Path) -> Iterator[Path]:
    """Mount something, and unmount it afterwards."""
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(target)], capture_output=True, check=False, timeout=20)
    if done.returncode:
        lacking(f"mount is refused: {done.stderr.decode().strip()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True, timeout=20)


def small_disk(target: Path, size: str = "8m") -> contextlib.AbstractContextManager[Path]:
    """A disk of 8 MB."""
    return mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", target=target)


def read_only(source: Path, target: Path) -> contextlib.AbstractContextManager[Path]:
    """The same folder, read-only."""
    return mounted("--bind", "-o", "ro", str(source), target=target)


class Breakable:
    """A mounted folder whose disk breaks when it is told."""

    def __init__(self, path: Path, switch: Path) -> None:
        self.path = path
        self._switch = switch
        self.heal()

    def fail(self, **what: Any) -> None:
        """Fail from here on: ``write=errno``, ``fsync=errno``, ``read=errno``, ``change=errno``, ``bad=(name, from,
        to)``."""
        fresh = self._switch.with_suffix(".new")
        fresh.write_text(json.dumps(what))
        fresh.rename(self._switch)

    def heal(self) -> None:
        """Work again."""
        self.fail()


@contextlib.contextmanager
def breakable(folder: Path) -> Iterator[Breakable]:
    """Mount a disk that can be broken (FUSE)."""
    if not Path("/dev/fuse").exists() or ctypes.util.find_library("fuse3") is None:
        lacking("FUSE is not here: /dev/fuse and libfuse3")
    behind, path, switch = folder / "behind", folder / "disk", folder / "switch.json"
    behind.mkdir()
    path.mkdir()
    disk = Breakable(path, switch)
    words = [sys.executable, "-m", "tests.simulation.passthrough", str(behind), str(path), str(switch)]
    server = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        for _ in range(400):
            if os.path.ismount(path):
                break
            if server.poll() is not None:
                assert server.stderr is not None
                lacking(f"FUSE cannot mount: {server.stderr.read().decode(errors='replace').strip()}")
            time.sleep(0.025)
        else:
            lacking("FUSE does not mount within 10 s")
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, timeout=20, capture_output=True)
        server.terminate()
        server.communicate(timeout=20)
