"""Changes to a table of objects that leave every link with both its ends, and every sum right.

Each edit replaces the objects it changes, one `put` per object, and takes time that depends on the objects it touches
and not on how many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aioxo.simulator.inventory.machines import (
    LIVE_STATES,
    make_snapshot,
    make_vbd,
    make_vdi_snapshot,
    make_vif,
    vm_in_state,
)
from aioxo.simulator.inventory.names import Object, addresses_of, new_uuid

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterable, MutableMapping

    from aioxo.simulator.disks import Disk


class ObjectTable(Protocol):
    """What holds the objects. What `get` returns is never changed in place, only replaced by `put`."""

    def get(self, object_id: str, /) -> Object | None:
        """Return the object, None when there is none of that id."""

    def ids(self, object_type: str, /) -> Collection[str]:
        """Return the ids of all objects of a type; their order decides what a seeded churn picks."""

    def put(self, item: Object, /) -> None:
        """Add the object, or replace the one of the same id."""

    def remove(self, object_id: str, /) -> None:
        """Remove the object of that id."""


def demand(table: ObjectTable, object_id: str) -> Object:
    """Return the object; `KeyError` when there is none of that id."""
    item = table.get(object_id)
    if item is None:
        raise KeyError(object_id)
    return item


def put_changed(table: ObjectTable, object_id: str, **changes: object) -> Object:
    """Replace the object by one with `changes` in its fields, in the same order, and return that."""
    item = demand(table, object_id) | changes
    table.put(item)
    return item


def _link(table: ObjectTable, owner: str | None, field: str, target: str) -> None:
    item = None if owner is None else table.get(owner)
    if item is not None and target not in item[field]:
        table.put(item | {field: [*item[field], target]})


def _unlink(table: ObjectTable, owner: str | None, field: str, targets: Collection[str]) -> None:
    item = None if owner is None else table.get(owner)
    if item is not None and not set(targets).isdisjoint(item[field]):
        table.put(item | {field: [other for other in item[field] if other not in targets]})


def add_vdi(table: ObjectTable, vdi: Object) -> None:
    """Add a VDI or VDI-snapshot, to its SR's list and sums and to the snapshots of its origin."""
    table.put(vdi)
    sr = demand(table, vdi["$SR"])
    table.put(
        sr
        | {
            "physical_usage": sr["physical_usage"] + vdi["usage"],
            "usage": sr["usage"] + vdi["size"],
            "VDIs": [*sr["VDIs"], vdi["id"]],
        }
    )
    _link(table, vdi.get("$snapshot_of"), "snapshots", vdi["id"])


def add_vbd(table: ObjectTable, vbd: Object) -> None:
    """Add a VBD, to its VM and its VDI."""
    table.put(vbd)
    _link(table, vbd["VM"], "$VBDs", vbd["id"])
    _link(table, vbd.get("VDI"), "$VBDs", vbd["id"])


def add_vif(table: ObjectTable, vif: Object) -> None:
    """Add a VIF, to its VM and its network."""
    table.put(vif)
    _link(table, vif["$VM"], "VIFs", vif["id"])
    _link(table, vif["$network"], "VIFs", vif["id"])


def resize_vdi(table: ObjectTable, vdi_id: str, *, size: int, usage: int) -> None:
    """Give a VDI or VDI-snapshot another virtual size and usage, and its SR the difference."""
    vdi = demand(table, vdi_id)
    changes = {"size": size, "usage": usage}
    if "chainPhysicalUsage" in vdi:
        changes["chainPhysicalUsage"] = usage
    table.put(vdi | changes)
    sr = demand(table, vdi["$SR"])
    used, promised = sr["physical_usage"] + usage - vdi["usage"], sr["usage"] + size - vdi["size"]
    table.put(sr | {"physical_usage": used, "usage": promised})


def remove_vbd(table: ObjectTable, vbd_id: str) -> None:
    """Remove a VBD, from its VM and its VDI too; the VDI stays."""
    vbd = demand(table, vbd_id)
    _unlink(table, vbd["VM"], "$VBDs", [vbd_id])
    _unlink(table, vbd.get("VDI"), "$VBDs", [vbd_id])
    table.remove(vbd_id)


def remove_vif(table: ObjectTable, vif_id: str) -> None:
    """Remove a VIF, from its VM and its network too."""
    vif = demand(table, vif_id)
    _unlink(table, vif["$VM"], "VIFs", [vif_id])
    _unlink(table, vif["$network"], "VIFs", [vif_id])
    table.remove(vif_id)


def remove_vdi(table: ObjectTable, vdi_id: str, disks: MutableMapping[str, Disk]) -> None:
    """Remove a VDI or VDI-snapshot with its content and its VBDs; its snapshots stay and lose their origin."""
    for vbd_id in demand(table, vdi_id)["$VBDs"]:
        remove_vbd(table, vbd_id)
    vdi = demand(table, vdi_id)
    _orphan(table, vdi["snapshots"])
    _unlink(table, vdi.get("$snapshot_of"), "snapshots", [vdi_id])
    sr = demand(table, vdi["$SR"])
    table.put(
        sr
        | {
            "physical_usage": sr["physical_usage"] - vdi["usage"],
            "usage": sr["usage"] - vdi["size"],
            "VDIs": [other for other in sr["VDIs"] if other != vdi_id],
        }
    )
    table.remove(vdi_id)
    if (disk := disks.pop(vdi_id, None)) is not None:
        disk.close()


def _orphan(table: ObjectTable, snapshots: Iterable[str]) -> None:
    for snapshot_id in snapshots:
        snapshot = demand(table, snapshot_id)
        table.put({name: value for name, value in snapshot.items() if name != "$snapshot_of"})


def remove_vm(table: ObjectTable, vm_id: str, disks: MutableMapping[str, Disk]) -> None:
    """Remove a VM, VM-snapshot or VM-template with its VIFs, its VBDs, the disks nobody else uses, and its snapshots.

    A live one is halted first. Images in its CD drives stay.
    """
    vm = demand(table, vm_id)
    if vm["power_state"] != "Halted":
        set_power_state(table, vm_id, "Halted")
    for snapshot_id in vm["snapshots"]:
        remove_vm(table, snapshot_id, disks)
    for vif_id in vm["VIFs"]:
        remove_vif(table, vif_id)
    for vbd_id in vm["$VBDs"]:
        vbd = demand(table, vbd_id)
        remove_vbd(table, vbd_id)
        vdi = None if vbd["is_cd_drive"] or "VDI" not in vbd else demand(table, vbd["VDI"])
        if vdi is not None and not vdi["$VBDs"]:
            remove_vdi(table, vdi["id"], disks)
    _unlink(table, vm.get("$snapshot_of"), "snapshots", [vm_id])
    table.remove(vm_id)


def take_snapshot(
    table: ObjectTable, rng: random.Random, vm_id: str, disks: MutableMapping[str, Disk], *, name_label: str, now: float
) -> str:
    """Take a snapshot of a VM with all its disks at `now` (Unix seconds); return the VM-snapshot's id."""
    vm = demand(table, vm_id)
    pool, snapshot_id = vm["$pool"], new_uuid(rng)
    table.put(make_snapshot(rng, vm, name_label=name_label, now=now, uuid=snapshot_id))
    _link(table, vm_id, "snapshots", snapshot_id)
    for vbd in [demand(table, vbd_id) for vbd_id in vm["$VBDs"]]:
        if vbd["is_cd_drive"] or "VDI" not in vbd:
            continue
        copy = make_vdi_snapshot(rng, demand(table, vbd["VDI"]), now=now)
        if vbd["VDI"] in disks:
            disks[copy["id"]] = disks[vbd["VDI"]].copy()
        add_vdi(table, copy)
        position = int(vbd["position"])
        add_vbd(
            table,
            make_vbd(rng, pool=pool, vm=snapshot_id, vdi=copy["id"], position=position, bootable=vbd["bootable"]),
        )
    for vif in [demand(table, vif_id) for vif_id in vm["VIFs"]]:
        device = int(vif["device"])
        add_vif(
            table,
            make_vif(rng, pool=pool, vm=snapshot_id, network=vif["$network"], device=device, mac=vif["MAC"]),
        )
    return snapshot_id


def set_power_state(
    table: ObjectTable,
    vm_id: str,
    power_state: str,
    *,
    host: str | None = None,
    now: float | None = None,
    agent: bool = True,
    used: float = 0.5,
) -> None:
    """Bring a VM into a power state, with what follows: its host's VMs and memory, its devices, its guest's fields.

    Pausing and unpausing leave the guest as it is. `host` is the id of the host it shall live on, needed when it was
    not live and is to be. `now` (Unix seconds) sets `startTime`; `agent` and `used` are `vm_in_state`'s.
    """
    vm = demand(table, vm_id)
    was_live, live = vm["power_state"] in LIVE_STATES, power_state in LIVE_STATES
    if was_live and live:
        table.put(vm | {"power_state": power_state})
        return
    if was_live:
        _leave_host(table, vm)
    container = vm["$pool"]
    if live:
        if host is None:
            raise ValueError("a VM that starts needs a host")
        container = host
    vifs = [demand(table, vif_id) for vif_id in vm["VIFs"]]
    addresses = addresses_of(vifs[0]["MAC"]) if vifs else {}
    changed = vm_in_state(vm, power_state, container=container, now=now, addresses=addresses, agent=agent, used=used)
    table.put(changed)
    if live:
        _join_host(table, changed)
    attached = power_state != "Halted"
    for device in (*(demand(table, vbd_id) for vbd_id in vm["$VBDs"]), *vifs):
        if device["attached"] != attached:
            table.put(device | {"attached": attached})


def move_vm(table: ObjectTable, vm_id: str, host: str) -> None:
    """Move a live VM to another host of its pool."""
    vm = demand(table, vm_id)
    _leave_host(table, vm)
    _join_host(table, put_changed(table, vm_id, **{"$container": host}))


def _leave_host(table: ObjectTable, vm: Object) -> None:
    host = demand(table, vm["$container"])
    memory = host["memory"] | {"usage": host["memory"]["usage"] - vm["memory"]["size"]}
    resident = [other for other in host["residentVms"] if other != vm["id"]]
    table.put(host | {"memory": memory, "residentVms": resident})


def _join_host(table: ObjectTable, vm: Object) -> None:
    host = demand(table, vm["$container"])
    memory = host["memory"] | {"usage": host["memory"]["usage"] + vm["memory"]["size"]}
    table.put(host | {"memory": memory, "residentVms": [*host["residentVms"], vm["id"]]})
