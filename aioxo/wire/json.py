r"""JSON as Xen Orchestra writes it, decoded by orjson.

One thing differs from the standard: JavaScript writes half of a surrogate pair, which the name of a disk or a VM can
hold, as a lone ``\udXXX`` escape. orjson refuses the whole document for it. Losing a 60 MB message over one broken name
would be worse than showing the name with a replacement character, so such a document is decoded again, slowly.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["JSONDecodeError", "dumps", "loads"]

JSONDecodeError = orjson.JSONDecodeError
dumps = orjson.dumps


def loads(data: bytes | str) -> Any:
    """Decode one JSON document; lone surrogates become U+FFFD.

    Raises:
        JSONDecodeError: it is not JSON; a `ValueError`.
    """
    try:
        return orjson.loads(data)
    except JSONDecodeError:
        # Every other fault fails here again, with orjson's message being the one that is raised.
        if not _may_hold_lone_surrogate(data):
            raise
        try:
            value = _without_surrogates(json.loads(data, parse_constant=_refuse_constant))
        except (ValueError, RecursionError):
            value = _INVALID
        if value is _INVALID:
            raise
        return value


_INVALID = object()


def _may_hold_lone_surrogate(data: bytes | str) -> bool:
    if isinstance(data, bytes):
        return b"\\ud" in data or b"\\uD" in data
    return "\\ud" in data or "\\uD" in data


def _refuse_constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
