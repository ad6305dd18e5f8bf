"""Damaged media: a bit, a page, a segment, a file of another time or another store; the store must notice, and lose
nothing in silence.

What must hold: ``verify`` names the place of damage to anything durable; opening for writing refuses with a reason, or
comes to exactly the state of an uninterrupted run with every acknowledged input there, each once (``checker``).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from margin_stream.core.checks import Fault
from margin_stream.journal.layout import StoreError
from margin_stream.journal.records import CorruptLog
from margin_stream.replay.verification import verify
from tests.simulation import checker
from tests.simulation.stores import STATES, Made, copied, made

SEEDS_A_STORE = 1000
"""So many trials share a store."""
OPENED = 25
PAGE = 512


class Damage(NamedTuple):
    """What was done to a store."""

    file: Path
    """Relative."""
    offset: int
    what: str
    must_be_noticed: bool
    mask: int = 0
    """The bit."""


def files_of(root: Path) -> list[Path]:
    """Return the files that a store reads. RocksDB's text logs and lock files, and its notes of options, are read by
    nobody."""
    return sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.is_file()
        and path.name not in ("lock", "LOCK")
        and not path.name.startswith(("LOG", "OPTIONS-"))
        and path.stat().st_size
    )


def _noticed(store: Made, file: Path, offset: int) -> bool:
    """Say whether damage at a place must be named by ``verify``."""
    if file in store.durable:
        return offset < store.durable[file]
    if file.parts[0] == "tables":
        # A database that was not closed has no checksums of its files; what is behind its last checkpoint may go
        # unseen, and is not used.
        return store.state == "closed"
    return True


def flip(store: Made, root: Path, rng: Random) -> Damage:
    """Flip one bit of one file."""
    files = files_of(root)
    # Small files matter as much as large ones.
    file = rng.choices(files, [min((root / name).stat().st_size, 4000) for name in files])[0]
    data = bytearray((root / file).read_bytes())
    offset = rng.randrange(len(data))
    mask = 1 << rng.randrange(8)
    data[offset] ^= mask
    (root / file).write_bytes(data)
    return Damage(file, offset, "one bit", _noticed(store, file, offset), mask)


def _write(root: Path, store: Made, file: Path, before: bytes, after: bytes, what: str) -> Damage:
    (root / file).write_bytes(after)
    place = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    return Damage(file, place, what, before != after and _noticed(store, file, place))


def zero_page(store: Made, root: Path, rng: Random) -> Damage:
    """Zero a page of a file."""
    file = rng.choice(files_of(root))
    data = (root / file).read_bytes()
    start = rng.randrange(len(data)) // PAGE * PAGE
    length = min(PAGE * rng.choice((1, 8)), len(data) - start)
    return _write(root, store, file, data, data[:start] + bytes(length) + data[start + length :], "a zeroed page")


def swap_pages(store: Made, root: Path, rng: Random) -> Damage:
    """Swap two pages of a file: each was written to the other's place."""
    file = rng.choice([name for name in files_of(root) if (root / name).stat().st_size > PAGE])
    data = (root / file).read_bytes()
    pages = [data[n : n + PAGE] for n in range(0, len(data), PAGE)]
    one, other = rng.sample(range(len(pages)), 2)
    pages[one], pages[other] = pages[other], pages[one]
    return _write(root, store, file, data, b"".join(pages), "two pages swapped")


def _segments(root: Path, least: int) -> list[list[Path]]:
    found = []
    for folder in sorted({path.parent for path in root.rglob("*.seg")}):
        names = sorted(folder.glob("*.seg"))
        if len(names) >= least:
            found.append(names)
    return found


def swap_segments(store: Made, root: Path, rng: Random) -> Damage:
    """Swap two segments of a log, or of two logs."""
    everywhere = [name for names in _segments(root, 1) for name in names]
    one, other = rng.sample(everywhere, 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    file = one.relative_to(root)
    return Damage(file, 0, "two segments swapped", True)


def double_segment(store: Made, root: Path, rng: Random) -> Damage:
    """Copy a segment over its neighbour, or beside it under a name of the log's own kind."""
    names = rng.choice(_segments(root, 1))
    source = rng.choice(names)
    number = rng.choice(
        (
            int(source.stem) + 1,
            int(names[-1].stem) + rng.randrange(1, 50),
            *(int(name.stem) for name in names if name != source),
        )
    )
    target = source.with_name(f"{number:020d}.seg")
    shutil.copy(source, target)
    return Damage(target.relative_to(root), 0, "a segment doubled", True)


def lose_segment(store: Made, root: Path, rng: Random) -> Damage:
    """Remove a segment."""
    path = rng.choice([name for names in _segments(root, 1) for name in names])
    path.unlink()
    file = path.relative_to(root)
    return Damage(file, 0, "a segment missing", store.durable[file] > 0)


def cut_file(store: Made, root: Path, rng: Random) -> Damage:
    """Cut a file short."""
    file = rng.choice(files_of(root))
    data = (root / file).read_bytes()
    return _write(root, store, file, data, data[: rng.randrange(len(data))], "cut short")


def stale_file(store: Made, root: Path, rng: Random) -> Damage:
    """Put one file, or the tables, back to what they were at an earlier checkpoint."""
    both = [name for name in files_of(store.older) if name.parts[0] != "tables" and (root / name).exists()]
    file = rng.choice([*both, Path("tables")])
    if file == Path("tables"):
        shutil.rmtree(root / file)
        shutil.copytree(store.older / file, root / file)
    else:
        shutil.copy(store.older / file, root / file)
    # A stale mark hides nothing that is still there; a stale segment is a short one.
    return Damage(
        file,
        0,
        "of an earlier time",
        file.suffix == ".seg" and _noticed(store, file, (store.older / file).stat().st_size),
    )


def foreign_file(store: Made, root: Path, rng: Random) -> Damage:
    """Put a file, or the tables, of another store in the place."""
    other = made(10**6, "closed").path
    file = rng.choice(
        [*(name for name in files_of(root) if name.parts[0] != "tables" and (other / name).exists()), Path("tables")]
    )
    if file == Path("tables"):
        shutil.rmtree(root / file)
        shutil.copytree(other / file, root / file)
    else:
        shutil.copy(other / file, root / file)
    return Damage(file, 0, "of another store", True)


def lose_file(store: Made, root: Path, rng: Random) -> Damage:
    """Remove a file: a high-water mark, the manifest, a table's."""
    file = rng.choice(files_of(root))
    (root / file).unlink()
    return Damage(file, 0, "missing", _noticed(store, file, 0) and file.name != "seal.json")


SHAPES: dict[str, Callable[[Made, Path, Random], Damage]] = {
    shape.__name__: shape
    for shape in (
        zero_page,
        swap_pages,
        swap_segments,
        double_segment,
        lose_segment,
        cut_file,
        stale_file,
        foreign_file,
        lose_file,
    )
}


def store_of(seed: int) -> Made:
    """Return the store that a seed damages. One in a hundred was killed, one has a torn tail: few, as their tables are
    read in other processes."""
    number = seed // SEEDS_A_STORE
    state = STATES[seed % 100] if seed % 100 in (1, 2) else STATES[0]
    return made(number, state)


def look(store: Made, root: Path, damage: Damage) -> str:
    """Let ``verify`` see a damaged store, and compare what it says with what it must.

    Raises:
        AssertionError: damage to something durable went unnoticed, or was placed elsewhere.
    """
    place = f"{damage.file} offset {damage.offset}: {damage.what} ({store.state})"
    found = verify(root, fold=False)
    if damage.must_be_noticed:
        assert not found.ok, f"{place}: verify noticed nothing"
        within = str(root / damage.file.parts[0])
        # With the manifest of another store, it is everything else that seems foreign.
        foreign = damage.file.name == "manifest.json"
        assert foreign or any(problem.file.startswith(within) for problem in found.problems), (
            f"{place}: verify named {found.problems}"
        )
    return place


def judge(store: Made, root: Path, damage: Damage) -> str:
    """Let ``verify`` and a writer see a damaged store; return what became of it.

    Raises:
        AssertionError, Lost: damage went unnoticed, or something was lost, doubled or is otherwise.
    """
    place = look(store, root, damage)
    try:
        host = store.work.open(root)
    except (CorruptLog, StoreError, Fault) as error:
        if not str(error):
            raise AssertionError(f"{place}: refused without a reason") from error
        return "refused"
    with host:
        host.ingest(store.work.lines)
        got = host.checkpoint()
    assert got == store.reference, f"{place}: the state is not that of an uninterrupted run"
    behind = _damage_behind_the_checkpoint(store, root)
    if behind:
        # The writer reads a log from the segment of its checkpoint on; of what lies before, verify must go on to speak
        # until it is put back.
        assert not verify(root, fold=False).ok, f"{place}: verify forgot the damage"
        for name in behind:
            if (store.path / name).exists():
                shutil.copy(store.path / name, root / name)
            else:
                (root / name).unlink()
    checker.check(root, store.work.lines, store.acknowledged)
    after = verify(root, fold=False)
    assert after.ok, f"{place}: after recovery: {after.problems}"
    return "opened behind the damage" if behind else "recovered"


def _damage_behind_the_checkpoint(store: Made, root: Path) -> list[Path]:
    """Return the segments, but for the last of each log, that differ from the whole store's, and such as that does not
    have."""
    found = []
    for folder in sorted({path.parent for path in store.path.rglob("*.seg")}):
        log = folder.relative_to(store.path)
        whole = sorted(path.name for path in folder.glob("*.seg"))
        there = sorted(path.name for path in (root / log).glob("*.seg"))
        for name in sorted({*whole, *there} - {whole[-1]}):
            theirs, ours = folder / name, root / log / name
            if not ours.exists() or not theirs.exists() or theirs.read_bytes() != ours.read_bytes():
                found.append(log / name)
    return found


def _trial(seed: int, kinds: dict[str, Callable[[Made, Path, Random], Damage]]) -> dict[str, int]:
    rng = Random(f"damage {seed}")
    store = store_of(seed)
    name = rng.choice(sorted(kinds))
    folder = Path(tempfile.mkdtemp(prefix="damage-"))
    try:
        root = copied(store, folder / "s")
        damage = kinds[name](store, root, rng)
        ended = judge(store, root, damage)
        return {
            name: 1,
            ended: 1,
            "noticed at once": int(damage.must_be_noticed),
            f"on {damage.file.parts[0]}": 1,
            store.state: 1,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flip_trial(seed: int) -> dict[str, int]:
    """Flip one bit of a store. Every store is verified; one in ``OPENED`` is opened for writing, too."""
    if seed % OPENED == 0 or store_of(seed).state != "closed":
        return _trial(seed, {"flip": flip})
    store = store_of(seed)
    damage = flip(store, store.path, Random(f"damage {seed}"))
    try:
        look(store, store.path, damage)
    finally:
        # Flipped in place: it is flipped back.
        data = bytearray((store.path / damage.file).read_bytes())
        data[damage.offset] ^= damage.mask
        (store.path / damage.file).write_bytes(data)
    return {
        "verified": 1,
        "noticed at once": int(damage.must_be_noticed),
        f"on {damage.file.parts[0]}": 1,
        store.state: 1,
    }


def shape_trial(seed: int) -> dict[str, int]:
    """Damage a store in one of the other ways."""
    return _trial(seed, SHAPES)
