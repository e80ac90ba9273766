"""Disk images and VM archives, out and in, as streams.

Exports are chunked, without a length, and whatever the client accepts decides whether they are gzipped on the way. The
content is that of the moment the export began. VM archives can be gzipped inside (`compress=gzip`); zstd needs a Python
that has it (`compression.zstd`, or the `backports.zstd` package), and a simulator without it answers `compress=zstd`
with 501, as no real pool would.

Imports go into a new disk that is an object from the first byte on, as it is in a pool, and is gone again when the
import fails or the client goes away.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from aioxo.simulator import vhd, xva
from aioxo.simulator.disks import Disk, StoredDisk
from aioxo.simulator.failures import Failure, FieldsInvalid, IncorrectState, NotImplementedHere, XapiFailure
from aioxo.simulator.inventory import edits, make_vm
from aioxo.simulator.operations import lifecycle, storage
from aioxo.simulator.rest.answers import accepted_encoding, compressor, created, no_content
from aioxo.simulator.rest.door import MAXIMUM_JSON, read_at_most
from aioxo.simulator.rest.objects import finder
from aioxo.simulator.rest.routes import Call, Route
from aioxo.simulator.rest.validation import UNION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aioxo.simulator.operations.hypervisor import Hypervisor
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Object

FIRST = 5
PIECE = 256 * 1024
DISK_EXPORTS = 12
_FORM = "application/x-www-form-urlencoded"
_NO_LENGTH = "Trying to import a VDI without a length field. Please report this error to the Xen Orchestra team."
_NO_RAW_LENGTH = 'Expected "actual" to be strictly unequal to:\n\nundefined'


class Compressor(Protocol):
    """What makes a stream smaller, such as zlib's compressors."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready of the compressed stream."""

    def flush(self) -> bytes:
        """Return the rest."""


def zstd_compressor() -> Compressor | None:
    """Return a zstd compressor, None when this Python has none."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        made: Compressor = module.ZstdCompressor()
        return made
    return None


# --- out of the server


class Exporter:
    """Sends images, and holds back the thirteenth disk export at a time until one of twelve has ended."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._slots = asyncio.Semaphore(DISK_EXPORTS)

    async def disk(
        self, request: web.Request, vdi: Object, image_format: str, *, name: str | None
    ) -> web.StreamResponse:
        """Send the content of a VDI or VDI-snapshot as "raw" or "vhd"; a `name` of None names no file."""
        async with self._slots:
            await self._state.hypervisor.faults.pass_through("VDI.export")
            with self._state.hypervisor.disk(vdi).copy() as disk:
                pieces = vhd.encode(disk, identifier=vdi["uuid"]) if image_format == "vhd" else read(disk)
                return await self.send(request, cut(pieces), name)

    async def vm(
        self, request: web.Request, vm: Object, *, compress: str | None, name: str | None
    ) -> web.StreamResponse:
        """Send a VM as an XVA, gzipped or zstd-compressed inside when asked; a running VM by way of a snapshot."""
        hypervisor = self._state.hypervisor
        packer: Compressor | None = None
        if compress == "zstd":
            packer = zstd_compressor()
            if packer is None:
                raise NotImplementedHere
        elif compress == "gzip":
            packer = compressor("gzip")
        await hypervisor.faults.pass_through("VM.export")
        hypervisor.check_exists(vm)
        source = vm = hypervisor.store.current(vm["id"])
        if vm["type"] == "VM" and vm["power_state"] != "Halted":
            source = lifecycle.snapshot(hypervisor, vm, f"[XO Export] {vm['name_label']}")
        try:
            with ExitStack() as stack:
                disks = [
                    (vdi["id"], stack.enter_context(hypervisor.disk(vdi).copy()))
                    for _, vdi in lifecycle.disks_of(hypervisor, source)
                ]
                shown = {key: hypervisor.store.current(key) for key in self._parts(source)}
                pieces = xva.encode(source | {"name_label": vm["name_label"]}, disks, objects=shown)
                return await self.send(request, packed(pieces, packer), name)
        finally:
            if source is not vm and hypervisor.store.exists(source["id"]):
                lifecycle.destroy(hypervisor, hypervisor.store.current(source["id"]), force=True)

    def _parts(self, vm: Object) -> Iterator[str]:
        store = self._state.hypervisor.store
        for vbd in vm["$VBDs"]:
            yield vbd
            if store.current(vbd).get("VDI") is not None:
                yield store.current(vbd)["VDI"]
        for vif in vm["VIFs"]:
            yield vif
            yield store.current(vif)["$network"]

    async def send(self, request: web.Request, pieces: Iterator[bytes], name: str | None) -> web.StreamResponse:
        """Send an image piece by piece, with the fault that is switched on; `name` None leaves the file name out."""
        disposition = "attachment" if name is None else f"attachment; filename={name}"
        headers = {
            "content-disposition": disposition,
            "content-type": "application/octet-stream",
            "Vary": "Accept-Encoding",
        }
        encoding = accepted_encoding(request)
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        if request.method != "HEAD":
            await self._send(request, answer, pieces, None if encoding is None else compressor(encoding))
        return answer

    async def _send(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        pieces: Iterator[bytes],
        encoder: Compressor | None,
    ) -> None:
        faults = self._state.faults
        sent = 0
        for piece in pieces:
            if faults.export_fault is not None and sent + len(piece) >= faults.export_fault_at:
                await self._write(answer, piece[: max(0, faults.export_fault_at - sent)], encoder)
                if await self._spoil(request):
                    break
            else:
                await self._write(answer, piece, encoder)
                sent += len(piece)
            await asyncio.sleep(0)
        if encoder is not None:
            await answer.write(encoder.flush())

    async def _write(self, answer: web.StreamResponse, piece: bytes, encoder: Compressor | None) -> None:
        data = piece if encoder is None else encoder.compress(piece)
        if data:
            await answer.write(data)

    async def _spoil(self, request: web.Request) -> bool:
        """Do what the fault says; True ends the export as if it were whole."""
        match self._state.faults.export_fault:
            case "stall":
                await asyncio.Event().wait()
            case "reset" if request.transport is not None:
                request.transport.abort()
                # The handler is cancelled as soon as the loop has seen the connection go.
                await asyncio.Event().wait()
        return True


def read(disk: Disk) -> Iterator[bytes]:
    """Yield a disk from end to end."""
    for offset in range(0, disk.size, PIECE):
        yield disk.read(offset, min(PIECE, disk.size - offset))


def cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes with the first five apart, as a pool's disk exports come."""
    first = next(pieces)
    yield first[:FIRST]
    yield first[FIRST:]
    yield from pieces


def packed(pieces: Iterator[bytes], packer: Compressor | None) -> Iterator[bytes]:
    """Yield the pieces compressed; None leaves them as they are."""
    for piece in pieces:
        data = piece if packer is None else packer.compress(piece)
        if data:
            yield data
    if packer is not None:
        yield packer.flush()


# --- into the server


def content_length(request: web.Request, refusal: str) -> int:
    """Return the announced length of the body; `Failure` with the text `refusal` when there is none."""
    length = request.content_length
    if length is None:
        raise Failure(refusal)
    return length


async def refuse_form(request: web.Request) -> None:
    """What a form's content type does to an upload: a parser eats it, and the answer never comes."""
    if request.content_type == _FORM and "Content-Type" in request.headers:
        await read_at_most(request, MAXIMUM_JSON)
        await asyncio.Event().wait()


async def import_vdi(call: Call) -> web.StreamResponse:
    """Make a disk on an SR from the body."""
    await refuse_form(call.request)
    raw = call.query.get("raw", False)
    length = content_length(call.request, _NO_RAW_LENGTH if raw else _NO_LENGTH)
    hypervisor, target = call.state.hypervisor, call.subject
    hypervisor.faults.check("VDI.create", target["_xapiRef"])
    moment = dt.datetime.fromtimestamp(call.state.clock.time(), dt.UTC)
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    name = call.query.get("name_label", f"[XO] Imported disk - {stamp}")
    description = call.query.get("name_description", "")
    incoming = IncomingDisk(hypervisor, target, name, description, length)
    try:
        if raw:
            await receive_raw(call.request, incoming.make(length), length)
        else:
            await receive_vhd(call.request, incoming, length)
    except BaseException:
        incoming.discard()
        raise
    return await created(call, incoming.finish(), "vdis")


class IncomingDisk:
    """A VDI that is being imported: an object from the moment its size is known."""

    def __init__(self, hypervisor: Hypervisor, target: Object, name: str, description: str, length: int) -> None:
        self._hypervisor = hypervisor
        self._target = target
        self._names = (name, description)
        self._length = length
        self._id: str | None = None

    def make(self, size: int) -> Disk:
        """Add the VDI, of `size` bytes; return its content, to be written."""
        vdi = storage.create_vdi(
            self._hypervisor,
            self._target,
            name_label=self._names[0],
            name_description=self._names[1],
            size=size,
            other_config={"xo:import:length": str(self._length)},
        )
        self._id = str(vdi["id"])
        return self._hypervisor.disks[self._id]

    def finish(self) -> str:
        """Have the object say what its content takes; return its id."""
        if self._id is None:
            raise LookupError("there is no disk yet")
        store = self._hypervisor.store
        storage.resize(self._hypervisor, store.update(self._id, other_config={}))
        return self._id

    def discard(self) -> None:
        """Remove what there is of the VDI."""
        if self._id is not None and self._hypervisor.store.exists(self._id):
            edits.remove_vdi(self._hypervisor.table, self._id, self._hypervisor.disks)


async def receive_raw(request: web.Request, disk: Disk, length: int) -> None:
    """Write the body into `disk`, `length` bytes at most; what comes after is read and dropped."""
    position = 0
    async for chunk in request.content.iter_any():
        data = chunk[: length - position]
        disk.write(position, data)
        position += len(data)


async def receive_vhd(request: web.Request, incoming: IncomingDisk, length: int) -> None:
    """Decode the body, a dynamic VHD of `length` bytes, into the incoming disk; `Failure` when it is none."""
    decoder = vhd.Decoder(incoming.make, length=length)
    try:
        async for chunk in request.content.iter_any():
            decoder.feed(chunk)
        decoder.finish()
    except vhd.VHDError as error:
        raise Failure(str(error)) from None


async def overwrite_vdi(call: Call) -> web.StreamResponse:
    """Replace the content of a VDI by the body."""
    await refuse_form(call.request)
    length = content_length(call.request, _NO_LENGTH)
    hypervisor, vdi = call.state.hypervisor, call.subject
    if any(hypervisor.store.current(vbd)["attached"] for vbd in vdi["$VBDs"]):
        raise XapiFailure("VDI_IN_USE", vdi["_xapiRef"], "import")
    disk = hypervisor.disk(vdi)
    if call.params["format"] == "raw":
        if length < disk.size:
            raise XapiFailure("VDI_IO_ERROR", "Device I/O errors")
        await receive_raw(call.request, disk, disk.size)
    else:
        await _overwrite_with_vhd(call, vdi, length)
    if hypervisor.store.exists(vdi["id"]):
        storage.resize(hypervisor, hypervisor.store.current(vdi["id"]))
    return no_content()


async def _overwrite_with_vhd(call: Call, vdi: Object, length: int) -> None:
    disks = call.state.hypervisor.disks
    decoder = vhd.Decoder(StoredDisk, length=length)
    replaced: Disk | None = None
    try:
        async for chunk in call.request.content.iter_any():
            decoder.feed(chunk)
        made = decoder.finish()
        if made.size != disks[vdi["id"]].size:
            raise XapiFailure("VDI_IO_ERROR", "Device I/O errors")
        replaced, disks[vdi["id"]] = disks[vdi["id"]], made
    except vhd.VHDError as error:
        raise Failure(str(error)) from None
    finally:
        unused = decoder.disk if replaced is None else replaced
        if unused is not None:
            unused.close()


async def import_vm(call: Call) -> web.StreamResponse:
    """Make a VM in a pool from the body, an XVA."""
    await refuse_form(call.request)
    target = _target(call)
    made = await receive_vm(call.state, call.request, target)
    return await created(call, made["id"], "vms")


def _target(call: Call) -> Object:
    pool = call.subject
    key = call.query.get("sr", pool.get("default_SR"))
    if key is None:
        raise IncorrectState(actual=None, expected=None, object_id=pool["id"], property_name="default_SR")
    return call.state.store.find(key, "SR")


async def receive_vm(state: State, request: web.Request, target: Object) -> Object:
    """Make a VM with its disks on the SR `target` from the body of `request`, an XVA; `XapiFailure` when it is none."""
    state.faults.check("VM.import", target["_xapiRef"])
    decoder = xva.Decoder()
    try:
        async for chunk in request.content.iter_any():
            decoder.feed(chunk)
        imported = decoder.finish()
    except xva.XVAError as error:
        raise XapiFailure("IMPORT_ERROR", str(error)) from None
    finally:
        decoder.close()
    return _add_vm(state.hypervisor, imported, target)


def _add_vm(hypervisor: Hypervisor, imported: xva.ImportedVM, target: Object) -> Object:
    vm = make_vm(
        hypervisor.rng,
        pool=target["$pool"],
        name_label=imported.name_label,
        name_description=imported.name_description,
        cpus=imported.cpus,
        memory=imported.memory,
    )
    hypervisor.store.put(vm)
    for each in imported.disks:
        vdi = storage.create_vdi(
            hypervisor,
            target,
            name_label=each.name_label,
            name_description=each.name_description,
            disk=each.disk,
        )
        storage.create_vbd(hypervisor, vm, vdi, position=each.position, bootable=each.bootable)
    return hypervisor.store.current(vm["id"])


# --- routes


def routes(exporter: Exporter) -> Iterable[Route]:
    """Yield the routes of exports and imports."""

    async def export_disk(call: Call) -> web.StreamResponse:
        name = f"{call.subject['id']}.{call.params['format']}"
        return await exporter.disk(call.request, call.subject, call.params["format"], name=name)

    async def export_vm(call: Call) -> web.StreamResponse:
        compress = _compression(call)
        if call.params["format"] == "ova":
            raise NotImplementedHere
        name = f"{call.subject['id']}.{call.params['format']}"
        return await exporter.vm(call.request, call.subject, compress=compress, name=name)

    for collection, kind in (("vdis", "VDI"), ("vdi-snapshots", "VDI-snapshot")):
        path, resource = f"/{collection}/{{id}}.{{format}}", collection.removesuffix("s")
        privilege = (resource, "export-content")
        yield Route("GET", path, export_disk, finder(kind), privilege, formats=("raw", "vhd"))
    for collection in ("vms", "vm-snapshots", "vm-templates"):
        kind = {"vms": "VM", "vm-snapshots": "VM-snapshot", "vm-templates": "VM-template"}[collection]
        path, query = f"/{collection}/{{id}}.{{format}}", {"compress": "string"}
        privilege = (collection.removesuffix("s"), "export")
        yield Route("GET", path, export_vm, finder(kind), privilege, query=query, formats=("xva", "ova"))
    content = ("vdi", "import-content")
    yield Route("PUT", "/vdis/{id}.{format}", overwrite_vdi, finder("VDI"), content, formats=("raw", "vhd"))
    query = {"name_label": "string", "name_description": "string", "raw": "boolean"}
    yield Route("POST", "/srs/{id}/vdis", import_vdi, finder("SR"), ("sr", "import:vdi"), query=query)
    query = {"sr": "string"}
    yield Route("POST", "/pools/{id}/vms", import_vm, finder("pool"), ("sr", "import:vm"), query=query)


def _compression(call: Call) -> str | None:
    asked: Any = call.query.get("compress")
    match asked:
        case None | "false":
            return None
        case "true" | "gzip":
            return "gzip"
        case "zstd":
            return "zstd"
    raise FieldsInvalid({"compress": {"message": UNION, "value": asked}})
