"""Draw docs/liquidated.svg, the picture of the README: what the demo prints of one liquidation. ``python -m
tests.picture`` runs the demo and writes it."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "liquidated.svg"
HEAD = "Why was it liquidated?"
LABEL = re.compile(r"  [a-z][a-z ()]*[a-z)](?=  )")


def lines_of(demo: str) -> list[str]:
    """Return the paragraph of the demo's output that explains a liquidation."""
    shown = demo[demo.index(HEAD) :].splitlines()
    return [HEAD, "", *shown[2 : 2 + shown[2:].index("")]]


def drawn(lines: list[str]) -> str:
    """Return lines as a picture: no font and nothing else is loaded from elsewhere."""
    console = Console(record=True, width=max(map(len, lines)) + 2, file=StringIO(), highlight=False)
    for place, line in enumerate(lines):
        text = Text(line, style="bold" if place == 0 else "")
        if found := LABEL.match(line):
            text.stylize("cyan", 0, found.end())
        if line.lstrip().startswith(("rule", "liquidation request")):
            text.stylize("bold", len(line) - len(line.lstrip()))
        console.print(text)
    picture = console.export_svg(title="margin-stream demo", unique_id="demo")
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    return re.sub(r"<!--.*?-->\n?", "", picture, flags=re.DOTALL).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def text_of(picture: str) -> list[str]:
    """Return the lines of a picture as text."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in re.findall(r'<text class="demo-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', picture):
        rows.setdefault(float(y), []).append((float(x), unescape(text).replace("\xa0", " ")))
    return ["".join(text for _, text in sorted(parts)).rstrip() for _, parts in sorted(rows.items())]


def main() -> None:
    """Run the demo and write the picture."""
    words = [sys.executable, "-m", "margin_stream.cli", "demo"]
    demo = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    PICTURE.write_text(drawn(lines_of(demo)))
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
