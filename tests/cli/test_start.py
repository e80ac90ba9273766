"""Help, versions, what is missing, what is imported, and how errors come out."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import aioxo

from .program import Terminal, environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("demo", "simulate", "ls", "get", "watch", "call", "export", "import")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(), timeout=30
    )


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that is taken but refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "XOA_URL" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: aioxo {command}")


def test_version() -> None:
    assert run("--version").stdout == f"aioxo {aioxo.__version__}\n"


def test_no_arguments_show_the_help() -> None:
    done = run()
    assert done.returncode in {0, 2}  # Typer's own choice, which changed
    assert "Usage: aioxo" in done.stdout + done.stderr


def test_the_library_does_not_bring_the_command_line() -> None:
    done = python(
        "import sys, aioxo; print([m for m in ('aioxo.cli', 'aioxo.simulator', 'typer', 'rich') if m in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_help_brings_neither_rich_nor_the_simulator() -> None:
    done = python(
        "import sys; from aioxo.cli import main; sys.argv = ['aioxo', '--help']; main(); "
        "sys.stderr.write(str([m for m in ('rich.console', 'rich.table', 'aioxo.simulator') if m in sys.modules]))"
    )
    assert done.stderr == "[]"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = python(f"import sys; sys.modules[{missing!r}] = None; from aioxo.cli import main; sys.exit(main())")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'aioxo[cli]'" in done.stderr
    assert missing in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "No such command"),
        (("ls", "vms", "--nonsense"), "No such option"),
        (("ls", "vms", "--limit", "-3"), "--limit"),
        (("ls", "vms", "-o", "yaml"), "--output"),
        (("call",), "METHOD"),
        (("simulate", "--dialect", "1999"), "2026 or 2023"),
        (("simulate", "--disk-size", "big"), "64MiB"),
        (("simulate", "--disk-size", "1000"), "multiple of 512"),
        (("demo", "--disk-size", "0.3"), "whole number"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_server_named() -> None:
    done = run("ls", "vms")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "XOA_URL" in done.stderr
    assert "aioxo simulate" in done.stderr


def test_no_credentials(deaf_port: int) -> None:
    done = run("ls", "vms", "--url", f"http://127.0.0.1:{deaf_port}")
    assert done.returncode == 2
    assert "XOA_TOKEN" in done.stderr


def test_server_down(deaf_port: int) -> None:
    done = run("ls", "vms", env={"XOA_URL": f"http://127.0.0.1:{deaf_port}", "XOA_TOKEN": "s3cr3t-token"})
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{deaf_port}" in done.stderr
    assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize("command", [("ls", "vms"), ("watch", "VM"), ("call", "system.listMethods")])
def test_wrong_token(command: tuple[str, ...], env: dict[str, str]) -> None:
    done = run(*command, env={**env, "XOA_TOKEN": "s3cr3t-and-wrong"})
    assert done.returncode == 3
    assert done.stderr.startswith("aioxo: ")
    assert "s3cr3t" not in done.stderr + done.stdout


def test_user_and_password(env: dict[str, str]) -> None:
    signed_in = {"XOA_URL": env["XOA_URL"], "XOA_USER": "admin@admin.net", "XOA_PASSWORD": "admin"}
    done = run("ls", "pools", "-o", "name", env=signed_in)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_token_is_no_argument(env: dict[str, str]) -> None:
    done = run("ls", "vms", "--url", env["XOA_URL"], "--token", "s3cr3t")
    assert done.returncode == 2
    assert "XOA_TOKEN" in done.stderr
    assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize("url", ["http://s3cr3t@127.0.0.1:1", "http://admin:s3cr3t@127.0.0.1:1"])
def test_a_url_holds_no_secret(url: str) -> None:
    done = run("ls", "vms", "--url", url)
    assert done.returncode == 2
    assert "XOA_URL" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_token_from_standard_input(env: dict[str, str]) -> None:
    done = run("ls", "pools", "--url", env["XOA_URL"], "--token", "-", input=env["XOA_TOKEN"] + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert run("ls", "pools", "--url", env["XOA_URL"], "--token", "-").returncode == 2


def test_a_token_typed_is_not_shown(env: dict[str, str]) -> None:
    with Terminal("ls", "pools", "-o", "name", "--url", env["XOA_URL"], "--token", "-") as terminal:
        terminal.expect("Token: ")
        terminal.type(env["XOA_TOKEN"] + "\n")
        assert terminal.finish() == 0
    assert env["XOA_TOKEN"] not in terminal.output


def test_server_options_stand_before_a_command_as_well(env: dict[str, str], deaf_port: int) -> None:
    token = {"XOA_TOKEN": env["XOA_TOKEN"]}
    assert run("--url", env["XOA_URL"], "ls", "pools", env=token).returncode == 0
    nearer = run("--url", f"http://127.0.0.1:{deaf_port}", "ls", "pools", "--url", env["XOA_URL"], env=token)
    assert nearer.returncode == 0


def test_debug_shows_the_traceback_and_the_log_but_no_secret(env: dict[str, str]) -> None:
    done = run("get", "vms", "nobody", "--debug", env=env)
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert env["XOA_TOKEN"] not in done.stderr
    log = run("call", "system.getServerVersion", "--debug", env=env)
    assert log.returncode == 0
    assert "aioxo.rpc" in log.stderr
    assert env["XOA_TOKEN"] not in log.stderr
