"""Folds are pure: no clock, chance, float, and no set that is walked. The tree is checked, and the checker by
mutants."""

from __future__ import annotations

import ast
import re

import pytest

from tests.purity.rules import RULES, SHARDS, faults, sources, within

FILES = sources()
CORE = "margin_stream/core/mutant.py"
FOLD = "replay/mutant.py"
SHELL = "margin_stream/host/mutant.py"
ROCKS = "margin_stream/tables/rocks.py"

HEAD = """
from __future__ import annotations
from collections import defaultdict
from typing import NamedTuple

Groups = dict[str, set[str]]
NAMES = {"a", "b"}
PAIRS: dict[int, set[str]] = {}

class Row(NamedTuple):
    tags: frozenset[str]
    names: list[str]

class Base:
    def __init__(self) -> None:
        self.inherited: set[int] = set()

class Thing(Base):
    seen: set[str]

    def __init__(self, given: set[str], rows: list[Row]) -> None:
        super().__init__()
        self.given = given
        self.by_name: Groups = {}
        self.rows = rows
        self._dirty: set[int] = set()

    @property
    def open(self) -> set[str]:
        return set()

    def found(self) -> set[str]:
        return set()

    def in_order(self) -> list[str]:
        return []

def names_of(thing: Thing) -> frozenset[str]:
    return frozenset()
"""

WALKED = {
    "a set written out": "for x in {1, 2}: pass",
    "a call of set": "[x for x in set(y)]",
    "a comprehension": "for x in {n for n in y}: pass",
    "an attribute of self": "class A(Thing):\n    def f(self):\n        for n in self._dirty: pass",
    "an inherited attribute": "class A(Thing):\n    def f(self):\n        return [n for n in self.inherited]",
    "an attribute that an argument was given to": "def f(thing: Thing):\n    for n in thing.given: pass",
    "a declared attribute": "def f(thing: Thing):\n    for n in thing.seen: pass",
    "an attribute of an unknown object": "def f(thing):\n    for n in thing._dirty: pass",
    "a property": "def f(thing: Thing):\n    for n in thing.open: pass",
    "what a method returns": "def f(thing: Thing):\n    for n in thing.found(): pass",
    "what a function returns": "def f(thing: Thing):\n    for n in names_of(thing): pass",
    "an argument": "def f(names: set[str]):\n    for n in names: pass",
    "an optional argument": "def f(names: frozenset[str] | None):\n    for n in names or (): pass",
    "an abstract set": "from collections.abc import Set\ndef f(names: Set[str]):\n    for n in names: pass",
    "a local name": "def f():\n    x = set()\n    x.add(1)\n    for n in x: pass",
    "a name of two branches": "def f(y):\n    if y:\n        x = [1]\n    else:\n        x = {1}\n    for n in x: pass",
    "a name that a loop binds later": "def f(y):\n    x = []\n    for z in y:\n        for n in x: pass\n        x = "
    "{z}",
    "a constant": "for n in NAMES: pass",
    "a set in a dict": "for n in PAIRS[3]: pass",
    "a set in a dict by get": "def f(g: Groups):\n    for n in g.get('a', set()): pass",
    "a set in a dict by alias": "class A(Thing):\n    def f(self):\n        for n in self.by_name['x']: pass",
    "the values of a dict of sets": "def f(g: Groups):\n    for s in g.values():\n        for n in s: pass",
    "the items of a dict of sets": "def f(g: Groups):\n    return [n for k, s in g.items() for n in s]",
    "a set in a list": "def f(g: list[set[int]]):\n    for s in g:\n        for n in s: pass",
    "a set in an enumerated list": "def f(g: list[set[int]]):\n    for i, s in enumerate(g):\n        for n in s: pass",
    "a set in a tuple": "def f(g: tuple[int, set[int]]):\n    a, s = g\n    for n in s: pass",
    "a field of a row of a list": "class A(Thing):\n    def f(self):\n        for row in self.rows:\n            for n "
    "in row.tags: pass",
    "a defaultdict": "def f(y):\n    g = defaultdict(set)\n    g[1].add(2)\n    for n in g[1]: pass",
    "a union": "def f(a: set[int], b):\n    for n in a | b: pass",
    "a difference": "def f(a: set[int], b):\n    return list(a - b)",
    "an intersection of keys": "def f(a: dict[str, int], b):\n    for n in a.keys() & b: pass",
    "the method union": "def f(a: set[int], b):\n    for n in a.union(b): pass",
    "list": "def f(a: set[int]):\n    return list(a)",
    "tuple": "def f(a: set[int]):\n    return tuple(a)",
    "enumerate": "def f(a: set[int]):\n    for i, n in enumerate(a): pass",
    "zip": "def f(a: set[int]):\n    for i, n in zip([1], a): pass",
    "map": "def f(a: set[int]):\n    return list(map(str, a))",
    "next of iter": "def f(a: set[int]):\n    return next(iter(a))",
    "pop": "def f(a: set[int]):\n    return a.pop()",
    "pop of an attribute": "class A(Thing):\n    def f(self):\n        return self._dirty.pop()",
    "join": "def f(a: set[str]):\n    return ','.join(a)",
    "extend": "def f(a: set[int], b):\n    b.extend(a)",
    "added to a list": "def f(a: set[int]):\n    b = []\n    b += a",
    "unpacked into a list": "def f(a: set[int]):\n    return [0, *a]",
    "unpacked into a call": "def f(a: set[int]):\n    return g(*a)",
    "unpacked into names": "def f(a: set[int]):\n    x, y = a",
    "fromkeys": "def f(a: set[int]):\n    return dict.fromkeys(a)",
    "a dict comprehension": "def f(a: set[int]):\n    return {n: 1 for n in a}",
    "a generator": "def f(a: set[int]):\n    return g(n for n in a)",
    "yielded": "def f(a: set[int]):\n    yield from a",
    "sorted by a key": "def f(a: set[str]):\n    return sorted(a, key=len)",
    "the greatest by a key": "def f(a: set[str]):\n    return max(a, key=len)",
    "shown": "def f(a: set[str]):\n    return f'{a}'",
    "written": "def f(a: set[str]):\n    return str(a)",
    "a walrus": "def f(y):\n    if x := set(y):\n        for n in x: pass",
    "either": "def f(a: set[int], b):\n    for n in a if b else (): pass",
    "a nested function": "def f(a: set[int]):\n    def g():\n        return list(a)\n    return g",
    "a match": "def f(a: set[int], b):\n    match b:\n        case 1:\n            return list(a)",
    "a try": "def f(a: set[int]):\n    try:\n        pass\n    finally:\n        list(a)",
    "within sorted, deeper": "def f(g: Groups):\n    return sorted(tuple(s) for s in g.values())",
}

HARMLESS = {
    "sorted": "def f(a: set[int]):\n    for n in sorted(a): pass",
    "a union, sorted": "def f(a: set[int], b):\n    return [n for n in sorted(a | b)]",
    "len, sum, any, all": "def f(a: set[int]):\n    return len(a), sum(a), any(a), all(n > 1 for n in sorted(a))",
    "any over a generator": "def f(a: set[int]):\n    return any(n > 1 for n in a), sum(n for n in a)",
    "sorted over a generator": "def f(a: set[int]):\n    return sorted(n + 1 for n in a)",
    "least and greatest": "def f(a: set[int]):\n    return min(a), max(a)",
    "a set of a set": "def f(a: set[int]):\n    return {n + 1 for n in a} | set(a) | {*a}",
    "membership": "def f(a: set[int], b):\n    return b in a and a <= {1}",
    "changing": "def f(a: set[int], b: set[int]):\n    a.update(b)\n    a |= b\n    a.discard(1)\n    a.clear()",
    "a dict": "def f(a: dict[str, int]):\n    for n in a: pass\n    for k in a.keys(): pass",
    "a dict of sets, by key": "def f(g: Groups):\n    for name in g: pass\n    for n in sorted(g['a']): pass",
    "a list attribute": "def f(row: Row):\n    for n in row.names: pass",
    "a method that returns a list": "def f(thing: Thing):\n    for n in thing.in_order(): pass",
    "a name that was sorted since": "def f(a: set[int]):\n    b = a\n    b = sorted(b)\n    for n in b: pass",
    "a tuple of a set and a number": "def f(g: tuple[int, set[int]]):\n    return list(g)",
    "pop of a dict and of a list": "def f(a: dict[str, int], b: list[int]):\n    return a.pop('x'), b.pop()",
    "numbers": "def f(a: int, b: int):\n    for n in range(a | b): pass",
    "a set as a key of the call": "def f(a: set[int]):\n    return g(a)",
}


@pytest.fixture(scope="module", autouse=True)
def _tree_is_sound() -> None:
    assert faults(FILES) == []


def found(path: str, source: str) -> list[str]:
    """Return the faults of one file, beside nothing else."""
    return [f"{fault.rule.name}: {fault.what}" for fault in faults({path: source})]


@pytest.mark.slow(reason="reads the whole tree, as `make lint` does too")
def test_the_tree_has_no_fault() -> None:
    assert [str(fault) for fault in faults(FILES)] == []
    assert {within(path, ("margin_stream/core",)) for path in FILES} == {True, False}
    assert all(path in FILES for path in SHARDS)
    for rule in RULES:
        assert any(within(path, rule.places) for path in FILES), rule.name
        assert all(any(within(path, (but,)) for path in FILES) for but in rule.but), rule.name


@pytest.mark.slow(reason="reads the whole tree, as `make lint` does too")
@pytest.mark.parametrize("name", WALKED)
def test_a_set_that_is_walked_is_caught_in_every_fold_and_nowhere_else(name: str) -> None:
    source = HEAD + WALKED[name]
    for path in ("margin_stream/core/mutant.py", "schemas/mutant.py", "replay/mutant.py", *SHARDS):
        assert any(fault.startswith("sets:") for fault in found(path, source)), path
    assert found(SHELL, source) == []


@pytest.mark.slow(reason="reads the whole tree, as `make lint` does too")
@pytest.mark.parametrize("name", HARMLESS)
def test_a_set_whose_order_cannot_show_is_let_through(name: str) -> None:
    assert found(FOLD, HEAD + HARMLESS[name]) == []


@pytest.mark.slow(reason="reads the whole tree, as `make lint` does too")
def test_every_sorting_of_a_set_in_the_tree_is_needed() -> None:
    """Take ``sorted`` away from each set of the real folds: each time it is noticed."""
    taken = 0
    for path in (
        "margin_stream/core/accounts/rows.py",
        "margin_stream/core/market/market.py",
        "margin_stream/core/intake/sources.py",
        *SHARDS,
    ):
        for match in re.finditer(r"\bsorted\((\w+(?:\.\w+)*)\.(unfresh|dirty|_changed|changed)\)", FILES[path]):
            mutant = FILES[path][: match.start()] + f"list({match[1]}.{match[2]})" + FILES[path][match.end() :]
            assert ast.parse(mutant)
            caught = [fault for fault in faults({**FILES, path: mutant}) if fault.file == path]
            assert [fault.rule.name for fault in caught] == ["sets"], match[0]
            taken += 1
    assert taken >= 3


@pytest.mark.parametrize(
    "source",
    [
        "import time\nx = time.time()",
        "import time as t\nx = t.monotonic()",
        "from time import perf_counter",
        "from time import time as now",
        "import time\nx = time.strftime('%Y')",
        "import time\nclock = time.time_ns",
        "from datetime import datetime\nx = datetime.now()",
        "from datetime import datetime as d, UTC\nx = d.now(UTC)",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nx = date.today()",
        "from datetime import datetime\nx = datetime.fromtimestamp(5)",
        "import random",
        "from random import Random",
        "from uuid import uuid4",
        "import secrets",
    ],
)
def test_clocks_and_chance_are_caught_in_every_fold(source: str) -> None:
    for path in (CORE, FOLD, "schemas/mutant.py", *SHARDS):
        assert any(fault.startswith("clocks:") for fault in found(path, source)), path
    assert found(SHELL, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(1)",
        "from datetime import UTC, datetime\nx = datetime(1970, 1, 1, tzinfo=UTC)",
        "from datetime import datetime\nx = datetime.strptime('2021', '%Y')",
        "def f(market):\n    return market.time, market.now()",
        "import time\nx = time.strftime('%Y', y)",
    ],
)
def test_time_that_is_given_is_let_through(source: str) -> None:
    assert found(FOLD, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time", "import os", "from math import sqrt", "import math\nx = "
                                                             "math.log(y)", "from decimal import "
                                                                                             "Decimal", "import numpy "
                                                                                                        "as np", "x = "
                                                                                                                 "1.5", "x = 2j", "x = a / b", "x /= 2",
        "x = 10 ** -2", "open('x')", "x = float(y)", "x: float = y", "x = "
                                                                     "round(y)", "x = "
                                                                                     "hash(y)", "import "
                                                                                                    "rocksdict", "print(1)",
    ],
)  # fmt: skip
def test_what_the_core_may_not_have_is_caught(source: str) -> None:
    assert any(fault.startswith("core:") for fault in found(CORE, source))
    assert not any(fault.startswith("core:") for fault in found(FOLD, source))


def test_the_core_may_divide_whole_numbers() -> None:
    assert found(CORE, "import math\nfrom math import isqrt\nx = math.gcd(4, isqrt(9))") == []
    assert (
        found(
            CORE,
            "from math_of_ours import floor\nx = a // b\ny = 2 ** 10\nz = 'float'\ndef f(at: int) -> int: return at",
        )
        == []
    )


@pytest.mark.parametrize(
    "source",
    [
        "import rocksdict",
        "from rocksdict import Rdict",
        "def f(table):\n    for row in table._db.items(): pass",
        "class A:\n    def f(self):\n        return self.table._db.iter()",
        "def f(it):\n    it.seek_to_first()",
    ],
)
def test_a_raw_iterator_is_caught_outside_the_wrapper(source: str) -> None:
    for path in (SHELL, FOLD, "agents/mutant.py", CORE):
        assert any(fault.startswith("raw iterators:") for fault in found(path, source)), path
    assert not any(fault.startswith("raw iterators:") for fault in found(ROCKS, source))


def test_the_wrapper_must_ask_for_the_status() -> None:
    source = FILES[ROCKS]
    assert found(ROCKS, source) == []
    mutant = source.replace("iterators[reading].status()", "pass")
    assert mutant != source
    assert [fault.partition(":")[0] for fault in found(ROCKS, mutant)] == ["status"]


@pytest.mark.parametrize(
    "source", ["import os\nx = os.environ['X']", "import os\nx = os.getenv('X')", "from os import environ"]
)
def test_the_environment_is_read_in_one_place(source: str) -> None:
    for path in (SHELL, "margin_stream/cli/mutant.py", "margin_stream/kafka/mutant.py", "agents/mutant.py"):
        assert any(fault.startswith("environment:") for fault in found(path, source)), path
    assert found("margin_stream/settings/effective.py", source) == []
