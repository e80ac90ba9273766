"""A small simulator per test, quick to start and with no delays of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from aioxo.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(vms=24, seed=5, disk_size=2**20, latency=(0, 0)) as simulator:
        yield simulator


@pytest.fixture
async def old_sim() -> AsyncIterator[Simulator]:
    async with Simulator(vms=24, seed=5, disk_size=2**20, latency=(0, 0), dialect="2023") as simulator:
        yield simulator


@pytest.fixture
async def http(sim: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Cookie": f"authenticationToken={sim.token}", "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(sim.url, headers=headers) as session:
        yield session
