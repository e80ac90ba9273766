"""What a table of records shows: for each collection the fields that tell one from another, the id last.

A column is ``path HEADING kind``; kinds are in `CELLS`. A name ends in ``*`` where a narrow terminal may do without the
column. Only the top-level fields that the columns need are asked for: old servers do not know deep names.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .text import safe, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aioxo.models import Record

__all__ = ["COLLECTIONS", "Column", "columns_for", "columns_of", "fields_of", "value_at"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `path` into a record, `heading`, `kind` of cell, and whether a narrow terminal may do without."""

    path: str
    heading: str
    kind: str = "text"
    optional: bool = False

    @property
    def right(self) -> bool:
        """Whether cells are aligned to the right."""
        return self.kind in {"number", "size", "length", "percent"}

    def cell(self, record: Record) -> str:
        """Return the cell's text, harmless."""
        value = value_at(record, self.path)
        return "" if value is None else CELLS[self.kind](value)


def value_at(record: Any, path: str) -> Any:
    """Return what is at a dotted path, or None."""
    if isinstance(record, dict) and path in record:
        return record[path]
    value: Any = record
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _time(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return safe(seconds)
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return safe(seconds)


def _milliseconds(value: Any) -> str:
    return _time(value / 1000 if isinstance(value, (int, float)) else value)


def _text(value: Any) -> str:
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _percent(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return safe(value)
    return f"{value:.0%}" if abs(value) < _ABSURD else f"{value * 100.0:.1e}%"


def _flag(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else safe(value)


#: From here a share is no percentage that anybody reads.
_ABSURD: Final = 10_000
CELLS: Final[dict[str, Callable[[Any], str]]] = {
    "text": _text,
    "state": _text,
    "id": _text,
    "number": _text,
    "size": size,
    "time": _time,
    "milliseconds": _milliseconds,
    "flag": _flag,
    "length": lambda value: str(len(value)) if isinstance(value, (list, dict)) else safe(value),
    "percent": _percent,
}

#: Collection to what is in it and its columns.
COLLECTIONS: Final[dict[str, tuple[str, str]]] = {
    "acl-privileges": ("what a role may do", "resource RESOURCE, action ACTION, effect EFFECT, roleId ROLE id*"),
    "acl-roles": ("roles: named sets of privileges", "name NAME, description DESCRIPTION"),
    "alarms": (
        "alarms raised by a pool",
        "time TIME milliseconds, body.name ALARM, body.value VALUE, object.type OBJECT*",
    ),
    "backup-archives": (
        "backups of VMs as they are stored",
        "vm.name_label NAME, timestamp TIME milliseconds, mode MODE, size SIZE size",
    ),
    "backup-jobs": ("backup jobs", "name NAME, type TYPE, mode MODE"),
    "backup-logs": ("runs of backup jobs", "jobName JOB, start START milliseconds, status STATUS state"),
    "backup-repositories": ("where backups are stored", "name NAME, enabled ENABLED flag"),
    "groups": ("groups of users", "name NAME, users USERS length"),
    "hosts": (
        "the physical machines",
        "name_label NAME, power_state STATE state, address ADDRESS*, memory.usage USED size, memory.size MEMORY size",
    ),
    "messages": ("messages of a pool", "time TIME time, name NAME, body BODY*"),
    "networks": ("networks", "name_label NAME, bridge BRIDGE, MTU MTU number"),
    "pbds": ("links between hosts and SRs", "attached ATTACHED flag, host HOST id, SR SR id*"),
    "pcis": ("PCI devices", "class_name CLASS, device_name DEVICE, pci_id PCI, $host HOST id*"),
    "pgpus": ("physical GPUs", "dom0Access ACCESS, vgpus VGPUS length, $host HOST id"),
    "pifs": (
        "physical NICs",
        "device DEVICE, mac MAC, ip ADDRESS, vlan VLAN number*, attached ATTACHED flag, $host HOST id*",
    ),
    "pools": ("pools of hosts", "name_label NAME, platform_version VERSION*, HA_enabled HA flag*, master MASTER id*"),
    "proxies": ("backup proxies", "name NAME, version VERSION, address ADDRESS"),
    "restore-logs": ("runs of restores", "start START milliseconds, status STATUS state"),
    "schedules": ("when jobs run", "name NAME, cron CRON, enabled ENABLED flag, jobId JOB id*"),
    "servers": (
        "pools that Xen Orchestra connects to",
        "host HOST, label LABEL, status STATUS state, enabled ENABLED flag, poolNameLabel POOL*",
    ),
    "sms": ("kinds of storage that a pool can use", "SM_type TYPE, name_label NAME, vendor VENDOR*"),
    "srs": (
        "storage repositories",
        "name_label NAME, SR_type TYPE, physical_usage USED size, size SIZE size, shared SHARED flag*",
    ),
    "tasks": (
        "tasks of Xen Orchestra",
        "properties.name NAME, status STATUS state, start START milliseconds, end END milliseconds*",
    ),
    "users": ("users of Xen Orchestra", "email NAME, permission PERMISSION"),
    "vbds": ("links between VMs and disks", "device DEVICE, attached ATTACHED flag, VM VM id, VDI VDI id*"),
    "vdi-snapshots": ("snapshots of disks", "name_label NAME, size SIZE size, snapshot_time TIME time"),
    "vdis": ("virtual disks", "name_label NAME, size SIZE size, usage USED size, $SR SR id*"),
    "vifs": ("virtual NICs", "device DEVICE, MAC MAC, attached ATTACHED flag, $VM VM id, $network NET id*"),
    "vm-controllers": ("VMs that run hosts", "name_label NAME, power_state STATE state, memory.size MEMORY size"),
    "vm-snapshots": ("snapshots of VMs", "name_label NAME, snapshot_time TIME time, $snapshot_of OF id*"),
    "vm-templates": ("what VMs are made from", "name_label NAME, CPUs.number CPUS number, memory.size MEMORY size"),
    "vms": (
        "virtual machines",
        "name_label NAME, power_state STATE state, CPUs.number CPUS number, memory.size MEMORY size, mainIpAddress IP*",
    ),
}  # fmt: skip


def columns_for(collection: str) -> list[Column]:
    """Return the columns of a collection; a name and an id for one that is not known."""
    _, specification = COLLECTIONS.get(collection, ("", "name_label NAME, type TYPE"))
    columns = []
    for part in specification.split(", "):
        path, heading, *kind = part.rstrip("*").split()
        columns.append(Column(path, heading, kind[0] if kind else "text", part.endswith("*")))
    return [*columns, Column("id", "ID", "id")]


def columns_of(fields: Iterable[str]) -> list[Column]:
    """Return plain columns for fields that were asked for by name."""
    return [Column(name, name, "id" if name == "id" else "text") for name in fields]


def fields_of(columns: Sequence[Column]) -> list[str]:
    """Return the top-level fields that the columns need."""
    return list(dict.fromkeys(column.path.partition(".")[0] for column in columns))
