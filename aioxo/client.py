"""The client: builds the layers, owns them, and closes them in reverse order. It decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from .auth import TLS, Credentials, parse_fingerprint, resolve
from .errors import ConfigurationError, InvalidParameters, ProtocolError, XOError
from .feed import Changes, Feed, Notifications
from .filters import Filter
from .models import MethodInfo, Timeouts
from .resources import (
    COLLECTIONS,
    Collection,
    Disks,
    Machines,
    Pools,
    StorageRepositories,
    VirtualMachines,
    WritableDisks,
)
from .rest import Rest
from .rpc import Connection
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .auth import Address
    from .hub import Overflow
    from .models import Record

__all__ = ["Client", "connect"]

logger = logging.getLogger("aioxo.client")

#: How long the token lasts that is made from a password, should nobody come to delete it. The server's default is a
#: month; much less would end clients that run for days.
LIFETIME: Final = "7 days"

_CLASSES: dict[str, type[Collection]] = {
    "pools": Pools,
    "srs": StorageRepositories,
    "vdi-snapshots": Disks,
    "vdis": WritableDisks,
    "vm-snapshots": Machines,
    "vm-templates": Machines,
    "vms": VirtualMachines,
}


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    username: str | None = None,
    password: str | None = None,
    otp: str | None = None,
    insecure: bool | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    fingerprint: str | None = None,
    timeouts: Timeouts | None = None,
    connections: int = 100,
) -> Client:
    """Return a client for one server, to be entered with ``async with``; nothing is sent before that.

    What is left out is looked up in the environment: XOA_URL, XOA_TOKEN, XOA_USER or XOA_USERNAME, XOA_PASSWORD,
    XOA_INSECURE, then the same names with ``XO_``.

    Args:
        url: the server's address; http, https, ws, wss or a bare host name (then https), with or without a base path.
        token: an authentication token. With it, the websocket is opened only when something needs it.
        username: instead of a token, with `password`. A password is used once, over the websocket, to make a token
            for this client, which is deleted when the client is closed.
        password: see `username`. The token lasts for seven days, so a client that runs for longer takes a token.
        otp: the one-time code of a user with two-factor sign-in; it goes with a password, never with a token.
        insecure: accept any certificate; None to ask the environment.
        ca_file: path of a PEM file with the authorities to trust instead of the system's.
        fingerprint: SHA-256 of the one certificate to accept, in hexadecimal.
        timeouts: limits of time; None for the defaults, see `Timeouts`.
        connections: most HTTP connections at once; further requests wait for one.

    Raises:
        ConfigurationError: no server or no credentials are to be found, or something cannot be used.
    """
    given = Credentials(token, username, password, otp)
    address, credentials, lax = resolve(url, given, insecure, os.environ)
    tls = TLS(
        insecure=lax,
        ca_file=None if ca_file is None else os.fspath(ca_file),
        fingerprint=None if fingerprint is None else parse_fingerprint(fingerprint),
    )
    return Client(address, credentials, tls, timeouts or Timeouts(), connections=connections)


class Client:
    """One server, signed in. Made by `connect`; usable inside its ``async with`` and by any number of tasks.

    Collections are attributes: ``xo.vms``, ``xo.vm_snapshots``, ``xo.vdis``, ``xo.srs`` and so on, see `Collection`.
    """

    pools: Pools
    srs: StorageRepositories
    vdi_snapshots: Disks
    vdis: WritableDisks
    vm_snapshots: Machines
    vm_templates: Machines
    vms: VirtualMachines
    acl_privileges: Collection
    acl_roles: Collection
    alarms: Collection
    backup_archives: Collection
    backup_jobs: Collection
    backup_logs: Collection
    backup_repositories: Collection
    groups: Collection
    hosts: Collection
    messages: Collection
    networks: Collection
    pbds: Collection
    pcis: Collection
    pgpus: Collection
    pifs: Collection
    proxies: Collection
    restore_logs: Collection
    schedules: Collection
    servers: Collection
    sms: Collection
    tasks: Collection
    users: Collection
    vbds: Collection
    vifs: Collection
    vm_controllers: Collection

    def __init__(
        self, address: Address, credentials: Credentials, tls: TLS, timeouts: Timeouts, *, connections: int = 100
    ) -> None:
        """Take values as `connect` makes them; call that instead."""
        self.timeouts = timeouts
        self._credentials = credentials
        self._session = Session(address, tls, timeouts, connections=connections)
        self._rest = Rest(self._session, credentials.token)
        self.connection = Connection(self._session, credentials)
        self._feed = Feed(self.connection, self._rest)
        self._own_token: str | None = None
        self._entered = False
        for name in COLLECTIONS:
            setattr(self, name.replace("-", "_"), self.collection(name))

    def __repr__(self) -> str:
        return f"<Client {self._session.address} websocket={self.connection.state}>"

    @property
    def url(self) -> str:
        """The server's address, without credentials."""
        return str(self._session.address)

    @property
    def requests(self) -> int:
        """REST requests sent so far; `connection` counts what the websocket does."""
        return self._rest.sent

    async def __aenter__(self) -> Self:
        """Open the session and sign in.

        Raises:
            AuthenticationError: the server refuses the credentials.
            CannotConnect, TLSError, ConnectionLost, Timeout: the server cannot be reached.
            NotXenOrchestra: something else answers at this address.
            ConfigurationError: ca_file cannot be read, or the client was entered before.
        """
        if self._entered:
            message = "a client can be entered once; make another with aioxo.connect()"
            raise ConfigurationError(message)
        self._entered = True
        await self._session.open()
        try:
            if self._credentials.token is None:
                await self._make_token()
            await self._rest.probe()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close everything and wake everyone who waits; leaving the ``async with`` does it. Harmless when repeated."""
        try:
            await self._delete_token()
        finally:
            try:
                await self.connection.close()
            finally:
                await self._session.close()

    async def _make_token(self) -> None:
        """Swap user and password for a token: a password sent with each request would be checked each time.

        Over the websocket, because there every version knows it, and a colon in the password does no harm.
        """
        await self.connection.open()
        limited = {"expiresIn": LIFETIME}
        try:
            token = await self.call("token.create", description="aioxo", call_timeout=self.timeouts.connect, **limited)
        except InvalidParameters:
            # Servers before 2023 know no description.
            token = await self.call("token.create", call_timeout=self.timeouts.connect, **limited)
        if not isinstance(token, str):
            message = "token.create: the answer is not a token"
            raise ProtocolError(message)
        self._own_token = self._rest.token = token
        # A one-time code works once, so it is the token that the next connection signs in with.
        self.connection.credentials = Credentials(token=token)

    async def _delete_token(self) -> None:
        token, self._own_token = self._own_token, None
        if token is None:
            return
        try:
            async with asyncio.timeout(self.timeouts.close):
                await self.call("token.deleteOwn", tokens=[token])
        except (XOError, TimeoutError) as error:
            # It expires by itself, and a server that cannot be reached must not keep us from closing.
            logger.info("%s: the token made for this client was not deleted: %s", self.url, type(error).__name__)

    # REST

    def collection(self, name: str) -> Collection:
        """Return a collection by its name in a path, such as "vm-snapshots", also one that aioxo does not know."""
        if not name or "/" in name:
            message = f"{name!r} is not the name of a collection; it is one word, like 'vm-snapshots'"
            raise ConfigurationError(message)
        return _CLASSES.get(name, Collection)(self._rest, name, self.timeouts.read)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        read_timeout: float | None = None,
    ) -> Any:
        """Send any request below /rest/v0 and return its decoded answer.

        Args:
            method: the verb.
            path: below /rest/v0, with its slash; percent-encode what a segment holds, `urllib.parse.quote(x, safe="")`.
            params: of the query. True is sent as "true"; False and None are left out.
            json: body to send as JSON; None for none.
            read_timeout: seconds of silence; None for the client's read limit.

        Returns:
            Decoded JSON, a list for NDJSON, a str for text, bytes for anything else, None for no body.

        Raises:
            ApiError, AuthenticationError: the server refused, by class and status.
            ConnectionLost, Timeout, ProtocolError: there was no proper answer.
            ConfigurationError: the verb, the path, `params` or `json` holds what cannot be sent.
        """
        if not path.startswith("/"):
            message = f"path starts with a slash and is below /rest/v0, as in '/vms'; this is {path!r}"
            raise ConfigurationError(message)
        answer = await self._rest.request(
            method.upper(), path.removeprefix("/rest/v0"), params=params, json=json, read_timeout=read_timeout
        )
        return answer.value

    # JSON-RPC

    async def call(self, method: str, /, *, call_timeout: float | None = None, **params: Any) -> Any:
        """Call a JSON-RPC method by name and return its result, decoded; a method with nothing to say returns True.

        Cancelling abandons the reply; the server carries the call out all the same.

        Args:
            method: such as "vm.set".
            call_timeout: seconds to wait for the reply; None for the client's limit, which is off unless you set it.
            params: the method's parameters. The server tells an absent one from None.

        Raises:
            MethodNotFound: there is no such method.
            InvalidParameters: a parameter is missing, unknown or of the wrong type; `.data["errors"]` says which.
            ApiError: the server refused otherwise, by class and code.
            ConfigurationError: a parameter is not something JSON can say, such as an integer beyond 64 bits.
            ConnectionLost: no reply; `.sent` tells whether the call may have been carried out.
            Timeout: no reply in time; the call may still be carried out.
        """
        limit = self.timeouts.call if call_timeout is None else call_timeout
        return await self.connection.call(method, params, limit)

    async def methods(self) -> dict[str, MethodInfo]:
        """Return the JSON-RPC methods that this server has, by name, as it describes them itself.

        Raises:
            ConnectionLost, Timeout: there is no connection.
        """
        described = await self.call("system.getMethodsInfo")
        if not isinstance(described, dict):
            message = "system.getMethodsInfo: the answer is not an object"
            raise ProtocolError(message)
        return {name: _method_info(name, info if isinstance(info, dict) else {}) for name, info in described.items()}

    async def objects(
        self, *, filter: Filter | str | Mapping[str, Any] | None = None, limit: int | None = None
    ) -> dict[str, Record]:
        """Return the server's objects of all types, id to record.

        They are asked for over the websocket and come as a stream over HTTP, so that a large pool (80,000 objects are
        68 MB) holds up neither the notifications nor the event loop.

        Args:
            filter: a `Filter` or query string, or a dict of fields that must be equal; None for all.
            limit: at most this many; None for all.

        Raises:
            ApiError: the server refused.
            ConnectionLost, Timeout: the list was cut; nothing short is ever returned.
        """
        params: dict[str, Any] = {"ndjson": True}
        if isinstance(filter, (Filter, str)):
            params["filter"] = str(Filter.of(filter))
        elif filter is not None:
            params["filter"] = dict(filter)
        if limit is not None:
            params["limit"] = limit
        reply = await self.call("xo.getAllObjects", **params)
        path = reply.get("$getFrom") if isinstance(reply, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            message = "xo.getAllObjects: the answer names no place to get the objects from"
            raise ProtocolError(message)
        try:
            async with self._rest.one_shot(path) as records:
                return {record["id"]: record async for record in records}
        except (KeyError, TypeError) as error:
            message = "xo.getAllObjects: a record is not an object with an id"
            raise ProtocolError(message) from error

    # Live

    def changes(
        self,
        *types: str,
        filter: Filter | str | None = None,
        overflow: Overflow = "latest",
        buffer: int = 1024,
        source: Literal["auto", "rpc", "sse"] = "auto",
    ) -> Changes:
        """Return a subscription to what happens to objects; enter it with ``async with`` and iterate inside.

        It survives disconnects: the connection is made anew and the iteration goes on, with a `Gap` where something
        may have been missed.

        Args:
            types: such as "VM" or "host"; none for all types.
            filter: only objects that match; one that stops matching exits.
            overflow: what gives when this subscriber is slow: "latest" merges the changes of one object that wait,
                "drop_oldest" drops (and then yields a `Gap`), "fail" raises `Lagged` here and nowhere else.
            buffer: most changes that wait at once.
            source: "rpc", or "auto" for the same; "sse" is not there yet.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        if source == "sse":
            message = 'source="sse" is not there yet; "auto" and "rpc" are'
            raise ConfigurationError(message)
        if source not in {"auto", "rpc"}:
            message = f'source must be "auto", "rpc" or "sse", not {source!r}'
            raise ConfigurationError(message)
        return Changes(self._feed, frozenset(types), Filter.of(filter), overflow, buffer)

    def notifications(
        self, *, overflow: Literal["drop_oldest", "fail"] = "drop_oldest", buffer: int = 1024
    ) -> Notifications:
        """Return a subscription to every JSON-RPC notification as it came; enter it with ``async with``.

        Args:
            overflow: see `changes`.
            buffer: most notifications that wait at once; one can hold many objects.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        return Notifications(self.connection, overflow, buffer)


def _method_info(name: str, info: Mapping[str, Any]) -> MethodInfo:
    # On the wire: absent for anybody signed in, null for anybody at all.
    permission: Literal["admin", "user", "none"] = "user"
    if "permission" in info:
        permission = "admin" if info["permission"] == "admin" else "none" if info["permission"] is None else "user"
    params = info.get("params")
    return MethodInfo(name, str(info.get("description") or ""), params if isinstance(params, dict) else {}, permission)
