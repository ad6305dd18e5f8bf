"""Growing arrays: what the vectors hold of the terms in each instrument's price."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Column:
    """A growing array: rows are appended, and filtered when units died."""

    __slots__ = ("array", "count")

    def __init__(self, kind: Any, width: int = 0) -> None:
        self.array: NDArray[Any] = np.zeros((16, width) if width else 16, dtype=kind)
        self.count = 0

    def append(self, row: Any) -> None:
        """Add a row."""
        if self.count == len(self.array):
            self.array = np.concatenate([self.array, np.zeros_like(self.array)])
        self.array[self.count] = row
        self.count += 1

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows that the mask does not name."""
        kept = self.array[: self.count][mask]
        self.array[: len(kept)] = kept
        self.count = len(kept)


class SimpleTerms:
    """The terms in one instrument's price alone."""

    __slots__ = ("debits", "units", "values")

    def __init__(self) -> None:
        self.units, self.values, self.debits = Column(np.int32), Column(np.float64), Column(np.float64)

    def columns(self) -> tuple[Column, ...]:
        """Return every column, that of the units first."""
        return self.units, self.values, self.debits


class ProductTerms:
    """The terms in a product of prices that this instrument is a leg of."""

    __slots__ = ("debits", "others", "units", "values")

    def __init__(self) -> None:
        self.units, self.values, self.debits = Column(np.int32), Column(np.float64), Column(np.float64)
        self.others = Column(np.int32, 2)

    def columns(self) -> tuple[Column, ...]:
        """Return every column, that of the units first."""
        return self.units, self.values, self.debits, self.others


class PositionTerms:
    """The positions in one perpetual."""

    __slots__ = ("lines", "tables", "units", "values")

    def __init__(self) -> None:
        self.units, self.values = Column(np.int32), Column(np.float64)
        self.lines, self.tables = Column(np.float64, 5), Column(np.int32, 2)

    def columns(self) -> tuple[Column, ...]:
        """Return every column, that of the units first."""
        return self.units, self.values, self.lines, self.tables
