"""Starts the vendor's REST code: installs it once with npm, seeds it with a simulator's objects, runs it with Node.

The packages lie in `vendor/node_modules`, which is no part of the repository; a note in there says for which lock file
they were installed, so that it is done once. The process ends with its standard input, hence with this one, however
that ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from aioxo.simulator import Simulator, vhd, xva

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER: Final = Path(__file__).parent / "vendor"
MODULES: Final = FOLDER / "node_modules"
INSTALLED: Final = MODULES / ".installed-for"
#: The document that lists the vendor's operations; there once the package is installed.
OPENAPI: Final = MODULES / "@xen-orchestra" / "rest-api" / "open-api" / "spec" / "swagger.json"
OLDEST_NODE: Final = 20
INSTALL_LIMIT: Final = 300.0
START_LIMIT: Final = 60.0
STOP_LIMIT: Final = 10.0
#: Taken before the tests hide the home folder, where npm has its settings and its cache.
ENVIRONMENT: Final = dict(os.environ)


class CannotHost(RuntimeError):
    """npm or Node is there, but did not do what it should; the message holds what it wrote."""


def missing_tool() -> str | None:
    """Say what this machine lacks for the vendor's code; None when it lacks nothing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return f"Node.js {OLDEST_NODE} or later with npm is needed for the vendor's REST code, and there is none"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=START_LIMIT, check=False)
    matched = re.match(r"v(\d+)", version.stdout)
    if matched is None or int(matched[1]) < OLDEST_NODE:
        return f"Node.js {OLDEST_NODE} or later is needed for the vendor's REST code, not {version.stdout.strip()!r}"
    return None


def install() -> None:
    """Install the packages of the lock file, unless they are; one process at a time.

    Raises:
        CannotHost: npm failed, or took longer than `INSTALL_LIMIT` seconds.
    """
    wanted = _fingerprint()
    with _alone():
        if INSTALLED.is_file() and INSTALLED.read_text() == wanted:
            return
        command = [
            shutil.which("npm") or "npm",
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        try:
            done = subprocess.run(
                command,
                cwd=FOLDER,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=INSTALL_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotHost(f"`npm ci` did not end within {INSTALL_LIMIT:g} s: {error.output!r}") from None
        if done.returncode:
            raise CannotHost(f"`npm ci` failed with status {done.returncode}:\n{done.stdout}")
        INSTALLED.write_text(wanted)


def _fingerprint() -> str:
    files = [FOLDER / "package.json", FOLDER / "package-lock.json", *sorted(FOLDER.glob("stand-ins/*/package.json"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep two test runs from installing into the same folder; where files cannot be locked, nothing does."""
    if sys.platform == "win32":
        yield
        return
    with (FOLDER / "package.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_seed(
    folder: Path, simulator: Simulator, users: Iterable[Mapping[str, Any]], tokens: Mapping[str, str]
) -> Path:
    """Write what the vendor's code is to serve, the simulator's objects and disks, into `folder`; return the file.

    Args:
        folder: an empty folder.
        simulator: one that was made and never entered; its disks are closed here.
        users: records with `id`, `email`, `password` and `permission`.
        tokens: secret to user id.
    """
    objects = dict(simulator.store.all())
    images: dict[str, dict[str, str]] = {}

    def keep(object_id: str, format_: str, pieces: Iterable[bytes]) -> None:
        path = folder / f"{object_id}.{format_}"
        path.write_bytes(b"".join(pieces))
        images.setdefault(object_id, {})[format_] = str(path)

    for disk_id, disk in simulator.disks.items():
        keep(disk_id, "raw", [disk.read(0, disk.size)])
        keep(disk_id, "vhd", vhd.encode(disk))
    for machine in objects.values():
        if machine["type"] in {"VM", "VM-snapshot", "VM-template"}:
            vdis = [objects[vbd].get("VDI", "") for vbd in machine["$VBDs"] if not objects[vbd]["is_cd_drive"]]
            disks = [(vdi, simulator.disks[vdi]) for vdi in vdis if vdi in simulator.disks]
            keep(machine["id"], "xva", xva.encode(machine, disks, objects=objects))
    for disk in simulator.disks.values():
        disk.close()
    seed = {
        "images": images,
        "objects": list(objects.values()),
        "records": {name: list(records.values()) for name, records in simulator.records.items()},
        "tokens": [{"id": secret, "user_id": user} for secret, user in tokens.items()],
        "users": list(users),
    }
    path = folder / "seed.json"
    path.write_text(json.dumps(seed))
    return path


@contextlib.contextmanager
def vendor_process(seed: Path) -> Iterator[str]:
    """Run the vendor's code over this seed; yield its address, such as "http://127.0.0.1:34567".

    Raises:
        CannotHost: it did not come to listen within `START_LIMIT` seconds.
    """
    command = [shutil.which("node") or "node", str(FOLDER / "harness.mjs"), str(seed)]
    log = seed.with_name("harness.log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=FOLDER, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = _first_line(process.stdout)
        if not line:
            process.kill()
            raise CannotHost(f"the vendor's code did not start:\n{log.read_text(errors='replace')}")
        yield f"http://127.0.0.1:{json.loads(line)['port']}"
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _first_line(stream: IO[bytes]) -> bytes:
    """Return the first line of a pipe, empty when none came in time."""
    box: list[bytes] = []
    reader = threading.Thread(target=lambda: box.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(START_LIMIT)
    return box[0] if box else b""
