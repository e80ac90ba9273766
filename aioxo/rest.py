"""The REST interface: one request with its query, its errors and its decoded answer.

Two servers have to be served by the same code without being told which one it is: today's, and those of 2022 to 2025,
which counted a flag by its mere presence and answered with plain text where there is JSON now. So a true flag is sent
as ``=true``, which both understand, a false one is left out, and what an answer is, its body says rather than its type.

An address that is not Xen Orchestra shows itself as HTML or as a redirect, and is told from Xen Orchestra's own HTML,
the 404 of a route it does not have.
"""

from __future__ import annotations

import asyncio
import warnings
from contextlib import asynccontextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

from .errors import (
    ConfigurationError,
    ConnectionLost,
    MethodNotFound,
    NotXenOrchestra,
    ProtocolError,
    api_error_from_status,
    excerpt,
)
from .wire.json import JSONDecodeError, dumps, loads
from .wire.ndjson import RecordParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .session import Response, Session

__all__ = ["Answer", "RecordStream", "Rest", "segment"]

ROOT = "/rest/v0"
#: Most of an error's body that is read, in bytes.
_ERROR_LIMIT = 256 * 2**10
_REDIRECTS = 3


class Answer(NamedTuple):
    """A decoded answer: `value` is JSON, a str for text, bytes for anything else, or None for no body."""

    status: int
    headers: Mapping[str, str]
    value: Any


def segment(text: str) -> str:
    """Percent-encode one segment of a path: an id may hold slashes, a tag anything."""
    if text in {"", ".", ".."}:
        message = f"{text!r} cannot be an id"
        raise ConfigurationError(message)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        message = f"{excerpt(text)} cannot be an id: it holds half a character"
        raise ConfigurationError(message) from None


def encode_query(params: Mapping[str, Any]) -> str:
    """Encode query parameters: True as "true"; False and None are left out, for old servers count what is present."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if value is True:
            pairs.append((name, "true"))
        elif isinstance(value, (list, tuple)):
            pairs += [(name, str(item)) for item in value]
        elif value is not None and value is not False:
            pairs.append((name, str(value)))
    try:
        return urlencode(pairs, quote_via=quote)
    except UnicodeEncodeError:
        message = f"a parameter of {', '.join(excerpt(name) for name in params)} holds half a character"
        raise ConfigurationError(message) from None


class Rest:
    """Requests below /rest/v0, signed in by a token.

    Attributes:
        token: the token, set once the client has one.
        sent: requests sent so far.
    """

    def __init__(self, session: Session, token: str | None = None) -> None:
        self.token = token
        self.sent = 0
        self._session = session

    def __repr__(self) -> str:
        return f"<Rest {self._session.address} sent={self.sent}>"

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        read_timeout: float | None = None,
        patient: bool = False,
    ) -> Answer:
        """Send a request and return its decoded answer.

        Args:
            method: the verb.
            path: below /rest/v0, percent-encoded.
            params: of the query; see `encode_query`.
            json: body to send as JSON, or None for none.
            read_timeout: seconds of silence; None for the client's read limit.
            patient: wait for the answer without a limit, for routes that answer when something has ended.

        Raises:
            ApiError, AuthenticationError: the server refused.
            ConnectionLost, Timeout, NotXenOrchestra, ProtocolError: there was no proper answer.
        """
        headers = {} if json is None else {"Content-Type": "application/json"}
        body = None if json is None else _encode(json, f"{method} {ROOT}{path}")
        limit = None if patient else read_timeout if read_timeout is not None else self._session.timeouts.read
        async with self.exchange(
            method,
            path,
            params=params,
            headers=headers,
            body=body,
            answer_timeout=limit,
            read_timeout=limit,
            repeatable=method == "GET",
        ) as response:
            return await self.answer(response, f"{method} {ROOT}{path}")

    async def answer(self, response: Response, name: str) -> Answer:
        """Read and decode what is left of a response; `name` is verb and path, for the errors."""
        return Answer(response.status, response.headers, _decode(await response.body(), response, name))

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        answer_timeout: float | None = None,
        read_timeout: float | None = None,
        repeatable: bool = False,
    ) -> AsyncIterator[Response]:
        """Send a request and give its answer once its status says yes; see `Session.exchange` for the arguments.

        A redirect to the same server is followed with verb and body kept, as /users/me needs; any other is an error.

        Raises:
            ApiError, AuthenticationError: the server refused.
            ConnectionLost, Timeout, NotXenOrchestra, ProtocolError: there was no proper answer.
        """
        name = f"{method} {ROOT}{path}"
        query = encode_query(params or {})
        sent = {**(headers or {}), **self._credentials()}
        target = ROOT + path
        for _ in range(_REDIRECTS):
            self.sent += 1
            async with self._session.exchange(
                method,
                target,
                query=query,
                headers=sent,
                body=body,
                answer_timeout=answer_timeout,
                read_timeout=read_timeout,
                repeatable=repeatable,
            ) as response:
                if response.status < 300:
                    yield response
                    return
                if response.status >= 400:
                    raise await _refusal(response, name, self._session.timeouts.read)
                target, query = self._follow(response, name, resendable=body is None or isinstance(body, bytes))
        message = f"{name}: more than {_REDIRECTS} redirects"
        raise ProtocolError(message)

    def _credentials(self) -> dict[str, str]:
        return {"Cookie": f"authenticationToken={self.token}"} if self.token else {}

    def _follow(self, response: Response, name: str, *, resendable: bool) -> tuple[str, str]:
        location = response.headers.get("Location", "")
        try:
            parts = urlsplit(location)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme or parts.netloc:
            host = excerpt(f"{parts.scheme}://{parts.netloc}")
            message = f"{name}: the server redirects to {host}; use that address if it is yours"
            raise NotXenOrchestra(message)
        # The server does not know of a base path that a proxy put in front of it.
        within = parts.path.startswith(ROOT + "/") and location.isprintable()
        if response.status not in {307, 308} or not within or not resendable:
            message = f"{name}: redirected to {excerpt(location)}; this address is not, or not only, Xen Orchestra's"
            raise NotXenOrchestra(message)
        return parts.path, parts.query

    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        read_timeout: float | None = None,
    ) -> RecordStream:
        """Return a stream of the records at `path`, to be entered with ``async with``; see `RecordStream`."""
        limit = read_timeout if read_timeout is not None else self._session.timeouts.read
        exchange = self.exchange(
            "GET",
            path,
            params={**(params or {}), "ndjson": True},
            answer_timeout=limit,
            read_timeout=limit,
            repeatable=True,
        )
        return RecordStream(exchange, f"GET {ROOT}{path}")

    def one_shot(self, path: str) -> RecordStream:
        """Return a stream of the records behind a URL that a JSON-RPC call gave; the URL works once.

        Args:
            path: from the root of the server, percent-encoded; the server compares it byte for byte, and it is the
                credential, so no cookie goes with it.
        """
        limit = self._session.timeouts.read
        name = "GET of the objects"
        exchange = self._session.exchange("GET", path, answer_timeout=limit, read_timeout=limit, name=name)
        return RecordStream(exchange, name)

    async def probe(self) -> None:
        """See that the address is Xen Orchestra's and that it takes the token: the cheapest request all versions have.

        Raises:
            AuthenticationError: the token is refused.
            NotXenOrchestra: something else answers.
            CannotConnect, ConnectionLost, Timeout, ApiError: no proper answer.
        """
        try:
            answer = await self.request("GET", "/pools", params={"limit": 1})
        except MethodNotFound:
            message = f"{self._session.address} answers, but has no {ROOT}; is it Xen Orchestra, and is the path right?"
            raise NotXenOrchestra(message) from None
        if not isinstance(answer.value, list):
            message = f"{self._session.address} answers, but not as Xen Orchestra does: {excerpt(str(answer.value))}"
            raise NotXenOrchestra(message)


class RecordStream:
    """Records one by one as the server sends them, in constant memory.

    Enter it with ``async with`` and iterate inside. A record that is not JSON raises `InvalidRecord` after those
    before it were delivered, a body that is cut raises `ConnectionLost`: the iteration ends only where the server
    ended its list. Cancelling is safe between records; leaving the block drops what was not read.

    Attributes:
        delivered: records given so far.
    """

    def __init__(self, exchange: AbstractAsyncContextManager[Response], where: str) -> None:
        self.delivered = 0
        self._left = False
        self._entered = False
        self._exchange = exchange
        self._where = where
        self._response: Response | None = None
        self._parser = RecordParser()
        self._batch: Iterator[Any] = iter(())
        self._ended = False
        self._rename: bool | None = None  # not known before the first record

    def __repr__(self) -> str:
        state = "new" if self._response is None else "ended" if self._ended else "open"
        return f"<RecordStream {self._where} {state} delivered={self.delivered}>"

    async def __aenter__(self) -> Self:
        """Send the request.

        Raises:
            ConfigurationError: the stream was entered before.
            ApiError, AuthenticationError: the server refused.
            ConnectionLost, Timeout, NotXenOrchestra, ProtocolError: there was no proper answer.
        """
        if self._entered:
            message = f"{self._where}: a stream can be entered once; ask for another"
            raise ConfigurationError(message)
        self._entered = True
        response = await self._exchange.__aenter__()
        if response.status >= 300 or response.content_type == "text/html":
            # Only a one-shot URL comes here: once used, it leads to the login page.
            await self._exchange.__aexit__(None, None, None)
            message = f"{self._where}: the server gave no records but status {response.status}"
            raise NotXenOrchestra(message)
        self._response = response
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = self._left = True
        self._batch = iter(())
        await self._exchange.__aexit__(kind, error, traceback)

    def __del__(self) -> None:
        if self._response is not None and not self._left:
            message = f"{self._where}: the stream was entered and never left; use `async with`"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next record.

        Raises:
            InvalidRecord: a line is not JSON, or the body ends in the middle of one.
            ConnectionLost: the body was cut.
            Timeout: nothing came for the read limit.
            ConfigurationError: the block was left.
        """
        while True:
            for record in self._batch:
                self.delivered += 1
                return record
            if self._left:
                message = f"{self._where}: the block of this stream was left; iterate inside it"
                raise ConfigurationError(message)
            if self._parser.fault is not None:
                raise self._parser.fault
            if self._ended:
                raise StopAsyncIteration
            await self._fill()

    async def _fill(self) -> None:
        if self._response is None:
            message = "enter the stream first: `async with xo.vms.stream() as vms:`"
            raise ConfigurationError(message)
        data = await self._response.read()
        if data:
            records = self._parser.feed(data)
        else:
            self._ended = True
            records = self._parser.finish()
        if self._rename is None and (first := list(islice(records, 1))):
            # XO 5.67 called the link `url`; that name is a field of its own elsewhere, hence the look at its value.
            self._rename = (
                type(first[0]) is dict
                and "href" not in first[0]
                and str(first[0].get("url", "")).startswith(ROOT + "/")
            )
            records = chain(first, records)
        self._batch = map(_with_href, records) if self._rename else records


def _with_href(record: dict[str, Any]) -> dict[str, Any]:
    record["href"] = record.pop("url", None)
    return record


def _encode(value: Any, name: str) -> bytes:
    try:
        return dumps(value)
    except (TypeError, RecursionError) as error:
        message = f"{name}: the body cannot be said in JSON: {error}"
        raise ConfigurationError(message) from error


async def _refusal(response: Response, name: str, limit: float | None) -> Exception:
    """Read the error that a status of 400 or more stands for.

    It gets `limit` seconds, also where the request has no limit, as an upload has none; then the status has to do.
    """
    try:
        async with asyncio.timeout(limit):
            data = await response.body(_ERROR_LIMIT)
    except (ConnectionLost, ProtocolError, TimeoutError):
        data = b""
    try:
        body = loads(data)
    except JSONDecodeError:
        body = data.decode("utf-8", "replace")
    if response.status == 404 and response.content_type == "text/html":
        message = f"{name}: the server has no such route; is it older than this one, or the path wrong?"
        return MethodNotFound(message, status=404)
    if response.content_type == "text/html" and response.status < 500:
        message = f"{name}: status {response.status} with a web page; is this Xen Orchestra's address?"
        return NotXenOrchestra(message)
    return api_error_from_status(response.status, body, request=name)


def _decode(data: bytes, response: Response, name: str) -> Any:
    if not data:
        return None
    kind = response.content_type
    if kind == "text/html":
        message = f"{name}: a web page came instead of data; is this Xen Orchestra's address?"
        raise NotXenOrchestra(message)
    if kind == "application/x-ndjson":
        parser = RecordParser()
        records = [*parser.feed(data), *parser.finish()]
        if parser.fault is not None:
            raise parser.fault
        return records
    if kind in {"application/json", ""}:
        try:
            return loads(data)
        except JSONDecodeError as error:
            if kind:
                message = f"{name}: the answer is not JSON ({error.msg}): {excerpt(data)}"
                raise ProtocolError(message) from None
            return data.decode("utf-8", "replace")  # old servers: a bare id, a path, "OK"
    if kind.startswith("text/"):
        return data.decode("utf-8", "replace")
    return data
