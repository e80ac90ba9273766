"""The table of objects: order, indices, coalescing."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from aioxo.simulator.failures import NoSuchObject
from aioxo.simulator.store import Flush, Store


def thing(key: str, kind: str = "VM", **fields: Any) -> dict[str, Any]:
    return {"id": key, "type": kind, "_xapiRef": f"OpaqueRef:{key}", **fields}


def listening(store: Store) -> list[Flush]:
    flushes: list[Flush] = []
    store.subscribe(flushes.append)
    return flushes


def test_an_object_that_is_put_again_moves_to_the_end() -> None:
    store = Store([thing("a"), thing("b"), thing("c")])
    store.put(thing("a", name="new"))
    assert store.ids("VM") == ["b", "c", "a"]
    assert list(store.all()) == ["b", "c", "a"]


def test_objects_are_found_by_id_reference_and_type() -> None:
    store = Store([thing("a"), thing("b", "SR")])
    assert store.get("OpaqueRef:a") is store.get("a")
    assert store.find("b", ["VM", "SR"])["id"] == "b"
    assert store.get("nope") is None
    with pytest.raises(NoSuchObject, match="no such VM b"):
        store.find("b", "VM")
    with pytest.raises(NoSuchObject, match="no such VM,host b"):
        store.find("b", ["VM", "host"])
    with pytest.raises(NoSuchObject, match="no such object c"):
        store.find("c")


def test_an_object_that_changes_its_type_is_listed_under_the_new_one() -> None:
    store = Store([thing("a")])
    store.put(thing("a", "VM-template"))
    assert store.ids("VM") == []
    assert store.ids("VM-template") == ["a"]


def test_an_update_replaces_and_leaves_the_old_object_alone() -> None:
    store = Store([thing("a", name="old")])
    before = store.current("a")
    store.update("a", name="new")
    assert before["name"] == "old"
    assert store.current("a")["name"] == "new"


def test_many_changes_of_one_object_are_one() -> None:
    store = Store([thing("a", n=0)])
    flushes = listening(store)
    for number in range(1, 6):
        store.update("a", n=number)
    store.flush()
    assert len(flushes) == 1
    assert flushes[0].entered == {"a": thing("a", n=5)}
    assert flushes[0].previous == {"a": thing("a", n=0)}


def test_what_comes_and_goes_between_two_flushes_was_never_there() -> None:
    store = Store()
    flushes = listening(store)
    store.put(thing("a"))
    store.remove("a")
    store.flush()
    assert flushes == []


def test_what_goes_and_comes_back_has_entered() -> None:
    store = Store([thing("a", n=1)])
    flushes = listening(store)
    store.remove("a")
    store.put(thing("a", n=2))
    store.flush()
    assert flushes[0].entered == {"a": thing("a", n=2)}
    assert flushes[0].previous == {"a": thing("a", n=1)}
    assert flushes[0].exited == {}


def test_what_leaves_is_told_with_its_last_shown_state() -> None:
    store = Store([thing("a", n=1), thing("b")])
    flushes = listening(store)
    store.update("a", n=2)
    store.remove("a")
    store.update("b", n=3)
    store.flush()
    assert flushes[0].exited == {"a": thing("a", n=1)}
    assert list(flushes[0].entered) == ["b"]


def test_changes_are_told_in_the_order_of_the_last_ones() -> None:
    store = Store([thing("a"), thing("b")])
    flushes = listening(store)
    store.update("a")
    store.update("b")
    store.update("a")
    store.flush()
    assert list(flushes[0].entered) == ["b", "a"]


def test_whoever_has_left_hears_no_more() -> None:
    store = Store()
    heard: list[Flush] = []
    leave = store.subscribe(heard.append)
    leave()
    store.put(thing("a"))
    store.flush()
    assert heard == []


def test_removing_the_unknown_is_an_error() -> None:
    with pytest.raises(KeyError):
        Store().remove("a")
    with pytest.raises(KeyError):
        Store().update("a", n=1)


@pytest.mark.parametrize("eventual", [False, True])
def test_when_readers_see_a_change(eventual: bool) -> None:
    store = Store([thing("a", n=1), thing("gone")], eventual=eventual)
    store.update("a", n=2)
    store.put(thing("b"))
    store.remove("gone")
    assert store.current("a")["n"] == 2
    assert store.exists("b")
    assert not store.exists("gone")
    assert store.find("a")["n"] == (1 if eventual else 2)
    assert (store.get("b") is None) == eventual
    assert (store.get("gone") is None) != eventual
    assert len(store) == 2
    store.flush()
    assert store.find("a")["n"] == 2
    assert store.ids("VM") == ["a", "b"]
    assert store.pool.get("b") == thing("b")
    assert store.pool.get("gone") is None


async def test_it_flushes_the_first_change_at_once_and_then_keeps_its_pace() -> None:
    loop = asyncio.get_running_loop()
    store = Store(flush_interval=0.05)
    times: list[float] = []
    flushed = asyncio.Event()

    def listener(_: Flush) -> None:
        times.append(loop.time())
        flushed.set()

    store.subscribe(listener)
    store.start()
    for key in "abc":
        store.put(thing(key))
        await flushed.wait()
        flushed.clear()
    store.stop()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 2
    assert all(gap >= 0.05 - 0.002 for gap in gaps)


async def test_it_tells_what_was_pending_when_it_starts_and_nothing_once_stopped() -> None:
    store = Store()
    flushes = listening(store)
    store.put(thing("a"))
    store.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(flushes) == 1
    store.put(thing("b"))
    store.stop()
    await asyncio.sleep(0)
    assert len(flushes) == 1
