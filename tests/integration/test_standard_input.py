"""A hyphen is standard input wherever a command reads a file. Each is asked as a shell would: by the command, behind a
pipe."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from margin_stream.simulation.synthetic_brackets import synthetic_brackets
from tests.days import random_day
from tests.integration.test_command_line import rows, run
from tests.integration.test_errors import command

SCENARIO = {
    "id": "x",
    "profile": "prime",
    "prices": {"BTCUSDT": "40000"},
    "collateral": [{"asset": "BTC", "amount": "1"}],
}
BARS = (
    b"ts_ms,symbol,open,high,low,close\n"
    b"1621382400000,BTCUSDT,40000,40100,39900,40050\n"
    b"1621382460000,BTCUSDT,40050,40060,39000,39100\n"
    b"no time,BTCUSDT,1,1,1,1\n"
)
BRACKETS = json.dumps(
    [
        {"symbol": name, "brackets": [
            {"notionalFloor": row.floor, "notionalCap": row.cap, "maintMarginRatio": row.maintenance_rate,
             "cum": row.maintenance_amount, "initialLeverage": row.max_leverage}
            for row in table
        ]}
        for name, table in synthetic_brackets({"BTCUSDT": 0, "ETHUSDT": 0}, 4).items()
    ]
).encode()  # fmt: skip
PERPETUALS = ("--accounts", "6", "--profile", "prime", "--profile", "binance-usdm")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars.csv").write_bytes(BARS)
    (tmp_path / "tiers.json").write_bytes(BRACKETS)
    (tmp_path / "day.ndjson").write_bytes(b"\n".join(random_day(8, accounts=6, steps=40)))
    (tmp_path / "settings.toml").write_text('color = "never"\n')
    (tmp_path / "scenario.ndjson").write_text(json.dumps(SCENARIO))
    return tmp_path


READERS = {
    "margin": (("margin", "{}"), "scenario.ndjson"),
    "ingest": (("ingest", "{}", "--json", "--store", "s-{}"), "day.ndjson"),
    "import bars": (("import", "bars", "{}", "--accounts", "2"), "bars.csv"),
    "import --brackets": (("import", "bars", "bars.csv", *PERPETUALS, "--brackets", "{}"), "tiers.json"),
    "simulate --brackets": (("simulate", "--scenario", "quiet", "--brackets", "{}", *PERPETUALS), "tiers.json"),
    "--config": (("config", "show", "--config", "{}", "--json"), "settings.toml"),
}


@pytest.mark.slow(reason="starts the command twice; some of them simulate a day")
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_gives_what_the_file_gives(reader: str, files: Path) -> None:
    words, name = READERS[reader]
    named = run(*(word.format(name) for word in words))
    piped = run(*(word.format("-") for word in words), data=(files / name).read_bytes())
    assert (named.returncode, piped.returncode) == (0, 0), piped.stderr
    assert named.stdout
    assert piped.stdout == named.stdout
    assert piped.stderr == named.stderr.replace(name.encode(), b"/dev/stdin")


@pytest.mark.slow(reason="a demo takes seconds; `import bars` reads its files in the same way")
@pytest.mark.parametrize(
    "words", [("--market", "-", "--brackets", "tiers.json"), ("--market", "bars.csv", "--brackets=-")]
)
def test_the_demo_takes_its_day_or_its_brackets_from_a_pipe(words: tuple[str, ...], files: Path) -> None:
    data = BARS if words[1] == "-" else BRACKETS
    done = run("demo", *words, "--accounts", "5", "--json", data=data)
    assert done.returncode == 0, done.stderr
    assert rows(done)[0]["input"]["accounts"] == {"prime": 4, "binance-usdm": 1}


def test_bars_may_come_packed() -> None:
    plain = command("import", "bars", "-", data=BARS)
    packed = command("import", "bars", "-", data=gzip.compress(BARS))
    assert plain[0] == packed[0] == 0
    ticks = [
        [row for row in map(json.loads, out.splitlines()) if row["type"] == "price_ticked"]
        for _, _, out in (plain, packed)
    ]
    assert [row["price"] for row in ticks[0]] == [row["price"] for row in ticks[1]] != []


def test_what_is_wrong_in_a_pipe_is_named_by_its_line() -> None:
    _, errors, _ = command("import", "bars", "-", data=BARS)
    assert errors[0]["where"] == {"file": "/dev/stdin", "line": 4}


@pytest.mark.parametrize(
    "words",
    [
        ("import", "bars", "-", "-"),
        ("import", "bars", "-", "--brackets", "-"),
        ("import", "bars", "-", "--brackets=-"),
        ("simulate", "--brackets", "-", "--config", "-"),
        ("demo", "--market", "-", "--brackets", "-"),
        ("ingest", "-", "-"),
        ("ingest", "-", "--config", "-"),
        ("--config", "-", "ingest"),
        ("margin", "--config", "-"),
    ],
    ids=" ".join,
)
def test_standard_input_is_read_once(words: tuple[str, ...]) -> None:
    code, errors, out = command(*words, data=BARS)
    assert (code, errors[0]["code"], out) == (2, "options_conflict", b"")
    assert "standard input can be read once" in errors[0]["message"]


def test_klines_are_named_after_their_symbol_so_they_are_files() -> None:
    code, errors, _ = command("import", "binance-klines", "-", data=b"1621382400000,1,1,1,1\n")
    assert (code, errors[0]["code"]) == (2, "options_conflict")


def test_a_worker_reads_its_settings_from_a_file(tmp_path: Path) -> None:
    """Its child reads them too, and would find standard input at its end."""
    words = ("worker", "--store", "kafka://localhost:1/x", "--data", str(tmp_path / "w"), "--config", "-")
    code, errors, _ = command(*words, data=b'color = "never"\n')
    assert (code, errors[0]["code"]) == (2, "setting_invalid")
    assert "name a file" in errors[0]["message"]


def test_a_file_of_that_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text(json.dumps(SCENARIO))
    code, _, out = command("margin", f".{os.sep}-", data=b"{}")
    assert (code, json.loads(out)["id"]) == (0, "x")
