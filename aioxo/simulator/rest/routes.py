"""What a route is, and how the route for a request is found.

Paths are compared segment by segment, literals without regard to case, as the router of a real server does. A segment
is a literal, a parameter (`{id}`) or a parameter with a format (`{id}.{format}`); of two routes that fit, the one with
the format comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes

from aioxo.simulator.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from aiohttp import web

    from aioxo.simulator.accounts import User
    from aioxo.simulator.rest.validation import Type
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Object

BASE = "/rest/v0"


@dataclass
class Call:
    """A request on its way to a handler.

    Attributes:
        path: as it came, still percent-encoded, without the query and a trailing slash.
        raw_query: every parameter of the query with all its values.
        user: who asks; None on public routes only.
        params: the decoded parameters of the path.
        query: the parameters of the query that the route knows, converted.
        body: the JSON body, checked; `{}` when there is none.
        subject: the object that `{id}` names, on routes that say which kind it is.
    """

    request: web.Request
    state: State
    path: str
    raw_query: dict[str, list[str]]
    user: User | None = None
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    found: Object | None = None

    @property
    def subject(self) -> Object:
        """The object that the path names."""
        if self.found is None:
            raise LookupError(f"the route of {self.path} names no object")
        return self.found

    @property
    def caller(self) -> User:
        """Who asks, on a route that is not public."""
        if self.user is None:
            raise LookupError(f"the route of {self.path} is public")
        return self.user


@dataclass(frozen=True)
class Route:
    """One operation.

    Attributes:
        path: below `/rest/v0`, such as `/vms/{id}/actions/start`.
        handler: makes the answer.
        find: looks `{id}` up and raises `NoSuchObject`; None when `{id}` is the handler's own business.
        privilege: (resource, action) that a user who is no administrator would need; nobody else has any.
        query: its parameters, see `validation`.
        body: its JSON members, see `validation`; None when the body is not JSON or is ignored.
        public: no credentials needed.
        administrator: refused to others before anything is looked up.
        formats: allowed values of `{format}`.
        modern: does not exist in the 2023 dialect.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    find: Callable[[State, str], Object] | None = None
    privilege: tuple[str, str] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Type] | None = None
    public: bool = False
    administrator: bool = False
    formats: tuple[str, ...] = ()
    modern: bool = False


class Routes:
    """Finds routes by method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = tuple(routes)
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in sorted(self.all, key=lambda route: "{format}" not in route.path):
            segments = tuple(route.path.lower().strip("/").split("/"))
            self._by_length.setdefault(len(segments), []).append((segments, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route for `path` (below the base, encoded) and its decoded parameters; HEAD is as GET.

        Raises `Failure` when a parameter is badly encoded.
        """
        wanted = "GET" if method == "HEAD" else method
        for route, given in self._matching(path):
            if route.method == wanted:
                return route, {name: decode(value) for name, value in given.items()}
        return None

    def methods(self, path: str) -> list[str]:
        """Return the methods that `path` has routes for, HEAD with GET."""
        methods = dict.fromkeys(route.method for route, _ in self._matching(path))
        return [each for method in methods for each in ((method, "HEAD") if method == "GET" else (method,))]

    def _matching(self, path: str) -> Iterable[tuple[Route, dict[str, str]]]:
        segments = path.strip("/").split("/")
        for pattern, route in self._by_length.get(len(segments), ()):
            given = _match(pattern, segments)
            if given is not None:
                yield route, given


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    given: dict[str, str] = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted == "{id}.{format}":
            head, dot, tail = segment.partition(".")
            if not (head and dot and tail):
                return None
            given |= {"id": head, "format": tail}
        elif wanted[:1] == "{":
            if not segment:
                return None
            given[wanted[1:-1]] = segment
        elif wanted != segment.lower():
            return None
    return given


def decode(text: str) -> str:
    """Return a percent-encoded path segment decoded; `Failure` when it cannot be."""
    rest = text.split("%")[1:]
    if any(len(each) < 2 or not _is_hex(each[:2]) for each in rest):
        raise Failure(f"Failed to decode param '{text}'")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Failure(f"Failed to decode param '{text}'") from None


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def parse_query(text: str) -> dict[str, list[str]]:
    """Return all values of each parameter of a query string; a bad percent-escape stands for itself."""
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        query.setdefault(name, []).append(value)
    return query
