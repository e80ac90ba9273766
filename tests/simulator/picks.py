"""Objects that tests start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioxo.simulator import Simulator


def in_state(sim: Simulator, state: str) -> dict[str, Any]:
    """The first VM in a power state."""
    return next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == state)


def halted(sim: Simulator) -> dict[str, Any]:
    return in_state(sim, "Halted")


def running(sim: Simulator) -> dict[str, Any]:
    return in_state(sim, "Running")


def default_sr(sim: Simulator) -> str:
    return str(sim.store.of_type("pool")[0]["default_SR"])


def bytes_of(sim: Simulator, vdi: str) -> bytes:
    """The whole content of a disk."""
    disk = sim.disks[vdi]
    return disk.read(0, disk.size)
