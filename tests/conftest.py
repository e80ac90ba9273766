"""What every test gets: a clean environment, and a look at what it left behind.

The leak check runs after each async test, in the test's own event loop: tasks, sockets, files and threads that were not
there before must be gone. Nothing is given time to go away, only turns of the loop: what is closed properly is closed
by then. Warnings are errors, so what is dropped without being closed shows as well.

With ``AIOXO_FORBID_SKIPS=1`` a skipped test fails: where everything is installed, nothing may be left out unnoticed.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

#: Where the system lists this process's file descriptors; absent on Windows.
DESCRIPTORS = Path("/dev/fd")
#: Turns of the event loop after which everything that was closed is gone; TLS needs a few for its goodbye.
SETTLING_TURNS = 500

hypothesis.settings.register_profile(
    "aioxo",
    # The machine may be busy with something else: how long an example takes says nothing about the code.
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("aioxo")


def pytest_collection_finish() -> None:
    # What stands now stands for good; leaving it out makes the collection after each test a matter of a millisecond.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _hidden_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the servers and tokens of whoever runs the tests away from them."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("XOA_", "XO_")):
                patch.delenv(name)
        for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, home)
        yield


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(inspect.unwrap(getattr(request.node, "obj", None) or (lambda: None))):
        request.getfixturevalue("_nothing_left_behind")


@pytest.fixture
async def _nothing_left_behind() -> AsyncIterator[None]:
    descriptors, threads, tasks = _open_descriptors(), set(threading.enumerate()), asyncio.all_tasks()
    yield
    gc.collect()
    for _ in range(SETTLING_TURNS):
        left = _left_behind(descriptors, threads, tasks)
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail(f"the test left behind: {'; '.join(left)}")


def _left_behind(
    descriptors: dict[int, str], threads: set[threading.Thread], tasks: set[asyncio.Task[Any]]
) -> list[str]:
    new_tasks = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    new_threads = {
        thread
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith("asyncio_")  # the event loop's pool of workers, which it keeps
    }
    new_descriptors = {
        f"descriptor {number} ({target})"
        for number, target in _open_descriptors().items()
        if descriptors.get(number) != target and not target.startswith("anon_inode:")
    }
    return [*map(repr, new_tasks), *map(repr, new_threads), *new_descriptors]


def _open_descriptors() -> dict[int, str]:
    if not DESCRIPTORS.is_dir():
        return {}
    found = {}
    for name in os.listdir(DESCRIPTORS):  # noqa: PTH208 - pathlib would keep the folder open meanwhile
        try:
            found[int(name)] = os.readlink(DESCRIPTORS / name)  # noqa: PTH115 - the target is no path, but "socket:[7]"
        except OSError:
            continue  # the descriptor of this very listing
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector.nodeid)
    return report


def _refuse_skip(report: Any, name: str) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("AIOXO_FORBID_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"{name} was skipped, which AIOXO_FORBID_SKIPS=1 forbids: {_reason(report)}"


def _reason(report: Any) -> str:
    detail = report.longrepr
    return str(detail[2] if isinstance(detail, tuple) else detail).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if skipped:
        terminalreporter.section("not tested here", sep="-")
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {_reason(report)}")
