"""``margin-stream``: the commands, and how their failures become exit codes."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App

from margin_stream.cli import calculating, completing, configuring, examining, feeding, on_kafka, reading, repairing
from margin_stream.cli.demo import demo
from margin_stream.cli.errors import entry_of
from margin_stream.cli.failing import diagnose, report, report_bug
from margin_stream.cli.filling import fill, in_order
from margin_stream.cli.output import DONE, INTERRUPTED
from margin_stream.journal.layout import FORMAT
from schemas.engines import LATEST


def _version() -> str:
    try:
        return f"margin-stream {version('margin-stream')} (engine {LATEST}, store format {FORMAT})"
    except PackageNotFoundError:
        return f"margin-stream (not installed; engine {LATEST}, store format {FORMAT})"


app = App(
    name="margin-stream",
    help="An event-sourced margin-call engine: exact replay, nothing lost, ticks that cost nothing for safe accounts.",
    version=_version,
    help_format="plaintext",
    help_epilogue="""\
Before a command's name or behind it:
  --json         Print NDJSON: one object a line, stable keys; errors too.
  --quiet        Say nothing on stderr but errors.
  --store STORE  The store, where the command works on one.
  --config FILE  A file of settings, instead of ./margin-stream.toml.

Where a command reads a file, - is standard input.""",
    config=(fill,),
)


def _add(group: App, name: str, function: Callable[..., int]) -> None:
    """Add a command; of its docstring the examples come first in its help, the rest below its usage."""
    text, _, examples = inspect.cleandoc(function.__doc__ or "").partition("\n\nTry:\n")
    group.command(function, name=name, help=text, help_prologue=f"Examples:\n{examples}", help_epilogue="")


def _group(name: str, text: str, **commands: Callable[..., int]) -> None:
    """Add a command that has commands of its own; its help begins with one example of each."""
    group = App(name=name, help=text, help_epilogue="")
    app.command(group)
    firsts = []
    for inner, function in commands.items():
        _add(group, inner, function)
        firsts.append(inspect.cleandoc(function.__doc__ or "").partition("\n\nTry:\n")[2].splitlines()[0])
    group.help_prologue = "Examples:\n" + "\n".join(firsts)


_add(app, "demo", demo)
_add(app, "margin", calculating.margin)
_add(app, "simulate", feeding.simulate_day)
_add(app, "import", feeding.import_market)
_add(app, "ingest", feeding.ingest)
_add(app, "export", feeding.export)
_add(app, "replay", reading.replay_store)
_add(app, "verify", reading.verify_store)
_add(app, "repair", repairing.repair)
_add(app, "digest", reading.digest)
_add(app, "state", reading.state)
_add(app, "calls", reading.calls)
_add(app, "call", reading.call)
_add(app, "events", reading.events)
_group(
    "quarantine",
    "Refused inputs, kept with reason and raw bytes.",
    list=reading.quarantine_list,
    show=reading.quarantine_show,
)
_group(
    "profiles",
    "Margin profiles, each number with its source and confidence.",
    list=reading.profiles_list,
    show=reading.profiles_show,
)
_add(app, "worker", on_kafka.worker)
_group(
    "kafka",
    "Stores on Apache Kafka: make one, see how far it is, change its partitions.",
    init=on_kafka.init,
    status=on_kafka.status,
    repartition=on_kafka.repartition,
)
_group("config", "Settings: what is in force, and where it came from.", show=configuring.config_show)
_add(app, "doctor", examining.doctor)
_add(app, "completion", completing.command_of(app))
app.help_prologue = """\
Examples:
  margin-stream demo
  margin-stream ingest day.ndjson
  margin-stream calls --open
  margin-stream doctor"""


def run(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    # The folds make no reference cycles; what is long-lived is kept out of the collector's way.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    # The Kafka client tells of every lost connection; what matters of it is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    words = sys.argv[1:] if words is None else words
    as_json = "--json" in words
    try:
        result = app(in_order(app, words), exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except BrokenPipeError:
        # The reader of our output has gone (as `| head` does): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if entry_of(error).code == "internal_error":
            return report_bug(error, as_json=as_json)
        return report(diagnose(error), as_json=as_json)


def main() -> None:
    """Run this process's command line and leave with its exit code."""
    sys.exit(run())
