"""The public contract: codecs, JSON Schema, golden samples, upcasters."""

from __future__ import annotations

import json
from random import Random

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from margin_stream.schemas import publish
from margin_stream.schemas.binary import canonical_bytes, decode_foreign_item, decode_payload, encode, encode_payload
from margin_stream.schemas.columns import columns_of, ticks_of
from margin_stream.schemas.decimals import (
    DecimalError,
    canonical,
    format_decimal,
    packed,
    parse_decimal,
    parse_pair,
    scaled,
    whole,
)
from margin_stream.schemas.inputs import AccountOpened, PriceTicked
from margin_stream.schemas.ndjson import decode_line, encode_line
from margin_stream.schemas.refusals import Refusal, RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.schemas.times import TimeError, format_time, parse_time
from margin_stream.schemas.upcast import upcast
from tests.days import random_day


def test_generated_files_are_fresh() -> None:
    for path, content in publish.outputs().items():
        assert path.read_bytes() == content, f"{path.name} is out of date: run `make schemas`"


def test_golden_samples_fit_the_schema_and_decode_to_the_same() -> None:
    schema = publish.json_schema()
    checker = jsonschema.Draft202012Validator(schema)
    lines = (publish.ROOT / "schemas" / "golden" / "inputs.ndjson").read_bytes().splitlines()
    assert len(lines) == len(publish.samples())
    for line, sample in zip(lines, publish.samples(), strict=True):
        checker.validate(json.loads(line))
        assert decode_line(line, LATEST) == sample
        assert encode_line(sample).rstrip() == line
        assert decode_payload(encode_payload([encode(sample)])) == [sample]
        assert decode_foreign_item(encode(sample), LATEST) == sample


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    checker = jsonschema.Draft202012Validator(publish.json_schema())
    for bad in (
        {"type": "price_ticked"},
        {"type": "nope"},
        {"type": "clock_ticked", "source": "x", "source_seq": 1, "event_time": 5},
    ):
        assert not checker.is_valid(bad)


def test_an_older_account_opened_is_upcast() -> None:
    line = (
        b'{"type":"account_opened.v1","source":"b","source_seq":1,"event_time":"2021-05-19T00:00:00Z","account":"A",'
        b'"base_currency":"USDT","profile":"prime","contact":"ops-17"}'
    )
    event = decode_line(line, LATEST)
    assert isinstance(event, AccountOpened)
    assert event.contacts == ("ops-17",)
    assert decode_line(encode_line(event).rstrip(), LATEST) == event
    assert upcast("account_opened.v1", {"account": "A", "contact": ""}) == ("account_opened.v2", {"account": "A"})
    old = {
        "type": "account_opened.v1",
        "source": "b",
        "source_seq": 1,
        "event_time": 1,
        "account": "A",
        "base_currency": "U",
        "profile": "p",
    }
    assert isinstance(decode_payload(encode_payload([encode(old)]))[0], AccountOpened)


@given(st.integers(-(10**18), 10**18), st.integers(-9, 0))
def test_a_decimal_has_one_pair_however_it_is_spelled(mantissa: int, exponent: int) -> None:
    pair = canonical(mantissa, exponent)
    assert parse_decimal(format_decimal(pair)) == pair
    text = format_decimal(pair)
    assert parse_decimal(text + "0" if "." in text else text + ".0") == pair
    assert scaled(pair, 18) == mantissa * 10 ** (exponent + 18)


@pytest.mark.parametrize(
    "mantissa", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 12345678901234567891, 2**127 - 1, 1 - 2**127]
)
@pytest.mark.parametrize("exponent", [-18, -2, 18])
def test_a_decimal_beyond_64_bits_is_the_same_everywhere(mantissa: int, exponent: int) -> None:
    mantissa += mantissa % 10 == 0
    text = format_decimal((packed(mantissa), exponent))
    pair = parse_pair(text)
    assert (whole(pair[0]), pair[1]) == parse_decimal(text) == (mantissa, exponent)
    assert isinstance(pair[0], int) is (-(2**63) <= mantissa < 2**63)
    assert scaled(pair, 18) == mantissa * 10 ** (exponent + 18)
    line = b'{"type":"collateral_moved","source":"b","source_seq":1,"event_time":"2021-05-19T00:00:00Z",' + (
        f'"account":"A","asset":"ETH","amount_delta":"{text}"}}'.encode()
    )
    event = decode_line(line, LATEST)
    assert encode_line(event)[:-1] == line
    assert decode_payload(encode_payload([encode(event)])) == [event]
    # Another program may write the bytes longer than they need be: the content is the same.
    foreign = msgspec.msgpack.decode(encode(event))
    foreign["amount_delta"] = [mantissa.to_bytes(20, "big", signed=True), exponent]
    assert decode_foreign_item(msgspec.msgpack.encode(foreign), LATEST) == event


@pytest.mark.parametrize("text", [str(2**127), str(-(2**127)), "0." + "0" * 18 + "1"])
def test_a_decimal_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(DecimalError, match="does not fit"):
        parse_pair(text)


def test_a_price_beyond_64_bits_goes_into_no_column() -> None:
    tick = PriceTicked(source="f", source_seq=1, event_time=0, instrument="X", price=parse_pair(str(2**63 + 1)))
    assert columns_of([tick]) is None


@pytest.mark.parametrize(
    "text", ["", "1e5", "+1", ".5", "5.", "01", "1,000", "NaN", "--1", "1 ", "\uff11", "9" * 61, "1" + "0" * 40]
)
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(DecimalError):
        parse_decimal(text)


@given(st.integers(0, 2**62 - 1))
def test_times_survive_their_text(moment: int) -> None:
    assert parse_time(format_time(moment)) == moment


@pytest.mark.parametrize(
    "text",
    ["2021-05-19", "2021-05-19T12:00:00", "2021-05-19T12:00:60Z", "2021-02-30T00:00:00Z", "2021-05-19T12:00:00+02:00"],
)
def test_what_is_no_utc_time_is_refused(text: str) -> None:
    with pytest.raises(TimeError):
        parse_time(text)


def test_the_quick_and_the_careful_reader_agree() -> None:
    rng = Random(1)
    for line in random_day(3, steps=200):
        spaced = json.dumps(json.loads(line), indent=None, separators=(" , ", " : ")).encode()
        items = list(json.loads(line).items())
        rng.shuffle(items)
        for other in (spaced, json.dumps(dict(items)).encode()):
            assert decode_line(other, LATEST) == decode_line(line, LATEST)
            assert canonical_bytes(decode_line(other, LATEST)) == canonical_bytes(decode_line(line, LATEST))


def test_a_key_given_twice_is_noticed_however_it_is_spaced() -> None:
    head = b'{"type":"clock_ticked","source":"f","source_seq":1,"event_time":"2021-05-19T00:00:00Z",'
    for tail in (
        b'"time":"2021-05-19T00:00:00Z","time" :"2021-05-20T00:00:00Z"}',
        b'"time" :"2021-05-19T00:00:00Z","time":"2021-05-20T00:00:00Z"}',
    ):
        with pytest.raises(RefusedInput) as refused:
            decode_line(head + tail, LATEST)
        assert refused.value.refusal is Refusal.DUPLICATE_KEY


def test_columns_hold_ticks_exactly() -> None:
    rng = Random(2)
    ticks = [
        PriceTicked(
            source="f",
            source_seq=n,
            event_time=n * 10,
            instrument=rng.choice("ABC"),
            price=canonical(rng.randrange(-(10**9), 10**9), -rng.randrange(8)),
            bid=canonical(rng.randrange(10**6), -2) if rng.randrange(3) else None,
        )
        for n in range(500)
    ]
    columns = columns_of(ticks)
    assert columns is not None
    assert ticks_of(columns) == ticks
    assert ticks_of(decode_payload(encode_payload([encode(columns)]))[0]) == ticks  # type: ignore[arg-type]
