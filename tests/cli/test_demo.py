"""demo, through the real program: on its own stand-in, on a named server, and when something differs."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from aioxo.cli.connection import Server
from aioxo.cli.demo import DemoError, Script, demo
from aioxo.errors import ChecksumMismatch
from aioxo.simulator import Simulator

from .program import Terminal, run

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--for", "0.5", "--churn", "40", "--vms", "30", "--disk-size", "1MiB")


@pytest.fixture
def printed() -> Console:
    return Console(file=io.StringIO(), width=100, markup=False, highlight=False, soft_wrap=True)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def number(text: str, what: str) -> int:
    """Return a number of the summary."""
    match = re.search(rf"^  [\w ]*{what} +([\d,]+)", text, re.MULTILINE)
    assert match is not None, text
    return int(match[1].replace(",", ""))


def test_a_pipe_gets_a_plain_log(tmp_path: Path) -> None:
    done = run("demo", *QUICK, env={"TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    headings = re.findall(r"^(\d) ", done.stdout, re.MULTILINE)
    assert headings == list("12345678")
    hashes = re.findall(r"(?:sha256|exported|the copy) +([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    assert len(hashes) == 4
    assert len(set(hashes)) == 1
    assert "equal" in done.stdout
    assert "the new disk is deleted again" in done.stdout
    assert number(done.stdout, "received") == 2 * number(done.stdout, "sent") > 0
    assert number(done.stdout, "notifications") > 0
    assert number(done.stdout, "changes in them") > 0
    assert not list(tmp_path.iterdir())


def test_a_terminal_gets_colours_and_bars() -> None:
    with Terminal("demo", *QUICK, columns=80) as terminal:
        assert terminal.finish() == 0
    assert "\x1b[1m" in terminal.output
    assert "━" in terminal.output
    assert "✓ equal" in terminal.plain


def test_ctrl_c_is_quiet_and_leaves_nothing(tmp_path: Path) -> None:
    with Terminal("demo", "--for", "60", env={"TMPDIR": str(tmp_path)}) as terminal:
        terminal.expect("  update  ")
        terminal.type("\x03")
        assert terminal.finish() == 130
    assert "Traceback" not in terminal.plain
    assert not list(tmp_path.iterdir())


def test_kept_images_are_kept_and_not_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "images"
    assert run("demo", *QUICK, "--keep", str(kept)).returncode == 0
    first, second = sorted(kept.iterdir())
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size >= 2**20
    again = run("demo", *QUICK, "--keep", str(kept))
    assert again.returncode == 6
    assert "--keep" in again.stderr


def test_a_named_server_is_only_read(env: dict[str, str], quiet: Simulator) -> None:
    before = len(quiet.requests)
    done = run("demo", "--url", env["XOA_URL"], "--for", "0.2", env={"XOA_TOKEN": env["XOA_TOKEN"]})
    assert (done.returncode, done.stderr) == (0, "")
    seen = [request for request in list(quiet.requests)[before:] if request.path.startswith("/rest/")]
    assert {request.method for request in seen} == {"GET"}
    assert not [request for request in seen if request.path.endswith((".raw", ".vhd"))]
    assert number(done.stdout, "requests") == len(seen)
    assert env["XOA_TOKEN"] not in done.stdout


def test_a_named_server_is_written_to_when_told(env: dict[str, str], quiet: Simulator) -> None:
    disks = {disk["id"] for disk in quiet.store.of_type("VDI")}
    before = len(quiet.requests)
    done = run("demo", "--url", env["XOA_URL"], "--for", "0.2", "--write", env={"XOA_TOKEN": env["XOA_TOKEN"]})
    assert (done.returncode, done.stderr) == (0, "")
    assert "equal" in done.stdout
    assert {disk["id"] for disk in quiet.store.of_type("VDI")} == disks
    seen = [request for request in list(quiet.requests)[before:] if request.path.startswith("/rest/")]
    assert number(done.stdout, "requests") == len(seen)


def test_the_environment_alone_does_not_turn_the_demo_on_a_server(env: dict[str, str], quiet: Simulator) -> None:
    before = len(quiet.requests)
    assert run("demo", *QUICK, env=env).returncode == 0
    assert len(quiet.requests) == before


async def test_a_disk_that_comes_back_different_is_said_and_deleted(
    printed: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Simulator(vms=10, disk_size=2**20, latency=(0.0, 0.0)) as simulator:
        disks = set(simulator.disks)

        def spoil(*arguments: Any) -> None:
            # A server that stores something else than it was sent.
            for made in set(simulator.disks) - disks:
                simulator.disks[made].write(0, b"spoilt")

        simulator.store.subscribe(spoil)
        monkeypatch.setenv("XOA_TOKEN", simulator.token)
        with pytest.raises(ChecksumMismatch, match="came back different"):
            await demo(Server(url=simulator.url), Script(seconds=0.1, write=True), printed)
        assert set(simulator.disks) == disks
    assert "deleted again" in text_of(printed)
    assert "equal" not in text_of(printed)


async def test_a_server_without_a_disk_is_said(printed: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(vms=2, disk_size=2**20) as simulator:
        for disk in simulator.store.of_type("VDI"):
            simulator.store.pool.put(disk | {"missing": True})
        monkeypatch.setenv("XOA_TOKEN", simulator.token)
        with pytest.raises(DemoError, match="no disk"):
            await demo(Server(url=simulator.url), Script(seconds=0.1, export=True), printed)


async def test_a_stand_in_that_stands_still_is_an_error(printed: Console) -> None:
    with pytest.raises(DemoError, match="no change"):
        await demo(Server(), Script(seconds=0.05, churn=0.001, vms=5, disk_size="1MiB"), printed)


async def test_hostile_names(printed: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(vms=20, churn=100, disk_size=2**20, latency=(0.0, 0.0)) as simulator:
        for item in list(
            simulator.store.of_type("VM") + simulator.store.of_type("VDI") + simulator.store.of_type("SR")
        ):
            simulator.store.pool.put(item | {"name_label": f"\x1b[31m\u202e[red]{item['id']}"})
        monkeypatch.setenv("XOA_TOKEN", simulator.token)
        await demo(Server(url=simulator.url), Script(seconds=0.5, write=True), printed)
    shown = text_of(printed)
    assert "\\x1b[31m\\u202e[red]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
