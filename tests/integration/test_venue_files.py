"""Market files as venues and people make them: any length of bar, any unit of time, clocks that were put back, archives
of a Mac, symbols that are no pair. What is unclear is named, and never guessed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from margin_stream.importers.brackets import read_brackets
from margin_stream.importers.files import read_market
from margin_stream.importers.market import ImportFault, MarketFile, Pair, RowLeftOut, pair_of
from margin_stream.importers.text_files import unix_ns
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


# ---- what vendors publish --------------------------------------------------------------------------------------------

DAY_NS = 86_400 * 10**9
MONDAY_NS = 1_709_510_400 * 10**9
"""2024-03-04, midnight UTC."""
VENDORS: dict[str, tuple[str, str, str, dict[str, Any], list[tuple[int, str, str, str]], int]] = {
    "stooq, one symbol": (
        "stooq",
        "aapl_us_d.csv",
        "Date,Open,High,Low,Close,Volume\n2024-03-04,176.15,176.9,173.79,175.1,81510101\n2024-03-05,170.76,172.04,169.62,170.12,95132355\n",
        {"zone": "America/New_York"},
        [(MONDAY_NS + 5 * HOUR_NS, "AAPL", "176.15", "175.1"), (MONDAY_NS + 29 * HOUR_NS, "AAPL", "170.76", "170.12")],
        DAY_NS,
    ),
    "stooq, bulk": (
        "stooq",
        "data.txt",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\nAAPL.US,5,20240304,153500,176.1,176.9,173.7,175.1,8,0\n",
        {"zone": "UTC"},
        [(MONDAY_NS + 15 * HOUR_NS + 35 * 60 * 10**9, "AAPL", "176.1", "175.1")],
        300 * 10**9,
    ),
    "yahoo, days": (
        "yahoo",
        "BRK-B.csv",
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-03-04,406.36,410.55,405.26,407.48,407.48,3434700\n",
        {"zone": "UTC", "interval_s": 86_400},
        [(MONDAY_NS, "BRK-B", "406.36", "407.48")],
        DAY_NS,
    ),
    "yahoo, intraday with offsets": (
        "yahoo",
        "x.csv",
        "Datetime,Open,High,Low,Close,Adj Close,Volume\n2024-03-04 09:30:00-05:00,406,407,405,406.5,406.5,34\n",
        {"symbol": "MSFT"},
        [(MONDAY_NS + 14 * HOUR_NS + 30 * 60 * 10**9, "MSFT", "406", "406.5")],
        60 * 10**9,
    ),
    "polygon": (
        "polygon",
        "2024-03-04.csv",
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        f"AAPL,4930,176.15,175.9,176.2,175.8,{MONDAY_NS},129\nX:BTC-USD,4,63000,63100,63200,62900,{MONDAY_NS},3\n",
        {},
        [(MONDAY_NS, "AAPL", "176.15", "175.9"), (MONDAY_NS, "BTC-USD", "63000", "63100")],
        60 * 10**9,
    ),
    "databento, units": (
        "databento",
        "d.csv",
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
        f"{MONDAY_NS},34,2,38,176150000000,176900000000,173790000000,175100000000,8,AAPL\n",
        {},
        [(MONDAY_NS, "AAPL", "176.150000000", "175.100000000")],
        HOUR_NS,
    ),
    "databento, pretty": (
        "databento",
        "d.csv",
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
        "2024-03-04T00:00:00.000000000Z,33,2,38,176.150000000,176.900000000,173.790000000,175.100000000,8,AAPL\n",
        {},
        [(MONDAY_NS, "AAPL", "176.150000000", "175.100000000")],
        60 * 10**9,
    ),
    "ccxt, by name": (
        "ccxt",
        "BTC_USDT-5m.json",
        f"[[{MONDAY_NS // 10**6}, 63000.1, 63100, 62900.5, 63050, 12.5]]",
        {},
        [(MONDAY_NS, "BTC_USDT", "63000.1", "63050")],
        300 * 10**9,
    ),
    "ccxt, by option": (
        "ccxt",
        "x.json",
        f"[[{MONDAY_NS // 10**6}, 6.3e-05, 6.4e-05, 6.2e-05, 6.3e-05, 1], [{MONDAY_NS // 10**6 + 3_600_000}, 6.3e-05, 6.4e-05, 6.2e-05, 6.3e-05, null]]",
        {"symbol": "SHIB/USDT"},
        [(MONDAY_NS, "SHIB/USDT", "0.000063", "0.000063"), (MONDAY_NS + HOUR_NS, "SHIB/USDT", "0.000063", "0.000063")],
        HOUR_NS,
    ),
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_bars_are_read_as_vendors_publish_them(tmp_path: Path, vendor: str) -> None:
    form, name, content, options, expected, length_ns = VENDORS[vendor]
    (tmp_path / name).write_text(content)
    market, left = read(tmp_path / name, form=form, **options)
    assert left == []
    assert [(bar.opened_ns, bar.symbol, bar.open, bar.close) for bar in market.bars] == expected
    assert market.length_ns == length_ns


@pytest.mark.parametrize(
    ("form", "name", "content", "what"),
    [
        ("yahoo", "VOD.L.csv", "Date,Open,High,Low,Close\n2024-03-04,70,71,69,70\n", "--kind and --quote"),
        (
            "stooq",
            "x.txt",
            "<TICKER>,<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>\nAV.UK,20240304,4,4,4,4\n",
            "--kind and --quote",
        ),
        (
            "polygon",
            "x.csv",
            f"ticker,open,close,high,low,window_start\nO:SPY240304P00390000,1,1,1,1,{MONDAY_NS}\n",
            "--kind",
        ),
        ("databento", "x.csv", f"ts_event,rtype,open,high,low,close,symbol\n{MONDAY_NS},160,1,1,1,1,AAPL\n", "rtype"),
    ],
)
def test_what_a_symbol_or_row_is_is_named_and_not_guessed(
    tmp_path: Path, form: str, name: str, content: str, what: str
) -> None:
    (tmp_path / name).write_text(content)
    left: list[RowLeftOut] = []
    with pytest.raises(ImportFault):
        read_market(form, [tmp_path / name], zone="UTC", label=None, complain=left.append)
    assert len(left) == 1
    assert what in str(left[0])


@pytest.mark.parametrize(
    ("form", "content", "what"),
    [
        ("yahoo", "Date,Open,High,Low\n", "lacks close"),
        ("stooq", "<TICKER>,<OPEN>,<HIGH>,<LOW>,<CLOSE>\n", "lacks date"),
        ("polygon", "symbol,open,close,high,low,window_start\n", "lacks symbol"),
        ("ccxt", "{}", "no list of candles"),
        ("ccxt", "[[1,", "no JSON"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, form: str, content: str, what: str) -> None:
    (tmp_path / "x").write_text(content)
    symbol = "AAPL" if form in ("yahoo", "ccxt") else None
    with pytest.raises(ImportFault, match=what):
        read(tmp_path / "x", form=form, symbol=symbol)


def test_each_trade_is_a_quote_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-aggTrades-2025-01-02.csv"
    us = 1_735_776_000_000_000
    path.write_text(
        f"1,93500.10,0.1,1,1,{us},False,True\n2,93500.20,0.1,2,2,{us},True,True\n3,93499.90,0.2,3,4,{us + 250_000},True,True\n"
    )
    code, _, out = command("import", "binance-trades", str(path))
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    quotes = [(row["event_time"], row["price"]) for row in rows if row["type"] == "price_ticked"]
    assert quotes == [
        ("2025-01-02T00:00:00Z", "93500.1"),
        ("2025-01-02T00:00:00Z", "93500.2"),
        ("2025-01-02T00:00:00.25Z", "93499.9"),
    ]
    assert [row["time"] for row in rows if row["type"] == "clock_ticked"] == [
        "2025-01-02T00:00:00Z",
        "2025-01-02T00:00:00.25Z",
    ]
    found = json.loads(command("ingest", "-", "--store", str(tmp_path / "s"), data=out)[2])
    assert (found["refused"], found["duplicate"]) == (0, 0)
    (tmp_path / "BTCUSDT-1m-2025-01-02.csv").write_text(path.read_text())
    assert command("import", "binance-trades", str(tmp_path / "BTCUSDT-1m-2025-01-02.csv"))[0] == 1


TIERS = [
    {"minNotional": 0, "maxNotional": 2_000_000, "maintenanceMarginRate": 0.005, "maxLeverage": 100},
    {"minNotional": 2_000_000, "maxNotional": 4_000_000, "maintenanceMarginRate": 0.01, "maxLeverage": 50},
    {"minNotional": 4_000_000, "maxNotional": 6_000_000, "maintenanceMarginRate": 0.015, "maxLeverage": 25},
]


@pytest.mark.parametrize("deductions", [None, ["", "", ""], ["0", "10000", "30000"]])
def test_tiers_of_bybit_are_read_in_the_form_of_ccxt(tmp_path: Path, deductions: list[str] | None) -> None:
    rows = [
        tier
        | {
            "symbol": "BTC/USDT:USDT",
            "currency": "USDT",
            "info": {"id": n, "riskLimitValue": "1"} | ({} if deductions is None else {"mmDeduction": deductions[n]}),
        }
        for n, tier in enumerate(TIERS)
    ]
    (tmp_path / "tiers.json").write_text(json.dumps({"BTC/USDT:USDT": rows}))
    found = read_brackets(tmp_path / "tiers.json")
    assert found.faults == {}
    assert [row.maintenance_amount for row in found.sound["BTCUSDT", "USDT"]] == ["0", "10000", "30000"]
    computed = any("no maintenance amounts" in note for note in found.notes["BTCUSDT", "USDT"])
    assert computed is (deductions is None or not deductions[0])


def test_tiers_that_count_contracts_are_named_and_not_read(tmp_path: Path) -> None:
    rows = [tier | {"info": {"minSz": "0", "maxSz": "500", "mmr": "0.004", "imr": "0.01"}} for tier in TIERS]
    (tmp_path / "okx.json").write_text(json.dumps({"BTC/USDT:USDT": rows}))
    found = read_brackets(tmp_path / "okx.json")
    assert found.sound == {}
    assert "contracts" in found.faults["BTCUSDT", "USDT"][0]


@pytest.mark.parametrize("form", ["dump", "api"])
def test_funding_rates_are_paid_at_their_times(tmp_path: Path, form: str) -> None:
    path = klines(tmp_path, "BTCUSDT-1h-2023-10-27.csv", 20, 3_600_000)
    (tmp_path / "tiers.json").write_text(json.dumps({"BTC/USDT:USDT": [{**tier, "info": {}} for tier in TIERS]}))
    times = [START_MS - 8 * 3_600_000, START_MS + 8 * 3_600_000 + 4, START_MS + 16 * 3_600_000]
    rates = ["0.0009", "1e-04", "-2.5e-04"]
    if form == "dump":
        file = tmp_path / "BTCUSDT-fundingRate-2023-10.csv"
        rows = [f"{time},8,{rate}" for time, rate in zip(times, rates, strict=True)]
        file.write_text("calc_time,funding_interval_hours,last_funding_rate\n" + "\n".join(rows) + "\n")
    else:
        file = tmp_path / "funding.json"
        file.write_text(
            json.dumps(
                [{"symbol": "BTCUSDT", "fundingTime": t, "fundingRate": r} for t, r in zip(times, rates, strict=True)]
            )
        )
    words = ("import", "binance-klines", str(path), "--brackets", str(tmp_path / "tiers.json"), "--funding", str(file))
    code, _, out = command(*words, "--accounts", "10", "--profile", "binance-usdm")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    paid = [(row["instrument"], row["event_time"], row["rate"]) for row in events if row["type"] == "funding_paid"]
    assert paid == [
        ("BTCUSDT-PERP", "2023-10-27T08:00:00.004Z", "0.0001"),
        ("BTCUSDT-PERP", "2023-10-27T16:00:00Z", "-0.00025"),
    ]
    found = json.loads(command("ingest", "-", "--store", str(tmp_path / "s"), data=out)[2])
    assert (found["refused"], found["duplicate"]) == (0, 0)
    assert command(*words[:4], "--funding", str(file))[0] == 2
