"""Methods about signing in, tokens, and the server itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import Failure, InvalidCredentials, InvalidParameters, NoSuchObject
from aioxo.simulator.rpc.table import Context, Methods, known_methods, public_info

if TYPE_CHECKING:
    from aioxo.simulator.accounts import Token

SERVER_VERSION = "5.207.2"


def register_session(methods: Methods) -> None:
    """Add the methods of this module."""
    for name, function in {
        "session.signIn": _sign_in,
        "session.signInWithPassword": _sign_in,
        "session.signInWithToken": _sign_in,
        "session.signOut": _sign_out,
        "session.getUser": _get_user,
        "system.getMethodsInfo": lambda _: {each: public_info(each) for each in known_methods()},
        "system.listMethods": lambda _: list(known_methods()),
        "system.methodSignature": _signature,
        "system.getServerVersion": lambda _: SERVER_VERSION,
        "system.getServerTimezone": lambda _: "UTC",
        "system.getVersion": lambda _: "0.1",
        "token.create": _create_token,
        "token.delete": lambda context: _delete_tokens(context, own=False),
        "token.deleteOwn": lambda context: _delete_tokens(context, own=True),
        "token.set": _describe_token,
        "user.getAuthenticationTokens": _own_tokens,
        "test.wait": _wait,
        "api.getConnections": _connections,
        "api.closeAllConnections": _close_others,
    }.items():
        methods.method(name)(function)


async def _sign_in(context: Context) -> dict[str, Any]:
    state, connection, params = context.state, context.connection, context.params
    if state.faults.slow_sign_in:
        await asyncio.sleep(state.faults.slow_sign_in)
    if isinstance(params.get("token"), str):
        user, token = state.accounts.by_token(params["token"], connection.address)
        connection.expiration = token.expiration
    else:
        name, password = params.get("email", params.get("username")), params.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise InvalidCredentials
        user = state.accounts.by_password(name, password)
        connection.expiration = None
    connection.user_id = user.id
    return user.rpc_record()


def _sign_out(context: Context) -> None:
    context.connection.user_id = None


def _get_user(context: Context) -> dict[str, Any]:
    if context.user is None:
        raise Failure("Cannot read properties of undefined")
    return context.user.rpc_record()


def _signature(context: Context) -> list[dict[str, Any]]:
    name = context.params["method"]
    if name not in known_methods():
        raise NoSuchObject(name, "method")
    return [{"name": name} | public_info(name)]


def _create_token(context: Context) -> str:
    params = context.params
    token, _ = context.state.accounts.create_token(
        context.caller,
        description=params.get("description"),
        expires_in=params.get("expiresIn"),
        client_id=params.get("client", {}).get("id"),
    )
    return token.id


def _delete_tokens(context: Context, *, own: bool) -> None:
    accounts, params = context.state.accounts, context.params
    if ("tokens" in params) == ("pattern" in params):
        raise InvalidParameters("exactly one of tokens and pattern is needed")
    secrets = params.get("tokens", [])
    if "pattern" in params:
        secrets = [token.id for token in accounts.tokens.values() if _fits(token, params["pattern"])]
    accounts.delete_tokens(secrets, owner=context.caller.id if own else None)


def _fits(token: Token, pattern: dict[str, Any]) -> bool:
    record = token.record()
    return all(record.get(name) == value for name, value in pattern.items())


def _describe_token(context: Context) -> None:
    token = context.state.accounts.tokens.get(context.params["id"])
    if token is None or token.user_id != context.caller.id:
        raise NoSuchObject(context.params["id"], "authenticationToken")
    if "description" in context.params:
        token.description = context.params["description"]


def _own_tokens(context: Context) -> list[dict[str, Any]]:
    return [token.record() for token in context.state.accounts.tokens_of(context.caller.id)]


async def _wait(context: Context) -> None:
    await asyncio.sleep(float(context.params["duration"]) / 1000)


def _connections(context: Context) -> list[dict[str, Any]]:
    shown = []
    for connection in context.door.connections():
        signed_in = {} if connection.user_id is None else {"user_id": connection.user_id}
        expiring = {} if connection.expiration is None else {"expiration": connection.expiration}
        shown.append({"user_ip": connection.address} | signed_in | expiring)
    return shown


def _close_others(context: Context) -> None:
    for connection in context.door.connections():
        if connection is not context.connection:
            connection.end()
