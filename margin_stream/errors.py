"""What every error that can reach a user carries as data: a code that stays, and where it lies."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """An error of ours. Its class has the code under which ``margin_stream.cli.errors`` has what it means and what to
    do."""

    code = "internal_error"
    """Stable: never renamed, never used again for something else. A class without one has that of its ancestor."""

    def __init_subclass__(cls, code: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.code = code or cls.code

    def __init__(self, message: str, /, **where: object) -> None:
        """
        Args:
            message: what is wrong, for people; nothing is ever read out of it.
            where: of ``file``, ``line``, ``offset``, ``field``, ``store``, ``option``, ``account``, ... what is known;
                None is left out.
        """
        super().__init__(message)
        self.where: dict[str, int | str] = {
            name: value if isinstance(value, int) else str(value) for name, value in where.items() if value is not None
        }
