r"""A stream of newline-delimited JSON: bytes in, records out.

`RecordParser.feed` takes the body in pieces of any size and returns the records that are complete. Only ``\n`` ends a
record: U+2028 and its like are data, so no text method that splits lines will do. What follows the last newline is kept
in pieces and joined once, so a record that comes in a thousand pieces costs what it would in one.

The first line that is not JSON ends the stream: the records before it are returned, `RecordParser.fault` is set, and
the caller raises it after having passed those records on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aioxo.errors import InvalidRecord, ProtocolError

from .json import JSONDecodeError, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def feed(self, data: bytes) -> Iterator[Any]:
        """Return the records that `data` completes, to be taken before the next piece; blank lines are skipped."""
        if self.fault is not None:
            return iter(())
        head, newline, tail = data.rpartition(b"\n")
        lines: list[bytes] = []
        if newline:
            if self._tail:
                self._tail.append(head)
                head = b"".join(self._tail)
                self._tail.clear()
                self._tail_size = 0
            lines = head.split(b"\n")
        first, self._lines_before = self._lines_before + 1, self._lines_before + len(lines)
        if tail:
            self._tail.append(tail)
            self._tail_size += len(tail)
            if self._tail_size > self._line_limit:
                self.fault = ProtocolError(
                    f"line {self._lines_before + 1} of the stream is longer than {self._line_limit} bytes"
                )
        return self._decode(lines, first)

    def finish(self) -> Iterator[Any]:
        """Take the end of the body: return the last record when it had no newline; half a record sets `fault`."""
        if self.fault is not None or not self._tail:
            return iter(())
        line = b"".join(self._tail)
        self._tail.clear()
        return self._decode([line], self._lines_before + 1)

    def _decode(self, lines: list[bytes], first: int) -> Iterator[Any]:
        for number, line in enumerate(lines, first):
            if not line:
                continue
            try:
                record = loads(line)
            except JSONDecodeError as error:
                if not line.strip():
                    continue
                self.fault = InvalidRecord(error.msg, line_number=number, line=line)
                return
            yield record
