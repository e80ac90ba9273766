"""The tree of everything aioxo raises.

::

    XOError
    ├── ConfigurationError           nothing was sent: an option, a URL or a credential is missing or wrong
    │   └── FilterSyntaxError        a query string the server's language does not have (.text, .position)
    ├── AuthenticationError          the server refused the credentials
    ├── ConnectionLost               no answer; .sent tells whether the request may have been carried out
    │   └── CannotConnect            no connection was made, so nothing was sent
    │       └── TLSError             the certificate or the handshake was refused
    ├── Timeout                      a named limit passed (.limit, .seconds)
    ├── ProtocolError                an answer that is not what Xen Orchestra sends
    │   ├── NotXenOrchestra          ... because something else answers at this address
    │   └── InvalidRecord            a line of a stream is not JSON (.line_number, .excerpt)
    ├── ApiError                     the server said no (.code, .status, .data); a class per code below
    │   ├── NotFound, Unauthorized, InvalidParameters, ForbiddenOperation, AlreadyExists, IncorrectState,
    │   ├── NotImplementedByServer, ServiceUnavailable, MethodNotFound, XapiError
    ├── TaskFailed                   an action was accepted and then failed (.code, .params, .task)
    ├── Lagged                       this subscriber fell behind and asked to be told (.missed)
    └── TransferError                a disk image that is not whole, or could not be stored
        ├── Truncated                fewer bytes than there must be (.received, .expected)
        ├── SourceMismatch           a source shorter or longer than it said (.declared, .read)
        ├── CorruptImage             the structure of the image is wrong (.check)
        ├── ChecksumMismatch         two hashes that must be equal are not
        └── DestinationError         the place to write to refused (.path)

Every error carries its facts as fields, and its text is one sentence or two: what happened and what to do. Tokens
and passwords are never among the facts.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = [
    "AlreadyExists",
    "ApiError",
    "AuthenticationError",
    "CannotConnect",
    "ChecksumMismatch",
    "ConfigurationError",
    "ConnectionLost",
    "CorruptImage",
    "DestinationError",
    "FilterSyntaxError",
    "ForbiddenOperation",
    "IncorrectState",
    "InvalidParameters",
    "InvalidRecord",
    "Lagged",
    "MethodNotFound",
    "NotFound",
    "NotImplementedByServer",
    "NotXenOrchestra",
    "ProtocolError",
    "ServiceUnavailable",
    "SourceMismatch",
    "TLSError",
    "TaskFailed",
    "Timeout",
    "TransferError",
    "Truncated",
    "Unauthorized",
    "XOError",
    "XapiError",
]

#: Longest piece of a server's answer that is quoted in an error, in characters.
EXCERPT_LIMIT: Final = 200


def excerpt(data: bytes | str, limit: int = EXCERPT_LIMIT) -> str:
    """Return the start of `data` as printable ASCII of at most `limit` characters, for use in an error's text."""
    text = data[: limit * 4].decode("utf-8", "replace") if isinstance(data, bytes) else data[: limit * 4]
    shown = text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


class XOError(Exception):
    """Base of every error that aioxo raises on purpose."""


class ConfigurationError(XOError):
    """Something the caller set is missing or cannot work; nothing was sent."""


class FilterSyntaxError(ConfigurationError, ValueError):
    """A query string is not in the server's filter language.

    Attributes:
        text: the whole query string; empty when it is nested too deep to be written.
        position: 0-based index into `text` where parsing stopped.
    """

    def __init__(self, message: str, *, text: str, position: int) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


class AuthenticationError(XOError):
    """The server refused the token, the user name, the password or the one-time code."""


class ConnectionLost(XOError):
    """The connection ended, or never was, before an answer came.

    Attributes:
        sent: False when the request certainly did not reach the server; True when it may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class CannotConnect(ConnectionLost):
    """No connection could be made: no such host, refused, unreachable; nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class TLSError(CannotConnect):
    """The server's certificate or the TLS handshake was refused."""


class Timeout(XOError, TimeoutError):
    """A named limit of time passed.

    Attributes:
        limit: name of the limit, as in `aioxo.Timeouts`, or of the argument that set it.
        seconds: how long it was.
    """

    def __init__(self, message: str, *, limit: str, seconds: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.seconds = seconds


class ProtocolError(XOError):
    """The peer sent something that Xen Orchestra does not send."""


class NotXenOrchestra(ProtocolError):
    """What answers at this address is not Xen Orchestra: a web page, a login redirect, another service."""


class InvalidRecord(ProtocolError):
    """A line of a record stream is not JSON; the records before it were delivered.

    Attributes:
        line_number: 1-based number of the line in the stream.
        excerpt: its first characters, escaped and bounded.
    """

    def __init__(self, reason: str, *, line_number: int, line: bytes) -> None:
        self.line_number = line_number
        self.excerpt = excerpt(line)
        super().__init__(f"line {line_number} of the stream is not JSON ({reason}): {self.excerpt}")


class ApiError(XOError):
    """The server understood the request and answered with an error.

    Attributes:
        code: over the websocket, the JSON-RPC code as an `int`; for a failure of the pool itself, XAPI's code as a
            `str`; over REST None unless the server gave one.
        status: HTTP status, or None over the websocket.
        data: what the server attached, decoded, or None.
        params: XAPI's parameters; empty for other errors.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | str | None = None,
        status: int | None = None,
        data: Any = None,
        params: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.data = data
        self.params = params


class NotFound(ApiError):
    """There is no such object (REST 404, RPC code 1)."""


class Unauthorized(ApiError):
    """The user may not do this (REST 403, RPC code 2)."""


class InvalidParameters(ApiError):
    """A parameter or a body was refused (REST 400 and 422, RPC code 10); `.data` says which."""


class ForbiddenOperation(ApiError):
    """The operation is blocked on this object (RPC codes 5 and 19)."""


class AlreadyExists(ApiError):
    """There is one already (RPC code 16)."""


class IncorrectState(ApiError):
    """The object is in another state than the operation needs (REST 409, RPC codes 13 and 25)."""


class NotImplementedByServer(ApiError):
    """The server knows the operation but does not implement it (REST 501, RPC code 0)."""


class ServiceUnavailable(ApiError):
    """Temporarily unable (REST 502, 503 and 504, RPC code 28); trying again later may help."""


class MethodNotFound(ApiError):
    """The server has no such method or route; a plugin that is still loading also gives this."""


class XapiError(ApiError):
    """The pool itself failed: `.code` is XAPI's code, such as ``VM_BAD_POWER_STATE``, `.params` its parameters."""


class TaskFailed(XOError):
    """An action was accepted, ran as a task, and failed or was interrupted.

    Attributes:
        task: the task's last record as the server gave it.
        code: the failure's code, or None.
        params: the failure's parameters; empty when it has none.
    """

    def __init__(
        self, message: str, *, task: dict[str, Any], code: int | str | None = None, params: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(message)
        self.task = task
        self.code = code
        self.params = params


class Lagged(XOError):
    """A subscriber with ``overflow="fail"`` fell behind; `.missed` items were dropped for it alone."""

    def __init__(self, *, missed: int, buffer: int) -> None:
        super().__init__(
            f"this subscriber fell more than {buffer} items behind and {missed} were dropped; "
            'read faster, raise buffer=, or take overflow="latest"'
        )
        self.missed = missed


class TransferError(XOError):
    """A disk image is not whole, or could not be read or stored; nothing stands under the final name."""


class Truncated(TransferError):
    """Fewer bytes arrived than there must be.

    Attributes:
        received: bytes that arrived.
        expected: bytes that had to, or None when only the structure shows that the end is missing.
    """

    def __init__(self, message: str, *, received: int, expected: int | None = None) -> None:
        super().__init__(message)
        self.received = received
        self.expected = expected


class SourceMismatch(TransferError):
    """A source gave fewer or more bytes than it said it would.

    Attributes:
        declared: size in bytes that was promised.
        read: bytes that were read when it showed.
    """

    def __init__(self, message: str, *, declared: int, read: int) -> None:
        super().__init__(message)
        self.declared = declared
        self.read = read


class CorruptImage(TransferError):
    """The structure of an image is wrong; `.check` names the check that failed."""

    def __init__(self, message: str, *, check: str) -> None:
        super().__init__(message)
        self.check = check


class ChecksumMismatch(TransferError):
    """Two hashes that must be equal are not (`.expected`, `.actual`)."""

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class DestinationError(TransferError):
    """The destination refused: not writable, no room, already there. `.path` is what was to be written."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


_BY_RPC_CODE: Final[dict[int, type[ApiError]]] = {
    -32601: MethodNotFound,
    0: NotImplementedByServer,
    1: NotFound,
    2: Unauthorized,
    5: ForbiddenOperation,
    10: InvalidParameters,
    13: IncorrectState,
    16: AlreadyExists,
    19: ForbiddenOperation,
    25: IncorrectState,
    28: ServiceUnavailable,
}

_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: InvalidParameters,
    403: Unauthorized,
    404: NotFound,
    409: IncorrectState,
    422: InvalidParameters,
    501: NotImplementedByServer,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}

# REST gives a pool's failure only as this text: CODE(parameter, parameter).
_XAPI_TEXT: Final = re.compile(r"([A-Z][A-Z0-9_]+)\((.*)\)", re.DOTALL)


def api_error_from_rpc(code: int | str, message: Any, data: Any, *, method: str) -> XOError:
    """Turn the error member of a JSON-RPC reply into the exception for it (not raised)."""
    message = _bounded(message)
    if code == 3:
        return AuthenticationError(f"{method}: {message}; check the token, or the user, password and one-time code")
    details = data if isinstance(data, dict) else {}
    text = f"{method}: {message}"
    if isinstance(faults := details.get("errors"), list) and faults:
        text += " (" + "; ".join(_describe_fault(fault) for fault in faults[:5]) + ")"
    if isinstance(code, int) and (known := _BY_RPC_CODE.get(code)):
        return known(text, code=code, data=data)
    # Everything without a code of its own is -32000, the pool's failures among it; some replies have XAPI's code.
    xapi_code, params = details.get("code"), details.get("params")
    if isinstance(code, str):
        return XapiError(text, code=code, data=data, params=_strings(params))
    if isinstance(xapi_code, str) and (details.get("name") == "XapiError" or isinstance(params, list)):
        return XapiError(text, code=xapi_code, data=data, params=_strings(params))
    return ApiError(text, code=code, data=data)


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(_bounded(value) for value in values) if isinstance(values, list) else ()


def _bounded(value: Any, limit: int = 2000) -> str:
    """Say what a server sent, in at most `limit` characters and without following how deep it is nested."""
    if isinstance(value, str):
        return value if len(value) <= limit else value[: limit - 3] + "..."
    return str(value) if isinstance(value, (int, float, bool, type(None))) else f"(a {type(value).__name__})"


def _describe_fault(fault: Any) -> str:
    if not isinstance(fault, dict):
        return excerpt(_bounded(fault))
    where = _bounded(fault.get("instancePath") or "").lstrip("/")
    parameters = fault.get("params")
    named = parameters.get("additionalProperty") if isinstance(parameters, dict) else None
    text = _bounded(fault.get("message", "refused")) + (f": {_bounded(named)}" if named else "")
    return excerpt(f"{where} {text}".strip())


def api_error_from_status(status: int, body: Any, *, request: str) -> XOError:
    """Turn a REST status of 400 or more and its decoded body into the exception for it (not raised).

    Args:
        status: the HTTP status.
        body: the decoded JSON body, or the text when it was not JSON.
        request: verb and path for the message, without the query.
    """
    data = None
    if isinstance(body, dict) and "error" in body:
        message, data = body["error"], body.get("data")
        if isinstance(message, dict):  # 422: one entry a field
            data = message
            message = "; ".join(
                f"{name}: {_bounded(fault.get('message') if isinstance(fault, dict) else fault)}"
                for name, fault in list(message.items())[:8]
            )
        message = _bounded(message)
    else:
        message = excerpt(_bounded(body)) or f"HTTP status {status}"
    text = f"{request}: {message}"
    if status == 401:
        return AuthenticationError(f"{text}; check that the token is right and has not expired")
    if status == 500 and (match := _XAPI_TEXT.fullmatch(message)):
        return XapiError(
            text, code=match[1], status=status, data=data, params=tuple(match[2].split(", ")) if match[2] else ()
        )
    error = _BY_STATUS.get(status, ApiError)
    if status == 409 and isinstance(data, dict) and "objectType" in data:
        error = AlreadyExists
    if status == 403 and isinstance(data, dict) and "operation" in data:
        error = ForbiddenOperation
    return error(text, status=status, data=data)
