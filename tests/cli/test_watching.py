"""watch, through the real program."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from aioxo.simulator import Simulator

from .program import PROGRAM, Terminal, environment, run, start


def test_so_many_changes_and_then_the_end(busy_env: dict[str, str]) -> None:
    done = run("watch", "VM", "vdis", "--count", "5", env=busy_env)
    assert (done.returncode, done.stderr) == (0, "")
    changes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(changes) == 5
    assert all(change["kind"] in {"enter", "update", "exit"} and change["type"] in {"VM", "VDI"} for change in changes)
    assert all(change["object"]["id"] == change["id"] for change in changes if change["kind"] != "exit")


def test_so_many_seconds_and_then_the_end(env: dict[str, str]) -> None:
    done = run("watch", "host", "--for", "0.2", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_fields_and_names(busy_env: dict[str, str]) -> None:
    done = run("watch", "VM", "--count", "3", "--fields", "name_label", env=busy_env)
    assert all(set(json.loads(line)["object"] or {}) <= {"name_label"} for line in done.stdout.splitlines())
    named = run("watch", "VM", "--count", "3", "-o", "name", env=busy_env)
    assert len(named.stdout.splitlines()) == 3


def test_a_person_sees_what_changed_until_ctrl_c(env: dict[str, str], quiet: Simulator) -> None:
    vm = list(quiet.store.of_type("VM"))[2]
    with Terminal("watch", "vm", "-f", f"id:{vm['id']}", env=env, columns=160) as terminal:
        terminal.expect("Ctrl-C ends it")
        # The subscription stands; what was there is read right after, and a change meanwhile waits.
        assert run("call", "vm.set", f"id={vm['id']}", "name_label=\x1b[31mnew", env=env).returncode == 0
        terminal.expect("\\x1b[31mnew")
        assert run("call", "vm.set", f"id={vm['id']}", "name_label=newer", env=env).returncode == 0
        terminal.expect("name_label \\x1b[31mnew → newer")
        assert "update  VM" in terminal.plain
        terminal.type("\x03")
        assert terminal.finish() == 130
    assert "Traceback" not in terminal.plain


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_quietly(busy_env: dict[str, str], number: signal.Signals, code: int) -> None:
    with start("watch", env=busy_env) as program:
        assert program.stdout is not None
        assert json.loads(program.stdout.readline())
        program.send_signal(number)
        _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (code, "")


def test_a_reader_that_leaves_ends_it_quietly(busy_env: dict[str, str]) -> None:
    with start("watch", env=busy_env) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline()
        program.stdout.close()
        assert program.wait(30) == 141
        assert program.stderr.read() == ""


async def test_a_gap_is_shown_and_it_goes_on() -> None:
    async with Simulator(vms=10, churn=40, disk_size=2**20) as simulator:
        program = await asyncio.create_subprocess_exec(
            *PROGRAM,
            "watch",
            "VM",
            env=environment({"XOA_URL": simulator.url, "XOA_TOKEN": simulator.token}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert program.stdout is not None
        async with asyncio.timeout(30):
            assert json.loads(await program.stdout.readline())["type"] == "VM"
            await simulator.drop_connections()
            while (told := json.loads(await program.stdout.readline()))["kind"] != "gap":
                assert told["type"] == "VM"
            assert told["reason"] == "disconnected"
            assert json.loads(await program.stdout.readline())["kind"] != "gap"
            program.send_signal(signal.SIGINT)
            _, errors = await program.communicate()
        assert (program.returncode, errors) == (130, b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("watch", "VMM"), "did you mean VM"),
        (("watch", "VM", "-o", "json"), "ndjson"),
        (("watch", "VM", "--filter", "a:("), "^"),
        (("watch", "--count", "0"), "--count"),
    ],
)
def test_bad_options(env: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, env=env)
    assert done.returncode == 2
    assert said in done.stderr
