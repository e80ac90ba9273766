"""How fast are notifications received, beside a bare websocket loop?

Question: 50,000 notifications of one VM of 1.7 kB each: does a subscriber of ``xo.changes("VM")`` get them at 85 % of
the rate of a loop that only decodes them, or better?

Method: a peer in a process of its own sends the frames, made beforehand, as fast as they are taken, once a call asks
for them. The clock starts with that call and stops with the last notification. Three subjects, a fresh process each,
take turns:

- bare: ``async for message in socket: orjson.loads(message.data)``
- handed over: the bare loop, which also looks up what is new and puts a `Change` for another task into a deque: the
  least that any program does whose reader is not its consumer
- aioxo: ``async for change in changes``, inside ``async with xo.changes("VM", overflow="fail")``

None is lost or merged: "fail" merges nothing and raises where there is no room, and what was delivered is counted.

Answer: no. 0.61 of the bare loop's rate (0.57 to 0.64 over the rounds), 120,000 a second; a real server sends eight.
Handing each object over to another task, with nothing else in between, is at 0.74 already, and the library at 0.82 of
that. Decoding is two thirds of the bare loop's 5 µs, and 0.85 would leave 0.9 µs for everything else. Giving the
consumers a turn every 16 notifications brought it from 0.4: before, all that the socket held was decoded first, and the
garbage collector went through it again and again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Final, Literal

import aiohttp
import orjson

import aioxo

from .measure import Meter, measure, ratios, take_turns
from .peers import FLOOD, peer
from .report import Answer, Report

__all__ = ["aioxo_changes", "bare_socket", "handed_over", "run"]

NOTIFICATIONS: Final = 50_000
TARGET: Final = 0.85
#: Notifications between two turns of the consumer in `handed_over`, as in the library.
TURN: Final = 16


async def bare_socket(meter: Meter, url: str, notifications: int) -> None:
    """Decode every message."""
    call = {"jsonrpc": "2.0", "id": 1, "method": FLOOD, "params": {}}
    expected = notifications + 1  # the reply
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/api/") as socket:
        received = 0
        with meter:
            await socket.send_json(call)
            async for message in socket:
                orjson.loads(message.data)
                received += 1
                if received == expected:
                    break
    assert received == expected


async def handed_over(meter: Meter, url: str, notifications: int) -> None:
    """Decode in one task and consume in another, with nothing in between."""
    call = {"jsonrpc": "2.0", "id": 1, "method": FLOOD, "params": {}}
    known: set[str] = set()
    waiting: deque[aioxo.Change] = deque()
    arrived = asyncio.Event()

    async def read(socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        received = 0
        async for message in socket:
            params = orjson.loads(message.data).get("params")
            if params is None:
                continue  # the reply
            for id_, record in params["items"].items():
                kind: Literal["enter", "update"] = "update" if id_ in known else "enter"
                known.add(id_)
                waiting.append(aioxo.Change(kind, record["type"], id_, record))
            arrived.set()
            received += 1
            if received == notifications:
                return
            if received % TURN == 0:
                await asyncio.sleep(0)

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/api/", decode_text=False) as socket:
        received = 0
        with meter:
            reader = asyncio.create_task(read(socket))
            await socket.send_json(call)
            while received < notifications:
                await arrived.wait()
                while waiting:
                    waiting.popleft()
                    received += 1
                arrived.clear()
        await reader


async def aioxo_changes(meter: Meter, url: str, notifications: int) -> None:
    """Receive every change."""
    async with aioxo.connect(url, token="benchmark") as xo, xo.changes("VM", overflow="fail") as changes:
        received = 0
        with meter:
            flood = asyncio.create_task(xo.call(FLOOD))
            async for _ in changes:
                received += 1
                if received == notifications:
                    break
        await flood
        assert (changes.delivered, changes.dropped) == (notifications, 0)


def run(*, rounds: int = 9, notifications: int = NOTIFICATIONS) -> Report:
    """Compare the two.

    Args:
        rounds: times each subject runs.
        notifications: sent to each.
    """
    with peer(notifications) as url:
        bare, least, ours = take_turns(
            rounds,
            *(
                partial(measure, subject, url, notifications=notifications)
                for subject in (bare_socket, handed_over, aioxo_changes)
            ),
        )
    report = Report(f"notifications: {notifications:,} of one VM each")
    report.add("bare aiohttp websocket", bare, notifications, "notifications")
    report.add("the same, handed over to another task", least, notifications, "notifications")
    report.add('aioxo, `xo.changes("VM")`', ours, notifications, "notifications")
    rate = ratios(bare, ours, lambda sample: sample.wall)
    report.answers += [
        Answer("rate, aioxo / bare", rate.text(), f"at least {TARGET}", rate.middle >= TARGET),
        Answer("rate, handed over / bare", ratios(bare, least, lambda sample: sample.wall).text()),
        Answer("rate, aioxo / handed over", ratios(least, ours, lambda sample: sample.wall).text()),
        Answer("CPU time, aioxo / bare", ratios(ours, bare, lambda sample: sample.cpu).text()),
    ]
    return report
