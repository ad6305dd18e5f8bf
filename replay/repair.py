"""Repair: what can be mended of a damaged store without losing anything that was acknowledged. Shown first, and a copy
is kept of all that changes.

Three things can: a tail behind the durable mark is cut; tables, which are a cache, are moved aside and folded again; a
high-water file is written again where its content is known (``marks``). Everything else is refused with what to do
instead, and while anything is refused nothing is changed: tables, for one, are worth keeping while the journal is in
doubt.

A repair may be stopped anywhere and run again: copies are durable before anything is changed, each change is whole or
not there, and what is left to do is found anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from margin_stream.host.embedded import Host
from margin_stream.host.lock import Lock
from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.highwater import HighWater
from margin_stream.journal.layout import Layout, Manifest, StoreMissing, check_files, read_manifest
from margin_stream.journal.log_end import Loose, find_end
from margin_stream.journal.records import CorruptLog, segment_name, segments
from margin_stream.replay.high_water_proof import NotProven, derived
from margin_stream.replay.verification import Problem, Verified, refold, verify

COPIES = "repaired"
"""The folder, within the store, of what repairs changed."""
RESTORE = (
    "restore the store from a backup or a replica, or make a new one by sending its inputs again; this "
    "folder is left as it is"
)
EXPORT = (
    "the journal is whole: `margin-stream export NEW --store THIS` folds it into a new store; or restore "
    "this one from a backup"
)


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be, and what can be done."""

    file: str
    """Relative to the store."""
    offset: int | None
    what: str
    action: str
    """``cut``, ``rebuild``, ``rewrite``, or ``refused``."""
    does: str
    """What a repair does; where it is refused, what to do instead."""
    keeps: str
    """Where the copy of what is changed goes, relative to the store; empty where nothing is."""


class Plan(msgspec.Struct, frozen=True):
    """What a repair would do."""

    findings: list[Finding]
    copies: str
    """The folder for copies, relative to the store."""
    cuts: list[Loose] = []
    marks: list[tuple[Path, bytes]] = []
    tables: bool = False

    @property
    def refused(self) -> list[Finding]:
        """What cannot be mended; then nothing is."""
        return [finding for finding in self.findings if finding.action == "refused"]


class Repair:
    """A store under repair: holds the writer's lock from the first look until the store has been opened and closed
    again."""

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        """
        Raises:
            StoreMissing: there is no store.
            StoreLocked: somebody writes to it.
        """
        self.layout = Layout(path)
        self._disk = disk or Disk()
        check_files(self.layout)
        if not (self.layout.manifest.exists() or self.layout.journal.exists()):
            read_manifest(self.layout)
        self._lock = Lock(self.layout.lock)

    def __enter__(self) -> Repair:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    # ---- looking --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Look at everything and say what a repair would do; nothing is changed."""
        try:
            return _Planner(self.layout, verify(self.layout.root)).plan()
        except StoreMissing:
            # Its making was interrupted: nothing was acknowledged, and the next writer makes it anew.
            return Plan([], "")

    # ---- doing ----------------------------------------------------------------------------------------------------

    def carry_out(self, plan: Plan) -> Verified:
        """Do what a plan states, open the store as a writer does, and verify it.

        Raises:
            ValueError: the plan has something that is refused.
            CorruptLog, Fault, OSError: the store is left so that a repair can be run again.
        """
        if plan.refused:
            raise ValueError("a plan with something that is refused is not carried out")
        root, disk = self.layout.root, self._disk
        if plan.findings:
            copies = root / plan.copies
            disk.make_folder(copies)
            note = [msgspec.to_builtins(finding) for finding in plan.findings]
            disk.replace(copies / "repair.json", json.dumps(note, indent=1).encode() + b"\n")
            for loose in plan.cuts:
                self._keep(copies, loose.path, loose.path.read_bytes()[loose.offset :])
            for path, _ in plan.marks:
                if path.exists():
                    self._keep(copies, path, path.read_bytes())
            for path, data in plan.marks:
                for segment in segments(path.parent):
                    disk.sync_file(path.parent / segment_name(segment))
                disk.replace(path, data)
            for loose in plan.cuts:
                disk.cut(loose.path, loose.offset)
            if plan.tables and self.layout.tables.exists():
                disk.rename(self.layout.tables, copies / self.layout.tables.name)
                disk.sync_folder(copies)
                disk.sync_folder(root)
        Host(root, disk=disk, lock=self._lock).close()
        return verify(root)

    def _keep(self, copies: Path, path: Path, data: bytes) -> None:
        kept = copies / path.relative_to(self.layout.root)
        self._disk.make_folder(kept.parent)
        self._disk.replace(kept, data)


class _Planner:
    def __init__(self, layout: Layout, verified: Verified) -> None:
        self._layout = layout
        self._problems = verified.problems
        self._findings: list[Finding] = []
        self._cuts: list[Loose] = []
        self._marks: list[tuple[Path, bytes]] = []
        self._proven = False
        """A mark is lost and its content proven; the logs cannot be read before it is written."""
        taken = {int(path.name) for path in (layout.root / COPIES).glob("[0-9]*") if path.name.isdigit()}
        self._copies = f"{COPIES}/{max(taken, default=0) + 1:04d}"

    def plan(self) -> Plan:
        try:
            manifest = read_manifest(self._layout)
        except Exception as error:
            advice = "restore manifest.json from a backup: it never changes after the store is made"
            self._add(self._layout.manifest, 0, str(error), "refused", advice, "")
            return Plan(self._findings, self._copies)
        left = list(self._problems)
        for folder in (self._layout.journal, self._layout.digests, *self._layout.effects_logs(manifest.partitions)):
            left = self._log(folder, manifest, left)
        left = self._lost_marks(manifest, left)
        tables = [problem for problem in left if Path(problem.file).is_relative_to(self._layout.tables)]
        for problem in left:
            if problem not in tables:
                self._add(
                    Path(problem.file),
                    problem.offset,
                    problem.what,
                    "refused",
                    self._advice(Path(problem.file), left),
                    "",
                )
        if tables:
            self._tables(tables)
        return Plan(self._findings, self._copies, self._cuts, self._marks, bool(tables))

    def _add(self, path: Path, offset: int | None, what: str, action: str, does: str, keeps: str) -> None:
        root = self._layout.root
        file = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        self._findings.append(Finding(file, offset, what, action, does, keeps))

    def _kept(self, path: Path) -> str:
        return f"{self._copies}/{path.relative_to(self._layout.root)}"

    def _log(self, folder: Path, manifest: Manifest, left: list[Problem]) -> list[Problem]:
        """Offer to cut what is loose and to write a half damaged mark anew; return the problems that remain."""
        path = folder / highwater.NAME
        try:
            mark = highwater.read(path, manifest.identity)
            end, loose = find_end(folder, manifest.identity, mark)
        except (CorruptLog, FileNotFoundError):
            return left
        self._cut(loose)
        if not mark.damaged:
            return left
        # A whole slot beside a damaged one may be the older: then the tables and the records say how far it was, as
        # they do on opening.
        cut = mark.cut if mark.certain else end
        does = f"write the file anew for record {cut.number}, " + (
            "as it states" if mark.certain else "the end of what is whole"
        )
        for offset, what in mark.damaged:
            self._add(path, offset, what, "rewrite", does, self._kept(path))
        self._marks.append((path, highwater.renewed_bytes(manifest.identity, mark._replace(cut=cut))))
        return [
            problem
            for problem in left
            if not (problem.file == str(path) and (problem.offset, problem.what) in mark.damaged)
        ]

    def _cut(self, loose: tuple[Loose, ...]) -> None:
        for found in loose:
            does = f"cut {found.length} bytes behind the durable end, which were never acknowledged"
            self._add(found.path, found.offset, found.what, "cut", does, self._kept(found.path))
            self._cuts.append(found)

    def _lost_marks(self, manifest: Manifest, left: list[Problem]) -> list[Problem]:
        """Offer to write lost high-water files of effects and digests again, where it is proven what they reported."""
        lost: dict[Path, CorruptLog] = {}
        for folder in (self._layout.journal, self._layout.digests, *self._layout.effects_logs(manifest.partitions)):
            try:
                highwater.read(folder / highwater.NAME, manifest.identity)
            except CorruptLog as error:
                lost[folder] = error
        if not lost:
            return left
        paths = {str(folder / highwater.NAME) for folder in lost}
        try:
            ends = derived(self._layout, manifest, list(lost))
        except NotProven as reason:
            for folder, damage in lost.items():
                does = f"{reason}; {self._advice(folder / highwater.NAME, left)}"
                self._add(folder / highwater.NAME, damage.offset, damage.what, "refused", does, "")
        else:
            self._proven = True
            for folder, (cut, loose) in ends.items():
                self._cut(loose)
                path = folder / highwater.NAME
                does = f"write it again for record {cut.number}, the proven end of the log"
                self._add(
                    path,
                    lost[folder].offset,
                    lost[folder].what,
                    "rewrite",
                    does,
                    self._kept(path) if path.exists() else "",
                )
                self._marks.append((path, highwater.renewed_bytes(manifest.identity, HighWater(1, cut, ()))))
        return [problem for problem in left if problem.file not in paths]

    def _tables(self, problems: list[Problem]) -> None:
        """Offer to fold the tables anew, if the journal comes to what was recorded."""
        refusing = any(finding.action == "refused" for finding in self._findings)
        if not refusing and not self._proven:
            differing: list[Problem] = []
            refold(self._layout.root, differing, "", "")
            for problem in differing:
                self._add(self._layout.journal, None, problem.what, "refused", RESTORE, "")
        does = "move the tables aside and fold the journal again"
        for problem in problems:
            keeps = self._kept(self._layout.tables) if self._layout.tables.exists() else ""
            self._add(Path(problem.file), problem.offset, problem.what, "rebuild", does, keeps)

    def _advice(self, path: Path, problems: list[Problem]) -> str:
        journal = self._layout.journal
        whole = not any(Path(problem.file).is_relative_to(journal) for problem in problems)
        return EXPORT if whole and path.is_relative_to(self._layout.effects) else RESTORE


def findings_of(plan: Plan) -> Iterator[str]:
    """Yield what a plan found, for people."""
    for finding in plan.findings:
        place = finding.file if finding.offset is None else f"{finding.file}: offset {finding.offset}"
        yield f"{place}: {finding.what}"
        yield f"  {finding.action}: {finding.does}" + (f"; a copy goes to {finding.keeps}" if finding.keeps else "")
