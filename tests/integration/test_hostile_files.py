"""Files that unpack to too much, never end a line, nest too deep or hold huge numbers: one error each that names the
file, and bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT_MIB = 300
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
SLOW = pytest.mark.slow(reason="packs half a gigabyte")


def zeros(path: Path, mib: int) -> None:
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for _ in range(mib):
            packed.write(bytes(1 << 20))


def bars(folder: Path) -> list[str]:
    zeros(folder / "bars.csv.gz", 512)
    return ["import", "bars", str(folder / "bars.csv.gz")]


def klines(folder: Path) -> list[str]:
    with (
        zipfile.ZipFile(folder / "BTCUSDT-1m.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("BTCUSDT-1m.csv", "w", force_zip64=True) as entry,
    ):
        for _ in range(512):
            entry.write(bytes(1 << 20))
    return ["import", "binance-klines", str(folder / "BTCUSDT-1m.zip")]


def plain(folder: Path) -> list[str]:
    (folder / "bars.csv").write_bytes(b"0" * (8 << 20))
    return ["import", "bars", str(folder / "bars.csv")]


def tables(text: bytes) -> Callable[[Path], list[str]]:
    def made(folder: Path) -> list[str]:
        (folder / "ok.csv").write_text("ts_ms,symbol,open,high,low,close\n1621382400000,BTCUSDT,1,1,1,1\n")
        (folder / "tiers.json").write_bytes(text)
        return [
            *("import", "bars", str(folder / "ok.csv"), "--profile", "binance-usdm"),
            *("--brackets", str(folder / "tiers.json")),
        ]

    return made


def bomb(folder: Path) -> list[str]:
    words = tables(b"")(folder)
    zeros(folder / "tiers.json", 512)
    return words


def settings(folder: Path) -> list[str]:
    (folder / "settings.toml").write_bytes(b"# " + b"x" * (2 << 20))
    return ["config", "show", "--config", str(folder / "settings.toml")]


def nested_settings(folder: Path) -> list[str]:
    (folder / "settings.toml").write_bytes(b"a = " + b"[" * 100_000)
    return ["config", "show", "--config", str(folder / "settings.toml")]


HUGE = json.dumps(
    [
        {
            "symbol": "BTCUSDT",
            "brackets": [
                {
                    "bracket": 1,
                    "initialLeverage": 10,
                    "notionalCap": "1e999999999",
                    "notionalFloor": 0,
                    "maintMarginRatio": "0.01",
                    "cum": 0,
                }
            ],
        }
    ]
).encode()

huge_number = tables(HUGE)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        pytest.param(bars, "bars.csv.gz:1: the line has 64 KiB or more", marks=SLOW),
        pytest.param(klines, "BTCUSDT-1m.csv:1: the line has 64 KiB or more", marks=SLOW),
        (plain, "bars.csv:1: the line has 64 KiB or more"),
        (tables(b"[" * 1_000_000), "nested too deep"),
        (huge_number, "out of range"),
        pytest.param(bomb, "more than 64 MiB", marks=SLOW),
        (settings, "more than 1 MiB"),
        (nested_settings, "settings.toml"),
    ],
    ids=["gzip", "zip", "plain", "nested", "huge-number", "table-bomb", "settings", "nested-settings"],
)
def test_each_is_one_error_with_bounded_memory(made: Callable[[Path], list[str]], named: str, tmp_path: Path) -> None:
    words = made(tmp_path)
    # A child begins with the peak of the process that starts it, so a small process stands between.
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "margin_stream.cli", *words],
        capture_output=True,
        text=True,
    )
    status, peak_kib = map(int, ran.stdout.splitlines()[-1].split())
    complaint = ran.stderr
    # A table that is not sound is named, and the import goes on.
    assert status in ((0,) if made is huge_number else (1, 2, 4)), complaint
    assert named in complaint
    assert "Traceback" not in complaint
    assert complaint.count("next:") == 1
    assert peak_kib < LIMIT_MIB << 10
