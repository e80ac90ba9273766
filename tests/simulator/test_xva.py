"""XVA archives: tar reads them, checksums are checked, and the decoder takes any cutting and no truncation."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import shutil
import subprocess
import tarfile
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioxo.simulator import ovaxml, xva
from aioxo.simulator.disks import Disk, PatternDisk, StoredDisk
from aioxo.simulator.inventory import Inventory, generate

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
Member = tuple[str, bytes]


@cache
def sample() -> Inventory:
    return generate(seed=3, vms=60, disk_size=5 * MIB + 512, now=1_790_000_000)


@cache
def small_archive() -> bytes:
    """A VM with two small disks, so that all kinds of members are there and each byte can be tried."""
    vm, _ = a_vm()
    with StoredDisk(2048) as first, StoredDisk(1024) as second:
        first.write(0, b"first disk")
        second.write(0, b"second disk")
        return b"".join(xva.encode(vm, [("a", first), ("b", second)]))


def a_vm(disks: int = 1) -> tuple[dict[str, Any], list[tuple[str, Disk]]]:
    """Return a VM of the sample with that many disks, and them."""
    made = sample()
    for vm in made.objects.values():
        if vm["type"] == "VM":
            vbds = [made.objects[vbd] for vbd in vm["$VBDs"]]
            vdis = [vbd["VDI"] for vbd in vbds if not vbd["is_cd_drive"]]
            if len(vdis) == disks:
                return vm, [(vdi, made.disks[vdi]) for vdi in vdis]
    raise AssertionError(f"no VM has {disks} disks")


def decode(archive: bytes, cut: int = 65536) -> xva.ImportedVM:
    decoder = xva.Decoder()
    for at in range(0, len(archive), cut):
        decoder.feed(archive[at : at + cut])
    return decoder.finish()


def members(archive: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def archived(parts: list[Member]) -> bytes:
    """Return a tar of other making than the encoder's, with these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in parts:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def close(vm: xva.ImportedVM) -> None:
    for each in vm.disks:
        each.disk.close()


def with_checksum(name: str, data: bytes, *, xxhash: bool = False) -> list[Member]:
    if xxhash:
        return [(name, data), (f"{name}.xxhash", f"{xva.xxh64(data):016X}".encode())]
    return [(name, data), (f"{name}.checksum", hashlib.sha1(data).hexdigest().encode())]


@pytest.mark.parametrize("disks", [1, 2, 3])
def test_a_round_trip_keeps_the_vm_and_each_byte(disks: int) -> None:
    vm, contents = a_vm(disks)
    back = decode(b"".join(xva.encode(vm, contents, objects=sample().objects)), 100_000)
    try:
        assert (back.name_label, back.name_description) == (vm["name_label"], vm["name_description"])
        assert (back.cpus, back.memory) == (vm["CPUs"]["max"], vm["memory"]["static"][1])
        assert [each.name_label for each in back.disks] == [sample().objects[vdi]["name_label"] for vdi, _ in contents]
        assert [each.position for each in back.disks] == list(range(disks))
        assert [each.bootable for each in back.disks] == [place == 0 for place in range(disks)]
        for each, (_, disk) in zip(back.disks, contents, strict=True):
            assert each.disk.read(0, each.disk.size) == disk.read(0, disk.size)
            assert each.disk.allocated() <= disk.allocated()
    finally:
        close(back)


@needs_tar
def test_tar_extracts_what_encode_writes(tmp_path: Path) -> None:
    vm, [(vdi, disk)] = a_vm()
    (tmp_path / "vm.xva").write_bytes(b"".join(xva.encode(vm, [(vdi, disk)], objects=sample().objects)))
    done = subprocess.run(
        ["tar", "-xvf", "vm.xva"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=50
    )
    assert done.stderr == ""
    names = done.stdout.split()
    assert names[0] == "ova.xml"
    last = (disk.size - 1) // MIB
    blocks = [name for name in names if re.fullmatch(r"Ref:1/\d{8}", name)]
    assert names[1:] == [each for name in blocks for each in (name, f"{name}.checksum")]
    assert {blocks[0], blocks[-1]} == {"Ref:1/00000000", f"Ref:1/{last:08d}"}
    for name in blocks:
        block = (tmp_path / name).read_bytes()
        offset = int(name[-8:]) * MIB
        assert block == disk.read(offset, min(MIB, disk.size - offset))
        assert (tmp_path / f"{name}.checksum").read_text() == hashlib.sha1(block).hexdigest()


def test_empty_blocks_are_left_out_but_for_the_first_and_the_last() -> None:
    vm, _ = a_vm()
    with StoredDisk(8 * MIB) as disk:
        disk.write(3 * MIB, b"x")
        names = [name for name, _ in members(b"".join(xva.encode(vm, [("vdi", disk)])))]
    assert [name for name in names if "." not in name] == ["Ref:1/00000000", "Ref:1/00000003", "Ref:1/00000007"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2**20), max_size=12))
def test_any_cutting_of_the_input_gives_the_same_vm(cuts: list[int]) -> None:
    archive = small_archive()
    places = sorted({0, len(archive), *(cut % len(archive) for cut in cuts)})
    decoder = xva.Decoder()
    for start, end in itertools.pairwise(places):
        decoder.feed(archive[start:end])
    vm = decoder.finish()
    assert [each.disk.read(0, 11) for each in vm.disks] == [b"first disk\0", b"second disk"]
    close(vm)


def test_truncation_at_any_byte_is_an_error() -> None:
    archive = small_archive()
    for keep in range(0, len(archive), 37):
        with pytest.raises(xva.XVAError):
            decode(archive[:keep])
    for keep in range(len(archive) - 1100, len(archive)):
        with pytest.raises(xva.XVAError):
            decode(archive[:keep])


def test_padding_behind_the_end_is_taken_and_data_is_not() -> None:
    close(decode(small_archive() + bytes(10240)))
    with pytest.raises(xva.XVAError, match="behind the end"):
        decode(small_archive() + b"x" * 512)
    with pytest.raises(xva.XVAError, match="before its last record"):
        decode(small_archive() + bytes(100))


@pytest.mark.parametrize("rubbish", [b"x" * 5000, bytes(5000), b"conectix".ljust(4096)])
def test_rubbish_is_refused_in_the_servers_words(rubbish: bytes) -> None:
    with pytest.raises(xva.XVAError, match=r"^unrecognised stream$"):
        decode(rubbish)


def test_any_changed_byte_of_a_block_is_noticed() -> None:
    archive = bytearray(small_archive())
    at = archive.index(b"first disk")
    archive[at] ^= 1
    with pytest.raises(xva.XVAError, match=r"Block Ref:1/00000000 checksum failed"):
        decode(bytes(archive))


def parts(*blocks: tuple[str, bytes], xxhash: bool = False) -> list[Member]:
    """Return the members of an archive of a VM with one disk of 3.5 MiB, with these blocks."""
    vm, _ = a_vm()
    xml = ovaxml.dump(vm, [("vdi", 3 * MIB + MIB // 2)], {"vdi": "Ref:1"}, {})
    return [("ova.xml", xml), *(each for block in blocks for each in with_checksum(*block, xxhash=xxhash))]


FIRST, LAST = ("Ref:1/00000000", b"a" * MIB), ("Ref:1/00000003", b"z" * (MIB // 2))


@pytest.mark.parametrize("xxhash", [False, True])
def test_archives_of_other_making_are_read(xxhash: bool) -> None:
    vm = decode(archived(parts(FIRST, LAST, xxhash=xxhash)))
    content = vm.disks[0].disk.read(0, vm.disks[0].disk.size)
    close(vm)
    assert content == b"a" * MIB + bytes(2 * MIB) + b"z" * (MIB // 2)


def test_an_empty_block_that_keeps_the_line_alive_moves_the_numbers_on() -> None:
    blocks = [FIRST, ("Ref:1/00000001", b""), ("Ref:1/00000002", b"b" * MIB), ("Ref:1/00000004", b"z" * (MIB // 2))]
    vm = decode(archived(parts(*blocks, xxhash=True)))
    content = vm.disks[0].disk.read(0, vm.disks[0].disk.size)
    close(vm)
    assert content == b"a" * MIB + b"b" * MIB + bytes(MIB) + b"z" * (MIB // 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (parts, "no block of Ref:1"),
        (lambda: parts(FIRST), "header of a file"),
        (lambda: parts(FIRST, ("Ref:1/00000003", b"z" * MIB)), "reaches beyond"),
        (lambda: parts(FIRST, FIRST), "is missing before"),
        (lambda: parts(("Ref:2/00000000", b"x")), "no disk of the VM"),
        (lambda: parts(FIRST, LAST, FIRST), "no disk of the VM, or came before"),
        (lambda: parts(("readme", b"x")), "not the name of a block"),
        (lambda: [*parts(), FIRST, FIRST], "instead of its checksum"),
        (lambda: [*parts(), FIRST, ("Ref:1/00000000.checksum", b"0" * 40)], "checksum failed"),
        (lambda: [*parts(), FIRST, ("Ref:1/00000000.xxhash", b"0" * 16)], "checksum failed"),
        (lambda: [*parts(), FIRST, ("Ref:1/00000000.checksum", b"0")], "has 1 bytes"),
        (lambda: [FIRST], "unrecognised stream"),
        (lambda: [("ova.xml", b"<value>")], "cannot be read"),
        (lambda: [("ova.xml", b"<!DOCTYPE x><value/>")], "document type"),
        (lambda: [("ova.xml", "<!DOCTYPE x><value/>".encode("utf-16"))], "cannot be read"),
        (lambda: [("ova.xml", b"<value><struct/></value>")], "cannot be read"),
    ],
)
def test_a_broken_structure_is_an_error(wrong: object, message: str) -> None:
    assert callable(wrong)
    with pytest.raises(xva.XVAError, match=message):
        decode(archived(wrong()))


def test_giving_up_closes_the_disks() -> None:
    made: list[StoredDisk] = []

    def make_disk(size: int) -> StoredDisk:
        made.append(StoredDisk(size))
        return made[-1]

    decoder = xva.Decoder(make_disk)
    decoder.feed(small_archive()[:-600])
    assert made
    decoder.close()
    for disk in made:
        with pytest.raises(ValueError, match="closed"):
            disk.read(0, 1)


def test_names_with_any_characters_come_back() -> None:
    vm, _ = a_vm()
    name = 'a <b> & "c" ✓ ]]> \''
    with StoredDisk(512) as disk:
        back = decode(b"".join(xva.encode(vm | {"name_label": name, "name_description": ""}, [("vdi", disk)])))
    close(back)
    assert (back.name_label, back.name_description) == (name, "")


def test_a_vm_without_disks_has_an_archive() -> None:
    vm, _ = a_vm()
    assert decode(b"".join(xva.encode(vm, []))).disks == []


def test_ten_disks_come_in_the_order_of_their_references_names() -> None:
    vm, _ = a_vm()
    disks = [(f"vdi-{number}", PatternDisk(512, str(number))) for number in range(11)]
    archive = b"".join(xva.encode(vm, disks))
    directories = [name.partition("/")[0] for name, _ in members(archive) if name.endswith(".checksum")]
    assert directories == sorted(directories)
    back = decode(archive)
    assert [each.disk.read(0, 512) for each in back.disks] == [disk.read(0, 512) for _, disk in disks]
    close(back)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_xxh64_gives_the_published_values(data: bytes, digest: int) -> None:
    assert xva.xxh64(data) == digest
