"""What a person types, as values; every refusal is a `ConfigurationError` whose text says what would do."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from aioxo.errors import ConfigurationError

from .text import quoted, safe

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_text", "closest", "parse_fields", "parse_parameters", "parse_size"]

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Read a number of bytes: "512", "64MiB", "64M" and "1.5 GiB" are binary, "64MB" is decimal.

    Raises:
        ConfigurationError: it is no size, or not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        message = f"{quoted(text)} is not a size; write bytes or a unit, like 512, 64MiB or 1.5GiB"
        raise ConfigurationError(message)
    number, prefix, binary = match.groups()
    # "64M" is what dd and qemu-img take for 64 MiB; "64MB" is what a shop means by it.
    base = 1000 if prefix and not binary and text.strip().lower().endswith("b") else 1024
    value = float(number) * base ** ("kmgtp".index(prefix.lower()) + 1 if prefix else 0)
    if not value.is_integer():
        message = f"{quoted(text)} is not a whole number of bytes"
        raise ConfigurationError(message)
    return int(value)


def parse_parameters(words: Iterable[str]) -> dict[str, Any]:
    """Read parameters of a call, ``name=value`` each, as xo-cli takes them.

    A value is a string, but for true and false, and for ``name=json:…``, which is any JSON.

    Raises:
        ConfigurationError: a word has no name or no "=", a name comes twice, or what follows ``json:`` is not JSON.
    """
    parameters: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            message = f"{quoted(word)} is not a parameter; write name=value, or name=json:… for what is not a string"
            raise ConfigurationError(message)
        if name in parameters:
            message = f"the parameter {quoted(name)} is given twice"
            raise ConfigurationError(message)
        if value.startswith("json:"):
            parameters[name] = _parse_json(name, value.removeprefix("json:"))
        else:
            parameters[name] = value == "true" if value in {"true", "false"} else value
    return parameters


def _parse_json(name: str, text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        message = f"the value of {safe(name)} is nested too deep to be sent"
        raise ConfigurationError(message) from None
    except ValueError as error:
        message = f"the value of {safe(name)} is not JSON: {safe(error)}; is it quoted for the shell?"
        raise ConfigurationError(message) from None
    try:
        # What sends it knows 64-bit numbers and 254 levels.
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        message = f"the value of {safe(name)} cannot be sent: {safe(error)}"
        raise ConfigurationError(message) from None
    return value


def _refuse_constant(word: str) -> None:
    message = f"{word} is no JSON"
    raise ValueError(message)


def check_text(values: Iterable[object]) -> None:
    """See that what was typed is text, which an argument that is not UTF-8 is not; a `Path` may be anything.

    Raises:
        ConfigurationError: one is not.
    """
    for value in values:
        if isinstance(value, (list, tuple)):
            check_text(value)
        elif isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            message = f"{quoted(value)} is not UTF-8"
            raise ConfigurationError(message)


def parse_fields(text: str | None) -> list[str] | None:
    """Read names of fields with commas between them; None for none given.

    Raises:
        ConfigurationError: there is no name.
    """
    if text is None:
        return None
    fields = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not fields:
        message = "--fields takes names with commas between them, like --fields name_label,power_state"
        raise ConfigurationError(message)
    return fields


def closest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" for the known words that look most like `word`, or nothing."""
    folded = {name.lower(): name for name in known}
    found = [folded[name] for name in difflib.get_close_matches(word.lower(), folded, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(map(safe, found))}?" if found else ""
