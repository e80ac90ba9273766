"""Work in threads, and waiting for it: a thread cannot be cancelled, so whoever is cancelled waits for it first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread", "settled"]


async def settled(future: asyncio.Future[Any]) -> None:
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


async def in_thread(function: Callable[[], None]) -> None:
    """Call `function` in a thread; when cancelled, wait for its end before passing that on."""
    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise
