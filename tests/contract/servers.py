"""The servers that the contract is held against, under one face: where they are, who gets in, how to hinder them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aioxo.simulator import Simulator

Object = dict[str, Any]

#: Collection to type, of what pools hold.
KINDS = {
    "hosts": "host",
    "networks": "network",
    "pbds": "PBD",
    "pifs": "PIF",
    "pools": "pool",
    "sms": "SM",
    "srs": "SR",
    "vbds": "VBD",
    "vdi-snapshots": "VDI-snapshot",
    "vdis": "VDI",
    "vifs": "VIF",
    "vm-controllers": "VM-controller",
    "vm-snapshots": "VM-snapshot",
    "vm-templates": "VM-template",
    "vms": "VM",
}
VMS = 12
SEED = 7
#: Small, for each disk is also kept as a file in two formats; not a multiple of what images are cut into.
DISK_SIZE = 192 * 1024
ADMINISTRATOR = "admin@admin.net"
ADMINISTRATOR_PASSWORD = "admin"
GUEST = "guest@example.org"
GUEST_PASSWORD = "only looking"


class Seen(NamedTuple):
    """A request that a server answered; `path` is still percent-encoded."""

    method: str
    path: str
    status: int


class Reply(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server(ABC):
    """A running server.

    Attributes:
        modern: whether it speaks as servers do today; else as in 2023.
        url: its address.
        token: a token of an administrator.
        guest_token: a token of somebody who may do nothing.
        objects: what it started with, by id.
    """

    modern: ClassVar[bool]

    def __init__(self, url: str, token: str, guest_token: str, objects: Mapping[str, Object]) -> None:
        self.url = url
        self.token = token
        self.guest_token = guest_token
        self.objects = dict(objects)

    def of_type(self, kind: str) -> dict[str, Object]:
        """Return the objects of one type that it started with, by id."""
        return {key: item for key, item in self.objects.items() if item["type"] == kind}

    def first(self, kind: str, **fields: Any) -> Object:
        """Return the first object of a type that it started with and that has these values in its fields."""
        found = self.of_type(kind).values()
        return next(item for item in found if all(item[name] == value for name, value in fields.items()))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send what the client would not, below /rest/v0, signed in by `token` if given; follow no redirect."""
        cookies = {} if token is None else {"authenticationToken": token}
        async with (
            aiohttp.ClientSession(cookies=cookies) as session,
            session.request(
                method,
                URL(f"{self.url}/rest/v0{path}", encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
            ) as answer,
        ):
            return Reply(answer.status, answer.headers, await answer.read())

    @abstractmethod
    async def fail(self, method: str, code: str, *params: str) -> None:
        """Have a XAPI call, such as "VM.start", fail from now on."""

    @abstractmethod
    async def hold(self, method: str) -> None:
        """Have a XAPI call take until `release`."""

    @abstractmethod
    async def release(self, method: str) -> None:
        """Let a held XAPI call go on."""

    @abstractmethod
    async def seen(self) -> list[Seen]:
        """Return the requests that it has answered since it was made or reset."""


class SimulatorServer(Server):
    """The simulator, in one of its dialects."""

    def __init__(self, simulator: Simulator) -> None:
        guest = simulator.accounts.add_user(GUEST, GUEST_PASSWORD)
        token = simulator.accounts.create_token(guest)[0].id
        super().__init__(simulator.url, simulator.token, token, simulator.store.all())
        self._simulator = simulator
        self._held: dict[str, asyncio.Event] = {}

    async def fail(self, method: str, code: str, *params: str) -> None:
        self._simulator.faults.fail(method, code, *params)

    async def hold(self, method: str) -> None:
        self._held[method] = self._simulator.faults.hold(method)

    async def release(self, method: str) -> None:
        self._held.pop(method).set()

    async def seen(self) -> list[Seen]:
        return [Seen(each.method, each.path, each.status) for each in self._simulator.requests]


class ModernSimulator(SimulatorServer):
    modern = True


class OldSimulator(SimulatorServer):
    modern = False


class Vendor(Server):
    """The vendor's REST code behind our harness."""

    modern = True

    async def reset(self) -> None:
        """Have it start over with what it started with."""
        await self._control("POST", "reset")

    async def fail(self, method: str, code: str, *params: str) -> None:
        await self._control("POST", "fail", {"method": method, "code": code, "params": params})

    async def hold(self, method: str) -> None:
        await self._control("POST", "hold", {"method": method})

    async def release(self, method: str) -> None:
        await self._control("POST", "release", {"method": method})

    async def seen(self) -> list[Seen]:
        return [Seen(**each) for each in (await self._journal())["requests"]]

    async def calls(self) -> list[dict[str, Any]]:
        """Return what reached the pool, as `{"method", "params"}`, in order."""
        calls: list[dict[str, Any]] = (await self._journal())["calls"]
        return calls

    async def _journal(self) -> Any:
        return json.loads(await self._control("GET", "journal"))

    async def _control(self, method: str, name: str, body: Any = None) -> bytes:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.url}/-/{name}", json=body, raise_for_status=True) as answer,
        ):
            return await answer.read()
