"""A store's folder and its manifest; and the journals that tests and hosts append to."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import (
    CorruptManifest,
    Layout,
    Manifest,
    ManifestMissing,
    PartitionsOutOfRange,
    RecordedDigest,
    StoreError,
    StoreMissing,
    StoreNewer,
    StoreOlder,
    new_manifest,
    read_manifest,
    write_manifest,
)
from margin_stream.schemas.rules_versions import LATEST
from tests.journals import Journal, MemoryJournal, SegmentJournal

STORE = bytes(range(16))
FIELDS: dict[str, Any] = {
    "format": 2,
    "store_id": STORE.hex(),
    "partitions": 3,
    "slots": 4096,
    "engine_version": 1,
    "clock_source": "input",
}
MANIFEST = msgspec.convert(FIELDS, Manifest)


def text_of(fields: dict[str, Any]) -> bytes:
    """Return a manifest with its checksum, without the code under test."""
    plain = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return json.dumps({**fields, "sha256": sha256(plain.encode()).hexdigest()}, indent=1).encode() + b"\n"


def test_the_parts_of_a_store_lie_where_they_always_lay(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    names = {
        "manifest": "manifest.json",
        "lock": "lock",
        "making": "making",
        "journal": "journal",
        "digests": "digests",
        "tables": "tables",
    }
    for part, name in names.items():
        assert getattr(layout, part) == tmp_path / name
    assert layout.effects_logs(2) == [tmp_path / "effects" / name for name in ("intake", "p0000", "p0001")]
    assert layout.effects_logs(256)[-1].name == "p0255"
    assert layout.table("p0001") == tmp_path / "tables" / "p0001"
    assert layout.root == tmp_path


def test_a_manifest_is_written_with_its_checksum_and_read_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_manifest(layout, MANIFEST, Disk())
    assert layout.manifest.read_bytes() == text_of(FIELDS)
    assert read_manifest(layout) == MANIFEST
    assert MANIFEST.identity == STORE
    assert RecordedDigest(1, 2, "s", "e") == RecordedDigest(sequence=1, journal_record=2, state="s", effects="e")


@pytest.mark.parametrize(("partitions", "good"), [(0, False), (1, True), (256, True), (257, False), (-1, False)])
def test_a_store_has_one_to_256_partitions(partitions: int, good: bool) -> None:
    if good:
        made = new_manifest(partitions, LATEST)
        assert {**FIELDS, "partitions": partitions, "store_id": made.store_id} == msgspec.to_builtins(made)
        assert len(made.identity) == 16
        assert new_manifest(partitions, LATEST).store_id != made.store_id
    else:
        with pytest.raises(PartitionsOutOfRange) as caught:
            new_manifest(partitions, LATEST)
        assert str(caught.value) == f"--partitions: from 1 to 256, not {partitions}"


def test_a_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(StoreMissing) as caught:
            read_manifest(Layout(root))
        assert str(caught.value) == f"{root}: no store here (no manifest.json)"
    assert issubclass(StoreMissing, StoreError)
    assert issubclass(ManifestMissing, CorruptManifest)


@pytest.mark.parametrize(
    ("field", "value"), [("format", 3), ("engine_version", 2), ("format", 9), ("engine_version", 9)]
)
def test_a_store_of_a_newer_build_is_left_alone(tmp_path: Path, field: str, value: int) -> None:
    layout = Layout(tmp_path)
    fields = {**FIELDS, field: value}
    layout.manifest.write_bytes(text_of(fields))
    with pytest.raises(StoreNewer) as caught:
        read_manifest(layout)
    made = f"made by a newer margin-stream (format {fields['format']}, rules version {fields['engine_version']})"
    assert str(caught.value) == f"{tmp_path}: {made}; this one knows format 2, rules version 1"


def test_a_store_of_an_earlier_build_is_refused_by_its_format(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.manifest.write_bytes(text_of({**FIELDS, "format": 1, "engine_version": 2}))
    with pytest.raises(StoreOlder) as caught:
        read_manifest(layout)
    assert str(caught.value) == (
        f"{tmp_path}: made by an earlier margin-stream (format 1; this one knows 2), whose rules are others"
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b'"partitions": 3', b'"partitions": 4'),
        lambda data: data.replace(b" 3,", b"  3,"),
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data[:40],
        lambda data: b"",
        lambda data: b"\xff",
        lambda data: b"[]",
        lambda data: b"7",
        lambda data: b"{}",
        lambda data: text_of({**FIELDS, "partitions": "3"}),
        lambda data: text_of({name: value for name, value in FIELDS.items() if name != "slots"}),
        lambda data: text_of({**FIELDS, "format": "1"}),
    ],
)
def test_a_damaged_manifest_is_said_to_be_damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    layout = Layout(tmp_path)
    layout.manifest.write_bytes(damage(text_of(FIELDS)))
    with pytest.raises(CorruptManifest) as caught:
        read_manifest(layout)
    assert str(caught.value).startswith(f"{layout.manifest}: offset 0: the manifest is damaged: ")


def test_a_manifest_that_was_edited_does_not_match_its_checksum(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.manifest.write_bytes(text_of(FIELDS).replace(b'"partitions": 3', b'"partitions": 4'))
    with pytest.raises(CorruptManifest, match=r": it does not match its checksum$"):
        read_manifest(layout)


@pytest.mark.parametrize("kind", ["memory", "segments"])
def test_a_journal_numbers_records_from_one_and_reads_them_behind_any(tmp_path: Path, kind: str) -> None:
    journal: Journal = MemoryJournal() if kind == "memory" else SegmentJournal(tmp_path / "journal", STORE)
    assert journal.end() == 0
    assert list(journal.records()) == []
    assert journal.append([]) == 0
    assert journal.append([b"a", b""]) == 2
    assert journal.append([b"c"]) == 3
    assert journal.end() == 3
    expected = [(1, b"a"), (2, b""), (3, b"c")]
    for after in range(5):
        assert list(journal.records(after)) == expected[after:]
    reader = journal.records()
    assert next(reader) == expected[0]
    journal.append([b"d"])
    assert list(reader) == expected[1:]
    journal.close()
    if kind == "segments":
        again = SegmentJournal(tmp_path / "journal", STORE, Disk())
        assert list(again.records()) == [*expected, (4, b"d")]
        assert again.append([b"e"]) == 5
        again.close()
