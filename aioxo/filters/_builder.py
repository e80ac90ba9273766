r"""`F`: filters written as Python expressions.

Each operator gives the tightest condition that the language can state. Where the language searches inside lists and
mappings, so does the condition: ``F.tags == "prod"`` holds for a record that has the tag ``prod``. In full:

================================  ===========================  ====================================================
Python                            query                        holds when
================================  ===========================  ====================================================
``F.a == "x"``                    ``a:/^x$/``                  `a` is this string, case included, or contains it as
                                                               an item or a value
``F.a == 5``                      ``a:(5 <=5 !length?)``       `a` is this number; not the string ``"5"``
``F.a == True``                   ``a?``                       `a` is truthy: not null, false, 0 or ``""``; an empty
                                                               list is truthy
``F.a == False``                  ``!a?``                      `a` is falsy or missing
``F.a == None``                   ``a:(>=0 !length:!>Infinity)``  `a` is null; not when it is missing
``F.a != v``                      ``!a:...``                   ``F.a == v`` does not hold, as when `a` is missing
``F.a > 5``                       ``a:>5``                     JavaScript's comparison: numeric strings count, null
                                                               is 0, a missing `a` never compares
``F.a.contains("x")``             ``a:/^x$/``                  `a` is a list with the item ``"x"``, exactly
``F.a.has("x")``                  ``a:x``                      the text ``x`` occurs in it, in any case
``F.a.matches(r"^x")``            ``a:/^x/``                   the expression is found in it
``F.a.glob("x*")``                ``a:/^x[^]*$/i``             the whole string fits the pattern, in any case
``F.a.exists``                    ``a:length:!>Infinity``      `a` is neither missing nor null
``F.a.truthy``                    ``a?``                       like ``F.a == True``
``F.any("x")``                    ``x``                        the text occurs anywhere in the record, in any case
================================  ===========================  ====================================================

Why a number takes three terms: a bare ``5`` is also found in the string ``"152"`` and inside lists; ``<=5`` leaves out
mappings, ``!length?`` strings and lists. ``>Infinity`` is never true, hence ``!>Infinity`` always is, and a property of
anything but null can be given to it.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, NoReturn

from aioxo.errors import FilterSyntaxError
from aioxo.filters._filter import Filter
from aioxo.filters._grammar import (
    Compare,
    Node,
    Not,
    NumberWord,
    Operator,
    Property,
    Regex,
    Truthy,
    Word,
    all_of,
)
from aioxo.filters._javascript import as_double, number_text
from aioxo.filters._regex import RegexError, compile_regex, escape

__all__ = ["F", "Field", "Fields"]

_ALWAYS: Final = Not(Compare(">", math.inf))

# Read by Python's `re` as something else than by JavaScript, without either complaining.
_PYTHON_ONLY: Final = re.compile(r"\\(?:[AZaNU])|\{,[0-9]+\}|\[\^?\]")


class Field:
    """A property of a record, or of a property of it: `F.power_state`, `F.memory.size`, ``F["other"]["xo:job"]``.

    Comparing it gives a `Filter`; so do the methods. An attribute that is not a method's name is a property of the
    property; brackets reach every name, such as ``F["matches"]``.
    """

    __slots__ = ("_path",)

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Field:
        return Field((*self._path, _attribute(self, name)))

    def __getitem__(self, name: str) -> Field:
        return Field((*self._path, _key(name)))

    def _filter(self, node: Node) -> Filter:
        for name in reversed(self._path):
            node = Property(name, node)
        return Filter(node)

    def _truthy(self) -> Filter:
        *parents, name = self._path
        node: Node = Truthy(name)
        for parent in reversed(parents):
            node = Property(parent, node)
        return Filter(node)

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]  # comparing builds a condition
        """Return the condition "is exactly `value`": a string, a number, a boolean (truthiness) or None (null)."""
        if value is None:
            return self._filter(all_of(Compare(">=", 0.0), Not(Property("length", _ALWAYS))))
        if isinstance(value, bool):
            return self._truthy() if value else ~self._truthy()
        if isinstance(value, str):
            return self._filter(Regex(f"^{escape(value)}$", ignore_case=False))
        number = _number(value)
        return self._filter(all_of(NumberWord(number_text(number)), Compare("<=", number), Not(Truthy("length"))))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]  # comparing builds a condition
        """Return the opposite of ``==``; it holds for records without this property, too."""
        return ~(self == value)

    __hash__ = None  # type: ignore[assignment]  # equality is no relation here

    def __gt__(self, value: float) -> Filter:
        return self._compare(">", value)

    def __ge__(self, value: float) -> Filter:
        return self._compare(">=", value)

    def __lt__(self, value: float) -> Filter:
        return self._compare("<", value)

    def __le__(self, value: float) -> Filter:
        return self._compare("<=", value)

    def _compare(self, operator: Operator, value: float) -> Filter:
        return self._filter(Compare(operator, _number(value)))

    def contains(self, item: str) -> Filter:
        """Return the condition "is a list with the item `item`", case included.

        For a part of a text there is `has`. A string that equals `item` satisfies it too, and so does a list or
        mapping further inside.
        """
        return self._filter(Regex(f"^{escape(_text(item))}$", ignore_case=False))

    def has(self, word: str | float) -> Filter:
        """Return the condition "the text `word` occurs in it, in any case", or in an item or a value of it.

        A number is also found as that number: ``F.x.has(5)`` holds for 5, ``"152"`` and ``[5, 6]``.
        """
        return self._filter(_word(word))

    def matches(self, pattern: str | re.Pattern[str]) -> Filter:
        r"""Return the condition "the regular expression `pattern` is found in it", or in an item or a value of it.

        Args:
            pattern: JavaScript's syntax, without slashes around it. Of a compiled pattern the text and the flag
                `re.IGNORECASE` are taken; ``\d``, ``\w`` and ``$`` then mean what they mean in JavaScript.

        Raises:
            FilterSyntaxError: not valid in JavaScript, or nothing that can be evaluated here.
            ValueError: a compiled pattern with other flags, or with syntax that JavaScript reads differently.
        """
        ignore_case = False
        if isinstance(pattern, re.Pattern):
            ignore_case = bool(pattern.flags & re.IGNORECASE)
            pattern = _javascript_source(pattern)
        return self._filter(_regex(_text(pattern), ignore_case=ignore_case))

    def glob(self, pattern: str) -> Filter:
        """Return the condition "the whole string, or an item or a value, fits `pattern`", in any case.

        ``*`` stands for any characters, or none; everything else for itself. Unlike an asterisk in a query string,
        which leaves both ends open: ``F.a.glob("*web*")`` says that.
        """
        source = "[^]*".join(map(escape, _text(pattern).split("*")))
        return self._filter(Regex(f"^{source}$", ignore_case=True))

    @property
    def exists(self) -> Filter:
        """The condition "is neither missing nor null"."""
        return self._filter(Property("length", _ALWAYS))

    @property
    def truthy(self) -> Filter:
        """The condition "is neither missing, null, false, 0 nor an empty string"; an empty list is truthy."""
        return self._truthy()

    def __repr__(self) -> str:
        return "F" + "".join(f".{name}" if name.isidentifier() else f"[{name!r}]" for name in self._path)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} is a field, neither true nor false; {self!r}.truthy is the condition")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} is a field and has no items here; use {self!r}.contains(...)")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(f"`in` cannot build a filter; use {self!r}.contains({item!r})")


class Fields:
    """The record itself: its attributes are `Field`s. There is one, `F`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Field:
        return Field((_attribute(self, name),))

    def __getitem__(self, name: str) -> Field:
        return Field((_key(name),))

    def any(self, word: str | float) -> Filter:
        """Return the condition "the text `word` occurs anywhere in the record's values, in any case"."""
        return Filter(_word(word))

    def __repr__(self) -> str:
        return "F"

    def __iter__(self) -> NoReturn:
        raise TypeError("F stands for any record and has no items")


#: Where filters start: ``F.power_state == "Running"``.
F: Final = Fields()


def _attribute(owner: object, name: str) -> str:
    # Python itself looks for such names (copy, pickle, inspect), and would take a field for the answer.
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"{type(owner).__name__} has no attribute {name}; for the property write [{name!r}]")
    return name


def _key(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a property's name is a string, not {type(name).__name__}")
    return str.__str__(name)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {type(value).__name__}; numbers can be searched with has()")
    return str.__str__(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"the query language cannot compare with {type(value).__name__}, only with numbers")
    number = as_double(value)
    if math.isnan(number):
        raise ValueError("NaN compares with nothing")
    if math.isinf(number) and not (isinstance(value, float) and math.isinf(value)):
        raise ValueError("the number is beyond the range of JSON's numbers")
    return number


def _word(word: str | float) -> Node:
    return Word(str.__str__(word)) if isinstance(word, str) else NumberWord(number_text(_number(word)))


def _regex(source: str, *, ignore_case: bool) -> Node:
    """Return the node for `source`, changed such that the literal between the slashes ends where it should."""
    try:
        compile_regex(source, ignore_case=ignore_case)
    except RegexError as error:
        raise FilterSyntaxError(str(error), text=source, position=0) from error
    source = re.sub(r"(?<!\\)/", r"\\/", source)
    if source.endswith("\\\\"):
        source = source[:-2] + r"\x5c"  # a backslash in front of the closing slash would take it in
    return Regex(source, ignore_case)


def _javascript_source(pattern: re.Pattern[str]) -> str:
    if not isinstance(pattern.pattern, str):
        raise TypeError("a filter's regular expression is text, not bytes")
    if pattern.flags & ~(re.IGNORECASE | re.UNICODE):
        raise ValueError("of a compiled pattern's flags, the query language has IGNORECASE alone")
    # Escaped backslashes would hide the others from the search.
    found = _PYTHON_ONLY.search(pattern.pattern.replace("\\\\", ".."))
    if found:
        raise ValueError(f"{found[0]} means something else in JavaScript; give the pattern as a string to say which")
    return pattern.pattern
