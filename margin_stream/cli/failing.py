"""How errors are said: for people a line with the code and one with what to do; with ``--json`` one JSON line. Always on stderr."""

from __future__ import annotations

import errno
import re
import resource
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from cyclopts import CycloptsError, UnknownOptionError

from margin_stream.cli.errors import BY_CODE, entry_of
from margin_stream.journal.layout import StoreError
from margin_stream.journal.records import CorruptLog

Where = Mapping[str, Any]


class Failure(NamedTuple):
    """An error as it is shown."""

    code: str
    message: str
    where: Where | None
    """Of ``file``, ``line``, ``offset``, ``field``, ``store``, ``option``, ``setting``, ``account``, ... what is known."""
    next: str
    exit: int


def failure(code: str, message: str, **where: Any) -> Failure:
    """Return an error of the catalogue that no exception told of."""
    entry = BY_CODE[code]
    return Failure(code, message, where or None, filled(entry.next, where), entry.exit)


def diagnose(error: BaseException) -> Failure:
    """Return an exception as it is shown."""
    entry = entry_of(error)
    where = _where(error)
    return Failure(entry.code, _message(error), where or None, filled(entry.next, where), entry.exit)


def report(found: Failure, *, as_json: bool) -> int:
    """Say an error on stderr; return its exit code."""
    if as_json:
        row = {"code": found.code, "message": found.message, "where": found.where, "next": found.next}
        sys.stderr.buffer.write(orjson.dumps(row, default=str) + b"\n")
        sys.stderr.flush()
    else:
        print(f"margin-stream: {found.message} [{found.code}]\n  next: {found.next}", file=sys.stderr, flush=True)
    return found.exit


def report_bug(error: Exception, *, as_json: bool) -> int:
    """Say an error that the product does not know, with its traceback; return its exit code."""
    if not as_json:
        traceback.print_exception(error)
    return report(diagnose(error), as_json=as_json)


def filled(text: str, where: Where) -> str:
    """Return advice with the names of what it is about; what is not known stays in capitals."""
    return re.sub(r"\{(\w+)\}", lambda found: str(where.get(found.group(1), found.group(1).upper())), text)


def _message(error: BaseException) -> str:
    if isinstance(error, CycloptsError):
        error.verbose = False
    if isinstance(error, MemoryError):
        return f"not enough memory: {str(error).strip() or 'no more could be had'}; {_held()}"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return f"not enough memory: {error.filename or error.strerror}; {_held()}"
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror or error}"
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if entry_of(error).code == "internal_error" else text


def _held() -> str:
    """Say how much memory the process has, and may have."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    may = "" if limit == resource.RLIM_INFINITY else f", and may have {limit >> 20} MB of addresses (ulimit -v)"
    return f"the process has had {held} MB{may}"


def _where(error: BaseException) -> dict[str, Any]:
    """Return where an error lies: what the exception says, or what its text begins with."""
    said = getattr(error, "where", None)
    if isinstance(said, dict):
        return dict(said)
    if isinstance(error, CorruptLog):
        return {"file": str(error.path), "offset": error.offset}
    if isinstance(error, CycloptsError):
        token = getattr(error, "token", None)
        # An unknown option in the place of a file is a word, and has no keyword.
        option = (token and (token.keyword or (isinstance(error, UnknownOptionError) and token.value))) or (
            error.argument and error.argument.name
        )
        return {"option": option} if option else {}
    if isinstance(error, MemoryError):
        return {"held_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}
    if isinstance(error, OSError):
        return {"file": str(error.filename)} if error.filename else {}
    text = str(error)
    if found := re.match(r"(.+?): offset (\d+): ", text):
        return {"file": found.group(1), "offset": int(found.group(2))}
    if found := re.match(r"(--[a-z-]+)\b", text):
        return {"option": found.group(1)}
    if found := re.match(r"(.+?):(\d+): ", text):
        return {"file": found.group(1), "line": int(found.group(2))}
    if found := re.match(r"(\S.*?): ", text):
        return {"store" if isinstance(error, StoreError) else "file": found.group(1)} if re.search(r"[/.]", found.group(1)) else {}
    return {}
