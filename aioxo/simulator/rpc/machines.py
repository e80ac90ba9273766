"""Methods that change objects: VMs, disks, tags, hosts, and the transfers that begin with a call."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
from aiohttp import web

from aioxo.simulator.failures import UNKNOWN, Failure, InvalidParameters, NotImplementedHere, XapiFailure
from aioxo.simulator.inventory import edits
from aioxo.simulator.operations import editing, lifecycle, power, storage
from aioxo.simulator.rest.answers import NO_CONTENT_TYPE
from aioxo.simulator.rest.images import receive_vm
from aioxo.simulator.rest.objects import retagged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioxo.simulator.rpc.table import Context, Methods
    from aioxo.simulator.store import Object


def register_machines(methods: Methods) -> None:
    """Add the methods of this module."""
    for name, function in {
        "vm.start": lambda context: _power(context, "start", host=context.params.get("host")),
        "vm.stop": _stop,
        "vm.restart": lambda context: _power(context, _forced(context, "clean_reboot", "hard_reboot")),
        "vm.suspend": lambda context: _power(context, "suspend"),
        "vm.resume": lambda context: _power(context, "resume"),
        "vm.pause": lambda context: _power(context, "pause"),
        "vm.set": _set_vm,
        "vm.snapshot": _snapshot,
        "vm.clone": _clone,
        "vm.revert": _revert,
        "vm.migrate": _migrate,
        "vm.delete": _delete_vm,
        "vm.export": _export_vm,
        "vm.import": _import_vm,
        "disk.create": _create_disk,
        "disk.exportContent": _export_disk,
        "vdi.set": lambda context: editing.edit_vdi(context.state.hypervisor, context.objects["id"], context.params),
        "vdi.delete": _delete_vdi,
        "vbd.delete": lambda context: edits.remove_vbd(context.state.hypervisor.table, context.objects["id"]["id"]),
        "vif.delete": lambda context: edits.remove_vif(context.state.hypervisor.table, context.objects["id"]["id"]),
        "tag.add": lambda context: _tag(context, present=True),
        "tag.remove": lambda context: _tag(context, present=False),
        "host.set": _rename,
        "pool.set": _rename,
        "sr.set": _rename,
        "network.set": _rename,
        "host.enable": lambda context: _call(context, "Host.enable", enabled=True),
        "host.disable": lambda context: _call(context, "Host.disable", enabled=False),
        "sr.scan": lambda context: _call(context, "SR.scan"),
        "message.delete": lambda context: context.state.store.remove(context.objects["id"]["id"]),
    }.items():
        methods.method(name)(function)


def _forced(context: Context, gentle: str, hard: str) -> str:
    return hard if context.params.get("force") else gentle


async def _power(context: Context, action: str, host: str | None = None) -> None:
    await power.change_power(context.state.hypervisor, context.objects["id"], action, host=host)


async def _stop(context: Context) -> None:
    await _power(context, _forced(context, "clean_shutdown", "hard_shutdown"))


async def _call(context: Context, method: str, **changes: Any) -> None:
    subject = context.objects["id"]

    def effect() -> None:
        context.state.store.update(subject["id"], **changes)

    await context.state.hypervisor.call(method, subject, effect)


def _set_vm(context: Context) -> None:
    changes = {name: value for name, value in context.params.items() if name != "id"}
    accepted = {editing.RPC_NAMES.get(name, name): value for name, value in changes.items()}
    try:
        editing.edit_vm(context.state.hypervisor, context.objects["id"], accepted)
    except ValueError as error:
        raise InvalidParameters(str(error)) from None


async def _snapshot(context: Context) -> str:
    state, vm, params = context.state, context.objects["id"], context.params

    def effect() -> Object:
        now = state.store.current(vm["id"])
        made = lifecycle.snapshot(state.hypervisor, now, params.get("name") or now["name_label"])
        if "description" in params:
            made = state.store.update(made["id"], name_description=params["description"])
        return made

    made = await state.hypervisor.call("VM.snapshot", vm, effect, operation="snapshot")
    return str(made["id"])


async def _clone(context: Context) -> str:
    state, vm, params = context.state, context.objects["id"], context.params

    def effect() -> Object:
        return lifecycle.clone(state.hypervisor, state.store.current(vm["id"]), params["name"])

    operation = ("VM.copy", "copy") if params["full_copy"] else ("VM.clone", "clone")
    made = await state.hypervisor.call(operation[0], vm, effect, operation=operation[1])
    return str(made["id"])


async def _revert(context: Context) -> None:
    state, taken = context.state, context.objects["snapshot"]
    vm = state.store.find(taken.get("$snapshot_of", ""), "VM")

    def effect() -> None:
        lifecycle.revert(state.hypervisor, state.store.current(vm["id"]), taken)

    await state.hypervisor.call("VM.revert", vm, effect, operation="revert")


async def _migrate(context: Context) -> None:
    state, vm, host = context.state, context.objects["vm"], context.objects["targetHost"]

    def effect() -> None:
        lifecycle.migrate(state.hypervisor, state.store.current(vm["id"]), state.store.current(host["id"]))

    await state.hypervisor.call("VM.pool_migrate", vm, effect, operation="pool_migrate")


async def _delete_vm(context: Context) -> None:
    state, vm, params = context.state, context.objects["id"], context.params

    def effect() -> None:
        lifecycle.destroy(
            state.hypervisor,
            state.store.current(vm["id"]),
            with_disks=params.get("deleteDisks", True),
            force=params.get("force", False) or params.get("forceBlockedOperation", False),
        )

    await state.hypervisor.call("VM.destroy", vm, effect, operation="destroy")


async def _create_disk(context: Context) -> str:
    state, params = context.state, context.params
    try:
        size = editing.parse_size(params["size"])
    except ValueError as error:
        raise InvalidParameters(str(error)) from None

    def effect() -> Object:
        made = storage.create_vdi(state.hypervisor, context.objects["sr"], name_label=params["name"], size=size)
        if "vm" in context.objects:
            storage.create_vbd(
                state.hypervisor,
                context.objects["vm"],
                made,
                position=int(params["position"]) if params.get("position", "").isdigit() else None,
                bootable=params.get("bootable", False),
                read_only=params.get("mode") == "RO",
            )
        return made

    made = await state.hypervisor.call("VDI.create", context.objects["sr"], effect)
    return str(made["id"])


async def _delete_vdi(context: Context) -> None:
    state, vdi = context.state, context.objects["id"]

    def effect() -> None:
        storage.destroy_vdi(state.hypervisor, state.store.current(vdi["id"]))

    await state.hypervisor.call("VDI.destroy", vdi, effect)


def _tag(context: Context, *, present: bool) -> None:
    subject = context.objects["id"]
    if "tags" not in subject:
        raise InvalidParameters(f"a {subject['type']} has no tags")
    store = context.state.store
    store.put(retagged(store.current(subject["id"]), context.params["tag"], present=present))


def _rename(context: Context) -> None:
    subject = context.objects["id"]
    changes = {name: value for name, value in context.params.items() if name in subject and name != "id"}
    context.state.store.update(subject["id"], **changes)


# --- transfers


def _handled(
    send: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a one-shot handler that answers a failure as such URLs do: 500 and two words."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await send(request)
        except Failure:
            return web.Response(status=500, text="unknown error")

    return handler


def _export_vm(context: Context) -> dict[str, str]:
    vm, params = context.objects["vm"], context.params
    if params.get("format") == "ova":
        raise NotImplementedHere
    compress = {True: "gzip", "gzip": "gzip", "zstd": "zstd"}.get(params.get("compress", False))
    exporter = context.exporter

    async def send(request: web.Request) -> web.StreamResponse:
        return await exporter.vm(request, vm, compress=compress, name=None)

    moment = dt.datetime.fromtimestamp(context.state.clock.time(), dt.UTC)
    suffix = quote(f"{moment:%Y%m%dT%H%M%SZ} - {vm['name_label']}.xva", safe="!'()*")
    return {"$getFrom": context.door.one_shot(_handled(send), f"/{suffix}")}


def _export_disk(context: Context) -> dict[str, str]:
    vdi, image_format = context.objects["id"], context.params.get("format", "vhd")
    if image_format != "vhd":
        raise NotImplementedHere
    exporter = context.exporter

    async def send(request: web.Request) -> web.StreamResponse:
        return await exporter.disk(request, vdi, image_format, name=None)

    suffix = quote(f"{vdi['name_label'] or 'unknown'}.{image_format}", safe="!'()*")
    return {"$getFrom": context.door.one_shot(_handled(send), f"/{suffix}")}


def _import_vm(context: Context) -> dict[str, str]:
    params, state, target = context.params, context.state, context.objects.get("sr")
    if params.get("type", "xva") != "xva" or "url" in params or target is None:
        raise NotImplementedHere
    if "data" in params:
        raise InvalidParameters("data is only for OVA imports")

    async def receive(request: web.Request) -> web.StreamResponse:
        try:
            made = await receive_vm(state, request, target)
        except Failure as failure:
            code = failure.xapi_code if isinstance(failure, XapiFailure) else UNKNOWN
            error = {"error": {"code": code, "message": failure.message}, "id": 0, "jsonrpc": "2.0"}
            return web.Response(status=500, body=orjson.dumps(error), headers={"Content-Type": "application/json"})
        body = orjson.dumps({"id": 0, "jsonrpc": "2.0", "result": made["id"]})
        return web.Response(body=body, headers={NO_CONTENT_TYPE: ""})

    return {"$sendTo": context.door.one_shot(receive)}
