"""What the vendor's code makes of requests: the calls that reach the pool, which the simulator has not to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import aioxo

from .test_images import content, free_disk, storage

if TYPE_CHECKING:
    from .servers import Vendor


async def test_a_start_reaches_the_pool(xo: aioxo.Client, vendor: Vendor) -> None:
    key, host = vendor.first("VM", power_state="Halted")["id"], next(iter(vendor.of_type("host")))
    await (await xo.vms.start(key, host_id=host)).wait(timeout=30)
    assert {"method": "startVm", "params": [key, {"startOnly": True, "hostId": host}]} in await vendor.calls()


async def test_power_actions_reach_the_pool(xo: aioxo.Client, vendor: Vendor) -> None:
    vm = vendor.first("VM", power_state="Running")
    for action in ("clean_reboot", "pause"):
        await (await xo.vms.action(vm["id"], action)).wait(timeout=30)
    calls = await vendor.calls()
    assert calls == [
        {"method": "call", "params": ["VM.clean_reboot", vm["_xapiRef"]]},
        {"method": "call", "params": ["VM.pause", vm["_xapiRef"]]},
    ]


async def test_a_snapshot_has_its_name(xo: aioxo.Client, vendor: Vendor) -> None:
    vm = vendor.first("VM", power_state="Running")
    await (await xo.vms.snapshot(vm["id"], name_label="before")).wait(timeout=30)
    assert {"method": "call", "params": ["VM.snapshot", vm["_xapiRef"], "before"]} in await vendor.calls()


async def test_compression_is_the_pools(xo: aioxo.Client, vendor: Vendor) -> None:
    vm = vendor.first("VM", power_state="Halted")
    for compress, expected in (("zstd", {"compress": "zstd"}), ("gzip", {"compress": "gzip"}), (None, {})):
        options: Any = {"compress": compress}
        async with xo.vms.open_export(vm["id"], **options) as body:
            async for _ in body:
                pass
        call = (await vendor.calls())[-1]
        assert call == {"method": "VM_export", "params": [vm["_xapiRef"], expected]}


async def test_images_reach_the_pool_as_what_they_are(xo: aioxo.Client, vendor: Vendor) -> None:
    target, disk = vendor.objects[storage(vendor)], free_disk(vendor)
    await xo.srs.import_vdi(target["id"], content(), format="raw", name_label="a", name_description="b")
    imported = next(call for call in await vendor.calls() if call["method"] == "SR_importVdi")
    names = {"format": "raw", "name_label": "a", "name_description": "b"}
    assert imported["params"] == [target["_xapiRef"], "<stream>", names]
    await xo.vdis.import_content(disk["id"], content(disk["size"]), format="raw")
    replaced = (await vendor.calls())[-1]
    assert replaced == {"method": "VDI_importContent", "params": [disk["_xapiRef"], "<stream>", {"format": "raw"}]}
    async with xo.vdis.open_export(disk["id"], format="raw") as body:
        async for _ in body:
            pass
    exported = (await vendor.calls())[-1]
    assert exported == {"method": "VDI_exportContent", "params": [disk["_xapiRef"], {"format": "raw"}]}


async def test_a_refused_request_reaches_nothing(xo: aioxo.Client, vendor: Vendor) -> None:
    with pytest.raises(aioxo.NotFound):
        await xo.vms.start("nope")
    with pytest.raises(aioxo.InvalidParameters):
        await xo.vms.action(vendor.first("VM")["id"], "start", speed=1)
    assert await vendor.calls() == []
