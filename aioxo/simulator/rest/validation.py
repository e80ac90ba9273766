"""Checks the shape of a query or a JSON body, with the rules and the words of the framework a real server uses.

A query specification maps a parameter to "string", "boolean", "number" or "strings" (repeatable); what is not in it is
ignored. A body specification maps a member (with `?` at the end of its name when it may be missing) to a type as
written below; what is not in it is refused. Types: "string", "number", "boolean", "object", "map" (of strings),
"strings", "numbers", "objects", "any", each with `|null` added where null is allowed, or a tuple of allowed values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import FieldsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

Type = str | tuple[Any, ...]
Problem = dict[str, Any]
UNION = "Value does not match any allowed schema"

_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS = {
    "string": "invalid string value",
    "number": "invalid float number",
    "boolean": "invalid boolean value",
    "object": "invalid object",
    "map": "invalid object",
    "strings": "invalid array",
    "numbers": "invalid array",
    "objects": "invalid array",
}
_ELEMENTS = {"strings": "string", "numbers": "number", "objects": "object"}


class _Mismatch(Exception):
    """A value is not of its type; `path` leads to it, with a leading dot, from the member that is checked."""

    def __init__(self, message: str, value: Any, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.value = value
        self.path = path


def check_query(
    given: Mapping[str, list[str]], specification: Mapping[str, str], *, flags_by_presence: bool
) -> dict[str, Any]:
    """Return the parameters of a query that `specification` knows, converted.

    With `flags_by_presence`, a boolean is true when the parameter is there, whatever its value. Raises `FieldsInvalid`.
    """
    checked: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for name, kind in specification.items():
        if name not in given:
            continue
        values = given[name]
        if kind == "boolean" and flags_by_presence:
            checked[name] = True
            continue
        value: Any = values if kind == "strings" or len(values) > 1 else values[0]
        try:
            checked[name] = _checked(value, kind)
        except _Mismatch as mismatch:
            problems[name] = {"message": mismatch.message, "value": mismatch.value}
    if problems:
        raise FieldsInvalid(problems)
    return checked


def check_body(given: Any, specification: Mapping[str, Type]) -> dict[str, Any]:
    """Return a JSON body that fits `specification`, converted; raises `FieldsInvalid`."""
    if not isinstance(given, dict):
        raise FieldsInvalid({"body": {"message": "invalid object", "value": given}})
    checked: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for key, kind in specification.items():
        name = key.removesuffix("?")
        if name not in given:
            if not key.endswith("?"):
                problems[f"body.{name}"] = {"message": f"'{name}' is required"}
            continue
        try:
            checked[name] = _checked(given[name], kind)
        except _Mismatch as mismatch:
            problems[f"body.{name}{mismatch.path}"] = {"message": mismatch.message, "value": mismatch.value}
    known = {key.removesuffix("?") for key in specification}
    for name in given:
        if name not in known:
            message = f'"{name}" is an excess property and therefore is not allowed'
            problems[f"body.{name}"] = {"message": message, "value": name}
    if problems:
        raise FieldsInvalid(problems)
    return checked


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `FieldsInvalid` unless `value` of the path or query parameter `name` is one of those allowed."""
    if value not in allowed:
        raise FieldsInvalid({name: {"message": UNION, "value": value}})


def _checked(value: Any, kind: Type) -> Any:
    if isinstance(kind, tuple):
        if value not in kind or isinstance(value, bool) != isinstance(kind[kind.index(value)], bool):
            raise _Mismatch(UNION, value)
        return value
    if kind.endswith("|null"):
        if value is None:
            return None
        try:
            return _checked(value, kind.removesuffix("|null"))
        except _Mismatch as mismatch:
            raise _Mismatch(UNION, mismatch.value, mismatch.path) from None
    if kind in _ELEMENTS:
        return _elements(value, kind)
    return _simple(value, kind)


def _elements(value: Any, kind: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Mismatch(_WORDS[kind], value)
    result = []
    for index, element in enumerate(value):
        try:
            result.append(_checked(element, _ELEMENTS[kind]))
        except _Mismatch as mismatch:
            raise _Mismatch(mismatch.message, mismatch.value, f".${index}{mismatch.path}") from None
    return result


def _simple(value: Any, kind: str) -> Any:
    match kind:
        case "any":
            return value
        case "string" if isinstance(value, str):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        case "number" if isinstance(value, str) and _FLOAT.fullmatch(value):
            number = float(value)
            return int(number) if number.is_integer() else number
        case "object" if isinstance(value, dict):
            return value
        case "map" if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
            return value
    raise _Mismatch(_WORDS[kind], value)
