"""``doctor``: examines this machine, the store and the broker, and reports what it found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from margin_stream.cli.errors import DONE, FAILED, UNREACHABLE
from margin_stream.cli.output import OnStore, plain, print_json, print_note
from margin_stream.doctor.findings import Finding, ok, problem, warning
from margin_stream.settings import (
    Effective,
    SettingsError,
    current,
    defaults,
    load,
    unknown_variables,
    use,
    without_secret,
)

MARKS = {"ok": "ok     ", "warning": "WARNING", "problem": "PROBLEM", "skipped": "skipped"}


def doctor(*, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Examine this machine, the store and the broker; report what was found and what to do. Changes nothing.

    Exit 0 if there is no problem (warnings are none), 1 if there is one, 5 if the broker is not reachable.

    Try:
      margin-stream doctor
      margin-stream doctor --store kafka://localhost:9092/demo
      margin-stream doctor --json
    """
    counts: dict[str, int] = {}
    unreachable = False
    for finding in _findings(common):
        counts[finding.status] = counts.get(finding.status, 0) + 1
        unreachable |= finding.check == "broker.reachable" and finding.status == "problem"
        if common.json:
            print_json(msgspec.to_builtins(finding))
        elif not common.quiet or finding.status in ("warning", "problem"):
            print(f"{MARKS[finding.status]}  {finding.check:<20}  {plain(finding.found)}")
            if finding.next:
                print(f"{'':<31}-> {plain(finding.next)}")
    if not common.json:
        print_note(common, ", ".join(f"{counts.get(status, 0)} {status}" for status in MARKS))
    if unreachable:
        return UNREACHABLE
    return FAILED if counts.get("problem") else DONE


def _findings(common: OnStore) -> Iterator[Finding]:
    from margin_stream.doctor import machine, stores

    try:
        effective = load(config=common.config)
    except SettingsError as error:
        yield problem(
            "settings",
            str(error),
            "Correct it; docs/settings.md lists all settings. The rest is examined with defaults.",
        )
        effective = defaults()
    else:
        effective = current()
        read = ", ".join(map(str, effective.files))
        yield ok("settings", f"from {read}" if read else "no file of settings; environment, options and defaults")
    use(effective)
    for text in unknown_variables():
        yield warning("settings.environment", text, "Correct its name, or take it out of the environment.")
    yield from _secrets(effective)
    on_kafka = "://" in common.store
    yield from machine.machine(Path() if on_kafka else Path(common.store))
    if on_kafka:
        yield from _broker(common, effective)
    else:
        yield from stores.store(Path(common.store))
    yield machine.java()


def _secrets(effective: Effective) -> Iterator[Finding]:
    """Files with secrets: readable by us, and by no other user."""

    kafka = effective.settings.kafka
    for key, name in (("kafka.sasl_password_file", kafka.sasl_password_file), ("kafka.ssl_keyfile", kafka.ssl_keyfile)):
        if name is None:
            continue
        try:
            with Path(name).open("rb"):
                mode = Path(name).stat().st_mode
        except OSError as error:
            yield problem(
                "settings.secrets", f"{key}: {name}: {error.strerror or error}", "Name a file that this user may read."
            )
            continue
        if mode & 0o077:
            yield warning(
                "settings.secrets", f"{key}: {name} may be read by others ({mode & 0o777:o})", f"chmod 600 {name}"
            )
        else:
            yield ok("settings.secrets", f"{key}: {name}")


def _broker(common: OnStore, effective: Effective) -> Iterator[Finding]:
    from margin_stream.cli import on_kafka
    from margin_stream.doctor.brokers import broker
    from margin_stream.kafka.address import AddressError, parse_address
    from margin_stream.kafka.client import KafkaError, SecurityError, Unreachable

    try:
        address = parse_address(common.store)
        with on_kafka.client_of(address) as client:
            yield from broker(client, address, effective.settings.worker.session_s)
    except AddressError as error:
        yield problem("store.address", str(error), "Write kafka://HOST:PORT[,HOST:PORT]/NAME, or a folder.")
    except SecurityError as error:
        yield problem(
            "broker.security",
            str(error),
            "Complete kafka.*; `margin-stream config show --origin` shows what is set, and where.",
        )
    except Unreachable as error:
        mend = "Is it running, is the address right, does kafka.security_protocol fit, and is there a firewall between?"
        yield problem("broker.reachable", without_secret(str(error)), mend)
    except KafkaError as error:
        yield problem(
            "broker.answers",
            f"{type(error).__name__}: {error}",
            "Look at the broker's log; rights (ACLs) are often the reason.",
        )
