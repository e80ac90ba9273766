r"""JavaScript's regular expressions, as the server runs them, translated to Python's `re`.

The server compiles an expression without the flags ``u`` and ``v``, so it sees UTF-16 units and takes the lax syntax of
ECMA-262 annex B, in which ``\u{3}`` is ``uuu`` and a lone ``]`` stands for itself. The translation is a parser of that
syntax which writes each piece again such that nothing in it depends on Python's rules:

- a literal is escaped, a class becomes ranges of units, ``.``, ``\s`` and ``$`` are spelled out;
- with the flag ``i`` both sides are folded (`fold`) and then compared exactly, because Python folds other letters;
- subjects are split into UTF-16 units first, when they hold characters beyond U+FFFF;
- a group that took no part matches as empty text when referred to, where in Python it fails.

What Python cannot do is refused, never approximated: look-behind of variable width, and references to a group inside
a repetition (JavaScript forgets groups at each turn, Python does not). So is what would exceed a named limit.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from aioxo.filters._javascript import SPACE, fold, fold_unit, folding_units, units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RegexError", "compile_regex", "escape"]

#: Deepest nesting of groups; it bounds the recursion of this parser and of Python's.
MAX_GROUP_DEPTH: Final = 30

#: Most repetitions that an expression may require, counts inside counts multiplied. Python remembers every turn even
#: of what matches nothing, so that ``(?:){2000000000}`` alone would take all memory.
MAX_REQUIRED_REPEATS: Final = 10_000

#: V8 takes any larger count of a quantifier for unlimited.
_UNLIMITED: Final = 2**31 - 1

_LAST_UNIT: Final = 0xFFFF
_ANY_BUT_LINE_BREAK: Final = r"[^\n\r\u2028\u2029]"

Ranges: TypeAlias = list[tuple[int, int]]


class RegexError(ValueError):
    """An expression that JavaScript refuses (worded as V8 does), or that Python cannot represent."""


def _complement(ranges: Ranges) -> Ranges:
    result, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return [*result, (start, _LAST_UNIT)]


_DIGITS: Final[Ranges] = [(0x30, 0x39)]
_WORD: Final[Ranges] = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: Final[Ranges] = [(ord(character), ord(character)) for character in SPACE]
_CLASSES: Final[dict[str, Ranges]] = {
    "d": _DIGITS,
    "D": _complement(_DIGITS),
    "w": _WORD,
    "W": _complement(_WORD),
    "s": _SPACES,
    "S": _complement(_SPACES),
}
_CONTROLS: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}

_QUANTIFIER: Final = re.compile(r"(?:([*+?])|\{([0-9]+)(?:(,)([0-9]*))?\})(\??)")
_HEXADECIMAL: Final = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")
_OCTAL: Final = re.compile(r"[0-3][0-7]{0,2}|[4-7][0-7]?")
_DECIMAL: Final = re.compile(r"[1-9][0-9]*")
_NAME: Final = re.compile(r"([^<>]*)>")

# What the count of groups must step over: escapes and classes.
_GROUP_SCAN: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]?|\((?!\?)|\(\?<(?![=!])([^>]*)>", re.DOTALL)

# An anchored literal, which is what the builder writes for ==: compared without any regular expression.
_EXACT: Final = re.compile(r"\^((?:[^\\^$.*+?()\[\]{}|/]|\\[\\^$.*+?()\[\]{}|/])*)\$")
_SPECIAL: Final = re.compile(r"[\\^$.*+?()\[\]{}|/\x00-\x1f\x7f\u0085\u2028\u2029]")


def escape(text: str) -> str:
    """Return an expression, fit to stand between slashes, that matches exactly `text`."""

    def escape_one(match: re.Match[str]) -> str:
        character = match[0]
        return f"\\{character}" if "\x1f" < character < "\x7f" else f"\\u{ord(character):04x}"

    return _SPECIAL.sub(escape_one, text)


@lru_cache(maxsize=512)
def compile_regex(source: str, *, ignore_case: bool) -> Callable[[str], bool]:
    """Return a function that tells whether the expression is found in a string.

    Raises:
        RegexError: JavaScript would refuse it, or Python cannot represent it.
    """
    if not ignore_case and (exact := _EXACT.fullmatch(source)):
        literal = re.sub(r"\\(.)", r"\1", exact[1])
        return lambda text: text == literal
    try:
        translated = _Translator(source, ignore_case=ignore_case).translate()
        # re.ASCII concerns only \b and \B here: everything else is spelled out.
        search = re.compile(translated, re.ASCII).search
    except (re.error, OverflowError, RecursionError) as error:
        raise RegexError(f"regular expression /{source}/ cannot be evaluated here: {error}") from error
    if ignore_case:
        return lambda text: search(fold(units(text))) is not None
    return lambda text: search(text if text.isascii() else units(text)) is not None


class _Translator:
    """A recursive descent over one expression; `position` is where it stands, methods return Python's syntax."""

    def __init__(self, source: str, *, ignore_case: bool) -> None:
        self.source = source
        self.ignore_case = ignore_case
        self.text = units(source)
        self.position = 0
        self.depth = 0
        self.required = 1  # repetitions that the terms so far, at this level, require
        self.behind = 0  # how many look-behinds enclose the position
        self.opened = 0  # groups so far; JavaScript and Python number them alike
        self.open_groups: set[int] = set()
        self.looked: set[int] = set()  # groups within any look-around
        self.repeated: set[int] = set()  # groups whose content at the end may differ between the two languages
        self.referred: set[int] = set()
        names = [match[1] for match in _GROUP_SCAN.finditer(self.text) if match[0].startswith("(")]
        self.group_count = len(names)
        self.names = {name: number for number, name in enumerate(names, 1) if name is not None}
        self.named: set[str] = set()  # those of them that were passed
        self.unknown = False  # whether a reference named none of them

    def invalid(self, reason: str) -> RegexError:
        flags = "i" if self.ignore_case else ""
        return RegexError(f"Invalid regular expression: /{self.source}/{flags}: {reason}")

    def unsupported(self, reason: str) -> RegexError:
        return RegexError(f"regular expression /{self.source}/ cannot be evaluated here: {reason}")

    def translate(self) -> str:
        alternatives = self.alternatives()
        if self.position < len(self.text):
            raise self.invalid("Unmatched ')'")
        if self.unknown:
            raise self.invalid("Invalid named capture referenced")
        if self.referred & self.repeated:
            raise self.unsupported("it refers back to a group inside a repetition")
        return "|".join(alternatives)

    def accept(self, token: str) -> bool:
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def accept_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.position)
        if match:
            self.position = match.end()
        return match

    def alternatives(self) -> list[str]:
        """Parse up to a closing parenthesis or the end."""
        found = [""]
        while self.position < len(self.text) and self.text[self.position] != ")":
            if self.accept("|"):
                found.append("")
            else:
                found[-1] += self.term()
        return found

    def term(self) -> str:
        """Parse an assertion, or an atom with its quantifier."""
        # Python's own \B fails on empty text before 3.14.
        for token, written in (("^", r"\A"), ("$", r"\Z"), (r"\b", r"\b"), (r"\B", r"(?!\b)")):
            if self.accept(token):
                return written  # what quantifies an assertion is met, and refused, as the next term
        if _QUANTIFIER.match(self.text, self.position):
            raise self.invalid("Nothing to repeat")
        before, outside, self.required = self.opened, self.required, 1
        look_behind = self.text.startswith(("(?<=", "(?<!"), self.position)
        atom = self.atom()
        if look_behind:
            if _QUANTIFIER.match(self.text, self.position):
                raise self.invalid("Invalid quantifier")
        else:
            atom += self.quantifier(range(before + 1, self.opened + 1))
        self.required = max(outside, self.required)
        return atom

    def quantifier(self, groups: Iterable[int]) -> str:
        """Parse the quantifier of an atom, if there is one, which holds `groups`."""
        match = self.accept_match(_QUANTIFIER)
        if match is None:
            return ""
        symbol, low, comma, high, lazy = match.groups()
        most = {"?": 1, "*": _UNLIMITED, "+": _UNLIMITED}.get(symbol, 0)
        if symbol is None:
            least = _count(low)
            most = least if comma is None else _count(high) if high else _UNLIMITED
            if least > most:
                raise self.invalid("numbers out of order in {} quantifier")
            self.required *= max(least, 1)
            if self.required > MAX_REQUIRED_REPEATS:
                raise self.unsupported(f"it requires more than {MAX_REQUIRED_REPEATS} repetitions")
            symbol = f"{{{least},{'' if most == _UNLIMITED else most}}}"
        self.repeated.update(groups if most > 1 else self.looked.intersection(groups))
        return symbol + lazy

    def atom(self) -> str:
        character = self.text[self.position]
        self.position += 1
        match character:
            case ".":
                return _ANY_BUT_LINE_BREAK
            case "(":
                return self.group()
            case "[":
                return self.character_class()
            case "\\":
                return self.escape()
        return self.literal(ord(character))

    def literal(self, code: int) -> str:
        if self.ignore_case:
            code = ord(fold_unit(chr(code)))
        return _unit(code)

    # Groups and references

    def group(self) -> str:
        self.depth += 1
        if self.depth > MAX_GROUP_DEPTH:
            raise self.unsupported(f"its groups are nested more than {MAX_GROUP_DEPTH} levels deep")
        for opener in ("?:", "?=", "?!", "?<=", "?<!"):
            if self.accept(opener):
                written = f"(?:{self.close()})" if opener == "?:" else self.look_around(opener)
                break
        else:
            if self.accept("?<"):
                self.group_name()
            elif self.accept("?"):
                raise self.invalid("Invalid group")
            self.opened += 1
            number = self.opened
            self.open_groups.add(number)
            written = f"({self.close()})"
            self.open_groups.discard(number)
        self.depth -= 1
        return written

    def name(self) -> str:
        match = self.accept_match(_NAME)
        if match is None or not match[1].replace("$", "_").isidentifier():
            raise self.invalid("Invalid capture group name")
        return match[1]

    def group_name(self) -> None:
        name = self.name()
        if name in self.named:
            raise self.invalid("Duplicate capture group name")
        self.named.add(name)

    def close(self) -> str:
        return "|".join(self.close_alternatives())

    def close_alternatives(self) -> list[str]:
        alternatives = self.alternatives()
        if not self.accept(")"):
            raise self.invalid("Unterminated group")
        return alternatives

    def look_around(self, opener: str) -> str:
        before = self.opened
        behind = "<" in opener
        self.behind += behind
        alternatives = self.close_alternatives()
        self.behind -= behind
        groups = range(before + 1, self.opened + 1)
        self.looked.update(groups)
        negative = opener.endswith("!")
        if not behind:
            return f"(?:({opener}{'|'.join(alternatives)}))"
        # Python wants one width for all that it looks behind for, so each alternative looks for itself.
        return f"(?:{('' if negative else '|').join(f'({opener}{each})' for each in alternatives)})"

    def reference(self, number: int) -> str:
        if self.behind:
            raise self.unsupported("it refers to a group from inside a look-behind")
        if number > self.opened or number in self.open_groups:
            return "(?:)"  # not matched yet: empty
        self.referred.add(number)
        return f"(?:(?({number})\\{number}|))"

    # Escapes

    def escape(self) -> str:
        if self.position == len(self.text):
            raise self.invalid("\\ at end of pattern")
        if self.names and self.accept("k"):
            if not self.accept("<"):
                raise self.invalid("Invalid named reference")
            name = self.name()
            if name not in self.names:
                self.unknown = True  # refused at the end: JavaScript first wants the rest to be right
                return ""
            return self.reference(self.names[name])
        decimal = _DECIMAL.match(self.text, self.position)
        if decimal and len(decimal[0]) < 10 and int(decimal[0]) <= self.group_count:
            self.position = decimal.end()
            return self.reference(int(decimal[0]))
        found = self.character_escape(in_class=False)
        return self.literal(found) if isinstance(found, int) else self.written_class(found, negated=False)

    def character_escape(self, *, in_class: bool) -> int | Ranges:
        """Parse what follows a backslash, other than a reference: one unit, or the ranges of a class."""
        if hexadecimal := self.accept_match(_HEXADECIMAL):
            return int(hexadecimal[1] or hexadecimal[2], 16)
        if octal := self.accept_match(_OCTAL):
            return int(octal[0], 8)
        character = self.text[self.position]
        if character == "c":
            control = self.text[self.position + 1 : self.position + 2]
            if control.isascii() and (control.isalpha() or (in_class and (control.isdigit() or control == "_"))):
                self.position += 2
                return ord(control) % 32
            return ord("\\")  # the backslash stands for itself, and the c is still to come
        if character == "k" and self.names:
            raise self.invalid("Invalid escape")
        self.position += 1
        if character in _CLASSES:
            return _CLASSES[character]
        return _CONTROLS.get(character, ord(character))

    # Classes

    def character_class(self) -> str:
        negated = self.accept("^")
        ranges: Ranges = []
        while not self.accept("]"):
            first = self.class_atom()
            if self.text.startswith("-", self.position) and not self.text.startswith("-]", self.position):
                self.position += 1
                last = self.class_atom()
                if isinstance(first, int) and isinstance(last, int):
                    if first > last:
                        raise self.invalid("Range out of order in character class")
                    ranges.append((first, last))
                    continue
                ranges += [*_ranges(first), *_ranges(last), (0x2D, 0x2D)]
            else:
                ranges += _ranges(first)
        return self.written_class(ranges, negated=negated)

    def class_atom(self) -> int | Ranges:
        if self.position >= len(self.text):
            raise self.invalid("Unterminated character class")
        if not self.accept("\\"):
            self.position += 1
            return ord(self.text[self.position - 1])
        if self.position == len(self.text):
            raise self.invalid("\\ at end of pattern")
        if self.accept("b"):
            return 8
        return self.character_escape(in_class=True)

    def written_class(self, ranges: Ranges, *, negated: bool) -> str:
        if not ranges:
            return rf"[\x00-{_unit(_LAST_UNIT)}]" if negated else "(?!)"
        if self.ignore_case:
            # Subjects are folded, so what an unfolded member would match can no longer occur; its fold can.
            ranges = ranges + [
                (folded, folded)
                for code, folded in folding_units()
                if _within(code, ranges) and not _within(folded, ranges)
            ]
        written = "".join(_unit(low) if low == high else f"{_unit(low)}-{_unit(high)}" for low, high in ranges)
        return f"[{'^' if negated else ''}{written}]"


def _ranges(atom: int | Ranges) -> Ranges:
    return [(atom, atom)] if isinstance(atom, int) else atom


def _within(code: int, ranges: Ranges) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _count(digits: str) -> int:
    return min(int(digits), _UNLIMITED) if len(digits.lstrip("0")) <= 10 else _UNLIMITED


def _unit(code: int) -> str:
    character = chr(code)
    if character.isascii() and (character.isalnum() or character == "_"):
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
