"""The core compiled and the core as plain Python: the same bytes, and never a compiled form of other sources than
these."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from margin_stream import native
from margin_stream.native import SWITCH, build

ROOT = Path(__file__).resolve().parents[2]
MUST = bool(os.environ.get("CI") or os.environ.get("MARGIN_STREAM_FAULTS"))
"""On CI the core must have been compiled."""


def python(*arguments: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def days(*arguments: str, compiled: bool) -> dict[str, Any]:
    done = python("-m", "tests.forms", *arguments, **{SWITCH: "1" if compiled else "0"})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["compiled"] is compiled
    return found["days"]


@pytest.fixture
def compiled() -> None:
    if not (native.BUILT / native.key_of() / native.MARK).exists():
        assert not MUST, "the core was not compiled (make compile)"
        pytest.skip("the core was not compiled (make compile)")


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
def test_both_forms_of_the_core_give_the_same_bytes() -> None:
    plain = days(compiled=False)
    assert len(plain) > 50
    assert all(len(set(ways)) == 1 for ways in plain.values())
    assert days(compiled=True) == plain
    assert days("--mutant", compiled=False) != plain


def copied(tmp_path: Path) -> Path:
    """Copy what the finder looks at, with a compiled form of it that cannot be loaded."""
    root = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "built")
    shutil.copytree(ROOT / "margin_stream", root / "margin_stream", ignore=ignored)
    folder = root / "margin_stream" / "native" / "built" / native.key_of(root / "margin_stream")
    folder.mkdir(parents=True)
    for name in native.compiled_sources():
        module = "margin_stream." + name.removesuffix(".py").replace("/", ".")
        (folder / f"{module}{native.EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    (folder / native.MARK).touch()
    return root


LOADED = (
    "import margin_stream.core.calls.lifecycle as m; from margin_stream.native import form; print(m.__file__, *form())"
)


def test_what_was_compiled_of_other_files_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = native.key_of()
    monkeypatch.setattr(native, "ALSO", native.ALSO[1:])
    assert native.key_of() != before


@pytest.mark.slow(reason="runs the compiler")
def test_what_is_loaded_is_of_these_very_sources(tmp_path: Path) -> None:
    root = copied(tmp_path)
    assert "ImportError" in python("-c", LOADED, root=root, **{SWITCH: ""}).stderr
    switched = python("-c", LOADED, root=root, **{SWITCH: "0"}).stdout
    assert switched == f"{root}/margin_stream/core/calls/lifecycle.py False {SWITCH}=0\n"
    for name in (
        "margin_stream/core/calls/call.py",
        "margin_stream/core/sequenced.py",
        "margin_stream/revaluation/forms.py",
        "margin_stream/schemas/effects.py",
    ):
        path = root / name
        written = path.read_text()
        path.write_text(written + "\n")
        other = python("-c", LOADED, root=root, **{SWITCH: ""}).stdout
        assert other.startswith(
            f"{root}/margin_stream/core/calls/lifecycle.py False the sources, or Python, are not"
        ), name
        path.write_text(written)
    # Half of a compilation is none.
    next((root / "margin_stream" / "native" / "built").glob(f"*/{native.MARK}")).unlink()
    assert " False " in python("-c", LOADED, root=root, **{SWITCH: ""}).stdout


@pytest.mark.slow(reason="runs the compiler")
def test_where_it_cannot_be_compiled_it_says_what_is_missing_and_runs_plain(tmp_path: Path) -> None:
    root = copied(tmp_path)
    shutil.rmtree(root / "margin_stream" / "native" / "built")
    done = python("-m", "margin_stream.native.build", root=root, CC="/nonexistent/cc")
    assert done.returncode == 1
    assert "there is no C compiler (/nonexistent/cc); install one" in done.stderr
    assert "the core runs as plain Python" in done.stderr
    assert " False it was not compiled\n" in python("-c", LOADED, root=root, **{SWITCH: ""}).stdout


@pytest.mark.slow(reason="runs the compiler")
def test_a_compiler_that_fails_is_said_with_its_errors(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "margin_stream" / "core" / "checks.py").write_text("def check(\n")
    with pytest.raises(build.BuildError, match=r"(?s)mypyc or the C compiler failed.*error"):
        build.build(root / "margin_stream", tmp_path / "built")
    assert not (tmp_path / "built").exists()
