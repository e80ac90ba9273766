"""`/events`: the stream of changes (server-sent events) and its subscriptions.

A stream starts with its id; changes of a type flow once that type is subscribed to, from then on, without a snapshot.
What a client does not read is queued, up to `MAXIMUM_QUEUED` bytes: then the connection is cut, in the middle of
whatever was going out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aioxo.simulator.failures import FieldsInvalid, NoSuchObject
from aioxo.simulator.inventory import new_uuid
from aioxo.simulator.rest.answers import created, no_content
from aioxo.simulator.rest.listing import picker
from aioxo.simulator.rest.objects import as_alarm, is_alarm
from aioxo.simulator.rest.routes import Call, Route
from aioxo.simulator.rest.validation import UNION, check_choice

if TYPE_CHECKING:
    from aioxo.simulator.accounts import User
    from aioxo.simulator.rest.validation import Type
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Flush, Object
    from aioxo.simulator.tasks import TaskEvent

MAXIMUM_QUEUED = 20 * 2**20
PING_INTERVAL = 30.0
TYPES = (
    "VM", "VM-snapshot", "VM-template", "VM-controller", "VDI", "VDI-snapshot", "VDI-unmanaged", "VBD", "VIF", "VTPM",
    "SR", "SM", "PBD", "PIF", "PCI", "PGPU", "vgpu", "vgpuType", "gpuGroup", "network", "host", "pool", "message",
    "alarm", "task",
)  # fmt: skip
Picker = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Stream:
    """One open stream: who reads it, what they subscribed to, and the bytes that wait to go out."""

    user: User
    transport: asyncio.Transport | None
    subscriptions: dict[str, Picker] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    queued: int = 0

    def send(self, event: str, data: Mapping[str, Any]) -> None:
        """Queue one event; cut the connection when too much is waiting."""
        message = b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(data))
        self.queued += len(message)
        self.queue.put_nowait(message)
        if self.queued > MAXIMUM_QUEUED and self.transport is not None:
            self.transport.abort()


class EventStreams:
    """All open streams; hand it the store's flushes and the tasks' events."""

    def __init__(self, state: State, *, ping_interval: float = PING_INTERVAL) -> None:
        self._state = state
        self._ping_interval = ping_interval
        self._streams: dict[str, Stream] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to ping, to the beat of one timer for all streams."""
        self._timer = asyncio.get_running_loop().call_later(self._ping_interval, self._ping)

    def stop(self) -> None:
        """Ping no more."""
        if self._timer is not None:
            self._timer.cancel()

    def on_flush(self, flush: Flush) -> None:
        """Send what changed in the store."""
        if not self._streams:
            return
        for key, item in flush.entered.items():
            self._announce(item, flush.previous[key], "add" if flush.previous[key] is None else "update")
        for item in flush.exited.values():
            # Messages that go are never told of, by an old mistake of the real server.
            if item["type"] != "message" or is_alarm(item):
                self._announce(item, None, "remove")

    def on_task(self, event: TaskEvent) -> None:
        """Send what changed about an XO task; a new one is an update too."""
        for stream in self._streams.values():
            self._send(stream, "task", event.kind, event.record, None)

    def _announce(self, item: Object, previous: Object | None, event: str) -> None:
        kind = item["type"]
        if kind == "message" and is_alarm(item):
            kind, item = "alarm", as_alarm(self._state, item)
            previous = None if previous is None else as_alarm(self._state, previous)
        elif kind == "task":
            return  # a XAPI task; this feed's tasks are XO's
        for stream in self._streams.values():
            self._send(stream, kind, event, item, previous)

    def _send(self, stream: Stream, kind: str, event: str, item: Object, previous: Object | None) -> None:
        pick = stream.subscriptions.get(kind)
        if pick is None or not stream.user.administrator:
            return
        picked = pick(item)
        if event == "update" and stream.fields[kind] != "*" and previous is not None and pick(previous) == picked:
            return
        stream.send(event, {"$subscription": kind} | picked)

    def _ping(self) -> None:
        for stream in self._streams.values():
            stream.send("ping", {"ping": self._state.clock.milliseconds()})
        self.start()

    def _stream(self, key: str) -> Stream:
        stream = self._streams.get(key)
        if stream is None:
            raise NoSuchObject(key, "event")
        return stream

    async def _open(self, call: Call) -> web.StreamResponse:
        key = new_uuid(self._state.hypervisor.rng)
        stream = Stream(call.caller, call.request.transport)
        headers = {
            "Cache-Control": "no-cache, no-transform",
            "Connection": "keep-alive",
            "Content-Type": "text/event-stream",
        }
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(call.request)
        if call.request.method == "HEAD":
            return answer
        stream.send("init", {"id": key})
        self._streams[key] = stream
        try:
            while True:
                message = await stream.queue.get()
                await answer.write(message)
                stream.queued -= len(message)
        finally:
            del self._streams[key]

    async def _subscribe(self, call: Call) -> web.StreamResponse:
        stream = self._stream(call.params["id"])
        kind, fields = call.body["collection"], call.body.get("fields", "*")
        if kind not in TYPES:
            raise FieldsInvalid({"body.collection": {"message": UNION, "value": kind}})
        if isinstance(fields, list):
            fields = ",".join(fields)
        elif fields != "*":
            raise FieldsInvalid({"body.fields": {"message": UNION, "value": fields}})
        stream.fields[kind] = fields
        stream.subscriptions[kind] = picker(fields)
        return await created(call, kind)

    async def _unsubscribe(self, call: Call) -> web.StreamResponse:
        check_choice("subscriptionId", call.params["subscriptionid"], TYPES)
        self._stream(call.params["id"]).subscriptions.pop(call.params["subscriptionid"], None)
        return no_content()

    def routes(self) -> Iterable[Route]:
        """Yield the routes of the feed."""
        body: dict[str, Type] = {"collection": "string", "fields?": "any"}
        yield Route("GET", "/events", self._open, modern=True)
        yield Route("POST", "/events/{id}/subscriptions", self._subscribe, self._find, body=body, modern=True)
        yield Route("DELETE", "/events/{id}/subscriptions/{subscriptionId}", self._unsubscribe, modern=True)

    def _find(self, _state: State, key: str) -> Object:
        self._stream(key)
        return {}
