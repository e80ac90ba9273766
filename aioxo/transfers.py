"""Disk images over HTTP: downloads that are whole or absent, uploads that say their length.

A download flows through three hands, each a step behind the other: the event loop receives until it has `BATCH` bytes,
a worker thread hashes, checks and writes them while the loop receives the next batch. At most two batches exist, so a
slow disk slows the socket and memory stays where it is. The thread is where the time goes (hashing and writing release
the interpreter), and one hand-over per batch is what makes it pay.

A file is written as ``NAME.<random>.partial`` beside its place, checked, flushed to the disk and then renamed. Whatever
goes wrong before that, cancelling included, removes the partial file: under the final name there is a whole, checked
image, or what was there before.

An upload always says its length, for the pool cannot take a chunked one, and aborts the request when the source gives
less or more than it said, whereupon the server removes the half-made disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias

from .errors import (
    ConfigurationError,
    ConnectionLost,
    DestinationError,
    SourceMismatch,
    Truncated,
    XOError,
)
from .images import sniff
from .models import Progress, Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from .images import Check
    from .rest import Answer, Rest
    from .session import Response

__all__ = ["ByteSink", "Destination", "ExportStream", "ProgressCallback", "Source", "download", "open_source", "upload"]

#: Bytes handed to the worker thread at once.
BATCH: Final = 2**20
#: Most bytes written at once. Larger writes took ext4 up to twice the system time: it takes larger pages for them.
WRITE: Final = 256 * 2**10
#: Bytes compared at once when looking for zeroes to leave out; a multiple of every file system's block in use.
HOLE: Final = 64 * 2**10
#: Least seconds between two calls of a progress callback.
PROGRESS_INTERVAL: Final = 0.1
_ZEROES: Final = bytes(HOLE)


class ByteSink(Protocol):
    """What a stream as a destination has to offer; anyio's ByteSendStream does."""

    async def send(self, item: bytes, /) -> None:
        """Take the next piece; waiting here slows the server down."""


Destination: TypeAlias = "str | os.PathLike[str] | ByteSink"
Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | AsyncIterable[bytes]"
ProgressCallback: TypeAlias = "Callable[[Progress], object]"


class ExportStream:
    """The bytes of an export as they come; iterate over it inside its ``async with``.

    Pieces have any size. A body that is cut raises `Truncated`, silence raises `Timeout`; that the image is whole is
    for the reader to see, for nothing of it is kept here. Not reading slows the server down.

    Attributes:
        received: bytes given so far.
    """

    def __init__(self, response: Response) -> None:
        self._response = response

    def __repr__(self) -> str:
        return f"<ExportStream received={self.received}>"

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return self._response.received

    @property
    def total(self) -> int | None:
        """Bytes in all, when the server says so, which today's never does."""
        length = self._response.headers.get("Content-Length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    async def read(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises:
            Truncated: the body was cut.
            Timeout: nothing came for the read limit.
        """
        try:
            return await self._response.read_piece()
        except ConnectionLost as error:
            message = f"the export was cut after {self.received} bytes; start it again, the server cannot resume one"
            raise Truncated(message, received=self.received) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data


@contextlib.asynccontextmanager
async def open_export(
    rest: Rest, path: str, *, params: Mapping[str, Any] | None, read_timeout: float | None
) -> AsyncIterator[ExportStream]:
    """Ask for an export and give its stream; the wait for the first byte has no limit, for it may be a snapshot."""
    async with rest.exchange("GET", path, params=params, read_timeout=read_timeout) as response:
        yield ExportStream(response)


async def download(
    stream: AbstractAsyncContextManager[ExportStream],
    destination: Destination,
    check: Check,
    *,
    total: int | None = None,
    sparse: bool = False,
    progress: ProgressCallback | None = None,
) -> Transfer:
    """Bring an export to its destination, checked.

    Args:
        stream: the export, not entered yet.
        destination: a path, or a stream to send to.
        check: what shows that the image is whole.
        total: bytes in all if known, for `progress`.
        sparse: leave holes in the file where the image is zero.
        progress: called with a `Progress` at most ten times a second, and once at the end.

    Raises:
        DestinationError: the file cannot be written.
        Truncated, CorruptImage: the image is not whole.
        XOError: whatever the request raises.
    """
    meter = _Meter(total, progress)
    sink = _FileSink(destination, sparse=sparse) if isinstance(destination, (str, os.PathLike)) else None
    receiver = None if sink is not None else destination
    work = _Work(check, sink)
    try:
        # Before the request: a destination that cannot be written to should not cost the server an export.
        if sink is not None:
            await _in_thread(sink.open)
        meter.report("waiting")
        async with stream as export:
            if meter.total is None:
                meter.total = export.total
            await _pump(export, work, receiver, meter)
        meter.report("finishing")
        await _in_thread(work.finish)
    except BaseException:
        if sink is not None:
            await _in_thread(sink.discard)
        raise
    meter.report("done")
    return Transfer(
        path=None if sink is None else sink.path,
        bytes=meter.bytes,
        seconds=meter.seconds,
        sha256=work.sha256.hexdigest(),
        checks=(check.name,) if check.name else (),
        unchecked=(check.unchecked,) if check.unchecked else (),
    )


async def _pump(export: ExportStream, work: _Work, receiver: Any, meter: _Meter) -> None:
    """Receive batches, each worked on by threads while the next one is received."""
    loop = asyncio.get_running_loop()
    busy: list[asyncio.Future[None]] = []
    try:
        while True:
            batch: list[bytes] = []
            size = 0
            while size < BATCH and (data := await export.read()):
                batch.append(data)
                size += len(data)
                meter.advance(len(data))
            while busy:
                await busy[-1]
                busy.pop()
            if not batch:
                return
            # Two threads, for hashing takes as long as writing does, and neither needs the interpreter.
            busy += [loop.run_in_executor(None, job, batch) for job in work.jobs]
            if receiver is not None:
                for data in batch:
                    await receiver.send(data)
    finally:
        # A thread cannot be cancelled: the batch it has must be done before the file may go.
        for future in busy:
            await _settled(future)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait for `future` however often the task is cancelled meanwhile; its own error gives way to the one under way."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()
    if cancelled is not None:
        raise cancelled


async def _in_thread(function: Callable[[], None]) -> None:
    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await _settled(future)
        raise


class _Work:
    """What is done with each batch, in threads: `jobs`, which know nothing of each other."""

    def __init__(self, check: Check, sink: _FileSink | None) -> None:
        self.sha256 = hashlib.sha256()
        self.jobs: list[Callable[[list[bytes]], None]] = [self._examine]
        self._check = check
        self._sink = sink
        if sink is not None:
            self.jobs.append(sink.write)

    def _examine(self, batch: list[bytes]) -> None:
        for data in batch:
            self.sha256.update(data)
            self._check.feed(data)

    def finish(self) -> None:
        self._check.finish()
        if self._sink is not None:
            self._sink.commit()


class _FileSink:
    """A file that appears under its name only when it is whole. Every method blocks and belongs in a thread."""

    def __init__(self, destination: str | os.PathLike[str], *, sparse: bool) -> None:
        self.path = Path(destination)
        self._partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.partial")
        self._sparse = sparse
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        with self._errors():
            if self.path.is_dir():
                message = f"{self.path}: is a directory; name a file in it"
                raise DestinationError(message, path=str(self.path))
            self._file = self._partial.open("xb", buffering=0)

    def write(self, batch: list[bytes]) -> None:
        assert self._file is not None
        write = self._write_sparse if self._sparse else self._write_all
        with self._errors():
            for data in batch:
                write(data)

    def _write_all(self, data: bytes | memoryview) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view[:WRITE]) :]

    def _write_sparse(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        position = self._file.tell()
        while view:
            # Cut where the file's own blocks are: a hole that covers half of a block is none.
            piece = view[: HOLE - position % HOLE]
            if piece == _ZEROES[: len(piece)]:
                self._file.seek(len(piece), os.SEEK_CUR)
            else:
                self._write_all(piece)
            position += len(piece)
            view = view[len(piece) :]

    def commit(self) -> None:
        assert self._file is not None
        with self._errors():
            if self._sparse:
                self._file.truncate()  # to where the position is: holes at the end are made by it alone
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
            _sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove what there is; what was never made is no error."""
        if self._file is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except OSError as error:
            message = f"{self.path}: {error.strerror or error}; nothing was left there"
            raise DestinationError(message, path=str(self.path)) from error


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut, where the system lets a directory be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return  # Windows, and file systems that do not offer it; the file itself is safe
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Meter:
    """Counts, and tells the callback at a bounded rate."""

    def __init__(self, total: int | None, callback: ProgressCallback | None) -> None:
        self.total = total
        self.bytes = 0
        self._callback = callback
        self._started = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self, count: int) -> None:
        self.bytes += count
        if self._callback is not None and (now := time.monotonic()) - self._told >= PROGRESS_INTERVAL:
            self._told = now
            self.report("transferring")

    def report(self, stage: Any) -> None:
        if self._callback is not None:
            self._callback(Progress(stage=stage, bytes=self.bytes, total=self.total, seconds=self.seconds))


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

    def __init__(self, source: OpenSource, meter: _Meter) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._meter = meter

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await anext(self._source.chunks, None)
            if data is not None:
                self._expect(self._meter.bytes + len(data) <= self._source.size, len(data), "or more")
                self._meter.advance(len(data))
                return data
            self._expect(self._meter.bytes == self._source.size, 0, "and ended")
        except Exception as error:
            # The HTTP library makes a lost connection of it: kept, so that the caller gets to know the reason.
            self.error = error
            raise
        raise StopAsyncIteration

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


_SNIFFED: Final = 512


async def _abandoned(opening: asyncio.Future[OpenSource]) -> None:
    """Close a file that nobody waits for any more, once it is open."""
    try:
        await _settled(opening)
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
        if data := await asyncio.shield(self._reading):
            return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        try:
            if self._reading is not None:
                await _settled(self._reading)
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
    meter = _Meter(source.size, progress)
    body = _Body(source, meter)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.size)}
    try:
        meter.report("waiting")
        async with rest.exchange(method, path, params=params, headers=headers, body=body) as response:
            meter.report("finishing")
            answer = await rest.answer(response, f"{method} {path}")
    except XOError:
        if body.error is not None:
            raise body.error from None
        raise
    finally:
        await source.aclose()
    meter.report("done")
    return answer
