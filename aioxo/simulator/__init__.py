"""A stand-in Xen Orchestra: REST, NDJSON, server-sent events and the websocket on a real socket, from one seed.

    async with Simulator(vms=50) as sim:
        print(sim.url, sim.token)

Its objects and disks are generated (`inventory`, `disks`), held in one table (`store`), changed by what clients ask for
(`operations`) and by themselves (`churn`), and shown through two doors (`rest`, `rpc`) that answer as real servers have
been recorded to answer. It shares the filter language with the client library and nothing else.
"""

from __future__ import annotations

from aioxo.simulator.faults import Faults
from aioxo.simulator.server import RequestSeen, Simulator
from aioxo.simulator.store import Flush, Store

__all__ = ["Faults", "Flush", "RequestSeen", "Simulator", "Store"]
