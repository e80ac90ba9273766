"""How requests get a connection: what aiohttp has to be kept from, and what has to be learned from it on the way.

An `Attempt` is one request of the session. Making one puts it in the context of the running task, where the hooks of
aiohttp find it, for they are given nothing of ours:

- `Connector` tells it that it has a connection, which starts the clock for the answer: waiting for one of our own
  connections to become free is no silence of the server.
- `send_once` keeps aiohttp from repeating it.

`LimitedResolver` bounds the one step of connecting that aiohttp leaves without a limit.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http import HttpProcessingError
from aiohttp.resolver import DefaultResolver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import ResolveResult
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

__all__ = ["Attempt", "Connector", "LimitedResolver", "connections_trace", "make_socket", "send_once"]

#: Seconds of silence after which the system asks whether the peer of a connection is still there, and between its
#: questions: a long poll has no other way to learn that a firewall has forgotten the connection.
PROBE_INTERVAL: Final = 60


class Attempt:
    """One request on its way.

    Attributes:
        clock: the limit on the answer, to be entered around the request; it starts when there is a connection.
        repeatable: whether it may be sent again when an idle connection ends just as it is used again.
        reused: whether its connection had been used before.
    """

    def __init__(self, seconds: float | None, *, streams: bool = False, repeatable: bool = False) -> None:
        """Make the attempt of the running task, with `seconds` for the answer; `streams`: its body comes in pieces."""
        self.clock = asyncio.timeout(None)
        self.repeatable = repeatable
        self.reused = False
        self._seconds = seconds
        self._streams = streams
        self._protocol: ResponseHandler | None = None
        self._spoke_first = False
        _attempt.set(self)

    def connected(self, connection: Connection) -> None:
        """Start the clock."""
        self._protocol = protocol = connection.protocol
        # Of a new connection that is up, only this can make aiohttp say that it must be closed.
        self._spoke_first = not self.reused and protocol is not None and protocol.should_close
        if self._seconds is not None:
            self.clock.reschedule(asyncio.get_running_loop().time() + self._seconds)

    @property
    def met_another_protocol(self) -> bool:
        """Whether the peer said something before it was asked, which is not HTTP, and which ended the connection."""
        fault = None if self._protocol is None else self._protocol.exception()
        return self._spoke_first or isinstance(fault, HttpProcessingError)

    def was_sent(self, error: BaseException) -> bool:
        """Tell whether a byte may have left: not when aiohttp refused the first write, if that is the only one.

        It writes head and body together, unless the body is a stream, of which there may have been pieces before. With
        a body the refusal is often lost among other errors, and then nothing is known.
        """
        if self._streams:
            return True
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, aiohttp.ClientConnectionResetError) and "closing transport" in str(cause):
                return False
            cause = cause.__cause__
        return True


_attempt: contextvars.ContextVar[Attempt] = contextvars.ContextVar("aioxo attempt")


class _Cut(aiohttp.ClientError):
    """A connection that ended under a request; aiohttp repeats nothing for an error that it does not know."""


async def send_once(
    request: ClientRequest, send: Callable[[ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET, PUT or DELETE whose connection was cut: it may have been carried out.

    A machine that was deleted by the first would be "not found" for the second, and an export would be started twice.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # there was no connection
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        attempt = _attempt.get()
        if attempt.repeatable and attempt.reused:
            raise  # and aiohttp repeats it, once
        raise _Cut(str(error)) from error


def connections_trace() -> aiohttp.TraceConfig:
    """Return the hooks that tell attempts whether their connection is a new one."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_new)
    trace.on_connection_reuseconn.append(_note_reused)
    return trace


async def _note_new(*_: Any) -> None:
    _attempt.get().reused = False


async def _note_reused(*_: Any) -> None:
    _attempt.get().reused = True


class Connector(aiohttp.TCPConnector):
    """aiohttp's, which tells the attempt of the running task when it has its connection."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """Return a connection, an idle one or a new one, waiting for it."""
        connection = await super().connect(req, traces, timeout)
        _attempt.get().connected(connection)
        return connection


class LimitedResolver(AbstractResolver):
    """The system's resolver with a limit in seconds, or None: aiohttp's limit on connecting starts only after it."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look up a name; raises TimeoutError, of which aiohttp makes one of connecting."""
        async with asyncio.timeout(self._limit):
            return await self._resolver.resolve(host, port, family)

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


def make_socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that the system probes while it is silent."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):  # not on every system
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), PROBE_INTERVAL)
    return made
