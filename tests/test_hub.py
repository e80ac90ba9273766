"""Fan-out: any interleaving of publishing and receiving, under each policy, against a model that is plainly right."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioxo
from aioxo.feed import merge_changes
from aioxo.hub import DROPPED, Overflow, Subscription

from .cancellation import cancelled_at_every_await

if TYPE_CHECKING:
    from collections.abc import Coroutine


def subscription(overflow: Overflow = "drop_oldest", buffer: int = 3, **options: Any) -> Subscription[Any]:
    return Subscription(overflow=overflow, buffer=buffer, lost=lambda missed: ("lost", missed), **options)


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has no reason to wait."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


@dataclass
class Model:
    """The policies in the fewest words: a list of (key, item), and what was lost."""

    overflow: str
    buffer: int
    waiting: list[tuple[Any, Any]] = field(default_factory=list)
    missed: int = 0
    lagged: bool = False

    def put(self, item: Any, key: Any) -> None:
        if self.lagged:
            return
        keys = [other for other, _ in self.waiting]
        if self.overflow == "latest" and key is not None and key in keys:
            self.waiting[keys.index(key)] = (key, item)
        elif len(self.waiting) < self.buffer:
            self.waiting.append((key, item))
        elif self.overflow == "fail":
            self.waiting, self.lagged = [], True
        else:
            self.missed += 1
            self.waiting = [*self.waiting[1:], (key, item)]

    def receive(self) -> Any:
        if self.missed:
            missed, self.missed = self.missed, 0
            return ("lost", missed)
        return self.waiting.pop(0)[1]


KEYS = st.sampled_from(["a", "b", "c", "d", None])


@given(
    st.sampled_from(["latest", "drop_oldest", "fail"]),
    st.integers(1, 4),
    st.lists(st.one_of(KEYS.map(lambda key: ("put", key)), st.just(("receive", None))), max_size=40),
)
def test_any_interleaving_does_what_the_model_does(
    overflow: Overflow, buffer: int, steps: list[tuple[str, Any]]
) -> None:
    model = Model(overflow, buffer)
    subject = subscription(overflow, buffer)
    lost = 0
    for number, (step, key) in enumerate(steps):
        if step == "put":
            subject.put(number, key=key)
            model.put(number, key)
        elif model.lagged:
            with pytest.raises(aioxo.Lagged):
                subject.receive().send(None)
        elif model.waiting:
            item = now(subject.receive())
            assert item == model.receive()
            lost += item[1] if isinstance(item, tuple) else 0
        assert subject.pending == len(model.waiting) <= buffer
    # Every drop was told, or is about to be.
    if overflow != "fail":
        assert subject.dropped == lost + model.missed


IDS = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(st.sampled_from(["appear", "change", "vanish", "receive"]), IDS), max_size=60))
def test_merging_keeps_the_subscriber_right(steps: list[tuple[str, str]]) -> None:
    """Whoever applies the changes they get ends up with what is there, without ever being told nonsense."""
    subject: Subscription[Any] = subscription("latest", 8, merge=merge_changes)
    there: dict[str, int] = {}
    seen: dict[str, int] = {}

    def apply(change: aioxo.Change) -> None:
        if change.kind == "exit":
            del seen[change.id]
        else:
            assert (change.kind == "enter") == (change.id not in seen)
            assert change.object is not None
            seen[change.id] = change.object["version"]

    def publish(kind: Any, id: str, version: int | None) -> None:
        record = None if version is None else {"version": version}
        subject.put(aioxo.Change(kind, "VM", id, record), key=id)

    for version, (step, id) in enumerate(steps):
        if step == "receive":
            if subject.pending:
                apply(now(subject.receive()))
        elif step == "vanish" and id in there:
            del there[id]
            publish("exit", id, None)
        elif (step == "appear") != (id in there):
            publish("update" if id in there else "enter", id, version)
            there[id] = version
    while subject.pending:
        apply(now(subject.receive()))
    assert seen == there
    assert subject.dropped == 0


@pytest.mark.parametrize(
    ("older", "newer", "merged"),
    [
        ("enter", "enter", "enter"),
        ("enter", "update", "enter"),
        ("enter", "exit", None),
        ("update", "enter", "update"),
        ("update", "update", "update"),
        ("update", "exit", "exit"),
        ("exit", "enter", "update"),
        ("exit", "update", "update"),
        ("exit", "exit", "exit"),
    ],
)
def test_merge_table(older: Any, newer: Any, merged: str | None) -> None:
    first = aioxo.Change(older, "VM", "a", {"version": 1})
    second = aioxo.Change(newer, "VM-template", "a", {"version": 2})
    result = merge_changes(first, second)
    if merged is None:
        assert result is DROPPED
        assert repr(result) == "DROPPED"
    else:
        assert result == aioxo.Change(merged, "VM-template", "a", {"version": 2})  # type: ignore[arg-type]


def test_merged_items_keep_their_place_and_are_not_lost() -> None:
    subject = subscription("latest", 3)
    for item, key in [(1, "a"), (2, "b"), (3, "a"), (4, "c")]:
        subject.put(item, key=key)
    assert [now(subject.receive()) for _ in range(3)] == [3, 2, 4]
    assert (subject.delivered, subject.dropped) == (3, 0)


def test_gap_comes_before_what_is_left_and_is_counted_as_delivered() -> None:
    subject = subscription("drop_oldest", 2)
    for item in range(5):
        subject.put(item)
    assert [now(subject.receive()) for _ in range(3)] == [("lost", 3), 3, 4]
    assert (subject.delivered, subject.dropped) == (3, 3)


def test_lagging_concerns_this_subscriber_alone_and_stays() -> None:
    slow, fast = subscription("fail", 2), subscription("fail", 2)
    for item in range(3):
        slow.put(item)
        fast.put(item)
        assert now(fast.receive()) == item
    for _ in range(2):
        with pytest.raises(aioxo.Lagged, match="more than 2 items behind and 3 were dropped") as raised:
            slow.receive().send(None)
        assert raised.value.missed == 3
    assert slow.dropped == 3
    assert slow.pending == 0


async def test_what_waits_is_received_before_the_end() -> None:
    subject = subscription()
    subject.put(1)
    subject.end(aioxo.ConnectionLost("gone", sent=False))
    subject.end(aioxo.Timeout("too late to count", limit="read", seconds=1))
    subject.put(2)
    assert await subject.receive() == 1
    for _ in range(2):
        with pytest.raises(aioxo.ConnectionLost, match="gone"):
            await subject.receive()


async def test_an_orderly_end_ends_the_iteration() -> None:
    subject = subscription()
    subject.put(1)
    subject.end()
    assert [item async for item in subject] == [1]


async def test_closing_drops_what_waits_and_wakes_the_receiver() -> None:
    subject = subscription()
    receiving = asyncio.ensure_future(anext(subject, "over"))
    await asyncio.sleep(0)
    subject.close()
    assert await receiving == "over"
    subject.put(1)
    assert subject.pending == 0
    assert [item async for item in subject] == []
    assert "closed" in repr(subject)


async def test_a_second_receiver_is_refused_and_the_first_goes_on() -> None:
    subject = subscription()
    receiving = asyncio.ensure_future(subject.receive())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await subject.receive()
    subject.put(1)
    assert await receiving == 1


async def test_cancelled_receive_has_taken_nothing() -> None:
    subject = subscription("drop_oldest", 100)
    sent = 0
    received: list[int] = []

    async def receive_two() -> None:
        nonlocal sent
        for _ in range(2):
            asyncio.get_running_loop().call_soon(subject.put, sent)
            sent += 1
            received.append(await subject.receive())

    async def drain() -> None:
        await asyncio.sleep(0)
        while subject.pending:
            received.append(await subject.receive())
        assert received == list(range(sent))

    outcomes = [outcome async for outcome in cancelled_at_every_await(receive_two, drain)]
    assert outcomes
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


@pytest.mark.parametrize(
    "options",
    [{"overflow": "block"}, {"overflow": ""}, {"buffer": 0}, {"buffer": -1}],
    ids=str,
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(aioxo.ConfigurationError, match=next(iter(options))):
        subscription(**options)


# Marks


def test_a_mark_is_neither_dropped_nor_counted_as_lost() -> None:
    items = subscription(buffer=2)
    items.mark("cut")
    for item in ("a", "b", "c"):
        items.put(item)
    assert [now(items.receive()) for _ in range(4)] == [("lost", 1), "cut", "b", "c"]
    assert items.dropped == 1


def test_nothing_merges_across_a_mark() -> None:
    items = subscription("latest", buffer=8)
    items.put("a1", "a")
    items.put("a2", "a")
    items.mark("cut")
    items.put("a3", "a")
    assert items.pending == 3
    assert [now(items.receive()) for _ in range(3)] == ["a2", "cut", "a3"]


def test_equal_marks_in_a_row_are_one() -> None:
    items = subscription(buffer=1)
    for _ in range(3):
        items.mark("cut")
        items.mark("other")
    assert items.pending == 2
    items.put("a")
    items.mark("cut")
    assert [now(items.receive()) for _ in range(4)] == ["cut", "other", "a", "cut"]


def test_what_is_sealed_counts_for_the_buffer_and_is_dropped_first() -> None:
    items = subscription("latest", buffer=2)
    items.put("a", "a")
    items.put("b", "b")
    items.mark("cut")
    items.put("c", "c")
    items.put("d", "d")
    assert items.dropped > 0
    seen = [now(items.receive()) for _ in range(items.pending + 1)]
    assert seen[0] == ("lost", items.dropped)
    assert "cut" in seen
    assert seen[-1] == "d"


async def test_an_error_raised_again_and_again_does_not_grow() -> None:
    items = subscription()
    items.end(aioxo.ConnectionLost("over", sent=False))
    depths = set()
    for _ in range(3):
        with pytest.raises(aioxo.ConnectionLost) as caught:
            await items.receive()
        depths.add(len(caught.traceback))
    assert len(depths) == 1
