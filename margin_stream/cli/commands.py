"""The commands by name. A module is loaded when its command runs: none of what they need slows the others, or the list
of all, down."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

from cyclopts import App

# The function of each, and its module beside this one.
COMMANDS = {
    "demo": "demo:demo",
    "margin": "margin:margin",
    "simulate": "simulate:simulate_day",
    "import accounts": "own_data:import_accounts",
    "import positions": "own_data:import_positions",
    "import collateral": "own_data:import_collateral",
    "import prices": "own_data:import_prices",
    "import": "market_import:import_market",
    "ingest": "ingest:ingest",
    "export": "export:export",
    "replay": "queries:replay_store",
    "verify": "queries:verify_store",
    "repair": "repair:repair",
    "digest": "queries:digest",
    "state": "queries:state",
    "accounts": "queries:accounts",
    "calls": "queries:calls",
    "call": "queries:call",
    "events": "queries:events",
    "facts": "queries:facts",
    "quarantine list": "quarantine:quarantine_list",
    "quarantine show": "quarantine:quarantine_show",
    "quarantine resubmit": "quarantine:quarantine_resubmit",
    "profiles list": "queries:profiles_list",
    "profiles show": "queries:profiles_show",
    "profiles template": "templates:profiles_template",
    "run": "service:run_service",
    "token create": "service:token_create",
    "token list": "service:token_list",
    "token revoke": "service:token_revoke",
    "worker": "worker:worker",
    "kafka init": "on_kafka:init",
    "kafka status": "on_kafka:status",
    "kafka repartition": "on_kafka:repartition",
    "kafka move-strays": "on_kafka:move_strays",
    "backup": "backup:backup",
    "config show": "config:config_show",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}
# The help of commands that have commands of their own.
GROUPS = {
    "quarantine": "Refused inputs, kept with reason and raw bytes.",
    "import": "Your own files into the store; or market data files as inputs (NDJSON).",
    "profiles": "Margin profiles, each number with its source and confidence.",
    "kafka": "Stores on Apache Kafka: create one, show its progress, change its partitions.",
    "token": "Tokens that let callers of the service in: create, list, revoke.",
    "config": "Settings: what is in force, and where it came from.",
}
NAMES = tuple(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))


def summary(name: str) -> str:
    """Return what a command is for: the first paragraph of its docstring, read without loading its module."""
    if name in GROUPS:
        return GROUPS[name]
    module, _, function = COMMANDS[name].partition(":")
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_bytes())
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return (ast.get_docstring(found) or "").partition("\n\n")[0]


def __getattr__(name: str) -> App:
    """Return a command: cyclopts imports it from here by its name, when it is first needed."""
    inner = [_command(words) for words in COMMANDS if words.startswith(f"{name} ")]
    if name not in COMMANDS and not inner:
        raise AttributeError(name)
    if name in COMMANDS:
        group = _command(name)
    else:
        firsts = "\n".join(str(command.help_prologue).splitlines()[1] for command in inner)
        group = App(name=name, help=GROUPS[name], help_prologue=f"Examples:\n{firsts}", help_epilogue="")
    for command in inner:
        group.command(command)
    return group


def _command(name: str) -> App:
    """Load a command; of its docstring the examples come first in its help, the rest below its usage."""
    module, _, function = COMMANDS[name].partition(":")
    found = getattr(import_module(f"margin_stream.cli.{module}"), function)
    text, _, examples = inspect.cleandoc(found.__doc__ or "").partition("\n\nTry:\n")
    command = App(name=name.rpartition(" ")[2], help=text, help_prologue=f"Examples:\n{examples}", help_epilogue="")
    command.default(found)
    return command
