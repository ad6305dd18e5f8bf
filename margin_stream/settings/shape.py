"""What can be set: one typed definition, from which files, environment, flags, ``config show`` and docs/settings.md
follow."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

PREFIX = "MARGIN_STREAM_"
EVERYWHERE: tuple[str, ...] = ("*",)


def _meta(meaning: str, *, flag: str = "", commands: tuple[str, ...] = (), secret: bool = False, **limits: Any) -> Meta:
    """Return what is known of a setting: its meaning, the flag that overrides it and the commands that have the
    flag."""
    return Meta(description=meaning, extra={"flag": flag, "commands": commands, "secret": secret}, **limits)


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs are taken."""

    partitions: Annotated[
        int | None,
        _meta("Logical partitions of a store that `ingest` creates.", flag="--partitions", commands=("ingest",)),
    ] = None


class Kafka(msgspec.Struct, frozen=True, kw_only=True):
    """Stores on Kafka: their topics, and how clients authenticate."""

    partitions: Annotated[
        int,
        _meta(
            "Partitions of accounts of a store that `kafka init` creates.",
            flag="--partitions",
            commands=("kafka init",),
        ),
    ] = 4
    replicas: Annotated[
        int,
        _meta(
            "Replicas of every topic; 0: as many as there are brokers, at most 3.",
            flag="--replicas",
            commands=("kafka init", "kafka repartition"),
        ),
    ] = 0
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], _meta("The protocol of connections to brokers.")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        _meta("How the client authenticates with name and password."),
    ] = "SCRAM-SHA-512"
    sasl_username: Annotated[str | None, _meta("The name to log in with.")] = None
    sasl_password: Annotated[
        str | None, _meta("The password; only from the environment. A file is safer.", secret=True)
    ] = None
    sasl_password_file: Annotated[str | None, _meta("A file that holds the password.")] = None
    derived_key_file: Annotated[
        str | None,
        _meta(
            "A file with a key of 32 bytes or more, with which messages of derived topics are sealed; the same for all."
        ),
    ] = None
    ssl_cafile: Annotated[str | None, _meta("Certificates of trusted authorities (PEM); by default the machine's.")] = (
        None
    )
    ssl_certfile: Annotated[str | None, _meta("The client's certificate (PEM).")] = None
    ssl_keyfile: Annotated[str | None, _meta("The private key of the client's certificate (PEM).")] = None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One Faust worker."""

    data: Annotated[str | None, _meta("This worker's own folder.", flag="--data", commands=("worker",))] = None
    name: Annotated[
        str | None, _meta("Its name; by default from host and folder.", flag="--name", commands=("worker",))
    ] = None
    http: Annotated[str, _meta("HOST:PORT for health, metrics and questions.", flag="--http", commands=("worker",))] = (
        "127.0.0.1:0"
    )
    advertise: Annotated[
        str | None, _meta("The URL at which other processes reach it.", flag="--advertise", commands=("worker",))
    ] = None
    checkpoint_s: Annotated[
        float, _meta("Seconds between checkpoints.", flag="--checkpoint-s", commands=("worker",), ge=0.05, le=3600)
    ] = 1.0
    session_s: Annotated[
        float,
        _meta(
            "Seconds without a heartbeat after which its partitions go to other workers.",
            flag="--session-s",
            commands=("worker",),
            ge=1,
            le=300,
        ),
    ] = 6.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    store: Annotated[
        str, _meta("The store: a folder, or kafka://HOST:PORT[,HOST:PORT]/NAME.", flag="--store", commands=EVERYWHERE)
    ] = "./margin-store"
    quiet: Annotated[bool, _meta("Print nothing on stderr but errors.", flag="--quiet", commands=EVERYWHERE)] = False
    color: Annotated[Literal["auto", "never"], _meta("Colours on a terminal; NO_COLOR, if set, means never.")] = "auto"
    ingest: Ingest = Ingest()
    kafka: Kafka = Kafka()
    worker: Worker = Worker()


class Setting(NamedTuple):
    """One thing that can be set."""

    key: str
    """In a file: ``table.key``."""
    kind: Any
    default: Any
    meaning: str
    flag: str
    """The option that overrides it; empty if there is none."""
    commands: tuple[str, ...]
    """The commands that have the option."""
    secret: bool

    @property
    def variable(self) -> str:
        """The environment's variable."""
        return PREFIX + self.key.replace(".", "_").upper()

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that there are, where they are few."""
        kind = typing.get_args(self.kind)[0]
        return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _rows(kind: type[msgspec.Struct], table: str) -> list[Setting]:
    found = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found += _rows(hint, f"{field.name}.")
            continue
        meta = next(part for part in typing.get_args(hint) if isinstance(part, Meta))
        assert meta.extra is not None
        found.append(
            Setting(
                table + field.name,
                hint,
                field.default,
                meta.description or "",
                meta.extra["flag"],
                meta.extra["commands"],
                meta.extra["secret"],
            )
        )
    return found


SETTINGS: dict[str, Setting] = {row.key: row for row in _rows(Settings, "")}
"""Every setting by its key, in the order of their definition."""

TABLES = {row.key.partition(".")[0] for row in SETTINGS.values() if "." in row.key}


def settings_of(values: dict[str, Any]) -> Settings:
    """Return the typed settings of values by key; what is missing has its default."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return msgspec.convert(nested, Settings)
