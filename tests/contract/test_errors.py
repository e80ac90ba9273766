"""Refusals: the status and the body on the wire, and the class and the fields that the client makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import aioxo

from .servers import KINDS

if TYPE_CHECKING:
    from .servers import Server

JSON = {"Content-Type": "application/json"}


# Not found


@pytest.mark.parametrize("collection", KINDS)
async def test_an_unknown_object(modern: Server, collection: str) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.NotFound) as caught:
            await xo.collection(collection).get("nope")
    assert caught.value.status == 404
    assert caught.value.data == {"id": "nope", "type": KINDS[collection]}
    assert f"no such {KINDS[collection]} nope" in str(caught.value)


@pytest.mark.parametrize(
    ("collection", "kind"),
    [
        ("alarms", "message"),
        ("backup-jobs", "job"),
        ("groups", "group"),
        ("messages", "message"),
        ("schedules", "schedule"),
        ("servers", "xenServer"),
        ("tasks", "task"),
        ("users", "user"),
    ],
)
async def test_an_unknown_record(modern: Server, collection: str, kind: str) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.NotFound) as caught:
            await xo.collection(collection).get("nope")
    assert caught.value.data == {"id": "nope", "type": kind}


async def test_an_object_of_another_collection(modern: Server) -> None:
    host, template = modern.first("host")["id"], modern.first("VM-template")["id"]
    alarm = modern.first("message", name="ALARM")["id"]
    message = next(each["id"] for each in modern.of_type("message").values() if each["name"] != "ALARM")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        for collection, key, kind in (
            ("vms", host, "VM"),
            ("vms", template, "VM"),
            ("messages", alarm, "message"),
            ("alarms", message, "alarm"),
        ):
            with pytest.raises(aioxo.NotFound) as caught:
                await xo.collection(collection).get(key)
            assert caught.value.data == {"id": key, "type": kind}


async def test_an_unknown_object_in_2023_too(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.NotFound) as caught:
        await xo.vms.get("nope")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nonsense"), ("GET", "/vms/a/b/c"), ("PUT", "/vms"), ("POST", "/vms/{vm}"), ("DELETE", "/hosts/{host}")],
)
async def test_no_such_route(server: Server, xo: aioxo.Client, method: str, path: str) -> None:
    path = path.format(vm=server.first("VM")["id"], host=server.first("host")["id"])
    with pytest.raises(aioxo.MethodNotFound) as caught:
        await xo.request(method, path)
    assert caught.value.status == 404


async def test_the_page_of_no_such_route(modern: Server) -> None:
    reply = await modern.raw("GET", "/nonsense", token=modern.token)
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"Cannot GET /rest/v0/nonsense" in reply.body


async def test_an_unknown_action(xo: aioxo.Client, server: Server) -> None:
    with pytest.raises(aioxo.MethodNotFound):
        await xo.vms.action(server.first("VM")["id"], "fly")


async def test_a_path_that_cannot_be_decoded(modern: Server) -> None:
    reply = await modern.raw("GET", "/vms/%zz", token=modern.token)
    assert (reply.status, reply.json()) == (500, {"error": "Failed to decode param '%zz'"})


# States, rights, what there is already, what is not made yet


async def test_a_failure_of_the_pool(modern: Server) -> None:
    vm = modern.first("VM", power_state="Running")
    reply = await modern.raw("POST", f"/vms/{vm['id']}/actions/start?sync=true", token=modern.token)
    assert reply.status == 500
    assert reply.json() == {
        "error": f"VM_BAD_POWER_STATE({vm['_xapiRef']}, halted, running)",
        "info": "This is a XenServer/XCP-ng error, not an XO error",
    }


async def test_a_failure_of_the_pool_is_a_xapi_error(modern: Server) -> None:
    await modern.fail("VM.start", "HOST_NOT_ENOUGH_FREE_MEMORY", "17", "4")
    key = modern.first("VM", power_state="Halted")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.XapiError) as caught:
            await xo.vms.action(key, "start", sync=True)
    assert caught.value.status == 500
    assert caught.value.code == "HOST_NOT_ENOUGH_FREE_MEMORY"
    assert caught.value.params == ("17", "4")


async def test_a_failure_without_parameters(modern: Server) -> None:
    await modern.fail("SR.scan", "SR_BACKEND_FAILURE")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.XapiError) as caught:
            await xo.srs.action(modern.first("SR")["id"], "scan", sync=True)
    assert (caught.value.code, caught.value.params) == ("SR_BACKEND_FAILURE", ())


async def test_what_is_there_already(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        made = await xo.request("POST", "/groups", json={"name": "friends"})
        with pytest.raises(aioxo.AlreadyExists) as caught:
            await xo.request("POST", "/groups", json={"name": "friends"})
    assert caught.value.status == 409
    assert caught.value.data == {"objectId": made["id"], "objectType": "group"}
    assert "group already exists" in str(caught.value)


async def test_a_forbidden_operation(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        me = await xo.request("GET", "/users/me")
        with pytest.raises(aioxo.ForbiddenOperation) as caught:
            await xo.request("PATCH", f"/users/{me['id']}", json={"permission": "none"})
    assert caught.value.status == 403
    assert caught.value.data == {"operation": "update user", "reason": "cannot change own permission"}
    assert "forbidden operation: update user" in str(caught.value)


async def test_tokens_of_somebody_else(modern: Server, guest: aioxo.Client) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        owner = (await xo.request("GET", "/users/me"))["id"]
    with pytest.raises(aioxo.ForbiddenOperation) as caught:
        await guest.request("GET", f"/users/{owner}/authentication_tokens")
    operation, reason = "get authentication tokens", "can only see own authentication tokens"
    assert caught.value.data == {"operation": operation, "reason": reason}
    with pytest.raises(aioxo.ForbiddenOperation) as caught:
        await guest.request("POST", f"/users/{owner}/authentication_tokens", json={})
    operation, reason = "create authentication token", "you can only create token for yourself"
    assert caught.value.data == {"operation": operation, "reason": reason}


async def test_an_incorrect_state(modern: Server) -> None:
    host = modern.first("host")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.IncorrectState) as caught:
            await xo.hosts.action(host["id"], "forget", sync=True)
    assert caught.value.status == 409
    assert caught.value.data["object"] == host["id"]
    assert "incorrect state" in str(caught.value)


async def test_what_is_not_implemented(modern: Server) -> None:
    body = {"hostId": modern.first("host")["id"], "name_label": "x", "SR_type": "linstor", "device_config": {}}
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.NotImplementedByServer) as caught:
            await xo.request("POST", "/srs", json=body)
    assert caught.value.status == 501


async def test_watching_needs_records(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.InvalidParameters, match="watch=true requires ndjson=true") as caught:
            await xo.request("GET", "/tasks", params={"watch": True})
    assert caught.value.status == 400
