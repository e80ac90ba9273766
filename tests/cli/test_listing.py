"""ls, get and call, through the real program."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from .program import PROGRAM, Terminal, environment, run

if TYPE_CHECKING:
    from aioxo.simulator import Simulator

HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]x[/red][link=http://x]\u202egnp\x9b31m\nline2"
SHOWN = "\\x1b[2J\\x1b]0;owned\\x07[red]x[/red][link=http://x]\\u202egnp\\x9b31m\\nline2"


def vms(env: dict[str, str], *arguments: str) -> list[dict[str, object]]:
    done = run("ls", "vms", *arguments, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_without_a_collection_it_lists_the_collections() -> None:
    done = run("ls")
    assert done.returncode == 0
    names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    assert "vms" in names
    assert "backup-repositories" in names


def test_a_pipe_gets_every_record_with_every_field(env: dict[str, str], quiet: Simulator) -> None:
    records = vms(env)
    assert {record["id"] for record in records} == {vm["id"] for vm in quiet.store.of_type("VM")}
    assert all("power_state" in record and "$VBDs" in record for record in records)


def test_filter_fields_and_limit(env: dict[str, str], quiet: Simulator) -> None:
    running = {vm["name_label"] for vm in quiet.store.of_type("VM") if vm["power_state"] == "Running"}
    records = vms(env, "--filter", "power_state:Running", "--fields", "name_label,power_state")
    assert {record["name_label"] for record in records} == running
    assert all(set(record) <= {"name_label", "power_state", "href"} for record in records)
    assert len(vms(env, "-n", "2")) == 2
    assert vms(env, "--limit", "0") == []


def test_formats(env: dict[str, str]) -> None:
    as_json = json.loads(run("ls", "vms", "-o", "json", env=env).stdout)
    assert isinstance(as_json, list)
    names = run("ls", "vms", "-o", "name", env=env).stdout.splitlines()
    assert sorted(names) == sorted(record["name_label"] for record in as_json)
    rows = list(csv.DictReader(run("ls", "vms", "-o", "csv", env=env).stdout.splitlines()))
    assert {row["id"] for row in rows} == {record["id"] for record in as_json}
    table = run("ls", "vms", "-o", "table", env=env).stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "CPUS"]
    assert len(table) == len(as_json) + 1
    assert run("ls", "vms", "-f", "name_label:nobody", "-o", "json", env=env).stdout == "[]\n"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_a_table_that_fits(env: dict[str, str], columns: int) -> None:
    with Terminal("ls", "vms", env=env, columns=columns) as terminal:
        assert terminal.finish() == 0
    lines = terminal.plain.splitlines()
    assert lines[0].startswith("NAME")
    assert lines[0].endswith("ID") is (columns > 60)  # it goes first where there is no room
    assert len(lines) == 13
    assert all(len(line) <= columns for line in lines)


@pytest.mark.parametrize(
    "collection",
    ["hosts", "srs", "vdis", "vbds", "vifs", "networks", "pools", "pifs", "messages", "users", "tasks", "vm-templates"],
)
def test_every_kind_of_record_fits_its_table(env: dict[str, str], collection: str) -> None:
    done = run("ls", collection, "-o", "table", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("typed", ["vm", "VMs", "machines", "vm_templates", "vdi-snapshot"])
def test_a_collection_is_understood_as_people_write_it(env: dict[str, str], typed: str) -> None:
    assert run("ls", typed, env=env).returncode == 0


@pytest.mark.parametrize(("typed", "said"), [("vmz", "did you mean vms"), ("xyzzy", "aioxo ls")])
def test_an_unknown_collection(env: dict[str, str], typed: str, said: str) -> None:
    done = run("ls", typed, env=env)
    assert done.returncode == 4
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_filter_is_shown_with_a_caret_and_nothing_is_sent(env: dict[str, str], quiet: Simulator) -> None:
    before = len(quiet.requests)
    done = run("ls", "vms", "--filter", "power_state:Running )", env=env)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith("aioxo: ")
    assert lines[1] == "  power_state:Running )"
    assert lines[2] == " " * lines[1].index(")") + "^"
    assert len(quiet.requests) == before


def test_get_by_id_and_by_name(env: dict[str, str], quiet: Simulator) -> None:
    host = next(iter(quiet.store.of_type("host")))
    by_id = json.loads(run("get", "hosts", host["id"], env=env).stdout)
    by_name = json.loads(run("get", "host", host["name_label"], env=env).stdout)
    assert by_id == by_name
    assert by_id["id"] == host["id"]
    assert "memory" in by_id
    both = run("get", "hosts", host["id"], host["name_label"], "--fields", "id", env=env).stdout
    assert [json.loads(line) for line in both.splitlines()] == [{"id": host["id"]}] * 2
    table = run("get", "hosts", host["id"], "-o", "table", env=env).stdout
    assert re.search(rf"^name_label +{re.escape(host['name_label'])}$", table, re.MULTILINE)


@pytest.mark.parametrize("wanted", ["nobody", "00000000-0000-0000-0000-000000000000"])
def test_get_nothing(env: dict[str, str], wanted: str) -> None:
    done = run("get", "vms", wanted, env=env)
    assert done.returncode == 4
    assert wanted in done.stderr
    assert done.stderr.count("\n") == 1


def test_get_an_ambiguous_name(env: dict[str, str], quiet: Simulator) -> None:
    first, second, *_ = quiet.store.of_type("VDI")
    for disk in (first, second):
        assert run("call", "vdi.set", f"id={disk['id']}", "name_label=twin", env=env).returncode == 0
    done = run("get", "vdis", "twin", env=env)
    assert done.returncode == 2
    assert first["id"] in done.stderr
    assert second["id"] in done.stderr


def test_call(env: dict[str, str], quiet: Simulator) -> None:
    version = run("call", "system.getServerVersion", env=env)
    assert isinstance(json.loads(version.stdout), str)
    assert run("call", "system.getServerVersion", "-o", "table", env=env).stdout.strip() == json.loads(version.stdout)
    vm = next(iter(quiet.store.of_type("VM")))
    done = run("call", "vm.set", f"id={vm['id']}", "name_description=by hand", "cpuWeight=json:512", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    changed = json.loads(run("get", "vms", vm["id"], env=env).stdout)
    assert (changed["name_description"], changed["cpuWeight"]) == ("by hand", 512)


def test_call_what_is_not_there_or_not_right(env: dict[str, str]) -> None:
    unknown = run("call", "vm.strat", env=env)
    assert unknown.returncode == 4
    assert "vm.start" in unknown.stderr
    wrong = run("call", "vm.start", "nonsense=1", env=env)
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr or "id" in wrong.stderr
    typed = run("call", "vm.start", "nonsense", env=env)
    assert typed.returncode == 2
    assert "name=value" in typed.stderr


def test_hostile_names_are_harmless_everywhere(env: dict[str, str], quiet: Simulator) -> None:
    vm = list(quiet.store.of_type("VM"))[1]
    assert run("call", "vm.set", f"id={vm['id']}", f"name_label={HOSTILE}", env=env).returncode == 0
    only = ("-f", f"id:{vm['id']}")
    for arguments in (
        ("ls", "vms", *only, "-o", "table"),
        ("ls", "vms", *only, "-o", "csv"),
        ("ls", "vms", *only, "-o", "name"),
        ("get", "vms", vm["id"], "-o", "table"),
    ):
        done = run(*arguments, env=env)
        assert SHOWN in done.stdout, done.stderr
        assert not set(done.stdout) & set(HOSTILE) - set(SHOWN) - {"\n"}
    for form in ("json", "ndjson"):
        done = run("ls", "vms", *only, "-o", form, env=env)
        records = json.loads(done.stdout)
        assert (records[0] if form == "json" else records)["name_label"] == HOSTILE
        assert not set(done.stdout) & set(HOSTILE) - set(SHOWN) - {"\n"}
    with Terminal("ls", "vms", *only, env=env, columns=300) as terminal:
        assert terminal.finish() == 0
    assert SHOWN in terminal.output
    missing = run("get", "vms", HOSTILE + "!", env=env)
    assert SHOWN + "!" in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_a_closed_pipe_is_quiet(env: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (("ls", "vms"), ("ls", "vms", "-o", "json"), ("ls", "vms", "-o", "table"), ("ls",), ("--help",)):
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
        # Typer sees to its own help, and ends with 1.
        code = 1 if arguments == ("--help",) else 141
        assert (arguments, done.returncode, done.stderr) == (arguments, code, "")
    os.close(writing)
