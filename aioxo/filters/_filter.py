"""`Filter`: one immutable, comparable expression of the server's query language.

It wraps a syntax tree (`_grammar`) and, from the first match on, the predicate compiled from it (`_match`).
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from aioxo.errors import FilterSyntaxError
from aioxo.filters._grammar import MAX_DEPTH, Compare, Everything, Node, Not, all_of, any_of, parse, write
from aioxo.filters._match import Test, compile_node

__all__ = ["Filter"]


class Filter:
    """A condition on records, to be sent to the server or matched here with the same result.

    Made by `Filter.parse`, by `aioxo.F`, or from other filters with ``&`` (all of), ``|`` (any of) and ``~`` (not).
    Filters are immutable. Two are equal when they have the same structure; ``(a b) c`` and ``a b c`` have. `str`
    gives the query string; no text at all is the filter that every record matches.
    """

    __slots__ = ("_node", "_test")

    _node: Node
    _test: Test | None

    def __init__(self, node: Node) -> None:
        if node.depth > MAX_DEPTH:
            # A path can be of any length at once; writing it would need as many frames.
            text = write(node) if node.depth <= 2 * MAX_DEPTH else ""
            raise FilterSyntaxError(f"nested more than {MAX_DEPTH} levels deep", text=text, position=0)
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_test", None)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Parse a query string.

        Raises:
            FilterSyntaxError: `text` is not in the language, worded as the server words it; or it holds a regular
                expression that cannot be evaluated here, or is nested deeper than 100 levels, which the server
                might accept. Positions in the text of the error count UTF-16 units, as the server's do; the
                attribute `position` is an index into `text`.
        """
        return cls(parse(text))

    @classmethod
    def of(cls, value: Filter | str | None) -> Filter | None:
        """Turn what a ``filter=`` argument may be into a filter, or None when every record matches.

        Raises:
            FilterSyntaxError: a query string that `Filter.parse` refuses.
            TypeError: anything but a filter, a string or None.
        """
        if value is None:
            return None
        node = parse(value) if isinstance(value, str) else _node_of(value)
        if node is None:
            raise TypeError(f"a filter is a Filter, a query string or None, not {type(value).__name__}")
        return None if isinstance(node, Everything) else cls(node)

    def matches(self, record: Any) -> bool:
        """Tell whether `record`, decoded JSON, satisfies the filter.

        Strings are searched inside lists and mappings too, as the server does. Takes one to a few microseconds.

        Raises:
            TypeError: the part of the record that is looked at holds what JSON cannot, such as a `datetime`.
        """
        test = self._test
        if test is None:
            test = compile_node(self._node)
            object.__setattr__(self, "_test", test)
        return test(record)

    def __and__(self, other: Filter) -> Filter:
        node = _node_of(other)
        return NotImplemented if node is None else Filter(all_of(self._node, node))

    def __or__(self, other: Filter) -> Filter:
        node = _node_of(other)
        return NotImplemented if node is None else Filter(any_of(self._node, node))

    def __invert__(self) -> Filter:
        if isinstance(self._node, Not):
            return Filter(self._node.child)
        if isinstance(self._node, Everything):
            return Filter(Compare(">", math.inf))  # nothing is: the language has no word for "no record"
        return Filter(Not(self._node))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a filter is neither true nor false: combine filters with & | ~ instead of and, or, not; "
            "write (F.x > 1) & (F.x < 5) instead of 1 < F.x < 5; and ask filter.matches(record) about a record"
        )

    def __eq__(self, other: object) -> bool:
        node = _node_of(other)
        return NotImplemented if node is None else self._node == node

    def __hash__(self) -> int:
        return hash((Filter, self._node))

    def __str__(self) -> str:
        return write(self._node)

    def __repr__(self) -> str:
        return f"Filter.parse({str(self)!r})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a filter is immutable; {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a filter is immutable; {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Filter.parse, (str(self),)


def _node_of(value: object) -> Node | None:
    return value._node if isinstance(value, Filter) else None  # noqa: SLF001 - the class's own module
