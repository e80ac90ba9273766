"""From options and environment to a client, and from what a person calls an object to the object.

No secret is taken from the command line, where every user of the machine can read it with ``ps``: a token comes from
the environment or from standard input, and a URL with credentials in it only from the environment.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aioxo.errors import ConfigurationError, MethodNotFound, NotFound, ProtocolError

from .parse import closest
from .text import count, quoted, safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aioxo import Client, Collection
    from aioxo.models import Record

__all__ = ["Server", "collection_name", "find"]

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: What people also call a collection.
_ALIASES: Final = {"disks": "vdis", "machines": "vms", "snapshots": "vm-snapshots", "templates": "vm-templates"}


@dataclass(frozen=True, slots=True)
class Server:
    """The options that say where the server is and how to trust it; None for what was not given.

    Attributes:
        token: "-" to read it from standard input; a token itself is refused.
    """

    url: str | None = None
    token: str | None = None
    insecure: bool | None = None
    ca_file: Path | None = None
    fingerprint: str | None = None
    debug: bool = False

    def connect(self) -> Client:
        """Return a client, not entered yet.

        Raises:
            ConfigurationError: no server or no credentials are to be found, or a secret was given in the open.
        """
        from aioxo import connect  # noqa: PLC0415 - brings aiohttp

        self._check(os.environ)
        return connect(
            self.url,
            token=None if self.token is None else _read_token(),
            insecure=self.insecure,
            ca_file=self.ca_file,
            fingerprint=self.fingerprint,
        )

    def _check(self, environ: Mapping[str, str]) -> None:
        """Say in this program's own terms what is missing or must not be."""
        if self.token not in {None, "-"}:
            message = (
                "a token on the command line can be read by every user of this machine: set XOA_TOKEN instead, or pass "
                "--token - and give the token on standard input"
            )
            raise ConfigurationError(message)
        if self.url is not None and "@" in self.url:
            message = (
                "a token or password in --url can be read by every user of this machine: set XOA_URL instead, or set "
                "XOA_TOKEN beside a --url without it"
            )
            raise ConfigurationError(message)

        def is_set(*names: str) -> bool:
            return any(environ.get(prefix + name) for prefix in ("XOA_", "XO_") for name in names)

        if self.url is None and not is_set("URL"):
            message = (
                "no server is named: set XOA_URL and XOA_TOKEN, or pass --url; `aioxo simulate` starts a stand-in to "
                "try things on and prints both"
            )
            raise ConfigurationError(message)
        in_url = self.url is None and "@" in (environ.get("XOA_URL") or environ.get("XO_URL") or "")
        if self.token is None and not in_url and not is_set("TOKEN", "PASSWORD"):
            message = (
                "no credentials: set XOA_TOKEN, or XOA_USER and XOA_PASSWORD, or pass --token - and type the token"
            )
            raise ConfigurationError(message)


def _read_token() -> str:
    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415 - seldom needed

        token = getpass.getpass("Token: ")
    else:
        token = sys.stdin.readline()
    if not token.strip():
        message = "--token - reads the token from standard input, but there was none"
        raise ConfigurationError(message)
    return token.strip()


def collection_name(word: str, among: Sequence[str] | None = None) -> str:
    """Return the path name of the collection that `word` means: "vm", "VMs" and "vm_snapshot" are understood.

    Args:
        word: what was typed.
        among: the only collections that will do; None for any, also one that aioxo does not know.

    Raises:
        ConfigurationError: it is none of `among`, or no name at all.
    """
    from aioxo.resources import COLLECTIONS  # noqa: PLC0415 - brings aiohttp

    name = word.lower().replace("_", "-")
    name = _ALIASES.get(name, _ALIASES.get(name + "s", name))
    known = COLLECTIONS if among is None else among
    for candidate in (name, name + "s", re.sub("y$", "ies", name)):
        if candidate in known:
            return candidate
    if among is None and re.fullmatch(r"[a-z0-9-]+", name):
        return name
    hint = closest(name, known)
    refused = "not among the collections for this" if among is not None else "not the name of a collection"
    expected = f"take one of {', '.join(known)}" if among is not None else "`aioxo ls` lists them"
    message = f"{quoted(word)} is {refused}{hint or f'; {expected}'}"
    raise ConfigurationError(message)


def unknown_collection(name: str, error: MethodNotFound) -> NotFound:
    """Return what to say when the server has no route for a collection."""
    from aioxo.resources import COLLECTIONS  # noqa: PLC0415 - brings aiohttp

    if name in COLLECTIONS:
        message = f"this server has no {name}; it may be older than they are"
    else:
        message = (
            f"the server has no collection {quoted(name)}{closest(name, COLLECTIONS) or '; `aioxo ls` lists them'}"
        )
    return NotFound(message, status=error.status)


async def find(collection: Collection, text: str, fields: Sequence[str] = ()) -> Record:
    """Return the one record that `text` means: by its id, or by its name when only one has it.

    Args:
        collection: where to look.
        text: an id, an XAPI reference or a name.
        fields: names of fields that are wanted; "id" and "name_label" always come. A record found by its id has all.

    Raises:
        NotFound: there is none.
        ConfigurationError: several have this name.
        ProtocolError: what the server sent has no id.
    """
    from aioxo.filters import F  # noqa: PLC0415 - brings aiohttp

    if _UUID.fullmatch(text) or text.startswith("OpaqueRef:"):
        return await _get(collection, text)
    wanted = list(dict.fromkeys(["id", "name_label", *fields]))
    label: Any = F.name_label
    named = [
        _with_id(collection, record) for record in await collection.list(filter=label == text, fields=wanted, limit=20)
    ]
    if len(named) > 1:
        ids = ", ".join(safe(record["id"]) for record in named[:5])
        message = f"{count(len(named))} {collection.name} are named {quoted(text)}; say which one by its id: {ids}"
        raise ConfigurationError(message)
    return named[0] if named else await _get(collection, text)


def _with_id(collection: Collection, record: Any) -> Record:
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        message = f"the server sent one of the {collection.name} without an id"
        raise ProtocolError(message)
    return record


async def _get(collection: Collection, text: str) -> Record:
    try:
        return _with_id(collection, await collection.get(text))
    except NotFound as error:
        message = f"none of the {collection.name} has the id or name {quoted(text)}"
        raise NotFound(message, status=error.status) from error
