"""What a person reads: the server's text made harmless, and numbers with their units.

A name that comes from a server is anybody's: whoever may rename a VM could move the cursor, forge lines or reverse
the order of reading on the terminal of an administrator. So every character that is not simply drawn (controls, escape
sequences, bidirectional overrides, zero-width characters, line separators, surrogates) is shown as its escape, in every
output that is not JSON; in JSON it is written as JSON's own escape, which means the same. So are combining characters
beyond `MARKS` in a row, which would be drawn over the lines above and below.
"""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["caret", "count", "duration", "encode", "folded", "quoted", "rate", "safe", "safe_json", "size"]

#: Most combining characters in a row that are drawn; no writing needs as many.
MARKS: Final = 8

#: Unicode categories of what is not simply drawn: controls, formats, surrogates, unassigned, line ends.
_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
# What may need an escape, cheaply: everything outside the printable ASCII.
_SUSPECT: Final = re.compile(r"[^ -~]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: Bytes that nothing has; the last unit alone would need hundreds of digits.
_ABSURD: Final = 1024.0**7
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def safe(value: object) -> str:
    r"""Return `value` as text for a terminal, on one line: a newline comes out as ``\n``, ESC as ``\x1b``."""
    text = str(value)
    return text if text.isascii() and text.isprintable() else _bounded(_SUSPECT.sub(_escaped, text), _escape)


def quoted(value: object) -> str:
    """Return `value` as `safe` does, in quotes."""
    return f"'{safe(value)}'"


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _HARMFUL:
        return character
    return _SHORT.get(character) or _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _bounded(text: str, escape: Callable[[str], str]) -> str:
    """Return `text` with the combining characters beyond `MARKS` in a row escaped."""
    if text.isascii():
        return text
    parts = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        parts.append(escape(character) if marks > MARKS else character)
    return "".join(parts)


def safe_json(text: str) -> str:
    """Return JSON that means the same as `text`, with the characters that `safe` would escape as JSON escapes."""
    if text.isascii() and "\x7f" not in text:
        return text  # the encoder has escaped the ASCII controls; line ends are its own
    return _bounded(_SUSPECT.sub(_escaped_json, text), _escape_json)


def _escaped_json(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\n" or unicodedata.category(character) not in _HARMFUL:
        return character
    return _escape_json(character)


def _escape_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def encode(value: Any, *, indent: bool = False) -> str:
    """Return `value` as JSON, on one line unless `indent`."""
    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return safe_json(orjson.dumps(value, option=option).decode())
    except orjson.JSONEncodeError:
        # It reads JSON four times as deep as it writes it.
        separators = None if indent else (",", ":")
        return safe_json(json.dumps(value, ensure_ascii=False, indent=2 if indent else None, separators=separators))


def folded(text: str, width: int, *, indent: int = 9) -> str:
    """Return `text` on lines of `width`, the later ones indented; a word that is longer, as a hash is, stays whole."""
    if len(text) <= width:
        return text
    lines = textwrap.wrap(
        text, max(width, indent + 8), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    # A word too long for the indent may still fit a line of its own.
    return "\n".join(line if len(line) <= width else line.lstrip() for line in lines)


def caret(text: str, position: int) -> str:
    """Return `text` made safe and, on a line below it, a caret under the character at `position`."""
    before = safe(text[:position])
    # A wide character takes two columns.
    width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return f"  {safe(text)}\n  {' ' * width}^"


def size(number: Any) -> str:
    """Return a number of bytes with a binary unit, such as "64.0 MiB"; what is no number is shown as it is."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return safe(number)
    try:
        value = float(number)
    except OverflowError:
        return "∞ B"
    if abs(value) >= _ABSURD:
        return f"{value:.1e} B"
    for unit in _UNITS:
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError  # the last unit takes everything


def rate(per_second: float) -> str:
    """Return a rate in bytes, such as "160.0 MiB/s"."""
    return f"{size(per_second)}/s"


def count(number: int, noun: str = "", plural: str = "") -> str:
    """Return a number with its thousands apart, and with its noun when one is given."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a duration: "8 ms", "0.42 s", "12.3 s", "4:05", "2:04:05"."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
