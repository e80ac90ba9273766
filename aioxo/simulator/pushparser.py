"""A parser written as straight code that reads, fed with bytes as they come.

The parser is a generator: it yields how many bytes it wants next and is sent exactly those. `PushParser` holds what has
come and is not yet enough, which is less than the parser asks for plus what one `feed` brings; so memory is bounded by
the parser's largest wish, and how the input is cut into feeds makes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator

Parser: TypeAlias = "Generator[int, bytes, None]"

PIECE = 64 * 1024


class PushParser:
    """Runs `parser` on the bytes given to `feed`; what the parser raises comes out of `feed`."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._buffer = bytearray()
        self._wanted = next(parser)

    @property
    def leftover(self) -> int:
        """Number of bytes received that the parser has not been sent, because it wants more at once."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Hand on `data`. After the parser has raised, further calls raise `ValueError`."""
        if self._wanted < 0:
            raise ValueError("the parser has failed")
        self._buffer += data
        position = 0
        wanted, self._wanted = self._wanted, -1
        while wanted <= len(self._buffer) - position:
            piece = bytes(memoryview(self._buffer)[position : position + wanted])
            position += wanted
            wanted = self._parser.send(piece)
        self._wanted = wanted
        del self._buffer[:position]


def skip(length: int) -> Generator[int, bytes, None]:
    """Part of a parser: read `length` bytes and forget them."""
    while length > 0:
        piece = yield min(length, PIECE)
        length -= len(piece)


def gather(length: int) -> Generator[int, bytes, bytes]:
    """Part of a parser: read `length` bytes whole."""
    return (yield length) if length else b""
