"""Disk images from the server: whole or absent.

The event loop receives until it has `BATCH` bytes; then two threads work on them, one hashing and checking, one
writing, while the loop receives the next batch. At most two batches exist, so a slow disk slows the socket and memory
stays where it is. The threads are where the time goes, and neither needs the interpreter; one hand-over per batch is
what makes it pay.

A file is written as ``NAME.<random>.partial`` beside its place, checked, flushed to the disk and then renamed. Whatever
goes wrong before that, cancelling included, removes the partial file: under the final name there is a whole, checked
image, or what was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from .errors import ConnectionLost, DestinationError, Truncated
from .models import Transfer
from .progress import Meter
from .threads import in_thread, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from .images import Check
    from .progress import ProgressCallback
    from .rest import Rest
    from .session import Response

__all__ = ["ByteSink", "Destination", "ExportStream", "download", "open_export"]

logger = logging.getLogger("aioxo.downloads")

#: Bytes handed to the worker thread at once.
BATCH: Final = 2**20
#: Most bytes written at once. Larger writes took ext4 up to twice the system time: it takes larger pages for them.
WRITE: Final = 256 * 2**10
#: Bytes compared at once when looking for zeroes to leave out; a multiple of every file system's block in use.
HOLE: Final = 64 * 2**10
_ZEROES: Final = bytes(HOLE)


class ByteSink(Protocol):
    """What a stream as a destination has to offer; anyio's ByteSendStream does."""

    async def send(self, item: bytes, /) -> None:
        """Take the next piece; waiting here slows the server down."""


Destination: TypeAlias = "str | os.PathLike[str] | ByteSink"


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
    meter = Meter(total, progress)
    sink = _FileSink(destination, sparse=sparse) if isinstance(destination, (str, bytes, os.PathLike)) else None
    receiver = None if sink is not None else destination
    work = _Work(check, sink)
    try:
        # Before the request: a destination that cannot be written to should not cost the server an export.
        if sink is not None:
            await in_thread(sink.open)
        meter.report("waiting")
        async with stream as export:
            if meter.total is None:
                meter.total = export.total
            await _pump(export, work, receiver, meter)
        meter.report("finishing")
        await in_thread(work.finish)
    except BaseException:
        if sink is not None:
            await in_thread(sink.discard)
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


async def _pump(export: ExportStream, work: _Work, receiver: Any, meter: Meter) -> None:
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
                _raise_failure(busy)
            for future in busy:
                # Shielded: a future of a thread that is cancelled is done at once, and the thread is not.
                await asyncio.shield(future)
            busy.clear()
            if not batch:
                return
            # Two threads, for hashing takes as long as writing does, and neither needs the interpreter.
            busy += [loop.run_in_executor(None, job, batch) for job in work.jobs]
            if receiver is not None:
                for data in batch:
                    await receiver.send(data)
    except BaseException:
        # The batch that the threads have must be done before the file may go. What they failed with comes first: a disk
        # that is full matters more than a server that went silent because nobody read from it.
        await settled(*busy)
        _raise_failure(busy)
        raise


def _raise_failure(busy: list[asyncio.Future[None]]) -> None:
    for future in busy:
        if future.done() and (error := future.exception()) is not None:
            raise error


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
        try:
            # Through symbolic links: what they point to is to be replaced, not they.
            self.path = Path(os.path.realpath(os.fsdecode(destination)))
        except ValueError as error:
            message = f"the destination is no path: {error}"
            raise DestinationError(message, path=repr(destination)) from error
        if not self.path.name:
            message = f"{self.path}: is a directory; name a file in it"
            raise DestinationError(message, path=str(self.path))
        self._partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.partial")
        self._sparse = sparse
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        with self._errors():
            if self.path.exists() and not self.path.is_file():
                # A device or a pipe would be replaced by a file, not written to.
                what = "a directory; name a file in it" if self.path.is_dir() else "a device or a pipe; pass a stream"
                message = f"{self.path}: is {what}"
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
        if self._file is None:
            return
        try:
            self._file.close()
            self._partial.unlink(missing_ok=True)
        except OSError as error:
            # Not raised: it would stand in the place of the error that made this necessary.
            logger.warning("%s was not removed: %s", self._partial, error.strerror or error)

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
    except OSError as error:
        # The image stands under its name already, so this is no failure of the transfer.
        logger.info("%s: the folder was not flushed: %s", path, error.strerror or error)
    finally:
        os.close(descriptor)
