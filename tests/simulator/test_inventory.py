"""The generator and the makers: shapes as captured from a server, links, sums, determinism, size."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from typing import Any

import pytest

from aioxo.simulator import inventory
from aioxo.simulator.inventory import edits, generate

from .consistency import broken_links

NOW = 1_790_000_000.5
MIB = 2**20
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def fields(names: str) -> list[str]:
    """Return the names in a text, for lists that are easier to read so."""
    return names.split()


# Field orders as a running server gave them.
HALTED_VM = fields(
    "type addresses auto_poweron bios_strings blockedOperations boot CPUs current_operations expNestedHvm "
    "isNestedVirtEnabled vulnerabilities viridian high_availability isFirmwareSupported memory installTime "
    "name_description name_label needsVtpm other os_version power_state hasVendorDevice snapshots startDelay startTime "
    "secureBoot tags VIFs VTPMs virtualizationMode $container $VBDs VGPUs $VGPUs xenStoreData vga videoram "
    "coresPerSocket id uuid $pool $poolId _xapiRef"
)
RUNNING_VM = (
    " ".join(HALTED_VM)
    .replace(" high_availability", " mainIpAddress high_availability")
    .replace(
        " $container",
        " xenTools managementAgentDetected pvDriversDetected pvDriversVersion pvDriversUpToDate $container",
    )
    .split()
)
VBD = fields("type attached bootable device is_cd_drive position read_only VDI VM id uuid $pool $poolId _xapiRef")
VDI = fields(
    "type cbt_enabled missing name_description name_label size snapshots tags usage VDI_type current_operations "
    "other_config $SR $VBDs chainPhysicalUsage id uuid $pool $poolId _xapiRef"
)
VIF = fields(
    "type allowedIpv4Addresses allowedIpv6Addresses attached device lockingMode MAC MTU other_config txChecksumming "
    "$network $VM id uuid $pool $poolId _xapiRef"
)
SR = fields(
    "type content_type physical_usage allocationStrategy current_operations inMaintenanceMode name_description "
    "name_label size shared SR_type tags usage VDIs other_config sm_config $container $PBDs id uuid $pool $poolId "
    "_xapiRef"
)
POOL = fields(
    "auto_poweron crashDumpSr current_operations default_SR HA_enabled haRebootVmOnInternalShutdown haSrs master tags "
    "name_description name_label migrationCompression otherConfig cpus suspendSr zstdSupported vtpmSupported "
    "platform_version id type uuid $pool $poolId _xapiRef"
)
TASK = fields(
    "allowedOperations created current_operations finished name_description name_label progress result status xapiRef "
    "$host id type uuid $pool $poolId _xapiRef"
)


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    return generate(seed=1, vms=300, now=NOW).objects


def of_type(objects: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects.values() if item["type"] == kind]


@pytest.mark.parametrize("vms", [0, 1, 2, 50, 641])
def test_all_links_and_sums_hold(vms: int) -> None:
    made = generate(vms=vms, now=NOW)
    assert broken_links(made.objects) == []
    assert len(of_type(made.objects, "VM")) == vms


def test_every_vdi_has_a_content_of_its_size_and_usage() -> None:
    made = generate(vms=40, disk_size=8 * MIB, now=NOW)
    vdis = {key: item for key, item in made.objects.items() if item["type"] in ("VDI", "VDI-snapshot")}
    assert made.disks.keys() == vdis.keys()
    for key, disk in made.disks.items():
        assert disk.size == vdis[key]["size"] in (8 * MIB, 16 * MIB, 32 * MIB)
        assert disk.allocated() == vdis[key]["usage"]


def test_a_snapshots_disk_has_the_content_of_its_origin() -> None:
    made = generate(vms=12, disk_size=4 * MIB, now=NOW)
    snapshots = of_type(made.objects, "VDI-snapshot")
    assert snapshots
    for snapshot in snapshots:
        copy, origin = made.disks[snapshot["id"]], made.disks[snapshot["$snapshot_of"]]
        assert copy is not origin
        assert copy.read(0, copy.size) == origin.read(0, origin.size)


def test_equal_arguments_give_equal_inventories() -> None:
    first, second = generate(seed=5, vms=30, now=NOW), generate(seed=5, vms=30, now=NOW)
    assert list(first.objects.items()) == list(second.objects.items())
    for key, disk in first.disks.items():
        assert disk.read(0, 4096) == second.disks[key].read(0, 4096)


def test_another_seed_gives_other_ids_and_other_contents() -> None:
    first, second = generate(seed=1, vms=5, now=NOW), generate(seed=2, vms=5, now=NOW)
    default = {item["uuid"] for item in of_type(first.objects, "VM-template") if item["isDefaultTemplate"]}
    assert not first.objects.keys() & second.objects.keys()
    assert len({disk.read(0, 4096) for made in (first, second) for disk in made.disks.values()}) > 10
    assert default == {item["uuid"] for item in of_type(second.objects, "VM-template") if item["isDefaultTemplate"]}


def test_fields_come_in_the_servers_order(objects: dict[str, dict[str, Any]]) -> None:
    vms = of_type(objects, "VM")
    halted = next(vm for vm in vms if vm["power_state"] == "Halted")
    running = next(vm for vm in vms if vm["power_state"] == "Running" and vm["addresses"])
    assert list(halted) == HALTED_VM
    assert list(running) == RUNNING_VM
    assert list(next(vbd for vbd in of_type(objects, "VBD") if "VDI" in vbd)) == VBD
    for kind, order in (("VDI", VDI), ("VIF", VIF), ("SR", SR), ("pool", POOL)):
        assert list(of_type(objects, kind)[0]) == order
    task = inventory.make_task(random.Random(0), pool="p", name_label="Async.VM.start", created=NOW, host="h")
    assert list(task) == TASK
    assert task["xapiRef"] == task["_xapiRef"]


def test_a_snapshot_has_its_own_fields_instead_of_the_vms(objects: dict[str, dict[str, Any]]) -> None:
    snapshot = of_type(objects, "VM-snapshot")[0]
    assert list(snapshot)[-7:] == ["snapshot_time", "$snapshot_of", *HALTED_VM[-5:]]
    assert list(snapshot)[:-7] == [name for name in HALTED_VM[:-5] if name != "vulnerabilities"]
    disk = of_type(objects, "VDI-snapshot")[0]
    assert list(disk) == [*VDI[: VDI.index("chainPhysicalUsage")], "snapshot_time", "$snapshot_of", *VDI[-5:]]


def test_one_vm_in_twelve_has_a_snapshot(objects: dict[str, dict[str, Any]]) -> None:
    assert len(of_type(objects, "VM-snapshot")) == 300 // 12


def test_default_templates_have_the_pool_in_their_id(objects: dict[str, dict[str, Any]]) -> None:
    templates = of_type(objects, "VM-template")
    assert {template["isDefaultTemplate"] for template in templates} == {True, False}
    for template in templates:
        uuid = template["uuid"]
        assert template["id"] == (f"{template['$pool']}-{uuid}" if template["isDefaultTemplate"] else uuid)
        assert bool(template["$VBDs"]) != template["isDefaultTemplate"]


def test_all_types_are_there_in_listing_order(objects: dict[str, dict[str, Any]]) -> None:
    kinds = list(dict.fromkeys(item["type"] for item in objects.values()))
    assert kinds == fields(
        "pool host VM-controller VM-template VM SR PBD VDI VBD VIF network PIF VDI-snapshot VM-snapshot SM message"
    )


def test_most_vms_run_and_names_are_unique(objects: dict[str, dict[str, Any]]) -> None:
    vms = of_type(objects, "VM")
    states = Counter(vm["power_state"] for vm in vms)
    assert states["Running"] > 0.7 * len(vms)
    assert states["Halted"] > 0
    assert len({vm["name_label"] for vm in vms}) == len(vms)
    assert all(re.fullmatch(r"[a-z]+-\d{3}", vm["name_label"]) for vm in vms)
    addresses = [vm["mainIpAddress"] for vm in vms if "mainIpAddress" in vm]
    assert len(set(addresses)) == len(addresses)


def test_times_are_in_the_past_and_in_order(objects: dict[str, dict[str, Any]]) -> None:
    for vm in of_type(objects, "VM"):
        assert vm["installTime"] < NOW
        if vm["power_state"] == "Running":
            assert vm["startTime"] < NOW
            assert vm["startTime"] > objects[vm["$container"]]["startTime"]
    assert all(message["time"] < NOW for message in of_type(objects, "message"))


def test_alarms_can_be_parsed_as_the_server_does(objects: dict[str, dict[str, Any]]) -> None:
    alarms = [message for message in of_type(objects, "message") if message["name"] == "ALARM"]
    assert len(alarms) >= 3
    for alarm in alarms:
        match = re.match(r'value: (\d\.\d+)\s+config:\s+<variable>\s+<name value="(\w+)"/>', alarm["body"])
        assert match is not None
        assert 0 < float(match[1]) <= 1
        assert alarm["$object"] in objects


def test_large_inventories_have_several_pools_of_bounded_size() -> None:
    made = generate(vms=1500, disk_size=MIB, now=NOW)
    pools = Counter(item["$pool"] for item in of_type(made.objects, "VM"))
    assert len(pools) == 3
    assert max(pools.values()) <= 640
    hosts = Counter(item["$pool"] for item in of_type(made.objects, "host"))
    assert all(hosts[pool] >= max(2, count / 41) for pool, count in pools.items())


@pytest.mark.parametrize(("arguments", "message"), [({"vms": -1}, "VMs"), ({"disk_size": 1000}, "512")])
def test_impossible_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(now=NOW, **arguments)


def test_generating_takes_time_in_proportion_and_not_more() -> None:
    started = time.perf_counter()
    generate(vms=5000, now=NOW)
    assert time.perf_counter() - started < 10


def test_ids_are_version_4_uuids() -> None:
    rng = random.Random(0)
    assert all(UUID.fullmatch(inventory.new_uuid(rng)) for _ in range(200))
    assert UUID.fullmatch(inventory.new_ref(rng).removeprefix("OpaqueRef:"))


class Table:
    """An `ObjectTable` on a dict, with no more than the protocol asks."""

    def __init__(self, objects: dict[str, dict[str, Any]]) -> None:
        self.objects = objects

    def get(self, object_id: str, /) -> dict[str, Any] | None:
        return self.objects.get(object_id)

    def ids(self, object_type: str, /) -> list[str]:
        return [item["id"] for item in self.objects.values() if item["type"] == object_type]

    def put(self, item: dict[str, Any], /) -> None:
        self.objects[item["id"]] = item

    def remove(self, object_id: str, /) -> None:
        del self.objects[object_id]


def test_removing_every_vm_leaves_no_trace_of_them() -> None:
    made = generate(vms=30, disk_size=MIB, now=NOW)
    table = Table(made.objects)
    for vm_id in table.ids("VM"):
        edits.remove_vm(table, vm_id, made.disks)
        assert broken_links(made.objects) == []
    left = Counter(item["type"] for item in made.objects.values())
    assert left["VM"] == left["VM-snapshot"] == left["VDI-snapshot"] == left["VIF"] == 0
    assert left["VBD"] == 1  # the template's
    assert len(made.disks) == left["VDI"] == 3  # the template's and two images


def test_a_snapshot_taken_holds_what_the_disk_held_then() -> None:
    made = generate(vms=1, disk_size=MIB, now=NOW)
    table = Table(made.objects)
    [vm_id] = table.ids("VM")
    snapshot = edits.take_snapshot(table, random.Random(0), vm_id, made.disks, name_label="before", now=NOW)
    assert broken_links(made.objects) == []
    [copy] = [
        item for item in of_type(made.objects, "VDI-snapshot") if item["$VBDs"][0] in table.objects[snapshot]["$VBDs"]
    ][:1]
    before = made.disks[copy["id"]].read(0, 4096)
    with made.disks[copy["$snapshot_of"]] as origin:
        origin.write(0, b"changed")
        assert origin.read(0, 4096) != before
        assert made.disks[copy["id"]].read(0, 4096) == before
    edits.remove_vm(table, snapshot, made.disks)
    assert broken_links(made.objects) == []
    assert of_type(made.objects, "VDI-snapshot") == []


def test_stop_and_start_bring_back_the_same_fields_and_addresses() -> None:
    made = generate(vms=20, now=NOW)
    table = Table(made.objects)
    vm = next(vm for vm in of_type(made.objects, "VM") if vm["power_state"] == "Running" and vm["addresses"])
    edits.set_power_state(table, vm["id"], "Halted")
    halted = table.objects[vm["id"]]
    assert list(halted) == HALTED_VM
    assert halted["startTime"] == vm["startTime"]
    assert broken_links(made.objects) == []
    edits.set_power_state(table, vm["id"], "Running", host=vm["$container"], now=NOW)
    again = table.objects[vm["id"]]
    assert list(again) == RUNNING_VM
    assert again["addresses"] == vm["addresses"]
    assert again["startTime"] == int(NOW)
    assert broken_links(made.objects) == []
    other = next(host["id"] for host in of_type(made.objects, "host") if host["id"] != vm["$container"])
    edits.move_vm(table, vm["id"], other)
    edits.resize_vdi(table, table.ids("VDI")[-1], size=2**30, usage=2**20)
    assert broken_links(made.objects) == []


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("VBD", "VM", "nobody"),
        ("VDI", "$VBDs", []),
        ("host", "residentVms", []),
        ("SR", "usage", 1),
        ("network", "VIFs", []),
        ("pool", "master", "nobody"),
        ("VM", "id", "other"),
        ("VM", "current_operations", {"gone": "start"}),
    ],
)
def test_the_checker_sees_what_is_broken(kind: str, field: str, value: object) -> None:
    objects = generate(vms=10, now=NOW).objects
    item = next(item for item in of_type(objects, kind) if item[field] != value)
    objects[item["id"]] = item | {field: value}
    assert broken_links(objects)
