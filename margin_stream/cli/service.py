"""``run``: the service; and the tokens that let callers in."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from margin_stream.cli.clocks import Clock, ClockName
from margin_stream.cli.error_output import diagnose, failure, report
from margin_stream.cli.errors import DONE, FAILED, INTERRUPTED, TERMINATED
from margin_stream.cli.output import Common, OnStore, print_note, show, show_rows
from margin_stream.cli.signals import as_python_does
from margin_stream.cli.usage import UsageError

if TYPE_CHECKING:
    from margin_stream.service.engine import Engine

LISTEN = "127.0.0.1:8787"
RoleName = Literal["viewer", "desk", "operations", "approver", "auditor", "client"]


def run_service(
    *,
    listen: Annotated[str, Parameter(help="HOST:PORT of the API; port 0 takes any that is free.")] = LISTEN,
    partitions: Annotated[int | None, Parameter(help="Logical partitions of a store that is made.")] = None,
    clock: Annotated[
        ClockName, Parameter(help="What moves the clock: clock_ticked inputs, event times, or this machine's clock.")
    ] = "input",
    follow: Annotated[
        tuple[Path, ...],
        Parameter(negative="", show_default=False, help="A file of inputs (NDJSON) that is read as it grows."),
    ] = (),
    tls_certificate: Annotated[
        Path | None, Parameter(help="A certificate chain (PEM): the API is served by TLS.")
    ] = None,
    tls_key: Annotated[Path | None, Parameter(help="The certificate's private key (PEM).")] = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Serve a store: an HTTP API, a stream of effects, health and metrics.

    Everything but /livez and /readyz needs a token: `margin-stream token create`. A second `run` on the same store
    stands by: it answers questions, and takes over when the first ends. SIGTERM stops cleanly.

    Try:
      margin-stream run
      margin-stream run --store /var/lib/margin-stream --listen 0.0.0.0:8787 --tls-certificate c.pem --tls-key k.pem
      margin-stream run --clock wall --follow feed.ndjson
    """
    host, port = _address(listen)
    if (tls_certificate is None) is not (tls_key is None):
        raise UsageError("--tls-certificate and --tls-key go together", option="--tls-certificate")
    path = common.path
    as_python_does()
    return asyncio.run(_run(common, path, host, port, partitions, clock, follow, tls_certificate, tls_key))


async def _run(
    common: Common,
    path: Path,
    host: str,
    port: int,
    partitions: int | None,
    clock: ClockName,
    files: tuple[Path, ...],
    certificate: Path | None,
    key: Path | None,
) -> int:
    import ssl

    from margin_stream.cli.version import version_line
    from margin_stream.service.api import Api
    from margin_stream.service.engine import Engine
    from margin_stream.service.intakes import FollowedFile
    from margin_stream.service.server import Server, serve
    from margin_stream.service.stream import Hub
    from margin_stream.service.tokens import Tokens

    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
    hub = Hub()
    engine = Engine(path, partitions=partitions, emitted=hub.emitted)
    api, tokens = Api(engine, hub), Tokens(path)
    ticking = Clock(clock, store_ns=lambda: _clock_ns(engine), warn=lambda text: _warn(common, text))
    api.clocked = lambda lines: list(ticking.lines(lines))
    stop, code = asyncio.Event(), DONE
    came: list[int] = []

    def asked(number: int) -> None:
        came.append(number)
        hub.close()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)

    def listening(at: int) -> None:
        scheme = "https" if tls else "http"
        print_note(common, f"listening on {scheme}://{host}:{at}")
        if not tokens.all():
            store = f" --store {path}"
            print_note(common, f"no token yet: `margin-stream token create NAME --role operations{store}` makes one")

    async def keep() -> None:
        nonlocal code
        await engine.keep_open()
        if engine.failed is not None:
            code = report(diagnose(engine.failed), as_json=common.json)
            stop.set()
            return
        print_note(common, f"{path}: open for writing")
        while True:
            await asyncio.sleep(1)
            line = ticking.due()
            if line is not None and engine.store is not None:
                await engine.send([line])

    keeping = [asyncio.create_task(keep())]
    keeping += [asyncio.create_task(FollowedFile(file, engine, api.clocked).follow()) for file in files]
    try:
        server = Server(api, tokens, version_line().split()[1])
        await serve(server, host, port, stop, listening, tls=tls)
    except OSError as error:
        code = report(
            failure("address_in_use", f"--listen {host}:{port}: {error.strerror or error}", option="--listen"),
            as_json=common.json,
        )
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await engine.close()
    if came:
        return INTERRUPTED if came[0] == signal.SIGINT else TERMINATED
    return code or FAILED


def _clock_ns(engine: Engine) -> int:
    return 0 if engine.store is None else engine.store.folds().intake.market.clock_ns


def _warn(common: Common, text: str) -> None:
    report(failure("clock_not_moved", text), as_json=common.json)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {text}: write HOST:PORT, such as {LISTEN}", option="--listen")
    return host.strip("[]"), int(port)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def token_create(
    name: Annotated[str, Parameter(help="What the token is called, such as who holds it.")],
    /,
    *,
    role: Annotated[RoleName, Parameter(help="What it allows.")],
    desk: Annotated[tuple[str, ...], Parameter(negative="", help="Of role desk: a desk that it shows.")] = (),
    account: Annotated[tuple[str, ...], Parameter(negative="", help="Of role client: an account that it shows.")] = (),
    days: Annotated[int | None, Parameter(help="It ends after so many days; left out, never.")] = 90,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Make a token for the service of a store, and print it: this once, only its hash is kept.

    Roles: viewer reads accounts and calls; desk those of its desks; client its accounts; operations also sends inputs,
    and reads the journal and what was refused; auditor and approver read all.

    The store must be there: `run` or `ingest` makes it.

    Try:
      margin-stream token create feed --role operations
      margin-stream token create anna --role desk --desk north --days 30
    """
    from margin_stream.journal.layout import Layout, read_manifest
    from margin_stream.service.tokens import Role, Tokens

    read_manifest(Layout(common.path))  # A mistyped store gets no token.
    kind = Role(role)
    if (kind is Role.DESK) is not bool(desk) or (kind is Role.CLIENT) is not bool(account):
        what = "--desk goes with --role desk, --account with --role client; each needs at least one"
        raise UsageError(what, option="--role")
    if not 1 <= len(name) <= 40 or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{name[:50]}: 1 to 40 letters, digits, - and _", option="NAME")
    if days is not None and not 1 <= days <= 3660:
        raise UsageError(f"--days {days}: from 1 to 3660", option="--days")
    tokens = Tokens(common.path)
    if any(token.name == name and token.revoked is None for token in tokens.all()):
        raise UsageError(f"{name}: there is a token of that name; revoke it first", option="NAME")
    text = tokens.create(name, kind, days=days, desks=desk, accounts=account)
    if common.json:
        show(common, {"name": name, "role": role, "token": text})
    else:
        sys.stdout.write(text + "\n")
    return DONE


def token_list(*, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """List tokens: names, roles, when they end; never a token itself.

    Try:
      margin-stream token list
    """
    from margin_stream.service.tokens import Tokens

    rows = [
        {
            "name": token.name,
            "role": token.role.value,
            "of": list(token.desks or token.accounts),
            "created": token.created,
            "expires": token.expires,
            "revoked": token.revoked,
        }
        for token in Tokens(common.path).all()
    ]
    show_rows(common, rows, ("name", "role", "of", "expires", "revoked", "created"), empty="no tokens")
    return DONE


def token_revoke(name: str, /, *, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """End a token: a service that runs turns it away at once.

    Try:
      margin-stream token revoke anna
    """
    from margin_stream.service.tokens import Tokens

    Tokens(common.path).revoke(name)
    print_note(common, f"{name} is revoked")
    return DONE
