"""``margin-stream``: the application, and how failures of its commands become exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from cyclopts import App

from margin_stream.cli.arguments import fill, in_order
from margin_stream.cli.commands import NAMES, summary
from margin_stream.cli.error_output import report_exception
from margin_stream.cli.errors import DONE, INTERRUPTED
from margin_stream.cli.version import version_line


def application(*, listed: bool = False) -> App:
    """Return the application; ``listed`` where its help will list the commands, each with what it is for."""
    found = App(
        name="margin-stream",
        help="An event-sourced margin-call engine: exact replay, nothing lost, cheap ticks for safe accounts.",
        help_prologue="""\
Examples:
  margin-stream demo
  margin-stream ingest day.ndjson
  margin-stream calls --open
  margin-stream doctor""",
        help_epilogue="""\
Before a command's name or behind it:
  --json         Print NDJSON: one object a line, stable keys; errors too.
  --quiet        Print nothing on stderr but errors.
  --store STORE  The store, where the command works on one.
  --config FILE  A settings file, instead of ./margin-stream.toml.

Where a command reads a file, - is standard input.""",
        version=version_line,
        help_format="plaintext",
        config=(fill,),
    )
    for name in NAMES:
        found.command(f"margin_stream.cli.commands:{name}", name=name, help=summary(name) if listed else None)
    return found


app = application()


def run(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    # The folds make no reference cycles; what is long-lived is kept out of the collector's way.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    given = sys.argv[1:] if words is None else words
    try:
        chosen = app if set(NAMES) & set(given) else application(listed=True)
        result = chosen(in_order(chosen, given), exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except BrokenPipeError:
        # The reader of our output has gone (as `| head` does): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report_exception(error, as_json="--json" in given)
