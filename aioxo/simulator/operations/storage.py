"""Disks and devices: making, growing and destroying VDIs, VBDs and VIFs with all their links and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator import inventory
from aioxo.simulator.disks import SECTOR, Disk, StoredDisk
from aioxo.simulator.failures import InvalidParameters, XapiFailure
from aioxo.simulator.inventory import edits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.store import Object

MAXIMUM_POSITION = 16


def disk_size(size: int) -> int:
    """Return the size of a disk that is to hold `size` bytes: whole sectors, at least one."""
    return max(SECTOR, -(-size // SECTOR) * SECTOR)


def create_vdi(
    hypervisor: Hypervisor,
    storage: Object,
    *,
    name_label: str,
    size: int = 0,
    name_description: str = "",
    disk: Disk | None = None,
    **fields: Any,
) -> Object:
    """Add a VDI to an SR, of `size` bytes of zeroes or with the content of `disk`, which the simulator closes.

    `fields` are further fields of the object. Raises `SR_FULL`; then `disk` is closed.
    """
    disk = StoredDisk(disk_size(size)) if disk is None else disk
    usage = disk.allocated()
    storage = hypervisor.store.current(storage["id"])
    if storage["physical_usage"] + usage > storage["size"]:
        disk.close()
        raise XapiFailure("SR_FULL", str(usage), str(storage["size"] - storage["physical_usage"]))
    vdi = inventory.make_vdi(
        hypervisor.rng,
        pool=storage["$pool"],
        sr=storage["id"],
        size=disk.size,
        usage=usage,
        name_label=name_label,
        name_description=name_description,
    )
    vdi |= fields
    hypervisor.disks[vdi["id"]] = disk
    edits.add_vdi(hypervisor.table, vdi)
    return vdi


def copy_vdi(hypervisor: Hypervisor, vdi: Object, *, storage: Object | None = None) -> Object:
    """Add a VDI with the content and the names of `vdi`, on its SR or on `storage`."""
    return create_vdi(
        hypervisor,
        storage or hypervisor.store.current(vdi["$SR"]),
        name_label=vdi["name_label"],
        name_description=vdi["name_description"],
        disk=hypervisor.disk(vdi).copy(),
        tags=vdi["tags"],
    )


def resize(hypervisor: Hypervisor, vdi: Object, *, size: int | None = None) -> None:
    """Make what VDI and SR say agree with the content of the disk, after growing it to `size` bytes when given.

    Raises `InvalidParameters` when it would shrink.
    """
    disk = hypervisor.disk(vdi)
    if size is not None and size != disk.size:
        if size < disk.size:
            raise InvalidParameters(f"cannot set new size ({size}) below the current size ({disk.size})")
        grown = _grown(disk, disk_size(size))
        disk.close()
        hypervisor.disks[vdi["id"]] = disk = grown
    edits.resize_vdi(hypervisor.table, vdi["id"], size=disk.size, usage=disk.allocated())


def _grown(disk: Disk, size: int) -> Disk:
    grown = StoredDisk(size)
    step = 2**20
    for offset, holds_data in disk.blocks(step):
        if holds_data:
            grown.write(offset, disk.read(offset, min(step, disk.size - offset)))
    return grown


def destroy_vdi(hypervisor: Hypervisor, vdi: Object) -> None:
    """Remove a VDI or VDI-snapshot; its snapshots stay. Raises `VDI_IN_USE` while a VM has it attached."""
    if any(hypervisor.store.current(key)["attached"] for key in vdi["$VBDs"]):
        raise XapiFailure("VDI_IN_USE", vdi["_xapiRef"], "destroy")
    edits.remove_vdi(hypervisor.table, vdi["id"], hypervisor.disks)


def create_vbd(hypervisor: Hypervisor, vm: Object, vdi: Object | None, **options: Any) -> Object:
    """Connect `vdi` (None: an empty drive) to `vm`; `options` are those of `make_vbd`.

    Raises `DEVICE_ALREADY_EXISTS` when the position is taken.
    """
    store = hypervisor.store
    vm = store.current(vm["id"])
    taken = {int(store.current(key)["position"]) for key in vm["$VBDs"]}
    position = options.pop("position", None)
    if position is None:
        position = next((free for free in range(MAXIMUM_POSITION) if free not in taken), MAXIMUM_POSITION)
    if position in taken or position >= MAXIMUM_POSITION:
        raise XapiFailure("DEVICE_ALREADY_EXISTS", str(position))
    vbd = inventory.make_vbd(
        hypervisor.rng,
        pool=vm["$pool"],
        vm=vm["id"],
        vdi=None if vdi is None else vdi["id"],
        position=position,
        attached=vm["type"] == "VM" and vm["power_state"] != "Halted",
        **options,
    )
    edits.add_vbd(hypervisor.table, vbd)
    return vbd


def create_network(hypervisor: Hypervisor, pool: Object, body: Mapping[str, Any], *, pif: Object | None) -> Object:
    """Add a network to a pool as the body of an action describes it, on the device and VLAN of a `pif` or internal."""
    store = hypervisor.store
    bridges = {network["bridge"] for network in store.of_type("network") if network["$pool"] == pool["id"]}
    bridge = next(name for number in range(len(bridges) + 1) if (name := f"xapi{number}") not in bridges)
    uuid = inventory.new_uuid(hypervisor.rng)
    pifs = []
    hosts = [host for host in store.of_type("host") if host["$pool"] == pool["id"]] if pif is not None else []
    for host in hosts:
        added = inventory.make_pif(
            hypervisor.rng,
            pool=pool["id"],
            host=host["id"],
            network=uuid,
            device="" if pif is None else pif["device"],
            vlan=int(body["vlan"]),
        )
        store.put(added)
        store.update(host["id"], PIFs=[*host["PIFs"], added["id"]], **{"$PIFs": [*host["$PIFs"], added["id"]]})
        pifs.append(added["id"])
    network = inventory.make_network(
        hypervisor.rng,
        pool=pool["id"],
        uuid=uuid,
        name_label=body["name"],
        bridge=bridge,
        pifs=pifs,
        vifs=[],
        mtu=int(body.get("mtu", 1500)),
    )
    network |= {"name_description": body.get("description", ""), "nbd": body.get("nbd", False)}
    store.put(network)
    return network


def remove_network(hypervisor: Hypervisor, network: Object) -> None:
    """Remove a network with its PIFs. Raises `NETWORK_CONTAINS_VIF` while interfaces are on it."""
    store = hypervisor.store
    if network["VIFs"]:
        raise XapiFailure("NETWORK_CONTAINS_VIF", *(store.current(vif)["_xapiRef"] for vif in network["VIFs"]))
    for key in network["PIFs"]:
        host = store.current(store.current(key)["$host"])
        left = [each for each in host["PIFs"] if each != key]
        store.update(host["id"], PIFs=left, **{"$PIFs": left})
        store.remove(key)
    store.remove(network["id"])


def create_vif(hypervisor: Hypervisor, vm: Object, network: Object, **options: Any) -> Object:
    """Connect `vm` to `network`; `options` are those of `make_vif`. Raises `DEVICE_ALREADY_EXISTS`."""
    store = hypervisor.store
    vm = store.current(vm["id"])
    taken = {int(store.current(key)["device"]) for key in vm["VIFs"]}
    device = options.pop("device", None)
    if device is None:
        device = next(free for free in range(len(taken) + 1) if free not in taken)
    elif device in taken:
        raise XapiFailure("DEVICE_ALREADY_EXISTS", str(device))
    vif = inventory.make_vif(
        hypervisor.rng,
        pool=vm["$pool"],
        vm=vm["id"],
        network=network["id"],
        device=device,
        attached=vm["type"] == "VM" and vm["power_state"] != "Halted",
        **options,
    )
    edits.add_vif(hypervisor.table, vif)
    return vif
