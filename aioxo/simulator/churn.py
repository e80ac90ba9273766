"""Plausible life in an inventory: each step makes one change, with all that follows from it.

Most steps move a guest's memory use, as guest agents do all day. Some flip a power state, rename, or tag. XAPI tasks
come, progress, end and go; while one runs, the VM it is about names it in `current_operations`. Now and then a small VM
is created, and later deleted; only VMs that churn has created are, so that what the inventory began with stays.

A step costs the same in an inventory of any size. Random picks need a list, so the ids of each type are listed once and
again after as many picks as there were ids: objects that others add are seen, and the listing costs a constant share.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aioxo.simulator.disks import PatternDisk
from aioxo.simulator.inventory import edits
from aioxo.simulator.inventory.edits import ObjectTable
from aioxo.simulator.inventory.infrastructure import make_task
from aioxo.simulator.inventory.machines import GIB, GUESTS, LIVE_STATES, make_vbd, make_vdi, make_vif, make_vm
from aioxo.simulator.inventory.names import Object, new_uuid

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, MutableMapping

    from aioxo.simulator.disks import Disk

__all__ = ["Churn", "ObjectTable"]

MAXIMUM_TASKS = 4
MAXIMUM_CREATED = 8
MAXIMUM_STOPPED = 4
MEMORY = GIB
_TRIES = 8
_FRESH_PICKS = 64
_TAGS = ("audited", "canary", "legacy", "maintenance", "monitored", "temporary")
_OPERATIONS = {
    "Async.VM.snapshot": "snapshot",
    "Async.VM.pool_migrate": "pool_migrate",
    "Async.VM.clean_reboot": "clean_reboot",
    "Async.VM.copy": "copy",
}


def _any(_item: Object) -> bool:
    return True


class _Picker:
    """Picks random objects of one type in constant time (amortised)."""

    def __init__(self, rng: random.Random, table: ObjectTable, kind: str) -> None:
        self._rng = rng
        self._table = table
        self._kind = kind
        self._ids: list[str] = []
        self._picks_left = 0

    def pick(self, suits: Callable[[Object], bool]) -> Object | None:
        """Return a random object that suits; None when a few tries found none."""
        for _ in range(_TRIES):
            if self._picks_left <= 0:
                self._ids = list(self._table.ids(self._kind))
                self._picks_left = len(self._ids) + _FRESH_PICKS
            self._picks_left -= 1
            if not self._ids:
                return None
            item = self._table.get(self._rng.choice(self._ids))
            if item is not None and suits(item):
                return item
        return None


class Churn:
    """Changes the objects in `table`, one change per `step`; a seed and a clock decide them all.

    Args:
        rng: the source of all choices and ids.
        table: the objects; links between them must be whole.
        disks: contents by VDI id, where disks of new VMs are put and those of deleted ones closed and taken out.
        clock: returns the time in Unix seconds.
        disk_size: bytes of the disk of a new VM.
    """

    def __init__(
        self,
        rng: random.Random,
        table: ObjectTable,
        *,
        disks: MutableMapping[str, Disk] | None = None,
        clock: Callable[[], float] = time.time,
        disk_size: int = 64 * 2**20,
    ) -> None:
        self._rng = rng
        self._table = table
        self._disks: MutableMapping[str, Disk] = {} if disks is None else disks
        self._clock = clock
        self._disk_size = disk_size
        self._vms = _Picker(rng, table, "VM")
        self._pools = _Picker(rng, table, "pool")
        self._stopped: list[str] = []
        self._created: list[str] = []
        self._number = 0
        self._tasks: dict[str, str] = {}  # task id -> id of the VM it is about
        kinds: tuple[tuple[Callable[[], bool], int], ...] = (
            (self._use_memory, 70), (self._flip_power, 8), (self._rename, 5), (self._tag, 6), (self._advance_task, 8),
            (self._create_or_delete, 3),
        )  # fmt: skip
        self._kinds = [kind for kind, weight in kinds for _ in range(weight)]
        self._fallbacks = (self._use_memory, self._rename, self._create_or_delete)

    def step(self) -> None:
        """Make one change. In a table with no pool nothing can change, and nothing does."""
        if not self._rng.choice(self._kinds)():
            any(kind() for kind in self._fallbacks)

    def _use_memory(self) -> bool:
        vm = self._vms.pick(lambda vm: "usage" in vm["memory"])
        if vm is None:
            return False
        memory = vm["memory"]
        low, high = memory["size"] // 10, memory["size"] * 19 // 20
        step = int(memory["size"] * self._rng.uniform(0.001, 0.05))
        usage = memory["usage"] + self._rng.choice((-step, step))
        if not low <= usage <= high:
            usage = self._rng.randrange(low, high)
        self._table.put(vm | {"memory": memory | {"usage": usage}})
        return True

    def _flip_power(self) -> bool:
        if self._stopped and (len(self._stopped) >= MAXIMUM_STOPPED or self._rng.random() < 0.5):
            vm = self._table.get(self._stopped.pop(self._rng.randrange(len(self._stopped))))
            return vm is not None and vm["power_state"] == "Halted" and self._start(vm)
        vm = self._vms.pick(lambda vm: vm["power_state"] in LIVE_STATES and not vm["current_operations"])
        if vm is None:
            return False
        if vm["power_state"] == "Paused":
            edits.set_power_state(self._table, vm["id"], "Running")
        elif self._rng.random() < 0.03:
            edits.set_power_state(self._table, vm["id"], "Paused")
        else:
            edits.set_power_state(self._table, vm["id"], "Halted")
            self._stopped.append(vm["id"])
        return True

    def _start(self, vm: Object) -> bool:
        host = self._host_for(vm)
        if host is None:
            return False
        used = self._rng.uniform(0.2, 0.9)
        edits.set_power_state(self._table, vm["id"], "Running", host=host, now=self._clock(), used=used)
        return True

    def _host_for(self, vm: Object) -> str | None:
        """Return a host with room for `vm`: the one that has its disks when they are local, else any of its pool."""
        sr = self._table.get(self._default_sr(vm["$pool"]) or "")
        for vbd in (edits.demand(self._table, vbd_id) for vbd_id in vm["$VBDs"]):
            if not vbd["is_cd_drive"] and "VDI" in vbd:
                sr = edits.demand(self._table, edits.demand(self._table, vbd["VDI"])["$SR"])
                break
        if sr is None:
            return None
        hosts = [edits.demand(self._table, pbd_id)["host"] for pbd_id in sr["$PBDs"]]
        self._rng.shuffle(hosts)
        for host in (edits.demand(self._table, host_id) for host_id in hosts):
            room = host["memory"]["size"] - host["memory"]["usage"]
            if host["enabled"] and room >= vm["memory"]["size"]:
                return str(host["id"])
        return None

    def _default_sr(self, pool: str) -> str | None:
        default: str | None = edits.demand(self._table, pool).get("default_SR")
        return default

    def _rename(self) -> bool:
        vm = self._vms.pick(_any)
        if vm is None:
            return False
        base = vm["name_label"].partition(" (")[0]
        suffix = self._rng.choice(("", " (old)", " (new)", " (maintenance)", f" ({self._rng.randrange(100)})"))
        name = base + suffix if base + suffix != vm["name_label"] else f"{base} (renamed)"
        self._table.put(vm | {"name_label": name})
        return True

    def _tag(self) -> bool:
        vm = self._vms.pick(_any)
        if vm is None:
            return False
        tag = self._rng.choice(_TAGS)
        tags = [other for other in vm["tags"] if other != tag]
        self._table.put(vm | {"tags": tags if len(tags) < len(vm["tags"]) else [*tags, tag]})
        return True

    def _advance_task(self) -> bool:
        """Begin a task, or let one progress, end, or disappear."""
        if not self._tasks or (len(self._tasks) < MAXIMUM_TASKS and self._rng.random() < 0.3):
            return self._begin_task()
        task_id = self._rng.choice(list(self._tasks))
        task = self._table.get(task_id)
        if task is None or task["status"] != "pending":
            self._end_operation(task_id)
            del self._tasks[task_id]
            if task is not None:
                self._table.remove(task_id)
            return task is not None
        progress = task["progress"] + self._rng.uniform(0.2, 0.5)
        if progress < 1:
            self._table.put(task | {"progress": round(progress, 2)})
            return True
        ended = {"allowedOperations": [], "finished": int(self._clock()), "progress": 1, "status": "success"}
        self._table.put(task | ended)
        self._end_operation(task_id)
        return True

    def _begin_task(self) -> bool:
        vm = self._vms.pick(lambda vm: vm["power_state"] == "Running" and not vm["current_operations"])
        if vm is None:
            return False
        method = self._rng.choice(list(_OPERATIONS))
        task = make_task(self._rng, pool=vm["$pool"], name_label=method, created=self._clock(), host=vm["$container"])
        self._table.put(task)
        self._table.put(vm | {"current_operations": {task["id"]: _OPERATIONS[method]}})
        self._tasks[task["id"]] = vm["id"]
        return True

    def _end_operation(self, task_id: str) -> None:
        vm = self._table.get(self._tasks[task_id])
        if vm is not None and task_id in vm["current_operations"]:
            operations = {key: value for key, value in vm["current_operations"].items() if key != task_id}
            self._table.put(vm | {"current_operations": operations})

    def _create_or_delete(self) -> bool:
        if self._created and (len(self._created) >= MAXIMUM_CREATED or self._rng.random() < 0.5):
            vm_id = self._created.pop(self._rng.randrange(len(self._created)))
            if self._table.get(vm_id) is None:
                return False
            edits.remove_vm(self._table, vm_id, self._disks)
            return True
        return self._create()

    def _create(self) -> bool:
        """Create a halted VM with one disk on its pool's default SR and one interface where a host has its own."""
        pool = self._pools.pick(lambda pool: "default_SR" in pool)
        if pool is None:
            return False
        rng, table, pool_id, vm_id = self._rng, self._table, pool["id"], new_uuid(self._rng)
        self._number += 1
        name = f"churn-{self._number:03d}"
        vdi_id, vbd_id, vif_id = new_uuid(rng), new_uuid(rng), new_uuid(rng)
        disk = PatternDisk(self._disk_size, vdi_id)
        self._disks[vdi_id] = disk
        master = edits.demand(table, pool["master"])
        network = edits.demand(table, master["PIFs"][0])["$network"] if master["PIFs"] else None
        table.put(
            make_vm(
                rng,
                pool=pool_id,
                name_label=name,
                name_description="created by churn",
                cpus=1,
                memory=MEMORY,
                guest=rng.choice(GUESTS),
                vbds=[vbd_id],
                vifs=[vif_id] if network else [],
                tags=["churn"],
                installed=int(self._clock()),
                uuid=vm_id,
            )
        )
        usage, label = disk.allocated(), f"{name} disk 0"
        sr = pool["default_SR"]
        vdi = make_vdi(
            rng, pool=pool_id, sr=sr, size=disk.size, usage=usage, name_label=label, vbds=[vbd_id], uuid=vdi_id
        )
        edits.add_vdi(table, vdi)
        edits.add_vbd(table, make_vbd(rng, pool=pool_id, vm=vm_id, vdi=vdi_id, bootable=True, uuid=vbd_id))
        if network:
            edits.add_vif(table, make_vif(rng, pool=pool_id, vm=vm_id, network=network, uuid=vif_id))
        self._created.append(vm_id)
        return True
