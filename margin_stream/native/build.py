"""Translates the core to C with mypyc and compiles it: ``python -m margin_stream.native.build``.

Needs mypy, setuptools, and a C compiler with Python's headers. Says what it does; does nothing where this very core was
compiled already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from margin_stream.native import BUILT, MARK, PACKAGE, compiled_sources, key_of

OPTIMISATION = "2"
LIMIT_S = 900


class BuildError(Exception):
    """The core cannot be compiled here; the text states why and what to do."""


def build(package: Path = PACKAGE, built: Path = BUILT) -> Path:
    """Compile the core, where that was not done yet, and return the folder of the modules.

    Raises:
        BuildError: something that compiling needs is missing, or it failed.
    """
    folder = built / key_of(package)
    if (folder / MARK).exists():
        return folder
    _check_tools()
    with tempfile.TemporaryDirectory(prefix="margin-stream-compile-") as place:
        work = Path(place)
        _copy(package, work)
        names = [f"margin_stream/{name}" for name in compiled_sources(package)]
        done = subprocess.run(
            [sys.executable, "-P", "-c", _SCRIPT, OPTIMISATION, *names],
            cwd=work,
            env={**os.environ, "MYPYPATH": str(work), "PYTHONPATH": str(work)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        if done.returncode != 0:
            raise BuildError(f"mypyc or the C compiler failed:\n{_errors(done.stdout)}")
        making = Path(tempfile.mkdtemp(prefix="making-", dir=_made(built)))
        try:
            for path in (work / "out").rglob("*.so"):
                shutil.copy(path, making / ".".join(path.relative_to(work / "out").parts))
            (making / MARK).write_text("")
            making.chmod(0o755)
            _replace(making, folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    for old in built.iterdir():
        if old != folder:
            # A process that runs what is in there keeps it until it ends.
            shutil.rmtree(old, ignore_errors=True)
    return folder


_SCRIPT = """
import sys
from setuptools import Distribution
from mypyc.build import mypycify
optimisation, *names = sys.argv[1:]
sys.argv = ["build"]
extensions = mypycify(names, opt_level=optimisation, debug_level="0")
command = Distribution({"ext_modules": extensions, "packages": []}).get_command_obj("build_ext")
command.build_lib, command.build_temp = "out", "temp"
command.ensure_finalized()
command.run()
"""


def _check_tools() -> None:
    for module, package in (("mypyc", "mypy"), ("setuptools", "setuptools")):
        try:
            __import__(module)
        except ImportError:
            raise BuildError(
                f"the Python package {package} is missing; install it: python -m pip install mypy setuptools"
            ) from None
    import sysconfig

    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise BuildError(f"there is no C compiler ({compiler}); install one, on Debian: apt-get install gcc libc6-dev")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.exists():
        raise BuildError(
            f"Python's headers are missing ({headers}); install them, on Debian: apt-get install python3-dev"
        )


def _copy(package: Path, work: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "built")
    target = work / "margin_stream"
    target.mkdir()
    # Without what it does at import: the translation needs the types alone.
    (target / "__init__.py").write_text("")
    for name in ("core", "revaluation", "schemas"):
        shutil.copytree(package / name, target / name, ignore=ignored)


def _made(built: Path) -> Path:
    try:
        built.mkdir(exist_ok=True)
    except OSError as error:
        raise BuildError(f"{built}: {error.strerror}; what is compiled is kept there") from None
    return built


def _replace(making: Path, folder: Path) -> None:
    try:
        making.rename(folder)
    except OSError:
        # Another process was faster.
        if not (folder / MARK).exists():
            raise


def _errors(output: str) -> str:
    lines = output.splitlines()
    found = [line for line in lines if "error" in line.lower() and not line.startswith(("gcc", "cc", "clang"))]
    return "\n".join((found or lines)[-20:])


def main() -> int:
    """Build, and say so; with ``--check`` say by the exit code alone whether it was done already."""
    fresh = not (BUILT / key_of() / MARK).exists()
    if sys.argv[1:] == ["--check"]:
        return int(fresh)
    if fresh:
        print(f"compile: the core, {len(compiled_sources())} modules, with mypyc (about a minute)", file=sys.stderr)
    try:
        folder = build()
    except BuildError as error:
        print(
            f"compile: {error}\ncompile: not done; the core runs as plain Python, slower, with the same results",
            file=sys.stderr,
        )
        return 1
    if fresh:
        print(f"compile: done, {folder.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
