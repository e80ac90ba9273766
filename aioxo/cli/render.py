"""Records and results as a table, JSON, NDJSON, CSV or names.

A writer takes records one by one and writes each as it comes, so a list of any size is shown as it streams. The table
has to know its widths before its first line: it holds the first `HELD` records back, measures them, and keeps to those
widths afterwards. At a terminal a table keeps to its width: names give way first, then the columns that a narrow
terminal may do without; anywhere else nothing is cut.

JSON goes out as the server gave it (see `aioxo.cli.text` for what is escaped); all other text is made harmless. In CSV
that goes for spreadsheets too, which compute what looks like a formula: a cell that begins with "=", "+", "-" or "@",
and is no number, gets an apostrophe before it. (With a control character none begins: it is shown as its escape.)
"""

from __future__ import annotations

import csv
import enum
import io
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from .columns import Column, columns_of
from .text import encode, safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    from aioxo.models import Record

__all__ = [
    "ChangeFormat", "Format", "ResultFormat", "TableWriter", "Writer", "console_for", "encode", "line", "write_value",
    "writer_for",
]  # fmt: skip

#: Records held back to measure them.
HELD: Final = 200
#: Least width of a column that gives way, in characters.
NARROWEST: Final = 16
#: And of an id when there is no room at all: what `Text.truncate` leaves are its first eight characters.
CUT_ID: Final = 9
#: What a formula begins with, also in the wide letters of East Asia.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_GAP: Final = "  "
_STATES: Final = {
    "Running": "green", "success": "green", "connected": "green", "Paused": "yellow", "Suspended": "yellow",
    "pending": "yellow", "connecting": "yellow", "Halted": "bright_black", "failure": "red", "interrupted": "red",
    "disconnected": "red",
}  # fmt: skip


class Format(enum.StrEnum):
    """Shapes of output."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    NAME = "name"

    @classmethod
    def pick(cls, wanted: str | None) -> Format:
        """Return what was asked for, or what suits whoever reads: a person at a terminal, or a program."""
        return cls(wanted) if wanted else cls.TABLE if sys.stdout.isatty() else cls.NDJSON


class ResultFormat(enum.StrEnum):
    """Shapes of the one result of a transfer."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    NAME = "name"


class ChangeFormat(enum.StrEnum):
    """Shapes of what has no end."""

    TABLE = "table"
    NDJSON = "ndjson"
    NAME = "name"


def console_for(stream: Any = None) -> Console:
    """Return a console for `stream`, or for stdout, that takes no text for markup."""
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON

    class OurConsole(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the runner, which knows the exit code; rich would end the program here."""
            raise BrokenPipeError

    return OurConsole(file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)


def line(text: str = "") -> None:
    """Write one line of text to stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Writer(Protocol):
    """Takes records, in this order: any number of `write`, then `finish`; nothing after an error."""

    def write(self, record: Any) -> None:
        """Write one record."""

    def finish(self) -> None:
        """Write what was held back and what comes last."""


def writer_for(format: Format, columns: Sequence[Column], console: Console | None = None) -> Writer:
    """Return a writer to stdout; `columns` are for the formats that have any."""
    if format is Format.TABLE:
        return TableWriter(columns, console or console_for())
    if format is Format.JSON:
        return _JsonWriter()
    if format is Format.CSV:
        return _CsvWriter(columns)
    return _NameWriter() if format is Format.NAME else _NdjsonWriter()


class _NdjsonWriter:
    def write(self, record: Any) -> None:
        line(encode(record))

    def finish(self) -> None:
        pass


class _JsonWriter:
    """One array, a record at a time."""

    def __init__(self) -> None:
        self._before = "["

    def write(self, record: Any) -> None:
        indented = encode(record, indent=True).replace("\n", "\n  ")
        sys.stdout.write(f"{self._before}\n  {indented}")
        self._before = ","

    def finish(self) -> None:
        line("[]" if self._before == "[" else "\n]")


class _CsvWriter:
    def __init__(self, columns: Sequence[Column]) -> None:
        # Sizes and times stay numbers: a spreadsheet shall compute with them.
        self._columns = [replace(column, kind="text") for column in columns]
        self._row([column.path for column in columns])

    def write(self, record: Any) -> None:
        self._row([column.cell(record) for column in self._columns])

    def finish(self) -> None:
        pass

    def _row(self, cells: list[str]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(map(_no_formula, cells))
        line(buffer.getvalue())


def _no_formula(cell: str) -> str:
    """Return a cell that no spreadsheet computes."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


class _NameWriter:
    def write(self, record: Any) -> None:
        line(name_of(record))

    def finish(self) -> None:
        pass


def name_of(record: Any) -> str:
    """Return what a person calls a record, harmless: its name, or what comes closest."""
    if not isinstance(record, dict):
        return safe(record)
    for field in ("name_label", "name", "email", "label", "host", "jobName", "device", "id"):
        if isinstance(value := record.get(field), str) and value:
            return safe(value)
    return safe(encode(record))


class TableWriter:
    """A table whose rows are written as they come.

    Attributes:
        rows: rows written so far.
    """

    def __init__(self, columns: Sequence[Column], console: Console, *, indent: str = "", empty: str = "none") -> None:
        self.rows = 0
        self._columns = list(columns)
        self._console = console
        self._plain = not console.is_terminal
        self._indent = indent
        self._empty = empty
        self._held: list[list[str]] | None = []
        self._widths: list[int] = []

    def write(self, record: Any) -> None:
        """Write one record; the first ones wait until the widths are known."""
        cells = [column.cell(record) for column in self._columns]
        if self._held is None:
            self._row(cells)
            return
        self._held.append(cells)
        if len(self._held) >= HELD:
            self._release()

    def finish(self) -> None:
        """Write what was held back."""
        if self._held is not None:
            self._release()
        if not self.rows:
            self._console.print(self._indent + self._empty, style="bright_black")

    def _release(self) -> None:
        held, self._held = self._held or [], None
        if not held:
            return
        kept = self._measure(held)
        self._columns = [self._columns[index] for index in kept]
        self._kept = kept
        self._heading()
        for cells in held:
            self._row(cells)

    def _measure(self, held: list[list[str]]) -> list[int]:
        """Find the widths; return the indices of the columns that there is room for."""
        from rich.cells import cell_len  # noqa: PLC0415 - only a table needs it

        headings = [column.heading for column in self._columns]
        widths = [max(map(cell_len, cells)) for cells in zip(headings, *held, strict=True)]
        kept = list(range(len(widths)))
        # A terminal alone has a width to keep to; a column of blanks behind every row is nobody's wish.
        room = self._console.width - len(self._indent) if self._console.is_terminal else sys.maxsize

        shortest = {"text": NARROWEST}

        def least(index: int) -> int:
            return min(widths[index], shortest.get(self._columns[index].kind, widths[index]))

        def total(sizes: Iterable[int]) -> int:
            return sum(sizes) + len(_GAP) * (len(kept) - 1)

        while total(map(least, kept)) > room and (spare := [i for i in kept if self._columns[i].optional]):
            kept.remove(spare[-1])
        if total(map(least, kept)) > room:
            shortest["id"] = CUT_ID
        # Rather none than the half of one, for a line that wraps breaks the table.
        while total(map(least, kept)) > room and len(kept) > 1:
            kept.pop()
        if total(map(least, kept)) > room:
            widths[kept[0]] = room
        for index in sorted(kept, key=lambda i: -widths[i]):
            excess = total(widths[i] for i in kept) - room
            if excess > 0:
                widths[index] = max(least(index), widths[index] - excess)
        self._widths = [widths[i] for i in kept]
        return kept

    def _heading(self) -> None:
        from rich.text import Text  # noqa: PLC0415 - only a table needs it

        cells = [column.heading for column in self._columns]
        if self._plain:
            self._print_plainly(cells)
        else:
            self._print([Text(cell, style="bold") for cell in cells])

    def _row(self, cells: list[str]) -> None:
        self.rows += 1
        chosen = [cells[index] for index in self._kept]
        if self._plain:
            self._print_plainly(chosen)
            return
        from rich.text import Text  # noqa: PLC0415 - only a table needs it

        self._print(
            [Text(cell, style=_style(column, cell)) for column, cell in zip(self._columns, chosen, strict=True)]
        )

    def _print_plainly(self, cells: list[str]) -> None:
        """Write a row without colours and uncut; ten times as fast."""
        from rich.cells import cell_len  # noqa: PLC0415 - only a table needs it

        row = self._indent
        for cell, width, column in zip(cells, self._widths, self._columns, strict=True):
            blanks = " " * (width - cell_len(cell))
            row += (blanks + cell if column.right else cell + blanks) + _GAP
        self._console.file.write(row.rstrip() + "\n")
        self._console.file.flush()

    def _print(self, cells: list[Text]) -> None:
        from rich.text import Text  # noqa: PLC0415 - only a table needs it

        last = len(cells) - 1
        row = Text(self._indent)
        for index, (cell, width, column) in enumerate(zip(cells, self._widths, self._columns, strict=True)):
            cell.truncate(width, overflow="ellipsis")
            blanks = " " * (width - cell.cell_len)
            row.append(_GAP if index else "")
            row.append(blanks if column.right else "")
            row.append_text(cell)
            row.append(blanks if not column.right and index != last else "")
        self._console.print(row)


def _style(column: Column, cell: str) -> str:
    if column.kind == "state":
        return _STATES.get(cell, "")
    return "bright_black" if column.kind == "id" else ""


def write_value(value: Any, format: Format, fields: Sequence[str] | None = None) -> None:
    """Write any decoded JSON to stdout: a record, a list of them, a scalar."""
    records = value if isinstance(value, list) else [value]
    if fields is not None:
        records = [
            {name: record[name] for name in fields if name in record} if isinstance(record, dict) else record
            for record in records
        ]
        value = records if isinstance(value, list) else records[0]
    if format is Format.JSON:
        line(encode(value, indent=True))
        return
    tabular = bool(records) and all(isinstance(record, dict) for record in records)
    if format is Format.TABLE and not isinstance(value, list):
        _write_one(value)
        return
    if not tabular and format in {Format.TABLE, Format.CSV}:
        format = Format.NAME
    writer = writer_for(format, columns_of(fields or _common(records)) if tabular else [])
    for record in records:
        writer.write(record)
    writer.finish()


def _common(records: Sequence[Record]) -> list[str]:
    """Return the fields that a table of arbitrary records shows: the simple ones, the id last."""
    names = dict.fromkeys(
        name for record in records for name, value in record.items() if not isinstance(value, (dict, list))
    )
    chosen = [name for name in names if name != "id"][:8]
    return [*chosen, "id"] if "id" in names else chosen or ["id"]


def _write_one(value: Any) -> None:
    """Write one record as a field a line, or a scalar as it is."""
    if not isinstance(value, dict):
        line(safe(value if isinstance(value, str) else encode(value)))
        return
    from rich.text import Text  # noqa: PLC0415 - only a table needs it

    console = console_for()
    width = max((len(safe(name)) for name in value), default=0)
    for name, item in value.items():
        shown = safe(item if isinstance(item, str) else encode(item))
        console.print(Text(f"{safe(name):<{width}}", style="bold"), Text(shown))
