"""Plain values that cross the public interface; no client inside, nothing to close."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Change",
    "ChangeKind",
    "Gap",
    "GapReason",
    "MethodInfo",
    "Notification",
    "Progress",
    "Record",
    "Timeouts",
    "Transfer",
]

#: An object of the server as decoded: unknown fields are kept, absent ones are absent.
Record: TypeAlias = dict[str, Any]

ChangeKind = Literal["enter", "update", "exit"]
GapReason = Literal["disconnected", "overflow", "malformed"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of time, each in seconds; None switches one off.

    Attributes:
        connect: making a connection: name resolution, TCP, TLS and, for the websocket, the upgrade and the sign-in.
        read: silence: no header and then no byte of an answer for this long. It never bounds a whole transfer.
        call: from sending a JSON-RPC call to its reply; off by default, because some calls last for hours.
        close: leaving the context.
    """

    connect: float | None = 30.0
    read: float | None = 60.0
    call: float | None = None
    close: float | None = 5.0


class Notification(NamedTuple):
    """A JSON-RPC notification as it came; `params` is decoded JSON, and None when there were none."""

    method: str
    params: Any


class Change(NamedTuple):
    """One object came into view, changed, or left it.

    Attributes:
        kind: "enter", "update" or "exit".
        type: the object's type, such as "VM"; for an exit, the type under which it was known.
        id: the object's id.
        object: the whole new object; for an exit None, unless it left by no longer matching the filter or by changing
            its type. Shared by all subscribers: read it, do not change it.
    """

    kind: ChangeKind
    type: str
    id: str
    object: Record | None


class Gap(NamedTuple):
    """Something may have been missed at this point of the stream.

    Attributes:
        reason: "disconnected" (and the server replays nothing), "overflow" (this subscriber was too slow) or
            "malformed" (a notification could not be understood).
        missed: number of items dropped, or None when nobody can know.
    """

    reason: GapReason
    missed: int | None = None


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """A JSON-RPC method as the server describes it.

    Attributes:
        name: such as "vm.start".
        description: the server's own sentence; empty when it has none.
        params: parameter name to its schema, a dialect of JSON Schema; empty when there are none or none is checked.
        permission: "admin", "none" (no sign-in needed) or "user" (anybody signed in).
    """

    name: str
    description: str
    params: Mapping[str, Mapping[str, Any]] = field(hash=False)
    permission: Literal["admin", "user", "none"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is.

    Attributes:
        stage: "waiting" (nothing came yet), "transferring", "finishing" (flushing and checking) or "done".
        bytes: bytes so far.
        total: bytes in all, or None when the server does not say.
        seconds: since the transfer began.
    """

    stage: Literal["waiting", "transferring", "finishing", "done"]
    bytes: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Mean bytes per second so far; 0.0 before any time has passed."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Estimated seconds to the end at the mean rate, or None when nobody can know."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.bytes) / self.rate


@dataclass(frozen=True, slots=True)
class Transfer:
    """A finished, checked transfer.

    Attributes:
        path: where it stands, or None when it went to a stream.
        bytes: length of the image in bytes.
        seconds: how long it took.
        sha256: hash of the bytes, in hexadecimal.
        checks: what was verified: "length", "vhd structure", "tar structure".
        unchecked: what could not be, and why, a sentence each; empty when everything was.
    """

    path: Path | None
    bytes: int
    seconds: float
    sha256: str
    checks: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
