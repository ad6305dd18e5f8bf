"""What every command takes is taken before the command's name or behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from margin_stream.cli.arguments import GENERAL, in_order
from margin_stream.cli.main import app
from margin_stream.host.embedded import Host
from tests.days import random_day
from tests.integration.test_command_line import rows, run
from tests.integration.test_errors import command
from tests.integration.test_help import ALL

LEAVES = [words for words in ALL if app.parse_commands(words)[1][-1].default_command]
SETTINGS = ("--json", "--quiet", "--config", "f.toml")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    with Host(tmp_path / "s", partitions=2) as host:
        host.ingest([*random_day(8, accounts=6, steps=40), b"not json"])
    (tmp_path / "f.toml").write_text("")
    return "s"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_of_every_command_the_order_is_the_same(words: tuple[str, ...]) -> None:
    wanted = [*words, "--json", "--quiet", "--config=f.toml", "rest"]
    for place in range(len(words) + 1):
        assert in_order(app, [*words[:place], *SETTINGS, *words[place:], "rest"]) == wanted
    assert in_order(app, ["--json", *words, "--quiet", "rest", "--config=f.toml"]) == wanted


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "--store", "s", "quarantine", "list"),
        ("--json", "--store=s", "quarantine", "list"),
        ("quarantine", "--json", "list", "--store", "s"),
        ("quarantine", "--store", "s", "list", "--json", "--quiet"),
        ("--store", "s", "--quiet", "quarantine", "list", "--json"),
        ("--json", "--store", "s", "quarantine", "list", "--json", "--store", "s"),
        ("--config", "f.toml", "--store", "s", "quarantine", "--json", "list"),
    ],
    ids=" ".join,
)
def test_a_group_takes_them_anywhere(words: tuple[str, ...], store: str) -> None:
    code, errors, out = command(*words)
    assert (code, errors) == (0, [])
    assert [json.loads(line)["reason"] for line in out.splitlines()] == ["not_json"]


@pytest.mark.slow(reason="starts the command for each case")
def test_the_real_command_takes_them_before_its_name(store: str) -> None:
    assert rows(run("--json", "--store", store, "digest")) == rows(run("digest", "--store", store, "--json"))


@pytest.mark.slow(reason="starts the command for each case")
def test_quiet_before_the_name_is_quiet(store: str) -> None:
    Host(Path("t")).close()
    assert run("quarantine", "list", "--store", "t").stderr == b"nothing was refused\n"
    assert run("--quiet", "quarantine", "list", "--store", "t").stderr == b""


@pytest.mark.parametrize(
    "words",
    [
        ("--store", "s", "digest", "--store", "t"),
        ("--store=s", "--store=t", "digest"),
        ("digest", "--store", "s", "--store=t"),
    ],
)
def test_a_store_that_is_given_twice_is_given_once(words: tuple[str, ...], store: str) -> None:
    code, errors, out = command(*words)
    assert (code, errors[0]["where"], out) == (2, {"option": "--store"}, b"")


@pytest.mark.slow_after(1, reason="starts the command for each case")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--json", "ingset"), "unknown_command"),
        (("--json", "quarantine", "lst"), "unknown_command"),
        (("--json", "digest", "--store", "none"), "store_missing"),
        (("--json", "digest", "--store"), "missing_argument"),
        (("--store", "--json", "digest"), "missing_argument"),
        (("--json", "--store"), "option_invalid"),
        (("--json", "digest", "--store="), "option_invalid"),
        (("--json", "digest", "--stor", "s"), "unknown_option"),
        (("--json", "--store", "x", "margin"), "unknown_option"),
    ],
    ids=str,
)
def test_an_error_is_json_where_json_comes_first(words: tuple[str, ...], code: str, store: str) -> None:
    done = run(*words)
    assert done.stdout == b""
    assert [json.loads(line)["code"] for line in done.stderr.splitlines()] == [code]


def test_a_wrong_name_is_what_is_said_of() -> None:
    assert 'Unknown command "ingset"' in command("--store", "s", "ingset")[1][0]["message"]


def test_what_comes_behind_two_hyphens_is_no_option() -> None:
    assert in_order(app, ["--quiet", "ingest", "--", "--json", "-"]) == [
        "ingest",
        "--quiet",
        "--",
        "--json",
        "/dev/stdin",
    ]


@pytest.mark.slow_after(1, reason="starts the command for each case")
@pytest.mark.parametrize("words", [(), ("--json",), ("--store", "s"), ("--json", "--help")], ids=" ".join)
def test_the_help_of_the_top_lists_them(words: tuple[str, ...]) -> None:
    text = run(*words).stdout.decode()
    listed = text[text.index("Before a command's name or behind it:") :]
    for name in GENERAL:
        assert f"  {name} " in listed


def test_the_help_of_a_command_lists_its_own() -> None:
    assert command("digest", "--help")[0] == 0
    assert "Before a command's name" not in command("digest", "--help")[2].decode()
