"""Makes demo.svg beside it: what ``aioxo demo`` shows at a terminal of 100 columns, recorded by rich.

Run it in a checkout with the command line installed: ``python docs/images/make_demo.py``.
"""

from __future__ import annotations

import asyncio
import html
import inspect
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from aioxo.cli.connection import Server
from aioxo.cli.demo import Script, demo

COLUMNS = 100

# Without the fonts that rich would have every reader fetch from a server of somebody else's.
FORMAT = inspect.signature(Console.export_svg).parameters["code_format"].default
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", FORMAT, flags=re.DOTALL)
FORMAT = FORMAT.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")


#: Width of a character in rich's drawing.
CHARACTER = 12.2
PIECE = re.compile(
    r'<text (?P<start>[^>]*?) x="(?P<x>[\d.]+)" (?P<y>y="[\d.]+") textLength="[\d.]+"(?P<end>[^>]*)>'
    r"(?P<text>[^<]*)</text>"
)


def trimmed(match: re.Match[str]) -> str:
    """Put a piece of text where its first character is: some renderers drop the blanks in front of it."""
    text = match["text"].replace("&#160;", "\xa0")
    bare = text.strip("\xa0")
    if not bare or not text.startswith("\xa0"):
        return match[0]
    blanks = len(text) - len(text.lstrip("\xa0"))
    x = float(match["x"]) + blanks * CHARACTER
    length = len(html.unescape(bare)) * CHARACTER
    shown = bare.replace("\xa0", "&#160;")
    return f'<text {match["start"]} x="{x:g}" {match["y"]} textLength="{length:g}"{match["end"]}>{shown}</text>'


def main() -> None:
    # A console in memory, that is taken for a terminal; a file of UTF-8, for the lines of the bars.
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(
        file=file,
        record=True,
        force_terminal=True,
        color_system="truecolor",
        width=COLUMNS,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
    )
    asyncio.run(demo(Server(), Script(), console))
    target = Path(__file__).with_name("demo.svg")
    svg = console.export_svg(title="aioxo demo", theme=MONOKAI, code_format=FORMAT, unique_id="demo")
    svg = PIECE.sub(trimmed, svg)
    target.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
