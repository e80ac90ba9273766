"""Setting properties of VMs and VDIs, under the names the two front doors use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import XapiFailure
from aioxo.simulator.inventory.machines import LIVE_STATES
from aioxo.simulator.operations import lifecycle, storage

if TYPE_CHECKING:
    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.store import Object

#: What a VM can be told over REST, and the field of the object that shows it.
VM_FIELDS = {
    "nameLabel": "name_label",
    "nameDescription": "name_description",
    "tags": "tags",
    "notes": "notes",
    "autoPoweron": "auto_poweron",
    "blockedOperations": "blockedOperations",
    "affinityHost": "affinityHost",
    "highAvailability": "high_availability",
    "coresPerSocket": "coresPerSocket",
    "cpuCap": "cpuCap",
    "cpuMask": "cpuMask",
    "cpuWeight": "cpuWeight",
    "cpus": "CPUs",
    "cpusStaticMax": "cpusMax",
    "creation": "creation",
    "expNestedHvm": "expNestedHvm",
    "nestedVirt": "isNestedVirtEnabled",
    "hasVendorDevice": "hasVendorDevice",
    "hvmBootFirmware": "hvmBootFirmware",
    "memory": "memory",
    "memoryMax": "memoryMax",
    "memoryMin": "memoryMin",
    "memoryStaticMax": "memoryStaticMax",
    "nicType": "nicType",
    "PV_args": "PV_args",
    "resourceSet": "resourceSet",
    "secureBoot": "secureBoot",
    "startDelay": "startDelay",
    "suspendSr": "suspendSr",
    "vga": "vga",
    "videoram": "videoram",
    "viridian": "viridian",
    "virtualizationMode": "virtualizationMode",
    "xenStoreData": "xenStoreData",
    # Accepted and shown nowhere.
    "share": "",
    "uefiMode": "",
}
#: What JSON-RPC's `vm.set` calls differently from the object.
RPC_NAMES = {"nestedVirt": "isNestedVirtEnabled", "share": "", "uefiMode": ""}
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(size: float | str) -> int:
    """Return a size in bytes: a number as it is, or a text such as `2 GiB`. Raises `ValueError` for another text."""
    if not isinstance(size, str):
        return int(size)
    text = size.strip().removesuffix("iB").removesuffix("B").strip()
    unit = _UNITS.get(text[-1:].upper())
    return int(float(text) if unit is None else float(text[:-1]) * unit)


def edit_vm(hypervisor: Hypervisor, vm: Object, changes: dict[str, Any]) -> None:
    """Set fields of a VM of any kind, by the names of `VM_FIELDS`' values; None clears a field.

    Raises `XapiFailure` when the VM has to be halted for a change of memory.
    """
    store = hypervisor.store
    for name, value in changes.items():
        vm = store.current(vm["id"])
        if name == "name_label":
            hypervisor.faults.check("VM.set_name_label", vm["_xapiRef"], value)
        match name:
            case "":
                continue
            case "CPUs":
                number = int(value)
                store.update(vm["id"], CPUs={"max": max(number, vm["CPUs"]["max"]), "number": number})
            case "cpusMax":
                maximum = int(value)
                store.update(vm["id"], CPUs={"max": maximum, "number": min(maximum, vm["CPUs"]["number"])})
            case "memory" | "memoryMax" | "memoryStaticMax":
                _set_memory(hypervisor, vm, parse_size(value))
            case "memoryMin":
                least = [parse_size(value), vm["memory"]["static"][1]]
                store.update(vm["id"], memory=vm["memory"] | {"static": least})
            case "hvmBootFirmware":
                boot = {key: each for key, each in vm["boot"].items() if key != "firmware"}
                store.update(vm["id"], boot=boot if value is None else boot | {"firmware": value})
            case "blockedOperations":
                store.update(vm["id"], blockedOperations=_blocked(vm["blockedOperations"], value))
            case "xenStoreData":
                store.update(vm["id"], xenStoreData=_merged(vm["xenStoreData"], value))
            case _ if value is None:
                store.put({key: each for key, each in vm.items() if key != name})
            case _:
                store.put(_with_field(vm, name, value))


def edit_vdi(hypervisor: Hypervisor, vdi: Object, changes: dict[str, Any]) -> None:
    """Set `name_label`, `name_description` and `size` (bytes, only upwards) of a VDI or VDI-snapshot."""
    if changes.get("size") is not None:
        storage.resize(hypervisor, vdi, size=parse_size(changes["size"]))
    names = {name: changes[name] for name in ("name_label", "name_description") if name in changes}
    if names:
        hypervisor.store.update(vdi["id"], **names)


def _set_memory(hypervisor: Hypervisor, vm: Object, size: int) -> None:
    if vm["power_state"] in LIVE_STATES:
        raise XapiFailure("VM_BAD_POWER_STATE", vm["_xapiRef"], "halted", vm["power_state"].lower())
    hypervisor.store.update(vm["id"], memory=lifecycle.sized_memory(size))


def _blocked(before: dict[str, str], changes: dict[str, Any]) -> dict[str, str]:
    """Merge: false takes a block away, true blocks without and a text with a reason."""
    merged = before | {name: "true" if value is True else str(value) for name, value in changes.items()}
    return {name: reason for name, reason in merged.items() if changes.get(name, True) not in (False, None)}


def _merged(before: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    named = {f"vm-data/{name.removeprefix('vm-data/')}": value for name, value in changes.items()}
    merged: dict[str, str | None] = {**before, **named}
    return {name: value for name, value in merged.items() if value is not None}


def _with_field(vm: Object, name: str, value: Any) -> Object:
    """Return `vm` with a field set; a new one goes before the identity that ends every object."""
    if name in vm:
        return vm | {name: value}
    tail = {key: vm[key] for key in ("id", "uuid", "$pool", "$poolId", "_xapiRef")}
    return {key: each for key, each in vm.items() if key not in tail} | {name: value} | tail
