"""Actions and the tasks they become, in today's dialect and in that of older servers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.backoff import Backoff

from .cancellation import cancelled_at_every_await
from .peers import TOKEN, FakeServer, Handler, Line, Request, json_answer, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PENDING = {"id": "t/1", "status": "pending", "properties": {"name": "start"}}
TASK = "GET /rest/v0/tasks/t%2F1"


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeServer]:
    monkeypatch.setattr("aioxo.tasks._RETRY", Backoff(first=1e-6, limit=1e-6))
    monkeypatch.setattr("aioxo.tasks.PAUSE", 0.0)
    async with server() as running:
        running.routes["POST /rest/v0/vms/a/actions/start"] = json_answer({"taskId": "t/1"}, 202)
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


def in_turn(*answers: Handler) -> Handler:
    """Return a route that answers differently each time, and the last way for ever."""
    left = list(answers)

    async def answer(line: Line, request: Request) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(line, request)

    return answer


async def cut(line: Line, request: Request) -> None:
    line.reset()
    raise EOFError


async def test_an_action_becomes_a_task(peer: FakeServer, xo: aioxo.Client) -> None:
    task = await xo.vms.start("a", host_id="h")
    assert (task.id, task.status, task.record) == ("t/1", "unknown", {})
    assert json.loads(peer.requests[-1].body) == {"hostId": "h"}
    assert peer.requests[-1].query == {}
    peer.routes[TASK] = json_answer({**PENDING, "status": "success", "result": {"id": "s"}})
    assert await task.wait() == {"id": "s"}
    assert peer.requests[-1].query == {"wait": ["true"]}
    assert task.status == "success"
    count = len(peer.requests)
    assert await task.wait() == {"id": "s"}
    assert len(peer.requests) == count
    assert repr(task) == "<Task t/1 success>"


async def test_an_action_without_parameters_has_no_body(peer: FakeServer, xo: aioxo.Client) -> None:
    await xo.vms.start("a")
    assert peer.requests[-1].body == b""
    assert peer.requests[-1].header("Content-Type") != "application/json"  # of which nothing would be no document


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        (b'{"taskId": "t/1"}', "application/json", {}),
        (b"/rest/v0/tasks/t1", None, {}),
        (b"/rest/v0/tasks/t1\n", "text/plain", {}),
        (b'"/rest/v0/tasks/t1"', "application/json", {}),
        (b"", None, {"Location": "/rest/v0/tasks/t1"}),
    ],
)
async def test_dialects_of_the_answer_to_an_action(
    peer: FakeServer, xo: aioxo.Client, body: bytes, kind: str | None, headers: dict[str, str]
) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(202, body, kind, headers=headers)

    peer.routes["POST /rest/v0/vms/a/actions/pause"] = answer
    assert (await xo.vms.action("a", "pause")).id in {"t/1", "t1"}


@pytest.mark.parametrize("body", [{}, {"taskId": None}, {"taskId": 5}, 5, []])
async def test_an_action_that_names_no_task(peer: FakeServer, xo: aioxo.Client, body: object) -> None:
    peer.routes["POST /rest/v0/vms/a/actions/pause"] = json_answer(body, 202)
    with pytest.raises(aioxo.ProtocolError, match="names no task"):
        await xo.vms.pause("a")


async def test_a_server_that_had_finished_before_it_answered(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["POST /rest/v0/vms/a/actions/pause"] = json_answer({"id": "x"}, 200)
    task = await xo.vms.pause("a")
    assert (task.id, task.status) == (None, "success")
    assert await task.wait() == {"id": "x"}
    assert (await task.refresh())["result"] == {"id": "x"}
    with pytest.raises(aioxo.ConfigurationError, match="nothing to abort"):
        await task.abort()


async def test_a_synchronous_action(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["POST /rest/v0/vms/a/actions/snapshot"] = json_answer({"id": "s"}, 201)
    assert await xo.vms.action("a", "snapshot", sync=True, name_label="x") == {"id": "s"}
    assert peer.requests[-1].query == {"sync": ["true"]}


async def test_old_servers_answer_at_the_next_change(peer: FakeServer, xo: aioxo.Client) -> None:
    done = {**PENDING, "status": "success"}
    peer.routes[TASK] = in_turn(json_answer(PENDING), json_answer(PENDING), json_answer(done))
    task = await xo.vms.start("a")
    assert await task.wait() is None


async def test_a_lost_connection_is_no_failure(peer: FakeServer, xo: aioxo.Client) -> None:
    busy = json_answer({"error": "starting"}, 503)
    done = json_answer({**PENDING, "status": "success", "result": 7})
    peer.routes[TASK] = in_turn(cut, busy, cut, json_answer(PENDING), cut, done)
    assert await (await xo.vms.start("a")).wait() == 7


async def test_a_server_that_stays_away(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[TASK] = cut
    task = await xo.vms.start("a")
    with pytest.raises(aioxo.ConnectionLost):
        await task.wait()
    assert task.status == "unknown"


async def test_a_failure_has_its_facts(peer: FakeServer, xo: aioxo.Client) -> None:
    result = {"code": "VM_BAD_POWER_STATE", "params": ["ref", "halted"], "message": "VM_BAD_POWER_STATE(ref, halted)"}
    record = {**PENDING, "status": "failure", "result": result}
    peer.routes[TASK] = json_answer(record)
    task = await xo.vms.start("a")
    with pytest.raises(aioxo.TaskFailed, match=r"task t/1 \(start\): failure: VM_BAD_POWER_STATE") as raised:
        await task.wait()
    assert (raised.value.code, raised.value.params) == ("VM_BAD_POWER_STATE", ("ref", "halted"))
    assert raised.value.task == record


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({"status": "interrupted"}, "interrupted: the server was restarted"),
        ({"status": "failure", "result": None}, "failure: no reason given"),
        ({"status": "failure", "result": "text", "properties": None}, "failure: no reason given"),
        ({"status": "failure", "result": {"message": "disk full", "params": "odd"}}, "failure: disk full"),
    ],
)
async def test_failures_without_much_to_say(
    peer: FakeServer, xo: aioxo.Client, record: dict[str, Any], match: str
) -> None:
    peer.routes[TASK] = json_answer(record)
    with pytest.raises(aioxo.TaskFailed, match=match) as raised:
        await (await xo.vms.start("a")).wait()
    assert raised.value.params == ()


async def test_waiting_has_a_limit_and_the_task_none(peer: FakeServer, xo: aioxo.Client) -> None:
    async def silence(line: Line, request: Request) -> None:
        await line.hung_up()

    peer.routes[TASK] = silence
    task = await xo.vms.start("a")
    with pytest.raises(aioxo.Timeout, match=r"has not ended within 0\.05 s; it goes on") as raised:
        await task.wait(timeout=0.05)
    assert (raised.value.limit, raised.value.seconds) == ("timeout", 0.05)
    peer.routes[TASK] = json_answer({**PENDING, "status": "success", "result": 1})
    assert await task.wait(timeout=5) == 1


@pytest.mark.parametrize("answer", [[], None, "text", {"id": "t"}])
async def test_an_answer_that_is_no_task(peer: FakeServer, xo: aioxo.Client, answer: object) -> None:
    peer.routes[TASK] = json_answer(answer)
    with pytest.raises(aioxo.ProtocolError, match="not a task"):
        await (await xo.vms.start("a")).refresh()


async def test_a_task_that_is_forgotten(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[TASK] = json_answer({"error": "no such task t/1"}, 404)
    task = await xo.vms.start("a")
    for attempt in (task.refresh, task.wait):
        with pytest.raises(aioxo.NotFound):
            await attempt()


async def test_aborting(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["POST /rest/v0/tasks/t%2F1/actions/abort"] = json_answer({"taskId": "other"}, 202)
    await (await xo.vms.start("a")).abort()
    assert peer.requests[-1].target == "/rest/v0/tasks/t%2F1/actions/abort"


async def test_waiting_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[TASK] = in_turn(cut, json_answer({**PENDING, "status": "success", "result": 1}))
    running = await xo.vms.start("a")

    async def operation() -> None:
        running.record = {}
        assert await running.wait() == 1

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, operation)]
    assert set(map(type, outcomes)) == {asyncio.CancelledError}


async def test_a_proxy_with_a_limit_of_its_own_is_no_failure(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioxo.tasks._RETRIES", 3)
    monkeypatch.setattr("aioxo.tasks.HELD", 0.0)  # so that every poll was held for long enough
    late = json_answer({"error": "gateway timeout"}, 504)
    done = json_answer({**PENDING, "status": "success", "result": 7})
    peer.routes[TASK] = in_turn(*[late, cut] * 5, done)
    assert await (await xo.vms.start("a")).wait() == 7
    monkeypatch.setattr("aioxo.tasks.HELD", 60.0)  # so that none was
    peer.routes[TASK] = late
    before = len(peer.requests)
    with pytest.raises(aioxo.ServiceUnavailable):
        await (await xo.vms.start("a")).wait()
    assert len(peer.requests) - before == 1 + 3


@pytest.mark.parametrize(
    "error", [aioxo.CannotConnect("no route"), aioxo.Timeout("no connection", limit="connect", seconds=30.0)]
)
async def test_a_server_that_cannot_be_reached_is_a_failure_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, error: aioxo.XOError
) -> None:
    class Unreachable:
        asked = 0

        async def request(self, *_: Any, **__: Any) -> Any:
            self.asked += 1
            raise error

    monkeypatch.setattr("aioxo.tasks._RETRY", Backoff(first=1e-6, limit=1e-6))
    monkeypatch.setattr("aioxo.tasks._RETRIES", 3)
    monkeypatch.setattr("aioxo.tasks.HELD", 0.0)
    rest: Any = Unreachable()
    with pytest.raises(type(error)):
        await aioxo.Task(rest, "t").wait()
    assert rest.asked == 3


async def test_a_connection_that_is_half_open_is_given_up(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silence(line: Line, request: Request) -> None:
        await line.hung_up()

    monkeypatch.setattr("aioxo.tasks.POLL_LIMIT", 0.05)
    peer.routes[TASK] = in_turn(silence, json_answer({**PENDING, "status": "success", "result": 7}))
    assert await (await xo.vms.start("a")).wait(timeout=10) == 7


async def test_a_server_that_answers_at_once_is_not_asked_all_the_time(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioxo.tasks.PAUSE", 1000.0)
    peer.routes[TASK] = json_answer(PENDING)
    task = await xo.vms.start("a")
    before = len(peer.requests)
    with pytest.raises(aioxo.Timeout, match="has not ended"):
        await task.wait(timeout=0.2)
    assert len(peer.requests) - before == 1
    assert task.status == "pending"
