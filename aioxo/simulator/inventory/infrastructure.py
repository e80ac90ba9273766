"""What VMs run on: pools, hosts, storage, networks, and the messages and tasks that XAPI keeps about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioxo.simulator.inventory.names import Object, identity, mac_of, new_ref, new_uuid, typed_identity

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

CORES = 32
_FEATURES = ("ATTACH", "CLONE", "CREATE", "DEACTIVATE", "DELETE", "DETACH", "RESIZE", "SNAPSHOT", "UPDATE")


def make_pool(
    rng: random.Random, *, uuid: str, name_label: str, name_description: str, master: str, default_sr: str, hosts: int
) -> Object:
    """Return a pool of `hosts` hosts; it is its own `$pool`."""
    return {
        "auto_poweron": False,
        "crashDumpSr": default_sr,
        "current_operations": {},
        "default_SR": default_sr,
        "HA_enabled": False,
        "haRebootVmOnInternalShutdown": True,
        "haSrs": [],
        "master": master,
        "tags": [],
        "name_description": name_description,
        "name_label": name_label,
        "migrationCompression": False,
        "otherConfig": {"auto_poweron": "false"},
        "cpus": {"cores": CORES * hosts, "sockets": 2 * hosts},
        "suspendSr": default_sr,
        "zstdSupported": True,
        "vtpmSupported": True,
        "platform_version": "3.4.0",
    } | typed_identity(rng, "pool", None, uuid)


def make_host(
    rng: random.Random,
    *,
    pool: str,
    uuid: str,
    name_label: str,
    address: str,
    memory: int,
    used: int,
    booted: int,
    controller: str,
    resident: Sequence[str],
    pifs: Sequence[str],
    pbds: Sequence[str],
) -> Object:
    """Return a running host of `memory` bytes, `used` of them taken, that booted at `booted` (Unix seconds)."""
    iqn = f"iqn.2024-01.com.example:{uuid[:8]}"
    started = booted + 60
    return (
        _hardware(name_label, address, controller, iqn)
        | {
            "name_label": name_label,
            "memory": {"usage": used, "size": memory},
            "multipathing": False,
            "otherConfig": {"agent_start_time": f"{started}.", "boot_time": f"{booted}.", "iscsi_iqn": iqn},
            "patches": [],
            "powerOnMode": "",
            "power_state": "Running",
            "residentVms": list(resident),
            "startTime": booted,
            "supplementalPacks": [],
            "agentStartTime": started,
            "rebootRequired": False,
            "tags": [],
            "version": "8.3.0",
            "productBrand": "XCP-ng",
            "hvmCapable": True,
            "certificates": [{"fingerprint": _fingerprint(rng), "notAfter": booted + 10 * 365 * 86400}],
            "PIFs": list(pifs),
            "$PIFs": list(pifs),
            "PCIs": [],
            "$PCIs": [],
            "PGPUs": [],
            "$PGPUs": [],
            "$PBDs": list(pbds),
        }
        | typed_identity(rng, "host", pool, uuid)
    )


def _hardware(hostname: str, address: str, controller: str, iqn: str) -> Object:
    return {
        "CPUs": {
            "cpu_count": str(CORES),
            "socket_count": "2",
            "threads_per_core": "2",
            "vendor": "GenuineIntel",
            "speed": "2400.000",
            "modelname": "Simulated CPU @ 2.40GHz",
            "family": "6",
            "model": "85",
            "stepping": "4",
            "flags": "fpu de tsc msr pae cx8 apic sep cmov pat clflush mmx fxsr sse sse2 ht",
        },
        "address": address,
        "bios_strings": {
            "bios-vendor": "Simulated",
            "system-manufacturer": "Simulated",
            "system-product-name": "Simulated server",
        },
        "build": "8.3.0",
        "chipset_info": {"iommu": True},
        "enabled": True,
        "controlDomain": controller,
        "cpus": {"cores": CORES, "sockets": 2},
        "current_operations": {},
        "hostname": hostname,
        "iscsiIqn": iqn,
        "zstdSupported": True,
        "license_params": {"restrict_zstd_export": "false", "restrict_vtpm": "false"},
        "license_server": {"address": "localhost", "port": "27000"},
        "license_expiry": None,
        "logging": {},
        "name_description": "",
    }


def _fingerprint(rng: random.Random) -> str:
    return rng.randbytes(32).hex(":").upper()


def make_sr(
    rng: random.Random,
    *,
    pool: str,
    uuid: str,
    name_label: str,
    sr_type: str,
    container: str,
    size: int,
    usage: int,
    physical_usage: int,
    vdis: Sequence[str],
    pbds: Sequence[str],
) -> Object:
    """Return an SR; `container` is the pool of a shared one and the host of a local one.

    `sr_type` is "nfs" or "iso" (shared), "ext" or "lvm" (local); `usage` the sum of the virtual sizes of its VDIs and
    `physical_usage` of what they take, in bytes.
    """
    strategy = {"nfs": "thin", "ext": "thin", "lvm": "thick"}.get(sr_type)
    return (
        {
            "type": "SR",
            "content_type": "iso" if sr_type == "iso" else "user",
            "physical_usage": physical_usage,
        }
        | ({} if strategy is None else {"allocationStrategy": strategy})
        | {
            "current_operations": {},
            "inMaintenanceMode": False,
            "name_description": "",
            "name_label": name_label,
            "size": size,
            "shared": container == pool,
            "SR_type": sr_type,
            "tags": [],
            "usage": usage,
            "VDIs": list(vdis),
            "other_config": {},
            "sm_config": {},
            "$container": container,
            "$PBDs": list(pbds),
        }
        | identity(rng, pool, uuid)
    )


def make_pbd(
    rng: random.Random, *, pool: str, host: str, sr: str, device_config: dict[str, str], uuid: str | None = None
) -> Object:
    """Return the attached PBD that connects `host` to `sr`."""
    return {
        "type": "PBD",
        "attached": True,
        "host": host,
        "SR": sr,
        "device_config": device_config,
        "otherConfig": {"storage_driver_domain": new_ref(rng)},
    } | identity(rng, pool, uuid)


def make_network(
    rng: random.Random,
    *,
    pool: str,
    uuid: str,
    name_label: str,
    bridge: str,
    pifs: Sequence[str],
    vifs: Sequence[str],
    mtu: int = 1500,
) -> Object:
    """Return a network on `bridge`, with its PIFs (one per host) and the VIFs plugged into it."""
    return {
        "automatic": False,
        "bridge": bridge,
        "current_operations": {},
        "defaultIsLocked": False,
        "MTU": mtu,
        "name_description": "",
        "name_label": name_label,
        "other_config": {},
        "tags": [],
        "PIFs": list(pifs),
        "VIFs": list(vifs),
        "nbd": False,
        "insecureNbd": False,
        "isBonded": False,
    } | typed_identity(rng, "network", pool, uuid)


def make_pif(
    rng: random.Random,
    *,
    pool: str,
    host: str,
    network: str,
    device: str,
    ip: str = "",
    vlan: int = -1,
    uuid: str | None = None,
) -> Object:
    """Return an attached PIF of `host` on `network`; one with an `ip` is the management interface."""
    management = bool(ip)
    physical = vlan == -1
    return {
        "type": "PIF",
        "attached": True,
        "isBondMaster": False,
        "isBondSlave": False,
        "device": device,
        "deviceName": "Simulated 10G adapter",
        "dns": "192.0.2.1" if management else "",
        "disallowUnplug": management,
        "gateway": "192.0.2.1" if management else "",
        "ip": ip,
        "ipv6": [],
        "mac": mac_of(rng.getrandbits(40)),
        "management": management,
        "carrier": True,
        "mode": "Static" if management else "None",
        "ipv6Mode": "None",
        "mtu": 1500,
        "netmask": "255.255.255.0" if management else "",
        "physical": physical,
        "primaryAddressType": "IPv4",
        "vlan": vlan,
        "speed": 10000,
        "$host": host,
        "$network": network,
    } | identity(rng, pool, uuid)


def make_sm(rng: random.Random, *, pool: str, sm_type: str) -> Object:
    """Return the storage driver (SM) for SRs of `sm_type`."""
    tail = identity(rng, pool)
    return {
        "type": "SM",
        "uuid": tail["uuid"],
        "name_description": f"Simulated driver of {sm_type} storage",
        "name_label": sm_type.upper(),
        "SM_type": sm_type,
        "configuration": {},
        "vendor": "aioxo",
        "features": {f"VDI_{feature}": 1 for feature in _FEATURES} if sm_type != "iso" else {"VDI_ATTACH": 1},
        "driver_filename": f"/opt/xensource/sm/{sm_type.upper()}SR",
        "required_cluster_stack": [],
        "supported_image_formats": [],
    } | tail


def make_message(rng: random.Random, *, pool: str, name: str, body: str, time: float, subject: str) -> Object:
    """Return a message about the object with uuid `subject`; `time` is in Unix seconds."""
    head = {"body": body, "name": name, "time": int(time), "$object": subject}
    return head | typed_identity(rng, "message", pool)


def alarm_body(metric: str, value: float, level: float) -> str:
    """Return the body of an ALARM message: XAPI's text of a value (a ratio) and of the XML rule that it broke."""
    rule = f'<name value="{metric}"/>\n<alarm_trigger_level value="{level}"/>\n<alarm_trigger_period value="60"/>'
    return f"value: {value:f}\nconfig:\n<variable>\n{rule}\n</variable>\n"


def make_task(
    rng: random.Random,
    *,
    pool: str,
    name_label: str,
    created: float,
    host: str | None = None,
    name_description: str = "",
    progress: float = 0,
    status: str = "pending",
    finished: float | None = None,
    result: str = "",
    uuid: str | None = None,
) -> Object:
    """Return a XAPI task. Times are Unix seconds, `progress` is 0 to 1, `finished` None while it runs.

    `name_label` is the XAPI method, such as "Async.VM.start"; `status` is "pending", "success", "failure", "cancelling"
    or "cancelled"; a `host` of None leaves `$host` out.
    """
    ref = new_ref(rng)
    uuid = uuid or new_uuid(rng)
    task: Object = {
        "allowedOperations": ["cancel"] if status == "pending" else [],
        "created": int(created),
        "current_operations": {},
        "finished": None if finished is None else int(finished),
        "name_description": name_description,
        "name_label": name_label,
        "progress": progress,
        "result": result,
        "status": status,
        "xapiRef": ref,
    }
    if host is not None:
        task["$host"] = host
    return task | typed_identity(rng, "task", pool, uuid) | {"_xapiRef": ref}
