"""``config show``: the settings in force, and where each came from."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli.errors import DONE
from margin_stream.cli.output import OnStore, print_note, show_rows


def config_show(
    *,
    origin: Annotated[
        bool, Parameter(negative="", help="Also show where each comes from: flag, variable, file and line, default.")
    ] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Show the settings in force. Secrets are not shown, only whether they are set.

    Try:
      margin-stream config show
      margin-stream config show --origin
      margin-stream config show --origin --json
    """
    from margin_stream.settings import SETTINGS, current, unknown_variables

    effective = current()
    rows = [
        {"setting": key, "value": effective.shown(key), **({"origin": str(effective.origins[key])} if origin else {})}
        for key in SETTINGS
    ]
    show_rows(common, rows, ("setting", "value", "origin") if origin else ("setting", "value"), empty="")
    if effective.files and not common.json:
        print_note(common, f"read: {', '.join(map(str, effective.files))}")
    for text in unknown_variables():
        print_note(common, f"margin-stream: warning: the environment's {text}")
    return DONE
