"""Standard output as the destination of an image.

A full pipe blocks whoever writes to it, for as long as its reader likes. So a daemon thread writes, straight to the
descriptor: a signal then ends the program at once, without the interpreter waiting for the thread or for a lock that it
holds. Making the descriptor non-blocking would do so too, but for every other program that shares it as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

from aioxo.errors import DestinationError

__all__ = ["Stdout"]


class Stdout:
    """A destination with ``send``; a full pipe slows the server down."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Write to `descriptor`, or to that of standard output."""
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor

    async def send(self, item: bytes) -> None:
        """Write all of `item`; cancelling leaves the thread behind, which may still write.

        Raises:
            BrokenPipeError: the reader has gone.
            DestinationError: it cannot be written, for want of room for example.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            if written.done():
                return  # cancelled
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        def work() -> None:
            error = self._write(item)
            # The loop is closed when a signal has ended the program meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=work, name="stdout", daemon=True).start()
        try:
            await written
        except BrokenPipeError:
            raise
        except OSError as error:
            message = f"standard output: {error.strerror or error}"
            raise DestinationError(message, path="-") from error

    def _write(self, item: bytes) -> OSError | None:
        view = memoryview(item)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            return error
        return None
