"""Finds links that lead nowhere or have no other end, and sums that do not add up, in a set of XO objects.

Each rule of `_PAIRS` reads: every id in this field of this type is an object of one of those types, whose field there
holds the id back. One-way links are in `_ONE_WAY`. The checker knows nothing of how the objects were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Objects = Mapping[str, Mapping[str, Any]]

ANY_VM = ("VM", "VM-snapshot", "VM-template", "VM-controller")
ANY_VDI = ("VDI", "VDI-snapshot")
LIVE = ("Running", "Paused")

# (type, field, types at the other end, field at the other end)
_PAIRS = (
    *((kind, "$VBDs", ("VBD",), "VM") for kind in ANY_VM),
    *((kind, "VIFs", ("VIF",), "$VM") for kind in ANY_VM),
    *((kind, "$VBDs", ("VBD",), "VDI") for kind in ANY_VDI),
    *((kind, "$SR", ("SR",), "VDIs") for kind in ANY_VDI),
    ("VBD", "VM", ANY_VM, "$VBDs"),
    ("VBD", "VDI", ANY_VDI, "$VBDs"),
    ("VIF", "$VM", ANY_VM, "VIFs"),
    ("VIF", "$network", ("network",), "VIFs"),
    ("SR", "VDIs", ANY_VDI, "$SR"),
    ("SR", "$PBDs", ("PBD",), "SR"),
    ("PBD", "SR", ("SR",), "$PBDs"),
    ("PBD", "host", ("host",), "$PBDs"),
    ("host", "$PBDs", ("PBD",), "host"),
    ("host", "PIFs", ("PIF",), "$host"),
    ("host", "$PIFs", ("PIF",), "$host"),
    ("host", "residentVms", ("VM", "VM-controller"), "$container"),
    ("host", "controlDomain", ("VM-controller",), "$container"),
    ("VM-controller", "$container", ("host",), "residentVms"),
    ("network", "PIFs", ("PIF",), "$network"),
    ("network", "VIFs", ("VIF",), "$network"),
    ("PIF", "$host", ("host",), "PIFs"),
    ("PIF", "$network", ("network",), "PIFs"),
    ("VM", "snapshots", ("VM-snapshot",), "$snapshot_of"),
    ("VM-snapshot", "$snapshot_of", ("VM",), "snapshots"),
    ("VDI", "snapshots", ("VDI-snapshot",), "$snapshot_of"),
    ("VDI-snapshot", "$snapshot_of", ("VDI",), "snapshots"),
)
_ONE_WAY = (
    ("pool", "master", ("host",)),
    ("pool", "default_SR", ("SR",)),
    ("pool", "suspendSr", ("SR",)),
    ("pool", "crashDumpSr", ("SR",)),
    ("SR", "$container", ("pool", "host")),
    ("VM", "$container", ("pool", "host")),
    ("VM-snapshot", "$container", ("pool", "host")),
    ("VM-template", "$container", ("pool", "host")),
    ("VM-controller", "affinityHost", ("host",)),
    ("task", "$host", ("host",)),
)


def broken_links(objects: Objects) -> list[str]:
    """Return a sentence per broken link or sum; an empty list means that all is consistent."""
    return [
        *_identities(objects),
        *(problem for rule in _PAIRS for problem in _pair(objects, *rule)),
        *(problem for rule in _ONE_WAY for problem in _one_way(objects, *rule)),
        *_power(objects),
        *_sums(objects),
        *_operations(objects),
    ]


def _of_type(objects: Objects, kind: str) -> Iterator[Mapping[str, Any]]:
    return (item for item in objects.values() if item["type"] == kind)


def _ids(item: Mapping[str, Any], field: str) -> list[str]:
    value = item.get(field)
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['type']} {item['id']}"


def _identities(objects: Objects) -> Iterator[str]:
    references: dict[str, str] = {}
    for key, item in objects.items():
        if item["id"] != key:
            yield f"{_name(item)} is stored under {key}"
        default = item["type"] == "VM-template" and item["isDefaultTemplate"]
        if key != (f"{item['$pool']}-{item['uuid']}" if default else item["uuid"]):
            yield f"{_name(item)} has the uuid {item['uuid']}"
        if objects.get(item["$pool"], {}).get("type") != "pool" or item["$poolId"] != item["$pool"]:
            yield f"{_name(item)} is in no pool: {item['$pool']}"
        if (other := references.setdefault(item["_xapiRef"], key)) != key:
            yield f"{_name(item)} shares its reference with {other}"


def _pair(objects: Objects, kind: str, field: str, types: tuple[str, ...], back: str) -> Iterator[str]:
    reverse = {
        (item["id"], target)
        for item in objects.values()
        if item["type"] in types and (item["type"], back) in _FIELDS
        for target in _ids(item, back)
    }
    for item in _of_type(objects, kind):
        targets = _ids(item, field)
        if len(set(targets)) != len(targets):
            yield f"{_name(item)} has an id twice in {field}"
        for target in targets:
            if target not in objects:
                yield f"{_name(item)}.{field} leads to {target}, which does not exist"
            elif objects[target]["type"] not in types:
                yield f"{_name(item)}.{field} leads to {_name(objects[target])}"
            elif objects[target]["$pool"] != item["$pool"]:
                yield f"{_name(item)}.{field} leads into another pool, to {target}"
            elif (target, item["id"]) not in reverse:
                yield f"{_name(item)}.{field} has {target}, whose {back} does not have it back"


def _one_way(objects: Objects, kind: str, field: str, types: tuple[str, ...]) -> Iterator[str]:
    for item in _of_type(objects, kind):
        for target in _ids(item, field):
            if objects.get(target, {}).get("type") not in types:
                yield f"{_name(item)}.{field} leads to {target}, not one of {types}"


def _power(objects: Objects) -> Iterator[str]:
    """A live VM is on a host that lists it; devices are attached as long as the VM is not halted."""
    for vm in _of_type(objects, "VM"):
        container = objects[vm["$container"]]
        live = vm["power_state"] in LIVE
        if container["type"] != ("host" if live else "pool"):
            yield f"{_name(vm)} is {vm['power_state']} and in {_name(container)}"
        elif live and vm["id"] not in container["residentVms"]:
            yield f"{_name(vm)} is live and its {_name(container)} does not list it"
        if (vm["memory"]["size"]) <= 0 or ("usage" in vm["memory"] and not live):
            yield f"{_name(vm)} is {vm['power_state']} and reports the memory {vm['memory']}"
        if live != ("xenTools" in vm) or bool(vm["addresses"]) != ("mainIpAddress" in vm):
            yield f"{_name(vm)} is {vm['power_state']} and its guest fields do not fit"
        if not live and vm["addresses"]:
            yield f"{_name(vm)} is {vm['power_state']} and has addresses"
        for device in (*vm["$VBDs"], *vm["VIFs"]):
            if device in objects and objects[device]["attached"] != (vm["power_state"] != "Halted"):
                yield f"{_name(vm)} is {vm['power_state']} and the attachment of {_name(objects[device])} does not fit"


def _sums(objects: Objects) -> Iterator[str]:
    for sr in _of_type(objects, "SR"):
        vdis = [objects[vdi] for vdi in sr["VDIs"] if vdi in objects]
        for field, part in (("usage", "size"), ("physical_usage", "usage")):
            if (total := sum(vdi[part] for vdi in vdis)) != sr[field]:
                yield f"{_name(sr)}.{field} is {sr[field]}, and its VDIs add up to {total}"
        if sr["physical_usage"] > sr["size"]:
            yield f"{_name(sr)} holds more than its size"
    for host in _of_type(objects, "host"):
        total = sum(objects[vm]["memory"]["size"] for vm in host["residentVms"] if vm in objects)
        if total != host["memory"]["usage"] or total > host["memory"]["size"]:
            yield f"{_name(host)}.memory is {host['memory']}, and its VMs add up to {total}"


def _operations(objects: Objects) -> Iterator[str]:
    for item in objects.values():
        for task in item.get("current_operations", {}):
            if objects.get(task, {}).get("type") != "task":
                yield f"{_name(item)}.current_operations names the task {task}, which does not exist"


_FIELDS = {(kind, field) for kind, field, *_ in _PAIRS} | {("VM", "$container")}
