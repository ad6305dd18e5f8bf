"""Running tests without pytest around them: in a forked process that has imported nothing of the project's but
``schemas``.

Understood are ``parametrize``, ``tmp_path``, ``monkeypatch`` and properties; a test that asks for more is not
collected. Properties are derandomized and try few examples.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as _strategies  # noqa: F401  (imported once, before forking)

EXAMPLES = 6
"""So many examples of a property are tried, ten times as many where one takes no more than a millisecond."""
QUICK = ("tests.properties.test_model_twins", "tests.properties.test_bounds")
MEMORY_LIMIT = 3 << 30
FIXTURES = {"tmp_path", "monkeypatch"}


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another text than its file's."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, origin=str(self._path), is_package=self._path.name == "__init__.py"
        )

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


class Case:
    """A test with its parameters."""

    def __init__(self, identifier: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.id = identifier
        self._function = function
        self._arguments = arguments

    def run(self) -> None:
        """Run the test; it raises where it fails."""
        arguments = dict(self._arguments)
        wanted = inspect.signature(self._function).parameters
        patch = pytest.MonkeyPatch()
        folder = None
        if "monkeypatch" in wanted:
            arguments["monkeypatch"] = patch
        if "tmp_path" in wanted:
            folder = tempfile.mkdtemp(prefix="mutation-")
            arguments["tmp_path"] = Path(folder)
        try:
            self._function(**arguments)
        finally:
            patch.undo()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def cases_of(module: str) -> Iterator[Case]:
    """Yield the tests of a module, in order of writing."""
    for name, function in vars(importlib.import_module(module)).items():
        if not name.startswith("test_") or not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
            continue
        marks = getattr(function, "pytestmark", [])
        if any(mark.name in ("slow", "skipif", "asyncio", "xfail") for mark in marks):
            continue
        _restrain(function)
        rows = [list(_rows(mark)) for mark in marks if mark.name == "parametrize"]
        for n, combination in enumerate(itertools.product(*rows)):
            arguments = {key: value for row in combination for key, value in row.items()}
            if set(inspect.signature(function).parameters) - set(arguments) <= FIXTURES:
                yield Case(f"{module}::{name}" + (f"[{n}]" if rows else ""), function, arguments)


def _rows(mark: Any) -> Iterator[dict[str, Any]]:
    names = (
        mark.args[0] if isinstance(mark.args[0], list | tuple) else [name.strip() for name in mark.args[0].split(",")]
    )
    for values in mark.args[1]:
        given = getattr(values, "values", None)
        values = given if isinstance(given, tuple) else (values,) if len(names) == 1 else values
        yield dict(zip(names, values, strict=True))


def _restrain(function: Any) -> None:
    """Let a property try few examples, always the same, and stop at the first that fails."""
    known = getattr(function, "_hypothesis_internal_use_settings", None)
    if hasattr(function, "hypothesis"):
        known = known or settings()
        function._hypothesis_internal_use_settings = settings(
            known,
            max_examples=min(known.max_examples, EXAMPLES * (10 if function.__module__ in QUICK else 1)),
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )


def in_fork(work: Callable[[], Any]) -> tuple[int, int]:
    """Run work in a forked process; return its id and the end of a pipe that will give its answer as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code = 1
    try:
        os.close(reading)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        answer = json.dumps(work()).encode()
        while answer:
            answer = answer[os.write(writing, answer) :]
        code = 0
    finally:
        os._exit(code)


def answer_of(child: int, reading: int) -> tuple[Any, int]:
    """Wait for a forked process; return its answer (None where it gave none) and its wait status."""
    parts = []
    while part := os.read(reading, 1 << 16):
        parts.append(part)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return (json.loads(b"".join(parts)) if parts and os.waitstatus_to_exitcode(status) == 0 else None), status


def collect(modules: Sequence[str]) -> list[str]:
    """Return the ids of all tests of some modules."""
    return [case.id for module in modules for case in cases_of(module)]


def measure(identifier: str, paths: list[str]) -> dict[str, Any]:
    """Run a test on what is written; return whether it passed, its processor time, and the lines that it reached."""
    import coverage

    case = _case(identifier)
    collected = coverage.Coverage(data_file=None, include=paths, messages=False)
    started = time.process_time()
    try:
        case.run()
    except BaseException as error:
        return {"passed": False, "seconds": 0.0, "why": repr(error)[:300]}
    seconds = time.process_time() - started
    collected.start()
    try:
        # A second time, so that the first is not slowed by looking on; what is cached by the test itself was looked at
        # by others.
        case.run()
    finally:
        collected.stop()
    data = collected.get_data()
    imported = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    lines = {path: data.lines(path) for path in data.measured_files()}
    return {
        "passed": True,
        "seconds": seconds,
        "lines": lines,
        "imported": [path for path in paths if path in imported],
    }


def _case(identifier: str) -> Case:
    module = identifier.partition("::")[0]
    return next(case for case in cases_of(module) if case.id == identifier)


def attempt(module: str, path: Path, source: str, tests: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Import a module from a text and run tests, with their usual seconds, until one fails.

    The process ends by SIGPROF where a test needs ten times its usual processor time, and more than three seconds.
    """
    try:
        compile(source, str(path), "exec")
    except (SyntaxError, ValueError):
        return {"status": "invalid"}
    for name in [
        name
        for name in sys.modules
        if name.startswith(("margin_stream.", "tests.")) and not name.startswith("margin_stream.schemas")
    ]:
        del sys.modules[name]
    sys.meta_path.insert(0, Mutated(module, path, source))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(300)
    known: dict[str, dict[str, Case]] = {}
    for identifier, seconds in tests:
        signal.setitimer(signal.ITIMER_PROF, 3 + 10 * seconds)
        where = identifier.partition("::")[0]
        try:
            if where not in known:
                known[where] = {case.id: case for case in cases_of(where)}
            case = known[where].get(identifier)
            # Rows of parameters may hang on what is mutated; one row less is no test that fails.
            if case is not None:
                case.run()
        except BaseException as error:
            return {"status": "killed", "test": identifier, "why": type(error).__name__}
    return {"status": "survived"}
