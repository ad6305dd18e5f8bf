"""A store's folder that comes from a stranger: links, pipes and devices are named and never opened, by any command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from margin_stream.host.embedded import Host
from tests.days import random_day

COMMANDS = (
    ("verify",),
    ("replay",),
    ("state", "--account", "A0"),
    ("calls",),
    ("digest",),
    ("repair",),
    ("doctor",),
    ("ingest", "-"),
    ("quarantine", "list"),
)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(1 << 40)


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere", target_is_directory=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "store"
    with Host(folder) as host:
        host.ingest(random_day(3, accounts=3, steps=40))
    return folder


@pytest.mark.parametrize(
    ("where", "made"),
    [
        ("manifest.json", device),
        ("manifest.json", pipe),
        ("manifest.json", large),
        ("journal/highwater", device),
        ("journal/highwater", large),
        ("journal/00000000000000000001.seg", pipe),
        ("journal/00000000000000000001.seg", large),
        ("effects/p0000/highwater", pipe),
        ("tables/p0000/rocksdict-config.json", pipe),
        ("tables/p0000/000099.sst", pipe),
        ("tables/p0000/seal.json", device),
        ("lock", pipe),
        ("tables/p0000", linked),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_it_is_named_and_not_opened(where: str, made: Callable[[Path], None], sound: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sound, store)
    made(store / where)
    # One command is tried by each case, all of them by the first.
    tried = COMMANDS if where == "manifest.json" and made is device else COMMANDS[: 1 + len(where) % 3]
    for words in tried:
        done = subprocess.run(
            [sys.executable, "-m", "margin_stream.cli", *words, "--store", str(store)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stderr + done.stdout
        # The doctor lists what it finds.
        assert done.returncode == (1 if words == ("doctor",) else 4), (words, said)
        assert "no file of a store" in said
        assert where.split("/")[-1] in said
        assert "Traceback" not in said


def test_a_link_to_a_store_is_followed(sound: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sound, target_is_directory=True)
    command = [sys.executable, "-m", "margin_stream.cli", "verify", "--store", str(link)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
