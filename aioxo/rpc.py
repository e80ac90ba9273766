"""The JSON-RPC connection: one websocket, one task that owns it, any number of callers and listeners.

States, changed by the owner task alone::

    closed ----first use----> connecting ----signed in----> open
      ^                        |      ^                      |
      |     nobody listens,    |      | after a delay        | the socket ended: pending calls get ConnectionLost,
      +--- or it is no use ----+      +---- waiting <--------+ listeners are told

- The first connection is tried once: whoever asked for it gets the error. Later ones are tried again and again, with
  growing random delays, as long as somebody listens; with nobody listening the next call connects anew.
- What no retry can mend (credentials, certificate, not Xen Orchestra) ends the first attempt at once. After there was a
  connection it has to come `FATAL_ATTEMPTS` times in a row, since a server that starts again looks like that for a
  while; then it is told to all.
- The delay starts small again only after a connection has been signed in and has lived `HEALTHY` seconds.
- A call has three ends: a result, an error of the server, or `ConnectionLost`, whose `sent` says whether it may have
  been carried out. It is never repeated here.
- The owner task never waits for a listener: listeners are plain functions.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from .backoff import Backoff
from .errors import (
    AuthenticationError,
    CannotConnect,
    ConfigurationError,
    ConnectionLost,
    NotXenOrchestra,
    ProtocolError,
    Timeout,
    TLSError,
    XOError,
)
from .models import Notification
from .wire.jsonrpc import Dialogue, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .auth import Credentials
    from .session import Session, WebSocket

__all__ = ["Connection", "ConnectionState", "Listener"]

logger = logging.getLogger("aioxo.rpc")

#: Seconds a connection must have lived for the next delay to start small again.
HEALTHY: Final = 10.0
#: What another attempt cannot mend, when there was no connection yet.
FATAL: Final = (AuthenticationError, ConfigurationError, NotXenOrchestra, TLSError)
#: Attempts in a row that may end in it once there was one: a server that starts again refuses good tokens for a while,
#: and the proxy in front of it answers with pages of its own.
FATAL_ATTEMPTS: Final = 8


class ConnectionState(enum.StrEnum):
    """Where the connection is; see the module."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"


class Listener(Protocol):
    """Whoever wants what the server says by itself; each method is called by the owner task and must not wait."""

    def notified(self, notification: Notification) -> None:
        """Take one notification."""

    def malformed(self, error: ProtocolError) -> None:
        """Learn that a message could not be understood, so that something may have been missed."""

    def disconnected(self) -> None:
        """Learn that the connection was lost: nothing that happens from now on until the next one will be told."""

    def ended(self, error: XOError | None) -> None:
        """Learn that there will be no other connection: None when the client was closed, else the reason."""


class _Link:
    """One connected socket, its outstanding calls and whoever waits for them."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.dialogue = Dialogue()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._lost: ConnectionLost | None = None

    async def call(self, method: str, params: Mapping[str, Any], timeout: float | None) -> Any:
        if self._lost is not None:
            raise ConnectionLost(str(self._lost), sent=False) from self._lost
        call_id, message = self.dialogue.call(method, params)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            async with asyncio.timeout(timeout):
                await self.socket.send(message)
                return await future
        except TimeoutError:
            text = f"{method}: no reply within {timeout} s; the call may still be carried out"
            raise Timeout(text, limit="call", seconds=timeout or 0.0) from None
        finally:
            del self._waiting[call_id]
            self.dialogue.abandon(call_id)  # which does nothing once there was a reply
            if future.done() and not future.cancelled():
                future.exception()  # looked at, so that asyncio does not complain when sending failed first

    def settle(self, reply: Reply) -> None:
        """Hand a reply to its caller; one whose caller has left is dropped."""
        future = self._waiting.get(reply.id)
        if future is None or future.done():
            return
        if reply.error is not None:
            future.set_exception(reply.error)
        else:
            future.set_result(reply.result)

    def fail(self, error: ConnectionLost) -> None:
        """End every outstanding call; an exception, not a cancellation, which a task group would swallow."""
        self._lost = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(str(error), sent=True))


class Connection:
    """The websocket of one client: opened at the first use, healed while somebody listens.

    Attributes:
        state: see `ConnectionState`.
        connections: connections that were signed in so far.
        calls: calls sent so far.
        notifications: notifications received so far.
        malformed: messages received that could not be understood.
    """

    def __init__(
        self,
        session: Session,
        credentials: Credentials,
        *,
        backoff: Backoff | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.credentials = credentials
        self.state = ConnectionState.CLOSED
        self.connections = 0
        self.calls = 0
        self.notifications = 0
        self.malformed = 0
        self._session = session
        self._backoff = backoff or Backoff()
        self._jitter = jitter
        self._listeners: tuple[Listener, ...] = ()
        self._closed = False
        self._fatal = 0  # attempts in a row that ended in something fatal
        self._wanted = 0  # callers that wait for a connection
        self._last_error: XOError | None = None
        self._owner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[_Link] | None = None

    def __repr__(self) -> str:
        return (
            f"<Connection {self._session.address} {self.state} connections={self.connections} calls={self.calls} "
            f"notifications={self.notifications}>"
        )

    # What callers use.

    async def open(self) -> None:
        """Wait until there is a signed-in connection, making one if need be.

        Raises:
            AuthenticationError: the server refused the credentials.
            ConnectionLost, Timeout, NotXenOrchestra: there is no connection; nothing was sent.
        """
        await self._link()

    async def call(self, method: str, params: Mapping[str, Any], timeout: float | None) -> Any:
        """Call a method and return its result.

        Cancelling abandons the reply; the server carries the call out all the same, for it has no way to cancel.

        Raises:
            ConfigurationError: a parameter is not something JSON can say; nothing was sent.
            ApiError: the server refused, by class and code.
            ConnectionLost: no reply, or no connection within the connect limit; `.sent` tells whether the call may
                have been carried out.
            Timeout: no reply within `timeout` seconds.
        """
        link = await self._link()
        self.calls += 1
        return await link.call(method, params, timeout)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` what comes from now on, once; the connection is kept up for it."""
        if self._closed:  # since the listener asked for a connection
            listener.ended(None)
        elif not any(other is listener for other in self._listeners):
            self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop telling `listener`; does nothing when it was not told."""
        self._listeners = tuple(other for other in self._listeners if other is not listener)

    async def close(self) -> None:
        """End the connection and wake everyone; bounded by the close limit, never raises."""
        self._closed = True
        listeners, self._listeners = self._listeners, ()
        # First of all, so that a close that is cancelled leaves nobody waiting.
        for listener in listeners:
            listener.ended(None)
        owner, self._owner = self._owner, None
        try:
            if owner is not None:
                owner.cancel()
                await asyncio.wait([owner])
        finally:
            # The owner does it too, unless it was cancelled before its first step.
            self._give_up(ConnectionLost("the client was closed", sent=False))

    async def _link(self) -> _Link:
        if self._closed:
            message = "this client was closed; make another with aioxo.connect()"
            raise ConfigurationError(message)
        if self._owner is None or self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._owner = asyncio.create_task(self._run(), name=f"aioxo websocket {self._session.address}")
        limit = self._session.timeouts.connect
        self._wanted += 1
        try:
            # Shielded: a caller that is cancelled must not take the connection from the others.
            async with asyncio.timeout(limit):
                return await asyncio.shield(self._opened)
        except TimeoutError as error:
            if isinstance(error, XOError):
                raise
            # The server ignores an upgrade at any other path, so silence is how a wrong one shows.
            reason = self._last_error or "the websocket is not answered; is the address right, path included?"
            message = f"{self._session.address}: no connection within {limit} s; {reason}"
            raise CannotConnect(message) from self._last_error
        finally:
            self._wanted -= 1

    # The owner task.

    async def _run(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        reason: XOError = ConnectionLost("the client was closed", sent=False)
        try:
            while True:
                opened_at = None
                try:
                    link = await self._connect()
                    opened_at = loop.time()
                    await self._read(link)
                except XOError as error:
                    reason = self._last_error = error
                if opened_at is not None and loop.time() - opened_at >= HEALTHY:
                    attempt = 0
                if not self._worth_another(reason, was_open=opened_at is not None):
                    return
                delay = self._backoff.delay(attempt, self._jitter)
                attempt += 1
                self._become(ConnectionState.WAITING, f"{reason}; next attempt in {delay:.1f} s")
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            reason = ConnectionLost("the client was closed", sent=False)
            raise
        except Exception as error:
            # Ours to mend, and nobody may be left waiting for it.
            logger.exception("%s: the reader failed", self._session.address)
            reason = ProtocolError(f"a mistake in aioxo ended the connection, please report it: {type(error).__name__}")
            reason.__cause__ = error
        finally:
            self._give_up(reason)

    async def _connect(self) -> _Link:
        self._become(ConnectionState.CONNECTING)
        link = _Link(await self._session.websocket())
        try:
            limit = self._session.timeouts.connect
            try:
                async with asyncio.timeout(limit):
                    await self._sign_in(link)
            except TimeoutError:
                message = f"{self._session.address}: no reply to the sign-in within {limit} s"
                raise Timeout(message, limit="connect", seconds=limit or 0.0) from None
        except BaseException:
            await link.socket.close()
            raise
        return link

    async def _sign_in(self, link: _Link) -> None:
        call_id, message = link.dialogue.call("session.signIn", _sign_in_params(self.credentials))
        await link.socket.send(message)
        while True:
            received = link.dialogue.receive(await link.socket.receive())
            if isinstance(received, Reply) and received.id == call_id:
                if received.error is not None:
                    raise received.error
                return
            # The first notifications can outrun the reply.
            self._dispatch(link, received)

    async def _read(self, link: _Link) -> None:
        """Receive until the connection ends; always raises."""
        assert self._opened is not None
        self.connections += 1
        self._fatal = 0
        self._become(ConnectionState.OPEN)
        self._opened.set_result(link)
        lost = ConnectionLost("the client was closed", sent=True)
        understand, dispatch = link.dialogue.receive, partial(self._dispatch, link)
        try:
            await link.socket.pump(lambda data: dispatch(understand(data)))
        except ConnectionLost as error:
            lost = error
            raise
        except Exception as error:
            lost = ConnectionLost(f"a mistake in aioxo ended the connection: {type(error).__name__}", sent=True)
            raise
        finally:
            # Before anything can wait: whoever asks for a connection from now on gets the next one.
            self._opened = asyncio.get_running_loop().create_future()
            link.fail(lost)
            for listener in self._listeners:
                listener.disconnected()
            await link.socket.close()

    def _dispatch(self, link: _Link, received: Reply | Notification | ProtocolError) -> None:
        if isinstance(received, Notification):
            self.notifications += 1
            for listener in self._listeners:
                listener.notified(received)
        elif isinstance(received, Reply):
            link.settle(received)
        else:
            self.malformed += 1
            log = logger.warning if self.malformed == 1 else logger.debug
            log("%s (message %d of this kind)", received, self.malformed)
            for listener in self._listeners:
                listener.malformed(received)

    def _worth_another(self, reason: XOError, *, was_open: bool) -> bool:
        if isinstance(reason, FATAL):
            self._fatal += 1
            if self.connections == 0 or self._fatal >= FATAL_ATTEMPTS or isinstance(reason, ConfigurationError):
                return False
        # A caller that came just as the connection ended gets one attempt of its own.
        return (self.connections > 0 and bool(self._listeners)) or (was_open and self._wanted > 0)

    def _become(self, state: ConnectionState, why: str = "") -> None:
        if state is not self.state:
            self.state = state
            logger.info("%s: %s%s", self._session.address, state, f" ({why})" if why else "")

    def _give_up(self, reason: XOError) -> None:
        """Leave nobody waiting."""
        if self._owner is asyncio.current_task():
            self._owner = None
        self._become(ConnectionState.CLOSED, str(reason))
        opened, self._opened = self._opened, None
        if opened is not None and not opened.done():
            opened.set_exception(reason)
            opened.exception()  # nobody may be waiting, and that is no mistake
        if not self._closed:  # or else close() tells them
            listeners, self._listeners = self._listeners, ()
            for listener in listeners:
                listener.ended(reason)


def _sign_in_params(credentials: Credentials) -> dict[str, str]:
    if credentials.token is not None:
        return {"token": credentials.token}
    params = {"email": credentials.username or "", "password": credentials.password or ""}
    if credentials.otp is not None:
        params["otp"] = credentials.otp
    return params
