"""Everything the simulator says no with, and how each refusal looks over REST and over JSON-RPC.

A handler raises a `Failure`; the two front doors render it. The same refusal has two faces: over REST a status and
`{"error", "data"?, "info"?}`, over JSON-RPC a code and `{"message", "code", "data"?}`. What has no code of its own is
-32000 there, and its text and data are shown to administrators only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

IdOf = Callable[[str], str]
UNKNOWN = -32000
MASKED = "unknown error from the peer"
XAPI_INFO = "This is a XenServer/XCP-ng error, not an XO error"


class Failure(Exception):
    """A refusal. Raised as it is, it is an error of the server's own: 500 over REST, -32000 over JSON-RPC.

    Attributes:
        message: what the peer is told.
        data: facts for a program; None leaves `data` out.
        status: of the REST answer.
        code: of the JSON-RPC error.
    """

    status: ClassVar[int] = 500
    code: ClassVar[int] = UNKNOWN

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def rest_body(self) -> dict[str, Any]:
        """Return the JSON body of the REST answer."""
        return {"error": self.message} if self.data is None else {"error": self.message, "data": self.data}

    def rpc_error(self, *, administrator: bool, id_of: IdOf = str) -> dict[str, Any]:  # noqa: ARG002 - for subclasses
        """Return the `error` member of the JSON-RPC answer, as the caller may see it.

        `id_of` returns the id of an object for its XAPI reference, and what it does not know as it is.
        """
        if self.code != UNKNOWN:
            error: dict[str, Any] = {"message": self.message, "code": self.code}
            return error if self.data is None else error | {"data": self.data}
        if not administrator:
            return {"code": UNKNOWN, "message": MASKED}
        return {"code": UNKNOWN, "data": self.serialised(), "message": self.message}

    def serialised(self) -> dict[str, Any]:
        """Return the failure as the `result` of a task and the `data` of an unmasked error show it."""
        coded = {} if self.code == UNKNOWN else {"code": self.code}
        facts = {} if self.data is None else {"data": self.data}
        return coded | facts | {"message": self.message, "name": "Error", "stack": f"Error: {self.message}"}


class NoSuchObject(Failure):
    """There is no object of this id among those of `kind` (a type, several, or None for any)."""

    status = 404
    code = 1

    def __init__(self, id: str, kind: str | list[str] | None = None) -> None:
        shown = ",".join(kind) if isinstance(kind, list) else kind or "object"
        super().__init__(f"no such {shown} {id}", {"id": id} if kind is None else {"id": id, "type": kind})


class NotEnoughPermissions(Failure):
    """The caller is not signed in, or is no administrator, or lacks an ACL."""

    status = 403
    code = 2

    def __init__(self, permission: str | None = None, subject: dict[str, str] | None = None) -> None:
        data: dict[str, Any] = {} if permission is None else {"permission": permission}
        super().__init__("not enough permissions", data | {"object": subject or {}})


class MissingPrivilege(Failure):
    """The caller's roles do not allow `action` on this object."""

    status = 403
    code = 2

    def __init__(self, resource: str, action: str, object_id: str | None = None) -> None:
        subject = {} if object_id is None else {"objectId": object_id}
        missing = [subject | {"action": action, "resource": resource}]
        super().__init__("not enough privileges", {"missingPrivileges": missing})


class InvalidCredentials(Failure):
    """The token, user name or password is wrong, or there is none."""

    status = 401
    code = 3

    def __init__(self) -> None:
        super().__init__("invalid credentials")


class BadRequest(Failure):
    """The request itself makes no sense, before anything is looked up."""

    status = 400


class ForbiddenOperation(Failure):
    """Someone has blocked this operation on this object."""

    status = 403
    code = 5

    def __init__(self, operation: str, reason: Any) -> None:
        super().__init__(f"forbidden operation: {operation}", {"operation": operation, "reason": reason})


class InvalidParameters(Failure):
    """A handler found the parameters wrong, after their shape was found right."""

    status = 422
    code = 10

    def __init__(self, message: str = "invalid parameters", data: Any = None) -> None:
        super().__init__(message, {} if data is None else data)


class FieldsInvalid(Failure):
    """The shape of a REST request's query or body is wrong: here `error` is an object, one member per field."""

    status = 422
    code = 10

    def __init__(self, fields: dict[str, dict[str, Any]]) -> None:
        super().__init__("invalid parameters", {})
        self.fields = fields

    def rest_body(self) -> dict[str, Any]:
        """Return the JSON body of the REST answer."""
        return {"error": self.fields, "data": {}}


class AlreadyExists(Failure):
    """There is one already."""

    status = 409
    code = 16

    def __init__(self, object_id: str, kind: str) -> None:
        super().__init__(f"{kind} already exists", {"objectId": object_id, "objectType": kind})


class IncorrectState(Failure):
    """An object's property has not the value that the operation needs."""

    status = 409
    code = 25

    def __init__(self, *, actual: Any, expected: Any, object_id: str, property_name: str) -> None:
        facts = {"actual": actual, "expected": expected, "object": object_id, "property": property_name}
        super().__init__("incorrect state", {name: value for name, value in facts.items() if value is not None})


class NotImplementedHere(Failure):
    """A real server can do this; the simulator cannot."""

    status = 501
    code = 0

    def __init__(self) -> None:
        super().__init__("not implemented")


class MethodNotFound(Failure):
    """There is no such JSON-RPC method."""

    status = 404
    code = -32601

    def __init__(self, method: str) -> None:
        super().__init__(f"method not found: {method}", method)

    def rpc_error(self, *, administrator: bool, id_of: IdOf = str) -> dict[str, Any]:  # noqa: ARG002 - the same for all
        """Return the `error` member of the JSON-RPC answer."""
        return {"code": self.code, "data": self.data, "message": self.message}


class XapiFailure(Failure):
    """A pool refused: a XAPI code and its parameters. JSON-RPC translates a few codes, REST shows only the text.

    Attributes:
        xapi_code: such as `VM_BAD_POWER_STATE`.
        params: the parameters of the code, all strings.
        call: the XAPI call that failed, set by whoever made it.
    """

    def __init__(self, xapi_code: str, *params: str) -> None:
        super().__init__(f"{xapi_code}({', '.join(params)})")
        self.xapi_code = xapi_code
        self.params = list(params)
        self.call: dict[str, Any] | None = None

    def rest_body(self) -> dict[str, Any]:
        """Return the JSON body of the REST answer."""
        return {"error": self.message, "info": XAPI_INFO}

    def rpc_error(self, *, administrator: bool, id_of: IdOf = str) -> dict[str, Any]:
        """Return the `error` member of the JSON-RPC answer; translated codes look alike to everybody."""
        translated = _translate(self.xapi_code, [id_of(self.params[0]), *self.params[1:]] if self.params else [])
        return super().rpc_error(administrator=administrator) if translated is None else translated

    def serialised(self) -> dict[str, Any]:
        """Return the failure with its code, parameters and call."""
        facts: dict[str, Any] = {"code": self.xapi_code, "params": self.params}
        if self.call is not None:
            facts["call"] = self.call
        return facts | {"message": self.message, "name": "XapiError", "stack": f"XapiError: {self.message}"}


def _translate(xapi_code: str, params: list[str]) -> dict[str, Any] | None:
    """Return the error of Xen Orchestra's own that stands for a XAPI code, or None."""
    subject = {"objectId": params[0]} if params else {}
    match xapi_code:
        case "VM_BAD_POWER_STATE" if len(params) >= 3:
            _, expected, actual = params[:3]
            message = f"VM state is {actual} but should be {expected}"
            return {"message": message, "code": 13, "data": subject | {"expected": expected, "actual": actual}}
        case "VM_LACKS_FEATURE" | "VM_LACKS_FEATURE_SHUTDOWN":
            feature = params[1] if len(params) > 1 else ""
            data = subject | ({"feature": feature} if feature else {})
            return {"message": f"VM lacks feature {feature}", "code": 14, "data": data}
        case "OPERATION_BLOCKED":
            reason = {"code": params[1]} if len(params) > 1 else {}
            return {"message": "operation blocked", "code": 19, "data": subject | reason}
        case "VDI_IN_USE":
            operation = {"operation": params[1]} if len(params) > 1 else {}
            return {"message": "VDI in use", "code": 17, "data": subject | operation}
        case "EHOSTUNREACH":
            return {"message": "server unreachable", "code": 9, "data": {}}
        case "NO_HOSTS_AVAILABLE" | "NOT_SUPPORTED_DURING_UPGRADE" | "SESSION_AUTHENTICATION_FAILED":
            code, message = _WITHOUT_DATA[xapi_code]
            return {"message": message, "code": code}
        case "HOST_OFFLINE" | "VM_IS_TEMPLATE" | "VM_MISSING_PV_DRIVERS":
            code, message = _ABOUT_AN_OBJECT[xapi_code]
            return {"message": message, "code": code, "data": subject}
    return None


_WITHOUT_DATA = {
    "NO_HOSTS_AVAILABLE": (7, "no hosts available"),
    "NOT_SUPPORTED_DURING_UPGRADE": (15, "not supported during upgrade"),
    "SESSION_AUTHENTICATION_FAILED": (8, "authentication failed"),
}
_ABOUT_AN_OBJECT = {
    "HOST_OFFLINE": (18, "host offline"),
    "VM_IS_TEMPLATE": (12, "VM is a template"),
    "VM_MISSING_PV_DRIVERS": (11, "missing PV drivers"),
}
