"""Virtual machines and what hangs on them: VMs of all four kinds, VDIs, VBDs and VIFs.

Which fields a VM has follows from its power state and its guest. `vm_in_state` is the only place that knows this: it
takes a VM, a state and what runs inside, and returns the VM a server would show then, fields in the server's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioxo.simulator.inventory.names import Object, identity, new_mac, new_ref, new_uuid

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MIB = 2**20
GIB = 2**30
AGENT_FIELDS = (
    "xenTools",
    "managementAgentDetected",
    "pvDriversDetected",
    "pvDriversVersion",
    "pvDriversUpToDate",
)
LIVE_STATES = frozenset({"Running", "Paused"})


@dataclass(frozen=True)
class Guest:
    """An operating system a VM can run: its template's name, what its agent reports, and how it boots."""

    template: str
    os_version: dict[str, str]
    firmware: str = "uefi"
    windows: bool = False


def _linux(template: str, name: str, uname: str, distro: str, major: str, minor: str, firmware: str = "uefi") -> Guest:
    version = {"name": name, "uname": uname, "distro": distro, "major": major, "minor": minor}
    return Guest(template, version, firmware)


GUESTS = (
    _linux("Debian Bookworm 12", "Debian GNU/Linux 12 (bookworm)", "6.1.0-28-amd64", "debian", "12", "8"),
    _linux("Ubuntu Noble Numbat 24.04", "Ubuntu 24.04.1 LTS", "6.8.0-51-generic", "ubuntu", "24", "04"),
    _linux("AlmaLinux 9", "AlmaLinux 9.5 (Teal Serval)", "5.14.0-503.el9.x86_64", "almalinux", "9", "5"),
    _linux("CentOS 7", "CentOS Linux 7 (Core)", "3.10.0-1160.el7.x86_64", "centos", "7", "9", "bios"),
    Guest(
        "Windows Server 2022 (64-bit)",
        {"name": "Microsoft Windows Server 2022 Standard", "distro": "windows", "major": "10", "minor": "0"},
        windows=True,
    ),
)


def guest_of(vm: Object) -> Guest:
    """Return the guest that `vm` was installed with, by its template's name; the first one known when that is not."""
    template = vm["other"].get("base_template_name")
    return next((guest for guest in GUESTS if guest.template == template), GUESTS[0])


def make_vm(
    rng: random.Random,
    *,
    pool: str,
    name_label: str,
    name_description: str = "",
    cpus: int = 2,
    memory: int = 2 * GIB,
    guest: Guest = GUESTS[0],
    vbds: Sequence[str] = (),
    vifs: Sequence[str] = (),
    tags: Sequence[str] = (),
    installed: int | None = None,
    uuid: str | None = None,
) -> Object:
    """Return a halted VM, linked to VBDs and VIFs by id; `vm_in_state` starts it.

    `memory` is in bytes, `installed` in Unix seconds (None: unknown); `uuid` is its id, drawn from `rng` when None.
    """
    return _vm(
        "VM",
        pool=pool,
        name_label=name_label,
        name_description=name_description,
        cpus=cpus,
        memory=(memory, memory // 2),
        firmware=guest.firmware,
        windows=guest.windows,
        other={
            "mac_seed": new_uuid(rng),
            "base_template_name": guest.template,
            "install-methods": "cdrom,http,ftp",
        },
        vbds=vbds,
        vifs=vifs,
        tags=tags,
        installed=installed,
        tail=identity(rng, pool, uuid),
    )


def _vm(
    kind: str,
    *,
    pool: str,
    name_label: str,
    name_description: str,
    cpus: int,
    memory: tuple[int, int],
    firmware: str,
    other: dict[str, str],
    tail: Object,
    windows: bool = False,
    vbds: Sequence[str] = (),
    vifs: Sequence[str] = (),
    tags: Sequence[str] = (),
    installed: int | None = None,
) -> Object:
    size, least = memory
    vm: Object = {
        "type": kind,
        "addresses": {},
        "auto_poweron": False,
        "bios_strings": {"bios-vendor": "Xen", "system-manufacturer": "Xen"} if kind == "VM" else {},
        "blockedOperations": {},
        "boot": {"order": "cdn", "firmware": firmware},
        "CPUs": {"max": cpus, "number": cpus},
        "current_operations": {},
        "expNestedHvm": False,
        "isNestedVirtEnabled": False,
    }
    if kind == "VM":
        vm["vulnerabilities"] = {"xsa468": False}
    vm |= {
        "viridian": windows,
        "high_availability": "",
        "isFirmwareSupported": True,
        "memory": {"dynamic": [size, size], "static": [least, size], "size": size},
        "installTime": installed,
        "name_description": name_description,
        "name_label": name_label,
        "needsVtpm": False,
        "other": other,
        "os_version": None,
        "power_state": "Halted",
        "hasVendorDevice": False,
        "snapshots": [],
        "startDelay": 0,
        "startTime": None,
        "secureBoot": False,
        "tags": list(tags),
        "VIFs": list(vifs),
        "VTPMs": [],
        "virtualizationMode": "hvm",
        "$container": pool,
        "$VBDs": list(vbds),
        "VGPUs": [],
        "$VGPUs": [],
        "xenStoreData": {},
        "vga": "std",
        "videoram": 8,
    }
    if kind == "VM":
        vm["coresPerSocket"] = 1
    return vm | tail


def vm_in_state(
    vm: Object,
    power_state: str,
    *,
    container: str,
    now: float | None = None,
    addresses: dict[str, str] | None = None,
    agent: bool = True,
    used: float = 0.5,
) -> Object:
    """Return `vm` as a server shows it in `power_state`; its VBDs, VIFs and hosts are the caller's to change.

    Args:
        vm: a VM of any kind but a controller, in any state.
        power_state: "Running", "Paused", "Halted" or "Suspended".
        container: id of the host when running or paused, of the pool otherwise.
        now: Unix time of a start; None keeps `startTime` as it is.
        addresses: what the guest reports, such as {"0/ipv4/0": "10.1.2.3"}.
        agent: whether guest tools are installed; without them nothing is known of the inside.
        used: share of the memory that the guest reports as used.
    """
    size = vm["memory"]["dynamic"][1]
    memory = {"dynamic": vm["memory"]["dynamic"], "static": vm["memory"]["static"]}
    live = power_state in LIVE_STATES
    changed: Object = {"power_state": power_state, "$container": container, "addresses": {}, "os_version": None}
    agent_fields: Object = {}
    if live and agent:
        memory["usage"] = int(size * used)
        changed["addresses"] = addresses or {}
        changed["os_version"] = guest_of(vm).os_version
        agent_fields = {
            "xenTools": {"major": 7, "minor": 30, "version": 7.3},
            "managementAgentDetected": True,
            "pvDriversDetected": True,
            "pvDriversVersion": "7.30.0-12",
            "pvDriversUpToDate": True,
        }
    elif live:
        agent_fields = {"xenTools": False, "managementAgentDetected": False, "pvDriversDetected": False}
    memory["size"] = size
    changed["memory"] = memory
    if now is not None:
        changed["startTime"] = int(now)
    return _reordered(vm, changed, agent_fields, changed["addresses"].get("0/ipv4/0"))


def _reordered(vm: Object, changed: Object, agent_fields: Object, main_address: str | None) -> Object:
    """Copy `vm` with `changed` values, the main address and the agent's fields where the server puts them."""
    result: Object = {}
    for name, value in vm.items():
        if name == "mainIpAddress" or name in AGENT_FIELDS:
            continue
        if name == "high_availability" and main_address is not None:
            result["mainIpAddress"] = main_address
        elif name == "$container":
            result |= agent_fields
        result[name] = changed.get(name, value)
    return result


def make_controller(rng: random.Random, *, pool: str, host: str, host_name: str, memory: int, uuid: str) -> Object:
    """Return the control domain (dom0) of `host`: a running paravirtual VM-controller of `memory` bytes."""
    vm = _vm(
        "VM-controller",
        pool=pool,
        name_label=f"Control domain on host: {host_name}",
        name_description="Runs the host's drivers and its toolstack",
        cpus=8,
        memory=(memory, memory),
        firmware="",
        other={"is_system_domain": "true", "storage_driver_domain": new_ref(rng)},
        tail=identity(rng, pool, uuid),
    )
    result: Object = {}
    for name, value in vm.items():
        match name:
            case "auto_poweron":
                result["affinityHost"] = host
                result[name] = value
            case "$container":
                result |= {"xenTools": False, name: host}
            case "vga":
                result["PV_args"] = ""
            case "videoram":
                pass
            case _:
                result[name] = value
    return result | {"boot": {}, "power_state": "Running", "virtualizationMode": "pv"}


def make_template(
    rng: random.Random,
    *,
    pool: str,
    uuid: str,
    name_label: str,
    default: bool,
    memory: int = 2 * GIB,
    disk: int = 10 * GIB,
    firmware: str = "bios",
    vbds: Sequence[str] = (),
) -> Object:
    """Return a VM-template; a default one has the id `<pool>-<uuid>` and describes its disk instead of having one."""
    template_id = f"{pool}-{uuid}" if default else uuid
    head = {"default_template": "true"} if default else {}
    provision: list[dict[str, Any]] = []
    if default:
        provision = [{"bootable": True, "device": "0", "size": disk, "type": "system", "SR": ""}]
        head["disks"] = f'<provision><disk bootable="true" device="0" size="{disk}" sr="" type="system"/></provision>'
    tail = identity(rng, pool, uuid)
    facts = {
        "isDefaultTemplate": default,
        "template_info": {"disks": provision, "install_methods": ["cdrom", "nfs", "http", "ftp"]},
    }
    tail = {"id": template_id} | facts | tail if default else facts | tail
    return _vm(
        "VM-template",
        pool=pool,
        name_label=name_label,
        name_description="",
        cpus=1,
        memory=(memory, memory // 2),
        firmware=firmware,
        other=head | {"mac_seed": new_uuid(rng), "install-methods": "cdrom,nfs,http,ftp"},
        vbds=vbds,
        tail=tail | {"id": template_id},
    )


def make_snapshot(
    rng: random.Random,
    vm: Object,
    *,
    name_label: str,
    now: float,
    vbds: Sequence[str] = (),
    vifs: Sequence[str] = (),
    uuid: str | None = None,
) -> Object:
    """Return a VM-snapshot of `vm` taken at `now` (Unix seconds), halted, with devices of its own."""
    halted = vm_in_state(vm, "Halted", container=vm["$pool"])
    tail = {"snapshot_time": int(now), "$snapshot_of": vm["id"]} | identity(rng, vm["$pool"], uuid)
    base = {name: value for name, value in halted.items() if name not in tail and name != "vulnerabilities"}
    return (
        base
        | {
            "type": "VM-snapshot",
            "name_label": name_label,
            "current_operations": {},
            "snapshots": [],
            "VIFs": list(vifs),
            "$VBDs": list(vbds),
        }
        | tail
    )


def make_vdi(
    rng: random.Random,
    *,
    pool: str,
    sr: str,
    size: int,
    usage: int,
    name_label: str,
    name_description: str = "",
    vdi_type: str = "user",
    vbds: Sequence[str] = (),
    snapshots: Sequence[str] = (),
    tags: Sequence[str] = (),
    uuid: str | None = None,
) -> Object:
    """Return a VDI of `size` virtual bytes that takes `usage` bytes on `sr`."""
    return {
        "type": "VDI",
        "cbt_enabled": False,
        "missing": False,
        "name_description": name_description,
        "name_label": name_label,
        "size": size,
        "snapshots": list(snapshots),
        "tags": list(tags),
        "usage": usage,
        "VDI_type": vdi_type,
        "current_operations": {},
        "other_config": {},
        "$SR": sr,
        "$VBDs": list(vbds),
        "chainPhysicalUsage": usage,
    } | identity(rng, pool, uuid)


def make_vdi_snapshot(
    rng: random.Random, vdi: Object, *, now: float, vbds: Sequence[str] = (), uuid: str | None = None
) -> Object:
    """Return a VDI-snapshot of `vdi` taken at `now` (Unix seconds), on the same SR."""
    tail = identity(rng, vdi["$pool"], uuid)
    base = {name: value for name, value in vdi.items() if name not in tail and name != "chainPhysicalUsage"}
    return (
        base
        | {"type": "VDI-snapshot", "snapshots": [], "current_operations": {}, "$VBDs": list(vbds)}
        | {"snapshot_time": int(now), "$snapshot_of": vdi["id"]}
        | tail
    )


def make_vbd(
    rng: random.Random,
    *,
    pool: str,
    vm: str,
    vdi: str | None,
    position: int = 0,
    attached: bool = False,
    bootable: bool = False,
    is_cd_drive: bool = False,
    read_only: bool = False,
    uuid: str | None = None,
) -> Object:
    """Return a VBD that connects `vdi` (None: an empty drive) to `vm` (of any kind) at `position`."""
    vbd: Object = {
        "type": "VBD",
        "attached": attached,
        "bootable": bootable,
        "device": "xvd" + "abcdefghijklmnop"[position],
        "is_cd_drive": is_cd_drive,
        "position": str(position),
        "read_only": read_only or is_cd_drive,
    }
    if vdi is not None:
        vbd["VDI"] = vdi
    vbd["VM"] = vm
    return vbd | identity(rng, pool, uuid)


def make_vif(
    rng: random.Random,
    *,
    pool: str,
    vm: str,
    network: str,
    device: int = 0,
    attached: bool = False,
    mac: str | None = None,
    mtu: int = 1500,
    uuid: str | None = None,
) -> Object:
    """Return a VIF that connects `vm` (of any kind) to `network`; a MAC address is drawn when `mac` is None."""
    return {
        "type": "VIF",
        "allowedIpv4Addresses": [],
        "allowedIpv6Addresses": [],
        "attached": attached,
        "device": str(device),
        "lockingMode": "network_default",
        "MAC": mac or new_mac(rng),
        "MTU": mtu,
        "other_config": {},
        "txChecksumming": True,
        "$network": network,
        "$VM": vm,
    } | identity(rng, pool, uuid)
