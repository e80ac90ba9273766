"""Changing objects without an action: PATCH, DELETE, and POST on a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import InvalidParameters
from aioxo.simulator.inventory import edits
from aioxo.simulator.operations import editing, lifecycle, storage
from aioxo.simulator.rest.answers import created, deleted, no_content, text_answer
from aioxo.simulator.rest.objects import KINDS, finder
from aioxo.simulator.rest.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from aioxo.simulator.rest.validation import Type
    from aioxo.simulator.store import Object

_VM_PATCH: dict[str, Type] = {
    "affinityHost?": "string|null",
    "autoPoweron?": "boolean",
    "blockedOperations?": "object",
    "coresPerSocket?": "number|null",
    "cpuCap?": "number|null",
    "cpuMask?": "numbers",
    "cpuWeight?": "number|null",
    "cpus?": "number",
    "cpusStaticMax?": "any",
    "creation?": "object",
    "expNestedHvm?": "boolean",
    "hasVendorDevice?": "boolean",
    "highAvailability?": ("", "best-effort", "restart"),
    "hvmBootFirmware?": "string|null",
    "memory?": "any",
    "memoryMax?": "any",
    "memoryMin?": "any",
    "memoryStaticMax?": "any",
    "nameDescription?": "string",
    "nameLabel?": "string",
    "nestedVirt?": "boolean",
    "nicType?": "string|null",
    "notes?": "string|null",
    "PV_args?": "string",
    "resourceSet?": "string|null",
    "secureBoot?": "boolean",
    "share?": "boolean",
    "startDelay?": "number",
    "suspendSr?": "string|null",
    "tags?": "strings",
    "uefiMode?": ("setup", "user"),
    "vga?": ("std", "cirrus"),
    "videoram?": (1, 2, 4, 8, 16),
    "viridian?": "boolean",
    "virtualizationMode?": ("pv", "hvm"),
    "xenStoreData?": "object",
}
_VDI_PATCH: dict[str, Type] = {"name_label?": "string", "name_description?": "string", "size?": "number"}
_VIF_PATCH: dict[str, Type] = {
    "lockingMode?": ("disabled", "locked", "network_default", "unlocked"),
    "rateLimit?": "number|null",
    "txChecksumming?": "boolean",
    "allowedIpv4Addresses?": "strings",
    "allowedIpv6Addresses?": "strings",
}
_VDI_POST: dict[str, Type] = {
    "srId": "string",
    "virtual_size": "number",
    "name_label?": "string",
    "name_description?": "string",
    "type?": (
        "system", "user", "ephemeral", "suspend", "crashdump", "ha_statefile", "metadata", "redo_log", "rrd",
        "pvs_cache", "cbt_metadata",
    ),
    "tags?": "strings",
    "read_only?": "boolean",
    "sharable?": "boolean",
    "other_config?": "map",
    "xenstore_data?": "map",
    "sm_config?": "map",
}  # fmt: skip
_VBD_POST: dict[str, Type] = {
    "VM": "string",
    "VDI": "string",
    "type?": ("CD", "Disk", "Floppy"),
    "mode?": ("RO", "RW"),
    "bootable?": "boolean",
    "empty?": "boolean",
    "unpluggable?": "boolean",
    "userdevice?": "string",
    "other_config?": "map",
    "qos_algorithm_type?": "string",
    "qos_algorithm_params?": "map",
}
_VIF_POST: dict[str, Type] = {
    "vmId": "string",
    "networkId": "string",
    "MAC?": "string",
    "MTU?": "number",
    "device?": "string",
    "currently_attached?": "boolean",
    "ipv4_allowed?": "strings",
    "ipv6_allowed?": "strings",
    "locking_mode?": ("disabled", "locked", "network_default", "unlocked"),
    "qos_algorithm_type?": "string",
    "qos_algorithm_params?": "map",
    "other_config?": "map",
}
ANY_VM = ["VM", "VM-snapshot", "VM-template"]


async def _patch_vm(call: Call) -> web.StreamResponse:
    changes = {editing.VM_FIELDS[name]: value for name, value in call.body.items()}
    try:
        editing.edit_vm(call.state.hypervisor, call.subject, changes)
    except ValueError as error:
        raise InvalidParameters(str(error)) from None
    return no_content()


async def _patch_vdi(call: Call) -> web.StreamResponse:
    editing.edit_vdi(call.state.hypervisor, call.subject, call.body)
    return no_content()


async def _patch_vif(call: Call) -> web.StreamResponse:
    vif = call.subject | call.body
    call.state.store.put({name: value for name, value in vif.items() if value is not None})
    return no_content()


async def _patch_anything(call: Call) -> web.StreamResponse:
    """An old server's PATCH: the same three fields for every type."""
    call.state.store.update(call.subject["id"], **call.body)
    return await text_answer(call.request, "OK")


async def _delete_vm(call: Call) -> web.StreamResponse:
    state, key = call.state, call.subject["id"]

    def effect() -> None:
        lifecycle.destroy(state.hypervisor, state.store.current(key))

    await state.hypervisor.call("VM.destroy", call.subject, effect, operation="destroy")
    return await deleted(call)


async def _delete_vdi(call: Call) -> web.StreamResponse:
    state, key = call.state, call.subject["id"]

    def effect() -> None:
        if state.store.exists(key):
            storage.destroy_vdi(state.hypervisor, state.store.current(key))

    await state.hypervisor.call("VDI.destroy", call.subject, effect)
    return await deleted(call)


async def _delete_vbd(call: Call) -> web.StreamResponse:
    edits.remove_vbd(call.state.hypervisor.table, call.subject["id"])
    return await deleted(call)


async def _delete_vif(call: Call) -> web.StreamResponse:
    edits.remove_vif(call.state.hypervisor.table, call.subject["id"])
    return await deleted(call)


async def _delete_network(call: Call) -> web.StreamResponse:
    state, key = call.state, call.subject["id"]

    def effect() -> None:
        storage.remove_network(state.hypervisor, state.store.current(key))

    await state.hypervisor.call("network.destroy", call.subject, effect)
    return await deleted(call)


async def _create_vdi(call: Call) -> web.StreamResponse:
    state, body = call.state, call.body
    target = state.store.find(body["srId"], "SR")
    kept = {"VDI_type": body.get("type"), "tags": body.get("tags"), "other_config": body.get("other_config")}

    def effect() -> Object:
        return storage.create_vdi(
            state.hypervisor,
            target,
            name_label=body.get("name_label", ""),
            name_description=body.get("name_description", ""),
            size=int(body["virtual_size"]),
            **{name: value for name, value in kept.items() if value is not None},
        )

    made = await state.hypervisor.call("VDI.create", target, effect)
    return await created(call, made["id"], "vdis")


async def _create_vbd(call: Call) -> web.StreamResponse:
    state, body = call.state, call.body
    vm, vdi = state.store.find(body["VM"], ANY_VM), state.store.find(body["VDI"], ["VDI", "VDI-snapshot"])
    if vm["$pool"] != vdi["$pool"]:
        raise InvalidParameters("the VM and the VDI must be in the same pool")
    made = storage.create_vbd(
        state.hypervisor,
        vm,
        vdi,
        position=int(body["userdevice"]) if body.get("userdevice", "").isdigit() else None,
        bootable=body.get("bootable", False),
        is_cd_drive=body.get("type") == "CD",
        read_only=body.get("mode") == "RO",
    )
    return await created(call, made["id"], "vbds")


async def _create_vif(call: Call) -> web.StreamResponse:
    state, body = call.state, call.body
    vm, network = state.store.find(body["vmId"], ANY_VM), state.store.find(body["networkId"], "network")
    if vm["$pool"] != network["$pool"]:
        raise InvalidParameters("the VM and the network must be in the same pool")
    options: dict[str, Any] = {"mac": body.get("MAC"), "mtu": int(body.get("MTU") or network["MTU"])}
    device = int(body["device"]) if body.get("device", "").isdigit() else None
    made = storage.create_vif(state.hypervisor, vm, network, device=device, **options)
    return await created(call, made["id"], "vifs")


def routes() -> Iterable[Route]:
    """Yield the routes that change objects."""
    vm, vdi, vif, vbd = finder("VM"), finder("VDI"), finder("VIF"), finder("VBD")
    yield Route("PATCH", "/vms/{id}", _patch_vm, vm, ("vm", "update"), body=_VM_PATCH, modern=True)
    yield Route("PATCH", "/vdis/{id}", _patch_vdi, vdi, ("vdi", "update"), body=_VDI_PATCH, modern=True)
    yield Route("PATCH", "/vifs/{id}", _patch_vif, vif, ("vif", "update"), body=_VIF_PATCH, modern=True)
    yield Route("DELETE", "/vms/{id}", _delete_vm, vm, ("vm", "delete"))
    yield Route("DELETE", "/vm-snapshots/{id}", _delete_vm, finder("VM-snapshot"), ("vm-snapshot", "delete"))
    yield Route("DELETE", "/vm-templates/{id}", _delete_vm, finder("VM-template"), ("vm-template", "delete"))
    yield Route("DELETE", "/vdis/{id}", _delete_vdi, vdi, ("vdi", "delete"))
    yield Route("DELETE", "/vdi-snapshots/{id}", _delete_vdi, finder("VDI-snapshot"), ("vdi-snapshot", "delete"))
    yield Route("DELETE", "/vbds/{id}", _delete_vbd, vbd, ("vbd", "delete"), modern=True)
    yield Route("DELETE", "/vifs/{id}", _delete_vif, vif, ("vif", "delete"), modern=True)
    yield Route("DELETE", "/networks/{id}", _delete_network, finder("network"), ("network", "delete"), modern=True)
    yield Route("POST", "/vdis", _create_vdi, None, ("vdi", "create"), body=_VDI_POST, modern=True)
    yield Route("POST", "/vbds", _create_vbd, None, ("vbd", "create"), body=_VBD_POST, modern=True)
    yield Route("POST", "/vifs", _create_vif, None, ("vif", "create"), body=_VIF_POST, modern=True)


def old_routes() -> Iterable[Route]:
    """Yield the routes of an old server that modern ones have no more."""
    body: dict[str, Type] = {"name_label?": "string", "name_description?": "string", "tags?": "strings"}
    for kind in KINDS:
        path, find = f"/{kind.collection}/{{id}}", finder(kind.type)
        yield Route("PATCH", path, _patch_anything, find, body=body)
