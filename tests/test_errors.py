"""What the server's errors become: class, fields and a sentence, from what it was seen to send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioxo
from aioxo.errors import EXCERPT_LIMIT, api_error_from_rpc, api_error_from_status, excerpt


@given(st.binary(max_size=2000) | st.text(st.characters(), max_size=2000))
def test_excerpts_are_printable_and_bounded(data: bytes | str) -> None:
    shown = excerpt(data)
    assert shown.isascii()
    assert len(shown) <= EXCERPT_LIMIT
    assert shown == "" or shown.isprintable()
    assert excerpt(data, 10) == shown[:10] or len(excerpt(data, 10)) == 10


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32601, aioxo.MethodNotFound),
        (0, aioxo.NotImplementedByServer),
        (1, aioxo.NotFound),
        (2, aioxo.Unauthorized),
        (5, aioxo.ForbiddenOperation),
        (10, aioxo.InvalidParameters),
        (13, aioxo.IncorrectState),
        (16, aioxo.AlreadyExists),
        (19, aioxo.ForbiddenOperation),
        (25, aioxo.IncorrectState),
        (28, aioxo.ServiceUnavailable),
        (-32000, aioxo.ApiError),
        (7, aioxo.ApiError),
        (24, aioxo.ApiError),
    ],
)
def test_codes_of_the_websocket(code: int, kind: type[aioxo.ApiError]) -> None:
    error = api_error_from_rpc(code, "what it says", {"id": "a"}, method="vm.start")
    assert type(error) is kind
    assert isinstance(error, aioxo.ApiError)
    assert (error.code, error.status, error.data) == (code, None, {"id": "a"})
    assert str(error) == "vm.start: what it says"


def test_code_3_is_about_the_credentials() -> None:
    error = api_error_from_rpc(3, "invalid credentials", None, method="session.signIn")
    assert type(error) is aioxo.AuthenticationError
    assert "check the token" in str(error)


def test_refused_parameters_are_named() -> None:
    faults = [
        {"instancePath": "", "keyword": "required", "params": {"missingProperty": "id"},
         "message": "must have required property 'id'"},
        {"instancePath": "", "keyword": "additionalProperties", "params": {"additionalProperty": "zzz"},
         "message": "must NOT have additional properties"},
        {"instancePath": "/force", "keyword": "type", "params": {"type": "boolean"}, "message": "must be boolean"},
        "not even an object",
        {},
        {"message": "the sixth is left out"},
    ]  # fmt: skip
    error = api_error_from_rpc(10, "invalid parameters", {"errors": faults}, method="vm.stop")
    assert isinstance(error, aioxo.InvalidParameters)
    assert error.data["errors"] == faults
    assert str(error) == (
        "vm.stop: invalid parameters (must have required property 'id'; must NOT have additional properties: zzz; "
        "force must be boolean; not even an object; refused)"
    )


def test_a_failure_of_the_pool_has_its_code_and_parameters() -> None:
    data = {"code": "VM_BAD_POWER_STATE", "params": ["OpaqueRef:1", "Halted", 3], "message": "x"}
    error = api_error_from_rpc(-32000, "VM_BAD_POWER_STATE(OpaqueRef:1, Halted)", data, method="vm.stop")
    assert isinstance(error, aioxo.XapiError)
    assert error.code == "VM_BAD_POWER_STATE"
    assert error.params == ("OpaqueRef:1", "Halted", "3")
    assert error.data is data


def test_the_code_of_an_upload_can_be_text() -> None:
    error = api_error_from_rpc("SR_FULL", "no room", None, method="upload")
    assert isinstance(error, aioxo.XapiError)
    assert (error.code, error.params) == ("SR_FULL", ())


@pytest.mark.parametrize(
    "data", [None, [], "text", 7, {"errors": "text"}, {"errors": []}, {"params": "x"}, {"code": 5}]
)
def test_odd_data_does_no_harm(data: Any) -> None:
    error = api_error_from_rpc(10, "no", data, method="m")
    assert type(error) is aioxo.InvalidParameters
    assert error.data == data


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, aioxo.InvalidParameters),
        (403, aioxo.Unauthorized),
        (404, aioxo.NotFound),
        (409, aioxo.IncorrectState),
        (422, aioxo.InvalidParameters),
        (431, aioxo.ApiError),
        (500, aioxo.ApiError),
        (501, aioxo.NotImplementedByServer),
        (502, aioxo.ServiceUnavailable),
        (503, aioxo.ServiceUnavailable),
        (504, aioxo.ServiceUnavailable),
    ],
)
def test_statuses(status: int, kind: type[aioxo.ApiError]) -> None:
    error = api_error_from_status(status, {"error": "what it says", "data": {"id": "a"}}, request="GET /rest/v0/vms/a")
    assert type(error) is kind
    assert (error.status, error.code, error.data) == (status, None, {"id": "a"})
    assert str(error) == "GET /rest/v0/vms/a: what it says"


def test_fields_of_a_422_are_named() -> None:
    faults = {"query.limit": {"message": "invalid integer number", "value": "x"}, "body": "missing"}
    error = api_error_from_status(422, {"error": faults}, request="GET /vms")
    assert isinstance(error, aioxo.InvalidParameters)
    assert str(error) == "GET /vms: query.limit: invalid integer number; body: missing"
    assert error.data == faults


def test_a_failure_of_the_pool_over_rest_is_only_text() -> None:
    error = api_error_from_status(500, {"error": "VM_BAD_POWER_STATE(OpaqueRef:1, halted, running)"}, request="POST /x")
    assert isinstance(error, aioxo.XapiError)
    assert (error.code, error.params) == ("VM_BAD_POWER_STATE", ("OpaqueRef:1", "halted", "running"))
    bare = api_error_from_status(500, {"error": "HOST_OFFLINE()"}, request="POST /x")
    assert isinstance(bare, aioxo.XapiError)
    assert bare.params == ()
    assert type(api_error_from_status(500, {"error": "Something (odd)"}, request="POST /x")) is aioxo.ApiError


def test_what_kind_of_conflict() -> None:
    exists = api_error_from_status(409, {"error": "x", "data": {"objectType": "user"}}, request="POST /users")
    assert type(exists) is aioxo.AlreadyExists
    blocked = api_error_from_status(403, {"error": "x", "data": {"operation": "destroy"}}, request="DELETE /x")
    assert type(blocked) is aioxo.ForbiddenOperation


@pytest.mark.parametrize("body", [{"error": "Unauthorized"}, "Unauthorized", None, ""])
def test_401_in_any_dialect(body: Any) -> None:
    error = api_error_from_status(401, body, request="GET /pools")
    assert type(error) is aioxo.AuthenticationError
    assert "check that the token is right" in str(error)


@pytest.mark.parametrize("body", ["", None, [], {}, {"message": "x"}, 0, "x" * 10_000, "\x1b[2J\n", {"error": None}])
def test_any_body_makes_a_printable_sentence(body: Any) -> None:
    error = api_error_from_status(418, body, request="GET /x")
    assert type(error) is aioxo.ApiError
    assert str(error).startswith("GET /x: ")
    assert len(str(error)) > len("GET /x: ")
    assert len(str(error)) <= EXCERPT_LIMIT + len("GET /x: ")
    assert str(error).isprintable()


def test_timeouts_are_the_builtin_one_too() -> None:
    error = aioxo.Timeout("too long", limit="read", seconds=2.0)
    assert isinstance(error, TimeoutError)
    assert isinstance(aioxo.FilterSyntaxError("x", text="a", position=0), ValueError)


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("deep", [nested(5000), {"errors": nested(5000)}, "x" * 10**6])
def test_what_a_server_sends_neither_recurses_nor_floods(deep: Any) -> None:
    for error in (
        api_error_from_rpc(-32000, deep, deep, method="vm.set"),
        api_error_from_rpc(10, "no", {"errors": [deep, {"message": deep, "instancePath": deep}]}, method="vm.set"),
        api_error_from_status(500, deep, request="GET /x"),
        api_error_from_status(422, {"error": {"name": {"message": deep}}}, request="GET /x"),
        api_error_from_status(400, {"error": deep}, request="GET /x"),
    ):
        assert len(str(error)) < 10_000


def test_only_the_pools_failures_are_xapi_errors() -> None:
    blocked = api_error_from_rpc(19, "operation blocked", {"objectId": "x", "code": "OPERATION_BLOCKED"}, method="m")
    assert type(blocked) is aioxo.ForbiddenOperation
    refused = api_error_from_rpc(-32000, "connect refused", {"code": "ECONNREFUSED"}, method="m")
    assert type(refused) is aioxo.ApiError
    failed = api_error_from_rpc(-32000, "no", {"code": "VM_REQUIRES_SR", "params": ["a", "b"]}, method="m")
    assert isinstance(failed, aioxo.XapiError)
    assert (failed.code, failed.params) == ("VM_REQUIRES_SR", ("a", "b"))
