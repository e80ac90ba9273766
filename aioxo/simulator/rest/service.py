"""Routes about the server itself: is it there, what can it do, where are its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator.rest.answers import body_answer, json_answer
from aioxo.simulator.rest.objects import KINDS
from aioxo.simulator.rest.routes import BASE, Call, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from aioxo.simulator.rest.routes import Routes


async def _ping(call: Call) -> web.StreamResponse:
    return await json_answer(call, {"result": "pong", "timestamp": call.state.clock.milliseconds()})


async def _gui_routes(call: Call) -> web.StreamResponse:
    return await json_answer(call, {"xo5": "/v5", "xo6": "/v6"})


async def _mcp(call: Call) -> web.StreamResponse:
    return await json_answer(call, {"enabled": True})


async def _docs(call: Call) -> web.StreamResponse:
    page = f'<!DOCTYPE html>\n<title>aioxo simulator</title>\n<a href="{BASE}/docs/swagger.json">swagger.json</a>\n'
    return await body_answer(call.request, page.encode(), "text/html; charset=utf-8")


async def _collections(call: Call) -> web.StreamResponse:
    """What an old server tells of itself: the addresses of its collections."""
    names = [kind.collection for kind in KINDS] + ["messages", "servers", "tasks", "users", "groups"]
    return await json_answer(call, [f"{BASE}/{name}" for name in sorted(names)])


def swagger_route(described: list[Routes]) -> Route:
    """Return the route of the OpenAPI document, made from the one `Routes` in `described` when it is asked for."""

    async def swagger(call: Call) -> web.StreamResponse:
        paths: dict[str, dict[str, Any]] = {}
        for route in described[0].all:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
        document = {
            "openapi": "3.0.0",
            "info": {"title": "aioxo simulator", "version": "0", "license": {"name": "MIT"}},
            "paths": paths,
            "servers": [{"url": BASE}],
        }
        return await json_answer(call, document)

    return Route("GET", "/docs/swagger.json", swagger, public=True, modern=True)


def _operation(route: Route) -> dict[str, Any]:
    kinds = {"number": "number", "boolean": "boolean"}
    parameters = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
        for name in ("id", "format", "tag", "userId", "subscriptionId")
        if f"{{{name.lower()}}}" in route.path.lower()
    ]
    parameters += [
        {"in": "query", "name": name, "required": False, "schema": {"type": kinds.get(kind, "string")}}
        for name, kind in route.query.items()
    ]
    operation: dict[str, Any] = {"parameters": parameters, "responses": {"default": {"description": "see the docs"}}}
    if route.body:
        properties: dict[str, Any] = {name.removesuffix("?"): {} for name in route.body}
        required = [name for name in route.body if not name.endswith("?")]
        schema = {"type": "object", "properties": properties} | ({"required": required} if required else {})
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def routes() -> Iterable[Route]:
    """Yield the routes about the server."""
    yield Route("GET", "/ping", _ping, public=True, modern=True)
    yield Route("GET", "/gui-routes", _gui_routes, public=True, modern=True)
    yield Route("GET", "/mcp/status", _mcp, public=True, modern=True)
    yield Route("GET", "/docs", _docs, public=True, modern=True)


def old_routes() -> Iterable[Route]:
    """Yield the routes that only an old server has."""
    yield Route("GET", "/", _collections)
