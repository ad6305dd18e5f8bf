"""Which place may not have what, and why."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.purity import bans
from tests.purity.kinds import Known
from tests.purity.sets import walked_sets

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("schemas", "margin_stream", "replay", "agents")
SHARDS = ("margin_stream/kafka/shard.py", "margin_stream/kafka/shards.py", "margin_stream/kafka/batch_messages.py")
FOLDS = ("margin_stream/core", "margin_stream/views", "schemas", "replay", *SHARDS)

Find = Callable[[ast.Module, Known], list[tuple[int, str]]]


class Rule(NamedTuple):
    """A ban, and where it holds."""

    name: str
    why: str
    places: tuple[str, ...]
    find: Find
    but: tuple[str, ...] = ()
    """Places inside that are free of it; each has its reason beside it."""


RULES = (
    Rule(
        "sets",
        "the order of a set depends on the process: sort it",
        FOLDS,
        walked_sets,
    ),
    Rule(
        "clocks",
        "time and chance come as items of the journal",
        FOLDS,
        lambda tree, _: bans.clocks(tree),
    ),
    Rule(
        "core",
        "the core is pure: no clock, chance, input, output, thread or float",
        ("margin_stream/core",),
        lambda tree, _: bans.impure(tree),
    ),
    Rule(
        "raw iterators",
        "a RocksDB iterator ends without an error at a damaged block: use Table.rows",
        PRODUCT,
        lambda tree, _: bans.raw_iterators(tree),
        ("margin_stream/tables/rocks.py",),  # the wrapper itself
    ),
    Rule(
        "status",
        "the wrapper asks every iterator for its status",
        ("margin_stream/tables/rocks.py",),
        lambda tree, _: bans.unasked_iterators(tree),
    ),
    Rule(
        "environment",
        "settings are read in one place, so that `config show` tells the truth",
        PRODUCT,
        lambda tree, _: bans.environment(tree),
        (
            "margin_stream/settings/effective.py",  # the one place
            "margin_stream/native/__init__.py",  # before settings can be read: which form of the core runs
            "margin_stream/native/build.py",  # the C compiler's surroundings
            "agents/crash.py",  # trials: where a worker is to crash
            "agents/__main__.py",  # a supervisor's word to its worker: whose child it is
        ),
    ),
)


class Fault(NamedTuple):
    """Something that a place may not have."""

    file: str
    line: int
    what: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} ({self.rule.name}: {self.rule.why})"


def within(path: str, places: tuple[str, ...]) -> bool:
    """Whether a path is one of some places, or inside one."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


def sources(root: Path = ROOT) -> dict[str, str]:
    """Return the product's files."""
    paths = sorted(path for place in PRODUCT for path in (root / place).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def faults(files: dict[str, str]) -> list[Fault]:
    """Return what files have that they may not have, by path from the root."""
    trees = {path: ast.parse(text) for path, text in files.items()}
    found = []
    known = Known()
    # Twice: an annotation may use an alias of a file that comes later.
    for _ in range(2):
        for tree in trees.values():
            known.learn(tree)
    for rule in RULES:
        for path, tree in trees.items():
            if within(path, rule.places) and not within(path, rule.but):
                found += [Fault(path, line, what, rule) for line, what in rule.find(tree, known)]
    return sorted(found, key=lambda fault: (fault.file, fault.line, fault.what))
