"""Numbers about what runs: statistics of VMs, hosts and pools, and the dashboard.

Statistics are made up from the object and the moment alone, so asking twice gives the same series shifted, and nothing
is stored. They move smoothly between random points, as loads do.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import InvalidParameters
from aioxo.simulator.rest.answers import json_answer
from aioxo.simulator.rest.objects import finder
from aioxo.simulator.rest.routes import Call, Route
from aioxo.simulator.rest.validation import check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from aioxo.simulator.store import Object

#: Granularity to (seconds between two values, number of values).
GRANULARITIES = {"seconds": (5, 120), "minutes": (60, 120), "hours": (3600, 168), "days": (86_400, 366)}
SLOW = 16
Series = list[float]


def _noise(seed: str, step: int) -> float:
    """Return a number from 0 to 1 that depends on `seed` and `step` alone and changes little from step to step."""
    place, within = divmod(step, SLOW)
    before, after = (zlib.crc32(f"{seed}/{each}".encode()) / 2**32 for each in (place, place + 1))
    weight = (1 - math.cos(math.pi * within / SLOW)) / 2
    return before + (after - before) * weight


class _Window:
    """The steps that a series covers, and the series of one object in them."""

    def __init__(self, subject: Object, granularity: str, now: float) -> None:
        self.interval, count = GRANULARITIES[granularity]
        self._id = subject["id"]
        self._last = int(now) // self.interval
        self._steps = range(self._last - count + 1, self._last + 1)

    def series(self, name: str, highest: float, lowest: float = 0) -> Series:
        """Return made-up values between two bounds, oldest first."""
        span = highest - lowest
        return [round(lowest + span * _noise(f"{self._id}/{name}", step), 4) for step in self._steps]

    def constant(self, value: float) -> Series:
        """Return the same value all along."""
        return [value] * len(self._steps)

    def both(self, name: str, highest: float, names: tuple[str, str] = ("r", "w")) -> dict[str, Series]:
        """Return two series, such as reading and writing."""
        return {each: self.series(f"{name}/{each}", highest) for each in names}

    def answer(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Return the body around the series."""
        return {"endTimestamp": self._last * self.interval, "interval": self.interval, "stats": stats}


def _vm_stats(call: Call, vm: Object, granularity: str) -> dict[str, Any]:
    window = _Window(vm, granularity, call.state.clock.time())
    size = vm["memory"]["size"]
    disks = [store["device"] for store in map(call.state.store.get, vm["$VBDs"]) if store and not store["is_cd_drive"]]
    stats: dict[str, Any] = {
        "cpus": {str(number): window.series(f"cpu{number}", 100) for number in range(vm["CPUs"]["number"])},
        "cpuUsage": window.series("cpu", 100),
        "memory": window.constant(size),
        "memoryFree": window.series("free", 0.6 * size, 0.05 * size),
        "memoryTarget": window.constant(size),
        "vifs": {
            way: {str(number): window.series(f"vif{number}/{way}", 1e6) for number in range(len(vm["VIFs"]))}
            for way in ("rx", "tx")
        },
        "xvds": {way: {disk[-1]: window.series(f"{disk}/{way}", 1e7) for disk in disks} for way in ("r", "w", "total")},
        "iops": {way: {disk[-1]: window.series(f"{disk}/iops/{way}", 500) for disk in disks} for way in ("r", "w")},
    }
    return window.answer(stats)


def _host_stats(call: Call, host: Object, granularity: str) -> dict[str, Any]:
    window = _Window(host, granularity, call.state.clock.time())
    size, cores = host["memory"]["size"], host["cpus"]["cores"]
    stats: dict[str, Any] = {
        "cpus": {str(number): window.series(f"cpu{number}", 100) for number in range(cores)},
        "load": window.series("load", cores / 4),
        "memory": window.constant(size),
        "memoryFree": window.constant(size - host["memory"]["usage"]),
        "pifs": {way: {"0": window.series(f"pif/{way}", 1e8)} for way in ("rx", "tx")},
        "iops": window.both("iops", 5000),
        "ioThroughput": window.both("throughput", 1e8),
        "latency": window.both("latency", 10),
        "iowait": window.series("iowait", 5),
    }
    return window.answer(stats)


def _granularity(call: Call) -> str:
    granularity = str(call.query.get("granularity", "seconds"))
    check_choice("granularity", granularity, tuple(GRANULARITIES))
    return granularity


def _stats(make: Callable[[Call, Object, str], dict[str, Any]]) -> Callable[[Call], Any]:
    async def handler(call: Call) -> web.StreamResponse:
        granularity = _granularity(call)
        if call.subject["power_state"] != "Running":
            raise InvalidParameters(f"{call.subject['id']} is not running")
        return await json_answer(call, make(call, call.subject, granularity))

    return handler


async def _pool_stats(call: Call) -> web.StreamResponse:
    granularity = _granularity(call)
    hosts = [host for host in call.state.store.of_type("host") if host["$pool"] == call.subject["id"]]
    return await json_answer(call, {host["id"]: _host_stats(call, host, granularity) for host in hosts})


async def _dashboard(call: Call) -> web.StreamResponse:
    store = call.state.store
    hosts, vms = store.of_type("host"), store.of_type("VM")
    storages = [sr for sr in store.of_type("SR") if sr["content_type"] != "iso"]
    size, used = sum(sr["size"] for sr in storages), sum(sr["physical_usage"] for sr in storages)
    pools = len(store.of_type("pool"))
    vm_states = {state: sum(vm["power_state"] == state for vm in vms) for state in _STATES}
    running = sum(host["power_state"] == "Running" and host["enabled"] for host in hosts)
    disabled = sum(not host["enabled"] for host in hosts)
    overview = {
        "nPools": pools,
        "nHosts": len(hosts),
        "resourcesOverview": {
            "nCpus": sum(host["cpus"]["cores"] for host in hosts),
            "memorySize": sum(host["memory"]["size"] for host in hosts),
            "srSize": size,
        },
        "poolsStatus": {"connected": pools, "disconnected": 0, "unreachable": 0, "unknown": 0, "total": pools},
        "storageRepositories": {
            "size": {"available": size - used, "other": used, "replicated": 0, "total": size, "used": used}
        },
        "backups": {"isEmpty": True},
        "hostsStatus": {
            "disabled": disabled,
            "running": running,
            "halted": len(hosts) - running - disabled,
            "unknown": 0,
            "total": len(hosts),
        },
        "vmsStatus": {
            "active": len(vms) - vm_states["Halted"],
            "inactive": vm_states["Halted"],
            **{state.lower(): count for state, count in vm_states.items()},
            "unknown": 0,
            "total": len(vms),
        },
    }
    return await json_answer(call, overview)


_STATES = ("Running", "Halted", "Paused", "Suspended")


def routes() -> Iterable[Route]:
    """Yield the routes of statistics and of the dashboard."""
    query = {"granularity": "string"}
    vm, host, pool = finder("VM"), finder("host"), finder("pool")
    yield Route("GET", "/vms/{id}/stats", _stats(_vm_stats), vm, ("vm", "read"), query=query)
    yield Route("GET", "/hosts/{id}/stats", _stats(_host_stats), host, ("host", "read"), query=query)
    yield Route("GET", "/pools/{id}/stats", _pool_stats, pool, ("pool", "read"), query=query, modern=True)
    yield Route("GET", "/dashboard", _dashboard, administrator=True, modern=True)
