"""``python -m tests.mutation [module ...]``: mutate modules of the core and the journal, and list what no test noticed.

A module is named as in ``MODULES``, or by its last part. Results lie in ``mutation-results/``: a JSON file a module,
``survivors.txt``. Each mutant is a process forked from one that has imported the libraries alone, so it costs little
more than the tests that it is shown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.mutation.mutants import ROOT, Mutant, mutants_of, path_of
from tests.mutation.running import answer_of, attempt, collect, in_fork, measure
from tests.mutation.selection import BROAD, LEFT_OUT, MODULES, QUICK_SECONDS, SECONDS, TESTS

RESULTS = ROOT / "mutation-results"
LIBRARIES = (
    "asyncio",
    "coverage",
    "jsonschema",
    "msgspec",
    "numbers",
    "orjson",
    "secrets",
    "tomllib",
    "zoneinfo",
    "margin_stream.schemas.binary",
    "margin_stream.schemas.columns",
    "margin_stream.schemas.effects",
    "margin_stream.schemas.rules_versions",
    "margin_stream.schemas.ndjson",
    "margin_stream.schemas.records",
    "margin_stream.schemas.times",
)
"""Imported once, before forking."""


def answers(jobs: Iterator[tuple[Any, Callable[[], Any]]], workers: int) -> Iterator[tuple[Any, Any, int]]:
    """Run jobs in forked processes, some at a time; yield (key, answer, wait status) as they end."""
    running: dict[int, tuple[Any, int]] = {}
    while True:
        while len(running) < workers:
            job = next(jobs, None)
            if job is None:
                break
            key, work = job
            child, reading = in_fork(work)
            running[reading] = key, child
        if not running:
            return
        ready, _, _ = select.select(list(running), [], [])
        for reading in ready:
            key, child = running.pop(reading)
            yield key, *answer_of(child, reading)


class Baseline:
    """What the tests do on what is written: their time, and the lines that they reach."""

    def __init__(self, modules: Sequence[str], tests: Sequence[str], workers: int, limit: float = SECONDS) -> None:
        self._limit = limit
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[str, set[int]]] = defaultdict(dict)
        """Path -> test -> lines."""
        self.imported: dict[str, list[str]] = defaultdict(list)
        """Path -> tests that import it."""
        paths = [str(path_of(module)) for module in modules]
        identifiers = [name for name in self._collected(tests) if not any(part in name for part in LEFT_OUT)]
        jobs = ((name, lambda name=name: measure(name, paths)) for name in identifiers)
        for name, found, _ in answers(jobs, workers):
            if found is None or not found["passed"]:
                print(f"left out, it does not pass by itself: {name} {found and found['why']}", file=sys.stderr)
                continue
            self.seconds[name] = found["seconds"]
            for path in found["imported"]:
                self.imported[path].append(name)
            for path, lines in found["lines"].items():
                self.lines[path][name] = set(lines)

    @staticmethod
    def _collected(tests: Sequence[str]) -> list[str]:
        found: list[str] = []
        for module in tests:
            names, _ = answer_of(*in_fork(lambda module=module: collect([module])))
            if names is None:
                raise SystemExit(f"{module} cannot be imported")
            found += names
        return found

    def _turn(self, name: str, lively: Counter[str]) -> int:
        if lively[name] or self.seconds[name] < QUICK_SECONDS:
            return 0
        return 1 if name.startswith(BROAD) else 2

    def tests_for(self, mutant: Mutant, lively: Counter[str]) -> list[tuple[str, float]]:
        """Return the tests that reach a mutant: first the quick ones and those that noticed its neighbours, then the
        broad ones, then the rest."""
        path = str(path_of(mutant.module))
        if mutant.function:
            span = set(range(mutant.first, mutant.last + 1))
            names = [name for name, lines in self.lines[path].items() if lines & span]
        else:
            names = list(self.imported[path])
        names.sort(key=lambda name: (self._turn(name, lively), self.seconds[name] / (1 + lively[name]), name))
        found, spent = [], 0.0
        for name in names:
            spent += self.seconds[name]
            if found and spent > self._limit:
                break
            found.append((name, self.seconds[name]))
        return found


def run(
    mutants: Sequence[Mutant], baseline: Baseline, workers: int, say: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Show mutants to the tests; return a row each: what it is, and what became of it."""
    sources = {module: path_of(module).read_text() for module in {mutant.module for mutant in mutants}}
    lively: dict[str, Counter[str]] = defaultdict(Counter)
    whole: Counter[str] = Counter()

    def jobs() -> Iterator[tuple[Mutant, Callable[[], Any]]]:
        for mutant in mutants:
            tests = baseline.tests_for(mutant, lively[mutant.function] or whole)
            source = mutant.apply(sources[mutant.module])
            yield mutant, lambda m=mutant, s=source, t=tests: attempt(m.module, path_of(m.module), s, t)

    rows = []
    for mutant, found, status in answers(jobs(), workers):
        if found is None:
            timeout = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
            found = {"status": "timeout" if timeout else "killed", "why": f"wait status {status}"}
        if found["status"] == "invalid":
            continue
        if "test" in found:
            lively[mutant.function][found["test"]] += 1
            whole[found["test"]] += 1
        source = sources[mutant.module]
        rows.append(
            {
                "module": mutant.module,
                "number": mutant.number,
                "line": mutant.line,
                "function": mutant.function,
                "diff": mutant.diff(source),
                **found,
            }
        )
        if len(rows) % 200 == 0:
            say(f"  {len(rows)} of {len(mutants)}: {dict(Counter(row['status'] for row in rows))}")
    return sorted(rows, key=lambda row: row["number"])


def named(words: Sequence[str]) -> list[str]:
    """Return the modules that words name: all of them without any."""
    found = [
        module
        for module in MODULES
        if not words or any(module == word or module.endswith("." + word) for word in words)
    ]
    found += [word for word in words if "." in word and word not in MODULES and path_of(word).exists()]
    if not found:
        raise SystemExit(f"no module is named so: {' '.join(words)}; there are {', '.join(MODULES)}")
    return found


def _place(module: str) -> tuple[int, str]:
    return (MODULES.index(module) if module in MODULES else len(MODULES)), module


def text_hash(module: str) -> str:
    """Return the hash of a module's text, by which results are known to be of it."""
    return sha256(path_of(module).read_bytes()).hexdigest()


def save(folder: Path, module: str, rows: list[dict[str, Any]], seconds: float) -> None:
    """Write the results of a module, and the list of survivors anew."""
    counts = Counter(row["status"] for row in rows)
    kept = {
        "module": module,
        "sha256": text_hash(module),
        "counts": counts,
        "seconds": round(seconds, 1),
        "mutants": rows,
    }
    (folder / f"{module}.json").write_text(json.dumps(kept, indent=1) + "\n")
    report(folder)


def report(folder: Path) -> list[tuple[str, Counter[str]]]:
    """Write ``survivors.txt`` and ``summary.json`` of the results that there are; return the counts of each module."""
    table, listed = [], []
    for path in sorted(folder.glob("*.*.json"), key=lambda path: _place(path.stem)):
        module = path.stem
        kept = json.loads(path.read_text())
        table.append((module, Counter(kept["counts"])))
        for row in kept["mutants"]:
            if row["status"] == "survived":
                listed.append(
                    f"{path_of(module).relative_to(ROOT)}:{row['line']} #{row['number']} "
                    f"{row['function']}\n{row['diff']}\n"
                )
    (folder / "survivors.txt").write_text("\n".join(listed))
    (folder / "summary.json").write_text(json.dumps(dict(table), indent=1) + "\n")
    return table


def show(table: list[tuple[str, Counter[str]]]) -> None:
    """Print the counts of each module and of all."""
    whole: Counter[str] = Counter()
    print(f"{'module':42} {'mutants':>8} {'killed':>8} {'timeout':>8} {'survived':>9} {'%':>7}")
    for module, counts in [*table, ("all", whole)]:
        if module != "all":
            whole += counts
        total = sum(counts.values())
        noticed = counts["killed"] + counts["timeout"]
        print(
            f"{module:42} {total:8} {counts['killed']:8} {counts['timeout']:8} {counts['survived']:9} "
            f"{100 * noticed / max(total, 1):7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="names of modules, or their last parts; all of them without any")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="processor time of the tests that a mutant is shown to"
    )
    parser.add_argument(
        "--survivors", action="store_true", help="only what survived in the results that there are; the rest stands"
    )
    parser.add_argument("--lines", type=int, nargs="*", help="only what stands on these lines")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="modules of tests, instead of those of the selection")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (mutation-results)")
    parser.add_argument("--show", action="store_true", help="only print the results that there are")
    given = parser.parse_args()
    folder: Path = given.results
    folder.mkdir(exist_ok=True)
    if given.show:
        show(report(folder))
        return
    modules = named(given.modules)
    for library in LIBRARIES:
        importlib.import_module(library)
    started = time.monotonic()
    baseline = Baseline(modules, given.tests, given.workers, given.seconds)
    print(
        f"{len(baseline.seconds)} tests, {sum(baseline.seconds.values()):.1f} s, looked at in "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )
    for module in modules:
        started = time.monotonic()
        mutants = [mutant for mutant in mutants_of(module) if given.lines is None or mutant.line in given.lines]
        kept: list[dict[str, Any]] = []
        path = folder / f"{module}.json"
        if given.survivors and path.exists():
            before = json.loads(path.read_text())
            if before["sha256"] != text_hash(module):
                raise SystemExit(f"{module} was changed since; run it whole")
            again = {row["number"] for row in before["mutants"] if row["status"] == "survived"}
            kept = [row for row in before["mutants"] if row["number"] not in again]
            mutants = [mutant for mutant in mutants if mutant.number in again]
        rows = kept + run(mutants, baseline, given.workers, lambda text: print(text, flush=True))
        save(folder, module, sorted(rows, key=lambda row: row["number"]), time.monotonic() - started)
        print(
            f"{module}: {dict(Counter(row['status'] for row in rows))} in {time.monotonic() - started:.0f} s",
            flush=True,
        )
    show(report(folder))


if __name__ == "__main__":
    main()
