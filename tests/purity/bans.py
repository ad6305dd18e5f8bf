"""Modules, calls and values that a place may not have: clocks, chance, floats, the environment, raw iterators of
RocksDB."""

from __future__ import annotations

import ast

from tests.purity.kinds import name_of

CORE_MODULES = {
    "asyncio", "concurrent", "datetime", "faust", "io", "multiprocessing", "os", "pathlib", "random", "rocksdict", "secrets", "socket",
    "subprocess", "sys", "threading", "time", "uuid", "numpy", "decimal", "fractions", "logging", "cmath", "statistics",
}  # fmt: skip
WHOLE_MATH = {"gcd", "lcm", "isqrt", "comb", "perm", "factorial"}
"""What of ``math`` is exact."""
CORE_CALLS = {
    "open",
    "print",
    "input",
    "eval",
    "exec",
    "id",
    "hash",
    "float",
    "globals",
    "__import__",
    "round",
    "complex",
}
CHANCE = {"random", "secrets", "uuid"}
CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "localtime", "gmtime", "ctime", "strftime"},
    "datetime": {"now", "utcnow", "today", "fromtimestamp"},
    "date": {"today", "fromtimestamp"},
}  # fmt: skip
WITH_ARGUMENT_NO_CLOCK = {"localtime": 1, "gmtime": 1, "ctime": 1, "strftime": 2, "fromtimestamp": 99}
"""Functions that read the clock only when called with fewer arguments (``fromtimestamp``: it reads the machine's
zone)."""
RAW_ITERATION = {"seek_to_first", "seek_to_last", "seek_for_prev"}


def imports_of(tree: ast.Module) -> list[tuple[int, str, str]]:
    """Return every import: line, module, and the name that is taken from it (empty for the module itself)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [(node.lineno, node.module or "", alias.name) for alias in node.names]
    return found


def imported(tree: ast.Module, modules: set[str]) -> list[tuple[int, str]]:
    """Return imports of modules that may not be there."""
    return sorted(
        {(line, f"import of {module}") for line, module, _ in imports_of(tree) if module.split(".")[0] in modules}
    )


def impure(tree: ast.Module) -> list[tuple[int, str]]:
    """Return floats, true divisions and calls that have no place in the core."""
    found: list[tuple[int, str]] = imported(tree, CORE_MODULES)
    found += [
        (line, f"math.{name}")
        for line, module, name in imports_of(tree)
        if module == "math" and name and name not in WHOLE_MATH
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex() as value):
                found.append((node.lineno, f"the float {value}"))
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                found.append((node.lineno, "a true division"))
            case ast.BinOp(op=ast.Pow(), right=ast.UnaryOp(op=ast.USub())):
                found.append((node.lineno, "a negative power"))
            case ast.Call(func=ast.Name(id=name)) if name in CORE_CALLS:
                found.append((node.lineno, f"{name}()"))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="float"))):
                found.append((node.lineno, "a float from a text"))
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name not in WHOLE_MATH:
                found.append((node.lineno, f"math.{name}"))
            case ast.Name(id="float"):
                found.append((node.lineno, "float"))
    return sorted(set(found))


def clocks(tree: ast.Module) -> list[tuple[int, str]]:
    """Return where a file reads a clock or throws dice, under whatever name it was imported."""
    found = imported(tree, CHANCE)
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name in CLOCKS}
        elif isinstance(node, ast.ImportFrom) and node.module in CLOCKS:
            for alias in node.names:
                if alias.name in CLOCKS[node.module or ""]:
                    found.append((node.lineno, f"from {node.module} import {alias.name}"))
                elif alias.name in CLOCKS:
                    modules[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Call)):
            continue
        function = node.func if isinstance(node, ast.Call) else node
        if not isinstance(function, ast.Attribute):
            continue
        owner = function.value
        kind = (
            modules.get(owner.id, "")
            if isinstance(owner, ast.Name)
            else owner.attr
            if isinstance(owner, ast.Attribute)
            else ""
        )
        if function.attr not in CLOCKS.get(kind, set()):
            continue
        enough = WITH_ARGUMENT_NO_CLOCK.get(function.attr, 0)
        if enough and isinstance(node, ast.Attribute):
            continue
        if not enough or (isinstance(node, ast.Call) and len(node.args) < enough):
            found.append((node.lineno, f"{kind}.{function.attr}"))
    return sorted(set(found))


def environment(tree: ast.Module) -> list[tuple[int, str]]:
    """Return where a file reads the environment."""
    found = [
        (line, f"from os import {name}")
        for line, module, name in imports_of(tree)
        if module == "os" and name in ("environ", "getenv", "environb")
    ]
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "environb", "getenv")
            and name_of(node.value) == "os"
        ):
            found.append((node.lineno, f"os.{node.attr}"))
    return sorted(set(found))


def raw_iterators(tree: ast.Module) -> list[tuple[int, str]]:
    """Return where a file goes around the wrapper of RocksDB: an iterator that ends at a damaged block looks like one
    that is through."""
    found = imported(tree, {"rocksdict", "rocksdb"})
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in RAW_ITERATION:
                found.append((node.lineno, f"{name}() of a raw iterator"))
            case ast.Attribute(value=ast.Name(id=owner), attr="_db") if owner != "self":
                found.append((node.lineno, "the database inside a table"))
            case ast.Attribute(value=ast.Attribute(), attr="_db"):
                found.append((node.lineno, "the database inside a table"))
    return sorted(set(found))


def unasked_iterators(tree: ast.Module) -> list[tuple[int, str]]:
    """Return functions of the wrapper that iterate, and do not ask the iterator for its status afterwards."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            called = {
                inner.func.attr
                for inner in ast.walk(node)
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute)
            }
            begun = called & {"iter", "items", "keys", "values", *RAW_ITERATION}
            touches = any(isinstance(inner, ast.Attribute) and inner.attr == "_db" for inner in ast.walk(node))
            if begun and touches and "status" not in called:
                found.append((node.lineno, f"{node.name}() iterates and does not ask for the status"))
    return found
