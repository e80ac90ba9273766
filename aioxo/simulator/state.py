"""Everything a front door of the simulator works on, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from aioxo.simulator.accounts import Accounts
    from aioxo.simulator.clock import Clock
    from aioxo.simulator.dialect import Dialect
    from aioxo.simulator.faults import Faults
    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.store import Store
    from aioxo.simulator.tasks import Tasks

Record = dict[str, Any]


@dataclass
class State:
    """The parts of one simulated server.

    Attributes:
        records: Xen Orchestra's own records that are no objects of a pool: collection name to id to record.
        disconnected: objects of pools whose server was disconnected, by the id of the server.
        one_shots: raw path to what answers the first request for it.
    """

    dialect: Dialect
    clock: Clock
    faults: Faults
    store: Store
    accounts: Accounts
    tasks: Tasks
    hypervisor: Hypervisor
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    disconnected: dict[str, list[Record]] = field(default_factory=dict)
    one_shots: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
