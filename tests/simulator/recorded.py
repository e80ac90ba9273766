"""Facts recorded from a running server, and how an answer is held to them.

`rest.json` is a list of requests with the status, the headers and the body they got. What changes from run to run is
in angle brackets. `answer` is either the text of the body, compared as a whole, or the skeleton of a JSON value: the
members of each object in order and the kind of each value, of a list that of its first element.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data" / "recorded"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TASK = re.compile(r"0[0-9a-z]{8}-[0-9a-z]{8,12}")
_TIME = re.compile(r"\b17\d{11}\b")
_SECRET = re.compile(r'(?<=")[\w-]{43}(?=")')


def load(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((DATA / f"{name}.json").read_text())
    return entries


def anonymous(text: str) -> str:
    """Return `text` with what changes from run to run in angle brackets."""
    text = _TASK.sub("<task>", _UUID.sub("<uuid>", text))
    return _SECRET.sub("<TOKEN>", _TIME.sub("<ms>", text))


def skeleton(value: Any, depth: int = 0) -> Any:
    """Return the skeleton of a JSON value, three levels deep."""
    if isinstance(value, dict):
        return {name: skeleton(each, depth + 1) for name, each in value.items()} if depth < 3 else {}
    if isinstance(value, list):
        return [skeleton(value[0], depth + 1)] if value else []
    return {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}[type(value)]
