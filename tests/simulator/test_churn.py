"""Churn: links hold after every step, the inventory stays itself, and a step costs the same in a large one."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioxo.simulator.churn import MAXIMUM_CREATED, MAXIMUM_TASKS, Churn
from aioxo.simulator.inventory import edits, generate

from .consistency import broken_links

if TYPE_CHECKING:
    from aioxo.simulator.disks import Disk

NOW = 1_790_000_000
MIB = 2**20


class Table:
    """An `ObjectTable` that keeps ids by type, counts its calls, and notes what one step did."""

    def __init__(self, objects: dict[str, dict[str, Any]]) -> None:
        self.objects = objects
        self.by_type: dict[str, dict[str, None]] = {}
        for item in objects.values():
            self.by_type.setdefault(item["type"], {})[item["id"]] = None
        self.put_types: list[str] = []
        self.removed: list[str] = []
        self.gets = 0

    def get(self, object_id: str, /) -> dict[str, Any] | None:
        self.gets += 1
        return self.objects.get(object_id)

    def ids(self, object_type: str, /) -> list[str]:
        return list(self.by_type.get(object_type, ()))

    def put(self, item: dict[str, Any], /) -> None:
        self.put_types.append(item["type"])
        self.objects[item["id"]] = item
        self.by_type.setdefault(item["type"], {})[item["id"]] = None

    def remove(self, object_id: str, /) -> None:
        item = self.objects.pop(object_id)
        self.removed.append(item["type"])
        del self.by_type[item["type"]][object_id]


def start(vms: int, seed: int = 0) -> tuple[Table, Churn, dict[str, Disk]]:
    made = generate(vms=vms, disk_size=MIB, now=NOW)
    table = Table(made.objects)
    return table, Churn(random.Random(seed), table, disks=made.disks, clock=lambda: NOW, disk_size=MIB), made.disks


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_links_hold_after_every_step(seed: int, vms: int) -> None:
    table, churn, disks = start(vms, seed)
    for _ in range(60):
        churn.step()
        assert broken_links(table.objects) == []
    vdis = {key for key, item in table.objects.items() if item["type"] in ("VDI", "VDI-snapshot")}
    assert disks.keys() == vdis


@pytest.mark.parametrize("vms", [0, 1, 50])
def test_links_hold_after_many_steps(vms: int) -> None:
    table, churn, disks = start(vms)
    for _ in range(20):
        for _ in range(250):
            churn.step()
        assert broken_links(table.objects) == []
    assert disks.keys() == {key for key, item in table.objects.items() if item["type"] in ("VDI", "VDI-snapshot")}


def test_every_step_changes_something_and_mostly_one_vm() -> None:
    table, churn, _ = start(50)
    alone = 0
    for _ in range(2000):
        table.put_types.clear()
        table.removed.clear()
        churn.step()
        assert table.put_types or table.removed
        alone += table.put_types == ["VM"]
    assert alone > 1400


def test_all_kinds_of_change_happen() -> None:
    table, churn, _ = start(50)
    before = {key: item for key, item in table.objects.items() if item["type"] == "VM"}
    fields: Counter[str] = Counter()
    for _ in range(3000):
        churn.step()
        for key, old in before.items():
            new = table.objects[key]
            if new is not old:
                fields.update(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        before = {key: table.objects[key] for key in before}
    assert fields.keys() >= {"memory", "power_state", "name_label", "tags", "current_operations", "$container"}
    assert fields.keys() >= {"addresses", "mainIpAddress", "startTime", "xenTools", "os_version"}
    assert fields["memory"] == max(fields.values())
    assert Counter(table.removed).keys() >= {"task", "VM", "VDI", "VBD", "VIF"}
    assert not {"host", "SR", "pool", "network"} & set(table.removed)


def test_what_was_there_at_first_stays_and_what_comes_is_bounded() -> None:
    table, churn, _ = start(30)
    first = set(table.objects)
    for _ in range(5000):
        churn.step()
        assert len(table.ids("task")) <= MAXIMUM_TASKS
        assert len(table.ids("VM")) <= 30 + MAXIMUM_CREATED
    assert first <= table.objects.keys()
    running = sum(table.objects[key]["power_state"] == "Running" for key in table.ids("VM"))
    assert running > 15


def test_objects_are_replaced_and_never_changed() -> None:
    table, churn, _ = start(20)
    before = {key: (item, repr(item)) for key, item in table.objects.items()}
    for _ in range(1000):
        churn.step()
    assert all(repr(item) == text for item, text in before.values())


def test_a_seed_and_a_clock_decide_everything() -> None:
    results = []
    for _ in range(2):
        table, churn, _ = start(20, seed=9)
        for _ in range(500):
            churn.step()
        results.append(table.objects)
    assert results[0] == results[1]


def test_a_step_costs_no_more_calls_in_a_large_inventory() -> None:
    costs = []
    for vms in (600, 6000):
        table, churn, _ = start(vms)
        for _ in range(2000):
            churn.step()
        costs.append(table.gets + len(table.put_types))
    assert costs[1] < 1.5 * costs[0]


def test_others_may_add_and_remove_meanwhile() -> None:
    table, churn, disks = start(10)
    for _ in range(300):
        churn.step()
    for task in table.ids("task"):
        table.remove(task)
    for vm in table.ids("VM"):
        if table.objects[vm]["current_operations"]:
            table.put(table.objects[vm] | {"current_operations": {}})
    for vm in table.ids("VM"):
        edits.remove_vm(table, vm, disks)
    for _ in range(300):
        churn.step()
        assert broken_links(table.objects) == []


def test_each_pending_task_is_named_by_one_vm() -> None:
    table, churn, _ = start(6)
    for _ in range(3000):
        churn.step()
        named = sorted(task for vm in table.ids("VM") for task in table.objects[vm]["current_operations"])
        assert named == sorted(task for task in table.ids("task") if table.objects[task]["status"] == "pending")


def test_operations_of_tasks_that_others_removed_are_ended() -> None:
    table, churn, _ = start(10)
    while not any(table.objects[task]["status"] == "pending" for task in table.ids("task")):
        churn.step()
    for task in table.ids("task"):
        table.remove(task)
    assert broken_links(table.objects)
    for _ in range(2000):
        churn.step()
    assert broken_links(table.objects) == []


def test_an_empty_table_stays_empty() -> None:
    table = Table({})
    churn = Churn(random.Random(0), table)
    for _ in range(50):
        churn.step()
    assert table.objects == {}
