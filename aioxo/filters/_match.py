"""From a syntax tree to a predicate: nested closures that evaluate one record as the server's JavaScript would.

A record is decoded JSON: `dict`, `list`, `str`, `int`, `float`, `bool` and None, and trees of those, however deep.
What only looks like one of them (a `tuple`, another mapping, an enumeration over `str`) is taken for it; anything
else is a `TypeError`, for JSON has no such value. Each closure first asks for the exact types that a record really
has and leaves the rest to `_plain`, which keeps the common case to a few dozen nanoseconds a node.

A missing property is `UNDEFINED`, which is not None: ``name:!a`` holds for an object without a name, and a missing
number compares false with everything while None compares as 0. Only an object's own keys are properties, and of
lists and strings `length` and the indexes; what objects inherit in JavaScript (``toString?``) does not exist here.
"""

from __future__ import annotations

import enum
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from aioxo.filters._grammar import (
    AllOf,
    AnyOf,
    Compare,
    Everything,
    Glob,
    Node,
    Not,
    NumberWord,
    Property,
    Regex,
    Truthy,
    Word,
)
from aioxo.filters._javascript import MAX_SAFE_INTEGER, as_double, fold, parse_number, unit_length, units
from aioxo.filters._regex import compile_regex

__all__ = ["compile_node"]

Test: TypeAlias = Callable[[Any], bool]


class _Undefined(enum.Enum):
    UNDEFINED = "undefined"


UNDEFINED: Final = _Undefined.UNDEFINED

_STRING: Final[frozenset[type]] = frozenset({str})
_STRING_OR_NUMBER: Final[frozenset[type]] = frozenset({str, int, float})
_SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None), _Undefined})

_LINE_BREAK: Final = re.compile("[\n\r\u2028\u2029]")
_INDEX: Final = re.compile("0|[1-9][0-9]{0,9}")

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def compile_node(node: Node) -> Test:
    """Return the predicate for `node`."""
    match node:
        case Everything():
            return lambda _value: True
        case Word(text):
            return _contains(text.lower())
        case NumberWord(text):
            return _equals_or_contains(parse_number(text), text.lower())
        case Glob(text):
            return _glob(text)
        case Regex(source, ignore_case):
            return _anywhere(compile_regex(source, ignore_case=ignore_case), _STRING)
        case Compare(sign, limit):
            return _compare(_OPERATORS[sign], limit)
        case Truthy(name):
            return _property(name, _is_truthy)
        case Property(name, child):
            return _property(name, compile_node(child))
        case Not(child):
            test = compile_node(child)
            return lambda value: not test(value)
        case AllOf(children):
            return _all(tuple(map(compile_node, children)))
        case AnyOf(children):
            return _any(tuple(map(compile_node, children)))


def _all(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:  # by far the most frequent; without the loop it takes half the time
        first, second = tests
        return lambda value: first(value) and second(value)

    def test(value: Any) -> bool:
        for each in tests:  # noqa: SIM110 - a generator expression costs more than the tests it runs
            if not each(value):
                return False
        return True

    return test


def _any(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) or second(value)

    def test(value: Any) -> bool:
        for each in tests:  # noqa: SIM110 - a generator expression costs more than the tests it runs
            if each(value):
                return True
        return False

    return test


def _plain(value: Any) -> Any:
    """Return `value` as the exact type that JSON would have given."""
    if type(value) in _SCALARS or type(value) is dict or type(value) is list:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError(f"a filter is matched against decoded JSON, in which there is no {type(value).__name__}")


def _anywhere(leaf: Test, kinds: frozenset[type]) -> Test:
    """Return a test that applies `leaf` to a value of one of `kinds`, or to any such value inside it."""

    def test(value: Any) -> bool:
        kind = type(value)
        if kind in kinds:
            return leaf(value)
        return kind not in _SCALARS and _walk([_plain(value)], leaf, kinds)

    return test


def _walk(stack: list[Any], leaf: Test, kinds: frozenset[type]) -> bool:
    # With a stack of its own, for a record may be nested deeper than Python's.
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind in kinds:
            if leaf(value):
                return True
        elif kind is dict:
            stack.extend(value.values())
        elif kind is list:
            stack.extend(value)
        elif kind not in _SCALARS:
            stack.append(_plain(value))
    return False


def _contains(needle: str) -> Test:
    return _anywhere(lambda value: needle in value.lower(), _STRING)


def _equals_or_contains(number: float, needle: str) -> Test:
    def leaf(value: Any) -> bool:
        if type(value) is str:
            return needle in value.lower()
        return bool(value == number) if type(value) is float else as_double(value) == number

    return _anywhere(leaf, _STRING_OR_NUMBER)


def _glob(text: str) -> Test:
    # Nothing anchors a glob, so asterisks at its ends say nothing; the others find the pieces in order in one line.
    pieces = [fold(units(piece)) for piece in text.split("*") if piece]

    def in_line(line: str) -> bool:
        position = 0
        for piece in pieces:
            position = line.find(piece, position)
            if position < 0:
                return False
            position += len(piece)
        return True

    return _anywhere(lambda value: any(map(in_line, _LINE_BREAK.split(fold(units(value))))), _STRING)


def _property(name: str, child: Test) -> Test:
    index = int(name) if _INDEX.fullmatch(name) else None

    def test(value: Any) -> bool:
        if type(value) is dict:
            return child(value.get(name, UNDEFINED))
        if value is None or value is UNDEFINED:
            return False
        value = _plain(value)
        if type(value) is dict:
            return child(value.get(name, UNDEFINED))
        if type(value) is not str and type(value) is not list:
            return child(UNDEFINED)
        if name == "length":
            return child(unit_length(value) if type(value) is str else len(value))
        if index is None:
            return child(UNDEFINED)
        items = units(value) if type(value) is str else value
        return child(items[index] if index < len(items) else UNDEFINED)

    return test


def _is_truthy(value: Any) -> bool:
    value = _plain(value)
    if type(value) is dict or type(value) is list:
        return True
    if type(value) is float:
        return not (value == 0 or math.isnan(value))
    return bool(value) and value is not UNDEFINED


def _compare(holds: Callable[[Any, Any], bool], limit: float) -> Test:
    def test(value: Any) -> bool:
        kind = type(value)
        if kind is float or (kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER):
            return holds(value, limit)
        return holds(_as_number(value), limit)

    return test


def _as_number(value: Any) -> float:
    """Return what JavaScript's relational operators make of `value`."""
    value = _plain(value)
    if type(value) is list:
        # A list is compared as its items joined by commas: no item is "", one stands for itself, more are no number.
        while type(value) is list and len(value) == 1:
            value = _plain(value[0])
        if type(value) is bool:
            return float("nan")  # "true"
        if type(value) is list:
            return float("nan") if value else 0.0
    if value is None:
        return 0.0
    if type(value) is str:
        return parse_number(value)
    if type(value) is dict or value is UNDEFINED:
        return float("nan")
    return as_double(value)
