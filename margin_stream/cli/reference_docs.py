"""Write the pages that are generated from the code: docs/errors.md and docs/settings.md. A test keeps them fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from margin_stream.cli.error_output import filled
from margin_stream.cli.errors import ENTRIES
from margin_stream.core.margin.parameters import AssetParameters, BracketParameters, PrimeParameters, UsdmParameters
from margin_stream.schemas.publish import DECIMAL_SCHEMA, field_table
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.settings import SETTINGS
from margin_stream.settings.shape import EVERYWHERE

ROOT = Path(__file__).resolve().parents[2]

EXAMPLE = """\
store = "kafka://broker-1:9093,broker-2:9093/demo"

[kafka]
replicas = 3
security_protocol = "SASL_SSL"
sasl_username = "margin"
sasl_password_file = "/run/secrets/kafka-password"

[worker]
data = "/var/lib/margin-stream/worker"
checkpoint_s = 2
"""
"""A file of settings; the page shows it, and a test reads it."""


def errors_page() -> str:
    """Return docs/errors.md."""
    lines = [
        "# Error catalogue",
        "",
        "Generated from the code by `make schemas`; do not edit.",
        "Every error that a command shows has a code; codes are never renamed or used again.",
        "",
        "An error goes to stderr: the message with its code, then what to do next. With `--json` it is one line there:",
        "",
        "```json",
        '{"code":"store_missing","message":"/srv/none: no store here (no '
        'manifest.json)","where":{"store":"/srv/none"},"next":"`margin-stream ingest FILE --store /srv/none` makes '
        'one; --store names another."}',
        "```",
        "",
        'A note (what recovery did, for example) is a line `{"note":"..."}` there; `--quiet` omits it.',
        "",
        "`where` contains what is known of `file`, `line`, `row`, `column`, `value`, `expected`, `offset`, `store`, `option`, `setting`, `account`, `call`,",
        "`profile`, `input`, `servers`, `topic`, `fold`, `outbox`, `value`, and of a fault the numbers that do not fit, or is null.",
        "",
        "## Commands",
        "",
        "| code | exit | what happened | what to do next |",
        "|---|---|---|---|",
        *(
            f"| `{entry.code}` | {entry.exit} | {_cell(entry.what)} | {_cell(filled(entry.next, {}))} |"
            for entry in ENTRIES
        ),
        "",
        "Exit codes: 0 done, 1 failed, 2 usage, 3 recomputed differs from recorded, 4 corrupt input or journal,",
        "5 a dependency is not reachable, 6 locked by another process, 130 and 143 interrupted and terminated after a",
        "clean stop.",
        "",
        "## Inputs",
        "",
        "An input that is refused goes into quarantine with its bytes and reason, and the run goes on;",
        "with `ingest --strict` it stops at the first, with exit 4.",
        "In order of precedence:",
        "",
        "| code | what the sender should do |",
        "|---|---|",
        *(f"| `{reason.value}` | {_cell(ADVICE[reason])} |" for reason in Refusal),
    ]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Generated from the code by `make schemas`; do not edit.",
        "An option of the command comes first; else a setting is taken from the first of these that has it:",
        "",
        "1. the environment's variable;",
        "2. `margin-stream.toml` in the working folder, or the file that `--config FILE` or `MARGIN_STREAM_CONFIG` "
        "names;",
        "3. the user's file, `~/.config/margin-stream/config.toml` (`$XDG_CONFIG_HOME` is obeyed);",
        "4. the default.",
        "",
        "`margin-stream config show --origin` shows what is in force and where it came from.",
        "An unknown key is an error, and so is a value that is not valid.",
        "Relative paths start at the working folder, wherever the setting is made.",
        "A settings file contains no secret: `kafka.sasl_password_file` names a file that holds it and nothing else.",
        "It is never shown.",
        "",
        "```toml",
        EXAMPLE + "```",
        "",
        "| setting | option | variable | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for row in SETTINGS.values():
        commands = "" if row.commands == EVERYWHERE else " of " + ", ".join(f"`{name}`" for name in row.commands)
        option = f"`{row.flag}`{commands}" if row.flag else ""
        choices = f" One of {', '.join(f'`{choice}`' for choice in row.choices)}." if row.choices else ""
        key = f"`{row.key}`{' (not in a file)' if row.secret else ''}"
        lines.append(
            f"| {key} | {option} | `{row.variable}` | {_default(row.default)} | {_cell(row.meaning)}{choices} |"
        )
    return "\n".join(lines) + "\n"


PARAMETERS: dict[str, type[msgspec.Struct]] = {"prime": PrimeParameters, "binance-usdm": UsdmParameters}
"""Model -> its parameters."""
PARTS: dict[str, type[msgspec.Struct]] = {
    "Of each asset": AssetParameters,
    "Of each leverage bracket": BracketParameters,
}
NO_DECIMALS = ("base_currency",)


def parameters_page() -> str:
    """Return docs/parameters.md."""
    lines = [
        "# Parameters of a profile",
        "",
        "Generated from the code by `make schemas`; do not edit.",
        "`profile_activated` has them under `parameters`; decimals are strings, periods whole seconds.",
        "`margin-stream profiles template NAME --assets A,B` prints a whole set to edit,",
        "`margin-stream profiles show NAME` each number with its source, and",
        "`schemas/json/parameters.schema.json` is the JSON Schema. What they decide is in [the rules](rules.md).",
        "",
    ]
    for name, kind in PARAMETERS.items():
        lines += [f"## Model `{name}`", "", *field_table(kind), ""]
    for title, part in PARTS.items():
        lines += [f"## {title}", "", *field_table(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def parameters_schema() -> str:
    """Return the JSON Schema of the parameters, by model."""
    _, components = msgspec.json.schema_components(PARAMETERS.values(), ref_template="#/$defs/{name}")
    for body in components.values():
        for name, field in body["properties"].items():
            if field.get("type") == "string" and name not in NO_DECIMALS:
                body["properties"][name] = {**field, "pattern": DECIMAL_SCHEMA["pattern"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "parameters of profile_activated, by model",
        "$defs": components | {name: {"$ref": f"#/$defs/{kind.__name__}"} for name, kind in PARAMETERS.items()},
    }
    return json.dumps(schema, indent=1) + "\n"


def _default(value: Any) -> str:
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def outputs() -> dict[Path, str]:
    """Return every page and its content."""
    return {
        ROOT / "docs" / "errors.md": errors_page(),
        ROOT / "docs" / "parameters.md": parameters_page(),
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "schemas" / "json" / "parameters.schema.json": parameters_schema(),
    }


def main() -> None:
    """Write every page."""
    for path, content in outputs().items():
        path.write_text(content)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
