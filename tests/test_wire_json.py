"""JSON as JavaScript writes it: halves of surrogate pairs do not cost the document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.wire.json import JSONDecodeError, loads

ANY_TEXT = st.text(st.characters(), max_size=6)  # surrogates included
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


def mended(value: Any) -> Any:
    """Say the same by other means: pair what can be paired, replace the rest character by character."""
    if isinstance(value, str):
        paired = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in paired)
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return value


@given(DOCUMENTS, st.booleans())
def test_any_document_is_read(document: Any, as_bytes: bool) -> None:
    text = json.dumps(document)  # every surrogate as an escape, as JavaScript does
    assert loads(text.encode() if as_bytes else text) == mended(document)


@pytest.mark.parametrize("escape", [r"\ud83d", r"\uD83D", r"\udc00", r"\uDFFF"])
def test_one_lone_surrogate_costs_one_character(escape: str) -> None:
    assert loads(f'{{"name_label": "a{escape}b", "size": 1}}') == {"name_label": "a\ufffdb", "size": 1}


def test_pairs_beside_a_lone_one_are_kept() -> None:
    assert loads(rb'["\ud83d\ude00", "\ude00\ud83d"]') == ["\U0001f600", "\ufffd\ufffd"]


def test_an_escaped_backslash_is_no_surrogate() -> None:
    assert loads(r'["\\ud83d"]') == [r"\ud83d"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"nul",
        b'"\xff"',
        b"\x00\x00",
        b"[1,]",
        b"NaN",
        b'["\\ud800", NaN]',
        b'["\\ud800", -Infinity]',
        b'["\\ud800"',
        b'["\\ud800", "\xff"]',
        b"\xff\xfe\\ud",
        "[1]".encode("utf-16"),
        '["\\ud800"]'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_refused(document: bytes) -> None:
    with pytest.raises(JSONDecodeError):
        loads(document)


@pytest.mark.parametrize("depth", [400, 600, 900, 5_000, 200_000])
def test_deep_nesting_around_a_lone_surrogate_is_read_or_refused(depth: int) -> None:
    document = b"[" * depth + rb'"\ud800"' + b"]" * depth
    try:
        value = loads(document)
    except JSONDecodeError:
        assert depth > 400
    else:
        for _ in range(depth):
            (value,) = value
        assert value == "\ufffd"
