"""Operations that a real server has and the simulator has not: known, checked as far as the object goes, then 501."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioxo.simulator.failures import NotImplementedHere
from aioxo.simulator.rest.objects import KINDS, finder
from aioxo.simulator.rest.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

_MISSING = """
    GET /vms/{id}/dashboard
    PUT /vms/{id}/stats/data_source/{data_source}
    DELETE /vms/{id}/stats/data_source/{data_source}
    POST /srs
    DELETE /srs/{id}
    POST /srs/{id}/actions/forget
    POST /pools/{id}/actions/create_bonded_network
    POST /pools/{id}/actions/emergency_shutdown
    POST /pools/{id}/actions/rolling_reboot
    POST /pools/{id}/actions/rolling_update
    POST /pools/{id}/actions/management_reconfigure
    POST /pools/{id}/actions/add_host
    GET /pools/{id}/dashboard
    GET /pools/{id}/missing_patches
    GET /hosts/{id}/audit.txt
    GET /hosts/{id}/logs.tgz
    GET /hosts/{id}/smt
    GET /hosts/{id}/missing_patches
    POST /hosts/{id}/actions/management_reconfigure
    POST /hosts/{id}/actions/start
    POST /hosts/{id}/actions/clean_shutdown
    POST /hosts/{id}/actions/clean_reboot
    POST /hosts/{id}/actions/smart_reboot
    POST /hosts/{id}/actions/emergency_shutdown
    POST /hosts/{id}/actions/detach
    POST /hosts/{id}/actions/forget
    POST /backup-repositories
    PATCH /backup-repositories/{id}
    POST /backup-repositories/{id}/actions/forget
    POST /backup-repositories/{id}/actions/benchmark
    GET /backup-repositories/{id}/health
    GET /restore/logs
    GET /restore/logs/{id}
    GET /backup/jobs/vm
    GET /backup/jobs/vm/{id}
    GET /backup/jobs/metadata
    GET /backup/jobs/metadata/{id}
    GET /backup/jobs/mirror
    GET /backup/jobs/mirror/{id}
    GET /backup/logs
    GET /backup/logs/{id}
    POST /acl-roles
    PATCH /acl-roles/{id}
    DELETE /acl-roles/{id}
    POST /acl-roles/{id}/actions/copy
    GET /acl-roles/{id}/privileges
    GET /acl-roles/{id}/groups
    GET /acl-roles/{id}/users
    PUT /acl-roles/{id}/groups/{groupid}
    DELETE /acl-roles/{id}/groups/{groupid}
    PUT /acl-roles/{id}/users/{userid}
    DELETE /acl-roles/{id}/users/{userid}
    POST /acl-privileges
    PATCH /acl-privileges/{id}
    DELETE /acl-privileges/{id}
"""


async def _refuse(_: Call) -> web.StreamResponse:
    raise NotImplementedHere


def routes() -> Iterable[Route]:
    """Yield a route for each operation that is missing."""
    kinds = {kind.collection: kind.type for kind in KINDS}
    for line in _MISSING.split("\n"):
        method, _, path = line.strip().partition(" ")
        if path:
            collection = path.split("/")[1]
            find = finder(kinds[collection]) if collection in kinds and "{id}" in path else None
            yield Route(method, path, _refuse, find, modern=True)
