"""``ingest``: inputs appended to a store's journal and folded."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from margin_stream.cli import on_kafka
from margin_stream.cli.clocks import Clock, ClockName
from margin_stream.cli.error_output import Failure, failure, report
from margin_stream.cli.errors import CORRUPT, DONE, INTERRUPTED, MISMATCH, TERMINATED
from margin_stream.cli.output import Common, OnStore, Progress, print_note, show
from margin_stream.cli.queries import REVALUATION_HELP
from margin_stream.cli.signals import Ended, Stopper, following, waiting
from margin_stream.cli.usage import InputFileMissing, NotNdjson, OptionsConflict
from margin_stream.files import STDIN, opened
from margin_stream.revaluation import DEFAULT, RevaluationName
from margin_stream.schemas.refusals import ADVICE, Refusal, RefusedInput

if TYPE_CHECKING:
    from margin_stream.core.store_fold import Digests
    from margin_stream.host.embedded import Host

SHOWN_LIMIT = 10


class _Inputs:
    """The lines of the named files, one after the other; knows where it is."""

    def __init__(self, files: tuple[Path, ...], *, follow: bool = False) -> None:
        self._files = files
        self._follow = follow
        """The last file is read as it grows."""
        self.file = ""
        self.line = 0
        self.bytes = 0
        self.total = sum(path.stat().st_size for path in files if path != STDIN)
        self.idle: Callable[[], bool] = lambda: False
        """Called while nothing comes; True ends the reading."""

    def __iter__(self) -> Iterator[bytes]:
        from margin_stream.schemas.ndjson import read_lines

        for path in self._files:
            self.file, self.line = "stdin" if path == STDIN else str(path), 0
            tail = self._follow and path == self._files[-1]
            with following(path, self.idle) if tail else opened(path) as stream, contextlib.suppress(Ended):
                for line in read_lines(waiting(stream, self.idle) if path == STDIN else stream):
                    self.line += 1
                    self.bytes += len(line) + 1
                    yield line


LOOK_BYTES = 64 << 10
LOOK_LINES = 10


def check_ndjson(path: Path) -> None:
    """Look at the beginning of a file.

    Raises:
        NotNdjson: it is of another kind: packed, or none of its first lines is an object.
    """
    with path.open("rb") as stream:
        start = stream.read(LOOK_BYTES)
    if start[:2] == b"\x1f\x8b":
        raise NotNdjson(f"{path}: packed by gzip: `zcat {path} | margin-stream ingest -`", file=path)
    lines = [line.strip() for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()][:LOOK_LINES]
    if lines and (lines[0].startswith(b"[") or not any(line.startswith(b"{") for line in lines)):
        shown = lines[0][:40].decode("ascii", "backslashreplace")
        raise NotNdjson(f"{path}:1: no NDJSON, which has an object a line: it begins with {shown!r}", file=path, line=1)


def exit_code(stopper: Stopper, common: Common, refused: bool) -> int:
    """Return the exit code at the end; note on stderr where a signal left inputs unread."""
    if stopper.signal is None:
        return CORRUPT if refused else DONE
    print_note(common, "stopped by a signal; run the same command again for the rest")
    return INTERRUPTED if stopper.signal == signal.SIGINT else TERMINATED


def summary(counts: Any, of_refused: int, effects: int, digests: Digests) -> dict[str, Any]:
    """Return what ``ingest`` prints.

    Args:
        counts: accepted, duplicate, refused.
        of_refused: how many of the duplicates were refused when they came first.
        effects: how many were recorded.
        digests: at the end.
    """
    return {
        "accepted": counts.accepted,
        "duplicate": counts.duplicate,
        "duplicate_of_refused": of_refused,
        "refused": counts.refused,
        "effects": effects,
        "last": digests.sequence,
        "state_digest": digests.state,
        "effects_digest": digests.effects,
    }


def ingest(
    files: Annotated[
        tuple[Path, ...],
        Parameter(name="FILE", show_default=False, help="Inputs, one a line; - (the default) is standard input."),
    ] = (STDIN,),
    /,
    *,
    partitions: Annotated[
        int | None, Parameter(help="Logical partitions; used only when the store is created.")
    ] = None,
    strict: Annotated[bool, Parameter(negative="", help="Stop at the first refused input with exit 4.")] = False,
    no_wait: Annotated[bool, Parameter(negative="", help="On Kafka: return once the broker has the inputs.")] = False,
    revaluation: Annotated[RevaluationName, Parameter(help=REVALUATION_HELP)] = DEFAULT,
    follow: Annotated[
        bool, Parameter(negative="", help="Read the last file as it grows, until a signal; one that is replaced too.")
    ] = False,
    clock: Annotated[
        ClockName,
        Parameter(
            help="What moves the clock: the inputs' own clock_ticked, their event times, or this machine's clock each second."
        ),
    ] = "input",
    verify: Annotated[
        bool,
        Parameter(
            negative="", help="A second process replays the journal meanwhile and compares; exit 3 if anything differs."
        ),
    ] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Append inputs to the store's journal and fold them. Safe to run again on the same file after any crash.

    Try:
      margin-stream ingest day.ndjson
      margin-stream simulate --accounts 50 | margin-stream ingest --store ./s --partitions 4
      margin-stream ingest more.ndjson --strict --json
      margin-stream ingest feed.ndjson --follow --clock event-time
      margin-stream ingest day.ndjson --revaluation vectors --verify
      margin-stream ingest day.ndjson --store kafka://localhost:9092/demo
    """
    import msgspec

    from margin_stream import views
    from margin_stream.cli.background_replay import Beside
    from margin_stream.host.embedded import Host
    from margin_stream.journal.layout import PARTITIONS_LIMIT, PartitionsOutOfRange
    from margin_stream.views.source import source_of

    for path in files:
        if path != STDIN and not path.is_file():
            raise InputFileMissing(f"{path}: no such file", file=path)
    if partitions is not None and not 1 <= partitions <= PARTITIONS_LIMIT:
        raise PartitionsOutOfRange(
            f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}", option="--partitions"
        )
    if follow and files[-1] == STDIN:
        raise OptionsConflict("--follow: name a file; standard input is read until it ends", option="--follow")
    for path in files:
        if path != STDIN:
            check_ndjson(path)
    inputs = _Inputs(files, follow=follow)
    shown = 0

    def warn(text: str) -> None:
        report(failure("clock_not_moved", text, store=common.store), as_json=common.json)

    def refused(reason: Refusal, detail: str) -> bool:
        nonlocal shown
        shown += 1
        if shown <= SHOWN_LIMIT or strict:
            place = {"file": inputs.file, "line": inputs.line}
            text = f"{inputs.file}:{inputs.line}: refused, {reason.value}: {detail}"
            report(Failure(reason.value, text, place, ADVICE[reason], CORRUPT), as_json=common.json)
        return strict

    if common.on_kafka:
        if verify:
            raise OptionsConflict(
                "--verify goes with a store in a folder; on Kafka run `margin-stream replay` when the workers are done",
                option="--verify",
            )
        if clock == "wall":
            raise OptionsConflict(
                "--clock wall goes with a store in a folder: on Kafka a feed sends clock_ticked", option="--clock"
            )
        ticking = Clock(clock, store_ns=lambda: 0, warn=warn)
        return _ingest_on_kafka(common, inputs, ticking, refused, strict=strict, wait=not no_wait)
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(Stopper())
        host = stack.enter_context(Host(common.path, partitions=partitions, revaluation=revaluation))
        tell_recovery(common, host)
        beside = Beside(host.layout.root, revaluation) if verify else None
        if beside is not None:
            stack.callback(beside.abandon)
        progress = Progress(common, "inputs")
        before = host.system.intake.sources.duplicates_of_refused

        ticking = Clock(clock, store_ns=lambda: host.system.intake.market.clock_ns, warn=warn)

        def idle() -> bool:
            if (ticked := ticking.due()) is not None:
                host.offer(ticked)
            host.commit()
            return stopper.asked()

        inputs.idle = idle
        counts = host.ingest(
            ticking.lines(inputs),
            progress=lambda done: progress.update(done, inputs.bytes / inputs.total if inputs.total else None),
            stop=stopper.asked,
            refused=refused,
        )
        digests = host.checkpoint()
        progress.end()
        effects = host.effects_total
        of_refused = host.system.intake.sources.duplicates_of_refused - before
        found = beside.finish() if beside is not None else None
        standing = views.standing_clock(host.system, source_of(host.layout.root))
    if shown > SHOWN_LIMIT and not strict:
        report(failure("inputs_refused", f"{shown} inputs were refused", store=common.store), as_json=common.json)
    tell_of_refused(common, of_refused)
    if standing is not None:
        report(failure("clock_stands", str(standing), store=common.store), as_json=common.json)
    verified: dict[str, Any] = {}
    if found is not None:
        same = f"equal: {found.effects:,} effects and the digests, replayed from the start"
        verified["verified"] = msgspec.to_builtins(found) if common.json else same if found.equal else "NOT equal"
    asked = {} if common.json else views.summary(host.system)
    show(common, summary(counts, of_refused, effects, digests) | asked | verified)
    if found is not None and not found.equal:
        report(failure("replay_differs", str(found.first_difference), store=common.store), as_json=common.json)
        return MISMATCH
    return exit_code(stopper, common, strict and bool(shown or of_refused))


def _ingest_on_kafka(
    common: OnStore,
    inputs: _Inputs,
    ticking: Clock,
    refused: Callable[[Refusal, str], bool],
    *,
    strict: bool,
    wait: bool,
) -> int:
    """Send the inputs to the topic; what can be decoded is validated by the workers, so ``--strict``
    stops early only for what cannot."""
    progress = Progress(common, "inputs")
    undecodable = False

    def not_decoded(error: RefusedInput) -> bool:
        nonlocal undecodable
        undecodable = True
        return refused(error.refusal, error.detail)

    with Stopper() as stopper:
        inputs.idle = stopper.asked
        stopper.orderly = False

        def lines() -> Iterator[bytes]:
            stopper.orderly = True
            yield from ticking.lines(inputs)
            stopper.orderly = False

        found = on_kafka.ingest(
            common,
            lines(),
            refused=not_decoded,
            wait=wait,
            stop=stopper.asked,
            progress=lambda: progress.update(inputs.line, inputs.bytes / inputs.total if inputs.total else None),
        )
        progress.end()
    if found is None:
        print_note(common, f"the broker has {inputs.line:,} inputs; the workers fold them")
    else:
        print_note(common, f"folded by {found.by}")
        tell_of_refused(common, found.of_refused)
        show(common, summary(found.counts, found.of_refused, found.effects, found.digests))
    bad = undecodable or (found is not None and found.counts.refused + found.of_refused > 0)
    return exit_code(stopper, common, strict and bad)


def tell_of_refused(common: OnStore, count: int) -> None:
    """Report duplicates of inputs that were refused when they came first."""
    if count:
        text = f"{count} of the duplicates were refused when they came first"
        report(failure("duplicates_of_refused", text, store=common.store), as_json=common.json)


def tell_recovery(common: Common, host: Host) -> None:
    """Report what opening the store took."""
    recovery = host.recovery
    for note in recovery.notes:
        print_note(common, note)
    if recovery.cut_bytes:
        print_note(common, f"a torn tail of {recovery.cut_bytes} bytes was cut; nothing in it was acknowledged")
    if recovery.folded:
        print_note(
            common, f"recovered: {recovery.folded:,} items folded behind sequence number {recovery.from_sequence:,}"
        )
