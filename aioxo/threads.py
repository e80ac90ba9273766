"""Work in threads, and waiting for it: a thread cannot be cancelled, so whoever is cancelled waits for it first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread", "settled"]


async def settled(*futures: asyncio.Future[Any]) -> None:
    """Wait for all `futures`, however often the task is cancelled meanwhile; their errors are left to be looked at."""
    cancelled = None
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for future in futures:
        if not future.cancelled():
            future.exception()
    if cancelled is not None:
        raise cancelled


async def in_thread(function: Callable[[], None]) -> None:
    """Call `function` in a thread; when cancelled, wait for its end before passing that on."""
    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise
