"""Takes a REST request through the checks of a real server, in its order, to the handler of its route.

The order decides what a request that is wrong in two ways is told: credentials, route, permission to use the route,
`/users/me`, JSON body, the object named by the path, privileges on it, then the shape of query and body.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from aioxo.simulator.failures import (
    BadRequest,
    Failure,
    InvalidCredentials,
    MissingPrivilege,
    NotEnoughPermissions,
)
from aioxo.simulator.rest.answers import body_answer, no_route, redirect, refusal
from aioxo.simulator.rest.routes import BASE, Call, Route, Routes, parse_query
from aioxo.simulator.rest.validation import check_body, check_choice, check_query

if TYPE_CHECKING:
    from aiohttp import web

    from aioxo.simulator.accounts import User
    from aioxo.simulator.state import State

logger = logging.getLogger(__name__)
MAXIMUM_JSON = 100 * 1024
_ME = re.compile(r"/users/me(?=/|$)")
_FORM = "application/x-www-form-urlencoded"


class RestDoor:
    """Answers everything at and below `/rest/v0`."""

    def __init__(self, state: State, routes: Routes) -> None:
        self._state = state
        self._routes = routes

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; a `Failure` becomes its JSON."""
        try:
            return await self._answer(request)
        except Failure as failure:
            return await refusal(request, failure, as_text=self._state.dialect.text_answers)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.raw_path)
            return await refusal(request, Failure(str(error)))

    def no_route(self, request: web.Request) -> web.Response:
        """Answer that there is nothing here."""
        return no_route(request, request.raw_path.partition("?")[0])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        user = await self._authenticate(request)
        below = path[len(BASE) :].rstrip("/")
        if not below and self._state.dialect.modern_routes:
            return redirect(f"{BASE}/docs")
        if request.method == "OPTIONS":
            return await self._options(request, below)
        found = self._routes.find(request.method, below or "/")
        if found is None or (found[0].modern and not self._state.dialect.modern_routes):
            return no_route(request, path)
        route, params = found
        self._check_user(route, user)
        if user is not None and self._state.dialect.modern_routes and _ME.search(request.raw_path):
            return redirect(_ME.sub(f"/users/{user.id}", request.raw_path, count=1), status=307)
        call = Call(request, self._state, path.rstrip("/"), parse_query(query), user, params)
        await self._check(call, route)
        return await route.handler(call)

    async def _check(self, call: Call, route: Route) -> None:
        body = await _read_json(call.request) if route.body is not None else None
        if route.find is not None:
            call.found = route.find(self._state, call.params["id"])
        if route.privilege is not None and not call.caller.administrator:
            resource, action = route.privilege
            raise MissingPrivilege(resource, action, call.params.get("id"))
        call.query = check_query(call.raw_query, route.query, flags_by_presence=self._state.dialect.flags_by_presence)
        if route.formats:
            check_choice("format", call.params["format"], route.formats)
        if route.body is not None:
            call.body = check_body(body, route.body)

    async def _authenticate(self, request: web.Request) -> User | None:
        """Return who asks, None without any credentials; wrong ones are refused on public routes too."""
        cookies = request.cookies
        token = cookies.get("authenticationToken") or cookies.get("token")
        header = request.headers.get("Authorization")
        if header is not None and self._state.dialect.basic:
            if token:
                raise BadRequest("Having multiple authentication methods is not supported, please choose one")
            return await self._by_password(header)
        if token:
            return self._state.accounts.by_token(token, request.remote or "")[0]
        return None

    async def _by_password(self, header: str) -> User:
        _, separator, credentials = header.partition(" ")
        if not separator:
            raise BadRequest("Malformed Authorization header")
        try:
            text = base64.b64decode(credentials + "=" * (-len(credentials) % 4)).decode("utf-8", "replace")
        except binascii.Error:
            raise InvalidCredentials from None
        # The real server splits at every colon and uses the first two parts.
        name, password, *_ = [*text.split(":"), ""]
        if self._state.faults.slow_sign_in:
            await asyncio.sleep(self._state.faults.slow_sign_in)
        if ":" not in text:
            raise InvalidCredentials
        return self._state.accounts.by_password(name, password)

    def _check_user(self, route: Route, user: User | None) -> None:
        if route.public:
            return
        if user is None or (self._state.dialect.administrators_only and not user.administrator):
            raise InvalidCredentials
        if route.administrator and not user.administrator:
            raise NotEnoughPermissions

    async def _options(self, request: web.Request, below: str) -> web.Response:
        methods = ",".join(self._routes.methods(below))
        if not methods:
            return no_route(request, request.raw_path.partition("?")[0])
        return await body_answer(request, methods.encode(), "text/html; charset=utf-8", headers={"Allow": methods})


async def _read_json(request: web.Request) -> Any:
    """Return the JSON body; `{}` when there is none or it is of another type. A form is taken for its names."""
    kind = request.content_type if "Content-Type" in request.headers else ""
    if kind not in {"application/json", _FORM}:
        return {}
    if (request.content_length or 0) > MAXIMUM_JSON:
        raise Failure("request entity too large")
    body = await read_at_most(request, MAXIMUM_JSON)
    if not body:
        return {}
    if kind == _FORM:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return _parse_json(body)


async def read_at_most(request: web.Request, limit: int) -> bytes:
    """Return the whole body; `Failure` when it is longer than `limit` bytes."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise Failure("request entity too large")
    return bytes(body)


def _parse_json(body: bytes) -> Any:
    """Parse an object or array; anything else fails, in the words of a JavaScript engine as far as they are simple."""
    text = body.decode("utf-8", "replace").strip()
    if text[:1] not in {"{", "["}:
        raise Failure(f"Unexpected token '{text[:1]}', \"{text}\" is not valid JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.pos >= len(text):
            raise Failure("Unexpected end of JSON input") from None
        raise Failure(f"Unexpected token '{text[error.pos]}', \"{text}\" is not valid JSON") from None
