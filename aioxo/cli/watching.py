"""``watch``: what happens, a line each.

What changed is told by comparing an object with what it was. The first time an object changes there is nothing to
compare it with, unless it was listed before: so the collections of the types that are watched are read first, up to
`REMEMBERED` records, while the changes that come meanwhile already wait.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from aioxo.errors import ApiError, ConfigurationError

from .listing import parse_filter
from .parse import closest, parse_fields
from .render import Format, console_for, encode, line, name_of
from .text import count, quoted, safe, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from aioxo import Client
    from aioxo.models import Change, Gap, Record

    from .connection import Server

__all__ = ["Memory", "change_line", "differences", "watch"]

#: Most objects remembered, so that a large pool does not fill this machine's memory.
REMEMBERED: Final = 20_000
#: Types that no collection lists.
_OTHER_TYPES: Final = (
    "PUSB", "USB_group", "VDI-unmanaged", "VTPM", "VUSB", "bond", "gpuGroup", "patch", "pool_patch", "task", "vgpu",
    "vgpuType",
)  # fmt: skip
_STYLES: Final = {"enter": "green", "update": "cyan", "exit": "red", "gap": "bold yellow"}
_SHOWN: Final = 3
#: What matters most about an object comes first.
_FIRST: Final = ("name_label", "power_state", "status", "tags")
_UUID: Final = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_LONGEST: Final = 40


def object_types(words: Sequence[str]) -> list[str]:
    """Return the types that were meant: any case, and the names of collections, will do.

    Raises:
        ConfigurationError: a word is no type.
    """
    from aioxo.feed import LISTED_IN  # noqa: PLC0415 - brings aiohttp

    known = {name.lower(): name for name in (*LISTED_IN, *_OTHER_TYPES)}
    known |= {collection: type_ for type_, collections in LISTED_IN.items() for collection in collections}
    types = []
    for word in words:
        type_ = known.get(word.lower().replace("_", "-")) or known.get(word.lower())
        if type_ is None:
            everything = sorted(LISTED_IN, key=str.lower)
            hint = closest(word, everything) or f"; take one of {', '.join(everything)}"
            message = f"{quoted(word)} is no type of object{hint}"
            raise ConfigurationError(message)
        types.append(type_)
    return types


class Memory:
    """The objects as they were last seen, up to a bound."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> bool:
        """Remember an object; return whether there was room."""
        object_id = record.get("id")
        if not isinstance(object_id, str) or (object_id not in self._records and len(self._records) >= self._limit):
            return False
        self._records[object_id] = record
        return True

    def replace(self, change: Change) -> Record | None:
        """Return what the object of a change was, or None when it is not known, and remember what it is now."""
        before = self._records.get(change.id)
        if change.kind == "exit" or change.object is None:
            self._records.pop(change.id, None)
        else:
            self.add(change.object)
        return before

    async def learn(self, xo: Client, types: Sequence[str], filter: Any) -> None:
        """Read the objects of `types`; one that cannot be listed is left out: only the comparing needs it."""
        from aioxo.feed import LISTED_IN  # noqa: PLC0415 - brings aiohttp

        for collection in (name for type_ in types for name in LISTED_IN.get(type_, ())):
            try:
                async with xo.collection(collection).stream(filter=filter) as records:
                    async for record in records:
                        if not self.add(record):
                            return
            except ApiError:
                continue


def differences(before: Record, after: Record) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two states of an object: dotted path to the old and the new value."""
    found: dict[str, tuple[Any, Any]] = {}

    def compare(path: str, old: Any, new: Any) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for name in dict.fromkeys((*old, *new)):
                compare(f"{path}.{name}" if path else str(name), old.get(name), new.get(name))
        elif old != new:
            found[path] = (old, new)

    compare("", {k: v for k, v in before.items() if k != "href"}, {k: v for k, v in after.items() if k != "href"})
    return found


def describe(changed: dict[str, tuple[Any, Any]]) -> str:
    """Return differences as a person reads them, harmless and on one line."""
    parts = []
    ordered = sorted(changed.items(), key=lambda item: item[0] not in _FIRST)
    for path, (old, new) in ordered[:_SHOWN]:
        if isinstance(old, list) and isinstance(new, list):
            words = [f"+{_short(path, item)}" for item in new if item not in old]
            words += [f"-{_short(path, item)}" for item in old if item not in new]
            parts.append(f"{safe(path)} {' '.join(words) or 'reordered'}")
        elif _is_size(path) and size(old) == size(new) and isinstance(old, int) and isinstance(new, int):
            parts.append(f"{safe(path)} {size(new)} ({'+' if new > old else '-'}{size(abs(new - old))})")
        elif old is None:
            parts.append(f"{safe(path)} {_short(path, new)}")
        else:
            parts.append(f"{safe(path)} {_short(path, old)} → {_short(path, new)}")
    if len(changed) > _SHOWN:
        parts.append(f"and {len(changed) - _SHOWN} more")
    return _UUID.sub(r"\1…", ", ".join(parts))


def _is_size(path: str) -> bool:
    return path.endswith(("memory.usage", "memory.size")) or path in {"physical_usage", "size", "usage"}


def _short(path: str, value: Any) -> str:
    if value is None:
        return "none"
    if _is_size(path):
        return size(value)
    text = _UUID.sub(r"\1…", safe(value if isinstance(value, str) else encode(value)))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def change_line(change: Change, before: Record | None, *, clock: str, type_width: int = 12) -> Text:
    """Return a change as one line for a person: when, what kind, what type, whose, and what is different."""
    from rich.text import Text  # noqa: PLC0415 - only a person needs it

    record = change.object or before
    what = ""
    if change.kind == "update" and before is not None and change.object is not None:
        what = describe(differences(before, change.object))
    return Text.assemble(
        (f"{clock}  ", "bright_black"),
        (f"{change.kind:<6}", _STYLES[change.kind]),
        f"  {safe(change.type):<{type_width}}  ",
        (f"{name_of(record) if record else safe(change.id):<16}", "bold"),
        f"  {what}" if what else "",
    )


def now() -> str:
    """Return the local time of day to the millisecond."""
    return dt.datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]


class _Reporter:
    """Writes changes and gaps to stdout and counts them."""

    def __init__(self, format: Format, fields: list[str] | None) -> None:
        self.kinds: Counter[str] = Counter()
        self._format = format
        self._fields = fields
        self._console = console_for()
        self._memory = Memory()

    @property
    def compares(self) -> bool:
        """Whether it needs to know what the objects were."""
        return self._format is Format.TABLE

    async def learn(self, xo: Client, types: Sequence[str], filter: Any) -> None:
        await self._memory.learn(xo, types, filter)

    def gap(self, gap: Gap) -> None:
        self.kinds["gap"] += 1
        if self._format is not Format.TABLE:
            line(encode({"time": _timestamp(), "kind": "gap", "reason": gap.reason, "missed": gap.missed}))
            return
        missed = "changes may be missing" if gap.missed is None else f"{count(gap.missed, 'change')} dropped"
        self._console.print(f"{now()}  gap     {gap.reason}: {missed}", style=_STYLES["gap"])
        self._console.file.flush()

    def change(self, change: Change) -> None:
        self.kinds[change.kind] += 1
        if self._format is Format.NAME:
            line(name_of(change.object) if change.object else safe(change.id))
        elif self._format is Format.TABLE:
            self._console.print(change_line(change, self._memory.replace(change), clock=now()))
            self._console.file.flush()
        else:
            record = change.object
            if self._fields is not None and record is not None:
                record = {name: record[name] for name in self._fields if name in record}
            head = {"time": _timestamp(), "kind": change.kind, "type": change.type, "id": change.id}
            line(encode(head | {"object": record}))


def _timestamp() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


async def watch(
    server: Server,
    words: Sequence[str],
    *,
    filter: str | None,
    fields: str | None,
    seconds: float | None,
    limit: int | None,
    format: str | None,
) -> None:
    """Write changes until interrupted, for some seconds, or until there were so many."""
    from aioxo.models import Gap  # noqa: PLC0415 - brings aiohttp

    chosen = Format.pick(format)
    types = object_types(words)
    parsed = parse_filter(filter)
    reporter = _Reporter(chosen, parse_fields(fields))
    async with server.connect() as xo, xo.changes(*types, filter=parsed) as changes:
        if chosen is Format.TABLE:
            what = ", ".join(types) if types else "everything"
            sys.stderr.write(f"watching {what} on {safe(xo.url)}; Ctrl-C ends it\n")
        if reporter.compares and types:
            await reporter.learn(xo, types, parsed)
        seen = 0
        try:
            async with asyncio.timeout(seconds):
                async for change in changes:
                    if isinstance(change, Gap):
                        reporter.gap(change)
                        continue
                    reporter.change(change)
                    seen += 1
                    if seen == limit:
                        break
        except TimeoutError as error:
            if error.__class__ is not TimeoutError:
                raise  # a limit of the library's own
    if chosen is Format.TABLE:
        told = ", ".join(f"{number} {kind}" for kind, number in reporter.kinds.items()) or "nothing happened"
        sys.stderr.write(f"{told}\n")
