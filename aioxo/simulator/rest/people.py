"""Users, groups, tokens, servers, and the other records of Xen Orchestra's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import (
    AlreadyExists,
    ForbiddenOperation,
    IncorrectState,
    MissingPrivilege,
    NoSuchObject,
    XapiFailure,
)
from aioxo.simulator.inventory import new_uuid
from aioxo.simulator.rest.actions import action_route
from aioxo.simulator.rest.answers import created, deleted, json_answer, no_content
from aioxo.simulator.rest.listing import QUERY, chosen, listing
from aioxo.simulator.rest.objects import PARTS, Handler, finder, lister, show
from aioxo.simulator.rest.routes import BASE, Call, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from aioxo.simulator.rest.validation import Type
    from aioxo.simulator.state import Record, State

_TOKEN: dict[str, Type] = {"client?": "object", "description?": "string", "expiresIn?": "any"}
_USER: dict[str, Type] = {"name": "string", "password": "string", "permission?": ("none", "admin")}
_USER_PATCH: dict[str, Type] = {
    "name?": "string",
    "password?": "string",
    "permission?": ("none", "admin"),
    "preferences?": "object",
}
_SERVER: dict[str, Type] = {
    "host": "string",
    "username": "string",
    "password": "string",
    "label?": "string",
    "httpProxy?": "string",
    "allowUnauthorized?": "boolean",
    "readOnly?": "boolean",
}
#: Collection, type in errors, and resource of the records that can only be read.
READ_ONLY = (
    ("schedules", "schedule", "schedule"),
    ("proxies", "proxy", "proxy"),
    ("backup-jobs", "backup-job", "backup-job"),
    ("backup-logs", "backup-log", "backup-log"),
    ("backup-repositories", "backup-repository", "backup-repository"),
    ("backup-archives", "backup-archive", "backup-archive"),
    ("restore-logs", "restore-log", "restore-log"),
    ("acl-roles", "acl-role", "acl-role"),
    ("acl-privileges", "acl-privilege", "acl-privilege"),
)


def _find_user(state: State, key: str) -> Record:
    return state.accounts.user(key).rest_record()


def _find_group(state: State, key: str) -> Record:
    return state.accounts.group(key)


def record_finder(collection: str, kind: str) -> Callable[[State, str], Record]:
    """Return a function that finds a record of one collection; `NoSuchObject` when there is none."""

    def find(state: State, key: str) -> Record:
        found = state.records.get(collection, {}).get(key)
        if found is None:
            raise NoSuchObject(key, kind)
        return found

    return find


# --- users


async def _show_user(call: Call) -> web.StreamResponse:
    if not call.caller.administrator and call.caller.id != call.params["id"]:
        raise MissingPrivilege("user", "read", call.params["id"])
    return await json_answer(call, call.subject)


async def _list_users(call: Call) -> web.StreamResponse:
    seen = [user.rest_record() for user in call.state.accounts.users.values()] if call.caller.administrator else []
    return await listing(call, seen, f"{BASE}/users")


async def _create_user(call: Call) -> web.StreamResponse:
    body = call.body
    made = call.state.accounts.add_user(body["name"], body["password"], body.get("permission", "none"))
    return await created(call, made.id)


async def _patch_user(call: Call) -> web.StreamResponse:
    accounts, body = call.state.accounts, call.body
    user = accounts.user(call.params["id"])
    if "permission" in body and user.id == call.caller.id:
        raise ForbiddenOperation("update own permission", "a user cannot change their own permission")
    taken = accounts.named(body["name"]) if "name" in body else None
    if taken is not None and taken.id != user.id:
        raise AlreadyExists(taken.id, "user")
    user.email = body.get("name", user.email)
    user.password = body.get("password", user.password)
    user.permission = body.get("permission", user.permission)
    user.preferences = body.get("preferences", user.preferences)
    return no_content()


async def _delete_user(call: Call) -> web.StreamResponse:
    call.state.accounts.delete_user(call.params["id"])
    return await deleted(call)


async def _groups_of_user(call: Call) -> web.StreamResponse:
    accounts = call.state.accounts
    groups = [accounts.group(group) for group in call.subject["groups"]] if call.caller.administrator else []
    return await listing(call, groups, f"{BASE}/groups")


# --- tokens


def _check_own(call: Call) -> None:
    if call.params.get("id", call.caller.id) != call.caller.id:
        raise ForbiddenOperation("access another user's tokens", "tokens are their owner's only")


async def _create_token(call: Call) -> web.StreamResponse:
    _check_own(call)
    body = call.body
    token, new = call.state.accounts.create_token(
        call.caller,
        description=body.get("description"),
        expires_in=body.get("expiresIn"),
        client_id=body.get("client", {}).get("id"),
    )
    return await json_answer(call, {"token": token.record(new=new)}, status=201)


async def _list_tokens(call: Call) -> web.StreamResponse:
    _check_own(call)
    tokens = [token.record() for token in call.state.accounts.tokens_of(call.caller.id)]
    return await json_answer(call, chosen(call, tokens))


# --- groups


async def _create_group(call: Call) -> web.StreamResponse:
    return await created(call, call.state.accounts.add_group(call.body["name"])["id"])


async def _patch_group(call: Call) -> web.StreamResponse:
    if "name" in call.body:
        call.state.accounts.rename_group(call.params["id"], call.body["name"])
    return no_content()


async def _delete_group(call: Call) -> web.StreamResponse:
    call.state.accounts.delete_group(call.params["id"])
    return await deleted(call)


async def _users_of_group(call: Call) -> web.StreamResponse:
    accounts = call.state.accounts
    users = [accounts.user(user).rest_record() for user in call.subject["users"]] if call.caller.administrator else []
    return await listing(call, users, f"{BASE}/users")


async def _join(call: Call) -> web.StreamResponse:
    call.state.accounts.join(call.params["userid"], call.params["id"])
    return no_content()


async def _leave(call: Call) -> web.StreamResponse:
    call.state.accounts.leave(call.params["userid"], call.params["id"])
    return no_content()


# --- servers


async def _create_server(call: Call) -> web.StreamResponse:
    servers = call.state.records.setdefault("servers", {})
    for server in servers.values():
        if server["host"] == call.body["host"]:
            raise AlreadyExists(server["id"], "server")
    server_id = new_uuid(call.state.hypervisor.rng)
    shown = {name: value for name, value in call.body.items() if name != "password"}
    defaults: dict[str, Any] = {"allowUnauthorized": False, "enabled": False, "readOnly": False}
    servers[server_id] = defaults | shown | {"id": server_id, "status": "disconnected"}
    return await created(call, server_id)


async def _disconnect(call: Call) -> None:
    """Let go of a pool: all its objects leave, and wait in the record's shadow until it is connected again."""
    server = _server_in(call, "connected")
    store, aside = call.state.store, call.state.disconnected
    aside[server["id"]] = [item for item in store.all().values() if item["$pool"] == server["poolId"]]
    for item in aside[server["id"]]:
        store.remove(item["id"])
    gone = {"poolId", "master"}
    record = {name: value for name, value in server.items() if name not in gone}
    call.state.records["servers"][server["id"]] = record | {"enabled": False, "status": "disconnected"}


async def _connect(call: Call) -> None:
    server = _server_in(call, "disconnected")
    objects = call.state.disconnected.pop(server["id"], None)
    if objects is None:
        raise XapiFailure("EHOSTUNREACH")
    for item in objects:
        call.state.store.put(item)
    pool = next(item for item in objects if item["type"] == "pool")
    record = server | {"enabled": True, "status": "connected", "poolId": pool["id"], "master": pool["master"]}
    call.state.records["servers"][server["id"]] = record


def _server_in(call: Call, expected: str) -> Record:
    server = call.subject
    if server["status"] != expected:
        raise IncorrectState(actual=server["status"], expected=expected, object_id=server["id"], property_name="status")
    return server


async def _delete_server(call: Call) -> web.StreamResponse:
    del call.state.records["servers"][call.params["id"]]
    return await deleted(call)


def routes() -> Iterable[Route]:
    """Yield the routes of users, groups, tokens, servers and read-only records."""
    yield from _user_routes()
    yield from _group_routes()
    find = record_finder("servers", "server")
    yield Route(
        "GET", "/servers", lister(lambda state: state.records.get("servers", {}).values(), "servers"), query=QUERY
    )
    yield Route("POST", "/servers", _create_server, None, ("server", "create"), body=_SERVER, modern=True)
    yield Route("GET", "/servers/{id}", show, find, ("server", "read"))
    yield Route("DELETE", "/servers/{id}", _delete_server, find, ("server", "delete"), modern=True)
    for name, work in (("connect", _connect), ("disconnect", _disconnect)):
        yield action_route(
            f"/servers/{{id}}/actions/{name}", f"{name} server", work, kind="server", find=find,
            privilege=("server", name),
        )  # fmt: skip
    yield Route("GET", "/servers/{id}/tasks", PARTS["tasks"], find, query=QUERY, modern=True)
    for collection, kind, resource in READ_ONLY:
        yield Route("GET", f"/{collection}", lister(_records(collection), collection), query=QUERY, modern=True)
        path, find = f"/{collection}/{{id}}", record_finder(collection, kind)
        yield Route("GET", path, show, find, (resource, "read"), modern=True)
    yield Route("GET", "/vms/{id}/backup-jobs", _backup_jobs_of_vm, finder("VM"), query=QUERY, modern=True)
    yield action_route(
        "/schedules/{id}/actions/run", "run schedule", _run_schedule, kind="schedule",
        find=record_finder("schedules", "schedule"), privilege=("schedule", "run"),
    )  # fmt: skip


async def _run_schedule(call: Call) -> None:
    """A job that finds nothing to do: it ends well at once."""


def _nothing(collection: str) -> Handler:
    """Return a handler for what nobody has here: roles and privileges."""
    return lister(lambda _: (), collection)


async def _backup_jobs_of_vm(call: Call) -> web.StreamResponse:
    key = call.subject["id"]
    jobs = call.state.records.get("backup-jobs", {}).values() if call.caller.administrator else ()
    return await listing(call, (job for job in jobs if key in str(job["vms"])), f"{BASE}/backup-jobs")


def _records(collection: str) -> Callable[[State], Iterable[Record]]:
    return lambda state: state.records.get(collection, {}).values()


def _user_routes() -> Iterable[Route]:
    yield Route("GET", "/users", _list_users, query=QUERY)
    yield Route("POST", "/users", _create_user, None, ("user", "create"), body=_USER, modern=True)
    yield Route("POST", "/users/authentication_tokens", _create_token, body=_TOKEN, administrator=True, modern=True)
    yield Route("GET", "/users/{id}", _show_user, _find_user)
    yield Route("PATCH", "/users/{id}", _patch_user, _find_user, ("user", "update"), body=_USER_PATCH, modern=True)
    yield Route("DELETE", "/users/{id}", _delete_user, _find_user, ("user", "delete"), modern=True)
    yield Route("GET", "/users/{id}/groups", _groups_of_user, _find_user, query=QUERY)
    yield Route("GET", "/users/{id}/acl-privileges", _nothing("acl-privileges"), _find_user, query=QUERY, modern=True)
    yield Route("GET", "/users/{id}/tasks", PARTS["tasks"], _find_user, query=QUERY, modern=True)
    tokens = "/users/{id}/authentication_tokens"
    yield Route("POST", tokens, _create_token, _find_user, body=_TOKEN, modern=True)
    yield Route("GET", tokens, _list_tokens, _find_user, query={"filter": "string", "limit": "number"}, modern=True)


def _group_routes() -> Iterable[Route]:
    yield Route("GET", "/groups", lister(lambda state: state.accounts.groups.values(), "groups"), query=QUERY)
    yield Route("POST", "/groups", _create_group, None, ("group", "create"), body={"name": "string"}, modern=True)
    yield Route("GET", "/groups/{id}", show, _find_group, ("group", "read"))
    patch: dict[str, Type] = {"name?": "string"}
    yield Route("PATCH", "/groups/{id}", _patch_group, _find_group, ("group", "update"), body=patch, modern=True)
    yield Route("DELETE", "/groups/{id}", _delete_group, _find_group, ("group", "delete"), modern=True)
    yield Route("GET", "/groups/{id}/users", _users_of_group, _find_group, query=QUERY)
    yield Route("GET", "/groups/{id}/acl-roles", _nothing("acl-roles"), _find_group, query=QUERY, modern=True)
    yield Route("GET", "/groups/{id}/tasks", PARTS["tasks"], _find_group, query=QUERY, modern=True)
    members = "/groups/{id}/users/{userid}"
    yield Route("PUT", members, _join, _find_group, ("group", "update:users"), modern=True)
    yield Route("DELETE", members, _leave, _find_group, ("group", "update:users"), modern=True)
