"""``export`` and ``import``: disks and machines to files and back.

What kind of image it is, the file's name or its first bytes say, or an option does. A file whose name promises what it
would not hold is refused, and so is the import of what is no disk. The summary of an export goes to stdout (a few lines
for a person, one JSON object for a program) with the SHA-256 of the bytes in the file.
"""

from __future__ import annotations

import asyncio
import enum
import os
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from aioxo.errors import ConfigurationError, DestinationError

from .connection import collection_name, find
from .progress import Bar
from .render import Format, encode, line
from .stdout import Stdout
from .text import duration, folded, rate, safe, size

if TYPE_CHECKING:
    from aioxo import Client
    from aioxo.models import Record, Transfer
    from aioxo.resources import Disks, Machines

    from .connection import Server

__all__ = ["Compression", "Image", "export", "import_file", "summary"]

MACHINES: Final = ("vms", "vm-snapshots", "vm-templates")
DISKS: Final = ("vdis", "vdi-snapshots")
_SUFFIXES: Final = {".img": "raw", ".ova": "ova", ".raw": "raw", ".vhd": "vhd", ".xva": "xva"}
#: What images and archives of other kinds are called, so that none of ours is named so.
_FOREIGN: Final = frozenset(
    {".7z", ".bz2", ".iso", ".lz4", ".ovf", ".qcow", ".qcow2", ".qed", ".rar", ".vdi", ".vhdx", ".vmdk", ".xz", ".zip"}
)
_SECTOR: Final = 512
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


class Image(enum.StrEnum):
    """Formats of images."""

    RAW = "raw"
    VHD = "vhd"
    XVA = "xva"
    OVA = "ova"


class Compression(enum.StrEnum):
    """What a pool can compress an XVA with."""

    ZSTD = "zstd"
    GZIP = "gzip"


async def export(
    server: Server,
    word: str,
    wanted: str,
    file: Path | None,
    *,
    image: Image | None,
    compress: Compression | None,
    sparse: bool,
    force: bool,
    format: str | None,
) -> None:
    """Export a disk or a machine to a file, to one named after it, or for "-" to stdout."""
    name = collection_name(word, (*MACHINES, *DISKS))
    chosen = Format.pick(format)
    to_stdout = file is not None and str(file) == "-"
    if to_stdout and sys.stdout.isatty():
        message = "an image is nothing to look at: send stdout to a file or a pipe"
        raise ConfigurationError(message)
    kind = _export_format(name, file, image)
    compression = compress or _compression_of(file)
    _check_options(kind, compress=compression, sparse=sparse, to_stdout=to_stdout)
    if file is not None and not to_stdout:
        # Before anything is sent, if the name is known already.
        await asyncio.to_thread(_refuse_to_overwrite, file, force=force)
    async with server.connect() as xo:
        record = await find(xo.collection(name), wanted)
        path = None
        if not to_stdout:
            path = await asyncio.to_thread(_destination, file, record, kind, compression)
            await asyncio.to_thread(_refuse_to_overwrite, path, force=force)
        destination: Any = Stdout() if path is None else path
        with Bar(str(record.get("name_label") or record["id"])) as bar:
            done = await _export(xo, name, record["id"], destination, kind, compression, sparse=sparse, bar=bar)
    write_summary(done, None if to_stdout else chosen)


async def _export(
    xo: Client,
    name: str,
    object_id: str,
    destination: Any,
    kind: str,
    compression: Compression | None,
    *,
    sparse: bool,
    bar: Bar,
) -> Transfer:
    collection = xo.collection(name)
    if name in DISKS:
        return await cast("Disks", collection).export(
            object_id, destination, format=cast('Literal["raw", "vhd"]', kind), sparse=sparse, progress=bar.update
        )
    return await cast("Machines", collection).export(
        object_id,
        destination,
        format=cast('Literal["xva", "ova"]', kind),
        compress=cast('Literal["zstd", "gzip"] | None', None if compression is None else str(compression)),
        progress=bar.update,
    )


def _stem_and_suffix(file: Path) -> tuple[str, str]:
    """Return a name's last two suffixes apart, ("xva", "zst") of "vm.xva.zst", in lower case."""
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        return (suffixes[-2] if len(suffixes) > 1 else ""), suffixes[-1]
    return (suffixes[-1] if suffixes else ""), ""


def _export_format(name: str, file: Path | None, image: Image | None) -> str:
    """Decide on a format: the one asked for, the one the file's name says, or the usual one.

    Raises:
        ConfigurationError: there is no such image of such an object, or the file's name promises something else.
    """
    allowed = ("raw", "vhd") if name in DISKS else ("xva", "ova")
    can_be_had = f"{name} are exported as {' or '.join(allowed)}"
    if image is not None and image not in allowed:
        message = f"{can_be_had}, not as {image}"
        raise ConfigurationError(message)
    suffix = "" if file is None or file.is_dir() else _stem_and_suffix(file)[0]
    named = _SUFFIXES.get(suffix, "")
    if image is None:
        if suffix and named not in allowed:
            message = f"{file}: {can_be_had}, not as {suffix}; give it such a suffix, or pass --format"
            raise ConfigurationError(message)
        return named or ("vhd" if name in DISKS else "xva")
    if suffix in _FOREIGN or named not in {"", image}:
        message = f"{file}: a file of --format {image} is not to be called {suffix}; {can_be_had}"
        raise ConfigurationError(message)
    return str(image)


def _compression_of(file: Path | None) -> Compression | None:
    suffix = "" if file is None else _stem_and_suffix(file)[1]
    return Compression(_COMPRESSIONS[suffix]) if suffix else None


def _check_options(kind: str, *, compress: Compression | None, sparse: bool, to_stdout: bool) -> None:
    if compress is not None and kind != "xva":
        message = f"the server compresses XVA alone, not {kind}; pipe it through zstd yourself: export … - | zstd"
        raise ConfigurationError(message)
    if sparse and (kind != "raw" or to_stdout):
        message = "--sparse leaves holes in a raw file; other formats leave empty blocks out by themselves"
        raise ConfigurationError(message)


def _destination(file: Path | None, record: Record, kind: str, compression: Compression | None) -> Path:
    """Return the path to write to: in a folder, or with none given, it is named after the object."""
    if file is not None and not file.is_dir():
        return file
    extension = {"zstd": ".zst", "gzip": ".gz"}.get(compression or "", "")
    return (file or Path()) / f"{file_name(record)}.{kind}{extension}"


def file_name(record: Record) -> str:
    """Return a name for a file from an object's name, of harmless characters alone; its id when none are left."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(record.get("name_label") or "")).strip("-.")[:100]
    return name or re.sub(r"[^A-Za-z0-9._-]+", "-", str(record["id"])).strip("-.") or "image"


def _refuse_to_overwrite(path: Path, *, force: bool) -> None:
    """Refuse what is there: a file unless forced, and in any case a device or a pipe, which a file would replace.

    Raises:
        DestinationError: it is there.
    """
    if path.is_dir() or not os.path.lexists(path):
        return
    if path.exists() and not path.is_file():
        message = f"{path} is a device, a pipe or a socket, which an image cannot replace; - writes to stdout"
        raise DestinationError(message, path=str(path))
    if not force:
        message = f"{path} is there already; --force replaces it, once the new image is whole"
        raise DestinationError(message, path=str(path))


def write_summary(done: Transfer, format: Format | None) -> None:
    """Write what came of an export; None when stdout had the image itself, so that only stderr is left."""
    if format is None:
        for text in summary(done):
            sys.stderr.write(text + "\n")
    elif format is Format.TABLE:
        for text in summary(done):
            line(folded(text, _width()))
    elif format is Format.NAME:
        line(safe(done.path))
    else:
        line(encode(as_record(done), indent=format is Format.JSON))


def _width() -> int:
    # Anywhere but at a terminal nothing is folded.
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def as_record(done: Transfer) -> Record:
    """Return a transfer as what JSON can hold."""
    return {
        "path": None if done.path is None else str(done.path),
        "bytes": done.bytes,
        "seconds": round(done.seconds, 3),
        "sha256": done.sha256,
        "checks": list(done.checks),
        "unchecked": list(done.unchecked),
    }


def summary(done: Transfer) -> list[str]:
    """Return lines for a person about a finished transfer."""
    speed = done.bytes / done.seconds if done.seconds else 0.0
    lines = [f"wrote    {safe(done.path)}"] if done.path is not None else []
    lines += [
        f"size     {size(done.bytes)} ({done.bytes} bytes) in {duration(done.seconds)}, {rate(speed)}",
        f"sha256   {done.sha256}",
        f"checked  {', '.join(done.checks) or 'nothing'}",
    ]
    return lines + [f"note     {reason}" for reason in done.unchecked]


async def import_file(
    server: Server,
    file: Path,
    *,
    sr: str | None,
    pool: str | None,
    name: str | None,
    description: str | None,
    image: Image | None,
    format: str | None,
) -> None:
    """Import a file as a disk on an SR or as a VM in a pool, and write the id of what was made."""
    chosen = Format.pick(format)
    kind = await asyncio.to_thread(_import_format, file, image)
    machine = kind == "xva"
    if machine and (name is not None or description is not None):
        message = "a machine keeps the name in its image; --name-label and --description are for disks"
        raise ConfigurationError(message)
    if not machine and pool is not None:
        message = f"{file} is a disk ({kind}), which goes on an SR: pass --sr; a --pool takes machines as .xva"
        raise ConfigurationError(message)
    if sr is None and (pool is None or not machine):
        message = "say where to: --sr for a disk, --pool or --sr for a machine; `aioxo ls srs` lists SRs"
        raise ConfigurationError(message)
    async with server.connect() as xo:
        storage = None if sr is None else await find(xo.srs, sr, ["$pool"])
        with Bar(file.name) as bar:
            if machine:
                pool_id = (await find(xo.pools, pool))["id"] if pool is not None else cast("Record", storage)["$pool"]
                made = await xo.pools.import_vm(
                    pool_id, file, sr=None if storage is None else storage["id"], progress=bar.update
                )
            else:
                made = await xo.srs.import_vdi(
                    cast("Record", storage)["id"],
                    file,
                    format=cast('Literal["raw", "vhd"]', kind),
                    name_label=_label_of(file) if name is None else name,
                    name_description=description,
                    progress=bar.update,
                )
    _write_made("vms" if machine else "vdis", made, bar, chosen)


def _label_of(file: Path) -> str:
    """Return a name for a disk from its file's, which may have bytes that are no text."""
    return file.stem.encode(errors="replace").decode()


def _write_made(collection: str, made: str, bar: Bar, format: Format) -> None:
    sent, seconds = (bar.last.bytes, bar.last.seconds) if bar.last is not None else (0, 0.0)
    if format is Format.TABLE:
        noun = {"vms": "machine", "vdis": "disk"}[collection]
        line(f"made     {noun} {safe(made)}")
        speed = rate(sent / seconds if seconds else 0.0)
        line(folded(f"sent     {size(sent)} ({sent} bytes) in {duration(seconds)}, {speed}", _width()))
    elif format is Format.NAME:
        line(safe(made))
    else:
        record = {"collection": collection, "id": made, "bytes": sent, "seconds": round(seconds, 3)}
        line(encode(record, indent=format is Format.JSON))


def _import_format(file: Path, image: Image | None) -> str:
    """Decide what a file is: what was said, what its name says, or what it starts with.

    Raises:
        ConfigurationError: it cannot be read, or the server does not take such an image.
    """
    from aioxo.images import sniff  # noqa: PLC0415 - brings aiohttp

    try:
        # A pipe would make its opener wait.
        if not (stat.S_ISREG(mode := file.stat().st_mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
            message = f"{file} is no file or disk, so it cannot be measured; nothing was sent"
            raise ConfigurationError(message)
        with file.open("rb") as opened:
            found = sniff(opened.read(_SECTOR))
            length = opened.seek(0, os.SEEK_END)  # not stat(): a block device has its size here alone
    except OSError as error:
        message = f"{file}: {error.strerror or error}; nothing was sent"
        raise ConfigurationError(message) from error
    named = _SUFFIXES.get(_stem_and_suffix(file)[0], "")
    if image is Image.OVA or (image is None and named == "ova"):
        message = f"{file}: the server imports machines as XVA alone, not as OVA"
        raise ConfigurationError(message)
    if not length:
        message = f"{file} is empty; nothing was sent"
        raise ConfigurationError(message)
    if image is not None:
        return str(image)
    if found in {"tar", "zstd", "gzip"}:
        # An XVA is a tar, compressed or not; the server tells which.
        if found != "tar" and named != "xva":
            message = f"{file} is {found}-compressed: uncompress it first, or pass --format xva if it is a machine"
            raise ConfigurationError(message)
        return "xva"
    if found in {"qcow2", "vmdk"}:
        message = f"{file} is a {found} image, which the server does not take here; `qemu-img convert -O raw` it first"
        raise ConfigurationError(message)
    if found == "raw" and named in {"vhd", "xva"}:
        message = (
            f"{file} is named like a {named}, but does not start like one; pass --format raw to import it as it is"
        )
        raise ConfigurationError(message)
    if found == "raw" and length % _SECTOR:
        message = (
            f"{file} has {length} bytes, which is no multiple of {_SECTOR}, so it is hardly a disk; "
            "pass --format raw to import it all the same"
        )
        raise ConfigurationError(message)
    return found
