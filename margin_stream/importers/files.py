"""``read_market``: market data files of one format become a market."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from margin_stream.files import content
from margin_stream.importers.bar_files import candles, columns
from margin_stream.importers.bar_forms import FORMS
from margin_stream.importers.binance import dumps
from margin_stream.importers.market import (
    LENGTHS_S,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    ImportFault,
    MarketFile,
    Pair,
    ZoneUnknown,
    pair_of,
)
from margin_stream.importers.text_files import (
    FILE_LIMIT,
    Complain,
    ReadBar,
    left_out,
)


def read_market(
    form: str,
    paths: Sequence[Path],
    *,
    zone: str | None,
    label: str | None,
    complain: Complain,
    interval_s: int | None = None,
    kind: str | None = None,
    quote: str | None = None,
    symbol: str | None = None,
) -> MarketFile:
    """Read files of one format into a market.

    Args:
        form: ``binance-klines``, ``binance-trades``, ``ccxt``, or one of ``bar_forms.FORMS``.
        paths: files; the result does not depend on their order.
        zone: of local times, such as ``America/New_York``; UTC if left out.
        label: ``open`` or ``close``: what the time of a bar names. Left out: ``open`` for ``ts_ms``, ``close`` for
            ``datetime``.
        complain: told of every row that is left out.
        interval_s: how long a bar is; left out: as the bars lie, or as their file's name states.
        kind: ``spot`` or ``equity``: what a symbol is whose kind cannot be told.
        quote: the currency of such a symbol.
        symbol: of files that do not state theirs.

    Raises:
        ImportFault: a file cannot be read at all.
        ZoneUnknown: the zone is none.
    """
    digest = sha256("|".join(str(one) for one in _said(form, zone, label, interval_s, kind, quote, symbol)).encode())
    whole: dict[Path, bytes] = {}
    for path in sorted(paths, key=lambda path: path.name):
        try:
            whole[path] = content(path, FILE_LIMIT)
        except OSError as error:
            raise ImportFault(f"{path}: cannot be read: {error.strerror}", file=path) from None
        digest.update(sha256(whole[path]).digest())
    try:
        clock = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ZoneUnknown(f"--zone: {zone!r} is no time zone", option="--zone") from None
    read: list[ReadBar] = []
    for path in paths:
        if form in FORMS:
            read += columns(FORMS[form], path, whole[path], clock, label, symbol, complain)
        elif form == "ccxt":
            read += candles(path, whole[path], symbol, complain)
        else:
            read += dumps(form, path, whole[path], complain)
    pairs = _pairs(read, kind, quote, complain)
    read = [one for one in read if one.bar.symbol in pairs]
    if not read:
        raise ImportFault(f"{', '.join(map(str, paths))}: no bar found", file=paths[0] if len(paths) == 1 else None)
    trades = form == "binance-trades"
    length_ns = 0 if trades else _length_ns(read, interval_s)
    if trades:
        bars = [one.bar for one in read]
    else:
        bars = _distinct(read, length_ns, complain)
    market = MarketFile(f"{form}@{digest.hexdigest()[:16]}", bars, length_ns, pairs)
    market.prepare()
    return market


def _distinct(read: list[ReadBar], length_ns: int, complain: Complain) -> list[Bar]:
    """Return the bars, each once, with the times of their openings; another one for the same time is named."""
    bars: dict[tuple[int, str], Bar] = {}
    for where, bar, closes, _ in read:
        if closes:
            bar = replace(bar, opened_ns=bar.opened_ns - length_ns)
        known = bars.setdefault((bar.opened_ns, bar.symbol), bar)
        if known != bar:
            complain(left_out(*where, f"a second bar of {bar.symbol} for the same time, and another one"))
    return list(bars.values())


def _said(form: str, zone: str | None, label: str | None, *more: object) -> list[object]:
    """Return what a source's name depends on beside its files; what was not given adds nothing."""
    return [form, zone, label, *(one for one in more if one is not None)]


def _pairs(read: list[ReadBar], kind: str | None, quote: str | None, complain: Complain) -> dict[str, Pair]:
    """Return the instrument of each symbol; one whose kind cannot be told is named, and left out."""
    pairs: dict[str, Pair] = {}
    unclear: set[str] = set()
    for one in read:
        symbol = one.bar.symbol
        if symbol in pairs or symbol in unclear:
            continue
        pair = pair_of(symbol) or pair_of(symbol, kind, quote)
        if pair is None:
            unclear.add(symbol)
            what = f"{symbol}: what it is cannot be told; give --kind equity, or --kind spot and --quote CURRENCY"
            complain(left_out(*one.where, f"{what}; its rows are left out"))
        else:
            pairs[symbol] = pair
    return pairs


def _length_ns(read: list[ReadBar], interval_s: int | None) -> int:
    """Return how long the bars are.

    Raises:
        ImportFault: they are of different lengths, or of one that no bar has.
    """
    file = read[0].where[0]
    stated = {one.length_s for one in read}
    if interval_s is not None:
        return interval_s * SECOND_NS
    if None not in stated:
        if len(stated) > 1:
            shown = ", ".join(f"{length} s" for length in sorted(length for length in stated if length))
            raise ImportFault(f"{file}: bars of different lengths ({shown}): import them apart", file=file)
        return (stated.pop() or 60) * SECOND_NS
    opened: dict[str, set[int]] = {}
    for one in read:
        opened.setdefault(one.bar.symbol, set()).add(one.bar.opened_ns)
    gaps: Counter[int] = Counter()
    for times in opened.values():
        ordered = sorted(times)
        gaps.update(after - before for before, after in pairwise(ordered))
    if not gaps:
        return MINUTE_NS
    usual = gaps.most_common(1)[0][0]
    if usual % SECOND_NS or usual // SECOND_NS not in LENGTHS_S or min(gaps) < usual:
        text = f"{file}: bars lie {usual / SECOND_NS:g} s apart, some {min(gaps) / SECOND_NS:g} s; how long is one? --interval 1m"
        raise ImportFault(text, file=file)
    return usual
