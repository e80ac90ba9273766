"""Actions: what they do, and how they are answered, at once or when they are done.

An action is an async function of the call that returns what its task's `result` will be. `action_route` wraps it: it
becomes a task, and the answer is the task, or with `sync=true` the result. What is wrong with the request is told
before there is a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aioxo.simulator.failures import InvalidParameters, NoSuchObject
from aioxo.simulator.operations import lifecycle, power, storage
from aioxo.simulator.rest.answers import accepted, created, json_answer, no_content
from aioxo.simulator.rest.objects import finder
from aioxo.simulator.rest.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aioxo.simulator.rest.validation import Type
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Object

Work = Callable[[Call], Awaitable[Any]]
Check = Callable[[Call], None]


def action_route(
    path: str,
    title: str,
    work: Work,
    *,
    kind: str,
    find: Callable[[State, str], Object],
    privilege: tuple[str, str],
    body: Mapping[str, Type] | None = None,
    check: Check | None = None,
    made: str | None = None,
    located: bool = False,
    body_as: str = "args",
) -> Route:
    """Return the route of an action.

    Args:
        path: below the base.
        title: what the task is called after `REST API: `.
        work: what it does.
        kind: the type of its object, as the task says it.
        find: looks the object up.
        privilege: what a user who is no administrator would need.
        body: the JSON members it takes.
        check: raises when the request cannot be right, before there is a task.
        made: the collection of what the action makes; its result is then `{"id"}` and a sync answer is 201.
        located: whether that answer says where the new object is.
        body_as: the member of the task's `properties` that holds the body, if there was one.
    """

    async def handler(call: Call) -> web.StreamResponse:
        if check is not None:
            check(call)
        # Order as on the wire; a body that was not sent is left out, unless the action always reports it.
        properties: dict[str, Any] = {}
        if body is not None and (call.body or title == "start VM"):
            properties[body_as] = call.body
        properties |= {"objectType": kind, "name": f"REST API: {title}", "objectId": call.params["id"]}
        properties |= {"userId": call.caller.id, "type": "xo:rest-api:action"}
        task_id, running = call.state.tasks.start(properties, lambda: work(call))
        if not call.query.get("sync"):
            return await accepted(call, task_id)
        # The action outlives a client that goes away.
        result = await asyncio.shield(running)
        return await _done(call, result, made if located else None, makes=made is not None)

    return Route("POST", path, handler, find=find, privilege=privilege, query={"sync": "boolean"}, body=body or {})


async def _done(call: Call, result: Any, collection: str | None, *, makes: bool) -> web.StreamResponse:
    if call.state.dialect.text_answers:
        # Old servers answer with the bare result: an id as a JSON string, or nothing.
        if result is None:
            return web.Response(status=200)
        body = orjson.dumps(result["id"] if set(result) == {"id"} else result)
        return web.Response(status=200, body=body, headers={"Content-Type": "application/json"})
    if result is None:
        return no_content()
    return await created(call, result["id"], collection) if makes else await json_answer(call, result)


# --- VMs


def _power(action: str) -> Work:
    async def work(call: Call) -> None:
        await power.change_power(call.state.hypervisor, call.subject, action, host=call.body.get("hostId"))

    return work


def _check_host(call: Call) -> None:
    if "hostId" in call.body:
        call.state.store.find(call.body["hostId"], "host")


def new_snapshot(state: State, vm: Object, name: str | None) -> Callable[[], Object]:
    """Return the effect of taking a snapshot, under `name` or the VM's own."""
    return lambda: lifecycle.snapshot(
        state.hypervisor, state.store.current(vm["id"]), name or state.store.current(vm["id"])["name_label"]
    )


async def _snapshot(call: Call) -> dict[str, str]:
    effect = new_snapshot(call.state, call.subject, call.body.get("name_label"))
    made = await call.state.hypervisor.call("VM.snapshot", call.subject, effect, operation="snapshot")
    return {"id": made["id"]}


async def _clone(call: Call) -> dict[str, str]:
    state, vm = call.state, call.subject
    target = state.store.find(call.body["srId"], "SR") if "srId" in call.body else None
    name = call.body.get("name_label") or f"{vm['name_label']}_clone"

    def effect() -> Object:
        return lifecycle.clone(state.hypervisor, state.store.current(vm["id"]), name, target=target)

    fast = call.body.get("fast", target is None)
    operation = ("VM.clone", "clone") if fast else ("VM.copy", "copy")
    made = await state.hypervisor.call(operation[0], vm, effect, operation=operation[1])
    return {"id": made["id"]}


def _check_clone(call: Call) -> None:
    if "srId" in call.body:
        call.state.store.find(call.body["srId"], "SR")


async def _revert(call: Call) -> None:
    state, vm = call.state, call.subject
    taken = state.store.find(call.body["snapshotId"], "VM-snapshot")
    if call.body.get("snapshotBefore"):
        await state.hypervisor.call("VM.snapshot", vm, new_snapshot(state, vm, None), operation="snapshot")

    def effect() -> None:
        lifecycle.revert(state.hypervisor, state.store.current(vm["id"]), taken)

    await state.hypervisor.call("VM.revert", vm, effect, operation="revert")


def _check_revert(call: Call) -> None:
    taken = call.state.store.find(call.body["snapshotId"], "VM-snapshot")
    if taken.get("$snapshot_of") != call.subject["id"]:
        raise InvalidParameters(f"{taken['id']} is not a snapshot of {call.subject['id']}")


async def _migrate(call: Call) -> None:
    state, vm = call.state, call.subject
    host = state.store.find(call.body["hostId"], "host")

    def effect() -> None:
        lifecycle.migrate(state.hypervisor, state.store.current(vm["id"]), state.store.current(host["id"]))

    await state.hypervisor.call("VM.pool_migrate", vm, effect, operation="pool_migrate")


async def _create_vm(call: Call) -> dict[str, str]:
    state, pool = call.state, call.subject
    template = _template(call)
    made = await state.hypervisor.call(
        "VM.clone", pool, lambda: lifecycle.install(state.hypervisor, template, call.body)
    )
    return {"id": made["id"]}


async def _create_network(call: Call) -> dict[str, str]:
    state, body = call.state, call.body
    pif = state.store.find(body["pif"], "PIF") if "pif" in body else None
    made = await state.hypervisor.call(
        "network.create",
        call.subject,
        lambda: storage.create_network(state.hypervisor, state.store.current(call.subject["id"]), body, pif=pif),
    )
    return {"id": made["id"]}


def _check_pif(call: Call) -> None:
    call.state.store.find(call.body["pif"], "PIF")


def _template(call: Call) -> Object:
    """Return the template that the body names by its uuid, which is not the id of a default one."""
    wanted = call.body["template"]
    for template in call.state.store.of_type("VM-template"):
        if template["uuid"] == wanted and template["$pool"] == call.subject["id"]:
            return template
    raise NoSuchObject(wanted, "VM-template")


def _check_create_vm(call: Call) -> None:
    store = call.state.store
    _template(call)
    for vdi in call.body.get("vdis", ()):
        if vdi.get("sr"):
            store.find(vdi["sr"], "SR")
    for vif in call.body.get("vifs", ()):
        if "network" in vif:
            store.find(vif["network"], "network")


# --- everything else


def field_action(method: str, **changes: Any) -> Work:
    """Return an action that is one XAPI call and sets fields of its object."""

    async def work(call: Call) -> None:
        def effect() -> None:
            call.state.store.update(call.subject["id"], **changes)

        await call.state.hypervisor.call(method, call.subject, effect)

    return work


async def _restart_toolstack(call: Call) -> None:
    def effect() -> None:
        call.state.store.update(call.subject["id"], agentStartTime=int(call.state.clock.time()))

    await call.state.hypervisor.call("Host.restart_agent", call.subject, effect)


async def _migrate_vdi(call: Call) -> dict[str, str]:
    state, vdi = call.state, call.subject
    target = state.store.find(call.body["srId"], "SR")

    def effect() -> Object:
        made = storage.copy_vdi(state.hypervisor, state.store.current(vdi["id"]), storage=target)
        for key in state.store.current(vdi["id"])["$VBDs"]:
            state.store.update(key, VDI=made["id"])
            state.store.update(made["id"], **{"$VBDs": [*state.store.current(made["id"])["$VBDs"], key]})
        state.store.update(vdi["id"], **{"$VBDs": []})
        storage.destroy_vdi(state.hypervisor, state.store.current(vdi["id"]))
        return made

    made = await state.hypervisor.call("VDI.pool_migrate", vdi, effect, operation="migrate_send")
    return {"id": made["id"]}


def _check_target(call: Call) -> None:
    call.state.store.find(call.body["srId"], "SR")


async def _abort(call: Call) -> None:
    call.state.tasks.abort(call.params["id"])


def _plug(attached: bool, method: str, owner: str) -> Work:
    """Return the action that connects or disconnects a device; its VM must be running."""

    async def work(call: Call) -> None:
        store = call.state.store

        def effect() -> None:
            power.check_state(store.current(call.subject[owner]), ("Running",))
            store.update(call.subject["id"], attached=attached)

        await call.state.hypervisor.call(method, call.subject, effect)

    return work


_CLONE = {"name_label?": "string", "fast?": "boolean", "srId?": "string", "compress?": ("gzip", "zstd")}
_CREATE_VM: dict[str, Type] = {
    "name_label": "string",
    "template": "string",
    "name_description?": "string",
    "memory?": "number",
    "cpus?": "number",
    "autoPoweron?": "boolean",
    "boot?": "boolean",
    "clone?": "boolean",
    "secureBoot?": "boolean",
    "createVtpm?": "boolean",
    "copyHostBiosStrings?": "boolean",
    "hvmBootFirmware?": ("uefi", "bios"),
    "high_availability?": ("", "best-effort", "restart"),
    "affinity?": "string",
    "gpuGroup?": "string",
    "vgpuType?": "string",
    "cloud_config?": "string",
    "network_config?": "string",
    "destroy_cloud_config_vdi?": "boolean",
    "install?": "object",
    "vdis?": "objects",
    "vifs?": "objects",
}
_MIGRATE = {
    "hostId": "string",
    "migrationNetworkId?": "string",
    "srId?": "string",
    "srIdByVdiId?": "map",
    "networkIdByVifId?": "map",
}
_POWER = {
    "clean_reboot": ("clean reboot VM", "reboot:clean"),
    "clean_shutdown": ("clean shutdown VM", "shutdown:clean"),
    "hard_reboot": ("hard reboot VM", "reboot:hard"),
    "hard_shutdown": ("hard shutdown VM", "shutdown:hard"),
    "pause": ("pause VM", "pause"),
    "resume": ("resume VM", "resume"),
    "suspend": ("suspend VM", "suspend"),
    "unpause": ("unpause VM", "unpause"),
}


def _vm_routes() -> Iterable[Route]:
    find = finder("VM")

    def route(name: str, title: str, work: Work, action: str, **options: Any) -> Route:
        path = f"/vms/{{id}}/actions/{name}"
        return action_route(path, title, work, kind="VM", find=find, privilege=("vm", action), **options)

    yield route("start", "start VM", _power("start"), "start", body={"hostId?": "string"}, check=_check_host)
    for name, (title, action) in _POWER.items():
        yield route(name, title, _power(name), action)
    yield route(
        "snapshot", "snapshot VM", _snapshot, "snapshot", body={"name_label?": "string"}, made="vm-snapshots",
        located=True, body_as="params",
    )  # fmt: skip
    yield route(
        "clone", "clone VM", _clone, "clone", body=_CLONE, check=_check_clone, made="vms", located=True,
        body_as="params",
    )  # fmt: skip
    body: dict[str, Type] = {"snapshotId": "string", "snapshotBefore?": "boolean"}
    yield route("revert_snapshot", "revert snapshot VM", _revert, "revert-snapshot", body=body, check=_check_revert)
    yield route("migrate", "Migrate VM", _migrate, "migrate-send", body=_MIGRATE, check=_check_host)
    yield action_route(
        "/pools/{id}/actions/create_vm", "create VM", _create_vm, kind="pool", find=finder("pool"),
        privilege=("pool", "create:vm"), body=_CREATE_VM, check=_check_create_vm, made="vms", body_as="params",
    )  # fmt: skip


def _network_routes() -> Iterable[Route]:
    body: dict[str, Type] = {"name": "string", "description?": "string", "mtu?": "number", "nbd?": "boolean"}
    create = ("pool", "create:network")
    yield action_route(
        "/pools/{id}/actions/create_network", "create network", _create_network, kind="pool", find=finder("pool"),
        privilege=create, body=body | {"pif": "string", "vlan": "number"}, check=_check_pif, made="networks",
        body_as="params",
    )  # fmt: skip
    yield action_route(
        "/pools/{id}/actions/create_internal_network", "create internal network", _create_network, kind="pool",
        find=finder("pool"), privilege=create, body=body, made="networks", body_as="params",
    )  # fmt: skip


def _simple(collection: str, kind: str, name: str, title: str, work: Work, action: str | None = None) -> Route:
    return action_route(
        f"/{collection}/{{id}}/actions/{name}", title, work, kind=kind, find=finder(kind),
        privilege=(kind.lower(), action or name),
    )  # fmt: skip


def routes() -> Iterable[Route]:
    """Yield the routes of all actions that the simulator carries out."""
    yield from _vm_routes()
    yield from _network_routes()
    yield _simple("hosts", "host", "enable", "enable host", field_action("Host.enable", enabled=True))
    yield action_route(
        "/hosts/{id}/actions/disable", "disable host", field_action("Host.disable", enabled=False), kind="host",
        find=finder("host"), privilege=("host", "disable"),
        body={"autoEnable?": "boolean", "evacuate?": "boolean", "force?": "boolean", "vmIdsToForceMigrate?": "strings"},
    )  # fmt: skip
    yield action_route(
        "/hosts/{id}/actions/restart_toolstack", "restart toolstack", _restart_toolstack, kind="host",
        find=finder("host"), privilege=("host", "restart-toolstack"), body={"bypassBackupCheck?": "boolean"},
    )  # fmt: skip
    yield _simple("hosts", "host", "scan_pifs", "scan host PIFs", field_action("PIF.scan"), "scan-pifs")
    yield _simple("srs", "SR", "scan", "scan SR", field_action("SR.scan"))
    yield _simple("srs", "SR", "reclaim_space", "reclaim space SR", field_action("SR.trim"), "reclaim-space")
    yield action_route(
        "/vdis/{id}/actions/migrate", "migrate VDI", _migrate_vdi, kind="VDI", find=finder("VDI"),
        privilege=("vdi", "migrate-send"), body={"srId": "string"}, check=_check_target, body_as="params",
    )  # fmt: skip
    for name, attached in (("connect", True), ("disconnect", False)):
        for collection, kind, owner in (("vbds", "VBD", "VM"), ("vifs", "VIF", "$VM")):
            work = _plug(attached, f"{kind}.{'plug' if attached else 'unplug'}", owner)
            yield _simple(collection, kind, name, f"{name} {kind}", work)
    yield _simple("pbds", "PBD", "plug", "plug PBD", field_action("PBD.plug", attached=True))
    yield _simple("pbds", "PBD", "unplug", "unplug PBD", field_action("PBD.unplug", attached=False))
    yield action_route(
        "/tasks/{id}/actions/abort", "abort task", _abort, kind="task",
        find=lambda state, key: state.tasks.get(key), privilege=("task", "abort"),
    )  # fmt: skip
