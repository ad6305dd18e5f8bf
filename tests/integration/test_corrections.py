"""A refused input is corrected by a new event that names it, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_errors import command

HEAD = [
    '{"type":"clock_ticked","source":"f","source_seq":1,"event_time":"2024-03-04T14:30:00Z","time":"2024-03-04T14:30:00Z"}',
    '{"type":"price_ticked","source":"f","source_seq":2,"event_time":"2024-03-04T14:30:00Z","instrument":"AAPPL","price":"180"}',
    '{"type":"price_ticked","source":"f","source_seq":3,"event_time":"2024-03-04T14:30:00Z","instrument":"AAPL","price":180.5}',
    '{"type":"account_opened","source":"b","source_seq":1,"event_time":"2024-03-04T14:30:00Z","account":"C-1","base_currency":"USD","profile":"pryme"}',
]
REFUSED = {"#5": "f#2", "#6": None, "#7": "b#1"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = command("profiles", "template", "prime", "--assets", "AAPL")[2]
    assert command("ingest", "-", data=lines)[0] == 0
    assert command("ingest", "-", data="\n".join(HEAD).encode())[0] == 0
    return tmp_path


def listed() -> list[dict[str, Any]]:
    return [json.loads(line) for line in command("quarantine", "list")[2].splitlines()]


def resubmitted(identifier: str, event: dict[str, Any] | str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    Path("fixed.json").write_text(event if isinstance(event, str) else json.dumps(event))
    code, errors, out = command("quarantine", "resubmit", identifier, "--with", "fixed.json")
    return code, errors, json.loads(out) if out else {}


def test_the_list_shows_what_is_wrong(store: Path) -> None:
    assert {row["id"]: row["detail"] for row in listed()} == {
        "#5": "instrument: 'AAPPL' is not listed",
        "#6": 'price: the number 180.5 is a float; quote it: "180.5"',
        "#7": "profile: 'pryme' was never activated",
    }


@pytest.mark.parametrize("identifier", ["#5", "f#2"])
def test_the_event_as_it_came_is_mended_and_sent(store: Path, identifier: str) -> None:
    row = next(row for row in listed() if row["id"] == "#5")
    mended = json.loads(row["raw"]) | {"instrument": "AAPL"}
    code, errors, shown = resubmitted(identifier, mended)
    assert (code, shown["accepted"], shown["refused"]) == (0, 1, 0), errors
    last = json.loads(command("events", "--after", "7")[2])
    assert (last["source"], last["source_seq"], last["corrects"]) == ("correction@5", 1, "f#2")
    assert [row["id"] for row in listed()] == ["#5", "#6", "#7"]  # What came stays as it came.
    before = command("digest")[2]
    code, errors, _ = resubmitted(identifier, mended)
    assert (code, errors[0]["code"]) == (1, "corrected_already")
    assert command("digest")[2] == before


def test_what_could_not_be_decoded_is_named_by_its_digest(store: Path) -> None:
    row = next(row for row in listed() if row["id"] == "#6")
    code, errors, shown = resubmitted(row["digest"][:12], row["raw"].replace("180.5", '"180.5"'))
    assert (code, shown["accepted"]) == (0, 1), errors
    assert json.loads(command("events", "--after", "7")[2])["corrects"] == row["digest"]


def test_a_correction_that_is_refused_itself_can_be_followed_by_another(store: Path) -> None:
    opened = {"type": "account_opened", "event_time": "2024-03-04T14:30:00Z", "account": "C-1", "base_currency": "USD"}
    code, errors, shown = resubmitted("b#1", opened | {"profile": "prym"})
    assert (code, shown["refused"], errors[0]["code"]) == (4, 1, "profile_unknown")
    code, errors, shown = resubmitted("#7", opened | {"profile": "prime"})
    assert (code, shown["accepted"]) == (0, 1), errors
    assert json.loads(command("state", "--account", "C-1")[2])["profile"] == "prime"
    assert command("replay")[0] == command("verify")[0] == 0


@pytest.mark.parametrize("content", ["", "[]", "no json", '{"type":"clock_ticked","corrects":"f#9"}'])
def test_a_file_without_a_correction_sends_nothing(store: Path, content: str) -> None:
    before = command("digest")[2]
    code, errors, _ = resubmitted("#5", content)
    assert (code, errors[0]["code"]) == (4, "correction_unusable")
    assert command("digest")[2] == before


def test_options_that_do_not_go_together(store: Path) -> None:
    for words in (["#5"], ["--with", "x"], ["#5", "--with", "x", "--source", "f"], []):
        code, errors, _ = command("quarantine", "resubmit", *words)
        assert (code, errors[0]["code"]) == (2, "options_conflict")
    code, errors, _ = resubmitted("#4", "{}")
    assert errors[0]["code"] == "refused_input_unknown"
