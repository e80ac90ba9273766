"""How a XAPI call happens: it takes a while, is seen as a task while it does, may fail, and then has its effect."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from aioxo.simulator import inventory
from aioxo.simulator.failures import XapiFailure

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from aioxo.simulator.clock import Clock
    from aioxo.simulator.disks import Disk
    from aioxo.simulator.faults import Faults
    from aioxo.simulator.store import Object, PoolTable, Store

T = TypeVar("T")


@dataclass
class Hypervisor:
    """The pools behind the server.

    Attributes:
        store: all objects.
        disks: content of each VDI and VDI-snapshot by its id; the simulator closes what is left.
        latency: bounds in seconds of how long a XAPI call takes; (0, 0) makes it one turn of the event loop.
    """

    store: Store
    disks: dict[str, Disk]
    rng: random.Random
    clock: Clock
    faults: Faults
    latency: tuple[float, float]

    async def call(
        self,
        method: str,
        subject: Object,
        effect: Callable[[], T],
        *,
        params: tuple[Any, ...] = (),
        operation: str | None = None,
    ) -> T:
        """Carry out the XAPI call `method` on `subject` and return what `effect` returns.

        With an `operation`, a XAPI task exists meanwhile and the subject's `current_operations` names it. Raises the
        `XapiFailure` of a fault or of the effect, with the call noted on it. Cancelling undoes the announcement.
        """
        started = asyncio.get_running_loop().time()
        self.check_exists(subject)
        task = None if operation is None else self._announce(method, subject["id"], operation)
        try:
            await asyncio.sleep(self.rng.uniform(*self.latency))
            await self.faults.pass_through(method)
            self.check_exists(subject)
            return effect()
        except XapiFailure as failure:
            duration = round(1000 * (asyncio.get_running_loop().time() - started))
            arguments = ["* session id *", subject["_xapiRef"], *params]
            failure.call = {"duration": duration, "method": method, "params": arguments}
            raise
        finally:
            if task is not None:
                self._conclude(task, subject["id"])

    def check_exists(self, subject: Object) -> None:
        """Raise `HANDLE_INVALID` when the pool has no such object any more."""
        if not self.store.exists(subject["id"]):
            raise XapiFailure("HANDLE_INVALID", subject["type"], subject["_xapiRef"])

    def disk(self, vdi: Object) -> Disk:
        """Return the content of a VDI or VDI-snapshot; `HANDLE_INVALID` when it is gone."""
        found = self.disks.get(vdi["id"])
        if found is None:
            raise XapiFailure("HANDLE_INVALID", "VDI", vdi["_xapiRef"])
        return found

    @property
    def table(self) -> PoolTable:
        """The objects as the pool knows them, for `inventory.edits`."""
        return self.store.pool

    def _announce(self, method: str, key: str, operation: str) -> str:
        subject = self.store.current(key)
        container = subject.get("$container", "")
        on_host = self.store.exists(container) and self.store.current(container)["type"] == "host"
        pool = self.store.current(subject["$pool"])
        task = inventory.make_task(
            self.rng,
            pool=pool["id"],
            name_label=f"Async.{method}",
            created=self.clock.time(),
            host=container if on_host else pool["master"],
        )
        self.store.put(task)
        self.store.update(key, current_operations=subject["current_operations"] | {task["id"]: operation})
        return str(task["id"])

    def _conclude(self, task: str, key: str) -> None:
        self.store.remove(task)
        if self.store.exists(key):
            operations = dict(self.store.current(key)["current_operations"])
            if operations.pop(task, None) is not None:
                self.store.update(key, current_operations=operations)
