"""The simulator: a stand-in Xen Orchestra on a real socket, from its first object to its last connection.

One process can hold any number of them. Entering the context generates the inventory and listens; leaving it cuts what
is open, without waiting for anyone, and gives back every task, socket and file.

A request comes to `_dispatch`, which knows only what the paths mean: REST below `/rest/v0`, the websocket at exactly
`/api/`, one-shot URLs below it, and for everything else the way a real server's web interface reacts.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import random
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from aiohttp import web

from aioxo.simulator import inventory
from aioxo.simulator.accounts import Accounts
from aioxo.simulator.churn import Churn
from aioxo.simulator.clock import Clock
from aioxo.simulator.dialect import Link, dialect_called
from aioxo.simulator.faults import Faults
from aioxo.simulator.operations.hypervisor import Hypervisor
from aioxo.simulator.records import make_records
from aioxo.simulator.rest.answers import NO_CONTENT_TYPE, redirect
from aioxo.simulator.rest.door import RestDoor
from aioxo.simulator.rest.events import PING_INTERVAL, EventStreams
from aioxo.simulator.rest.images import Exporter
from aioxo.simulator.rest.routes import BASE
from aioxo.simulator.rest.table import build_routes
from aioxo.simulator.rpc.socket import RpcDoor
from aioxo.simulator.state import State
from aioxo.simulator.store import FLUSH_INTERVAL, Object, Store
from aioxo.simulator.tasks import Tasks

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

logger = logging.getLogger(__name__)
MAXIMUM_HEAD = 16 * 1024
KEEP_ALIVE = 5
REMEMBERED_REQUESTS = 10_000


class RequestSeen(NamedTuple):
    """One answered request, noted when its answer began."""

    method: str
    path: str
    query: str
    status: int


class Simulator:
    """A simulated Xen Orchestra server; use it as an async context manager.

    Args:
        vms: how many VMs there are.
        seed: what the whole inventory follows from; equal seeds and sizes give equal objects and disks.
        churn: changes per second that happen by themselves; 0 for none.
        dialect: "2026" for a current server, "2023" for an old one.
        host: the address to listen on, loopback unless you say otherwise: whoever reaches it can do everything.
        port: the port to listen on; 0 takes a free one.
        disk_size: bytes of the smallest disk, a multiple of 512.
        username: name of the administrator.
        password: password of the administrator.
        token: an authentication token of the administrator that is valid from the start; drawn when None.
        ssl_context: serve HTTPS with it.
        links: "url" to have records say where they are as XO 5.67 did; the 2023 dialect only.
        latency: bounds in seconds of how long an operation of a pool takes; (0, 0) in tests that do not care.
        eventual: reads show changes of pools up to `flush_interval` later, as on a real server.
        flush_interval: least seconds between two rounds of change notifications.
        deflate: offer permessage-deflate on the websocket.

    Attributes:
        url: such as `http://127.0.0.1:34567`, once entered.
        token: an authentication token of the administrator.
        store, tasks, accounts, records, disks: what the server knows, to look at and to change.
        clock: what it takes the time from; `clock.advance(60)` is a minute later.
        faults: switches that make it misbehave.
        requests: the last requests, oldest first.

    Raises:
        ValueError: an unknown dialect, links that do not go with it, or sizes that cannot be.
    """

    def __init__(
        self,
        *,
        vms: int = 50,
        seed: int = 0,
        churn: float = 0.0,
        dialect: str = "2026",
        host: str = "127.0.0.1",
        port: int = 0,
        disk_size: int = 64 * 2**20,
        username: str = "admin@admin.net",
        password: str = "admin",  # noqa: S107 - the well-known first password of a new server
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        links: Link | None = None,
        latency: tuple[float, float] = (0.05, 0.2),
        eventual: bool = False,
        flush_interval: float = FLUSH_INTERVAL,
        deflate: bool = False,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        if churn < 0:
            raise ValueError(f"the number of changes per second cannot be {churn}")
        self.username = username
        self.password = password
        self.requests: collections.deque[RequestSeen] = collections.deque(maxlen=REMEMBERED_REQUESTS)
        self.clock = Clock()
        self.faults = Faults()
        self._pace = churn
        self._address = (host, port)
        self._ssl_context = ssl_context
        self._entered = False
        self._ticker: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        spoken = dialect_called(dialect, links)
        rng = random.Random(f"{seed}/server")
        made = inventory.generate(seed=seed, vms=vms, disk_size=disk_size, now=self.clock.time())
        self.store = Store(made.objects.values(), flush_interval=flush_interval, eventual=eventual)
        self.disks = made.disks
        seeded = random.Random(f"{seed}/churn")
        self._churn = Churn(seeded, self.store.pool, disks=self.disks, clock=self.clock.time, disk_size=disk_size)
        self.accounts = Accounts(rng, self.clock)
        self.tasks = Tasks(rng, self.clock)
        self._pools = pools = Hypervisor(self.store, self.disks, rng, self.clock, self.faults, latency)
        administrator = self.accounts.add_user(username, password, "admin")
        self.token = self.accounts.create_token(administrator, description="simulator", secret=token)[0].id
        self.records = records = make_records(rng, self.store, self.clock.milliseconds())
        state = State(spoken, self.clock, self.faults, self.store, self.accounts, self.tasks, pools, records)
        self._one_shots = state.one_shots
        exporter = Exporter(state)
        self._events = EventStreams(state, ping_interval=ping_interval)
        self._rest = RestDoor(state, build_routes(state, self._events, exporter))
        self._rpc = RpcDoor(state, exporter, deflate=deflate)

    # --- what tests and tools ask for

    @property
    def url(self) -> str:
        """Where the server is; `RuntimeError` before it is."""
        if self._runner is None:
            raise RuntimeError("the simulator is not running: enter its context first")
        host = self._address[0]
        shown = f"[{host}]" if ":" in host else host
        return f"{'http' if self._ssl_context is None else 'https'}://{shown}:{self._runner.addresses[0][1]}"

    @property
    def latency(self) -> tuple[float, float]:
        """Bounds in seconds of how long an operation of a pool takes; may be set at any time."""
        return self._pools.latency

    @latency.setter
    def latency(self, bounds: tuple[float, float]) -> None:
        self._pools.latency = bounds

    def vm(self, name_label: str) -> Object:
        """Return the VM of this name; `LookupError` when there is none, or are several."""
        found = [vm for vm in self.store.of_type("VM") if vm["name_label"] == name_label]
        if len(found) != 1:
            raise LookupError(f"{len(found)} VMs are called {name_label!r}")
        return found[0]

    @property
    def websockets(self) -> int:
        """How many websockets are open."""
        return self._rpc.open

    def __repr__(self) -> str:
        where = "not running" if self._runner is None else self.url
        return f"<Simulator {where}, {len(self.store)} objects, {self.websockets} websockets>"

    # --- lifecycle

    async def __aenter__(self) -> Self:
        """Listen; `OSError` when the address cannot be had, `RuntimeError` the second time."""
        if self._entered:
            raise RuntimeError("a simulator runs once: make another one")
        self._entered = True
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._answer)
        application.on_response_prepare.append(self._finish_head)
        runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE + 1,
            max_line_size=8 * MAXIMUM_HEAD,
            max_field_size=8 * MAXIMUM_HEAD,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, *self._address, ssl_context=self._ssl_context).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.store.start()
        self.store.subscribe(self._events.on_flush)
        self.store.subscribe(self._rpc.on_flush)
        self.tasks.subscribe(self._events.on_task)
        self._events.start()
        if self._pace:
            self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut every connection and give everything back; takes a moment, not the time of what was going on."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait({self._ticker})
        self._events.stop()
        self.store.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            for site in list(runner.sites):
                await site.stop()
            self._cut(runner)
            await asyncio.sleep(0)
            await runner.cleanup()
        await self._rpc.close()
        await self.tasks.close()
        for disk in self.disks.values():
            disk.close()
        self.disks.clear()

    async def drop_connections(self) -> None:
        """Cut every connection without a word, as a server that stops does: no close frames, no last chunks."""
        if self._runner is not None:
            self._cut(self._runner)
            await asyncio.sleep(0)

    def _cut(self, runner: web.AppRunner) -> None:
        for connection in runner.server.connections if runner.server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def _tick(self) -> None:
        """Make the churn, in steps that keep the pace over any length of time."""
        loop = asyncio.get_running_loop()
        started, done = loop.time(), 0
        while True:
            await asyncio.sleep(max(0.01, min(1 / self._pace, 1.0)))
            due = int((loop.time() - started) * self._pace)
            try:
                for _ in range(due - done):
                    self._churn.step()
            except Exception:
                logger.exception("nothing changes by itself any more")
                return
            done = due

    # --- requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except ConnectionError:
            if request.transport is not None and not request.transport.is_closing():
                raise
            # The client left in the middle of its answer, as `| head` does: there is nobody to answer, and no fault.
            return _bare(499)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if _head_length(request) > MAXIMUM_HEAD:
            return _bare(431)
        path = request.raw_path.partition("?")[0]
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if request.raw_path.removeprefix("/v5") == "/api/":
                return await self._rpc.serve(request)
            await _never()
        lowered = path.lower()
        if lowered == BASE or lowered.startswith(BASE + "/"):
            return await self._rest.answer(request)
        if lowered.startswith("/rest/"):
            return self._rest.no_route(request)
        one_shot = self._one_shots.pop(path, None)
        if one_shot is not None:
            return await one_shot(request)
        if lowered.startswith("/.well-known/"):
            await _never()
        return redirect("/signin")

    async def _finish_head(self, request: web.Request, response: web.StreamResponse) -> None:
        """Note the request, and make the head of the answer that of a Node.js server."""
        path, _, query = request.raw_path.partition("?")
        self.requests.append(RequestSeen(request.method, path, query, response.status))
        headers = response.headers
        headers.popall("Server", None)
        if NO_CONTENT_TYPE in headers:
            del headers[NO_CONTENT_TYPE]
            headers.popall("Content-Type", None)
        if response.status == 101:
            return
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Frame-Options"] = "SAMEORIGIN"
        if response.keep_alive and "Connection" not in headers:
            headers["Connection"] = "keep-alive"
            headers["Keep-Alive"] = f"timeout={KEEP_ALIVE}"


def _head_length(request: web.Request) -> int:
    return len(request.raw_path) + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)


def _bare(status: int) -> web.Response:
    """Answer as Node.js itself does before any application sees the request: a status, and the connection is over."""
    answer = web.Response(status=status, headers={NO_CONTENT_TYPE: ""})
    answer.force_close()
    return answer


async def _never() -> NoReturn:
    """Leave the request unanswered until the client goes away."""
    while True:
        await asyncio.Event().wait()
