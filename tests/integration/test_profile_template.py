"""``profiles template``: what it prints is valid, in an empty store and in one that lists instruments already."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from margin_stream import profiles
from margin_stream.importers.own_data.forms import COLUMNS
from tests.integration.test_errors import command

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas/json/parameters.schema.json").read_text())


def template(*words: str) -> tuple[int, bytes]:
    code, _, lines = command("profiles", "template", *words)
    return code, lines


@pytest.mark.parametrize("name", profiles.names())
def test_a_template_activates_a_shipped_profile(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assets = "BTCUSDT-PERP,ETHUSDT-PERP,USDC" if name == "binance-usdm" else "AAPL,MSFT,BTC,USDC,DOGE:spot"
    base = "USDT" if name == "binance-usdm" else "USD"
    code, lines = template(name, "--assets", assets, "--base", base)
    assert code == 0
    *_, activation = [json.loads(line) for line in lines.splitlines()]
    model = profiles.load(name).model
    jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{model}"}).validate(activation["parameters"])
    code, errors, out = command("ingest", "-", "--strict", data=lines)
    assert code == 0, errors
    assert json.loads(out)["accepted"] == len(lines.splitlines())

    # What is listed is not listed again, and the version is the next one.
    code, again = template(name, "--assets", assets, "--base", base)
    (second,) = [json.loads(line) for line in again.splitlines()]
    assert second["version"] == 2
    assert command("ingest", "-", "--strict", data=again)[0] == 0


def test_the_schema_refuses_what_a_profile_must_not_have() -> None:
    parameters = profiles.load("prime").parameters("USD", {"AAPL": ["AAPL"]})
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/prime"})
    validator.validate(parameters)
    for wrong in ({"warn": "1,40"}, {"warn": 1.4}, {"call_persistence_s": -1}, {"at_level": "maybe"}, {"else": "1"}):
        assert not validator.is_valid(parameters | wrong), wrong


def test_what_an_asset_is_must_be_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert template("prime", "--assets", "AAPL:shares")[0] == 2
    assert template("prime", "--assets", "BTC:perpetual")[0] == 2
    kinds = {}
    for line in template("prime", "--assets", "AAPL,BTC,EUR,DOGE:spot")[1].splitlines():
        event = json.loads(line)
        if event["type"] == "instrument_listed":
            kinds[event["instrument"]] = event["kind"]
    assert {kinds["AAPL"], kinds["BTCUSD"], kinds["EURUSD"], kinds["DOGEUSD"]} == {"equity", "spot"}
    assert kinds["AAPL"] == "equity"


def test_the_page_of_own_data_has_the_columns_that_are_read() -> None:
    page = (ROOT / "docs/own-data.md").read_text()
    for kind, columns in COLUMNS.items():
        section = page.partition(f"\n## {kind.title()}\n")[2].partition("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert rows == [f"| `{one.name}` | {'yes' if one.needed else 'no'} | {one.meaning} |" for one in columns]
