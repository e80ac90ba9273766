"""A simulator in a thread of its own, for tests whose subject runs in another process or without an event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aioxo.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def background_simulator(**options: Any) -> Iterator[Simulator]:
    """Run a simulator until the block is left; its own loop, so that blocking the caller's stops nothing."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    box: list[Simulator | BaseException] = []

    async def serve() -> None:
        try:
            async with Simulator(**options) as simulator:
                box.append(simulator)
                ready.set()
                await stop.wait()
        except BaseException as error:
            box.append(error)
            ready.set()
            raise

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="simulator")
    thread.start()
    try:
        assert ready.wait(30), "the simulator did not start"
        first = box[0]
        if isinstance(first, BaseException):
            raise first
        yield first
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive(), "the simulator did not stop"
        loop.close()
