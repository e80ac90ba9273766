"""The parser of record streams: however the bytes are cut, the records are the same."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.errors import EXCERPT_LIMIT, InvalidRecord, ProtocolError
from aioxo.wire.ndjson import RecordParser

# Everything JSON can say and orjson can decode, names with line separators of Unicode included.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["\u2028", "a\u2029b", "\x85", "\r\n", "\v", "\x1c", "\u200b", "\ufeff"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n", b"\n\t\r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[Any]]:
    """A body and the records in it; the last newline may be missing."""
    records = draw(st.lists(VALUES, max_size=6))
    pieces: list[bytes] = []
    for record in records:
        ascii_only: bool = draw(st.booleans())
        pieces.append(json.dumps(record, ensure_ascii=ascii_only).encode())
        pieces.append(draw(LINE_ENDS))
    if draw(st.booleans()) and pieces:
        pieces[-1] = b""
    return b"".join(pieces), records


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def parse(pieces: list[bytes], **options: Any) -> tuple[list[Any], ProtocolError | None]:
    parser = RecordParser(**options)
    records = [record for piece in pieces for record in parser.feed(piece)]
    return [*records, *parser.finish()], parser.fault


@given(bodies(), st.lists(st.integers(0, 2**16), max_size=12))
def test_any_cut_gives_the_records(body: tuple[bytes, list[Any]], places: list[int]) -> None:
    data, records = body
    assert parse(cut(data, places)) == (records, None)


@given(bodies())
def test_single_bytes_give_the_records(body: tuple[bytes, list[Any]]) -> None:
    data, records = body
    assert parse([data[index : index + 1] for index in range(len(data))]) == (records, None)


def oracle(data: bytes) -> tuple[list[Any], int | None]:
    """Say the same by the simplest means: the records up to the first line that is not JSON, and its number."""
    records = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line.decode("utf-8"), parse_constant=lambda name: float(name + "!")))
        except ValueError:
            return records, number
    return records, None


JUNK = st.sampled_from(
    [b"{", b"}", b"\n", b"\n\n", b"\r", b" ", b"{}", b"[1]", b'"a"', b"nul", b"null", b"\xff", b"NaN", b"\x00", b"1 2"]
)


@given(st.lists(JUNK, max_size=20), st.lists(st.integers(0, 200), max_size=6))
def test_matches_the_oracle_on_junk(junk: list[bytes], places: list[int]) -> None:
    data = b"".join(junk)
    records, fault = parse(cut(data, places))
    assert (records, None if fault is None else fault.line_number) == oracle(data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_line_separators_of_unicode_are_data(separator: str) -> None:
    record = {"name_label": f"a{separator}b"}
    body = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    assert parse([body]) == ([record], None)


def test_fault_names_line_and_shows_a_bounded_excerpt() -> None:
    bad = b'{"id": ' + b"\x1b[31mx" * 10_000
    records, fault = parse([b'{"id": 1}\n\n{"id": 2}\n' + bad + b"\n{}\n"])
    assert records == [{"id": 1}, {"id": 2}]
    assert isinstance(fault, InvalidRecord)
    assert fault.line_number == 4
    assert len(fault.excerpt) == EXCERPT_LIMIT
    assert fault.excerpt.isascii()
    assert fault.excerpt.isprintable()
    assert "line 4" in str(fault)
    assert fault.excerpt in str(fault)
    assert len(str(fault)) < 2 * EXCERPT_LIMIT


def test_line_numbers_count_over_pieces_and_blank_lines() -> None:
    parser = RecordParser()
    assert list(parser.feed(b"1\n\n2\n")) == [1, 2]
    assert list(parser.feed(b"3\n!\n4\n")) == [3]
    assert isinstance(parser.fault, InvalidRecord)
    assert parser.fault.line_number == 5


def test_nothing_more_after_a_fault() -> None:
    parser = RecordParser()
    assert list(parser.feed(b"1\n!\n2\n")) == [1]
    fault = parser.fault
    assert list(parser.feed(b"3\n")) == []
    assert list(parser.finish()) == []
    assert parser.fault is fault


def test_half_a_record_at_the_end_is_a_fault() -> None:
    records, fault = parse([b'{"id": 1}\n{"id"'])
    assert records == [{"id": 1}]
    assert isinstance(fault, InvalidRecord)
    assert fault.line_number == 2
    assert fault.excerpt == '{"id"'


def test_whitespace_after_the_last_newline_is_no_record() -> None:
    assert parse([b"1\n", b" \r"]) == ([1], None)


def test_a_line_without_end_is_refused_in_bounded_memory() -> None:
    parser = RecordParser(line_limit=1000)
    faults: list[ProtocolError | None] = []
    for piece, records in [(b"1\n" + b"x" * 500, [1]), (b"x" * 500, []), (b"x", [])]:
        assert list(parser.feed(piece)) == records
        faults.append(parser.fault)
    assert faults[:2] == [None, None]
    assert isinstance(faults[2], ProtocolError)
    assert "1000 bytes" in str(faults[2])
    assert list(parser.feed(b"x" * 10_000_000)) == []
    assert sum(map(len, parser._tail)) < 2000


def test_a_long_line_in_many_pieces_is_joined_once() -> None:
    value = "x" * 200_000
    data = json.dumps(value).encode() + b"\n"
    assert parse([data[index : index + 7] for index in range(0, len(data), 7)]) == ([value], None)
