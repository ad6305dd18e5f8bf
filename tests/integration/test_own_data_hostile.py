"""Files that nobody meant to make: whatever is in them, an import ends with a message, and writes only when it ends
well. TIMES=50 tries as many times more."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import polars
import pytest
import xlsxwriter

from tests.counts import TIMES
from tests.integration.test_errors import command

GOOD = {
    "accounts": "account,profile,desk\nC-3,prime,x\nC-4,,y\n",
    "positions": "account,instrument,quantity,price,side\nC-1,AAPL,5,100,long\nC-2,BTCUSD,0.5,60000,short\n",
    "collateral": "account,asset,amount,loan\nC-1,USD,5,0\nC-2,USD,0,7\n",
    "prices": "time,instrument,price\n2024-03-04 09:30,AAPL,180\n2024-03-04 10:30,BTCUSD,61000\n",
}
ODD = [
    *[
        "",
        '"',
        '""',
        "\x00",
        "\t",
        "\n",
        "\r",
        "\u202e",
        "１２",
        "٣",
        "1e400",
        "1e-400",
        "Infinity",
        "nan",
        "0x10",
        "-0",
        "+",
    ],
    *[
        "-",
        ".",
        ",",
        "1.2.3",
        "=1+1",
        "9" * 60,
        "9" * 5000,
        "A" * 300,
        "2024-02-30 10:00",
        "2024-03-10 02:30",
        "0",
        "-1",
    ],
    *["1,5", "1.5", "1 000", "null", "true", "C-1", "AAPL", "USD", "é" * 70, "2024-03-04T10:00:00+25:00", "9" * 20],
    *["1709719200", "24:00", "-0.0000000000000000001", "1e5", "\ufeff", "<script>", "../../etc", "long", "perpetual"],
]
Rows = list[list[str]]


def mutated(rng: Random, text: str) -> Rows:
    rows = [row.split(",") for row in text.strip().split("\n")]
    for _ in range(rng.randrange(1, 4)):
        row = rng.choice(rows)
        match rng.randrange(8):
            case 4:
                row.append(rng.choice(ODD))
            case 5 if len(row) > 1:
                row.pop()
            case 6:
                rows.append(list(rng.choice(rows)))
            case 7:
                rng.shuffle(rows)
            case _:
                row[rng.randrange(len(row))] = rng.choice(ODD)
    return rows


def separated(rng: Random, rows: Rows) -> bytes:
    separator, end = rng.choice(",,,,;\t|"), rng.choice(["\n", "\n", "\r\n", "\r"])
    return end.join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")


def packed(rng: Random, rows: Rows) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        archive.writestr("x.csv", separated(rng, rows))
    return data.getvalue()


def workbook(_: Random, rows: Rows) -> bytes:
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data, {"in_memory": True, "nan_inf_to_errors": True})
    sheet = book.add_worksheet()
    for place, row in enumerate(rows):
        for column, cell in enumerate(row):
            sheet.write(place, column, cell[:30_000].replace("\x00", ""))
    book.close()
    return data.getvalue()


def parquet(_: Random, rows: Rows) -> bytes:
    names = [f"{name}{'' if rows[0].index(name) == place else place}" for place, name in enumerate(rows[0])]
    data = io.BytesIO()
    columns = {name: [row[k] if k < len(row) else None for row in rows[1:]] for k, name in enumerate(names)}
    polars.DataFrame(columns, schema=dict.fromkeys(names, polars.String)).write_parquet(data)
    return data.getvalue()


SHAPES: list[Callable[[Random, Rows], bytes]] = [
    *[separated] * 5,
    packed,
    workbook,
    parquet,
    lambda rng, rows: gzip.compress(separated(rng, rows), mtime=0),
    lambda rng, rows: separated(rng, rows).decode("utf-8", "replace").encode("utf-16", "surrogatepass"),
    lambda rng, rows: separated(rng, rows).decode("utf-8", "replace").encode("latin-1", "replace"),
]


def damaged(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.15 and data:
        return data[: rng.randrange(len(data) + 1)]
    found = bytearray(data)
    if rng.random() < 0.2 and found:
        for _ in range(rng.randrange(1, 6)):
            found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


@pytest.mark.slow(reason="many files")
@pytest.mark.parametrize("seed", range(4))
def test_a_hostile_file_ends_with_a_message_and_writes_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = Random(seed)
    assert command("ingest", "-", data=command("profiles", "template", "prime", "--assets", "AAPL,MSFT,BTC")[2])[0] == 0
    Path("a.csv").write_text("account\nC-1\nC-2\n")
    assert command("import", "accounts", "a.csv")[0] == 0
    codes = set()
    for _ in range(80 * TIMES):
        kind = rng.choice(sorted(GOOD))
        Path("f").write_bytes(damaged(rng, rng.choice(SHAPES)(rng, mutated(rng, GOOD[kind]))))
        words = ["import", kind, "f"]
        if kind != "accounts":
            words += ["--zone", "America/New_York"]
        if kind in ("positions", "collateral"):
            words += ["--at", "2024-03-04T14:30:00Z"]
        words += ["--check"] if rng.random() < 0.3 else []
        words += ["--decimal-comma"] if rng.random() < 0.2 else []
        before = json.loads(command("digest")[2])
        code, errors, _ = command(*words)
        assert code in (0, 2, 4), (Path("f").read_bytes(), errors)
        assert all(row.get("code") != "internal_error" for row in errors), (Path("f").read_bytes(), errors)
        if code:
            assert errors
            assert json.loads(command("digest")[2]) == before, Path("f").read_bytes()
        codes.add(code)
    assert {0, 4} <= codes
    assert command("verify")[0] == command("replay")[0] == 0
