"""The skeleton of a pool while it is being made: ids drawn, links noted, sums kept; objects come last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aioxo.simulator.inventory.machines import GIB

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from aioxo.simulator.disks import Disk
    from aioxo.simulator.inventory.names import Object

HOST_MEMORY = 1024 * GIB
CONTROLLER_MEMORY = 4 * GIB


@dataclass
class HostPlan:
    """A host to be: its ids, and what lives on it."""

    id: str
    name: str
    address: str
    controller: str
    resident: list[str] = field(default_factory=list)
    pifs: list[str] = field(default_factory=list)
    pbds: list[str] = field(default_factory=list)
    used: int = CONTROLLER_MEMORY


@dataclass
class StoragePlan:
    """An SR to be: its ids, and what lies on it. `container` is the pool of a shared one, the host of a local one."""

    id: str
    name: str
    kind: str
    container: str
    pbds: list[str] = field(default_factory=list)
    vdis: list[str] = field(default_factory=list)
    usage: int = 0
    physical_usage: int = 0


@dataclass
class NetworkPlan:
    """A network to be: its place on the hosts (`device` None: on none), and what is plugged into it."""

    id: str
    name: str
    bridge: str
    device: str | None
    vlan: int = -1
    pifs: list[str] = field(default_factory=list)
    vifs: list[str] = field(default_factory=list)


@dataclass
class PoolPlan:
    """A pool to be: its skeleton, and the objects and disks made so far (objects by type, in order)."""

    rng: random.Random
    seed: int
    id: str
    site: str
    now: int
    booted: int
    disk_size: int
    hosts: list[HostPlan]
    shared: StoragePlan
    iso: StoragePlan
    local: list[StoragePlan]
    networks: list[NetworkPlan]
    made: dict[str, list[Object]] = field(default_factory=dict)
    disks: dict[str, Disk] = field(default_factory=dict)

    def storages(self) -> Iterator[StoragePlan]:
        """All SRs of the pool, the default one first."""
        yield self.shared
        yield from self.local
        yield self.iso

    def add(self, item: Object) -> None:
        """Note an object that is complete but for links that others will append to its lists."""
        self.made.setdefault(item["type"], []).append(item)

    def add_vdi(self, storage: StoragePlan, vdi: Object, disk: Disk) -> None:
        """Note a VDI or VDI-snapshot, its content and what it takes on `storage`."""
        self.add(vdi)
        self.disks[vdi["id"]] = disk
        storage.vdis.append(vdi["id"])
        storage.usage += vdi["size"]
        storage.physical_usage += vdi["usage"]
