"""The one aiohttp session: HTTP exchanges and websockets, as bytes.

Nothing but this and `connector` imports aiohttp, so its types, its exceptions and its defaults stop here. The defaults
that do not fit are all set in this file: 300 s for a whole exchange (fatal for a disk), 4 MiB for a websocket message
(a few hundred VMs), connections kept longer than the server keeps them, redirects that are followed, cookies that are
stored, `Accept-Encoding: gzip`, with which the server compresses disk images on the way, 24 times slower.

`Session.exchange` is one request and its answer, to be used in an ``async with``. `Session.websocket` is a connected
socket. Both raise only errors of `aioxo.errors`, whose messages name the host and never a query, a header or a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import aiohttp
import multidict
import yarl

from ._version import __version__
from .connector import Attempt, Connector, LimitedResolver, connections_trace, make_socket, send_once
from .errors import (
    CannotConnect,
    ConfigurationError,
    ConnectionLost,
    NotXenOrchestra,
    ProtocolError,
    Timeout,
    TLSError,
    XOError,
    excerpt,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from .auth import TLS, Address
    from .models import Timeouts

__all__ = ["MESSAGE_LIMIT", "Response", "Session", "WebSocket"]

logger = logging.getLogger("aioxo.session")
T = TypeVar("T")

#: Longest websocket message accepted, in bytes: adding 20,000 VMs was seen to come as one message of 68 MB.
MESSAGE_LIMIT: Final = 160 * 2**20
#: How much of a body aiohttp may hold before it stops reading from the socket, in bytes (it stops at twice this). While
#: a disk is written it fills up, and what is read then comes in large pieces: a quarter of the changes of threads.
READ_BUFFER: Final = 2**20
#: Idle connections are dropped before the server does so: its header says 5 s.
KEEP_ALIVE: Final = 4.0
#: Most of a body that is read into memory at once, in bytes; lists come as streams and are not bound by it.
BODY_LIMIT: Final = 256 * 2**20
#: Websocket messages taken before other tasks get a turn.
BURST: Final = 16
#: Seconds of silence after which a websocket is pinged; half as many more without an answer end it.
PING_INTERVAL: Final = 20.0
#: What would end the request line, or the request, or has no bytes at all.
_UNSENDABLE: Final = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
_VERB: Final = re.compile(r"[A-Za-z]+")


class Response:
    """An answer whose headers have come; its body is read inside the ``async with`` that gave it.

    Attributes:
        status: HTTP status.
        headers: the answer's headers; names are matched in any case.
        received: bytes of the body read so far.
    """

    def __init__(self, response: aiohttp.ClientResponse, where: str, read_timeout: float | None) -> None:
        self._response = response
        self._where = where
        self._read_timeout = read_timeout
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.received = 0

    def __repr__(self) -> str:
        return f"<Response {self.status} {self._where} received={self.received}>"

    @property
    def content_type(self) -> str:
        """Media type without its parameters, in lower case; empty when the server names none, as old ones do."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Return all of the body that is here, waiting if there is none; empty at its end. Right for small records.

        Raises:
            ConnectionLost: the body was cut; `.received` tells where.
            Timeout: nothing came for the read limit.
        """
        data = await self._limited(self._response.content.readany)
        self.received += len(data)
        return data

    async def read_piece(self) -> bytes:
        """Return a piece of the body as it was received, not copied; empty at the end. Right for large bodies.

        Raises:
            ConnectionLost: the body was cut; `.received` tells where.
            Timeout: nothing came for the read limit.
        """
        while True:
            data, is_end_of_chunk = await self._limited(self._response.content.readchunk)
            if data or not is_end_of_chunk:
                self.received += len(data)
                return data

    async def _limited(self, take: Callable[[], Awaitable[T]]) -> T:
        content = self._response.content
        try:
            if self._read_timeout is None or content.total_bytes > self.received:  # a limit costs, and this is here
                return await take()
            async with asyncio.timeout(self._read_timeout):
                return await take()
        except TimeoutError:
            message = (
                f"{self._where}: nothing came for {self._read_timeout} s after {self.received} bytes; "
                "the server has stalled"
            )
            raise Timeout(message, limit="read", seconds=self._read_timeout or 0.0) from None
        except aiohttp.ClientError as error:
            message = f"{self._where}: the connection was cut after {self.received} bytes of the answer"
            raise ConnectionLost(message, sent=True) from error

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """Return what is left of the body, at most `limit` bytes.

        Raises:
            ProtocolError: the body is longer.
            ConnectionLost: the body was cut.
            Timeout: nothing came for the read limit.
        """
        pieces = []
        while data := await self.read():
            pieces.append(data)
            if self.received > limit:
                message = f"{self._where}: the answer is longer than {limit} bytes"
                raise ProtocolError(message)
        return b"".join(pieces)


class WebSocket:
    """A connected websocket: whole messages in, whole messages out."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse[bool], where: str) -> None:
        self._socket = socket_
        self._where = where

    async def send(self, message: bytes) -> None:
        """Send one text message; waits while the server does not read.

        Raises:
            ConnectionLost: the connection is gone; whether the message arrived is not known.
        """
        try:
            await self._socket.send_frame(message, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, ConnectionError) as error:
            message_ = f"{self._where}: the connection was lost while sending"
            raise ConnectionLost(message_, sent=True) from error

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            ConnectionLost: the connection ended; the text says how.
        """
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        raise self._lost(message)

    async def pump(self, take: Callable[[bytes], None]) -> NoReturn:
        """Hand every message to `take` until the connection ends: `receive` in a loop, without its cost for each.

        After `BURST` messages other tasks get a turn. Without, all that the socket held is decoded before the first
        of it is looked at by anybody, and the garbage collector goes through it again and again.

        Raises:
            ConnectionLost: the connection ended; the text says how.
        """
        receive, text, binary = self._socket.receive, aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY
        while True:
            for _ in range(BURST):
                message = await receive()
                kind = message[0]
                if kind is not text and kind is not binary:
                    raise self._lost(message)
                take(message[1])
            await asyncio.sleep(0)

    def _lost(self, message: Any) -> ConnectionLost:
        error = message.data if message.type is aiohttp.WSMsgType.ERROR else self._socket.exception()
        if isinstance(error, aiohttp.WebSocketError):
            reason = f"it broke the websocket protocol ({error})"
        elif isinstance(error, TimeoutError):
            reason = f"no answer to a ping within {PING_INTERVAL / 2:g} s"
        elif message.type is aiohttp.WSMsgType.CLOSE:
            # The server closes without a code when the token has expired or the user was deleted. The frame's own code:
            # the socket's is by now that of the goodbye.
            code = message.data
            reason = (
                f"the server closed it with code {code}"
                if code
                else "the server closed it without a reason; has the token expired?"
            )
        else:
            reason = "it was cut"
        lost = ConnectionLost(f"{self._where}: the connection was lost: {reason}", sent=True)
        lost.__cause__ = error if isinstance(error, Exception) else None
        return lost

    async def close(self) -> None:
        """Say goodbye and close; never raises, and is bounded by the close limit."""
        await self._socket.close()


class Session:
    """One aiohttp session for one server."""

    def __init__(self, address: Address, tls: TLS, timeouts: Timeouts, *, connections: int) -> None:
        self.address = address
        self.timeouts = timeouts
        self._tls = tls
        self._connections = connections
        self._client: aiohttp.ClientSession | None = None
        self._resolver: LimitedResolver | None = None
        self._where = str(address)
        self._answered = False  # until something has, the scheme may be the wrong one

    def __repr__(self) -> str:
        return f"<Session {self._where} {'closed' if self._client is None else 'open'}>"

    async def open(self) -> None:
        """Make the session; nothing is sent.

        Raises:
            ConfigurationError: the file of certificate authorities cannot be read.
        """
        ssl_ = self._ssl()
        self._resolver = LimitedResolver(self.timeouts.connect)
        connector = Connector(
            ssl=ssl_,
            limit=self._connections,
            keepalive_timeout=KEEP_ALIVE,
            enable_cleanup_closed=False,
            resolver=self._resolver,
            socket_factory=make_socket,
        )
        trace = connections_trace()
        trace.on_request_redirect.append(_refuse_redirect)
        self._client = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"aioxo/{__version__}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeouts.connect),
            read_bufsize=READ_BUFFER,
            trace_configs=[trace],
            middlewares=(send_once,),
            auto_decompress=True,
            # Proxies aside, this would also read ~/.netrc and add a second way to sign in, which the server refuses.
            trust_env=False,
        )

    def _ssl(self) -> ssl.SSLContext | aiohttp.Fingerprint | bool:
        if self._tls.fingerprint is not None:
            return aiohttp.Fingerprint(self._tls.fingerprint)
        if self._tls.insecure:
            return False
        if self._tls.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._tls.ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"ca_file {self._tls.ca_file}: {error.strerror or error}; it must be a readable PEM file"
            raise ConfigurationError(message) from error

    async def close(self) -> None:
        """Close every connection; does nothing when there is none."""
        client, self._client = self._client, None
        resolver, self._resolver = self._resolver, None
        try:
            if client is not None:
                await client.close()
        finally:
            if resolver is not None:
                await resolver.close()

    def _require_client(self) -> aiohttp.ClientSession:
        if self._client is None:
            message = "this client is not open; use it inside `async with aioxo.connect(...) as xo:`"
            raise ConfigurationError(message)
        return self._client

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        answer_timeout: float | None = None,
        read_timeout: float | None = None,
        repeatable: bool = False,
        name: str | None = None,
    ) -> AsyncIterator[Response]:
        """Send one request and give its answer, which ends with the ``async with``.

        Args:
            method: the HTTP verb.
            path: below the base path, percent-encoded, sent as it is: the server compares some paths byte for byte.
            query: percent-encoded, without the question mark.
            headers: to send with it; a Content-Length here keeps a streamed body from being chunked.
            body: the bytes, or what gives them piece by piece.
            answer_timeout: seconds from having a connection until the headers have come, or None.
            read_timeout: seconds of silence in the body, or None.
            repeatable: a plain read, which is sent once more when the server closed an idle connection just as it was
                used again.
            name: what errors call the request, for a path that nobody may see; None for verb and URL.

        Raises:
            CannotConnect, TLSError: nothing was sent.
            ConnectionLost: the connection ended before the headers came.
            Timeout: a limit passed.
            NotXenOrchestra: what answers does not speak HTTP.
            ConfigurationError: the verb or the path holds what none can hold; nothing was sent.
        """
        client = self._require_client()
        where = name or f"{method} {self.address}{path}"
        if not _VERB.fullmatch(method):
            message = f"{excerpt(method)!r} is no HTTP verb"
            raise ConfigurationError(message)
        if _UNSENDABLE.search(path) or _UNSENDABLE.search(query):
            message = f"{excerpt(where)}: a path holds neither spaces nor control characters; percent-encode them"
            raise ConfigurationError(message)
        url = yarl.URL(self.address.http(path) + (f"?{query}" if query else ""), encoded=True)
        streams = body is not None and not isinstance(body, bytes)
        attempt = Attempt(answer_timeout, streams=streams, repeatable=repeatable)
        with self._errors(where, attempt, limit="read", seconds=answer_timeout):
            async with attempt.clock:
                response = await client.request(method, url, headers=headers, data=body, allow_redirects=False)
        self._answered = True
        try:
            yield Response(response, where, read_timeout)
        finally:
            # A body that was not read to its end would block the connection for the next request: close() drops it.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def websocket(self) -> WebSocket:
        """Connect the websocket of the JSON-RPC interface; not signed in yet.

        Raises:
            CannotConnect, TLSError: there is no connection.
            Timeout: no answer; a wrong base path is one cause, since the server ignores an upgrade elsewhere.
            NotXenOrchestra: the answer is no upgrade.
        """
        client = self._require_client()
        where = f"websocket {self._where}/api/"
        attempt = Attempt(None, repeatable=True)  # an upgrade carries nothing out
        with self._errors(where, attempt, limit="connect", seconds=self.timeouts.connect):
            async with asyncio.timeout(self.timeouts.connect):
                connected = await client.ws_connect(
                    yarl.URL(self.address.websocket, encoded=True),
                    timeout=aiohttp.ClientWSTimeout(ws_close=self.timeouts.close),
                    heartbeat=PING_INTERVAL,
                    max_msg_size=MESSAGE_LIMIT,
                    decode_text=False,
                )
        return WebSocket(connected, where)

    @contextlib.contextmanager
    def _errors(self, where: str, attempt: Attempt, *, limit: str, seconds: float | None) -> Iterator[None]:
        """Turn what goes wrong before an answer into our errors."""
        try:
            yield
        except XOError:
            raise
        except aiohttp.ServerFingerprintMismatch as error:
            shown = ":".join(f"{byte:02X}" for byte in error.got)
            message = f"{self._where}: the server's certificate has another fingerprint: {shown}"
            raise TLSError(message) from error
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise TLSError(self._describe_tls(error)) from error
        except aiohttp.ClientConnectorDNSError as error:
            message = f"{self._where}: no such host; check the name"
            raise CannotConnect(message) from error
        except aiohttp.ClientConnectorError as error:
            message = f"{self._where}: cannot connect: {_os_reason(error)}; is the server running and the port right?"
            raise CannotConnect(message) from error
        except aiohttp.WSServerHandshakeError as error:
            if error.status >= 500:  # a proxy in front of a server that is restarting
                message = f"{where}: the server answers with status {error.status}"
                raise CannotConnect(message) from error
            message = f"{where}: the answer is no websocket (status {error.status}); is this Xen Orchestra's address?"
            raise NotXenOrchestra(message) from error
        except aiohttp.ClientResponseError as error:
            self._strip(error)
            raise NotXenOrchestra(_no_http(where)) from error
        except aiohttp.ConnectionTimeoutError as error:
            message = f"{self._where}: no connection within {self.timeouts.connect} s; is the address right?"
            raise Timeout(message, limit="connect", seconds=self.timeouts.connect or 0.0) from error
        except TimeoutError as error:
            message = f"{where}: no answer within {seconds} s"
            raise Timeout(message, limit=limit, seconds=seconds or 0.0) from error
        except aiohttp.InvalidURL as error:
            message = f"{self._where} is not an address that can be used"
            raise ConfigurationError(message) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            if attempt.met_another_protocol:
                raise NotXenOrchestra(_no_http(where)) from error
            message = f"{where}: the connection was lost before an answer came"
            if not self._answered and self.address.origin.startswith("http:"):
                message += "; a server that wants TLS here has an address with https://"
            raise ConnectionLost(message, sent=attempt.was_sent(error)) from error

    def _strip(self, error: aiohttp.ClientResponseError) -> None:
        """Take out of aiohttp's error what was sent: the headers, with the token, and the URL, which may be one too."""
        nothing = multidict.CIMultiDictProxy(multidict.CIMultiDict[str]())
        error.request_info = aiohttp.RequestInfo(yarl.URL(self._where), error.request_info.method, nothing)
        error.args = (error.request_info, error.history)

    def _describe_tls(self, error: Exception) -> str:
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"{self._where}: the certificate is not trusted: {cause.verify_message}; pass ca_file= with the "
                "authority that signed it, fingerprint= to trust this one, or insecure=True to trust any"
            )
        reason = getattr(cause, "reason", None) or str(cause)
        if "WRONG_VERSION_NUMBER" in str(cause) or "RECORD_LAYER" in str(cause):
            return f"{self._where}: the server does not speak TLS on this port; is http:// meant?"
        return f"{self._where}: the TLS handshake failed: {reason}"


def _no_http(where: str) -> str:
    return f"{where}: what answers does not speak HTTP; is it https:// that is meant?"


def _os_reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, socket.gaierror):
        return "no such host"
    return cause.strerror or str(cause) or type(cause).__name__


async def _refuse_redirect(*_: Any) -> None:
    # Only an upgrade can come here, everything else is sent with allow_redirects=False. Following it would hand the
    # token to whatever host the redirect names.
    message = "the server answers the websocket with a redirect; use the address it redirects to"
    raise NotXenOrchestra(message)
