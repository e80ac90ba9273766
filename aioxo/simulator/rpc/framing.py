"""Reads what a client sends, as loosely and as silently as a real server does.

What cannot be read gets no answer at all, so `parse` returns None for it; there is nobody to blame on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

Id = int | float | str


@dataclass(frozen=True)
class Request:
    """One call."""

    id: Id
    method: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """An array of messages: its calls are carried out, and their answers get lost on the way."""

    requests: tuple[Request, ...]


def parse(message: str | bytes) -> Request | Batch | None:
    """Return the call or the calls of one websocket message; None for a notification and for anything malformed."""
    try:
        data = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if isinstance(data, list):
        parsed = [_request(each) for each in data]
        return Batch(tuple(each for each in parsed if each is not None))
    return _request(data)


def _request(data: Any) -> Request | None:
    if not isinstance(data, dict):
        return None
    request_id, method, params = data.get("id"), data.get("method"), data.get("params", {})
    if isinstance(request_id, bool) or not isinstance(request_id, int | float | str) or not isinstance(method, str):
        return None
    if "jsonrpc" in data:
        if data["jsonrpc"] != "2.0":
            return None
    elif not isinstance(data.get("params"), list):
        # Without a version it is JSON-RPC 1.0, whose parameters are an array.
        return None
    if isinstance(params, list):
        # An array becomes an object with the indices as names, which no schema knows.
        params = {str(index): value for index, value in enumerate(params)}
    return Request(request_id, method, params) if isinstance(params, dict) else None


def result_message(request_id: Id, result: bytes) -> bytes:
    """Return the answer to a call; `result` is already encoded."""
    return b'{"id":%s,"jsonrpc":"2.0","result":%s}' % (orjson.dumps(request_id), result)


def error_message(request_id: Id, error: dict[str, Any]) -> bytes:
    """Return the refusal of a call."""
    return orjson.dumps({"error": error, "id": request_id, "jsonrpc": "2.0"})
