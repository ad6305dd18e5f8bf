"""The command ``margin``: the what-if calculator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
from cyclopts import Parameter

from margin_stream.cli.errors import DONE, FAILED
from margin_stream.cli.output import Common
from margin_stream.cli.usage import InputFileMissing
from margin_stream.files import STDIN, opened


def margin(
    file: Annotated[
        Path,
        Parameter(name="FILE", show_default=False, help="Scenarios, one a line; - (the default) is standard input."),
    ] = STDIN,
    /,
    *,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Compute what-if scenarios (NDJSON), one answer a line, in order, without a store.

    An answer has equity, initial and maintenance margin, margin ratio, excess, call amount, and for each position the
    price at which it is liquidated and bankrupt. Any parameter of the profile can be overridden. A scenario that cannot
    be computed gives an error, and exit 1 at the end.

    Try:
      margin-stream margin scenarios.ndjson
      echo '{"id":"x","profile":"prime","collateral":[{"asset":"USDT","amount":"1"}]}' | margin-stream margin
    """
    from margin_stream.calculator import margin_line
    from margin_stream.schemas.ndjson import read_lines

    failed = False
    try:
        named = opened(file)
    except OSError as error:
        raise InputFileMissing(f"{file}: {error.strerror}", file=file) from None
    with named as stream:
        for line in read_lines(stream):
            answer = margin_line(line)
            failed = failed or "error" in answer
            sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
            sys.stdout.buffer.flush()
    return FAILED if failed else DONE
