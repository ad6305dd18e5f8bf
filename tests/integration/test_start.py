"""A command starts at once: what it does not need is not loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream.cli.commands import COMMANDS, GROUPS
from margin_stream.cli.main import app, run

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"aiokafka", "faust", "msgspec", "numba", "numpy", "rich", "rocksdict"}
FOLDS = {"margin_stream.core", "margin_stream.host", "margin_stream.replay"}


def loaded(*words: str) -> set[str]:
    """Return the modules and packages that a command loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "margin_stream.cli", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    names = re.findall(r"\| +([\w.]+)$", done.stderr, re.M)
    assert "margin_stream" in names
    return {".".join(name.split(".")[: n + 1]) for name in names for n in range(name.count(".") + 1)}


@pytest.mark.slow_after(1, reason="starts the command for each case")
@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("--version",), ""),
        (("calls", "--help"), "rich"),
        (("kafka", "--help"), "rich msgspec"),
        # The commands are listed with what each says of itself: all are loaded, and nothing of what they do.
        (("--help",), "rich"),
        ((), "rich"),
    ],
    ids=str,
)
def test_nothing_is_loaded_before_it_is_needed(words: tuple[str, ...], more: str) -> None:
    needed = set(more.split())
    found = loaded(*words)
    assert found & HEAVY == needed
    assert ("cyclopts" in found) == (words != ("--version",))
    if "msgspec" not in needed:
        assert not found & FOLDS


def test_every_command_is_found_by_its_name_and_listed_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    listed = app.resolved_commands()
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        command = listed[first].resolved_commands()[second] if second else listed[first]
        assert command.default_command is not None
        assert command.help.partition("\n")[0].endswith((".", ","))
    assert run(["--help"]) == 0
    assert "List margin calls by due time." in capsys.readouterr().out
    assert {name for name in listed if not name.startswith("-")} == {name.partition(" ")[0] for name in COMMANDS}
    assert set(GROUPS) < set(listed)
