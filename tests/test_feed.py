"""Changes: what the server says by itself, as entering, changing and leaving."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo import Change, Gap
from aioxo.backoff import Backoff
from aioxo.feed import LISTED_IN

from .cancellation import cancelled_at_every_await
from .peers import TOKEN, FakeServer, Line, Request, all_enter, all_exit, json_answer, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def empty(line: Line, request: Request) -> None:
    await line.respond(200, b"", "application/x-ndjson")


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        for collections in LISTED_IN.values():
            for collection in collections:
                running.routes.setdefault(f"GET /rest/v0/{collection}", empty)
        running.streams("GET /rest/v0/vms", "/rest/v0/vms/a", "/rest/v0/vms/b")
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        client.connection._backoff = Backoff(first=1e-6, limit=1e-6)
        yield client


def vm(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "VM", **fields}


async def received(changes: aioxo.Changes, count: int) -> list[Change | Gap]:
    return [await changes.receive() for _ in range(count)]


async def test_entering_changing_and_leaving(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.changes("VM") as changes:
        await peer.broadcast(all_enter(a=vm("a", v=1), c=vm("c", v=1)))
        assert await received(changes, 2) == [
            Change("update", "VM", "a", vm("a", v=1)),
            Change("enter", "VM", "c", vm("c", v=1)),
        ]
        await peer.broadcast(all_enter(c=vm("c", v=2)))
        await peer.broadcast(all_exit("a", "c", "never-seen"))
        # Nothing waits when something comes: c changed and left between two looks, so it just left.
        first, second = await received(changes, 2)
        rest = await received(changes, 1) if isinstance(first, Change) and first.kind == "update" else []
        exits = [change for change in (first, second, *rest) if isinstance(change, Change) and change.kind == "exit"]
        assert {(change.id, change.object) for change in exits} == {("a", None), ("c", None)}
        assert changes.pending == 0


async def test_only_the_types_asked_for(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.changes("host") as hosts, xo.changes("VM", "SR") as two, xo.changes() as everything:
        await peer.broadcast(
            all_enter(c=vm("c"), h={"id": "h", "type": "host"}, s={"id": "s", "type": "SR"}, t={"type": "task"})
        )
        assert [change.id async for change in _some(everything, 4)] == ["c", "h", "s", "t"]
        assert [change.id async for change in _some(two, 2)] == ["c", "s"]
        assert [change.id async for change in _some(hosts, 1)] == ["h"]
        assert hosts.pending == two.pending == everything.pending == 0


async def _some(changes: aioxo.Changes, count: int) -> AsyncIterator[Change]:
    for change in await received(changes, count):
        assert isinstance(change, Change)
        yield change


async def test_each_type_is_listed_once_for_all(peer: FakeServer, xo: aioxo.Client) -> None:
    before = len(peer.requests)
    async with xo.changes("VM"), xo.changes("VM"), xo.changes("VM", "host"):
        listed = [request.path for request in peer.requests[before:] if "Upgrade" not in dict(request.headers)]
        assert listed == ["/rest/v0/vms", "/rest/v0/hosts"]
    assert peer.requests[-1].query == {"ndjson": ["true"]}
    async with xo.changes("VM"):
        assert peer.requests[-1].path == "/rest/v0/vms"  # with the last one gone nothing is remembered


async def test_a_filter_has_a_view_of_its_own(peer: FakeServer, xo: aioxo.Client) -> None:
    async def vms(line: Line, request: Request) -> None:
        ids = ["a"] if "filter" in request.query else ["a", "b"]
        await line.respond(200, "".join(f'"/rest/v0/vms/{id}"\n' for id in ids).encode(), "application/x-ndjson")

    peer.routes["GET /rest/v0/vms"] = vms
    async with xo.changes("VM", filter="power_state:Running", overflow="drop_oldest") as changes:
        assert [request.query.get("filter") for request in peer.requests[-2:]] == [["power_state:Running"], None]
        running, halted = {"power_state": "Running"}, {"power_state": "Halted"}
        for message in (
            all_enter(a=vm("a", **running)),  # in view already
            all_enter(a=vm("a", **halted)),  # leaves by no longer matching
            all_enter(a=vm("a", **halted)),  # not seen
            all_enter(b=vm("b", **halted)),  # not seen
            all_enter(b=vm("b", **running)),  # there before, but enters the view
            all_enter(a=vm("a", **running)),  # comes back
            all_exit("b"),
            all_exit("a"),
            all_exit("a"),
        ):
            await peer.broadcast(message)
        assert await received(changes, 6) == [
            Change("update", "VM", "a", vm("a", **running)),
            Change("exit", "VM", "a", vm("a", **halted)),
            Change("enter", "VM", "b", vm("b", **running)),
            Change("enter", "VM", "a", vm("a", **running)),
            Change("exit", "VM", "b", None),
            Change("exit", "VM", "a", None),
        ]
        assert await xo.call("echo") == {}
        assert changes.pending == 0


async def test_a_vm_becomes_a_template(peer: FakeServer, xo: aioxo.Client) -> None:
    template = {"id": "a", "type": "VM-template"}
    async with (
        xo.changes("VM") as vms,
        xo.changes("VM-template") as templates,
        xo.changes("VM", "VM-template") as both,
        xo.changes() as everything,
        xo.changes("VM", filter="id:a") as filtered,
    ):
        await peer.broadcast(all_enter(a=template))
        assert await vms.receive() == Change("exit", "VM", "a", template)
        assert await templates.receive() == Change("enter", "VM-template", "a", template)
        assert await both.receive() == Change("update", "VM-template", "a", template)
        assert await everything.receive() == Change("update", "VM-template", "a", template)
        assert await filtered.receive() == Change("exit", "VM", "a", template)
        await peer.broadcast(all_exit("a"))
        assert await templates.receive() == Change("exit", "VM-template", "a", None)
        assert await both.receive() == Change("exit", "VM-template", "a", None)
        assert await everything.receive() == Change("exit", "VM-template", "a", None)
        assert vms.pending == 0


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        "text",
        {},
        {"type": "enter"},
        {"type": "enter", "items": []},
        {"type": "other", "items": {}},
        {"type": ["enter"], "items": {}},
        {"type": "enter", "items": {"a": None}},
        {"type": "enter", "items": {"a": {}}},
        {"type": "enter", "items": {"a": {"type": 5}}},
        {"type": "enter", "items": {"a": {"type": ["VM"]}}},
        {"type": "enter", "items": {"a": [{"type": "VM"}]}},
    ],
)
async def test_what_is_not_understood_leaves_a_gap_and_ends_nothing(
    peer: FakeServer, xo: aioxo.Client, params: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with xo.changes("VM") as changes:
        with caplog.at_level(logging.DEBUG, "aioxo.feed"):
            for _ in range(2):
                await peer.broadcast(json.dumps({"method": "all", "params": params}))
            await peer.broadcast(all_enter(a=vm("a")))
            # Two gaps in a row that nobody has received yet are one.
            assert await changes.receive() == Gap("malformed")
            while (item := await changes.receive()) == Gap("malformed"):
                pass
            assert item == Change("update", "VM", "a", vm("a"))
    assert [record.levelname for record in caplog.records if record.name == "aioxo.feed"] == ["WARNING", "DEBUG"]


async def test_other_notifications_are_nobodys(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.changes("VM") as changes:
        await peer.broadcast(json.dumps({"method": "greeting", "params": {"type": "enter", "items": {"a": vm("a")}}}))
        assert await xo.call("echo") == {}
        assert changes.pending == 0


async def test_it_goes_on_after_a_cut_with_a_gap(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.changes("VM") as changes, xo.changes("host") as hosts:
        await peer.broadcast(all_enter(c=vm("c")))
        assert await changes.receive() == Change("enter", "VM", "c", vm("c"))
        peer.sockets[0].line.reset()
        assert await changes.receive() == Gap("disconnected")
        assert await hosts.receive() == Gap("disconnected")
        await xo.connection.open()
        await peer.signed_in()
        await peer.broadcast(all_enter(c=vm("c", v=2), d=vm("d")))
        assert await received(changes, 2) == [
            Change("update", "VM", "c", vm("c", v=2)),
            Change("enter", "VM", "d", vm("d")),
        ]


async def test_slow_subscribers_lose_what_their_policy_says(peer: FakeServer, xo: aioxo.Client) -> None:
    async with (
        xo.changes("VM", overflow="latest", buffer=4) as latest,
        xo.changes("VM", overflow="drop_oldest", buffer=4) as dropping,
        xo.changes("VM", overflow="fail", buffer=4) as failing,
    ):
        for version in range(10):
            await peer.broadcast(all_enter(a=vm("a", v=version)))
        assert await xo.call("echo") == {}
        assert await latest.receive() == Change("update", "VM", "a", vm("a", v=9))
        assert await dropping.receive() == Gap("overflow", 6)
        assert await dropping.receive() == Change("update", "VM", "a", vm("a", v=6))
        with pytest.raises(aioxo.Lagged):
            await failing.receive()
        assert (latest.dropped, dropping.dropped) == (0, 6)


async def test_a_subscriber_calls_and_asks_inside_its_loop(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["GET /rest/v0/vms/a"] = json_answer(vm("a"))
    async with xo.changes("VM") as changes:
        await peer.broadcast(all_enter(a=vm("a", v=1)))
        async for change in changes:
            assert isinstance(change, Change)
            assert await xo.call("echo", id=change.id) == {"id": "a"}
            assert await xo.vms.get(change.id) == vm("a")
            async with xo.changes("VM") as inner:
                await peer.broadcast(all_enter(a=vm("a", v=2)))
                assert await inner.receive() == Change("update", "VM", "a", vm("a", v=2))
            break


async def test_a_collection_that_cannot_be_listed_is_no_reason_to_give_up(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["GET /rest/v0/alarms"] = json_answer({"error": "not enough permissions"}, 403)
    del peer.routes["GET /rest/v0/messages"]
    async with xo.changes("message") as changes:
        await peer.broadcast(all_enter(m={"type": "message", "id": "m"}))
        assert await changes.receive() == Change("enter", "message", "m", {"type": "message", "id": "m"})


async def test_a_list_that_is_cut_fails_the_subscription_alone(peer: FakeServer, xo: aioxo.Client) -> None:
    async def cut(line: Line, request: Request) -> None:
        await line.respond(200, b'"/rest/v0/hosts/a"\n', length=1000)
        line.reset()

    peer.routes["GET /rest/v0/hosts"] = cut
    async with xo.changes("VM") as vms:
        with pytest.raises(aioxo.ConnectionLost):
            async with xo.changes("host"):
                pytest.fail("subscribed")
        await peer.broadcast(all_enter(a=vm("a")))
        assert await vms.receive() == Change("update", "VM", "a", vm("a"))


async def test_what_comes_while_listing_is_newer_than_the_list(peer: FakeServer, xo: aioxo.Client) -> None:
    async def vms(line: Line, request: Request) -> None:
        await peer.broadcast(all_enter(x=vm("x")))
        await peer.broadcast(json.dumps({"method": "done"}))
        assert [type(await raw.receive()) for _ in range(2)] == [aioxo.Notification] * 2
        await line.respond(200, b'"/rest/v0/vms/a"\n', "application/x-ndjson")

    async with xo.notifications() as raw:
        peer.routes["GET /rest/v0/vms"] = vms
        async with xo.changes("VM") as changes:
            await peer.broadcast(all_enter(x=vm("x", v=2)))
            assert await changes.receive() == Change("update", "VM", "x", vm("x", v=2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"overflow": "block"}, "overflow"),
        ({"buffer": 0}, "buffer"),
        ({"source": "sse"}, "source"),
        ({"source": "carrier pigeon"}, "source"),
    ],
)
async def test_arguments_that_cannot_be_used(xo: aioxo.Client, options: dict[str, Any], match: str) -> None:
    with pytest.raises(aioxo.ConfigurationError, match=match):
        xo.changes("VM", **options)


async def test_entering_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    async def operation() -> None:
        async with xo.changes("VM", "host"):
            pass

    async def check() -> None:
        assert xo._feed._subscribers == []
        assert xo.connection._listeners == ()
        assert xo._feed._types == {}
        async with xo.changes("VM") as changes:
            await peer.signed_in()
            await peer.broadcast(all_enter(a=vm("a")))
            assert await changes.receive() == Change("update", "VM", "a", vm("a"))

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) == {asyncio.CancelledError}


async def test_receiving_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    got: list[Change | Gap] = []
    sent = 0
    async with xo.changes("VM", overflow="drop_oldest") as changes:

        async def operation() -> None:
            nonlocal sent
            for _ in range(2):
                sent += 1
                await peer.broadcast(all_enter(a=vm("a", v=sent)))
                got.append(await changes.receive())

        async def check() -> None:
            assert await xo.call("echo") == {}  # what was sent before has come
            while changes.pending:
                got.append(await changes.receive())
            assert [change.object["v"] for change in got if isinstance(change, Change) and change.object] == list(
                range(1, sent + 1)
            )

        outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
        assert set(map(type, outcomes)) == {asyncio.CancelledError}


class Held:
    """Answers a listing only when told to, so that notifications can overtake it."""

    def __init__(self, peer: FakeServer, *hrefs: str) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self._hrefs = hrefs
        peer.routes["GET /rest/v0/vms"] = self._respond

    async def _respond(self, line: Line, request: Request) -> None:
        self.asked.set()
        await self.answer.wait()
        body = "".join(f'"{href}"\n' for href in self._hrefs)
        await line.respond(200, body.encode(), "application/x-ndjson")


async def test_an_exit_that_overtakes_the_list_leaves_no_ghost(peer: FakeServer, xo: aioxo.Client) -> None:
    held = Held(peer, "/rest/v0/vms/a", "/rest/v0/vms/b")
    changes = xo.changes("VM")
    entering = asyncio.create_task(changes.__aenter__())
    await held.asked.wait()
    await peer.broadcast(all_exit("a"))
    await xo.call("echo")  # whatever was broadcast before is taken in by now
    held.answer.set()
    await entering
    await peer.broadcast(all_enter(a=vm("a"), b=vm("b")))
    assert await received(changes, 2) == [Change("enter", "VM", "a", vm("a")), Change("update", "VM", "b", vm("b"))]
    await changes.__aexit__(None, None, None)


async def test_a_view_is_kept_up_to_date_while_it_is_listed(peer: FakeServer, xo: aioxo.Client) -> None:
    held = Held(peer, "/rest/v0/vms/a")
    changes = xo.changes("VM", filter="name_label:yes")
    entering = asyncio.create_task(changes.__aenter__())
    await held.asked.wait()
    await peer.broadcast(all_enter(a=vm("a", name_label="no"), b=vm("b", name_label="yes")))
    await xo.call("echo")
    held.answer.set()
    await entering
    assert changes.pending == 0
    await peer.broadcast(all_enter(a=vm("a", name_label="no"), b=vm("b", name_label="yes")))
    assert await changes.receive() == Change("update", "VM", "b", vm("b", name_label="yes"))
    assert changes.pending == 0
    await changes.__aexit__(None, None, None)


@pytest.mark.parametrize(("status", "error"), [(503, aioxo.ServiceUnavailable), (400, aioxo.InvalidParameters)])
async def test_a_list_that_fails_is_no_empty_one(
    peer: FakeServer, xo: aioxo.Client, status: int, error: type[aioxo.XOError]
) -> None:
    listing = peer.routes["GET /rest/v0/vms"]
    peer.routes["GET /rest/v0/vms"] = json_answer({"error": "not now"}, status)
    with pytest.raises(error):
        async with xo.changes("VM"):
            pytest.fail("entered")
    peer.routes["GET /rest/v0/vms"] = listing
    async with xo.changes("VM") as changes:
        await peer.broadcast(all_enter(a=vm("a")))
        assert await changes.receive() == Change("update", "VM", "a", vm("a"))


async def test_after_a_cut_a_type_is_listed_anew(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.changes("VM") as first:
        peer.sockets[0].line.reset()
        assert await first.receive() == Gap("disconnected")
        peer.streams("GET /rest/v0/vms", "/rest/v0/vms/b", "/rest/v0/vms/c")
        async with xo.changes("VM") as second:
            await peer.broadcast(all_enter(a=vm("a"), c=vm("c")))
            expected = [Change("enter", "VM", "a", vm("a")), Change("update", "VM", "c", vm("c"))]
            assert await received(second, 2) == expected


async def test_a_subscription_that_was_not_entered_says_so(xo: aioxo.Client) -> None:
    for subscription in (xo.changes("VM"), xo.notifications()):
        with pytest.raises(aioxo.ConfigurationError, match="async with"):
            await anext(subscription)


def test_a_type_in_the_wrong_case_is_refused() -> None:
    xo = aioxo.connect("http://127.0.0.1", token=TOKEN)
    for wrong, right in (("vm", "VM"), ("Host", "host"), ("vdi-Snapshot", "VDI-snapshot"), ("TASK", "task")):
        with pytest.raises(aioxo.ConfigurationError, match=f"'{right}' is how"):
            xo.changes(wrong)
    assert xo.changes("something-new").types == {"something-new"}
