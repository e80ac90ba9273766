"""export and import, through the real program: disks and machines that go out, in and out again."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from aioxo.cli.transfer import file_name

from .program import PROGRAM, Terminal, environment, run

if TYPE_CHECKING:
    from pathlib import Path

    from aioxo.simulator import Simulator


def disk_of(simulator: Simulator) -> dict[str, Any]:
    return min(simulator.store.of_type("VDI"), key=lambda disk: (disk["size"], disk["id"]))


def another_sr(simulator: Simulator, disk: dict[str, Any]) -> dict[str, Any]:
    return next(sr for sr in simulator.store.of_type("SR") if sr["id"] != disk["$SR"] and sr["content_type"] != "iso")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("suffix", "check"), [("raw", "length"), ("vhd", "vhd structure")])
def test_a_disk_goes_out_in_and_out_again(
    env: dict[str, str], quiet: Simulator, tmp_path: Path, suffix: str, check: str
) -> None:
    disk = disk_of(quiet)
    first = tmp_path / f"first.{suffix}"
    done = run("export", "vdis", disk["id"], str(first), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["sha256"] == sha256(first)
    assert told["bytes"] == first.stat().st_size
    assert told["checks"] == [check]

    sr = another_sr(quiet, disk)
    made = run("import", str(first), "--sr", sr["name_label"], "--name-label", "a copy", env=env)
    assert (made.returncode, made.stderr) == (0, "")
    copy = json.loads(made.stdout)["id"]
    record = json.loads(run("get", "vdis", copy, env=env).stdout)
    assert (record["name_label"], record["$SR"], record["size"]) == ("a copy", sr["id"], disk["size"])

    raw, again = tmp_path / "original.raw", tmp_path / "again.raw"
    for object_id, path in ((disk["id"], raw), (copy, again)):
        assert run("export", "vdi", object_id, str(path), "--sparse", env=env).returncode == 0
    assert sha256(raw) == sha256(again)
    assert {path.name for path in tmp_path.iterdir()} == {first.name, raw.name, again.name}


def test_a_machine_goes_out_and_in(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    vm = next(vm for vm in quiet.store.of_type("VM") if vm["power_state"] == "Halted")
    pool, sr = next(iter(quiet.store.of_type("pool"))), another_sr(quiet, disk_of(quiet))
    done = run("export", "vms", vm["id"], str(tmp_path / "vm.xva"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["checks"] == ["tar structure"]
    made = run("import", str(tmp_path / "vm.xva"), "--pool", pool["name_label"], "--sr", sr["id"], env=env)
    assert (made.returncode, made.stderr) == (0, "")
    assert json.loads(made.stdout)["collection"] == "vms"
    by_sr = run("import", str(tmp_path / "vm.xva"), "--sr", sr["id"], "-o", "name", env=env)
    assert (by_sr.returncode, by_sr.stderr) == (0, "")
    assert run("get", "vms", by_sr.stdout.strip(), env=env).returncode == 0


def test_a_compressed_machine_says_what_is_not_checked(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    vm = next(vm for vm in quiet.store.of_type("VM") if vm["power_state"] == "Halted")
    done = run("export", "vm", vm["id"], str(tmp_path / "vm.xva.gz"), "-o", "table", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "vm.xva.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert "checked  gzip signature" in done.stdout
    assert "note     " in done.stdout


def test_a_file_that_is_there_stays_unless_forced(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    disk = disk_of(quiet)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"precious")
    before = len(quiet.requests)
    done = run("export", "vdis", disk["id"], str(path), env=env)
    assert done.returncode == 6
    assert "--force" in done.stderr
    assert path.read_bytes() == b"precious"
    assert len(quiet.requests) == before
    assert run("export", "vdis", disk["id"], str(path), "--force", env=env).returncode == 0
    assert path.stat().st_size == disk["size"]


def test_a_folder_gets_a_file_with_a_harmless_name(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    disk = sorted(quiet.store.of_type("VDI"), key=lambda disk: (disk["size"], disk["id"]))[1]
    name = "../../etc/\x1b[31mpass\nwd"
    assert run("call", "vdi.set", f"id={disk['id']}", f"name_label={name}", env=env).returncode == 0
    done = run("export", "vdis", disk["id"], str(tmp_path), "--format", "raw", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["etc-31mpass-wd.raw"]
    again = run("export", "vdis", disk["id"], str(tmp_path), "--format", "raw", env=env)
    assert again.returncode == 6


@pytest.mark.parametrize(
    ("label", "name"),
    [("web 01", "web-01"), ("..", "the-id"), ("", "the-id"), ("東京", "the-id"), ("a" * 300, "a" * 100)],
)
def test_file_name(label: str, name: str) -> None:
    assert file_name({"id": "the-id", "name_label": label}) == name


def test_standard_output(env: dict[str, str], quiet: Simulator) -> None:
    disk = disk_of(quiet)
    done = subprocess.run(
        [*PROGRAM, "export", "vdis", disk["id"], "-", "--format", "raw"],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stdout) == disk["size"]
    assert hashlib.sha256(done.stdout).hexdigest() in done.stderr.decode()
    with Terminal("export", "vdis", disk["id"], "-", env=env) as terminal:
        assert terminal.finish() == 2
    assert "pipe" in terminal.plain


def test_a_person_sees_a_bar_and_a_summary(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    disk = disk_of(quiet)
    path = tmp_path / "disk.raw"
    with Terminal("export", "vdis", disk["id"], str(path), env=env) as terminal:
        assert terminal.finish() == 0
    assert "━" in terminal.output
    assert "\x1b[?25h" in terminal.output  # the cursor is back
    assert f"sha256   {sha256(path)}" in terminal.plain
    assert "checked  length" in terminal.plain
    sr = another_sr(quiet, disk)
    with Terminal("import", str(path), "--sr", sr["id"], env=env) as terminal:
        assert terminal.finish() == 0
    assert re.search(r"made     disk [0-9a-f-]{36}", terminal.plain)


def test_a_hostile_name_beside_the_bar(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    disk = sorted(quiet.store.of_type("VDI"), key=lambda disk: (disk["size"], disk["id"]))[2]
    name = "\x1b]0;x\x07[red]x[/]"
    assert run("call", "vdi.set", f"id={disk['id']}", f"name_label={name}", env=env).returncode == 0
    with Terminal("export", "vdis", disk["id"], str(tmp_path / "x.raw"), env=env, columns=140) as terminal:
        assert terminal.finish() == 0
    assert "\x1b]0;" not in terminal.output
    assert "\\x1b]0;x\\x07[red]x[/]" in terminal.plain


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("export", "hosts", "x", "y"), 2, "vms"),
        (("export", "vms", "x", "--format", "raw"), 2, "xva or ova"),
        (("export", "vdis", "x", "--format", "xva"), 2, "raw or vhd"),
        (("export", "vdis", "x", "--compress", "zstd"), 2, "XVA"),
        (("export", "vdis", "x", "--sparse", "--format", "vhd"), 2, "--sparse"),
        (("export", "vdis", "nobody", "nobody.raw"), 4, "nobody"),
        (("import", "nothing-here.raw", "--sr", "x"), 2, "nothing-here.raw"),
    ],
)
def test_what_cannot_be(env: dict[str, str], arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run(*arguments, env=env)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("disk.raw", b"\0" * 512, (), "--sr"),
        ("disk.raw", b"\0" * 512, ("--pool", "x"), "--sr"),
        ("disk.qcow2", b"QFI\xfb" + b"\0" * 508, ("--sr", "x"), "qemu-img"),
        ("disk.vhd", b"\0" * 512, ("--sr", "x"), "does not start like one"),
        ("disk.raw.gz", b"\x1f\x8b" + b"\0" * 510, ("--sr", "x"), "uncompress"),
        ("vm.ova", b"\0" * 257 + b"ustar" + b"\0" * 250, ("--pool", "x"), "XVA alone"),
        ("vm.xva", b"\0" * 257 + b"ustar" + b"\0" * 250, ("--pool", "x", "--name-label", "y"), "for disks"),
    ],
)
def test_files_that_are_not_taken(
    env: dict[str, str], tmp_path: Path, name: str, content: bytes, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    done = run("import", str(path), *options, env=env)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_destination_that_cannot_be_written(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    done = run("export", "vdis", disk_of(quiet)["id"], str(tmp_path / "no" / "such" / "disk.raw"), env=env)
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1
