"""Malformed inputs by the thousand, for tests: each with the reasons for which it may be refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from random import Random
from typing import Any

from margin_stream.schemas.refusals import Refusal

R = Refusal
Made = tuple[bytes, set[Refusal]]

GOOD: dict[str, Any] = {
    "price_ticked": {"instrument": "BTCUSDT", "price": "40000.10"},
    "clock_ticked": {"time": "2021-05-19T00:00:00Z"},
    "collateral_moved": {"account": "A0", "asset": "USDT", "amount_delta": "5.00"},
    "position_changed": {"account": "A0", "instrument": "BTCUSDT", "quantity_delta": "0.1", "price": "40000.10"},
}
DECIMALS = {"price_ticked": "price", "collateral_moved": "amount_delta", "position_changed": "quantity_delta"}
BOMB = gzip.compress(bytes(20 << 20), 9).replace(b"\n", b"\x0b")
"""Twenty megabytes in twenty thousand bytes: never unpacked, and not text."""


def row(rng: Random, *kinds: str) -> dict[str, Any]:
    kind = rng.choice(kinds or tuple(GOOD))
    # Numbers that no other input has, so that every one of these is an input of its own.
    return {
        "type": kind,
        "source": f"bad{rng.randrange(50)}",
        "source_seq": rng.randrange(2**62),
        "event_time": "2021-05-19T00:00:00Z",
        **GOOD[kind],
    }


def line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def with_token(rng: Random, name: str, token: str, *kinds: str) -> bytes:
    """Return a line in which a field's value is written as some token, JSON or not."""
    fields = row(rng, *kinds)
    return line({**fields, name: "@@"}).replace(b'"@@"', token.encode("utf-8", "surrogatepass"))


def decimal(rng: Random, token: str) -> bytes:
    kind = rng.choice(tuple(DECIMALS))
    return with_token(rng, DECIMALS[kind], token, kind)


def truncated(rng: Random) -> Made:
    whole = line(row(rng))
    return whole[: rng.randrange(60, len(whole))], {R.NOT_JSON}


def no_number(rng: Random) -> Made:
    return decimal(
        rng, rng.choice(("NaN", "Infinity", "-Infinity", "nan", "1e", "01", "+1", "1_0", ".5", "0x10", "--1"))
    ), {R.NOT_JSON}


def float_(rng: Random) -> Made:
    return decimal(
        rng, rng.choice(("1e308", "1e999", "-1e308", "1E5", "0.1", "1.0", "-0.0", "9" * 400, "1" + "0" * 5000))
    ), {R.FLOAT_NOT_ALLOWED}


def decimal_text(rng: Random) -> Made:
    texts = (
        "",
        "NaN",
        "Infinity",
        "1e308",
        "+1",
        "1,000",
        "1_000",
        " 1",
        "1 ",
        ".5",
        "1.",
        "01",
        "0x10",
        "٣",
        "１",
        "1" * 61,
        "9" * 40,
    )
    return decimal(rng, json.dumps(rng.choice(texts), ensure_ascii=False)), {R.BAD_VALUE}


def huge_integer(rng: Random) -> Made:
    digits = rng.choice((19, 20, 40, 64, 65, 400, 5000, 100_000))
    return with_token(rng, "source_seq", "9" * digits), {R.BAD_VALUE if digits <= 64 else R.FLOAT_NOT_ALLOWED}


def wrong_kind_of_value(rng: Random) -> Made:
    name = rng.choice(("source", "source_seq", "event_time"))
    tokens = ["null", "true", "[]", "{}", '[["x"]]', "-1" if name == "source_seq" else "1"]
    return with_token(rng, name, rng.choice(tokens)), {R.BAD_VALUE}


def impossible_time(rng: Random) -> Made:
    texts = (
        "",
        "yesterday",
        "2021-02-30T00:00:00Z",
        "2021-13-01T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2021-05-19T24:00:00Z",
        "2021-05-19T00:00:00+01:00",
        "2021-05-19T00:00:00-00:00",
        "2021-05-19 00:00:00Z",
        "2021-05-19T00:00:00",
        "2021-05-19T00:00:00.1234567890Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "2021-05-19T00:00:00Z\u0000",
        "2021-05-19T00:00:00Z" * 1000,
    )
    return line({**row(rng), "event_time": rng.choice(texts)}), {R.BAD_VALUE}


def unknown_schema(rng: Random) -> Made:
    fields = row(rng)
    name = fields["type"]
    fields["type"] = rng.choice(
        (f"{name}.v9", f"{name}.v0", f"{name}.v", name.upper(), name + " ", "ticks.v1", "", "margin_call_issued.v1")
    )
    return line(fields), {R.UNKNOWN_TYPE}


def nested(rng: Random) -> Made:
    depth = rng.choice((33, 34, 100, 1000, 5000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return with_token(rng, "corrects", opening * depth + "1" + closing * depth), {R.TOO_DEEP}


def unclosed(rng: Random) -> Made:
    return rng.choice((b"[", b'{"a":')) * rng.choice((33, 500, 100_000)) + b"%d" % rng.randrange(10**9), {R.TOO_DEEP}


def no_utf8(rng: Random) -> Made:
    whole = line(row(rng))
    place = rng.randrange(1, len(whole))
    return whole[:place] + rng.choice(
        (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80")
    ) + whole[place:], {R.NOT_UTF8}


def half_a_pair(rng: Random) -> Made:
    return with_token(rng, "source", rng.choice(('"\\ud800"', '"a\\udfff"', '"\\udc00\\ud800"'))), {R.NOT_JSON}


def control_character(rng: Random) -> Made:
    whole = line(row(rng))
    place = rng.randrange(2, 8)
    return whole[:place] + bytes([rng.choice((0, 1, 8, 27, 31))]) + whole[place:], {R.NOT_JSON}


def zip_bomb(rng: Random) -> Made:
    place = rng.randrange(10, len(BOMB))
    return BOMB[:place] + b"%d" % rng.randrange(10**9), {R.NOT_UTF8}


def twice_a_key(rng: Random) -> Made:
    whole = line(row(rng))
    again = rng.choice((b'"source":"x"', b'"source_seq":1', b'"type":"clock_ticked"', b'"\\u0074ype":"clock_ticked"'))
    return whole[:-1] + b"," + again + b"}", {R.DUPLICATE_KEY}


def no_object(rng: Random) -> Made:
    token = rng.choice(("[%d]", '"%d"', "%d", "[[%d]]", '[{"a":%d}]')) % rng.randrange(10**9)
    return token.encode(), {R.NOT_AN_OBJECT}


def strange_field(rng: Random) -> Made:
    return line({**row(rng), rng.choice(("Price", "prise", "__class__", "", "x" * 1000, "\u202e", "type ")): "1"}), {
        R.UNKNOWN_FIELD
    }


def field_left_out(rng: Random) -> Made:
    fields = row(rng)
    name = rng.choice([name for name in fields if name != "type"])
    del fields[name]
    return line(fields), {R.MISSING_FIELD}


def no_type(rng: Random) -> Made:
    fields = row(rng)
    del fields["type"]
    return line(fields), {R.TYPE_MISSING}


KINDS: list[Callable[[Random], Made]] = [
    truncated,
    no_number,
    float_,
    decimal_text,
    huge_integer,
    wrong_kind_of_value,
    impossible_time,
    unknown_schema,
    nested,
    unclosed,
    no_utf8,
    half_a_pair,
    control_character,
    zip_bomb,
    twice_a_key,
    no_object,
    strange_field,
    field_left_out,
    no_type,
]


def malformed(rng: Random, count: int) -> list[Made]:
    """Return so many different ones, all kinds in turn."""
    found: dict[bytes, Made] = {}
    turn = 0
    while len(found) < count:
        made = KINDS[turn % len(KINDS)](rng)
        found.setdefault(made[0], made)
        turn += 1
    return list(found.values())
