"""``demo``: the library's main job in one go, against a simulator of its own or against a server that is named.

Connect, list from a stream, follow live, export a disk, import it elsewhere, export the copy, compare. Each step is a
method of `_Demo` that uses the library as any program would; what differs from what it should be ends the demo with a
sentence and an exit code. On a server that was named it only reads, unless it is told to write, and a disk that it made
it deletes again, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aioxo.errors import ApiError, ChecksumMismatch, ConfigurationError, DestinationError, XOError
from aioxo.models import Gap

from .columns import columns_for, fields_of
from .connection import find
from .parse import parse_size
from .render import TableWriter, console_for
from .simulate import make_simulator
from .stage import INDENT, Stage, Tally, elapsed, named, per_second
from .text import count, duration, safe, size
from .transfer import file_name
from .watching import Memory, change_line, now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from rich.console import Console

    from aioxo import Client
    from aioxo.models import Change, Record, Transfer

    from .connection import Server

__all__ = ["Script", "demo"]

#: Rows of the table, and lines of changes, that are shown.
SHOWN_MACHINES: Final = 10
SHOWN_CHANGES: Final = 12
WATCHED: Final = ("VM", "VDI", "SR", "host")
#: A server forgets nothing at once: a disk made a moment ago can be unknown for up to a second.
SETTLE_SECONDS: Final = 5.0


class DemoError(XOError):
    """Something was not as the demo has to find it."""


class Script:
    """What the demo is to do.

    Attributes:
        seconds: how long it follows changes.
        write: import a disk on a server that was named, and delete it again.
        export: export a disk there.
        keep: folder to leave the images in, or None to leave nothing.
        sr: id or name of the SR to import to, or None for one that will do.
        vms, churn, disk_size: of the simulator.
    """

    def __init__(
        self,
        *,
        seconds: float = 3.0,
        write: bool = False,
        export: bool = False,
        keep: Path | None = None,
        sr: str | None = None,
        vms: int = 200,
        churn: float = 8.0,
        disk_size: str = "128MiB",
    ) -> None:
        self.seconds = seconds
        self.write = write
        self.export = export or write or keep is not None
        self.keep = keep
        self.sr = sr
        self.vms = vms
        self.churn = churn
        self.disk_size = disk_size


async def demo(server: Server, script: Script, console: Console | None = None) -> None:
    """Show everything on `console`, or on stdout.

    Raises:
        DemoError, XOError: something is not as it should be.
    """
    stage = Stage(console or console_for())
    if server.url is not None:
        stage.title("aioxo demo", f"on {safe(server.url)}, {'reading and writing' if script.write else 'reading only'}")
        async with server.connect() as xo:
            await _Demo(stage, xo, script, simulated=False).run()
        return
    parse_size(script.disk_size)
    simulator = make_simulator(
        vms=script.vms, churn=script.churn, seed=0, host="127.0.0.1", port=0, dialect="2026", disk_size=script.disk_size
    )
    script.write = script.export = True
    from aioxo import connect  # noqa: PLC0415 - brings aiohttp

    async with simulator:
        machines = count(script.vms, "machine")
        stage.title("aioxo demo", f"a stand-in Xen Orchestra with {machines}, {script.churn:g} changes a second")
        async with connect(simulator.url, token=simulator.token) as xo:
            await _Demo(stage, xo, script, simulated=True).run()


class _Demo:
    """One run."""

    def __init__(self, stage: Stage, xo: Client, script: Script, *, simulated: bool) -> None:
        self._stage = stage
        self._xo = xo
        self._script = script
        self._simulated = simulated
        self._tally = Tally()
        self._memory = Memory()
        self._started = time.monotonic()

    async def run(self) -> None:
        await self._connect()
        await self._list()
        # Before anything else happens there: what comes while it is watched may go again.
        chosen = await self._choose_disk() if self._script.export else None
        await self._follow()
        if chosen is not None:
            with _folder(self._script.keep) as folder:
                await self._transfer(*chosen, folder)
        self._stage.heading("What went over which transport")
        connection = self._xo.connection
        self._stage.summary(
            self._tally,
            requests=self._xo.requests,
            connections=connection.connections,
            calls=connection.calls,
            notifications=connection.notifications,
            seconds=elapsed(self._started),
        )

    async def _connect(self) -> None:
        self._stage.heading("Connect: one HTTP session, one websocket")
        start = time.monotonic()
        version = await self._xo.call("system.getServerVersion")
        self._stage.facts(
            server=f"{safe(self._xo.url)}, xo-server {safe(version)}",
            REST="signed in by a token",
            websocket=f"signed in, and a call answered, in {duration(elapsed(start))}",
        )

    async def _list(self) -> None:
        """Show running machines straight out of the stream, and keep all machines in mind for the next step."""
        self._stage.heading("Running machines, record by record from an NDJSON stream")
        columns = columns_for("vms")
        writer = TableWriter(columns, self._stage.console, indent=INDENT)
        start = time.monotonic()
        first = 0.0
        number = 0
        async with self._xo.vms.stream(filter="power_state:/^Running$/", fields=fields_of(columns)) as machines:
            async for machine in machines:
                number += 1
                if number == 1:
                    first = elapsed(start)
                if number <= SHOWN_MACHINES:
                    writer.write(machine)
                if number == SHOWN_MACHINES:
                    writer.finish()
        seconds = elapsed(start)
        if number < SHOWN_MACHINES:
            writer.finish()
        self._tally.records += number
        if number > SHOWN_MACHINES:
            self._stage.say(f"and {count(number - SHOWN_MACHINES)} more", "bright_black")
        self._stage.say(
            f"{count(number, 'record')} in {duration(seconds)}, {per_second(number, seconds)}; "
            f"the first after {duration(first)}"
        )
        if self._simulated and not number:
            message = "the stand-in listed no running machine, but there are some"
            raise DemoError(message)

    async def _follow(self) -> None:
        """Show what happens for some seconds."""
        seconds = self._script.seconds
        self._stage.heading(f"Live changes over the websocket, for {seconds:g} seconds")
        kinds: Counter[str] = Counter()
        shown = 0
        async with self._xo.changes(*WATCHED) as changes:
            await self._memory.learn(self._xo, WATCHED, None)
            self._tally.records += len(self._memory)
            start = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for change in changes:
                        shown += self._show(change, kinds, room=shown < SHOWN_CHANGES)
        total = sum(kinds.values()) - kinds["gap"]
        self._tally.changes = {kind: number for kind, number in kinds.items() if kind != "gap"}
        self._stage.changes(kinds, elapsed(start), hidden=total + kinds["gap"] - shown)
        if self._simulated and self._script.churn and not total:
            message = f"no change came within {seconds:g} seconds, though the stand-in makes some"
            raise DemoError(message)

    def _show(self, change: Change | Gap, kinds: Counter[str], *, room: bool) -> bool:
        if isinstance(change, Gap):
            kinds["gap"] += 1
            self._stage.say(f"{now()}  gap: {change.reason}; changes may be missing", "bold yellow")
            return True
        kinds[change.kind] += 1
        before = self._memory.replace(change)
        if room:
            line = change_line(change, before, clock=now(), type_width=max(map(len, WATCHED)))
            if self._stage.console.is_terminal:
                line.truncate(max(40, self._stage.console.width - len(INDENT)), overflow="ellipsis")
            line.rstrip()
            self._stage.say(line)
        return room

    async def _transfer(self, disk: Record, home: Record, folder: Path) -> None:
        """Export a disk; import it elsewhere, export that, and compare."""
        first = await self._export(
            disk, folder / f"{file_name(disk)}.raw", f"Export the disk {named(disk['name_label'])}"
        )
        if not self._script.write:
            return
        target = await self._choose_sr(disk, home)
        async with self._imported(disk, target, folder / f"{file_name(disk)}.raw") as copy:
            again = await self._export(copy, folder / f"{file_name(disk)}-again.raw", "Export the new disk")
            self._compare(first, again)

    async def _choose_disk(self) -> tuple[Record, Record]:
        """Return the smallest disk and its SR."""
        disks = await self._xo.vdis.list(fields=["id", "name_label", "size", "$SR", "VDI_type", "missing", "$pool"])
        storages = {sr["id"]: sr for sr in await self._xo.srs.list()}
        self._tally.records += len(disks) + len(storages)
        usable = [
            disk
            for disk in disks
            if disk.get("VDI_type") == "user"
            and not disk.get("missing")
            and disk.get("size")
            and storages.get(disk.get("$SR", ""), {}).get("content_type") != "iso"
        ]
        if not usable:
            message = "there is no disk to export"
            raise DemoError(message)
        # The stand-in's churn deletes again what it has made, and it names that so.
        smallest = min(
            usable, key=lambda disk: (disk["size"], str(disk["name_label"]).startswith("churn-"), disk["id"])
        )
        return smallest, storages.get(smallest.get("$SR", ""), {})

    async def _choose_sr(self, disk: Record, home: Record) -> Record:
        """Return the SR that was asked for, or another one with room for the disk."""
        if self._script.sr is not None:
            return await find(self._xo.srs, self._script.sr)
        storages = await self._xo.srs.list()
        self._tally.records += len(storages)

        def has_room(sr: Record) -> bool:
            free = (sr.get("size") or 0) - (sr.get("physical_usage") or 0)
            return sr.get("content_type") != "iso" and sr.get("SR_type") not in {"iso", "udev"} and free > disk["size"]

        others = [
            sr for sr in storages if sr["id"] != home.get("id") and has_room(sr) and not sr.get("inMaintenanceMode")
        ]
        if not others:
            message = "there is no other SR with room for the disk; name one with --sr"
            raise DemoError(message)
        # In the disk's own pool if there is one; the fullest names come in a fixed order.
        return min(others, key=lambda sr: (sr.get("$pool") != disk.get("$pool"), str(sr.get("name_label")), sr["id"]))

    async def _export(self, disk: Record, path: Path, heading: str) -> Transfer:
        self._stage.heading(f"{heading}, raw, {size(disk['size'])}")
        if await asyncio.to_thread(path.exists):
            message = f"{path} is there already; --keep wants a folder without the images of an earlier run"
            raise DestinationError(message, path=str(path))
        with self._stage.bar("receiving") as bar:
            done = await self._xo.vdis.export(disk["id"], path, format="raw", progress=bar.update)
        self._tally.down += done.bytes
        self._stage.transferred(done)
        return done

    @contextlib.asynccontextmanager
    async def _imported(self, disk: Record, target: Record, path: Path) -> AsyncIterator[Record]:
        """Import a disk, give its record, and delete it again."""
        self._stage.heading(f"Import it on the SR {named(target['name_label'])}")
        label = f"{disk['name_label']} (aioxo demo)"
        with self._stage.bar("sending") as bar:
            made = await self._xo.srs.import_vdi(
                target["id"], path, format="raw", name_label=label, progress=bar.update
            )
            self._tally.up += bar.last.bytes if bar.last is not None else 0
        try:
            self._stage.facts(new_disk=f"{safe(made)}")
            yield await self._appeared(made)
        finally:
            await self._xo.vdis.delete(made)
            self._stage.say("the new disk is deleted again", "bright_black")

    async def _appeared(self, disk_id: str) -> Record:
        """Return the record of a disk made a moment ago."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return await self._xo.vdis.get(disk_id)
            except ApiError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    def _compare(self, first: Transfer, again: Transfer) -> None:
        self._stage.heading("Compare")
        self._stage.facts(exported=first.sha256, the_copy=again.sha256)
        if first.sha256 != again.sha256:
            message = (
                f"the disk came back different: {first.sha256} went in, {again.sha256} came out; "
                "if it was in use, it may have changed meanwhile"
            )
            raise ChecksumMismatch(message, expected=first.sha256, actual=again.sha256)
        self._stage.success("equal: out, in and out again, byte for byte")


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder for the images: one that stays, or one that is removed at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="aioxo-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{keep}: {error.strerror or error}"
        raise ConfigurationError(message) from error
    yield keep
