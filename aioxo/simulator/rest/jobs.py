"""`/tasks`: XO tasks, waiting for one, and the endless stream of their changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aioxo.simulator.failures import BadRequest, MissingPrivilege
from aioxo.simulator.rest.answers import NO_CONTENT_TYPE, deleted, json_answer
from aioxo.simulator.rest.listing import QUERY, listing, parse_filter, picker
from aioxo.simulator.rest.routes import BASE, Call, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioxo.simulator.state import Record, State
    from aioxo.simulator.tasks import TaskEvent


async def _list_tasks(call: Call) -> web.StreamResponse:
    flags = call.state.dialect.flags_by_presence
    if call.query.get("watch"):
        if not (call.query.get("ndjson") if flags else call.raw_query.get("ndjson") == ["true"]):
            raise BadRequest("watch=true requires ndjson=true")
        return await _watch(call)
    tasks = call.state.tasks.all() if call.caller.administrator else []
    return await listing(call, tasks, f"{BASE}/tasks")


async def _watch(call: Call) -> web.StreamResponse:
    """Send a line per event, for ever. Not even the headers go out before the first one, and no Content-Type."""
    text = call.query.get("filter", "")
    wanted = parse_filter(call, text) if text else None
    events: asyncio.Queue[TaskEvent] = asyncio.Queue()
    unsubscribe = call.state.tasks.subscribe(events.put_nowait)
    answer = web.StreamResponse(headers={NO_CONTENT_TYPE: ""})
    try:
        while True:
            event = await events.get()
            if not call.caller.administrator or (wanted is not None and not wanted.matches(event.record)):
                continue
            if not answer.prepared:
                await answer.prepare(call.request)
            await answer.write(orjson.dumps([event.kind, _item(call, event)], option=orjson.OPT_APPEND_NEWLINE))
    finally:
        unsubscribe()


def _item(call: Call, event: TaskEvent) -> Any:
    href = f"{BASE}/tasks/{event.record['id']}"
    fields = call.query.get("fields")
    if fields is None:
        return href
    # Of what is gone only the id is known.
    record = event.record if event.kind == "update" else {"id": event.record["id"]}
    if event.kind == "remove" and fields == "*":
        record = {}
    return picker(fields)(record) | {call.state.dialect.link: href}


async def _show_task(call: Call) -> web.StreamResponse:
    waits = call.raw_query.get("wait")
    if waits is None or (not call.state.dialect.wait_for_change and not call.query.get("wait")):
        return await json_answer(call, call.subject)
    any_change = call.state.dialect.wait_for_change and waits != ["result"]
    return await json_answer(call, await call.state.tasks.wait(call.params["id"], any_change=any_change))


async def _delete_task(call: Call) -> web.StreamResponse:
    call.state.tasks.delete(call.params["id"])
    return await deleted(call)


async def _delete_tasks(call: Call) -> web.StreamResponse:
    if not call.caller.administrator:
        raise MissingPrivilege("task", "delete")
    for record in call.state.tasks.all():
        call.state.tasks.delete(record["id"])
    return await deleted(call)


def _find(state: State, key: str) -> Record:
    return state.tasks.get(key)


def routes() -> Iterable[Route]:
    """Yield the routes of tasks."""
    yield Route("GET", "/tasks", _list_tasks, query=QUERY | {"watch": "boolean"})
    yield Route("DELETE", "/tasks", _delete_tasks)
    yield Route("GET", "/tasks/{id}", _show_task, _find, ("task", "read"), query={"wait": "boolean"})
    yield Route("DELETE", "/tasks/{id}", _delete_task, _find, ("task", "delete"))
