"""Collections of the REST interface.

They are alike, so there is one deep `Collection`, and below it a small class for each that has something of its own:
the actions of a VM, the images of a disk, the imports of an SR and a pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, overload

from .downloads import download, open_export
from .errors import ConfigurationError, ProtocolError
from .filters import Filter
from .images import check_for
from .rest import segment
from .tasks import Task, task_from
from .uploads import open_source, upload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from .downloads import Destination, ExportStream
    from .models import Record, Transfer
    from .progress import ProgressCallback
    from .rest import Answer, RecordStream, Rest
    from .uploads import OpenSource, Source

__all__ = ["COLLECTIONS", "Collection", "Disks", "Machines", "Pools", "StorageRepositories", "VirtualMachines"]

#: The collections of the server by the names they have in a path; the client's attributes have underscores for dashes.
COLLECTIONS: Final = (
    "acl-privileges",
    "acl-roles",
    "alarms",
    "backup-archives",
    "backup-jobs",
    "backup-logs",
    "backup-repositories",
    "groups",
    "hosts",
    "messages",
    "networks",
    "pbds",
    "pcis",
    "pgpus",
    "pifs",
    "pools",
    "proxies",
    "restore-logs",
    "schedules",
    "servers",
    "sms",
    "srs",
    "tasks",
    "users",
    "vbds",
    "vdi-snapshots",
    "vdis",
    "vifs",
    "vm-controllers",
    "vm-snapshots",
    "vm-templates",
    "vms",
)


class Collection:
    """One collection of the server, such as ``xo.vms``; a view that holds nothing.

    Records are plain dicts as decoded: a field the server leaves out is absent. The server's order is not stable (an
    object that changes moves to the end) and it knows no pages, so there is no way to go through a collection in
    parts: stream it.

    Attributes:
        name: its name in a path, such as "vm-snapshots".
    """

    def __init__(self, rest: Rest, name: str, read_timeout: float | None) -> None:
        self.name = name
        self._rest = rest
        self._read_timeout = read_timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    async def hrefs(self, *, filter: Filter | str | None = None, limit: int | None = None) -> list[str]:
        """Return the paths of the records, such as "/rest/v0/vms/<id>", ids not percent-encoded: the cheapest list.

        Args:
            filter: only records that match, see `aioxo.Filter`; the server evaluates it.
            limit: at most this many; None for all.

        Raises:
            InvalidParameters: the server refuses the filter.
            ApiError, ConnectionLost, Timeout: see `list`.
        """
        async with self._rest.stream(f"/{self.name}", params=_query(filter, None, limit)) as hrefs:
            return [str(href) async for href in hrefs]

    async def list(
        self,
        *,
        filter: Filter | str | None = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """Return the records, all in memory; `stream` gives them one by one.

        Args:
            filter: only records that match, see `aioxo.Filter`; the server evaluates it.
            fields: names of the fields wanted, deep ones with dots as in "CPUs.number"; None for all. ``href`` always
                comes with them, ``id`` does not unless it is named.
            limit: at most this many; None for all.

        Raises:
            InvalidParameters: the server refuses the filter.
            AuthenticationError, Unauthorized: the token is refused, or may not see the collection.
            ConnectionLost, Timeout: the list was cut; nothing short is ever returned.
        """
        async with self.stream(filter=filter, fields=fields, limit=limit) as records:
            return [record async for record in records]

    def stream(
        self,
        *,
        filter: Filter | str | None = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> RecordStream:
        """Return a stream of the records, to be entered with ``async with``; constant memory at any size.

        Args:
            filter: see `list`.
            fields: see `list`.
            limit: see `list`.
        """
        wanted = ["*"] if fields is None else fields
        return self._rest.stream(f"/{self.name}", params=_query(filter, wanted, limit))

    async def get(self, id: str) -> Record:
        """Return one record, always with all its fields, by its id or its XAPI reference.

        Raises:
            NotFound: there is none in this collection; a template, say, is not among the VMs. An object made a moment
                ago can be missing for up to a second.
        """
        answer = await self._rest.request("GET", self._path(id))
        if not isinstance(answer.value, dict):
            message = f"GET /{self.name}/{id}: the answer is not an object"
            raise ProtocolError(message)
        return answer.value

    async def delete(self, id: str) -> None:
        """Delete one object; of a VM its disks go with it.

        Raises:
            NotFound: there is none.
            ForbiddenOperation, IncorrectState: the object may not be deleted now.
            MethodNotFound: the server cannot delete in this collection.
        """
        await self._rest.request("DELETE", self._path(id))

    @overload
    async def action(self, id: str, action: str, /, *, sync: Literal[False] = False, **params: Any) -> Task: ...
    @overload
    async def action(self, id: str, action: str, /, *, sync: Literal[True], **params: Any) -> Any: ...
    async def action(self, id: str, action: str, /, *, sync: bool = False, **params: Any) -> Any:
        """Start an action by its name on the wire and return its `Task`, or with ``sync=True`` wait for its result.

        Args:
            id: the object's id.
            action: such as "start" or "clean_shutdown".
            sync: let the server answer only when it has ended; a failure is then an `ApiError` without the task.
            params: the action's own parameters, as the server names them.

        Raises:
            NotFound: there is no such object.
            MethodNotFound: there is no such action.
            InvalidParameters: a parameter is missing, unknown or of the wrong type.
        """
        answer = await self._rest.request(
            "POST",
            f"{self._path(id)}/actions/{segment(action)}",
            params={"sync": sync},
            json=params or None,
            patient=sync,
        )
        return answer.value if sync else task_from(self._rest, answer)

    def _path(self, id: str) -> str:
        return f"/{self.name}/{segment(id)}"

    def _open_export(
        self,
        id: str,
        format: str,
        formats: tuple[str, ...],
        params: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[ExportStream]:
        if format not in formats:
            message = f"{self.name} are exported as {' or '.join(formats)}, not as {format!r}"
            raise ConfigurationError(message)
        return open_export(self._rest, f"{self._path(id)}.{format}", params=params, read_timeout=self._read_timeout)


class Machines(Collection):
    """VMs, their snapshots or templates: what can be exported as an XVA."""

    def open_export(
        self,
        id: str,
        *,
        format: Literal["xva", "ova"] = "xva",
        compress: Literal["zstd", "gzip"] | None = None,
    ) -> AbstractAsyncContextManager[ExportStream]:
        """Ask for the export of a machine; give its bytes inside an ``async with``, to be piped elsewhere.

        A running machine is exported through a snapshot that the server makes and removes. The first byte can take
        minutes, so the wait for it has no limit: put one around it if you want one.

        Args:
            id: the machine.
            format: "xva" or "ova".
            compress: let the pool compress an XVA, or None.

        Raises:
            NotFound: there is no such machine.
            ConfigurationError: no such format.
        """
        if compress is not None and format != "xva":
            message = f"compress is for an XVA; the server does not compress {format!r}"
            raise ConfigurationError(message)
        return self._open_export(id, format, ("xva", "ova"), {"compress": compress})

    async def export(
        self,
        id: str,
        destination: Destination,
        *,
        format: Literal["xva", "ova"] = "xva",
        compress: Literal["zstd", "gzip"] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Transfer:
        """Export a machine to a file, which stands under its name only once it is whole, or to a stream.

        Cancelling removes what there is of the file. What was there before is replaced at the very end.

        Args:
            id: the machine.
            destination: a path, or a stream with an async ``send(bytes)``.
            format: "xva" or "ova".
            compress: let the pool compress an XVA, or None. What is inside can then not be verified: see
                `Transfer.unchecked`.
            progress: called with a `Progress` at most ten times a second, and once at the end.

        Raises:
            NotFound: there is no such machine.
            Truncated, CorruptImage: the image is not whole; nothing was kept.
            Timeout: the server went silent in the middle; nothing was kept.
            DestinationError: the file cannot be written.
        """
        return await download(
            self.open_export(id, format=format, compress=compress),
            destination,
            check_for(format, compress=compress),
            progress=progress,
        )


class VirtualMachines(Machines):
    """The VMs proper; templates, snapshots and control domains are collections of their own."""

    async def start(self, id: str, *, host_id: str | None = None) -> Task:
        """Start a halted VM, on `host_id` if given."""
        params = {} if host_id is None else {"hostId": host_id}
        return await self.action(id, "start", sync=False, **params)

    async def clean_shutdown(self, id: str) -> Task:
        """Ask the guest to shut down; needs its tools."""
        return await self.action(id, "clean_shutdown")

    async def clean_reboot(self, id: str) -> Task:
        """Ask the guest to restart; needs its tools."""
        return await self.action(id, "clean_reboot")

    async def hard_shutdown(self, id: str) -> Task:
        """Cut the power."""
        return await self.action(id, "hard_shutdown")

    async def hard_reboot(self, id: str) -> Task:
        """Cut the power and start again."""
        return await self.action(id, "hard_reboot")

    async def pause(self, id: str) -> Task:
        """Stop the processors; memory stays where it is."""
        return await self.action(id, "pause")

    async def unpause(self, id: str) -> Task:
        """Let a paused VM go on."""
        return await self.action(id, "unpause")

    async def suspend(self, id: str) -> Task:
        """Write the memory to disk and halt."""
        return await self.action(id, "suspend")

    async def resume(self, id: str) -> Task:
        """Let a suspended VM go on."""
        return await self.action(id, "resume")

    async def snapshot(self, id: str, *, name_label: str | None = None) -> Task:
        """Take a snapshot; the task's result is ``{"id": ...}`` of the snapshot."""
        params = {} if name_label is None else {"name_label": name_label}
        return await self.action(id, "snapshot", sync=False, **params)


class Disks(Collection):
    """Virtual disks or their snapshots."""

    def open_export(
        self, id: str, *, format: Literal["raw", "vhd"] = "vhd"
    ) -> AbstractAsyncContextManager[ExportStream]:
        """Ask for a disk's contents; give the bytes inside an ``async with``, to be piped elsewhere.

        Raises:
            NotFound: there is no such disk.
            ConfigurationError: no such format; qcow2 and vmdk are exported over JSON-RPC only.
        """
        return self._open_export(id, format, ("raw", "vhd"))

    async def export(
        self,
        id: str,
        destination: Destination,
        *,
        format: Literal["raw", "vhd"] = "vhd",
        sparse: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Transfer:
        """Export a disk to a file, which stands under its name only once it is whole, or to a stream.

        Cancelling removes what there is of the file. What was there before is replaced at the very end.

        Args:
            id: the disk.
            destination: a path, or a stream with an async ``send(bytes)``.
            format: "raw", exactly the disk's bytes, or "vhd", which leaves out empty blocks.
            sparse: leave holes in the file where a raw disk is zero.
            progress: called with a `Progress` at most ten times a second, and once at the end.

        Raises:
            NotFound: there is no such disk.
            Truncated, CorruptImage: the image is not whole; nothing was kept.
            Timeout: the server went silent in the middle; nothing was kept.
            DestinationError: the file cannot be written.
        """
        stream = self.open_export(id, format=format)
        size = (await self.get(id)).get("size") if format == "raw" else None
        if type(size) is not int:
            size = None  # null when the pool's number could not be read
        return await download(
            stream, destination, check_for(format, size=size), total=size, sparse=sparse, progress=progress
        )


class WritableDisks(Disks):
    """Virtual disks; their contents can be replaced."""

    async def import_content(
        self,
        id: str,
        source: Source,
        *,
        size: int | None = None,
        format: Literal["raw", "vhd"] | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Replace the contents of a disk, which must not be in use, with an image of the same virtual size.

        Args:
            id: the disk.
            source: a path, bytes, or an async iterable of bytes with `size`.
            size: bytes the source will give; needed for an iterable.
            format: "raw" or "vhd"; None to tell it from the first bytes.
            progress: see `export`.

        Raises:
            NotFound: there is no such disk.
            SourceMismatch: the source gave fewer or more bytes than it said; the disk may be half written.
            ConfigurationError: the source cannot be read, or is of a format that the server does not take.
            ConnectionLost: the connection ended; the disk may be half written.
        """
        path = self._path(id)
        opened = await open_source(source, size)
        suffix = await _import_format(opened, format)
        await upload(self._rest, "PUT", f"{path}.{suffix}", opened, progress=progress)


class StorageRepositories(Collection):
    """Storage repositories, which disks are imported to."""

    async def import_vdi(
        self,
        id: str,
        source: Source,
        *,
        size: int | None = None,
        format: Literal["raw", "vhd"] | None = None,
        name_label: str | None = None,
        name_description: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> str:
        """Make a disk on this SR from an image and return its id.

        Args:
            id: the SR.
            source: a path, bytes, or an async iterable of bytes with `size`. It is streamed, never held in memory.
            size: bytes the source will give; needed for an iterable.
            format: "raw" or "vhd"; None to tell it from the first bytes.
            name_label: the disk's name; None for one the server makes up.
            name_description: the disk's description.
            progress: called with a `Progress` at most ten times a second, and once at the end.

        Raises:
            NotFound: there is no such SR.
            SourceMismatch: the source gave fewer or more bytes than it said; no disk was made.
            ConfigurationError: the source cannot be read, or is of a format that the server does not take.
            ConnectionLost: the connection ended; with `.sent` True a disk may have been made all the same.
        """
        path = f"{self._path(id)}/vdis"
        opened = await open_source(source, size)
        params = {
            "raw": await _import_format(opened, format) == "raw",
            "name_label": name_label,
            "name_description": name_description,
        }
        return _id_of(await upload(self._rest, "POST", path, opened, params=params, progress=progress))


class Pools(Collection):
    """Pools, which VMs are imported to."""

    async def import_vm(
        self,
        id: str,
        source: Source,
        *,
        sr: str | None = None,
        size: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> str:
        """Make a VM in this pool from an XVA and return its id.

        Args:
            id: the pool.
            source: a path, bytes, or an async iterable of bytes with `size`.
            sr: id of the SR for its disks; None for the pool's default.
            size: bytes the source will give; needed for an iterable.
            progress: called with a `Progress` at most ten times a second, and once at the end.

        Raises:
            NotFound: there is no such pool or SR.
            IncorrectState: no SR was named and the pool has no default one.
            SourceMismatch: the source gave fewer or more bytes than it said.
            ConnectionLost: the connection ended; with `.sent` True a VM may have been made all the same.
        """
        path = f"{self._path(id)}/vms"
        opened = await open_source(source, size)
        return _id_of(await upload(self._rest, "POST", path, opened, params={"sr": sr}, progress=progress))


def _query(
    filter: Filter | str | None,
    fields: Sequence[str] | None,
    limit: int | None,
) -> dict[str, Any]:
    if isinstance(fields, str):
        message = "fields is a list of names, as in fields=['id', 'name_label']"
        raise ConfigurationError(message)
    if limit is not None and limit < 0:
        message = f"limit must not be negative, but is {limit}; the server would take it for no limit"
        raise ConfigurationError(message)
    parsed = Filter.of(filter)
    return {
        "fields": None if fields is None else ",".join(fields),
        "filter": None if parsed is None else str(parsed),
        "limit": limit,
    }


async def _import_format(source: OpenSource, wanted: str | None) -> str:
    if wanted in {"raw", "vhd"}:
        return wanted
    if wanted is None and source.format in {"raw", "vhd"}:
        return source.format
    await source.aclose()
    message = (
        f"format must be 'raw' or 'vhd', not {wanted!r}"
        if wanted is not None
        else f"the source is a {source.format} image, which the server does not take here: convert it with "
        "`qemu-img convert -O raw` first, or pass format='raw' to store these very bytes"
    )
    raise ConfigurationError(message)


def _id_of(answer: Answer) -> str:
    """Return the id of what was made: today ``{"id"}``, earlier the bare id as text."""
    value = answer.value.get("id") if isinstance(answer.value, dict) else answer.value
    if not isinstance(value, str) or not value.strip():
        message = "the import succeeded, but the answer names no id"
        raise ProtocolError(message)
    return value.strip()
