"""Reading objects: collections, single objects, what belongs to an object, tags."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import BadRequest, NoSuchObject
from aioxo.simulator.rest.answers import json_answer, no_content
from aioxo.simulator.rest.listing import QUERY, listing
from aioxo.simulator.rest.routes import BASE, Call, Route
from aioxo.simulator.store import Object

if TYPE_CHECKING:
    from aiohttp import web

    from aioxo.simulator.state import State

Find = Callable[["State", str], Object]


@dataclass(frozen=True)
class Kind:
    """A type of object, the collection it is listed in, the resource its privileges name, and what belongs to it."""

    type: str
    collection: str
    resource: str
    parts: tuple[str, ...] = ()
    tagged: bool = False


_ALL = ("alarms", "messages", "tasks")
KINDS = (
    Kind("VM", "vms", "vm", (*_ALL, "vdis"), tagged=True),
    Kind("VM-template", "vm-templates", "vm-template", (*_ALL, "vdis"), tagged=True),
    Kind("VM-snapshot", "vm-snapshots", "vm-snapshot", (*_ALL, "vdis"), tagged=True),
    Kind("VM-controller", "vm-controllers", "vm-controller", (*_ALL, "vdis"), tagged=True),
    Kind("VDI", "vdis", "vdi", _ALL, tagged=True),
    Kind("VDI-snapshot", "vdi-snapshots", "vdi-snapshot", _ALL, tagged=True),
    Kind("VBD", "vbds", "vbd", _ALL),
    Kind("VIF", "vifs", "vif", _ALL),
    Kind("SR", "srs", "sr", _ALL, tagged=True),
    Kind("PBD", "pbds", "pbd"),
    Kind("PIF", "pifs", "pif", _ALL),
    Kind("network", "networks", "network", _ALL, tagged=True),
    Kind("host", "hosts", "host", _ALL, tagged=True),
    Kind("pool", "pools", "pool", _ALL, tagged=True),
    Kind("PGPU", "pgpus", "pgpu"),
    Kind("PCI", "pcis", "pci"),
    Kind("SM", "sms", "sm"),
)
COLLECTION_OF = {kind.type: kind.collection for kind in KINDS}
_ALARM_NAMES = re.compile("ALARM|BOND_STATUS_CHANGED|MULTIPATH_PERIODIC_ALERT")
_ALARM_BODY = re.compile(r'value:\s*(\S+).*?<name value="([^"]*)"', re.DOTALL)


def finder(kind: str | list[str]) -> Find:
    """Return a function that looks objects of this kind up by id or reference."""
    return lambda state, key: state.store.find(key, kind)


# --- messages and alarms


def is_alarm(message: Object) -> bool:
    """Tell whether a message is shown as an alarm."""
    return _ALARM_NAMES.search(message["name"]) is not None


def messages(state: State) -> list[Object]:
    """Return the messages: without the alarms, where those have a collection of their own."""
    found = state.store.of_type("message")
    return [each for each in found if not is_alarm(each)] if state.dialect.alarms_apart else found


def alarms(state: State) -> list[Object]:
    """Return the alarms: messages with the body taken apart, percent, milliseconds and what they are about."""
    return [as_alarm(state, each) for each in state.store.of_type("message") if is_alarm(each)]


def as_alarm(state: State, message: Object) -> Object:
    """Return a message as the alarm collection shows it."""
    matched = _ALARM_BODY.search(message["body"])
    body: Object = {"name": message["body"]}
    if matched is not None:
        body = {"name": matched[2], "value": _percent(matched[1])}
    uuid = message["$object"]
    about: Object = {"type": "unknown", "uuid": uuid}
    subject = state.store.get(uuid)
    if subject is not None:
        kind = subject["type"]
        about = {"type": kind, "uuid": uuid, "href": f"{BASE}/{kind.lower()}s/{uuid}"}
    alarm = {name: value for name, value in message.items() if name != "$object"}
    return alarm | {"time": message["time"] * 1000, "body": body, "object": about}


def _percent(ratio: str) -> str:
    try:
        return f"{float(ratio) * 100:.1f}"
    except ValueError:
        return ratio


def find_message(state: State, key: str) -> Object:
    """Return a message that is shown as one; `NoSuchObject` otherwise."""
    found = state.store.find(key, "message")
    if is_alarm(found) and state.dialect.alarms_apart:
        raise NoSuchObject(key, "message")
    return found


def find_alarm(state: State, key: str) -> Object:
    """Return an alarm; `NoSuchObject` when the message does not exist or is none."""
    found = state.store.get(key)
    if found is None or found["type"] != "message" or not is_alarm(found):
        raise NoSuchObject(key, "alarm")
    return as_alarm(state, found)


# --- handlers


async def show(call: Call) -> web.StreamResponse:
    """Answer with the object of the path; `fields` has no effect here."""
    return await json_answer(call, call.subject)


def lister(records: Callable[[State], Iterable[Object]], collection: str) -> Handler:
    """Return a handler that lists these records, to administrators; others see nothing."""

    async def handler(call: Call) -> web.StreamResponse:
        seen = records(call.state) if call.caller.administrator else ()
        return await listing(call, seen, f"{BASE}/{collection}")

    return handler


Handler = Callable[[Call], Awaitable[Any]]


def _part(records: Callable[[Call], Iterable[Object]], base: str | Callable[[Object], str]) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        text = call.query.get("filter", "")
        if text and not text.strip():
            # The server puts the text between parentheses, which must not be empty.
            raise BadRequest("parse error: expected end of input at position 0", {"stringToParse": f"({text})"})
        return await listing(call, records(call) if call.caller.administrator else (), base)

    return handler


def _about(call: Call, records: Iterable[Object]) -> list[Object]:
    uuid = call.subject["uuid"]
    return [record for record in records if record.get("$object", record.get("object", {}).get("uuid")) == uuid]


def _tasks(call: Call) -> list[Object]:
    found = call.state.tasks.about(call.params["id"])
    if call.state.dialect.pending_tasks_only:
        return [task for task in found if task["status"] == "pending"]
    return found


def _vdis(call: Call) -> list[Object]:
    """The disks of a VM, CDs left out; what the cache has not caught up with is not there."""
    find = call.state.store.get
    vbds = [vbd for vbd in map(find, call.subject["$VBDs"]) if vbd is not None and not vbd["is_cd_drive"]]
    return [vdi for vdi in (find(vbd.get("VDI", "")) for vbd in vbds) if vdi is not None]


def _home(record: Object) -> str:
    return f"{BASE}/{COLLECTION_OF[record['type']]}/{record['id']}"


PARTS: dict[str, Handler] = {
    "alarms": _part(lambda call: _about(call, alarms(call.state)), f"{BASE}/alarms"),
    "messages": _part(lambda call: _about(call, messages(call.state)), f"{BASE}/messages"),
    "tasks": _part(_tasks, f"{BASE}/tasks"),
    "vdis": _part(_vdis, _home),
}


def retagged(item: Object, tag: str, *, present: bool) -> Object:
    """Return an object with a tag added or taken away."""
    tags = [each for each in item["tags"] if each != tag]
    if present:
        tags = item["tags"] if tag in item["tags"] else [*item["tags"], tag]
    return item | {"tags": tags}


async def _put_tag(call: Call) -> web.StreamResponse:
    call.state.store.put(retagged(call.subject, call.params["tag"], present=True))
    return no_content()


async def _delete_tag(call: Call) -> web.StreamResponse:
    call.state.store.put(retagged(call.subject, call.params["tag"], present=False))
    return no_content()


def _of_type(kind: str) -> Callable[[State], list[Object]]:
    return lambda state: state.store.of_type(kind)


def routes() -> Iterable[Route]:
    """Yield the reading routes of all types of objects, and those of tags."""
    for kind in KINDS:
        path, find = f"/{kind.collection}", finder(kind.type)
        yield Route("GET", path, lister(_of_type(kind.type), kind.collection), query=QUERY)
        yield Route("GET", f"{path}/{{id}}", show, find=find, privilege=(kind.resource, "read"))
        for part in kind.parts:
            modern = part == "alarms"
            yield Route("GET", f"{path}/{{id}}/{part}", PARTS[part], find=find, query=QUERY, modern=modern)
        if kind.tagged:
            tags = (kind.resource, "update:tags")
            yield Route("PUT", f"{path}/{{id}}/tags/{{tag}}", _put_tag, find=find, privilege=tags)
            yield Route("DELETE", f"{path}/{{id}}/tags/{{tag}}", _delete_tag, find=find, privilege=tags)
    yield Route("GET", "/messages", lister(messages, "messages"), query=QUERY)
    yield Route("GET", "/messages/{id}", show, find=find_message, privilege=("message", "read"))
    yield Route("GET", "/alarms", lister(alarms, "alarms"), query=QUERY, modern=True)
    yield Route("GET", "/alarms/{id}", show, find=find_alarm, privilege=("alarm", "read"), modern=True)
