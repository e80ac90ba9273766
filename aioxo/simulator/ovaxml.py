"""`ova.xml`, the description in an XVA: XML-RPC structs of a VM, its VBDs, VDIs, VIFs and networks.

`dump` writes what an importer needs, in XAPI's field names; `load` reads no more than the simulator keeps. Numbers are
text in XAPI's structs. Document types are refused, so that no entity can grow.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Objects = Mapping[str, Mapping[str, Any]]

VM_REFERENCE = "Ref:0"
EMPTY_REFERENCE = "OpaqueRef:NULL"
_CONTROL = {chr(code): "�" for code in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)}


class OVAError(ValueError):
    """The text is not the description of one VM."""


@dataclass(frozen=True)
class DiskDescription:
    """A disk as `ova.xml` has it; its blocks are in the archive's directory `reference`."""

    reference: str
    name_label: str
    name_description: str
    size: int
    position: int
    bootable: bool


@dataclass(frozen=True)
class Description:
    """A VM as `ova.xml` has it; `memory` is in bytes."""

    name_label: str
    name_description: str
    cpus: int
    memory: int
    disks: list[DiskDescription] = field(default_factory=list)


def dump(
    vm: Mapping[str, Any], disks: Sequence[tuple[str, int]], references: Mapping[str, str], objects: Objects
) -> bytes:
    """Return the description of `vm` with `disks` (VDI id and size), each known in the archive by `references`."""
    number = len(disks)
    structs: list[dict[str, Any]] = []
    connections, interfaces = [], []
    by_vdi = {vbd.get("VDI"): vbd for vbd in (objects.get(vbd_id, {}) for vbd_id in vm.get("$VBDs", ()))}
    for place, (vdi_id, size) in enumerate(disks):
        vbd, vdi = by_vdi.get(vdi_id, {}), objects.get(vdi_id, {})
        number += 1
        connections.append(f"Ref:{number}")
        structs.append(_vbd(f"Ref:{number}", references[vdi_id], vbd, place))
        structs.append(_vdi(references[vdi_id], vdi_id, vdi, size, f"Ref:{number}"))
    for vif in (objects[vif_id] for vif_id in vm.get("VIFs", ()) if vif_id in objects):
        number += 2
        interfaces.append(f"Ref:{number - 1}")
        network = objects.get(vif["$network"], {})
        structs.append(_vif(f"Ref:{number - 1}", f"Ref:{number}", vif))
        structs.append(_network(f"Ref:{number}", network, f"Ref:{number - 1}"))
    machine = _struct("VM", VM_REFERENCE, _vm_snapshot(vm, connections, interfaces))
    version = {"hostname": "localhost", "product_brand": "XCP-ng", "product_version": "8.3.0", "export_vsn": "2"}
    return _text({"version": version, "objects": [machine, *structs]}).encode()


def _struct(kind: str, reference: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    return {"class": kind, "id": reference, "snapshot": snapshot}


def _vm_snapshot(vm: Mapping[str, Any], connections: list[str], interfaces: list[str]) -> dict[str, Any]:
    maximum = str(vm["memory"]["static"][1])
    return {
        "uuid": vm["uuid"],
        "power_state": "Halted",
        "name_label": vm["name_label"],
        "name_description": vm["name_description"],
        "is_a_template": vm["type"] == "VM-template",
        "is_a_snapshot": vm["type"] == "VM-snapshot",
        "memory_static_max": maximum,
        "memory_dynamic_max": str(vm["memory"]["dynamic"][1]),
        "memory_dynamic_min": str(vm["memory"]["dynamic"][0]),
        "memory_static_min": str(vm["memory"]["static"][0]),
        "VCPUs_max": str(vm["CPUs"]["max"]),
        "VCPUs_at_startup": str(vm["CPUs"]["number"]),
        "VBDs": connections,
        "VIFs": interfaces,
        "HVM_boot_params": vm["boot"],
        "other_config": vm["other"],
        "tags": vm["tags"],
    }


def _vbd(reference: str, vdi: str, vbd: Mapping[str, Any], place: int) -> dict[str, Any]:
    snapshot = {
        "uuid": vbd.get("uuid", ""),
        "VM": VM_REFERENCE,
        "VDI": vdi,
        "device": vbd.get("device") or "",
        "userdevice": vbd.get("position", str(place)),
        "bootable": vbd.get("bootable", place == 0),
        "mode": "RO" if vbd.get("read_only") else "RW",
        "type": "Disk",
        "empty": False,
    }
    return _struct("VBD", reference, snapshot)


def _vdi(reference: str, vdi_id: str, vdi: Mapping[str, Any], size: int, vbd: str) -> dict[str, Any]:
    snapshot = {
        "uuid": vdi.get("uuid", vdi_id),
        "name_label": vdi.get("name_label", vdi_id),
        "name_description": vdi.get("name_description", ""),
        "virtual_size": str(size),
        "physical_utilisation": str(vdi.get("usage", size)),
        "type": vdi.get("VDI_type", "user"),
        "VBDs": [vbd],
    }
    return _struct("VDI", reference, snapshot)


def _vif(reference: str, network: str, vif: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = {"uuid": vif["uuid"], "VM": VM_REFERENCE, "network": network, "device": vif["device"], "MAC": vif["MAC"]}
    return _struct("VIF", reference, snapshot | {"MTU": str(vif["MTU"])})


def _network(reference: str, network: Mapping[str, Any], vif: str) -> dict[str, Any]:
    snapshot = {"name_label": network.get("name_label", ""), "bridge": network.get("bridge", ""), "VIFs": [vif]}
    return _struct("network", reference, snapshot)


def _text(value: object) -> str:
    """Return `value` as an XML-RPC value, the way XAPI writes it: text untagged."""
    match value:
        case bool():
            inner = f"<boolean>{int(value)}</boolean>"
        case dict():
            members = (
                f"<member><name>{escape(name, _CONTROL)}</name>{_text(part)}</member>" for name, part in value.items()
            )
            inner = f"<struct>{''.join(members)}</struct>"
        case list():
            inner = f"<array><data>{''.join(map(_text, value))}</data></array>"
        case _:
            inner = escape(str(value), _CONTROL)
    return f"<value>{inner}</value>"


def load(text: bytes) -> Description:
    """Read a description; `OVAError` when it is not well-formed or not of one VM with its disks."""
    try:
        document = text.decode()
        if "<!" in document:
            raise OVAError("ova.xml declares a document type")
        root = _value(ET.fromstring(document))  # noqa: S314 - no entity can be declared in it
        structs = [(item["class"], item["id"], item["snapshot"]) for item in root["objects"]]
        machines = [snapshot for kind, _, snapshot in structs if kind == "VM"]
        if len(machines) != 1:
            raise OVAError(f"ova.xml describes {len(machines)} VMs")
        vm = machines[0]
        vdis = {reference: snapshot for kind, reference, snapshot in structs if kind == "VDI"}
        disks = [
            _disk(vbd["VDI"], vdis[vbd["VDI"]], vbd)
            for kind, _, vbd in structs
            if kind == "VBD" and vbd["type"] == "Disk" and vbd["VDI"] != EMPTY_REFERENCE
        ]
        cpus, memory = int(vm["VCPUs_max"]), int(vm["memory_static_max"])
        return Description(vm["name_label"], vm["name_description"], cpus, memory, disks)
    except OVAError:
        raise
    except (ET.ParseError, KeyError, TypeError, ValueError) as error:
        raise OVAError(f"ova.xml cannot be read: {error!r}") from error


def _disk(reference: str, vdi: dict[str, Any], vbd: dict[str, Any]) -> DiskDescription:
    size = int(vdi["virtual_size"])
    if size <= 0 or size % 512:
        raise OVAError(f"{size} bytes is no size of a disk")
    position = int(vbd["userdevice"])
    return DiskDescription(reference, vdi["name_label"], vdi["name_description"], size, position, vbd["bootable"])


def _value(element: ET.Element) -> Any:
    """Return what a <value> holds: text (also of numbers), bool, list or dict."""
    if len(element) == 0:
        return element.text or ""
    inner = element[0]
    match inner.tag:
        case "struct":
            return {member.findtext("name", ""): _value(_child(member, "value")) for member in inner}
        case "array":
            return [_value(item) for item in _child(inner, "data")]
        case "boolean":
            return inner.text == "1"
        case _:
            return inner.text or ""


def _child(element: ET.Element, tag: str) -> ET.Element:
    child = element.find(tag)
    if child is None:
        raise OVAError(f"<{element.tag}> has no <{tag}>")
    return child
