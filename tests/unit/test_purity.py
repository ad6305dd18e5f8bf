"""The core is pure: no clock, chance, I/O, float, thread or iteration over a set. Checked over its syntax."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import margin_stream.core

CORE = sorted(Path(margin_stream.core.__file__).parent.rglob("*.py"))
BANNED_MODULES = {
    "asyncio", "concurrent", "datetime", "faust", "io", "multiprocessing", "os", "pathlib", "random", "rocksdict", "secrets", "socket",
    "subprocess", "sys", "threading", "time", "uuid", "numpy", "decimal", "fractions", "logging",
}  # fmt: skip
BANNED_CALLS = {"open", "print", "input", "eval", "exec", "id", "hash", "float", "globals", "__import__"}


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            found.append(f"{node.lineno}: the float {node.value}")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found.append(f"{node.lineno}: a true division")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            found.append(f"{node.lineno}: {node.func.id}()")
        elif isinstance(node, (ast.For, ast.comprehension)):
            over = node.iter
            called = over.func.id if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) else ""
            if isinstance(over, (ast.Set, ast.SetComp)) or called in ("set", "frozenset"):
                found.append(f"{getattr(over, 'lineno', 0)}: iteration over a set")
            if isinstance(over, ast.Attribute) and over.attr in ("unfresh", "_dirty", "_changed", "changed"):
                found.append(f"{over.lineno}: iteration over the set {over.attr}")
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_is_pure(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import Random",
        "x = 1.5",
        "x = a / b",
        "open('x')",
        "for x in {1, 2}: pass",
        "[x for x in set(y)]",
        "for n in self.unfresh: pass",
    ],
)
def test_the_check_catches_what_it_bans(source: str) -> None:
    assert faults(source)
