"""Making VMs from other VMs and undoing them: snapshots, clones, new VMs from templates, reverting, destroying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator import inventory
from aioxo.simulator.failures import ForbiddenOperation, IncorrectState, XapiFailure
from aioxo.simulator.inventory import edits
from aioxo.simulator.inventory.machines import guest_of
from aioxo.simulator.operations import power, storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.store import Object


def disks_of(hypervisor: Hypervisor, vm: Object) -> Iterator[tuple[Object, Object]]:
    """Yield the VBD and the VDI of each disk of a VM of any kind, CDs left out."""
    store = hypervisor.store
    for vbd in [store.current(key) for key in vm["$VBDs"]]:
        if not vbd["is_cd_drive"] and vbd.get("VDI") is not None:
            yield vbd, store.current(vbd["VDI"])


def snapshot(hypervisor: Hypervisor, vm: Object, name_label: str) -> Object:
    """Take a snapshot of `vm` with its disks and interfaces."""
    taken = edits.take_snapshot(
        hypervisor.table,
        hypervisor.rng,
        vm["id"],
        hypervisor.disks,
        name_label=name_label,
        now=hypervisor.clock.time(),
    )
    return hypervisor.store.current(taken)


def clone(hypervisor: Hypervisor, source: Object, name_label: str, *, target: Object | None = None) -> Object:
    """Add a halted VM like `source` (a VM, snapshot or template), its disks copied, onto the SR `target` when given."""
    made = inventory.make_vm(
        hypervisor.rng,
        pool=source["$pool"],
        name_label=name_label,
        name_description=source["name_description"],
        cpus=source["CPUs"]["number"],
        memory=source["memory"]["dynamic"][1],
        guest=guest_of(source),
        tags=source["tags"],
        installed=source.get("installTime"),
    )
    hypervisor.store.put(made)
    for vbd, vdi in disks_of(hypervisor, source):
        copy = storage.copy_vdi(hypervisor, vdi, storage=target)
        storage.create_vbd(hypervisor, made, copy, **_like(vbd))
    for vif in [hypervisor.store.current(key) for key in source["VIFs"]]:
        network = hypervisor.store.current(vif["$network"])
        storage.create_vif(hypervisor, made, network, device=int(vif["device"]), mtu=vif["MTU"])
    return hypervisor.store.current(made["id"])


def install(hypervisor: Hypervisor, template: Object, body: dict[str, Any]) -> Object:
    """Add a VM from a template as the body of `create_vm` describes it; `SR` objects it names must exist."""
    store = hypervisor.store
    vm = clone(hypervisor, template, body["name_label"])
    changes: dict[str, Any] = {"other": vm["other"] | {"base_template_name": template["name_label"]}}
    if "name_description" in body:
        changes["name_description"] = body["name_description"]
    if "memory" in body:
        changes["memory"] = sized_memory(int(body["memory"]))
    if "cpus" in body:
        changes["CPUs"] = {"max": int(body["cpus"]), "number": int(body["cpus"])}
    store.update(vm["id"], **changes)
    default = store.current(store.current(vm["$pool"])["default_SR"])
    asked = body.get("vdis", [{"size": disk["size"]} for disk in template["template_info"]["disks"]])
    for number, vdi in enumerate(vdi for vdi in asked if not vdi.get("destroy")):
        made = storage.create_vdi(
            hypervisor,
            store.current(vdi["sr"]) if vdi.get("sr") else default,
            name_label=vdi.get("name_label", f"{body['name_label']}_{number}"),
            name_description=vdi.get("name_description", ""),
            size=int(vdi.get("size", 0)),
        )
        storage.create_vbd(hypervisor, vm, made, bootable=number == 0)
    for vif in body.get("vifs", ()):
        if not vif.get("destroy"):
            storage.create_vif(hypervisor, vm, store.current(vif["network"]), mac=vif.get("mac"))
    if body.get("boot"):
        power.set_state(hypervisor, store.current(vm["id"]), "Running")
    return store.current(vm["id"])


def revert(hypervisor: Hypervisor, vm: Object, taken: Object) -> None:
    """Bring `vm` back to a snapshot: its disks, names and size; it is halted then, and the snapshot stays."""
    store = hypervisor.store
    _halt(hypervisor, vm)
    vm = store.current(vm["id"])
    for _, vdi in list(disks_of(hypervisor, vm)):
        storage.destroy_vdi(hypervisor, store.current(vdi["id"]))
    for vbd, vdi in list(disks_of(hypervisor, taken)):
        storage.create_vbd(hypervisor, vm, storage.copy_vdi(hypervisor, vdi), **_like(vbd))
    kept = ("CPUs", "memory", "name_description", "tags", "boot", "other")
    # The snapshot has its own name; that of the VM is what it was.
    store.update(vm["id"], **{name: taken[name] for name in kept})


def destroy(hypervisor: Hypervisor, vm: Object, *, with_disks: bool = True, force: bool = False) -> None:
    """Remove a VM, snapshot or template with its snapshots, devices and (unless told otherwise) disks.

    A running VM is shut down first. Raises `ForbiddenOperation` when destroying is blocked, unless `force`, and
    `IncorrectState` for a default template.
    """
    store = hypervisor.store
    blocked = vm["blockedOperations"].get("destroy")
    if blocked is not None and not force:
        raise ForbiddenOperation("destroy", blocked)
    if vm.get("isDefaultTemplate"):
        raise IncorrectState(actual=True, expected=False, object_id=vm["id"], property_name="isDefaultTemplate")
    if with_disks:
        edits.remove_vm(hypervisor.table, vm["id"], hypervisor.disks)
        return
    for key in vm["snapshots"]:
        destroy(hypervisor, store.current(key), force=True)
    for key in store.current(vm["id"])["$VBDs"]:
        edits.remove_vbd(hypervisor.table, key)
    edits.remove_vm(hypervisor.table, vm["id"], hypervisor.disks)


def migrate(hypervisor: Hypervisor, vm: Object, host: Object) -> None:
    """Move a running VM to another host of its pool; `XapiFailure` when it is not running or the host is too small."""
    power.check_state(vm, ("Running",))
    if host["$pool"] != vm["$pool"]:
        raise XapiFailure("HOST_NOT_IN_POOL", host["_xapiRef"])
    if host["memory"]["size"] - host["memory"]["usage"] < vm["memory"]["size"]:
        raise XapiFailure("HOST_NOT_ENOUGH_FREE_MEMORY", str(vm["memory"]["size"]))
    edits.move_vm(hypervisor.table, vm["id"], host["id"])


def sized_memory(size: int) -> dict[str, Any]:
    """Return the `memory` of a halted VM of `size` bytes."""
    return {"dynamic": [size, size], "static": [size // 2, size], "size": size}


def _halt(hypervisor: Hypervisor, vm: Object) -> None:
    if vm["power_state"] != "Halted":
        power.set_state(hypervisor, vm, "Halted")


def _like(vbd: Object) -> dict[str, Any]:
    return {"position": int(vbd["position"]), "bootable": vbd["bootable"], "read_only": vbd["read_only"]}
