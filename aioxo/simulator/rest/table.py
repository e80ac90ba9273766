"""Puts all routes together for one server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioxo.simulator.rest import actions, editing, images, jobs, measures, missing, objects, people, service
from aioxo.simulator.rest.routes import Route, Routes

if TYPE_CHECKING:
    from aioxo.simulator.rest.events import EventStreams
    from aioxo.simulator.rest.images import Exporter
    from aioxo.simulator.state import State


def build_routes(state: State, events: EventStreams, exporter: Exporter) -> Routes:
    """Return the routes of the server that `state` is."""
    routes: list[Route] = [
        *service.routes(),
        *objects.routes(),
        *actions.routes(),
        *editing.routes(),
        *people.routes(),
        *jobs.routes(),
        *images.routes(exporter),
        *measures.routes(),
        *events.routes(),
    ]
    if not state.dialect.modern_routes:
        routes = [*(route for route in routes if not route.modern), *editing.old_routes(), *service.old_routes()]
        return Routes(routes)
    described: list[Routes] = []
    routes.append(service.swagger_route(described))
    described.append(Routes(routes))
    return Routes([*routes, *missing.routes()])
