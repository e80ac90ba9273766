"""What changes without an action: tags, fields, disks that are made and deleted, users, groups and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

import aioxo

from .servers import KINDS

if TYPE_CHECKING:
    from .servers import Server

TAGGED = [
    "hosts",
    "networks",
    "pools",
    "srs",
    "vdi-snapshots",
    "vdis",
    "vm-controllers",
    "vm-snapshots",
    "vm-templates",
    "vms",
]


@pytest.mark.parametrize("collection", TAGGED)
async def test_tags(xo: aioxo.Client, server: Server, collection: str) -> None:
    item = server.first(KINDS[collection])
    view, tag = xo.collection(collection), "a tag/of ours"
    path = f"/{collection}/{item['id']}/tags/{quote(tag, safe='')}"
    for _ in range(2):
        assert await xo.request("PUT", path) is None
        assert (await view.get(item["id"]))["tags"] == [*item["tags"], tag]
    for _ in range(2):
        assert await xo.request("DELETE", path) is None
        assert (await view.get(item["id"]))["tags"] == item["tags"]


async def test_a_machine_is_renamed(modern: Server) -> None:
    key = modern.first("VM")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        assert await xo.request("PATCH", f"/vms/{key}", json={"nameLabel": "db", "nameDescription": "a base"}) is None
        vm = await xo.vms.get(key)
        assert (vm["name_label"], vm["name_description"]) == ("db", "a base")
        with pytest.raises(aioxo.InvalidParameters):
            await xo.request("PATCH", f"/vms/{key}", json={"name_label": "no"})
        assert await xo.request("PATCH", f"/vms/{key}", json={}) is None


async def test_a_machine_goes_with_its_disks(xo: aioxo.Client, server: Server) -> None:
    vm = server.first("VM", power_state="Halted")
    vbds = [server.objects[vbd] for vbd in vm["$VBDs"]]
    disks = [vbd["VDI"] for vbd in vbds if "VDI" in vbd and not vbd["is_cd_drive"]]
    await xo.vms.delete(vm["id"])
    with pytest.raises(aioxo.NotFound):
        await xo.vms.get(vm["id"])
    for disk in disks:
        with pytest.raises(aioxo.NotFound):
            await xo.vdis.get(disk)
    with pytest.raises(aioxo.NotFound):
        await xo.vms.delete(vm["id"])


async def test_a_snapshot_is_deleted(xo: aioxo.Client, server: Server) -> None:
    key = server.first("VM-snapshot")["id"]
    await xo.vm_snapshots.delete(key)
    with pytest.raises(aioxo.NotFound):
        await xo.vm_snapshots.get(key)


async def test_what_cannot_be_deleted(xo: aioxo.Client, server: Server) -> None:
    with pytest.raises(aioxo.MethodNotFound):
        await xo.hosts.delete(server.first("host")["id"])


async def test_the_life_of_a_disk(modern: Server) -> None:
    storage = modern.first("SR", SR_type="nfs")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        body = {"srId": storage, "virtual_size": 2**20, "name_label": "new", "tags": ["mine"]}
        key = (await xo.request("POST", "/vdis", json=body))["id"]
        disk = await xo.vdis.get(key)
        assert (disk["name_label"], disk["size"], disk["tags"], disk["$SR"]) == ("new", 2**20, ["mine"], storage)
        changes = {"name_label": "big", "name_description": "bigger", "size": 2**21}
        assert await xo.request("PATCH", f"/vdis/{key}", json=changes) is None
        disk = await xo.vdis.get(key)
        assert (disk["name_label"], disk["name_description"], disk["size"]) == ("big", "bigger", 2**21)
        await xo.vdis.delete(key)
        with pytest.raises(aioxo.NotFound):
            await xo.vdis.get(key)
        with pytest.raises(aioxo.NotFound):
            await xo.request("POST", "/vdis", json=body | {"srId": "nope"})


async def test_a_disk_that_is_made_says_where_it_is(modern: Server) -> None:
    storage = modern.first("SR", SR_type="nfs")["id"]
    body = f'{{"srId": "{storage}", "virtual_size": 1048576}}'.encode()
    headers = {"Content-Type": "application/json"}
    reply = await modern.raw("POST", "/vdis", token=modern.token, headers=headers, body=body)
    assert reply.status == 201
    assert reply.headers["Location"] == f"/rest/v0/vdis/{reply.json()['id']}"


# People


async def test_me(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        me = await xo.request("GET", "/users/me")
        assert await xo.users.get(me["id"]) == me
        assert await xo.request("GET", "/users/me/groups") == []
        with pytest.raises(aioxo.NotFound) as caught:
            await xo.request("GET", "/users/me", params={"fields": "id"})
        assert caught.value.data == {"id": "me", "type": "user"}
    for path, query in (("/users/me", ""), ("/users/me/groups", "?fields=id"), ("/users/me/", "")):
        reply = await modern.raw("GET", path + query, token=modern.token)
        assert reply.status == 307
        assert reply.headers["Location"] == f"/rest/v0{path.replace('me', me['id'], 1)}{query}"


async def test_users_do_not_show_their_passwords(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        users = await xo.users.list()
    assert {user["permission"] for user in users} == {"admin", "none"}
    for user in users:
        assert user["pw_hash"] == "***obfuscated***"
        assert user["email"] == user["name"]
        assert user["groups"] == []


async def test_a_token_of_ones_own(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        me = await xo.request("GET", "/users/me")
        body = {"description": "mine", "expiresIn": 3600000, "client": {"id": "contract"}}
        token = (await xo.request("POST", "/users/me/authentication_tokens", json=body))["token"]
        assert token["user_id"] == me["id"]
        assert token["description"] == "mine"
        assert token["client"] == {"id": "contract"}
        tokens = await xo.request("GET", f"/users/{me['id']}/authentication_tokens")
        assert {each["id"] for each in tokens} == {modern.token, token["id"]}
        found = await xo.request(
            "GET", f"/users/{me['id']}/authentication_tokens", params={"filter": "description:mine", "limit": 1}
        )
        assert [each["id"] for each in found] == [token["id"]]
    async with aioxo.connect(modern.url, token=token["id"]) as other:
        assert await other.vms.list(limit=1)


async def test_the_life_of_a_user(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        key = (await xo.request("POST", "/users", json={"name": "new", "password": "secret"}))["id"]
        user = await xo.users.get(key)
        assert (user["name"], user["permission"], user["groups"]) == ("new", "none", [])
        group = (await xo.request("POST", "/groups", json={"name": "friends"}))["id"]
        assert await xo.request("PUT", f"/groups/{group}/users/{key}") is None
        assert (await xo.groups.get(group))["users"] == [key]
        assert (await xo.users.get(key))["groups"] == [group]
        assert await xo.request("GET", f"/groups/{group}/users") == [f"/rest/v0/users/{key}"]
        assert await xo.request("GET", f"/users/{key}/groups") == [f"/rest/v0/groups/{group}"]
        assert await xo.request("DELETE", f"/groups/{group}/users/{key}") is None
        assert (await xo.groups.get(group))["users"] == []
        assert await xo.request("PATCH", f"/groups/{group}", json={"name": "others"}) is None
        assert (await xo.groups.get(group))["name"] == "others"
        assert await xo.request("PATCH", f"/users/{key}", json={"permission": "admin", "preferences": {}}) is None
        assert (await xo.users.get(key))["permission"] == "admin"
        await xo.groups.delete(group)
        await xo.users.delete(key)
        for view, gone in ((xo.groups, group), (xo.users, key)):
            with pytest.raises(aioxo.NotFound):
                await view.get(gone)


async def test_the_life_of_a_connection_to_a_pool(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        body = {"host": "192.0.2.77", "username": "root", "password": "secret", "label": "new"}
        key = (await xo.request("POST", "/servers", json=body))["id"]
        record = await xo.servers.get(key)
        assert (record["host"], record["label"], record["status"]) == ("192.0.2.77", "new", "disconnected")
        assert "password" not in record
        await xo.servers.delete(key)
        with pytest.raises(aioxo.NotFound):
            await xo.servers.get(key)
