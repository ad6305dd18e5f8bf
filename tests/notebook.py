"""Execute docs/notebook.ipynb, from an empty folder beside the examples. ``python -m tests.notebook`` writes it anew."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def executed(folder: Path) -> Any:
    """Return the notebook, executed in a folder."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    shutil.copytree(ROOT / "examples", folder / "examples")
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    before = dict(os.environ)
    os.environ.update(environment | {"COLUMNS": "100", "NO_COLOR": "1"})
    os.environ.pop("MARGIN_STREAM_STORE", None)
    try:
        NotebookClient(
            book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    for place, cell in enumerate(book.cells):
        cell.id = f"cell-{place + 1}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    book.metadata = {"language_info": {"name": "python"}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return book


def merged(outputs: list[Any]) -> list[Any]:
    """Return outputs with what streams wrote in pieces as one of each stream, standard output first."""
    streams = {name: "".join(one.text for one in outputs if one.get("name") == name) for name in ("stdout", "stderr")}
    found = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in streams.items() if text]
    return found + [one for one in outputs if one.output_type != "stream"]


def main() -> None:
    """Write the notebook with its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        book = executed(Path(folder))
    nbformat.write(book, NOTEBOOK)
    print(NOTEBOOK.relative_to(ROOT))


if __name__ == "__main__":
    main()
