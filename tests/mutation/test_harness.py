"""The harness of mutation testing works: a mutant that is known to be bad is killed, one that is known to survive is
reported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutants import ROOT, mutants_of, path_of
from tests.mutation.selection import BROAD, CORE, FIRST, MODULES, TESTS


def mutate(folder: Path, module: str, *options: str) -> dict[str, str]:
    """Run mutants as ``make mutation`` does; return what became of each, by the line that it puts in place."""
    command = [sys.executable, "-m", "tests.mutation", module, "--results", str(folder), *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    kept = json.loads((folder / f"{module}.json").read_text())
    return {row["diff"].rpartition("\n+")[2].strip(): row["status"] for row in kept["mutants"]}


@pytest.mark.slow(reason="runs the tests of many mutants")
def test_what_is_tested_is_killed_and_what_is_not_survives(tmp_path: Path) -> None:
    module = "tests.mutation.example"
    assert mutate(tmp_path, module, "--tests", "tests.mutation.example_tests") == {
        "if amount <= minimum:": "survived",
        "return amount - 0": "survived",
        "return amount + 1": "killed",
        "done = None": "killed",
        "done = 1": "timeout",
        "while done <= turns:": "killed",
        "done -= 1": "timeout",
        "done += 2": "killed",
        "return 8": "survived",
    }
    listed = (tmp_path / "survivors.txt").read_text()
    assert "tests/mutation/example.py:8" in listed
    assert "+    if amount <= minimum:" in listed
    assert "return amount + 1" not in listed
    assert json.loads((tmp_path / "summary.json").read_text()) == {module: {"survived": 4, "killed": 4, "timeout": 2}}


@pytest.mark.slow(reason="runs the tests of many mutants")
@pytest.mark.plain_core
def test_faults_in_the_core_are_killed(tmp_path: Path) -> None:
    module = "margin_stream.core.calls.call"
    line = next(
        n for n, text in enumerate(path_of(module).read_text().splitlines(), 1) if "return self.outcome <= " in text
    )
    found = mutate(
        tmp_path, module, "--lines", str(line), "--tests", "tests.golden.test_tiny_day", "tests.unit.test_boundaries"
    )
    assert found == {"return self.outcome < Outcome.PARTIALLY_MET": "killed"}


def test_every_module_of_the_core_and_the_journal_is_mutated() -> None:
    files = {path for folder in ("core", "journal") for path in (ROOT / "margin_stream" / folder).rglob("*.py")}
    assert {path_of(module) for module in MODULES} == {path for path in files if path.name != "__init__.py"}
    assert all(path_of(module).exists() for module in (*TESTS, *BROAD))
    assert set(FIRST) <= set(CORE)


def test_a_mutant_is_the_module_with_one_piece_of_text_replaced() -> None:
    module = "margin_stream.core.accounts.postings"
    source = path_of(module).read_text()
    mutants = mutants_of(module)
    assert len({mutant.apply(source) for mutant in mutants}) == len(mutants)
    assert all(mutant.diff(source).count("\n") <= 8 for mutant in mutants)
    assert {"book_spot", "book_perpetual", "sweep"} <= {mutant.function for mutant in mutants}
