"""Power states of VMs: which action leads from where to where, and what else changes with the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import XapiFailure
from aioxo.simulator.inventory import edits
from aioxo.simulator.inventory.machines import LIVE_STATES

if TYPE_CHECKING:
    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.store import Object


@dataclass(frozen=True)
class Transition:
    """One power action: its XAPI method, the states it starts from (the first is what an error asks for) and its end.

    `operation` is what `current_operations` shows; None for a call that is no XAPI task.
    """

    method: str
    allowed: tuple[str, ...]
    end: str
    operation: str | None
    params: tuple[Any, ...] = ()


TRANSITIONS = {
    "start": Transition("VM.start", ("Halted",), "Running", None, (False, False)),
    "clean_shutdown": Transition("VM.clean_shutdown", ("Running",), "Halted", "clean_shutdown"),
    "hard_shutdown": Transition("VM.hard_shutdown", ("Running", "Paused", "Suspended"), "Halted", "hard_shutdown"),
    "clean_reboot": Transition("VM.clean_reboot", ("Running",), "Running", "clean_reboot"),
    "hard_reboot": Transition("VM.hard_reboot", ("Running", "Paused"), "Running", "hard_reboot"),
    "pause": Transition("VM.pause", ("Running",), "Paused", "pause"),
    "unpause": Transition("VM.unpause", ("Paused",), "Running", "unpause"),
    "suspend": Transition("VM.suspend", ("Running",), "Suspended", "suspend"),
    "resume": Transition("VM.resume", ("Suspended",), "Running", "resume", (False, False)),
}


async def change_power(hypervisor: Hypervisor, vm: Object, action: str, *, host: str | None = None) -> None:
    """Carry out a power action of `TRANSITIONS` on `vm`, on `host` when it starts one.

    Raises `XapiFailure`: the VM is in the wrong state, an operation is blocked, or no host has the memory.
    """
    transition = TRANSITIONS[action]

    def effect() -> None:
        now = hypervisor.store.current(vm["id"])
        check_state(now, transition.allowed)
        if action in now["blockedOperations"]:
            raise XapiFailure("OPERATION_BLOCKED", now["_xapiRef"], str(now["blockedOperations"][action]))
        set_state(hypervisor, now, transition.end, host=host, reboot="reboot" in action)

    await hypervisor.call(transition.method, vm, effect, params=transition.params, operation=transition.operation)


def check_state(vm: Object, allowed: tuple[str, ...]) -> None:
    """Raise `VM_BAD_POWER_STATE` when the VM is in none of the `allowed` states."""
    if vm["power_state"] not in allowed:
        raise XapiFailure("VM_BAD_POWER_STATE", vm["_xapiRef"], allowed[0].lower(), vm["power_state"].lower())


def set_state(hypervisor: Hypervisor, vm: Object, state: str, *, host: str | None = None, reboot: bool = False) -> None:
    """Bring `vm` into a power state, with its host, its devices and what its guest reports."""
    now = hypervisor.clock.time()
    if state in LIVE_STATES and vm["power_state"] not in LIVE_STATES and host is None:
        host = choose_host(hypervisor, vm)
    edits.set_power_state(
        hypervisor.table,
        vm["id"],
        state,
        host=host,
        now=now if state == "Running" and vm["power_state"] == "Halted" else None,
        used=hypervisor.rng.uniform(0.2, 0.9),
    )
    if reboot:
        hypervisor.store.update(vm["id"], startTime=int(now))


def choose_host(hypervisor: Hypervisor, vm: Object) -> str:
    """Return the host `vm` will run on: its affinity, the host of its local disks, or the one with the most memory.

    Raises `NO_HOSTS_AVAILABLE` when none has enough.
    """
    store = hypervisor.store
    hosts = [host for host in store.of_type("host") if host["$pool"] == vm["$pool"] and host["enabled"]]
    local = _local_hosts(hypervisor, vm)
    fitting = [
        host
        for host in hosts
        if host["memory"]["size"] - host["memory"]["usage"] >= vm["memory"]["size"] and local <= {host["id"]}
    ]
    if not fitting:
        raise XapiFailure("NO_HOSTS_AVAILABLE")
    if any(host["id"] == vm.get("affinityHost") for host in fitting):
        return str(vm["affinityHost"])
    return str(max(fitting, key=lambda host: host["memory"]["size"] - host["memory"]["usage"])["id"])


def _local_hosts(hypervisor: Hypervisor, vm: Object) -> set[str]:
    """Return the hosts on whose own storage disks of `vm` lie."""
    store = hypervisor.store
    hosts = set()
    for vbd in map(store.current, vm["$VBDs"]):
        if vbd.get("VDI") is not None and not vbd["is_cd_drive"]:
            storage = store.current(store.current(vbd["VDI"])["$SR"])
            if not storage["shared"]:
                hosts.add(storage["$container"])
    return hosts
