"""The simulator's answers, held to those recorded from a running server."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from . import recorded
from .wire import Answer, ask

if TYPE_CHECKING:
    from aioxo.simulator import Simulator

REST = recorded.load("rest")
# Fields of generated objects that are maps: their names are data, not format.
MAPS = {"addresses", "os_version", "other", "otherConfig", "bios_strings", "boot", "xenStoreData", "data", "creation"}


def places(sim: Simulator, entry: dict[str, Any]) -> dict[str, str]:
    """What the placeholders of the recorded requests stand for here."""
    wanted = "Running" if entry.get("vm") == "running" else "Halted"
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == wanted)
    pool = sim.store.of_type("pool")[0]
    vdi = next(vdi for vdi in sim.store.of_type("VDI") if vdi["size"] == 2**20 and not vdi["$VBDs"])
    return {
        "vm": vm["id"],
        "VM": vm["id"].upper(),
        "pool": pool["id"],
        "sr": pool["default_SR"],
        "vdi": vdi["id"],
        "user": next(iter(sim.accounts.users)),
        "unknown": "00000000-0000-0000-0000-000000000000",
        "long": "a" * 20_000 if "filter" in entry["target"] else "x" * 200_000,
    }


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


async def replay(sim: Simulator, entry: dict[str, Any]) -> Answer:
    values = places(sim, entry)
    headers = {name: value.replace("<TOKEN>", sim.token) for name, value in entry.get("headers", {}).items()}
    body = filled(entry.get("body", ""), values).encode()
    upload = entry.get("upload", {})
    if upload:
        body = random.Random(1).randbytes(upload["length"])
    if entry.get("plain"):
        user = sim.accounts.add_user("plain", "plain")
        headers["Authorization"] = "Basic cGxhaW46cGxhaW4="
        assert not user.administrator
    if entry.get("fail"):
        sim.faults.fail(*entry["fail"])
    return await ask(
        sim,
        entry["method"],
        filled(entry["target"], values).replace("<TOKEN>", sim.token),
        token=sim.token if entry.get("token") else None,
        headers=headers,
        body=body,
        chunked=upload.get("chunked", False),
        version="1.0" if entry["name"].endswith("HTTP/1.0") else "1.1",
    )


def check_like(actual: Any, expected: Any, where: str = "") -> None:
    """Hold a skeleton to a recorded one. Maps, empty lists and null say nothing about what could be there."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        assert list(actual) == list(expected), where
        for name, each in expected.items():
            if name not in MAPS:
                check_like(actual[name], each, f"{where}.{name}")
    elif isinstance(expected, list) and isinstance(actual, list):
        if expected and actual:
            check_like(actual[0], expected[0], f"{where}[]")
    elif "null" not in (actual, expected):
        assert actual == expected, where


@pytest.mark.parametrize("entry", [entry for entry in REST if entry["status"]], ids=lambda entry: entry["name"])
async def test_an_answer_is_as_recorded(sim: Simulator, entry: dict[str, Any]) -> None:
    answer = await replay(sim, entry)

    assert answer.status == entry["status"], answer.body
    for name, value in entry["answer_headers"].items():
        assert recorded.anonymous(answer.headers.get(name, "")) == value, name
    assert ("content-type" in answer.headers) == ("content-type" in entry["answer_headers"])
    assert ("transfer-encoding" in answer.headers) == ("transfer-encoding" in entry["answer_headers"])
    if "etag" in entry:
        assert answer.headers["etag"] == entry["etag"]
    expected = entry.get("answer")
    if isinstance(expected, str):
        assert recorded.anonymous(answer.body.decode()) == expected
    elif expected is not None:
        check_like(recorded.skeleton(answer.json()), expected)


@pytest.mark.parametrize("entry", [entry for entry in REST if not entry["status"]], ids=lambda entry: entry["name"])
async def test_no_answer_comes_where_none_was_recorded(sim: Simulator, entry: dict[str, Any]) -> None:
    asked = asyncio.create_task(replay(sim, entry))
    # Another answer shows that the server has had its chance.
    for _ in range(3):
        await ask(sim, "GET", "/rest/v0/ping")
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


def test_the_recorded_facts_are_many() -> None:
    assert len(REST) == 149
