"""The websocket: framing, sign-in, checks, methods, notifications, one-shot URLs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from aioxo.simulator import Simulator
from aioxo.simulator.rpc import framing
from aioxo.simulator.rpc.table import known_methods

from . import recorded
from .consistency import broken_links
from .picks import halted, running
from .sockets import websocket
from .wire import ask, connect, head, read_head

RPC = recorded.load("rpc")
VERSION = '{"jsonrpc":"2.0","id":"probe","method":"system.getServerVersion"}'


@pytest.mark.parametrize("session", ["before signing in", "malformed messages", "session"])
async def test_a_session_goes_as_recorded(sim: Simulator, session: str) -> None:
    """Each message gets the recorded answer, and where there was none, the next one to come is that of a probe."""
    vm = halted(sim)["id"]
    async with websocket(sim) as socket:
        for entry in RPC:
            if entry["session"] != session:
                continue
            sent = entry["send"].replace("{vm}", vm).replace("<TOKEN>", sim.token)
            if '"username"' in sent:
                sim.clock.advance(2.5)  # the recording waited for the throttle here
            await socket.send(sent)
            expected = entry["answer"]
            if expected is None:
                await socket.send(VERSION)
                assert json.loads(await socket.answer())["id"] == "probe", sent
            elif expected.startswith("BINARY"):
                assert repr(await socket.answer()) == expected.removeprefix("BINARY ")
            else:
                answer = recorded.anonymous(await socket.answer())
                assert answer == expected.replace("<TOKEN2>", "<TOKEN>"), sent


async def test_ids_come_back_as_they_were(sim: Simulator) -> None:
    async with websocket(sim) as socket:
        for request_id in ("-9007199254740991", "0", "1.5", '"é\\u2028"'):
            await socket.send(f'{{"jsonrpc":"2.0","id":{request_id},"method":"system.getVersion"}}')
            assert json.loads(await socket.answer()) == {
                "id": json.loads(request_id),
                "jsonrpc": "2.0",
                "result": "0.1",
            }


async def test_a_binary_frame_is_read_too(sim: Simulator) -> None:
    async with websocket(sim) as socket:
        await socket.socket.send_bytes(VERSION.encode())
        assert "5.207.2" in await socket.answer()


def test_an_old_request_needs_its_array() -> None:
    assert framing.parse('{"id":1,"method":"a","params":["x"]}') == framing.Request(1, "a", {"0": "x"})
    assert framing.parse('{"id":1,"method":"a","params":{}}') is None
    assert framing.parse('{"jsonrpc":"1.0","id":1,"method":"a"}') is None
    assert framing.parse('{"jsonrpc":"2.0","id":true,"method":"a"}') is None
    assert framing.parse('{"jsonrpc":"2.0","id":1,"method":"a","params":5}') is None


async def test_only_the_exact_path_is_a_websocket(sim: Simulator) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "xo",
    }
    for path in ("/api/", "/v5/api/"):
        reader, writer = await connect(sim)
        writer.write(head("GET", path, upgrade))
        answer = await read_head(reader)
        assert answer.status == 101
        assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert answer.headers["sec-websocket-protocol"] == "xo"
        assert "sec-websocket-extensions" not in answer.headers
        writer.close()
    for path in ("/api", "/api/?x=1", "/rest/v0/events"):
        reader, writer = await connect(sim)
        writer.write(head("GET", path, upgrade))
        waiting = asyncio.create_task(reader.read(1))
        for _ in range(3):
            await ask(sim, "GET", "/rest/v0/ping")
        assert not waiting.done(), path
        writer.close()
        assert await waiting == b""


# Signing in


async def test_a_failed_sign_in_leaves_the_session_as_it_was(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        assert (await socket.refusal("session.signIn", token="wrong"))["code"] == 3
        assert (await socket.call("session.getUser"))["email"] == sim.username


async def test_the_throttle_counts_by_name_over_all_connections(sim: Simulator) -> None:
    async with websocket(sim) as one, websocket(sim) as other:
        wrong = {"email": sim.username, "password": "no"}
        assert (await one.refusal("session.signIn", **wrong))["code"] == 3
        error = await other.refusal("session.signIn", email=sim.username, password=sim.password)
        assert error == {"code": -32000, "message": "unknown error from the peer"}
        assert (await other.refusal("session.signIn", email="someone else", password="x"))["code"] == 3
        sim.clock.advance(2)
        assert await other.call("session.signIn", email=sim.username, password=sim.password)


async def test_an_expired_token_ends_the_connection_at_the_next_message(sim: Simulator) -> None:
    admin = next(iter(sim.accounts.users.values()))
    token, _ = sim.accounts.create_token(admin, expires_in="1 minute")
    async with websocket(sim, token=token.id) as socket:
        sim.clock.advance(61)
        vm = running(sim)["id"]
        sim.store.update(vm, name_label="still told")
        assert (await socket.notification())["items"][vm]["name_label"] == "still told"
        await socket.send(VERSION)
        message = await socket.receive()
        # The frame has no code: this is what aiohttp makes of it, here and in the recording.
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (message.data, socket.socket.close_code) == (0, 1006)


async def test_signing_out_ends_the_notifications_and_keeps_the_connection(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        assert await socket.call("session.signOut") is True
        sim.store.update(running(sim)["id"], name_label="untold")
        sim.store.flush()
        assert (await socket.refusal("xo.getAllObjects"))["code"] == 2
        assert socket.notifications == []


async def test_deleting_a_user_closes_their_connections(sim: Simulator) -> None:
    user = sim.accounts.add_user("leaver", "secret")
    async with websocket(sim) as socket, websocket(sim, token=sim.token) as admin:
        await socket.call("session.signIn", email="leaver", password="secret")
        await admin.call("user.delete", id=user.id)
        assert await socket.answer() is aiohttp.WSMsgType.CLOSE


async def test_tokens_live_and_die(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        client = {"id": "laptop"}
        first = await socket.call("token.create", client=client, description="one", expiresIn="1 hour")
        assert await socket.call("token.create", client=client) == first
        mine = {token["id"]: token for token in await socket.call("user.getAuthenticationTokens")}
        assert "description" not in mine[first]
        assert mine[first]["client"] == client
        assert mine[first]["expiration"] - mine[first]["created_at"] >= 29 * 86_400_000
        await socket.call("token.delete", tokens=[first])
        await socket.call("token.delete", tokens=[first])  # an unknown one is no error
        assert first not in sim.accounts.tokens
        doomed = await socket.call("token.create")
        await socket.call("token.deleteOwn", pattern={"id": doomed})
        assert doomed not in sim.accounts.tokens
        error = await socket.refusal("token.create", expiresIn="3 s")
        assert error["code"] == -32000
        assert error["message"] == error["data"]["message"] == "invalid expiresIn duration: 3 s"


# Checks before a method


async def test_the_order_of_the_checks(sim: Simulator) -> None:
    sim.accounts.add_user("plain", "plain")
    vm = halted(sim)["id"]
    async with websocket(sim) as socket:
        assert (await socket.refusal("no.such"))["code"] == -32601
        assert (await socket.refusal("vm.start", nonsense=1))["code"] == 2
        assert (await socket.refusal("server.getAll"))["data"] == {"permission": "admin", "object": {}}
        await socket.call("session.signIn", email="plain", password="plain")
        assert (await socket.refusal("server.getAll"))["code"] == 2
        assert (await socket.refusal("vm.start", nonsense=1))["code"] == 10
        assert (await socket.refusal("vm.start", id="nope"))["code"] == 1
        error = await socket.refusal("vm.start", id=vm)
        assert error["code"] == 2
        assert error["data"] == {"permission": "operate", "object": {"id": vm, "type": "VM"}}
        masked = await socket.refusal("token.create", expiresIn="never")
        assert masked == {"code": -32000, "message": "unknown error from the peer"}


async def test_parameters_can_be_named_otherwise(sim: Simulator) -> None:
    vm = halted(sim)
    async with websocket(sim, token=sim.token) as socket:
        assert await socket.call("vm.set", vm=vm["id"], name_label="by namespace", **{"unheard_of?": 1}) is True
        assert sim.store.current(vm["id"])["name_label"] == "by namespace"
        assert await socket.call("vm.set", id=vm["_xapiRef"], name_label="by reference", _log=True) is True
        assert sim.store.current(vm["id"])["name_label"] == "by reference"


async def test_all_problems_are_told_at_once(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        error = await socket.refusal("vm.set", name_label="", CPUs=1.5, tags="no", high_availability="x", extra=1)
        found = [(each["instancePath"], each["keyword"], each["message"]) for each in error["data"]["errors"]]
        assert found == [
            ("", "required", "must have required property 'id'"),
            ("", "additionalProperties", "must NOT have additional properties"),
            ("", "additionalProperties", "must NOT have additional properties"),
            ("/name_label", "minLength", "must NOT have fewer than 1 characters"),
            ("/high_availability", "enum", "must be equal to one of the allowed values"),
            ("/CPUs", "type", "must be integer"),
        ]


async def test_what_a_real_server_can_and_this_one_cannot_is_told_after_the_checks(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        assert (await socket.refusal("backupNg.runJob"))["code"] == 10
        assert await socket.refusal("backupNg.runJob", id="x", schedule="y") == {
            "message": "not implemented",
            "code": 0,
        }


async def test_the_methods_are_described(sim: Simulator) -> None:
    async with websocket(sim) as socket:
        info = await socket.call("system.getMethodsInfo")
        assert len(info) == 345
        assert info["session.signIn"] == {"params": {}, "permission": None}
        assert info["vm.start"] == {
            "params": {
                "bypassMacAddressesCheck": {"type": "boolean", "optional": True},
                "force": {"type": "boolean", "optional": True},
                "host": {"type": "string", "optional": True},
                "id": {"type": "string"},
            }
        }
        assert await socket.call("system.listMethods") == list(info)
        signature = await socket.call("system.methodSignature", method="vm.start")
        assert signature == [{"name": "vm.start"} | info["vm.start"]]
        assert (await socket.refusal("system.methodSignature", method="vm.fly"))["code"] == 1
        assert list(known_methods()) == sorted(known_methods())


# Objects


async def test_all_objects(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        everything = await socket.call("xo.getAllObjects")
        assert everything == dict(sim.store.all())
        vms = await socket.call("xo.getAllObjects", filter={"type": "VM", "CPUs": {"number": 2}})
        assert vms == {key: vm for key, vm in everything.items() if vm["type"] == "VM" and vm["CPUs"]["number"] == 2}
        srs = await socket.call("xo.getAllObjects", filter="type:/^SR$/")
        assert {sr["type"] for sr in srs.values()} == {"SR"}
        assert list(await socket.call("xo.getAllObjects", limit=3)) == list(everything)[:3]
        assert await socket.call("xo.getAllObjects", limit=0) == {}
        assert (await socket.refusal("xo.getAllObjects", filter=["a"]))["code"] == 10


async def test_all_objects_line_by_line_once(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        place = await socket.call("xo.getAllObjects", filter={"type": "VM"}, ndjson=True)
    path = place["$getFrom"]
    assert len(path) == len("/api/") + 43
    answer = await ask(sim, "GET", path + "?ignored")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert [json.loads(line) for line in answer.body.splitlines()] == sim.store.of_type("VM")
    assert answer.body.endswith(b"\n")
    again = await ask(sim, "GET", path, token=sim.token)
    assert (again.status, again.headers["location"]) == (302, "/signin")


# Changing things


async def test_a_change_is_told_as_a_whole_object_enter_before_exit(sim: Simulator) -> None:
    vm, gone = running(sim), sim.store.of_type("message")[0]
    async with websocket(sim, token=sim.token) as socket:
        sim.store.remove(gone["id"])
        sim.store.update(vm["id"], name_label="a")
        sim.store.update(vm["id"], name_label="b")
        assert await socket.notification() == {"type": "enter", "items": {vm["id"]: vm | {"name_label": "b"}}}
        assert await socket.notification() == {"type": "exit", "items": {gone["id"]: 0}}


async def test_everybody_signed_in_is_told_and_nobody_else(sim: Simulator) -> None:
    sim.accounts.add_user("plain", "plain")
    async with websocket(sim) as nobody, websocket(sim) as plain, websocket(sim, token=sim.token) as admin:
        await plain.call("session.signIn", email="plain", password="plain")
        sim.store.update(running(sim)["id"], name_label="for all")
        assert await plain.notification() == await admin.notification()
        await nobody.call("system.getVersion")
        assert nobody.notifications == []


async def test_starting_and_stopping(sim: Simulator) -> None:
    vm = halted(sim)["id"]
    async with websocket(sim, token=sim.token) as socket:
        assert await socket.call("vm.start", id=vm) is True
        assert sim.store.current(vm)["power_state"] == "Running"
        error = await socket.refusal("vm.start", id=vm)
        assert error == {
            "message": "VM state is running but should be halted",
            "code": 13,
            "data": {"objectId": vm, "expected": "halted", "actual": "running"},
        }
        assert await socket.call("vm.stop", id=vm, force=True) is True
        assert sim.store.current(vm)["power_state"] == "Halted"
    assert broken_links(sim.store.all()) == []


async def test_a_running_operation_shows_as_a_task_and_on_its_object(sim: Simulator) -> None:
    vm = running(sim)["id"]
    release = sim.faults.hold("VM.clean_shutdown")
    async with websocket(sim, token=sim.token) as socket:
        stopping = asyncio.create_task(socket.socket.send_str(request("vm.stop", id=vm)))
        await stopping
        items = (await socket.notification())["items"]
        task = next(item for item in items.values() if item["type"] == "task")
        assert task["name_label"] == "Async.VM.clean_shutdown"
        assert task["status"] == "pending"
        assert items[vm]["current_operations"] == {task["id"]: "clean_shutdown"}
        release.set()
        enter, leave = await socket.notification(), await socket.notification()
        assert enter["items"][vm]["power_state"] == "Halted"
        assert enter["items"][vm]["current_operations"] == {}
        assert leave == {"type": "exit", "items": {task["id"]: 0}}
    assert broken_links(sim.store.all()) == []


def request(method: str, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": "made by hand", "method": method, "params": params})


async def test_pool_errors_over_the_socket(sim: Simulator) -> None:
    vm = running(sim)["id"]
    sim.faults.fail("VM.clean_reboot", "VM_LACKS_FEATURE", "OpaqueRef:x")
    sim.faults.fail("VM.set_name_label", "FIELD_TYPE_ERROR", "a")
    async with websocket(sim, token=sim.token) as socket:
        error = await socket.refusal("vm.restart", id=vm)
        assert error == {"message": "VM lacks feature ", "code": 14, "data": {"objectId": "OpaqueRef:x"}}
        error = await socket.refusal("vm.set", id=vm, name_label="x")
        assert (error["code"], error["message"]) == (-32000, "FIELD_TYPE_ERROR(a)")
        assert (error["data"]["code"], error["data"]["params"]) == ("FIELD_TYPE_ERROR", ["a"])
        assert error["data"]["call"]["method"] == "VM.set_name_label"


async def test_snapshots_disks_and_tags(sim: Simulator) -> None:
    vm = halted(sim)
    sr = sim.store.of_type("pool")[0]["default_SR"]
    async with websocket(sim, token=sim.token) as socket:
        snapshot = await socket.call("vm.snapshot", id=vm["id"], name="before", description="why")
        taken = sim.store.current(snapshot)
        assert (taken["type"], taken["name_label"], taken["name_description"]) == ("VM-snapshot", "before", "why")
        disk = await socket.call("disk.create", name="data", size="2 MiB", sr=sr, vm=vm["id"])
        assert sim.store.current(disk)["size"] == 2 * 2**20
        assert await socket.call("vdi.set", id=disk, name_label="renamed", size=4 * 2**20) is True
        assert sim.store.current(disk)["size"] == 4 * 2**20
        assert (await socket.refusal("vdi.set", id=disk, size=1))["code"] == 10
        await socket.call("tag.add", id=vm["id"], tag="new")
        await socket.call("tag.add", id=vm["id"], tag="new")
        assert sim.store.current(vm["id"])["tags"].count("new") == 1
        await socket.call("tag.remove", id=vm["id"], tag="new")
        assert "new" not in sim.store.current(vm["id"])["tags"]
        await socket.call("vm.revert", snapshot=snapshot)
        clone = await socket.call("vm.clone", id=vm["id"], name="twin", full_copy=False)
        assert broken_links(sim.store.all()) == []
        for key in (snapshot, clone):
            await socket.call("vm.delete", id=key)
            assert not sim.store.exists(key)
        # Reverting brought back the disks of the snapshot, and no other.
        assert not sim.store.exists(disk)
        free = await socket.call("disk.create", name="free", size=2**20, sr=sr)
        await socket.call("vdi.delete", id=free)
    assert broken_links(sim.store.all()) == []
    assert set(sim.disks) == {*sim.store.ids("VDI"), *sim.store.ids("VDI-snapshot")}


async def test_calls_run_at_the_same_time_and_outlive_their_connection(sim: Simulator) -> None:
    vm = halted(sim)["id"]
    release = sim.faults.hold("VM.start")
    async with websocket(sim, token=sim.token) as socket:
        await socket.send(request("vm.start", id=vm))
        assert await socket.call("system.getVersion") == "0.1"
    release.set()
    async with websocket(sim, token=sim.token) as socket:
        while sim.store.current(vm)["power_state"] != "Running":
            await socket.notification()


async def test_a_client_that_does_not_read_holds_up_nobody(sim: Simulator) -> None:
    vm = running(sim)["id"]
    async with websocket(sim, token=sim.token) as deaf, websocket(sim, token=sim.token) as socket:
        connection = deaf.socket._response.connection
        assert connection is not None
        transport = connection.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        for number in range(40):
            sim.store.update(vm, name_description="x" * 2**20 + str(number))
            sim.store.flush()
            told = await socket.notification()
            assert told["items"][vm]["name_description"].endswith(str(number))
        transport.resume_reading()


# Transfers that begin with a call


async def test_a_disk_and_a_vm_are_exported_by_url(sim: Simulator) -> None:
    vm = sim.store.update(halted(sim)["id"], name_label="web/1: a&b")
    vdi = sim.store.of_type("VDI")[0]
    async with websocket(sim, token=sim.token) as socket:
        disk = (await socket.call("disk.exportContent", id=vdi["id"]))["$getFrom"]
        archive = (await socket.call("vm.export", vm=vm["id"], compress=False))["$getFrom"]
    assert disk.count("/") == archive.count("/") == 3
    assert "%20-%20web%2F1%3A%20a%26b.xva" in archive
    image = await ask(sim, "GET", disk)
    assert image.status == 200
    assert image.headers["content-disposition"] == "attachment"
    assert image.body[-512:-504] == b"conectix"
    tar = await ask(sim, "GET", archive)
    assert tar.body[:7] == b"ova.xml"
    assert (await ask(sim, "HEAD", archive)).status == 302


async def test_a_vm_is_imported_by_url(sim: Simulator) -> None:
    vm, sr = halted(sim), sim.store.of_type("pool")[0]["default_SR"]
    archive = await ask(sim, "GET", f"/rest/v0/vms/{vm['id']}.xva", token=sim.token)
    async with websocket(sim, token=sim.token) as socket:
        place = (await socket.call("vm.import", sr=sr))["$sendTo"]
        broken = (await socket.call("vm.import", sr=sr))["$sendTo"]
    answer = await ask(sim, "POST", place, body=archive.body)
    assert answer.status == 200
    assert "content-type" not in answer.headers
    made = answer.json()
    assert (made["id"], made["jsonrpc"]) == (0, "2.0")
    assert sim.store.current(made["result"])["name_label"] == vm["name_label"]
    answer = await ask(sim, "POST", broken, body=b"rubbish" * 1000)
    assert answer.status == 500
    assert answer.json()["error"]["code"] == "IMPORT_ERROR"
    assert broken_links(sim.store.all()) == []


# Misbehaviour on request


async def test_faults_of_the_websocket(sim: Simulator) -> None:
    sim.faults.ws_silent_on_call = "system.getVersion"
    async with websocket(sim) as socket:
        await socket.send(request("system.getVersion"))
        assert await socket.call("system.getServerVersion")
        sim.faults.ws_close_on_call = "system.listMethods"
        await socket.send(request("system.listMethods"))
        assert await socket.answer() in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        assert socket.socket.close_code == 1006
    assert sim.websockets == 0


async def test_compression_when_it_is_on() -> None:
    async with Simulator(vms=4, deflate=True) as sim, websocket(sim, token=sim.token, compress=15) as socket:
        assert socket.socket.compress
        assert len(await socket.call("xo.getAllObjects")) == len(sim.store)


async def test_closing_codes_are_echoed(sim: Simulator) -> None:
    for code in (1000, 1001, 4000):
        async with websocket(sim) as socket:
            await socket.socket.close(code=code, message=b"bye")
            assert socket.socket.close_code == code


async def test_mistakes_of_its_own_are_answered_and_logged(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.store.put({"id": "odd", "type": "VM", "_xapiRef": "OpaqueRef:odd", "tags": None})
    async with websocket(sim, token=sim.token) as socket:
        error = await socket.refusal("tag.add", id="odd", tag="x")
        assert error == {"code": -32000, "message": "unknown error from the peer"}
    assert [record.name for record in caplog.records] == ["aioxo.simulator.rpc.socket"]


async def test_a_close_frame_without_a_code_gets_one_without(sim: Simulator) -> None:
    async with websocket(sim) as socket:
        connection = socket.socket._response.connection
        assert connection is not None
        assert isinstance(connection.transport, asyncio.Transport)
        connection.transport.write(b"\x88\x80\0\0\0\0")
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 0)
