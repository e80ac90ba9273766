"""Disk images to the server: from anything that gives bytes, with their length declared.

The pool cannot take an upload of unknown length, so it is always said, and the request is aborted when the source
gives less or more than it said, whereupon the server removes the half-made disk. What goes wrong inside the source is
what the caller gets to see, not the broken connection that the HTTP library makes of it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeAlias

from .errors import ConfigurationError, ConnectionLost, SourceMismatch, TransferError, XOError
from .images import sniff
from .progress import Meter
from .threads import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping

    from .progress import ProgressCallback
    from .rest import Answer, Rest

__all__ = ["OpenSource", "Source", "open_source", "upload"]

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | AsyncIterable[bytes]"

#: Bytes read from a file at once.
BATCH: Final = 2**20
#: Bytes looked at to tell a format.
_SNIFFED: Final = 512


class OpenSource:
    """A source whose size and format are known and that can be read once; close it when done.

    Attributes:
        size: bytes it will give.
        format: what its first bytes say, see `aioxo.images.sniff`.
    """

    def __init__(self, chunks: AsyncIterator[bytes], size: int, start: bytes, file: _FileReader | None = None) -> None:
        self.size = size
        self.format = sniff(start)
        self.chunks = chunks
        self._file = file

    async def aclose(self) -> None:
        """Close the file, if it is one."""
        if self._file is not None:
            await self._file.aclose()


class _Body:
    """What the HTTP library reads the request's body from: counts, and refuses a source that is not as it said.

    No generator: the answer can come while the library still asks for the next piece, and a generator that is running
    can be neither closed nor left alone.
    """

    def __init__(self, source: OpenSource, meter: Meter) -> None:
        self.error: BaseException | None = None
        self.whole = False
        self._source = source
        self._meter = meter
        self._reading: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.whole:
            raise StopAsyncIteration
        self._reading = asyncio.get_running_loop().create_future()
        try:
            return await self._next()
        except StopAsyncIteration:
            raise
        except Exception as error:
            # The HTTP library makes a lost connection of it: kept, so that the caller gets to know the reason.
            self.error = error
            raise
        finally:
            self._reading.set_result(None)

    async def _next(self) -> bytes:
        data = await anext(self._source.chunks, None)
        if data is None:
            self._expect(self._meter.bytes == self._source.size, 0, "and ended")
            self.whole = True
            raise StopAsyncIteration
        self._expect(self._meter.bytes + len(data) <= self._source.size, len(data), "or more")
        self._meter.advance(len(data))
        if self._meter.bytes == self._source.size:
            # The piece that completes the image makes the disk, so first see that nothing comes after it.
            while (more := await anext(self._source.chunks, None)) is not None:
                self._expect(not more, len(more), "or more")
            self.whole = True
        return data

    async def idle(self) -> None:
        """Wait until nobody asks the source for more: it is the caller's again after that."""
        if self._reading is not None:
            await settled(self._reading)

    def _expect(self, right: bool, more: int, how: str) -> None:
        if not right:
            declared, read = self._source.size, self._meter.bytes + more
            message = f"the source was to give {declared} bytes, but gave {read} {how}; the import was aborted"
            raise SourceMismatch(message, declared=declared, read=read)


async def open_source(source: Source, size: int | None) -> OpenSource:
    """Open a source and look at its first bytes; close it when done.

    Args:
        source: a path, the bytes themselves, or an async iterable of bytes.
        size: bytes it will give; needed for an iterable, for the server wants to know before the first one.

    Raises:
        ConfigurationError: the file cannot be read, or the size is missing or not the source's.
    """
    if isinstance(source, (str, os.PathLike)):
        if str(source).startswith(("http://", "https://")):
            message = "importing from a URL is not there yet; download it first and import the file"
            raise ConfigurationError(message)
        opening = asyncio.get_running_loop().run_in_executor(None, _open_file, Path(source), size)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await _abandoned(opening)
            raise
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        _agree(size, len(data))
        return OpenSource(_Pieces(_slices(data)), len(data), data[:_SNIFFED])
    if not hasattr(source, "__aiter__"):
        message = f"a source is a path, bytes or an async iterable of bytes, not a {type(source).__name__}"
        raise ConfigurationError(message)
    if size is None:
        message = "an iterator as a source needs size=: the server wants to know the length before the first byte"
        raise ConfigurationError(message)
    iterator = aiter(source)
    head: list[bytes] = []
    async for data in iterator:
        head.append(bytes(data))
        if sum(map(len, head)) >= _SNIFFED:
            break
    return OpenSource(_Pieces(head, iterator), size, b"".join(head)[:_SNIFFED])


async def _abandoned(opening: asyncio.Future[OpenSource]) -> None:
    """Close a file that nobody waits for any more, once it is open."""
    try:
        await settled(opening)
    finally:
        if opening.exception() is None:
            await opening.result().aclose()


def _agree(declared: int | None, actual: int) -> None:
    if declared is not None and declared != actual:
        message = f"size={declared} was given, but the source has {actual} bytes"
        raise ConfigurationError(message)


def _open_file(path: Path, size: int | None) -> OpenSource:
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        message = f"{path}: {error.strerror or error}; nothing was sent"
        raise ConfigurationError(message) from error
    try:
        actual = file.seek(0, os.SEEK_END)  # not stat(): a block device has its size here alone
        _agree(size, actual)
        file.seek(0)
        start = file.read(_SNIFFED)
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            message = f"{path}: {error.strerror or error}; a source must be a file that can be measured"
            raise ConfigurationError(message) from error
        raise
    reader = _FileReader(file)
    return OpenSource(reader, actual, start, reader)


class _FileReader:
    """Reads a file in a thread, a batch at a time; what is being read when it is closed is waited for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reading: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._reading = asyncio.get_running_loop().run_in_executor(None, self._file.read, BATCH)
        try:
            data = await asyncio.shield(self._reading)
        except OSError as error:
            message = f"{self._file.name}: {error.strerror or error}; the import was aborted"
            raise TransferError(message) from error
        if data:
            return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        try:
            if self._reading is not None:
                await settled(self._reading)
        finally:
            self._file.close()


class _Pieces:
    """Pieces that are here already, and then those of an iterator."""

    def __init__(self, head: Iterable[bytes], rest: AsyncIterator[bytes] | None = None) -> None:
        self._head = iter(head)
        self._rest = rest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for data in self._head:
            return data
        if self._rest is None:
            raise StopAsyncIteration
        return bytes(await anext(self._rest))


def _slices(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), BATCH):
        yield bytes(view[start : start + BATCH])


async def upload(
    rest: Rest,
    method: str,
    path: str,
    source: OpenSource,
    *,
    params: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Answer:
    """Send a source as the body of a request and return the answer; waits without limit for it, as the pool may.

    Cancelling aborts the request, and the server removes what it had made.

    Raises:
        SourceMismatch: the source gave fewer or more bytes than it said; the request was aborted.
        ConnectionLost: the connection ended; with `.sent` True the disk may be there all the same.
        ApiError: the server refused.
    """
    meter = Meter(source.size, progress)
    body = _Body(source, meter)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.size)}
    try:
        meter.report("waiting")
        async with rest.exchange(method, path, params=params, headers=headers, body=body) as response:
            meter.report("finishing")
            answer = await rest.answer(response, f"{method} {path}")
            if not body.whole:
                sent = f"{meter.bytes} of {source.size} bytes"
                message = f"{method} {path}: the server answered after {sent}, so what it made is not whole"
                raise ConnectionLost(message, sent=True)
    except XOError:
        if body.error is not None:
            raise body.error from None
        raise
    finally:
        try:
            await body.idle()
        finally:
            await source.aclose()
    meter.report("done")
    return answer
