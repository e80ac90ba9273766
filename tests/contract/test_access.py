"""Who gets in and who may do what: credentials over REST, and the privileges that a request needs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

import aioxo

from .servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, KINDS

if TYPE_CHECKING:
    from .servers import Server

JSON = {"Content-Type": "application/json"}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


# Signing in


@pytest.mark.parametrize("path", ["/vms", "/ping", "/docs/swagger.json"])
async def test_a_wrong_token_is_refused_everywhere(modern: Server, path: str) -> None:
    reply = await modern.raw("GET", path, token="wrong")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="xo"'
    assert reply.json() == {"error": "invalid credentials"}


async def test_a_wrong_token_is_an_authentication_error(server: Server) -> None:
    with pytest.raises(aioxo.AuthenticationError) as caught:
        async with aioxo.connect(server.url, token="wrong"):
            pytest.fail("signed in")
    assert "wrong" not in str(caught.value)


async def test_nobody_is_refused(modern: Server) -> None:
    reply = await modern.raw("GET", "/vms")
    assert (reply.status, reply.json()) == (401, {"error": "invalid credentials"})
    assert (await modern.raw("GET", "/ping")).status == 200


async def test_a_ping(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        answer = await xo.request("GET", "/ping")
    assert answer["result"] == "pong"
    assert isinstance(answer["timestamp"], int)


async def test_a_password_works_over_rest(modern: Server) -> None:
    reply = await modern.raw("GET", "/pools", headers=basic(ADMINISTRATOR, ADMINISTRATOR_PASSWORD))
    assert reply.status == 200
    refused = await modern.raw("GET", "/pools", headers=basic(ADMINISTRATOR, "wrong"))
    assert (refused.status, refused.json()) == (401, {"error": "invalid credentials"})


async def test_the_scheme_is_not_looked_at(modern: Server) -> None:
    value = basic(ADMINISTRATOR, ADMINISTRATOR_PASSWORD)["Authorization"].removeprefix("Basic")
    assert (await modern.raw("GET", "/pools", headers={"Authorization": f"Bearer{value}"})).status == 200
    reply = await modern.raw("GET", "/pools", headers={"Authorization": f"Bearer {modern.token}"})
    assert reply.status == 401


async def test_one_way_to_sign_in_at_a_time(modern: Server) -> None:
    reply = await modern.raw("GET", "/pools", token=modern.token, headers=basic(ADMINISTRATOR, ADMINISTRATOR_PASSWORD))
    assert reply.status == 400
    assert reply.json() == {"error": "Having multiple authentication methods is not supported, please choose one"}
    reply = await modern.raw("GET", "/pools", headers={"Authorization": "nonsense"})
    assert (reply.status, reply.json()) == (400, {"error": "Malformed Authorization header"})


# Not allowed


async def test_a_guest_sees_empty_lists(modern: Server, guest: aioxo.Client) -> None:
    assert modern.of_type("VM")
    for collection in (*KINDS, "users", "tasks", "alarms", "messages", "servers"):
        assert await guest.collection(collection).list() == []


@pytest.mark.parametrize(
    ("method", "path", "resource", "action"),
    [
        ("GET", "/vms/{VM}", "vm", "read"),
        ("POST", "/vms/{VM}/actions/start", "vm", "start"),
        ("POST", "/vms/{VM}/actions/clean_shutdown", "vm", "shutdown:clean"),
        ("POST", "/vms/{VM}/actions/hard_shutdown", "vm", "shutdown:hard"),
        ("POST", "/vms/{VM}/actions/clean_reboot", "vm", "reboot:clean"),
        ("POST", "/vms/{VM}/actions/hard_reboot", "vm", "reboot:hard"),
        ("POST", "/vms/{VM}/actions/pause", "vm", "pause"),
        ("POST", "/vms/{VM}/actions/unpause", "vm", "unpause"),
        ("POST", "/vms/{VM}/actions/suspend", "vm", "suspend"),
        ("POST", "/vms/{VM}/actions/resume", "vm", "resume"),
        ("POST", "/vms/{VM}/actions/snapshot", "vm", "snapshot"),
        ("POST", "/vms/{VM}/actions/clone", "vm", "clone"),
        ("DELETE", "/vms/{VM}", "vm", "delete"),
        ("PUT", "/vms/{VM}/tags/a", "vm", "update:tags"),
        ("GET", "/vms/{VM}.xva", "vm", "export"),
        ("GET", "/vm-snapshots/{VM-snapshot}.xva", "vm-snapshot", "export"),
        ("GET", "/vdis/{VDI}.raw", "vdi", "export-content"),
        ("PUT", "/vdis/{VDI}.raw", "vdi", "import-content"),
        ("GET", "/vdi-snapshots/{VDI-snapshot}.raw", "vdi-snapshot", "export"),
        ("DELETE", "/vdis/{VDI}", "vdi", "delete"),
        ("GET", "/hosts/{host}", "host", "read"),
        ("GET", "/srs/{SR}", "sr", "read"),
        ("POST", "/srs/{SR}/vdis", "sr", "import:vdi"),
        ("POST", "/srs/{SR}/actions/scan", "sr", "scan"),
        ("DELETE", "/networks/{network}", "network", "delete"),
    ],
)
async def test_a_guest_may_do_nothing(modern: Server, method: str, path: str, resource: str, action: str) -> None:
    kind = path[path.index("{") + 1 : path.index("}")]
    key = modern.first(kind)["id"]
    reply = await modern.raw(method, path.replace(f"{{{kind}}}", key), token=modern.guest_token)
    assert reply.status == 403
    missing = {"objectId": key, "action": action, "resource": resource}
    assert reply.json() == {"error": "not enough privileges", "data": {"missingPrivileges": [missing]}}


async def test_a_guest_makes_no_network(modern: Server) -> None:
    pool = modern.first("pool")["id"]
    reply = await modern.raw("POST", f"/pools/{pool}/actions/create_internal_network", token=modern.guest_token)
    assert reply.status == 403
    assert reply.json()["data"]["missingPrivileges"] == [
        {"objectId": pool, "action": "create:network", "resource": "pool"},
        {"action": "create", "resource": "network"},
    ]


async def test_a_guest_may_ask_for_nothing(modern: Server) -> None:
    for method, path in (
        ("DELETE", "/tasks"),
        ("PATCH", f"/vms/{modern.first('VM')['id']}"),
        ("PATCH", f"/vdis/{modern.first('VDI')['id']}"),
    ):
        body = b"{}" if method == "PATCH" else None
        reply = await modern.raw(method, path, token=modern.guest_token, headers=JSON, body=body)
        assert reply.status == 204, path


async def test_what_a_guest_may_not_do_is_unauthorized(guest: aioxo.Client, modern: Server) -> None:
    with pytest.raises(aioxo.Unauthorized) as caught:
        await guest.vms.start(modern.first("VM")["id"])
    assert caught.value.status == 403
    assert caught.value.data["missingPrivileges"][0]["action"] == "start"


@pytest.mark.parametrize("path", ["/dashboard", "/restore/logs/x", "/backup/logs/x"])
async def test_what_is_for_administrators(guest: aioxo.Client, modern: Server, path: str) -> None:
    assert modern.guest_token
    with pytest.raises(aioxo.Unauthorized, match="not enough permissions") as caught:
        await guest.request("GET", path)
    assert caught.value.data == {"object": {}}


async def test_existence_is_told_before_permission(guest: aioxo.Client, modern: Server) -> None:
    assert modern.guest_token
    with pytest.raises(aioxo.NotFound):
        await guest.request("GET", "/vms/nope.qcow2")


async def test_a_guest_in_2023(server: Server) -> None:
    if server.modern:
        async with aioxo.connect(server.url, token=server.guest_token) as xo:
            assert await xo.pools.list() == []
        return
    with pytest.raises(aioxo.AuthenticationError):
        async with aioxo.connect(server.url, token=server.guest_token):
            pytest.fail("signed in")
