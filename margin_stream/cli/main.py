"""``margin-stream``: the commands, and how their failures become exit codes."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError

from margin_stream.cli import feeding, on_kafka, reading, repairing
from margin_stream.cli.demo import demo
from margin_stream.cli.output import CORRUPT, DONE, FAILED, INTERRUPTED, LOCKED, MISMATCH, UNREACHABLE, USAGE, UsageError, complain
from margin_stream.core.checks import Fault, Mismatch
from margin_stream.importers.market import ImportFault
from margin_stream.journal.layout import CorruptManifest, StoreError, StoreLocked
from margin_stream.journal.records import CorruptLog
from margin_stream.kafka.client import KafkaError, SecurityError, Unreachable
from margin_stream.tables.rocks import TableError
from replay.browsing import NotRefused
from replay.views import AccountUnknown, CallUnknown


def _version() -> str:
    try:
        return f"margin-stream {version('margin-stream')} (engine 1, store format 1)"
    except PackageNotFoundError:
        return "margin-stream (not installed; engine 1, store format 1)"


app = App(
    name="margin-stream",
    help="An event-sourced margin-call engine: exact replay, nothing lost, ticks that cost nothing for safe accounts.",
    version=_version,
    help_format="plaintext",
)
app.command(demo)
app.command(feeding.simulate_day, name="simulate")
app.command(feeding.import_market, name="import")
app.command(feeding.ingest)
app.command(feeding.export)
app.command(reading.replay_store, name="replay")
app.command(reading.verify_store, name="verify")
app.command(repairing.repair)
app.command(reading.digest)
app.command(reading.state)
app.command(reading.calls)
app.command(reading.call)
app.command(reading.events)
quarantine = App(name="quarantine", help="Refused inputs, kept with reason and raw bytes.")
quarantine.command(reading.quarantine_list, name="list")
quarantine.command(reading.quarantine_show, name="show")
app.command(quarantine)
profile = App(name="profiles", help="Margin profiles, each number with its source and confidence.")
profile.command(reading.profiles_list, name="list")
profile.command(reading.profiles_show, name="show")
app.command(profile)

app.command(on_kafka.worker)
kafka = App(name="kafka", help="Stores on Apache Kafka: make one, see how far it is, change its partitions.")
kafka.command(on_kafka.init)
kafka.command(on_kafka.status)
kafka.command(on_kafka.repartition)
app.command(kafka)


def run(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    # The folds make no reference cycles; what is long-lived is kept out of the collector's way.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    # The Kafka client tells of every lost connection; what matters of it is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        result = app(words, exit_on_error=False, print_error=True, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except CycloptsError:
        return USAGE
    except (UsageError, SecurityError) as error:
        complain(str(error))
        return USAGE
    except Unreachable as error:
        complain(f"{error}. Is it running, and is the address right?")
        return UNREACHABLE
    except StoreLocked as error:
        complain(str(error))
        return LOCKED
    except (CorruptManifest, CorruptLog) as error:
        complain(f"{error}. `margin-stream verify` says what else is damaged, `margin-stream repair` what can be mended")
        return CORRUPT
    except Mismatch as error:
        complain(str(error))
        return MISMATCH
    except (StoreError, TableError, ImportFault, AccountUnknown, CallUnknown, NotRefused, Fault, KafkaError) as error:
        complain(str(error))
        return FAILED
    except BrokenPipeError:
        # The reader of our output has gone (as `| head` does): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def main() -> None:
    """Run this process's command line and leave with its exit code."""
    sys.exit(run())
