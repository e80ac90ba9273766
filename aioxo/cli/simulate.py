"""``simulate``: the stand-in server, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shlex
import signal
from typing import TYPE_CHECKING, Final

from aioxo.errors import ConfigurationError

from .parse import parse_size
from .render import line
from .text import count, quoted, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioxo.simulator import Simulator

__all__ = ["Dialect", "simulate"]

logger = logging.getLogger("aioxo.cli")

Dialect: Final = ("2026", "2023")


async def simulate(
    *, vms: int, churn: float, seed: int, host: str, port: int, dialect: str, disk_size: str, token: str | None
) -> None:
    """Serve until Ctrl-C or SIGTERM, which both are the proper way to end it.

    Raises:
        ConfigurationError: a number cannot be, or the address cannot be had.
    """
    simulator = make_simulator(
        vms=vms, churn=churn, seed=seed, host=host, port=port, dialect=dialect, disk_size=disk_size, token=token
    )
    with _stop_signals() as stop:
        try:
            await simulator.__aenter__()
        except OSError as error:
            hint = (
                "--port 0 takes a free one"
                if error.errno in {errno.EADDRINUSE, errno.EACCES}
                else "--host is an address of this machine, like 127.0.0.1"
            )
            message = f"cannot listen on {safe(host)} port {port}: {safe(error.strerror or error)}; {hint}"
            raise ConfigurationError(message) from error
        try:
            _introduce(simulator, vms=vms, churn=churn, dialect=dialect)
            await stop.wait()
        finally:
            await simulator.__aexit__(None, None, None)


def make_simulator(
    *, vms: int, churn: float, seed: int, host: str, port: int, dialect: str, disk_size: str, token: str | None = None
) -> Simulator:
    """Return a simulator, not entered yet; what cannot be is a `ConfigurationError`."""
    from aioxo.simulator import Simulator  # noqa: PLC0415 - heavy, and only needed here

    if dialect not in Dialect:
        message = f"--dialect is {' or '.join(Dialect)}, not {quoted(dialect)}"
        raise ConfigurationError(message)
    size = parse_size(disk_size)
    try:
        return Simulator(
            vms=vms, churn=churn, seed=seed, host=host, port=port, dialect=dialect, disk_size=size, token=token
        )
    except ValueError as error:
        message = f"{error}"
        raise ConfigurationError(message) from error


def _introduce(simulator: Simulator, *, vms: int, churn: float, dialect: str) -> None:
    """Say where it is and who may come in. These are no secrets: the server is made up, and so is all that is on it."""
    pace = f"{churn:g} changes a second" if churn else "nothing changes by itself (--churn 5 would)"
    line(f"A stand-in Xen Orchestra ({dialect}) with {count(vms, 'VM')}; {pace}.")
    line()
    line(f"  URL       {simulator.url}")
    line(f"  user      {simulator.username}")
    line(f"  password  {simulator.password}")
    line(f"  token     {simulator.token}")
    line()
    line("For the programs of another terminal:")
    line()
    line(f"export XOA_URL={shlex.quote(simulator.url)} XOA_TOKEN={shlex.quote(simulator.token)}")
    line()
    line("Ctrl-C stops it.")


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT and SIGTERM set; where there are no such handlers, they cancel as they always do."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    except NotImplementedError:  # Windows
        logger.debug("no signal handlers on this system")
        yield stop
        return
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
