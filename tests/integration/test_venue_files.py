"""Market files as venues and people make them: any length of bar, any unit of time, clocks that were put back, archives
of a Mac, symbols that are no pair. What is unclear is named, and never guessed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from margin_stream.importers.brackets import read_brackets
from margin_stream.importers.files import read_market, unix_ns
from margin_stream.importers.market import ImportFault, MarketFile, Pair, RowLeftOut, pair_of
from tests.integration.test_errors import command

HOUR_NS = 3600 * 10**9
START_MS = 1_698_364_800_000


def klines(folder: Path, name: str, bars: int, step_ms: int) -> Path:
    path = folder / name
    rows = [
        f"{START_MS + n * step_ms},{40000 - 300 * n},{40010 - 300 * n},{39690 - 300 * n},{39700 - 300 * n},1,{n}"
        for n in range(bars)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def read(*paths: Path, form: str = "binance-klines", **given: Any) -> tuple[MarketFile, list[RowLeftOut]]:
    left: list[RowLeftOut] = []
    return read_market(form, paths, complain=left.append, **{"zone": None, "label": None, **given}), left


@pytest.mark.parametrize(("name", "step_s"), [("1s", 1), ("1m", 60), ("15m", 900), ("1h", 3600), ("1d", 86_400)])
def test_bars_of_any_length_keep_the_order_of_time(tmp_path: Path, name: str, step_s: int) -> None:
    path = klines(tmp_path, f"BTCUSDT-{name}-2023-10-27.csv", 40, step_s * 1000)
    assert read(path)[0].length_ns == step_s * 10**9
    code, _, day = command("import", "binance-klines", str(path), "--accounts", "20")
    assert code == 0
    rows = [json.loads(line) for line in day.splitlines()]
    clocks = [row["time"] for row in rows if row["type"] == "clock_ticked"]
    assert len(clocks) == len(set(clocks)) == 160
    assert [row for row in rows if row["type"] == "price_ticked"][3]["event_time"] == clocks[3]
    (tmp_path / "day").write_bytes(day)
    found = json.loads(command("ingest", str(tmp_path / "day"), "--store", str(tmp_path / "s"))[2])
    assert (found["refused"], found["duplicate"]) == (0, 0)


def test_hourly_bars_do_not_let_levels_flap(tmp_path: Path) -> None:
    effects: dict[str, list[dict[str, Any]]] = {}
    for name, count, step_ms in (("1h", 12, 3_600_000), ("1m", 720, 60_000)):
        path = tmp_path / f"BTCUSDT-{name}-2023-10-27.csv"
        every = 3_600_000 // step_ms
        prices = [40000 - 200 * n / every for n in range(count + 1)]
        rows = [
            f"{START_MS + n * step_ms},{prices[n]:.2f},{prices[n]:.2f},{prices[n + 1]:.2f},{prices[n + 1]:.2f},1"
            for n in range(count)
        ]
        path.write_text("\n".join(rows))
        (tmp_path / name).write_bytes(command("import", "binance-klines", str(path), "--accounts", "60")[2])
        command("ingest", str(tmp_path / name), "--store", str(tmp_path / f"s{name}"))
        out = command("events", "--effects", "--store", str(tmp_path / f"s{name}"))[2]
        effects[name] = [json.loads(line) for line in out.splitlines()]
    hours, minutes = (
        [(row["account"], row["type"]) for row in effects[name] if row["type"].startswith("margin_")]
        for name in ("1h", "1m")
    )
    assert sorted(hours) == sorted(minutes)
    assert "feed_went_stale" not in {row["type"] for row in effects["1h"]}


def test_the_length_of_bars_is_as_they_lie_or_as_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    head = "ts_ms,symbol,open,high,low,close\n"
    path.write_text(head + "".join(f"{START_MS + n * 300_000},BTCUSDT,1,1,1,1\n" for n in (0, 1, 2, 4, 5)))
    assert read(path, form="bars")[0].length_ns == 300 * 10**9
    assert read(path, form="bars", interval_s=60)[0].length_ns == 60 * 10**9
    path.write_text(head + "".join(f"{START_MS + n},BTCUSDT,1,1,1,1\n" for n in (0, 60_000, 120_000, 130_000)))
    with pytest.raises(ImportFault, match="--interval"):
        read(path, form="bars")
    mixed = [klines(tmp_path, f"BTCUSDT-{name}-2023-10-27.csv", 3, 1000) for name in ("1m", "1h")]
    with pytest.raises(ImportFault, match=r"different lengths \(60 s, 3600 s\)"):
        read(*mixed)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1621431060", 10**9), ("1621431060000", 10**6), ("1621431060000000", 10**3), ("1621431060000000000", 1)],
)
def test_units_of_time_are_told_apart_by_size(text: str, ns: int) -> None:
    assert unix_ns(text) == int(text) * ns == 1_621_431_060_000_000_000
    for wrong in ("0", "-5", "99999999", "1" + "0" * 20, "12h"):
        with pytest.raises(ValueError):
            unix_ns(wrong)


def test_local_times_that_are_ambiguous_or_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    times = [
        "2021-11-07 00:59:00",
        "2021-11-07 01:30:00",
        "2021-11-07T01:30:00-05:00",
        "2021-11-07 02:00:00",
        "2021-03-14 02:30:00",
        "2021-03-14 03:30:00",
    ]
    path.write_text(
        "datetime,symbol,open,high,low,close\n"
        + "".join(f"{time},ES-USD,{n},{n},{n},{n}\n" for n, time in enumerate(times, 1))
    )
    market, left = read(path, form="bars", zone="America/New_York", interval_s=60)
    assert sorted(bar.open for bar in market.bars) == ["1", "3", "4", "6"]
    assert [left[0].where["line"], left[1].where["line"]] == [3, 6]
    assert "the clock showed it twice" in str(left[0])
    assert "it does not exist" in str(left[1])
    path.write_text("datetime,symbol,open,high,low,close\n2021-11-07 01:30:00,ES-USD,1,1,1,1\n")
    code, rows, _ = command("import", "bars", str(path), "--zone", "America/New_York")
    assert (code, [row["code"] for row in rows]) == (1, ["row_left_out", "import_failed"])


def test_an_archive_of_a_mac_is_read(tmp_path: Path) -> None:
    inner = klines(tmp_path, "BTCUSDT-1m-2023-10-27.csv", 2, 60_000).read_text()
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        archive.writestr("days/", "")
        archive.writestr("days/BTCUSDT-1m-2023-10-27.csv", inner)
        archive.writestr("__MACOSX/days/._BTCUSDT-1m-2023-10-27.csv", b"\0\5\x16\7\xff")
        archive.writestr("days/.DS_Store", b"\0\0\0\1Bud1")
    market, left = read(tmp_path / "mac.zip")
    assert (len(market.bars), left) == (2, [])


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", Pair("BTCUSDT", "spot", "BTC", "USDT")),
        ("BTCBRL", Pair("BTCBRL", "spot", "BTC", "BRL")),
        ("AAVE_BTC", Pair("AAVEBTC", "spot", "AAVE", "BTC")),
        ("XMR/ETH", Pair("XMRETH", "spot", "XMR", "ETH")),
        ("AAPL", Pair("AAPL", "equity", "AAPL", "USD")),
        ("BRK-B", Pair("BRK-B", "equity", "BRK-B", "USD")),
        ("BF.B", Pair("BF.B", "equity", "BF.B", "USD")),
        ("BTC-USDT-SWAP", None),
        ("GOLDBARS1", None),
        ("BTCXYZQ", None),
    ],
)
def test_what_a_symbol_is(symbol: str, pair: Pair | None) -> None:
    assert pair_of(symbol) == pair


def test_a_symbol_that_is_unclear_is_named_and_left_out_unless_the_user_states_it(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(
        "ts_ms,symbol,open,high,low,close\n"
        + "".join(f"{START_MS},{symbol},1,1,1,1\n" for symbol in ("BTCUSDT", "BTCXYZQ", "GOLD1"))
    )
    market, left = read(path, form="bars")
    assert list(market.pairs) == ["BTCUSDT"]
    assert [one.where["line"] for one in left] == [3, 4]
    assert "--kind" in str(left[0])
    market, left = read(path, form="bars", kind="equity", quote="EUR")
    assert market.pairs["GOLD1"] == Pair("GOLD1", "equity", "GOLD1", "EUR")
    market, left = read(path, form="bars", kind="spot", quote="XYZQ")
    assert market.pairs["BTCXYZQ"] == Pair("BTCXYZQ", "spot", "BTC", "XYZQ")
    assert len(left) == 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("BTCUSD_PERP-1m-2023-10-27.csv", "coin-margined"),
        ("BTCUSDT_231229-1m-2023-10-27.csv", "dated"),
        ("ETHUSDT.csv", "SYMBOL-INTERVAL-DATE"),
        ("data.csv", "SYMBOL-INTERVAL-DATE"),
        ("BTCUSDT_1m_2021.csv", "SYMBOL-INTERVAL-DATE"),
        ("BTCUSDT-1mo-2021-05.csv", "SYMBOL-INTERVAL-DATE"),
    ],
)
def test_files_that_hold_no_pair_are_refused(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ImportFault, match=what):
        read(klines(tmp_path, name, 2, 60_000))


def test_brackets_of_one_symbol_are_read_as_those_of_many(tmp_path: Path) -> None:
    row = {
        "bracket": 1,
        "initialLeverage": 20,
        "notionalFloor": 0,
        "notionalCap": 50000,
        "maintMarginRatio": 0.01,
        "cum": 0.0,
    }
    one = {"symbol": "BTCUSDT", "brackets": [row]}
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "many.json").write_text(json.dumps([one]))
    found, many = read_brackets(tmp_path / "one.json"), read_brackets(tmp_path / "many.json")
    assert found.sound == many.sound
    assert list(found.sound) == [("BTCUSDT", "USDT")]
    row |= {"maintMarginRatio": 0.125}
    (tmp_path / "one.json").write_text(json.dumps(one | {"notionalCoef": 1.5}))
    notes = read_brackets(tmp_path / "one.json").notes["BTCUSDT", "USDT"]
    assert "0.125 x max_leverage 20 is above 1" in notes[0]
    assert "notionalCoef 1.5" in notes[1]
