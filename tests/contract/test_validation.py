"""Requests of a wrong shape: how queries, filters and bodies are refused, and what passes for right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import aioxo

if TYPE_CHECKING:
    from .servers import Object, Server

JSON = {"Content-Type": "application/json"}


# Wrong parameters


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("limit=many", "limit", "invalid float number"),
        ("limit=", "limit", "invalid float number"),
        ("ndjson=", "ndjson", "invalid boolean value"),
        ("ndjson=1", "ndjson", "invalid boolean value"),
        ("ndjson=yes", "ndjson", "invalid boolean value"),
        ("markdown=", "markdown", "invalid boolean value"),
        ("filter=a&filter=b", "filter", "invalid string value"),
        ("fields=a&fields=b", "fields", "invalid string value"),
    ],
)
async def test_a_query_of_the_wrong_type(modern: Server, query: str, name: str, message: str) -> None:
    value: Any = [each.partition("=")[2] for each in query.split("&")]
    value = value if len(value) > 1 else value[0]
    reply = await modern.raw("GET", f"/vms?{query}", token=modern.token)
    assert reply.status == 422
    assert reply.json() == {"error": {name: {"message": message, "value": value}}, "data": {}}


@pytest.mark.parametrize("query", ["sync=true", "sync=TRUE", "sync=false", "sync=False", "unknown=1"])
async def test_booleans_of_any_case_and_unknown_parameters(modern: Server, query: str) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    reply = await modern.raw("POST", f"/vms/{key}/actions/start?{query}", token=modern.token)
    assert reply.status == (204 if query.lower() == "sync=true" else 202)


async def test_a_flag_without_a_value(modern: Server) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        for path, method, flag in (
            (f"/vms/{key}/actions/start", "POST", "sync"),
            ("/tasks", "GET", "watch"),
            ("/vms", "GET", "ndjson"),
        ):
            with pytest.raises(aioxo.InvalidParameters, match=f"{flag}: invalid boolean value") as caught:
                await xo.request(method, path, params={flag: ""})
            assert caught.value.status == 422
            assert caught.value.data == {flag: {"message": "invalid boolean value", "value": ""}}
        assert (await xo.vms.get(key))["power_state"] == "Halted"


async def test_flags_of_2023_count_when_present(server: Server, xo: aioxo.Client) -> None:
    if server.modern:
        with pytest.raises(aioxo.InvalidParameters):
            await xo.request("GET", "/vms", params={"ndjson": ""})
    else:
        assert len(await xo.request("GET", "/vms", params={"ndjson": ""})) == len(server.of_type("VM"))


async def test_two_formats_at_once(modern: Server) -> None:
    reply = await modern.raw("GET", "/vms?ndjson=true&markdown=true", token=modern.token)
    assert reply.status == 422
    text = "Cannot use both ndjson and markdown output formats simultaneously"
    assert reply.json() == {"error": text, "data": {}}


@pytest.mark.parametrize("text", ["a&b", "a | b", "()", "a:", "/a", "日本", "a*b:c"])
async def test_a_filter_that_is_none(modern: Server, text: str) -> None:
    positions = {"a&b": 1, "a | b": 2, "()": 0, "a:": 1, "/a": 0, "日本": 0, "a*b:c": 3}
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters) as caught:
            await xo.request("GET", "/vms", params={"filter": text})
    assert caught.value.status == 400
    assert f"parse error: expected end of input at position {positions[text]}" in str(caught.value)
    assert caught.value.data == {"stringToParse": text}


async def test_a_comparison_with_no_number(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters, match="value must be a number") as caught:
            await xo.request("GET", "/vms", params={"filter": "name_label:>a"})
    assert caught.value.status == 400
    assert caught.value.data == {"stringToParse": "name_label:>a"}


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("snapshot", {"speed": 1}, "body", '"speed" is an excess property and therefore is not allowed'),
        ("snapshot", {"name_label": 5}, "body.name_label", "invalid string value"),
        ("snapshot", {"name_label": []}, "body.name_label", "invalid string value"),
        ("snapshot", {"name_label": None}, "body.name_label", "invalid string value"),
        ("start", {"hostId": {}}, "body.hostId", "invalid string value"),
        ("revert_snapshot", {"snapshotId": "x", "snapshotBefore": 5}, "body.snapshotBefore", "invalid boolean value"),
    ],
)
async def test_a_body_of_the_wrong_shape(modern: Server, path: str, body: Object, field: str, message: str) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    path = f"/vms/{key}/actions/{path}?sync=true"
    reply = await modern.raw("POST", path, token=modern.token, headers=JSON, body=json.dumps(body).encode())
    assert reply.status == 422
    value = body if field == "body" else body[field.removeprefix("body.")]
    assert reply.json() == {"error": {field: {"message": message, "value": value}}, "data": {}}


async def test_a_body_that_lacks_something(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters, match="'name' is required") as caught:
            await xo.request("POST", "/groups", json={})
        assert caught.value.status == 422
        assert caught.value.data == {"body.name": {"message": "'name' is required"}}
        with pytest.raises(aioxo.InvalidParameters, match="'virtual_size' is required") as caught:
            await xo.request("POST", "/vdis", json={"srId": modern.first("SR", SR_type="nfs")["id"]})
        assert caught.value.data["body"]["value"] == {"srId": modern.first("SR", SR_type="nfs")["id"]}


async def test_query_and_body_are_told_together(modern: Server) -> None:
    path = f"/vms/{modern.first('VM')['id']}/actions/revert_snapshot?sync="
    reply = await modern.raw("POST", path, token=modern.token, headers=JSON, body=b"{}")
    assert reply.status == 422
    assert reply.json()["error"] == {
        "body.snapshotId": {"message": "'snapshotId' is required"},
        "sync": {"message": "invalid boolean value", "value": ""},
    }


async def test_an_object_that_has_no_members(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        me = await xo.request("GET", "/users/me")
        with pytest.raises(aioxo.InvalidParameters) as caught:
            await xo.request("PATCH", f"/users/{me['id']}", json={"preferences": {"a": 1}})
    message = '"a" is an excess property and therefore is not allowed'
    assert caught.value.data == {"body.preferences": {"message": message, "value": {"a": 1}}}


async def test_one_of_several_words(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters) as caught:
            await xo.request("POST", "/users", json={"name": "a", "password": "b", "permission": "some"})
    assert list(caught.value.data) == ["body.permission"]
    assert caught.value.data["body.permission"]["value"] == "some"


async def test_a_format_that_is_none(modern: Server) -> None:
    disk, vm = modern.first("VDI")["id"], modern.first("VM")["id"]
    for path in (f"/vdis/{disk}.qcow2", f"/vms/{vm}.tar"):
        reply = await modern.raw("GET", path, token=modern.token)
        assert reply.status == 422
        assert list(reply.json()["error"]) == ["format"]


async def test_numbers_and_booleans_may_be_text(modern: Server) -> None:
    storage = modern.first("SR", SR_type="nfs")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        made = await xo.request("POST", "/vdis", json={"srId": storage, "virtual_size": "1048576"})
        assert (await xo.vdis.get(made["id"]))["size"] == 1048576


async def test_what_a_handler_refuses(modern: Server) -> None:
    vm, disk = modern.first("VM", power_state="Halted"), modern.first("VDI")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters, match="does not belong to VM") as caught:
            await xo.vms.action(vm["id"], "revert_snapshot", sync=True, snapshotId="nope")
        assert caught.value.status == 422
        with pytest.raises(aioxo.InvalidParameters, match="below the current size") as caught:
            await xo.request("PATCH", f"/vdis/{disk['id']}", json={"size": 512})
        assert caught.value.status == 422


# Bodies that are no JSON


@pytest.mark.parametrize("body", [b"{", b'"text"', b"[1", b"5", b"null"], ids=repr)
async def test_json_that_is_none(modern: Server, body: bytes) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    reply = await modern.raw("POST", f"/vms/{key}/actions/start", token=modern.token, headers=JSON, body=body)
    assert reply.status == 500
    assert isinstance(reply.json()["error"], str)


async def test_json_that_is_too_long(modern: Server) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    body = b'{"hostId": "' + b"x" * 102400 + b'"}'
    reply = await modern.raw("POST", f"/vms/{key}/actions/start", token=modern.token, headers=JSON, body=body)
    assert (reply.status, reply.json()["error"]) == (500, "request entity too large")


async def test_a_body_of_another_type_is_not_looked_at(modern: Server) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    path, headers = f"/vms/{key}/actions/start?sync=true", {"Content-Type": "text/plain"}
    reply = await modern.raw("POST", path, token=modern.token, headers=headers, body=b'{"speed": 1}')
    assert reply.status == 204
