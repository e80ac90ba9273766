"""What differs between the Xen Orchestra of 2026 and that of 2023, as data: each field is one difference on the wire.

Field names say what is so when they are true. Code that depends on the age of the server asks the dialect, never for a
year. "2023" stands for XO 5.7x to 5.8x; what is not listed here is as in 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Link = Literal["href", "url"]


@dataclass(frozen=True)
class Dialect:
    """One server's habits.

    Attributes:
        name: how a user asks for it.
        link: the member of a record that holds its address.
        flags_by_presence: `?sync` and the like count when merely there; else only `true` does, and nothing is 422.
        text_answers: a plain-text task path for an action, the bare id for an import, `OK` for a deletion, and
            `Unauthorized` and `Not Found` as text; else JSON, `Location` and 201, 202, 204.
        streamed_json: a JSON collection comes as one line per record between brackets.
        basic: user name and password are accepted over REST.
        administrators_only: who is no administrator gets 401 over REST; else an empty or refused view.
        modern_routes: `/ping`, `/users/me`, `/events`, `/docs`, tokens, PATCH with the names of each type.
        wait_for_change: `?wait` answers at the next change and `?wait=result` at the end; else `wait=true` at the end.
        bad_filter_status: status of a filter that cannot be parsed.
        pending_tasks_only: an object's `tasks` leaves out those that have ended.
        alarms_apart: alarms have a collection of their own, with percent and milliseconds; else they are messages.
    """

    name: str = "2026"
    link: Link = "href"
    flags_by_presence: bool = False
    text_answers: bool = False
    streamed_json: bool = False
    basic: bool = True
    administrators_only: bool = False
    modern_routes: bool = True
    wait_for_change: bool = False
    bad_filter_status: int = 400
    pending_tasks_only: bool = False
    alarms_apart: bool = True


_DIALECTS = {
    "2026": Dialect(),
    "2023": Dialect(
        name="2023",
        flags_by_presence=True,
        text_answers=True,
        streamed_json=True,
        basic=False,
        administrators_only=True,
        modern_routes=False,
        wait_for_change=True,
        bad_filter_status=500,
        pending_tasks_only=True,
        alarms_apart=False,
    ),
}


def dialect_called(name: str, link: Link | None = None) -> Dialect:
    """Return the dialect of this name; `link` overrides its own, which only a 2023 server allows.

    Raises:
        ValueError: the name is unknown, or `link` does not go with it.
    """
    dialect = _DIALECTS.get(name)
    if dialect is None:
        raise ValueError(f"there is no dialect {name!r}, only {', '.join(sorted(_DIALECTS))}")
    if link is None or link == dialect.link:
        return dialect
    if dialect.modern_routes:
        raise ValueError("only the 2023 dialect can call its links anything but 'href'")
    return replace(dialect, link=link)
