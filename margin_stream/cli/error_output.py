"""How errors are written out: for people a line with the code and one with what to do; with ``--json`` one JSON line.
Always on stderr."""

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

from margin_stream.cli.errors import BY_CODE
from margin_stream.cli.memory import memory_is_short
from margin_stream.errors import Error

Where = Mapping[str, Any]

# The codes of exceptions that are not ours, by name: nothing is imported for an error that does not come.
FOREIGN = {
    "aiokafka.errors.KafkaError": "broker_refused",
    "builtins.MemoryError": "memory_short",
    "builtins.OSError": "io_failed",
    "cyclopts.exceptions.CoercionError": "option_invalid",
    "cyclopts.exceptions.CycloptsError": "usage",
    "cyclopts.exceptions.MissingArgumentError": "missing_argument",
    "cyclopts.exceptions.UnknownCommandError": "unknown_command",
    "cyclopts.exceptions.UnknownOptionError": "unknown_option",
    "cyclopts.exceptions.UnusedCliTokensError": "too_many_arguments",
    "cyclopts.exceptions.ValidationError": "option_invalid",
    "msgspec.DecodeError": "record_undecodable",
}


class Failure(NamedTuple):
    """An error as it is shown."""

    code: str
    message: str
    where: Where | None
    """Of ``file``, ``line``, ``offset``, ``field``, ``store``, ``option``, ``setting``, ``account``, ... what is
    known."""
    next: str
    exit: int


def failure(code: str, message: str, /, **where: Any) -> Failure:
    """Return an error of the catalogue that no exception stands for."""
    entry = BY_CODE[code]
    return Failure(code, message, where or None, filled(entry.next, where), entry.exit)


def diagnose(error: BaseException) -> Failure:
    """Return an exception as it is shown."""
    code, message, where = _parts(error)
    return failure(code, message, **where)


def report(found: Failure, *, as_json: bool) -> int:
    """Print an error on stderr; return its exit code."""
    if as_json:
        row = {"code": found.code, "message": found.message, "where": found.where, "next": found.next}
        sys.stderr.buffer.write(orjson.dumps(row, default=str) + b"\n")
        sys.stderr.flush()
    else:
        print(f"margin-stream: {found.message} [{found.code}]\n  next: {found.next}", file=sys.stderr, flush=True)
    return found.exit


def report_exception(error: Exception, *, as_json: bool) -> int:
    """Print an exception on stderr, with its traceback where the product does not know it; return its exit code."""
    found = diagnose(error)
    if found.code == "internal_error" and not as_json:
        traceback.print_exception(error)
    return report(found, as_json=as_json)


def filled(text: str, where: Where) -> str:
    """Return advice with the names of what it is about; what is not known stays in capitals."""
    return re.sub(r"\{(\w+)\}", lambda found: str(where.get(found.group(1), found.group(1).upper())), text)


def _parts(error: BaseException) -> tuple[str, str, Where]:
    """Return code, message and fields of an exception: its own, or what is known of one of Python's or of a
    library's."""
    code, text = code_of(error), str(error).strip()
    if isinstance(error, Error):
        return code, text, error.where
    file = {"file": str(error.filename)} if isinstance(error, OSError) and error.filename else {}
    if code == "memory_short":
        short = file.get("file") or getattr(error, "strerror", None) or text or "no more could be had"
        held_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        text = f"not enough memory: {short}; the process has had {held_mb} MB{_limit()}"
        return code, text, {**file, "held_mb": held_mb}
    if isinstance(error, OSError):
        return code, f"{file.get('file', 'input or output')}: {error.strerror or error}", file
    if isinstance(error, CycloptsError):
        error.verbose = False
        token = getattr(error, "token", None)
        # An unknown option in the place of a file is a word, and has no keyword.
        named = (token and (token.keyword or (isinstance(error, UnknownOptionError) and token.value))) or getattr(
            error.argument, "name", None
        )
        return code, str(error).strip(), {"option": named} if named else {}
    return code, f"{type(error).__name__}: {text}" if code == "internal_error" else text, {}


def code_of(error: BaseException) -> str:
    """Return the code of an exception: that of the nearest of its classes."""
    if isinstance(error, Error):
        return error.code
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory_short"
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    # What is loaded where no memory is left fails in many ways.
    return next(
        (FOREIGN[name] for name in names if name in FOREIGN), "memory_short" if memory_is_short() else "internal_error"
    )


def _limit() -> str:
    """Return how much memory the process may have, where there is a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "" if limit == resource.RLIM_INFINITY else f", and may have {limit >> 20} MB of addresses (ulimit -v)"
