"""Each test here runs against each server at hand: the simulator in both dialects and the vendor's own REST code.

The vendor's process is started once and told to start over before each test; a simulator is made for each. Where the
two differ the simulator is wrong, except in what the package leaves to the application behind it, which is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aioxo
from aioxo.simulator import Simulator

from . import hosting
from .differences import known_difference
from .operations import Operations
from .servers import (
    ADMINISTRATOR,
    ADMINISTRATOR_PASSWORD,
    DISK_SIZE,
    GUEST,
    GUEST_PASSWORD,
    SEED,
    VMS,
    ModernSimulator,
    OldSimulator,
    Seen,
    Server,
    Vendor,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = Path(__file__).parent
ADMINISTRATOR_TOKEN, GUEST_TOKEN = "token-of-the-administrator", "token-of-the-guest"
TOKENS = {ADMINISTRATOR_TOKEN: "u-administrator", GUEST_TOKEN: "u-guest"}
USERS = [
    {"id": "u-administrator", "email": ADMINISTRATOR, "password": ADMINISTRATOR_PASSWORD, "permission": "admin"},
    {"id": "u-guest", "email": GUEST, "password": GUEST_PASSWORD, "permission": "none"},
]
_requests: pytest.StashKey[dict[str, set[Seen]]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_requests] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # Installing has a limit of its own, longer than that of a test.
            item.add_marker(pytest.mark.timeout(60, func_only=True))
            if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
                reason = known_difference(item.originalname, item.callspec.id)
                if reason is not None:
                    item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the servers of a test by what it asks for: any, those of today (`modern`), or the vendor's (`vendor`)."""
    if "host" in metafunc.fixturenames:
        names = ["vendor"]
        if "vendor" not in metafunc.fixturenames:
            names.insert(0, "simulator-2026")
            if "modern" not in metafunc.fixturenames:
                names.insert(1, "simulator-2023")
        metafunc.parametrize("host", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | Vendor]:
    """What servers are made from: the dialect of a simulator, or the vendor's running process."""
    if request.param != "vendor":
        yield request.param.removeprefix("simulator-")
        return
    reason = hosting.missing_tool()
    if reason is not None:
        pytest.skip(reason)
    hosting.install()
    simulator = Simulator(vms=VMS, seed=SEED, disk_size=DISK_SIZE)
    objects = dict(simulator.store.all())
    seed = hosting.write_seed(tmp_path_factory.mktemp("vendor"), simulator, USERS, TOKENS)
    with hosting.vendor_process(seed) as url:
        yield Vendor(url, ADMINISTRATOR_TOKEN, GUEST_TOKEN, objects)


@pytest.fixture
async def server(host: str | Vendor, pytestconfig: pytest.Config) -> AsyncIterator[Server]:
    """A server with the objects it always starts with."""
    if isinstance(host, Vendor):
        await host.reset()
        yield host
        await _remember(pytestconfig, "vendor", host)
        return
    async with Simulator(vms=VMS, seed=SEED, disk_size=DISK_SIZE, dialect=host, latency=(0.0, 0.0)) as simulator:
        running: Server = ModernSimulator(simulator) if host == "2026" else OldSimulator(simulator)
        yield running
        await _remember(pytestconfig, f"simulator-{host}", running)


async def _remember(config: pytest.Config, name: str, server: Server) -> None:
    config.stash[_requests].setdefault(name, set()).update(await server.seen())


@pytest.fixture
async def modern(server: Server) -> Server:
    """A server of today: what it does, those of 2023 did in another way or not at all."""
    assert server.modern
    return server


@pytest.fixture
async def vendor(server: Server) -> Vendor:
    """The vendor's code, for what only a look behind it can tell."""
    assert isinstance(server, Vendor)
    return server


@pytest.fixture
async def xo(server: Server) -> AsyncIterator[aioxo.Client]:
    """A client of an administrator."""
    async with aioxo.connect(server.url, token=server.token) as client:
        yield client


@pytest.fixture
async def guest(server: Server) -> AsyncIterator[aioxo.Client]:
    """A client of somebody who may do nothing."""
    async with aioxo.connect(server.url, token=server.guest_token) as client:
        yield client


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    requests = config.stash[_requests]
    if not requests or not hosting.OPENAPI.is_file():
        return
    operations = Operations(hosting.OPENAPI)
    terminalreporter.section("operations of the vendor's OpenAPI document that were asked for and answered", sep="-")
    for name, seen in sorted(requests.items()):
        terminalreporter.write_line(f"{name}: {len(operations.of(seen))} of {len(operations)}")
