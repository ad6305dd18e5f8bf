"""Who may what: tokens with a role, perhaps of some desks or accounts. Only their hashes are kept."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import msgspec

from margin_stream.errors import Error

PREFIX = "mst_"
"""Every token begins with it, so that one that lies about is recognised."""


class TokenUnknown(Error, code="token_unknown"):
    """No token of that name."""


class TokensDamaged(Error, code="tokens_damaged"):
    """The file of tokens cannot be read."""


class Role(StrEnum):
    """What a token is for."""

    VIEWER = "viewer"
    DESK = "desk"
    OPERATIONS = "operations"
    APPROVER = "approver"
    AUDITOR = "auditor"
    CLIENT = "client"


READ, WRITE, AUDIT, WATCH = "read", "write", "audit", "watch"
"""What can be allowed: to read accounts and calls; to send inputs; to read the journal and what was refused; to read
metrics."""
ALLOWED: dict[Role, frozenset[str]] = {
    Role.VIEWER: frozenset({READ, WATCH}),
    Role.DESK: frozenset({READ}),
    Role.OPERATIONS: frozenset({READ, WRITE, AUDIT, WATCH}),
    Role.APPROVER: frozenset({READ, AUDIT, WATCH}),
    Role.AUDITOR: frozenset({READ, AUDIT, WATCH}),
    Role.CLIENT: frozenset({READ}),
}
SCOPED = {Role.DESK: "desks", Role.CLIENT: "accounts"}
"""Roles that see a part only, and the field that names it."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a token."""

    name: str
    role: Role
    hash: str
    """SHA-256 of the token, hexadecimal: it has 256 random bits, so no more is needed."""
    created: str
    expires: str | None = None
    desks: tuple[str, ...] = ()
    """Of role ``desk``: only accounts of these desks."""
    accounts: tuple[str, ...] = ()
    """Of role ``client``: only these accounts."""
    revoked: str | None = None

    def valid(self, now: datetime) -> bool:
        """Return whether it lets anyone in at a moment."""
        return self.revoked is None and (self.expires is None or now < datetime.fromisoformat(self.expires))

    def may(self, what: str) -> bool:
        """Return whether it allows something."""
        return what in ALLOWED[self.role]

    def sees(self, account: str, desk: str) -> bool:
        """Return whether it shows an account, of a desk."""
        if self.role is Role.DESK:
            return desk in self.desks
        return self.role is not Role.CLIENT or account in self.accounts

    @property
    def sees_all(self) -> bool:
        """It shows every account, and what is of none."""
        return self.role not in SCOPED


class Tokens:
    """The tokens of a store, in a file beside it; read again where the file changed, so a revoked one ends at once."""

    def __init__(self, root: Path) -> None:
        self._path = root / "access" / "tokens.json"
        self._seen: tuple[int, int] | None = None
        self._tokens: list[Token] = []

    def all(self) -> list[Token]:
        """Return every token, revoked and expired ones too.

        Raises:
            TokensDamaged: the file is none.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._tokens = None, []
            return []
        if self._seen != (found.st_mtime_ns, found.st_ino):
            try:
                self._tokens = msgspec.json.decode(self._path.read_bytes(), type=list[Token])
            except (msgspec.DecodeError, OSError) as error:
                raise TokensDamaged(f"{self._path}: {error}", file=self._path) from None
            self._seen = found.st_mtime_ns, found.st_ino
        return self._tokens

    def of(self, text: str) -> Token | None:
        """Return the valid token that a caller holds, or None."""
        given = sha256(text.encode()).hexdigest()
        now = datetime.now(UTC)
        found = None
        for token in self.all():
            # Every one is compared, in equal time.
            if hmac.compare_digest(token.hash, given) and token.valid(now):
                found = token
        return found

    def create(
        self,
        name: str,
        role: Role,
        *,
        days: int | None = None,
        desks: tuple[str, ...] = (),
        accounts: tuple[str, ...] = (),
    ) -> str:
        """Make a token; return it. It is shown this once."""
        text = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        token = Token(
            name,
            role,
            sha256(text.encode()).hexdigest(),
            now.isoformat(),
            None if days is None else (now + timedelta(days=days)).isoformat(),
            desks,
            accounts,
        )
        self._write([*self.all(), token])
        return text

    def revoke(self, name: str) -> None:
        """End a token for good.

        Raises:
            TokenUnknown: there is none of that name that is not revoked.
        """
        tokens = self.all()
        if not any(token.name == name and token.revoked is None for token in tokens):
            raise TokenUnknown(f"no token {name!r} that is not revoked", value=name)
        now = datetime.now(UTC).replace(microsecond=0).isoformat()
        self._write(
            [
                msgspec.structs.replace(token, revoked=now) if token.name == name and token.revoked is None else token
                for token in tokens
            ]
        )

    def _write(self, tokens: list[Token]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(msgspec.to_builtins(tokens), indent=1).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._path)
        self._seen = None
