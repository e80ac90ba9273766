"""The VMs of a generated pool, with their disks, drives, interfaces, snapshots and messages, and its templates."""

from __future__ import annotations

import hashlib
import uuid as uuids
from typing import TYPE_CHECKING

from aioxo.simulator.disks import PatternDisk
from aioxo.simulator.inventory import infrastructure, machines
from aioxo.simulator.inventory.machines import GIB, GUESTS, LIVE_STATES
from aioxo.simulator.inventory.names import Object, addresses_of, mac_of, new_uuid

if TYPE_CHECKING:
    import collections

    from aioxo.simulator.inventory.plans import PoolPlan, StoragePlan

DAY = 86400
SNAPSHOT_EVERY = 12
MESSAGE_EVERY = 10
CD_POSITION = 3

# Each value as often as its weight in percent, to be drawn with `choice`.
_ROLES = ("web",) * 30 + ("app",) * 25 + ("db",) * 15 + ("cache",) * 9 + ("mail",) * 5 + ("build",) * 9 + ("dns",) * 7
_ENVIRONMENTS = ("prod",) * 60 + ("staging",) * 20 + ("dev",) * 20
_STATES = ("Running",) * 84 + ("Halted",) * 13 + ("Paused",) * 1 + ("Suspended",) * 2
_MEMORY = (1,) * 15 + (2,) * 30 + (4,) * 30 + (8,) * 15 + (16,) * 8 + (32,) * 2
_CPUS = (1,) * 20 + (2,) * 40 + (4,) * 30 + (8,) * 10
_DISKS = (1,) * 65 + (2,) * 30 + (3,) * 5
_SIZES = (1,) * 60 + (2,) * 25 + (4,) * 15
_ISOS = ("debian-12.8.0-amd64-netinst.iso", "ubuntu-24.04.1-live-server-amd64.iso")


def make_isos(plan: PoolPlan) -> None:
    """Put the pool's ISO images into its ISO library."""
    for name in _ISOS:
        make_disk(plan, plan.iso, plan.disk_size, name)


def make_templates(plan: PoolPlan) -> None:
    """Make a default template per guest, with the same uuids in every pool, and one of the pool's own with a disk."""
    for guest in GUESTS:
        digest = hashlib.blake2b(guest.template.encode(), digest_size=16).digest()
        plan.add(
            machines.make_template(
                plan.rng,
                pool=plan.id,
                uuid=str(uuids.UUID(bytes=digest, version=4)),
                name_label=guest.template,
                default=True,
                firmware=guest.firmware,
            )
        )
    template = new_uuid(plan.rng)
    vdi = make_disk(plan, plan.shared, plan.disk_size, "golden image disk 0")
    vbd = _connect(plan, template, vdi, position=0, attached=False)
    plan.add(
        machines.make_template(
            plan.rng,
            pool=plan.id,
            uuid=template,
            name_label=f"{plan.site} golden image",
            default=False,
            firmware="uefi",
            vbds=[vbd],
        )
    )


def make_disk(plan: PoolPlan, storage: StoragePlan, size: int, name: str) -> Object:
    """Make a VDI on `storage` with a generated content of its own."""
    uuid = new_uuid(plan.rng)
    disk = PatternDisk(size, f"{plan.seed}/{uuid}")
    vdi = machines.make_vdi(
        plan.rng, pool=plan.id, sr=storage.id, size=size, usage=disk.allocated(), name_label=name, uuid=uuid
    )
    plan.add_vdi(storage, vdi, disk)
    return vdi


def _connect(plan: PoolPlan, vm: str, vdi: Object | None, *, position: int, attached: bool, cd: bool = False) -> str:
    vbd_id = new_uuid(plan.rng)
    vbd = machines.make_vbd(
        plan.rng,
        pool=plan.id,
        vm=vm,
        vdi=None if vdi is None else vdi["id"],
        position=position,
        attached=attached,
        bootable=position == 0,
        is_cd_drive=cd,
        uuid=vbd_id,
    )
    if vdi is not None:
        vdi["$VBDs"].append(vbd_id)
    plan.add(vbd)
    return vbd_id


def make_workload(plan: PoolPlan, index: int, counters: collections.Counter[str]) -> None:
    """Make VM number `index` of the inventory with all its devices; `counters` number the names of each role."""
    rng = plan.rng
    role, environment, state = rng.choice(_ROLES), rng.choice(_ENVIRONMENTS), rng.choice(_STATES)
    counters[role] += 1
    name = f"{role}-{counters[role]:03d}"
    vm_id = new_uuid(rng)
    place = index % len(plan.hosts)
    host = plan.hosts[place]
    storage = plan.local[place] if rng.random() < 0.15 else plan.shared
    attached = state != "Halted"
    disks = [
        make_disk(plan, storage, plan.disk_size * rng.choice(_SIZES), f"{name} disk {position}")
        for position in range(rng.choice(_DISKS))
    ]
    vbds = [_connect(plan, vm_id, vdi, position=position, attached=attached) for position, vdi in enumerate(disks)]
    if rng.random() < 0.25:
        image = rng.choice(plan.made["VDI"][: len(_ISOS)]) if rng.random() < 0.3 else None
        vbds.append(_connect(plan, vm_id, image, position=CD_POSITION, attached=attached, cd=True))
    mac = mac_of(rng.getrandbits(16) << 24 | (index * 0x9E3779 + 0x140A05) & 0xFFFFFF)
    vifs = [_plug(plan, vm_id, 0 if environment == "prod" else 2, device=0, attached=attached, mac=mac)]
    if role in ("db", "cache"):
        vifs.append(_plug(plan, vm_id, 1, device=1, attached=attached))
    memory = rng.choice(_MEMORY) * GIB
    installed = plan.now - rng.randrange(30 * DAY, 900 * DAY)
    vm = machines.make_vm(
        rng,
        pool=plan.id,
        name_label=name,
        name_description=f"{environment} {role} server",
        cpus=rng.choice(_CPUS),
        memory=memory,
        guest=rng.choice(GUESTS),
        vbds=vbds,
        vifs=vifs,
        tags=[environment, role] if rng.random() < 0.8 else [environment, role, "backup"],
        installed=installed,
        uuid=vm_id,
    )
    if state in LIVE_STATES:
        host.resident.append(vm_id)
        host.used += memory
    plan.add(_in_state(plan, vm, state, host.id, mac))
    vm = plan.made["VM"][-1]
    if index % SNAPSHOT_EVERY == SNAPSHOT_EVERY // 2:
        _make_snapshot(plan, vm, disks, storage, mac)
    if index % MESSAGE_EVERY == 0 and state in LIVE_STATES:
        body = f"VM '{name}' (uuid: {vm_id}) started on host: {host.name} (uuid: {host.id})"
        plan.add(
            infrastructure.make_message(
                rng, pool=plan.id, name="VM_STARTED", body=body, time=vm["startTime"], subject=vm_id
            )
        )


def _in_state(plan: PoolPlan, vm: Object, state: str, host: str, mac: str) -> Object:
    rng = plan.rng
    started = rng.randrange(plan.booted + DAY, plan.now)
    agent = rng.random() < 0.95
    return machines.vm_in_state(
        vm,
        state,
        container=host if state in LIVE_STATES else plan.id,
        now=None if state == "Halted" and rng.random() < 0.5 else started,
        addresses=addresses_of(mac),
        agent=agent,
        used=rng.uniform(0.2, 0.9),
    )


def _plug(plan: PoolPlan, vm: str, network: int, *, device: int, attached: bool, mac: str | None = None) -> str:
    target = plan.networks[network]
    vif_id = new_uuid(plan.rng)
    vif = machines.make_vif(
        plan.rng, pool=plan.id, vm=vm, network=target.id, device=device, attached=attached, mac=mac, uuid=vif_id
    )
    target.vifs.append(vif_id)
    plan.add(vif)
    return vif_id


def _make_snapshot(plan: PoolPlan, vm: Object, disks: list[Object], storage: StoragePlan, mac: str) -> None:
    """Take a snapshot of `vm` in the past: a VM-snapshot with a VDI-snapshot per disk and an interface of its own."""
    snapshot_id = new_uuid(plan.rng)
    taken = plan.now - plan.rng.randrange(1, 30 * DAY)
    vbds = []
    for position, vdi in enumerate(disks):
        copy = machines.make_vdi_snapshot(plan.rng, vdi, now=taken)
        vdi["snapshots"].append(copy["id"])
        plan.add_vdi(storage, copy, plan.disks[vdi["id"]].copy())
        vbds.append(_connect(plan, snapshot_id, copy, position=position, attached=False))
    vif = _plug(plan, snapshot_id, 0, device=0, attached=False, mac=mac)
    vm["snapshots"].append(snapshot_id)
    plan.add(
        machines.make_snapshot(
            plan.rng,
            vm,
            name_label=f"{vm['name_label']} before upgrade",
            now=taken,
            vbds=vbds,
            vifs=[vif],
            uuid=snapshot_id,
        )
    )
