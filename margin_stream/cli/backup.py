"""``margin-stream backup``: a copy of a store in a folder, made beside its writer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli.errors import DONE
from margin_stream.cli.output import OnStore, show
from margin_stream.cli.usage import WrongKindOfStore
from margin_stream.settings import without_secret


def backup(
    to: Annotated[Path, Parameter(name="TO", help="A new folder, or an earlier backup, which is brought up to date.")],
    /,
    *,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Copy a store into a folder, beside its writer; again, only what came since is copied.

    Every record is checked as it is copied. The copy is a store: `verify` it, or use it in the place of the lost one.

    Try:
      margin-stream backup /mnt/backup/margin-store
    """
    from margin_stream.host.backup import back_up

    if common.on_kafka:
        named = without_secret(common.store)
        text = f"--store {named}: backup is for stores in folders; `margin-stream export FOLDER` copies one on Kafka"
        raise WrongKindOfStore(text, store=named)
    done = back_up(common.path, to)
    show(common, {"from": str(common.path), "to": str(to), **done._asdict()})
    return DONE
