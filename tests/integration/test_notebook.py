"""The notebook of the documentation gives what it shows."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.notebook import NOTEBOOK, executed


@pytest.mark.slow(reason="starts a kernel")
def test_the_notebook_gives_what_it_shows(tmp_path: Path) -> None:
    shown = nbformat.read(NOTEBOOK, as_version=4)
    found = executed(tmp_path)
    for cell, wanted in zip(found.cells, shown.cells, strict=True):
        assert cell.source == wanted.source
        if cell.cell_type == "code":
            assert cell.outputs == wanted.outputs, cell.source
            assert cell.outputs or "=" in cell.source or "import" in cell.source
