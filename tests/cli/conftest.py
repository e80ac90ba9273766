"""A quiet server that the tests may change by the program itself, and a busy one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..simulated import background_simulator  # noqa: TID252 - the tests are no package to import from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioxo.simulator import Simulator


@pytest.fixture(scope="package")
def quiet() -> Iterator[Simulator]:
    with background_simulator(vms=12, disk_size=2**20, latency=(0.0, 0.0)) as simulator:
        yield simulator


@pytest.fixture(scope="package")
def busy() -> Iterator[Simulator]:
    with background_simulator(vms=30, churn=60, disk_size=2**20, latency=(0.0, 0.0)) as simulator:
        yield simulator


@pytest.fixture
def env(quiet: Simulator) -> dict[str, str]:
    return {"XOA_URL": quiet.url, "XOA_TOKEN": quiet.token}


@pytest.fixture
def busy_env(busy: Simulator) -> dict[str, str]:
    return {"XOA_URL": busy.url, "XOA_TOKEN": busy.token}
