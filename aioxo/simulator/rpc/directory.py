"""Methods that list and look up: all objects, users, groups, servers, jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from aioxo.errors import FilterSyntaxError
from aioxo.filters import Filter
from aioxo.simulator.failures import Failure, InvalidParameters
from aioxo.simulator.rest.answers import JSON
from aioxo.simulator.rest.listing import send_lines
from aioxo.simulator.rpc.table import Context, Encoded, Method, Methods

if TYPE_CHECKING:
    from aiohttp import web

    from aioxo.simulator.state import State
    from aioxo.simulator.store import Object


def register_directory(methods: Methods) -> None:
    """Add the methods of this module."""
    for name, function in {
        "xo.getAllObjects": _all_objects,
        "user.getAll": lambda context: [user.rpc_record() for user in context.state.accounts.users.values()],
        "user.create": _create_user,
        "user.delete": _delete_user,
        "group.getAll": lambda context: list(context.state.accounts.groups.values()),
        "server.getAll": _lister("servers"),
        "schedule.getAll": _lister("schedules"),
        "job.getAll": lambda _: [],
        "backupNg.getAllJobs": _lister("backup-jobs"),
        "remote.getAll": _lister("backup-repositories"),
        "proxy.getAll": _lister("proxies"),
        "acl.get": lambda _: [],
        "acl.getCurrentPermissions": lambda _: {},
        "plugin.get": lambda _: [],
    }.items():
        methods.method(name)(function)


def _lister(collection: str) -> Method:
    return lambda context: list(context.state.records.get(collection, {}).values())


def _create_user(context: Context) -> str:
    params = context.params
    made = context.state.accounts.add_user(params["email"], params["password"], params.get("permission", "none"))
    return made.id


def _delete_user(context: Context) -> None:
    if context.params["id"] == context.caller.id:
        raise InvalidParameters("a user cannot delete itself")
    context.state.accounts.delete_user(context.params["id"])


def _all_objects(context: Context) -> Any:
    params = context.params
    wanted, limit = params.get("filter"), params.get("limit")
    if isinstance(wanted, list):
        raise InvalidParameters("the filter must not be an array")
    if params.get("ndjson"):
        state = context.state

        async def send(request: web.Request) -> web.StreamResponse:
            return await send_lines(request, select(state, wanted, limit), JSON)

        return {"$getFrom": context.door.one_shot(send)}
    if wanted is None and limit is None:
        return Encoded(orjson.dumps(context.state.store.all()))
    return {item["id"]: item for item in select(context.state, wanted, limit)}


def select(state: State, wanted: Mapping[str, Any] | str | None, limit: float | None) -> list[Object]:
    """Return the objects that fit a filter (a partial object, or a query), `limit` of them at most."""
    objects = list(state.store.all().values())
    if isinstance(wanted, str):
        try:
            parsed = Filter.parse(wanted)
        except FilterSyntaxError as error:
            raise Failure(str(error)) from None
        objects = [item for item in objects if parsed.matches(item)]
    elif wanted is not None:
        objects = [item for item in objects if contains(item, wanted)]
    return objects if limit is None or limit < 0 or limit != int(limit) else objects[: int(limit)]


def contains(value: Any, part: Any) -> bool:
    """Tell whether `value` has all of `part`: members of objects, elements of lists in any order, else equality."""
    if isinstance(part, Mapping):
        return isinstance(value, Mapping) and all(
            name in value and contains(value[name], each) for name, each in part.items()
        )
    if isinstance(part, list):
        return isinstance(value, list) and all(any(contains(mine, each) for mine in value) for each in part)
    return bool(value == part) and isinstance(value, bool) == isinstance(part, bool)
