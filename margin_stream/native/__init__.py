"""The core in C: which form of it runs.

``python -m margin_stream.native.build`` (``make compile``) translates the core to C with mypyc and compiles it. From
then on every process that uses margin_stream loads what was compiled, as long as the sources are those that it was
compiled from, byte for byte, and Python is the same; else, and with ``MARGIN_STREAM_COMPILED=0``, the sources run as
plain Python. Both forms give the same bytes; the compiled one is faster.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from typing import NamedTuple

SWITCH = "MARGIN_STREAM_COMPILED"
PACKAGE = Path(__file__).resolve().parents[1]
BUILT = PACKAGE / "native" / "built"
"""A folder for each key."""
MARK = "complete"
"""A file that a folder has once everything is in it."""
GROUP_SUFFIX = "__mypyc"
"""How the module that holds all of the code is named; the modules themselves only lead to it."""
PLAIN = frozenset({"core/checks.py"})
"""This stays plain Python: its faults have a base that is plain Python, which a compiled class may not have. So does
every module with a ``msgspec.Struct``: msgspec reads annotations, which mypyc does not keep whole."""
ALSO = ("revaluation/columns.py", "revaluation/forms.py", "revaluation/vectors.py")


class Form(NamedTuple):
    """Which form of the core runs."""

    compiled: bool
    reason: str
    """Why it is not compiled; empty where it is."""


def compiled_sources(package: Path = PACKAGE) -> list[str]:
    """Return the files that are compiled, relative to the package."""
    core = sorted(
        path.relative_to(package).as_posix() for path in (package / "core").rglob("*.py") if path.name != "__init__.py"
    )
    structs = b"(msgspec.Struct"
    return [name for name in core if name not in PLAIN and structs not in (package / name).read_bytes()] + list(ALSO)


def key_of(package: Path = PACKAGE) -> str:
    """Return the key of the sources as they are: of the core, of all that it is compiled against, of which files are
    compiled, and of this Python."""
    import hashlib

    chosen = " ".join([*sorted(PLAIN), *ALSO])
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.version} {EXTENSION_SUFFIXES[0]} {chosen}".encode())
    for path in [
        found for name in ("core", "revaluation", "schemas") for found in sorted((package / name).rglob("*.py"))
    ]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package.parent).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def form() -> Form:
    """Return which form of the core this process runs."""
    return _FINDER.form()


class _Finder:
    """Finds the compiled modules; asked before any other finder, and decided once for the whole process."""

    def __init__(self) -> None:
        self._reason = ""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if not name.startswith(("margin_stream.core.", "margin_stream.revaluation.")) and not name.endswith(
            GROUP_SUFFIX
        ):
            return None
        where = self._modules.get(name)
        if where is None:
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, where)

    def form(self) -> Form:
        """See ``form``."""
        return Form(bool(self._modules), self._reason)

    @cached_property
    def _modules(self) -> dict[str, Path]:
        if os.environ.get(SWITCH, "") == "0":
            self._reason = f"{SWITCH}=0"
            return {}
        if not BUILT.is_dir():
            self._reason = "it was not compiled"
            return {}
        folder = BUILT / key_of()
        if not (folder / MARK).exists():
            self._reason = "the sources, or Python, are not those that were compiled"
            return {}
        suffix = EXTENSION_SUFFIXES[0]
        return {path.name.removesuffix(suffix): path for path in folder.glob(f"*{suffix}")}


_FINDER = _Finder()


def install() -> None:
    """Have imports find the compiled modules. Must come before any module of the core."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
