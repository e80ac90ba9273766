r"""A stream of newline-delimited JSON: bytes in, records out.

`RecordParser.feed` takes the body in pieces of any size and returns the records that are complete. Only ``\n`` ends a
record: U+2028 and its like are data, so no text method that splits lines will do. What follows the last newline is kept
in pieces and joined once, so a record that comes in a thousand pieces costs what it would in one.

The first line that is not JSON ends the stream: the records before it are returned, `RecordParser.fault` is set, and
the caller raises it after having passed those records on.
"""

from __future__ import annotations

from typing import Any, Final

from aioxo.errors import InvalidRecord, ProtocolError

from .json import JSONDecodeError, loads

__all__ = ["LINE_LIMIT", "RecordParser"]

#: Longest line accepted, in bytes. The largest real object seen is a pool's record of 16 kB.
LINE_LIMIT: Final = 64 * 2**20


class RecordParser:
    """Splits a body into lines and decodes each.

    Attributes:
        fault: the error that ended the stream, or None; set by `feed` and `finish`, never raised by them.
    """

    def __init__(self, *, line_limit: int = LINE_LIMIT) -> None:
        self.fault: ProtocolError | None = None
        self._line_limit = line_limit
        self._lines_before = 0
        self._tail: list[bytes] = []
        self._tail_size = 0

    def feed(self, data: bytes) -> list[Any]:
        """Return the records that `data` completes; blank lines are skipped, as xo.getAllObjects sends some."""
        if self.fault is not None:
            return []
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            if self._tail:
                self._tail.append(head)
                head = b"".join(self._tail)
                self._tail.clear()
                self._tail_size = 0
            records = self._decode(head.split(b"\n"))
        else:
            records = []
        if tail:
            self._tail.append(tail)
            self._tail_size += len(tail)
            if self._tail_size > self._line_limit and self.fault is None:
                self.fault = ProtocolError(
                    f"line {self._lines_before + 1} of the stream is longer than {self._line_limit} bytes"
                )
        return records

    def finish(self) -> list[Any]:
        """Take the end of the body: return the last record when it had no newline; half a record sets `fault`."""
        if self.fault is not None or not self._tail:
            return []
        line = b"".join(self._tail)
        self._tail.clear()
        return self._decode([line])

    def _decode(self, lines: list[bytes]) -> list[Any]:
        try:
            records = list(map(loads, filter(None, lines)))
        except JSONDecodeError:
            return self._decode_up_to_fault(lines)
        self._lines_before += len(lines)
        return records

    def _decode_up_to_fault(self, lines: list[bytes]) -> list[Any]:
        records = []
        for line in lines:
            self._lines_before += 1
            if not line.strip():
                continue
            try:
                records.append(loads(line))
            except JSONDecodeError as error:
                self.fault = InvalidRecord(error.msg, line_number=self._lines_before, line=line)
                break
        return records
