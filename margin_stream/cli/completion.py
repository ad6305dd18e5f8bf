"""``completion``: scripts for shells, generated from the tree of commands."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from margin_stream.cli.errors import DONE
from margin_stream.cli.output import Common

NAME = "margin-stream"
ZSH_END = f"""\
# The function above is called at once where zsh loads this file as a completion of its own, else it is made known.
if [[ "${{funcstack[1]}}" == (_{NAME}|_cyclopts_{NAME}) ]]; then
  _cyclopts_{NAME} "$@"
else
  compdef _cyclopts_{NAME} {NAME}
fi
"""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="bash, zsh or fish.")],
    /,
    *,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Print a script that completes commands, options and values in a shell.

    Try:
      source <(margin-stream completion bash)
      source <(margin-stream completion zsh)
      margin-stream completion fish > ~/.config/fish/completions/margin-stream.fish
    """
    from margin_stream.cli.main import app

    print(app.generate_completion(prog_name=NAME, shell=shell) + (ZSH_END if shell == "zsh" else ""))
    return DONE
