"""The server's side of the benchmarks: a process that answers as Xen Orchestra does, with bytes made beforehand.

It is no simulator: it knows the handful of requests that the benchmarks make, and does nothing while it sends but hand
prepared bytes to the kernel, from a thread that blocks, so that it is never what a benchmark waits for. On the wire it
does what xo-server does:

- a record of a list is an HTTP chunk of its own;
- a disk comes chunked, 64 KiB a chunk, without a length;
- a notification is a text frame of its own.

``python -m benchmarks.peers VMS`` prints its port and serves until its standard input ends; `peer` wraps that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from .measure import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK", "FLOOD", "peer"]

#: Bytes of a disk in one HTTP chunk.
CHUNK: Final = 64 * 2**10
#: The method that makes the peer send a notification for each of its VMs, after its reply; no real server has it.
FLOOD: Final = "benchmark.flood"
#: Distinct records in a list; a longer one repeats them.
_RECORDS: Final = 20_000
#: Chunks of a disk handed to the kernel at once.
_CHUNKS: Final = 256
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


@contextlib.contextmanager
def peer(vms: int = 0) -> Iterator[str]:
    """Run a peer that knows `vms` VMs until the block is left; give its URL."""
    command = [sys.executable, "-m", "benchmarks.peers", str(vms)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def _id(number: int) -> str:
    """Return an id as long as a real one."""
    return f"{number:08x}-0000-4000-8000-{number * 2_654_435_761 % 2**48:012x}"


def _record(number: int) -> dict[str, Any]:
    """Four fields of a VM and the link, 250 bytes: what a real list of such fields measured."""
    id_ = _id(number)
    return {
        "id": id_,
        "name_label": f"machine {number}",
        "power_state": "Running" if number % 3 else "Halted",
        "memory": {"dynamic": [2**30, 2**31], "static": [2**29, 2**32], "size": 2**31},
        "href": f"/rest/v0/vms/{id_}",
    }


def _vm(number: int) -> dict[str, Any]:
    """A whole VM as a notification carries it: the fields that a real one has, 1.7 kB."""
    id_ = _id(number)
    return {
        "type": "VM",
        "addresses": {"0/ipv4/0": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"},
        "auto_poweron": False,
        "bios_strings": {"bios-vendor": "Xen", "system-manufacturer": "Xen"},
        "blockedOperations": {},
        "boot": {"order": "cdn", "firmware": "uefi"},
        "CPUs": {"max": 2, "number": 2},
        "current_operations": {},
        "expNestedHvm": False,
        "isNestedVirtEnabled": False,
        "vulnerabilities": {"xsa468": False},
        "viridian": False,
        "high_availability": "",
        "isFirmwareSupported": True,
        "memory": {"dynamic": [2**31, 2**31], "static": [2**30, 2**31], "size": 2**31},
        "installTime": 1_700_000_000 + number,
        "name_description": "one of many machines of a benchmark",
        "name_label": f"machine {number}",
        "needsVtpm": False,
        "other": {
            "mac_seed": _id(number),
            "base_template_name": "Debian Bookworm 12",
            "install-methods": "cdrom,http,ftp",
        },
        "os_version": {"name": "Debian GNU/Linux 12", "uname": "6.1.0-26-amd64", "distro": "debian"},
        "power_state": "Running",
        "hasVendorDevice": False,
        "snapshots": [_id(number + 2**20)],
        "startDelay": 0,
        "startTime": 1_700_000_000 + number,
        "secureBoot": False,
        "tags": ["benchmark", f"group {number % 10}"],
        "VIFs": [_id(number + 2**21)],
        "VTPMs": [],
        "virtualizationMode": "hvm",
        "$container": _id(2**31 + 1),
        "$VBDs": [_id(number + 2**22), _id(number + 2**23)],
        "VGPUs": [],
        "$VGPUs": [],
        "xenStoreData": {},
        "vga": "std",
        "videoram": 8,
        "coresPerSocket": 1,
        "id": id_,
        "uuid": id_,
        "$pool": _id(2**31),
        "$poolId": _id(2**31),
        "_xapiRef": f"OpaqueRef:{id_}",
    }


def _notification(number: int) -> dict[str, Any]:
    params = {"type": "enter", "items": {_id(number): _vm(number)}}
    return {"jsonrpc": "2.0", "method": "all", "params": params}


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _frame(data: bytes, opcode: int = _TEXT) -> bytes:
    """Frame a message as a server does: whole and not masked."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 2**16:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + data
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + data


class _Prepared:
    """All that is sent, made before the first request."""

    def __init__(self, vms: int) -> None:
        noise = random.Random(0)
        self.records = [_chunk(_encode(_record(number)) + b"\n") for number in range(_RECORDS)]
        self.all_records = b"".join(self.records)
        self.ids = b"".join(_chunk(_encode(f"/rest/v0/vms/{_id(number)}") + b"\n") for number in range(vms))
        self.flood = b"".join(_frame(_encode(_notification(number))) for number in range(vms))
        self.disk = b"".join(_chunk(noise.randbytes(CHUNK)) for _ in range(_CHUNKS))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, vms: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prepared = _Prepared(vms)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, which some do in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        collection, _, id_ = parts.path.removeprefix("/rest/v0/").partition("/")
        if parts.path == "/api/":
            self._websocket()
        elif collection == "pools":
            self._json(["/rest/v0/pools/" + _id(2**31)])
        elif collection == "vms" and "fields" in query:
            self._records(int(query["limit"]))
        elif collection == "vms":
            self._start_chunked("application/x-ndjson")
            self.connection.sendall(self.server.prepared.ids + b"0\r\n\r\n")
        elif collection == "vdis" and id_.endswith(".raw"):
            self._disk(int(id_.removesuffix(".raw")))
        elif collection == "vdis":
            self._json({"id": id_, "type": "VDI", "size": int(id_)})
        else:
            self.send_error(404)

    def _json(self, value: Any) -> None:
        body = _encode(value)
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.connection.sendall(body)

    def _start_chunked(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _records(self, count: int) -> None:
        prepared = self.server.prepared
        rounds, rest = divmod(count, _RECORDS)
        last = b"".join(prepared.records[:rest]) + b"0\r\n\r\n"
        whole = prepared.all_records
        self._start_chunked("application/x-ndjson")
        for _ in range(rounds):
            self.connection.sendall(whole)
        self.connection.sendall(last)

    def _disk(self, size: int) -> None:
        """Send a disk whose id is its size in bytes, a multiple of `CHUNK`."""
        block = self.server.prepared.disk
        rounds, rest = divmod(size // CHUNK, _CHUNKS)
        self._start_chunked("application/octet-stream")
        for _ in range(rounds):
            self.connection.sendall(block)
        self.connection.sendall(block[: rest * (len(block) // _CHUNKS)] + b"0\r\n\r\n")

    def _websocket(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        digest = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.close_connection = True
        while (frame := self._receive()) is not None:
            opcode, data = frame
            if opcode == _TEXT:
                self._answer(json.loads(data))
            elif opcode == _PING:
                self.connection.sendall(_frame(data, _PONG))
            elif opcode == _CLOSE:
                self.connection.sendall(_frame(data, _CLOSE))
                return

    def _receive(self) -> tuple[int, bytes] | None:
        """Read one frame of a client, always masked and here always short; None when there are no more."""
        head = self.rfile.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.rfile.read(2))
        mask = self.rfile.read(4)
        return head[0] & 0xF, bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(size)))

    def _answer(self, call: dict[str, Any]) -> None:
        reply = {"jsonrpc": "2.0", "id": call["id"], "result": {"id": "benchmark", "permission": "admin"}}
        self.connection.sendall(_frame(_encode(reply)))
        if call["method"] == FLOOD:
            self.connection.sendall(self.server.prepared.flood)


def main() -> None:
    """Serve until standard input ends."""
    with _Server(int(sys.argv[1])) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
