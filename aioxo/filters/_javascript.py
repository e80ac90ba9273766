"""The few pieces of JavaScript that the filter language shows through: strings, case and numbers.

The server is a JavaScript program, so its strings are sequences of UTF-16 code units: `length`, positions in
messages and regular expressions all count units. Python's count code points. The two differ only for characters
beyond U+FFFF, which `units` splits into their two surrogates; everything else can be left alone, and is.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final

__all__ = ["SPACE", "as_double", "fold", "fold_unit", "folding_units", "is_cased", "number_text", "parse_number"]
__all__ += ["unit_length", "units"]

#: The characters of JavaScript's ``\s``: neither all of Python's white space nor only that.
SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

#: Every integer up to this magnitude has its own double.
MAX_SAFE_INTEGER: Final = 2**53 - 1

_DECIMAL: Final = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_RADIX: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")


def units(text: str) -> str:
    """Return `text` with each character beyond U+FFFF as its two surrogates, so that one item is one UTF-16 unit."""
    if text.isascii() or max(text) <= "\uffff":
        return text
    data = text.encode("utf-16-le", "surrogatepass")
    return "".join(map(chr, struct.unpack(f"<{len(data) // 2}H", data)))


def unit_length(text: str) -> int:
    """Return the length of `text` in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def is_cased(character: str) -> bool:
    """Tell whether one UTF-16 unit has distinct upper and lower case; surrogates have none."""
    return character <= "\uffff" and character.lower() != character.upper()


def fold_unit(unit: str) -> str:
    """Return what a regular expression with the flag ``i`` compares in place of `unit`.

    That is its upper case, unless this is longer than one unit or would bring a non-ASCII unit into ASCII
    (so U+212A KELVIN SIGN is not a ``k`` and ``ß`` is not ``SS``).
    """
    upper = unit.upper()
    if len(upper) != 1 or upper > "\uffff" or (unit > "\x7f" and upper <= "\x7f"):
        return unit
    return upper


class _FoldTable(dict[int, str]):
    """A table for `str.translate` that fills itself."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = fold_unit(chr(code))
        return folded


_FOLD_TABLE: Final = _FoldTable()


def fold(text: str) -> str:
    """Return `text`, which must consist of units, with `fold_unit` applied to each."""
    return text.upper() if text.isascii() else text.translate(_FOLD_TABLE)


@lru_cache(maxsize=1)
def folding_units() -> tuple[tuple[int, int], ...]:
    """Return all pairs (unit, what it folds to) where the two differ, in order."""
    pairs = ((code, ord(fold_unit(chr(code)))) for code in range(0x10000))
    return tuple(pair for pair in pairs if pair[0] != pair[1])


def as_double(value: float) -> float:
    """Return the double nearest to `value`, an infinity when it is out of range: what JSON.parse makes of it."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def parse_number(text: str) -> float:
    """Return what JavaScript's ``Number(text)`` gives: NaN for what is not a number, 0 for blank text."""
    text = text.strip(SPACE)
    if not text:
        return 0.0
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _RADIX.fullmatch(text):
        return as_double(int(text, 0))
    return float("nan")


def number_text(value: float) -> str:
    """Return the shortest text, made of raw characters of the language only, that `parse_number` reads as `value`."""
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value).replace("+", "")  # a plus sign is no raw character, and an exponent needs none
