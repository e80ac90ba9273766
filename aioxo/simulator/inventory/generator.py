"""Makes a whole inventory of any size from a seed, consistent both ways.

The work goes pool by pool, so that no list in any object grows with the whole inventory. A pool holds up to
`POOL_HOSTS` hosts of about `VMS_PER_HOST` VMs. `PoolBuilder` first draws the ids of the skeleton (pool, hosts, SRs,
networks), then has `workloads` make the VMs, which note the far end of every link on the plans of the skeleton, and
makes the skeleton's objects last, when those notes are complete. Sums (an SR's usage, a host's memory) are kept the
same way.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aioxo.simulator.disks import SECTOR, Disk
from aioxo.simulator.inventory import infrastructure, machines
from aioxo.simulator.inventory.names import Object, new_uuid
from aioxo.simulator.inventory.plans import CONTROLLER_MEMORY, HOST_MEMORY, HostPlan, NetworkPlan, PoolPlan, StoragePlan
from aioxo.simulator.inventory.workloads import make_isos, make_templates, make_workload

if TYPE_CHECKING:
    from collections.abc import Iterator

VMS_PER_HOST = 40
POOL_HOSTS = 16
DAY = 86400
TIB = 2**40

_LISTING_ORDER = (
    "pool", "host", "VM-controller", "VM-template", "VM", "SR", "PBD", "VDI", "VBD", "VIF", "network", "PIF",
    "VDI-snapshot", "VM-snapshot", "SM", "message",
)  # fmt: skip
_SITES = ("paris", "london", "madrid", "vienna", "oslo", "rome", "lisbon", "dublin", "prague", "athens")


@dataclass
class Inventory:
    """Objects by id in the order a server would list them, and the content of each VDI and VDI-snapshot by its id."""

    objects: dict[str, Object]
    disks: dict[str, Disk]


def generate(*, seed: int = 0, vms: int = 50, disk_size: int = 64 * 2**20, now: float) -> Inventory:
    """Return a plausible inventory of `vms` VMs; equal arguments give equal inventories.

    Args:
        seed: what all ids, names, sizes and disk contents are drawn from.
        vms: number of objects of type VM, 0 or more.
        disk_size: bytes of the smallest disk, a multiple of 512; disks are 1, 2 or 4 times that.
        now: Unix time in seconds; everything happened before it.

    Raises:
        ValueError: `vms` is negative or `disk_size` not a positive multiple of 512.
    """
    if vms < 0:
        raise ValueError(f"the number of VMs cannot be {vms}")
    if disk_size <= 0 or disk_size % SECTOR:
        raise ValueError(f"a disk's size is a positive multiple of {SECTOR} bytes, not {disk_size}")
    # Not the bare seed: whoever seeds another source with it would draw the same ids again.
    rng = random.Random(f"aioxo inventory {seed}")
    pools = max(1, -(-vms // (VMS_PER_HOST * POOL_HOSTS)))
    with _no_collections():
        return _generate(rng, seed, vms, pools, disk_size, int(now))


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Hold the cycle collector: nothing here makes a cycle, and it would walk a million live objects over and over."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _generate(rng: random.Random, seed: int, vms: int, pools: int, disk_size: int, now: int) -> Inventory:
    inventory = Inventory({}, {})
    counters: collections.Counter[str] = collections.Counter()
    for number in range(pools):
        members = range(vms * number // pools, vms * (number + 1) // pools)
        plan = _plan_pool(rng, seed, number, len(members), disk_size, now)
        make_isos(plan)
        make_templates(plan)
        for index in members:
            make_workload(plan, index, counters)
        for item in _finish(plan):
            inventory.objects[item["id"]] = item
        inventory.disks |= plan.disks
    return inventory


def _plan_pool(rng: random.Random, seed: int, number: int, vms: int, disk_size: int, now: int) -> PoolPlan:
    round_, place = divmod(number, len(_SITES))
    site = _SITES[place] + (f"-{round_ + 1}" if round_ else "")
    pool = new_uuid(rng)
    subnet = f"10.{200 + number // 250}.{number % 250}"
    hosts = [
        HostPlan(new_uuid(rng), f"{site}-host-{index + 1}", f"{subnet}.{index + 11}", new_uuid(rng))
        for index in range(max(2, -(-vms // VMS_PER_HOST)))
    ]
    return PoolPlan(
        rng=rng,
        seed=seed,
        id=pool,
        site=site,
        now=now,
        booted=now - rng.randrange(30 * DAY, 300 * DAY),
        disk_size=disk_size,
        hosts=hosts,
        shared=StoragePlan(new_uuid(rng), f"{site} NFS", "nfs", pool),
        iso=StoragePlan(new_uuid(rng), f"{site} ISO library", "iso", pool),
        local=[
            StoragePlan(new_uuid(rng), f"Local storage of {host.name}", "lvm" if index % 2 else "ext", host.id)
            for index, host in enumerate(hosts)
        ],
        networks=[
            NetworkPlan(new_uuid(rng), "Pool-wide network associated with eth0", "xenbr0", "eth0"),
            NetworkPlan(new_uuid(rng), "Storage", "xenbr1", "eth1"),
            NetworkPlan(new_uuid(rng), "VLAN 100", "xapi0", "eth0", vlan=100),
            NetworkPlan(new_uuid(rng), "Host internal management network", "xenapi", None),
        ],
    )


def _finish(plan: PoolPlan) -> Iterator[Object]:
    """Make the skeleton from its notes and yield all objects of the pool in listing order."""
    for sm_type in ("nfs", "ext", "lvm", "iso"):
        plan.add(infrastructure.make_sm(plan.rng, pool=plan.id, sm_type=sm_type))
    for storage in plan.storages():
        _make_storage(plan, storage)
    for network in plan.networks:
        _make_network(plan, network)
    for host in plan.hosts:
        _make_host(plan, host)
    plan.add(
        infrastructure.make_pool(
            plan.rng,
            uuid=plan.id,
            name_label=f"{plan.site} pool",
            name_description=f"Simulated pool in {plan.site}",
            master=plan.hosts[0].id,
            default_sr=plan.shared.id,
            hosts=len(plan.hosts),
        )
    )
    _make_alarms(plan)
    for kind in _LISTING_ORDER:
        yield from plan.made.get(kind, ())


def _make_storage(plan: PoolPlan, storage: StoragePlan) -> None:
    where = {
        "nfs": {"server": "192.0.2.20", "serverpath": f"/export/{plan.site}/vms"},
        "iso": {"location": f"192.0.2.20:/export/{plan.site}/iso", "type": "nfs_iso"},
    }
    for host in plan.hosts:
        if storage.container not in (plan.id, host.id):
            continue
        pbd = infrastructure.make_pbd(
            plan.rng,
            pool=plan.id,
            host=host.id,
            sr=storage.id,
            device_config=where.get(storage.kind, {"device": "/dev/sda3"}),
        )
        plan.add(pbd)
        host.pbds.append(pbd["id"])
        storage.pbds.append(pbd["id"])
    plan.add(
        infrastructure.make_sr(
            plan.rng,
            pool=plan.id,
            uuid=storage.id,
            name_label=storage.name,
            sr_type=storage.kind,
            container=storage.container,
            size=TIB * (1 + 2 * storage.usage // TIB),
            usage=storage.usage,
            physical_usage=storage.physical_usage,
            vdis=storage.vdis,
            pbds=storage.pbds,
        )
    )


def _make_network(plan: PoolPlan, network: NetworkPlan) -> None:
    for host in plan.hosts if network.device else ():
        pif = infrastructure.make_pif(
            plan.rng,
            pool=plan.id,
            host=host.id,
            network=network.id,
            device=network.device or "",
            ip=host.address if network.bridge == "xenbr0" else "",
            vlan=network.vlan,
        )
        plan.add(pif)
        host.pifs.append(pif["id"])
        network.pifs.append(pif["id"])
    plan.add(
        infrastructure.make_network(
            plan.rng,
            pool=plan.id,
            uuid=network.id,
            name_label=network.name,
            bridge=network.bridge,
            pifs=network.pifs,
            vifs=network.vifs,
        )
    )


def _make_host(plan: PoolPlan, host: HostPlan) -> None:
    plan.add(
        machines.make_controller(
            plan.rng,
            pool=plan.id,
            host=host.id,
            host_name=host.name,
            memory=CONTROLLER_MEMORY,
            uuid=host.controller,
        )
    )
    plan.add(
        infrastructure.make_host(
            plan.rng,
            pool=plan.id,
            uuid=host.id,
            name_label=host.name,
            address=host.address,
            memory=HOST_MEMORY,
            used=host.used,
            booted=plan.booted,
            controller=host.controller,
            resident=[host.controller, *host.resident],
            pifs=host.pifs,
            pbds=host.pbds,
        )
    )


def _make_alarms(plan: PoolPlan) -> None:
    """One alarm about the shared SR, one about a host, and one about each fiftieth VM."""
    subjects = [("physical_utilisation", plan.shared.id, 0.8), ("mem_usage", plan.hosts[-1].id, 0.95)]
    subjects += [("cpu_usage", vm["uuid"], 0.9) for vm in plan.made.get("VM", ())[::50]]
    for metric, subject, level in subjects:
        body = infrastructure.alarm_body(metric, plan.rng.uniform(level, 1), level)
        time = plan.now - plan.rng.randrange(DAY)
        plan.add(
            infrastructure.make_message(plan.rng, pool=plan.id, name="ALARM", body=body, time=time, subject=subject)
        )
