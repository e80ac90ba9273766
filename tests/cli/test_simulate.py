"""simulate, through the real program: it serves, and stops when told."""

from __future__ import annotations

import re
import shlex
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from .program import Terminal, run, start

if TYPE_CHECKING:
    import subprocess


def printed_environment(program: subprocess.Popen[str]) -> dict[str, str]:
    """Read up to the line that can be pasted into a shell, and return what it sets."""
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith("export "):
            return dict(word.split("=", 1) for word in shlex.split(line)[1:])
    raise AssertionError("it ended without the line")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("dialect", ["2026", "2023"])
def test_it_serves_until_a_signal(number: signal.Signals, dialect: str) -> None:
    with start("simulate", "--vms", "7", "--dialect", dialect, "--disk-size", "1MiB") as program:
        env = printed_environment(program)
        listed = run("ls", "vms", env=env)
        assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 7)
        program.send_signal(number)
        _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (0, "")


def test_the_same_seed_is_the_same_server() -> None:
    ids = []
    for seed in ("3", "3", "4"):
        with start("simulate", "--vms", "3", "--seed", seed, "--disk-size", "1MiB") as program:
            ids.append(run("ls", "vms", "--fields", "id", env=printed_environment(program)).stdout)
            program.terminate()
            program.communicate(timeout=30)
    assert ids[0] == ids[1] != ids[2]


def test_it_says_how_to_get_in_and_stops_on_ctrl_c() -> None:
    with Terminal("simulate", "--vms", "2", "--churn", "3", "--disk-size", "1MiB") as terminal:
        terminal.expect("Ctrl-C stops it.")
        assert "2 VMs; 3 changes a second" in terminal.plain
        shown = dict(re.findall(r"^  (URL|user|password|token) +(\S+)$", terminal.plain, re.MULTILINE))
        assert set(shown) == {"URL", "user", "password", "token"}
        env = {"XOA_URL": shown["URL"], "XOA_USER": shown["user"], "XOA_PASSWORD": shown["password"]}
        assert run("ls", "vms", env=env).returncode == 0
        terminal.type("\x03")
        assert terminal.finish() == 0
    assert "Traceback" not in terminal.plain


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("simulate", "--port", str(taken.getsockname()[1]), "--vms", "1")
    assert done.returncode == 2
    assert "--port 0" in done.stderr
    assert done.stderr.count("\n") == 1
