"""Completion, as a shell does it: each script is loaded by its shell, and asked for what follows a line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream import profiles
from margin_stream.cli.main import app
from tests.integration.test_errors import command

BIN = Path(sys.executable).parent

BASH = """
source {folder}/script
COMP_WORDS=({words} "{last}")
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_margin_stream
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "source {folder}/script; complete -C '{line}' | string replace -r '\\t.*' ''"
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; {load}; echo rea""dy'
zpty -r shell said '*ready*'
zpty -w -n shell '{line}'$'\\t'
sleep 1.5
zpty -w shell ''
while zpty -r -t shell line; do print -r -- "$line"; done
zpty -d shell
"""
ZSH_LOADS = {
    "sourced": "autoload -Uz compinit; compinit -u -d {folder}/dump; source <(margin-stream completion zsh)",
    "in a folder": "margin-stream completion zsh > {folder}/_margin-stream; fpath=({folder} $fpath); autoload -Uz "
    "compinit; compinit -u -d {folder}/dump",
}


def asked(shell: str, line: str, folder: Path, load: str = "") -> str:
    """Return what a shell offers after a line (its last word may be half written)."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here (apt-get install {shell})")
    *words, last = line.split(" ")
    script = {
        "bash": BASH.format(folder=folder, words=" ".join(words), last=last),
        "fish": FISH.format(folder=folder, line=line),
        "zsh": ZSH.format(line=line, load=load.format(folder=folder)),
    }[shell]
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200"}
    done = subprocess.run(
        [program, "-c", script], capture_output=True, text=True, check=False, timeout=60, cwd=folder, env=environment
    )
    return done.stdout


@pytest.mark.slow(reason="starts a shell for each line")
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_options_and_values(shell: str, tmp_path: Path) -> None:
    (tmp_path / "my-store").mkdir()
    (tmp_path / "script").write_bytes(command("completion", shell)[2])
    (tmp_path / "my-file").write_text("")
    for line, wanted in (
        ("margin-stream pro", {"profiles"}),
        ("margin-stream kafka ", {"init", "move-strays", "repartition", "status"}),
        ("margin-stream config ", {"show"}),
        ("margin-stream profiles ", {"list", "show", "template"}),
        ("margin-stream import pos", {"positions"}),
        ("margin-stream token ", {"create", "list", "revoke"}),
        ("margin-stream config show --ori", {"--origin"}),
        ("margin-stream ingest --part", {"--partitions"}),
        ("margin-stream profiles show ", set(profiles.names())),
        ("margin-stream import bars x --profile ", set(profiles.names())),
        ("margin-stream simulate --scenario ", {"crash", "quiet", "walk"}),
        ("margin-stream events --type margin_call_is", {"margin_call_issued"}),
        ("margin-stream digest --store my", {"my-store"}),
        ("margin-stream completion ", {"bash", "fish", "zsh"}),
    ):
        found = {word.strip() for word in asked(shell, line, tmp_path).splitlines()} - {""}
        # Beside commands fish offers files as well, as it does everywhere.
        assert found == wanted or (shell == "fish" and wanted <= found), line


@pytest.mark.slow(reason="starts a shell")
@pytest.mark.parametrize("load", ZSH_LOADS)
def test_zsh_completes_a_command(load: str, tmp_path: Path) -> None:
    said = asked("zsh", "margin-stream kafka repart", tmp_path, ZSH_LOADS[load])
    assert "margin-stream kafka repartition" in said


@pytest.mark.slow(reason="starts a shell for each line")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_knows_every_command_and_option(shell: str) -> None:
    code, _, out = command("completion", shell)
    assert code == 0
    text = out.decode()
    for name in app:
        if name.startswith("-"):
            continue
        assert name in text
        for inner in app[name]:
            assert inner.lstrip("-") in text


def test_another_shell_is_refused() -> None:
    code, errors, _ = command("completion", "bsh")
    assert (code, errors[0]["code"]) == (2, "option_invalid")
    assert 'Did you mean "bash"' in errors[0]["message"]
