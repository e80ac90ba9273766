"""What a hostile or broken server sends, and what a broken shell gives: sentences and exit codes, never a traceback."""

from __future__ import annotations

import csv
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from aioxo.cli import text
from aioxo.cli.render import Format, write_value

from .program import PROGRAM, Terminal, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aioxo.simulator import Simulator

ID = "0c7fd0df-7982-43e9-88d1-62ce6f966fe8"


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], dict[str, str]]]:
    """Serve one body at every address but the probe's; gives the environment for the program."""
    servers: list[tuple[http.server.ThreadingHTTPServer, threading.Thread]] = []

    def start(body: bytes) -> dict[str, str]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ndjson = "ndjson=" in self.path
                sent = b"[]" if "/pools?" in self.path else body
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson" if ndjson else "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, format: str, *values: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return {"XOA_URL": f"http://127.0.0.1:{server.server_port}", "XOA_TOKEN": "token"}

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(10)
        server.server_close()


def deep(levels: int) -> bytes:
    return b'{"id":"' + ID.encode() + b'","deep":' + b"[" * levels + b"]" * levels + b"}\n"


@pytest.mark.parametrize("form", ["json", "ndjson", "table", "csv", "name"])
@pytest.mark.parametrize("levels", [300, 900])
def test_deep_records_are_shown_or_refused_in_a_sentence(
    serve: Callable[[bytes], dict[str, str]], form: str, levels: int
) -> None:
    done = run("get", "vms", ID, "-o", form, env=serve(deep(levels)))
    assert "mistake" not in done.stderr
    assert "Traceback" not in done.stderr
    if levels == 300 or done.returncode == 0:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    if levels == 300 and form == "ndjson":
        assert done.stdout.encode() == deep(300)


@pytest.mark.parametrize("form", ["table", "ndjson", "csv"])
def test_a_record_that_is_no_object(serve: Callable[[bytes], dict[str, str]], form: str) -> None:
    done = run("ls", "hosts", "-o", form, env=serve(b"1\n"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "mistake" not in done.stderr


@pytest.mark.parametrize(("body", "wanted"), [(b'{"name_label":"x"}\n', "x"), (b'{"name_label":"x"}', ID)])
def test_a_record_without_an_id(serve: Callable[[bytes], dict[str, str]], body: bytes, wanted: str) -> None:
    done = run("get", "vms", wanted, env=serve(body))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "mistake" not in done.stderr


@pytest.mark.parametrize(
    "word",
    [f"limit=json:{10**30}", "x=json:" + "[" * 300 + "]" * 300, "x=json:" + "[" * 10**5, b"x=\xff", "x=json:NaN"],
)
def test_a_typing_mistake_is_the_typists(word: str | bytes) -> None:
    done = subprocess.run(
        [*PROGRAM, "call", "vm.set", word],
        env=environment({"XOA_URL": "http://127.0.0.1:1", "XOA_TOKEN": "x"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "mistake in aioxo" not in done.stderr


def in_shell(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {command}', "sh", *PROGRAM, "ls", "vms", "-o", "json"],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_closed_streams(env: dict[str, str]) -> None:
    done = in_shell(">&-", env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard output is closed" in done.stderr
    done = in_shell("2>&- <&-", env)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 12


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - a device
def test_a_full_disk_is_told_by_name(env: dict[str, str], quiet: Simulator) -> None:
    for form, code in (("json", 1), ("ndjson", 1), ("table", 1), ("export", 6)):
        disk = next(iter(quiet.store.of_type("VDI")))["id"]
        arguments = ("export", "vdis", disk, "-") if form == "export" else ("ls", "vms", "-o", form)
        with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
            done = subprocess.run(
                [*PROGRAM, *arguments],
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                check=False,
            )
        assert (form, done.returncode, done.stderr) == (
            form, code, "aioxo: standard output: No space left on device\n",
        )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_an_export_whose_reader_stalls(
    env: dict[str, str], quiet: Simulator, number: signal.Signals, code: int
) -> None:
    disk = min(quiet.store.of_type("VDI"), key=lambda disk: (disk["size"], disk["id"]))
    with subprocess.Popen(
        [*PROGRAM, "export", "vdis", disk["id"], "-", "--format", "raw"],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.read(1)  # it writes, and more than the pipe holds
        program.send_signal(number)
        began = time.monotonic()
        assert program.wait(20) == code
        assert time.monotonic() - began < 10
        assert program.stderr.read() == b""


def test_csv_has_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    values = ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "fine", -5, "-5", "\uff1d1"]
    write_value([{"=head": value} for value in values], Format.CSV)
    rows = [row[0] for row in csv.reader(capsys.readouterr().out.splitlines())]
    assert rows == ["'=head", "'=1+1", "'+cmd", "'-cmd", "'@SUM(A1)", "\\t=1", "fine", "-5", "-5", "'\uff1d1"]


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_a_narrow_table_does_not_wrap(env: dict[str, str], columns: int) -> None:
    for collection in ("vms", "vdis", "hosts"):
        with Terminal("ls", collection, env=env, columns=columns) as terminal:
            assert terminal.finish() == 0
        assert all(len(line) <= columns for line in terminal.plain.splitlines())
        assert terminal.plain.startswith("NAME")


def test_marks_are_bounded() -> None:
    shown = text.safe("a" + "\u0300" * 200 + "b")
    assert shown == "a" + "\u0300" * text.MARKS + "\\u0300" * (200 - text.MARKS) + "b"
    encoded = json.dumps("a" + "\u0300" * 200, ensure_ascii=False)
    assert json.loads(text.safe_json(encoded)) == "a" + "\u0300" * 200
    assert text.safe_json(encoded).count("\u0300") == text.MARKS
    assert text.safe("e\u0301 ไม้") == "e\u0301 ไม้"


@pytest.mark.parametrize("number", [1e308, 10**400, -1e300, float("inf"), float("nan")])
def test_absurd_sizes_are_short(number: float) -> None:
    assert len(text.size(number)) < 12


def test_lines_fold_between_words() -> None:
    assert text.folded("size     12.0 MiB (12 bytes) in 2 s", 24) == "size     12.0 MiB (12\n         bytes) in 2 s"
    assert text.folded("sha256   " + "a" * 64, 64) == "sha256\n" + "a" * 64
    assert text.folded("short", 60) == "short"


def test_a_field_that_no_record_has(env: dict[str, str]) -> None:
    done = run("ls", "vms", "--fields", "name_label,nosuch", "-o", "table", env=env)
    assert done.returncode == 0
    assert done.stderr == "aioxo: no record has the field 'nosuch'\n"
    assert run("ls", "vms", "--fields", "name_label", env=env).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said", "unsaid"),
    [
        (("simulate", "--host", "192.0.2.1"), "--host", "--port"),
        (("watch", "nosuch"), "take one of", "; host"),
        (("ls", "vms/../x"), "not the name of a collection", "here"),
        (("export", "vdis", "x", "-o", "csv"), "'json'", "'csv',"),
        (("watch", "-o", "csv"), "'ndjson'", "'json',"),
    ],
)
def test_hints_help(env: dict[str, str], arguments: tuple[str, ...], said: str, unsaid: str) -> None:
    done = run(*arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert unsaid not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vdis", "x", "d.qcow2"), "raw or vhd"),
        (("vdis", "x", "d.xva"), "raw or vhd"),
        (("vdis", "x", "d.zip"), "raw or vhd"),
        (("vdis", "x", "d.nosuch"), "raw or vhd"),
        (("vms", "x", "d.raw"), "xva or ova"),
        (("vdis", "x", "d.vmdk", "--format", "raw"), ".vmdk"),
        (("vdis", "x", "d.vhd", "--format", "raw"), ".vhd"),
        (("vms", "x", "d.ova", "--format", "xva"), ".ova"),
    ],
)
def test_a_file_is_not_named_what_it_is_not(env: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    done = run("export", *arguments, env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_an_unknown_suffix_will_do_with_a_format(env: dict[str, str], quiet: Simulator, tmp_path: Path) -> None:
    disk = next(iter(quiet.store.of_type("VDI")))
    done = run("export", "vdis", disk["id"], str(tmp_path / "disk.2026"), "--format", "raw", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "disk.2026").stat().st_size == disk["size"]


@pytest.mark.parametrize("kind", ["fifo", "dangling", "device"])
def test_what_is_no_file_is_not_replaced(env: dict[str, str], quiet: Simulator, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.raw"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else "nowhere")
    before = len(quiet.requests)
    for force in ((),) if kind == "dangling" else ((), ("--force",)):
        done = run("export", "vdis", "x", str(path), *force, env=env)
        assert (done.returncode, done.stderr.count("\n")) == (6, 1)
    assert len(quiet.requests) == before
    assert path.is_fifo() or path.is_symlink()


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [(b"", (), "empty"), (b"", ("--format", "raw"), "empty"), (b"x" * 353, (), "353 bytes")],
)
def test_what_is_no_disk_is_not_imported(
    env: dict[str, str], quiet: Simulator, tmp_path: Path, content: bytes, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    before = len(quiet.requests)
    done = run("import", str(path), "--sr", "x", *options, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert len(quiet.requests) == before


def test_a_pipe_is_no_disk(env: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "disk.raw")
    done = run("import", str(tmp_path / "disk.raw"), "--sr", "x", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_narrow_demo_keeps_its_words_whole() -> None:
    quick = ("--for", "0.1", "--churn", "0", "--vms", "3", "--disk-size", "1MiB")
    with Terminal("demo", *quick, columns=72) as terminal:
        assert terminal.finish() == 0
    assert re.search(r"sha256\n *[0-9a-f]{64}$", terminal.plain, re.MULTILINE)
