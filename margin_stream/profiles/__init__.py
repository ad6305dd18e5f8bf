"""Margin profiles as data: each number with its meaning, source and confidence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec

from margin_stream.errors import Error
from margin_stream.settings import did_you_mean


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One parameter of a profile."""

    name: str
    value: str | int
    meaning: str
    source: str
    confidence: str


class Haircut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The haircut of some assets."""

    assets: tuple[str, ...]
    value: str
    source: str
    confidence: str


class BracketRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One leverage bracket of the illustrative table."""

    floor: str
    maintenance_rate: str
    maintenance_amount: str
    max_leverage: str
    source: str
    confidence: str
    cap: str | None = None


class ProfileData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile as shipped."""

    name: str
    model: str
    title: str
    note: str
    default_haircut: str
    number: tuple[Number, ...]
    haircut: tuple[Haircut, ...] = ()
    bracket: tuple[BracketRow, ...] = ()

    def haircut_of(self, asset: str) -> str:
        """Return the haircut of an asset, the default where none is given."""
        return next((row.value for row in self.haircut if asset in row.assets), self.default_haircut)

    @property
    def has_brackets(self) -> bool:
        """The model takes leverage brackets."""
        return bool(self.bracket)

    def parameters(
        self,
        base_currency: str,
        routes: Mapping[str, Sequence[str]],
        brackets: Mapping[str, Sequence[Any]] | None = None,
    ) -> dict[str, Any]:
        """Return the parameters of a ``profile_activated``.

        Args:
            base_currency: what amounts are in.
            routes: asset -> instruments that convert it to the base currency.
            brackets: instrument -> table, for a model that takes leverage brackets.
        """
        assets = {
            asset: {"haircut": self.haircut_of(asset), "route": list(route)} for asset, route in sorted(routes.items())
        }
        assets[base_currency] = {"haircut": self.haircut_of(base_currency), "route": []}
        parameters = {"base_currency": base_currency, **{row.name: row.value for row in self.number}, "assets": assets}
        if self.has_brackets:
            parameters["brackets"] = (
                {name: msgspec.to_builtins(brackets[name]) for name in sorted(brackets)} if brackets else {}
            )
        return parameters


class UnknownProfile(Error, code="profile_not_shipped"):
    """No profile of that name is shipped."""


def names() -> list[str]:
    """Return the names of the shipped profiles."""
    return sorted(path.name.removesuffix(".toml") for path in files(__name__).iterdir() if path.name.endswith(".toml"))


def load(name: str) -> ProfileData:
    """Return a shipped profile.

    Raises:
        UnknownProfile: the text lists those that are.
    """
    if name not in names():
        raise UnknownProfile(
            f"no profile {name!r}{did_you_mean(name, names())}; shipped are: {', '.join(names())}", profile=name
        )
    return msgspec.convert(tomllib.loads((files(__name__) / f"{name}.toml").read_text()), ProfileData)
