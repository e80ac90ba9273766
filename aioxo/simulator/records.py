"""Xen Orchestra's own records that a simulated server starts with: its connections to pools, and one backup job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxo.simulator.inventory import new_uuid

if TYPE_CHECKING:
    import random

    from aioxo.simulator.store import Store

Record = dict[str, Any]
HOUR = 3_600_000


def make_records(rng: random.Random, store: Store, now: int) -> dict[str, dict[str, Record]]:
    """Return the records by collection and id: a server per pool, a nightly backup with its log. `now` is in ms."""
    servers = [_server(rng, store, pool) for pool in store.of_type("pool")]
    repository = {
        "id": new_uuid(rng),
        "name": "backup store",
        "url": "nfs://192.0.2.30:/export/backups",
        "enabled": True,
    }
    job_id, schedule_id = new_uuid(rng), new_uuid(rng)
    vms = [vm["id"] for vm in store.of_type("VM") if "backup" in vm["tags"]]
    job = {
        "id": job_id,
        "name": "nightly",
        "type": "backup",
        "mode": "delta",
        "remotes": {"id": repository["id"]},
        "vms": {"id": {"__or": vms}},
        "settings": {"": {"reportWhen": "failure"}, schedule_id: {"exportRetention": 7}},
    }
    schedule = {
        "id": schedule_id,
        "jobId": job_id,
        "cron": "0 2 * * *",
        "enabled": True,
        "name": "every night",
        "timezone": "UTC",
    }
    log = {
        "id": str(now - 8 * HOUR),
        "message": "backup",
        "jobId": job_id,
        "jobName": "nightly",
        "scheduleId": schedule_id,
        "start": now - 8 * HOUR,
        "end": now - 7 * HOUR,
        "status": "success",
        "data": {"mode": "delta", "reportWhen": "failure"},
        "tasks": [],
    }
    return {
        "servers": _by_id(*servers),
        "backup-repositories": _by_id(repository),
        "backup-jobs": _by_id(job),
        "backup-logs": _by_id(log),
        "schedules": _by_id(schedule),
    }


def _by_id(*records: Record) -> dict[str, Record]:
    return {record["id"]: record for record in records}


def _server(rng: random.Random, store: Store, pool: Record) -> Record:
    hosts = [host for host in store.of_type("host") if host["$pool"] == pool["id"]]
    return {
        "allowUnauthorized": True,
        "enabled": True,
        "host": store.current(pool["master"])["address"],
        "label": pool["name_label"],
        "username": "root",
        "poolNameDescription": pool["name_description"],
        "poolNameLabel": pool["name_label"],
        "poolMembersAddresses": [host["address"] for host in hosts],
        "readOnly": False,
        "id": new_uuid(rng),
        "status": "connected",
        "poolId": pool["id"],
        "master": pool["master"],
    }
