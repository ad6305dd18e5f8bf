"""Help: examples come first, and they are commands that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from margin_stream.cli.arguments import in_order
from margin_stream.cli.main import app, run
from margin_stream.cli.output import console
from margin_stream.settings import load, use
from tests.days import random_day


def commands(of: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name], (*words, name))


ALL = list(commands())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_shows_examples_first_and_each_is_understood(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Examples:"
    examples = [line.strip() for line in lines[1 : lines.index("")]]
    assert examples
    for example in examples:
        for part in re.findall(r"(?:^|[|(] ?)(margin-stream [^|>)<]*)", example):
            given = shlex.split(part)[1:]
            assert given[: len(words)] == list(words) or "|" in example or not words or words == ("completion",), (
                example
            )
            if given[:2] != ["import", "segments"]:
                app.parse_args(in_order(app, given), exit_on_error=False, print_error=False)
    assert not any(line.startswith("Try:") for line in lines)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"MARGIN_STREAM_COLOR": "never"}, False)]
)
def test_no_color_is_obeyed(environment: dict[str, str], coloured: bool) -> None:
    use(load(environment=environment))
    try:
        assert console().no_color is not coloured
    finally:
        use(None)


def test_quiet_means_errors_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARGIN_STREAM_STOER", "x")
    (tmp_path / "day.ndjson").write_bytes(b"\n".join(random_day(1, steps=10)))
    store = str(tmp_path / "s")
    for words in (
        ["ingest", str(tmp_path / "day.ndjson")],
        ["digest"],
        ["verify"],
        ["calls"],
        ["quarantine", "list"],
        ["config", "show"],
        ["doctor"],
    ):
        assert run([*words, "--store", store, "--quiet"]) == 0
        use(None)
        assert capsys.readouterr().err == "", words
