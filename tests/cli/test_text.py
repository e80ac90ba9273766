"""Text made harmless, numbers made readable, what people type made values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.cli import parse, text
from aioxo.cli.columns import COLLECTIONS, Column, columns_for, value_at
from aioxo.cli.watching import describe, differences
from aioxo.errors import ConfigurationError
from aioxo.resources import COLLECTIONS as SERVED


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("web-01", "web-01"),
        ("Grüße 东京 🙂", "Grüße 东京 🙂"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_safe(raw: str, shown: str) -> None:
    assert text.safe(raw) == shown


@given(st.text())
def test_safe_text_is_always_drawable_and_on_one_line(raw: str) -> None:
    shown = text.safe(raw)
    assert len(shown.splitlines()) <= 1
    assert all(character.isprintable() or character.isspace() for character in shown) or any(
        ord(character) > 0xA0 for character in shown
    )
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in shown)
    assert text.safe(shown) == shown


@given(st.text(st.characters(codec="utf-8")))
def test_safe_json_means_the_same(raw: str) -> None:
    encoded = json.dumps(raw, ensure_ascii=False)
    shown = text.safe_json(encoded)
    assert json.loads(shown) == raw
    assert "\u202e" not in shown
    assert "\x9b" not in shown


@pytest.mark.parametrize(
    ("query", "position", "shown"),
    [
        ("abc def", 4, "  abc def\n      ^"),
        ("a\x1bb", 2, "  a\\x1bb\n       ^"),
        ("东京 x", 3, "  东京 x\n       ^"),
        ("", 0, "  \n  ^"),
    ],
)
def test_a_caret_stands_under_its_character(query: str, position: int, shown: str) -> None:
    assert text.caret(query, position) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (64 * 2**20, "64.0 MiB"),
        (2**40 - 1, "1.0 TiB"),
        ("x\n", "x\\n"),
    ],
)
def test_size(number: object, shown: str) -> None:
    assert text.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.008, "8 ms"), (0.42, "0.42 s"), (12.34, "12.3 s"), (245, "4:05"), (7445, "2:04:05")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("512", 512),
        ("64MiB", 64 * 2**20),
        ("64M", 64 * 2**20),
        ("64mb", 64 * 10**6),
        ("1.5 GiB", 3 * 2**29),
        ("2k", 2048),
        ("10B", 10),
    ],
)
def test_parse_size(typed: str, number: int) -> None:
    assert parse.parse_size(typed) == number


@pytest.mark.parametrize("typed", ["", "MiB", "-1", "1e3", "64 XB", "0.3", "1.5\x1b"])
def test_what_is_no_size(typed: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse.parse_size(typed)
    assert "\x1b" not in str(caught.value)


def test_parse_parameters() -> None:
    words = ["id=a=b", "on=true", "off=false", 'tags=json:["x"]', "size=json:5", "text=5", "empty="]
    assert parse.parse_parameters(words) == {
        "id": "a=b",
        "on": True,
        "off": False,
        "tags": ["x"],
        "size": 5,
        "text": "5",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [(["id"], "name=value"), (["=x"], "name=value"), (["a=1", "a=2"], "twice"), (["a=json:{"], "not JSON")],
)
def test_what_are_no_parameters(words: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse.parse_parameters(words)


def test_every_collection_has_columns_that_end_with_the_id() -> None:
    assert set(COLLECTIONS) == set(SERVED)
    for name in COLLECTIONS:
        columns = columns_for(name)
        assert len(columns) > 1
        assert columns[-1].path == "id"
        for column in columns:
            assert column.cell({}) == ""
            # What an older or a stranger server sends must not break a table.
            for odd in (None, "\x1b", 1e400, True, {"a": "\x1b"}, ["\x1b"], -1, 10**30):
                top, _, deep = column.path.partition(".")
                assert "\x1b" not in column.cell({top: {deep: odd} if deep else odd})


def test_value_at_takes_flat_and_deep_names() -> None:
    assert value_at({"a.b": 1}, "a.b") == 1
    assert value_at({"a": {"b": 2}}, "a.b") == 2
    assert value_at({"a": 3}, "a.b") is None


def test_a_column_shows_sizes_and_flags() -> None:
    assert Column("size", "SIZE", "size").cell({"size": 1024}) == "1.0 KiB"
    assert Column("on", "ON", "flag").cell({"on": False}) == "no"
    assert Column("users", "USERS", "length").cell({"users": [1, 2]}) == "2"


def test_differences_are_told_most_important_first_and_harmlessly() -> None:
    uuid = "0c7fd0df-7982-43e9-88d1-62ce6f966fe8"
    before = {"href": "/x", "memory": {"usage": 2**30}, "tags": ["a"], "power_state": "Halted", "ops": {}}
    after = {
        "memory": {"usage": 2**30 + 2**20},
        "tags": ["a", "\x1b"],
        "power_state": "Running",
        "ops": {uuid: "start"},
    }
    changed = differences(before, after)
    assert set(changed) == {"memory.usage", "tags", "power_state", f"ops.{uuid}"}
    assert describe(changed) == "tags +\\x1b, power_state Halted → Running, memory.usage 1.0 GiB (+1.0 MiB), and 1 more"
    assert describe({f"ops.{uuid}": (None, "start")}) == "ops.0c7fd0df… start"
    assert differences(after, after) == {}
