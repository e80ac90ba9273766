r"""The filter language: its syntax tree, its parser and its writer.

The grammar, alternatives tried in this order (space is JavaScript's ``\s``)::

    input  := space term*                       no term at all matches everything
    term   := ( '(' space term+ ')'             all of
              | '|' space '(' space term+ ')'   any of
              | '!' space term                  not
              | ('>' | '>=' | '<' | '<=') raw   compare with a number
              | name space ':' space term       apply the term to a property
              | name '?'                        the property is truthy
              | quoted | regex | glob ) space
    name   := quoted | raw

Every alternative starts with characters of its own, except the last four, which are told apart after the name. The
parser therefore looks at each part of the text a bounded number of times. Like the server's, it does not say what
is wrong with a term: it takes as many as it can and then misses the end of the input.

Trees are kept in one canonical form (no group of one, no "all of" directly inside "all of"), so that two filters
are equal exactly when they are written the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from aioxo.errors import FilterSyntaxError
from aioxo.filters._javascript import SPACE, is_cased, number_text, parse_number, unit_length
from aioxo.filters._regex import RegexError, compile_regex

__all__ = [
    "MAX_DEPTH",
    "AllOf",
    "AnyOf",
    "Compare",
    "Everything",
    "Glob",
    "Node",
    "Not",
    "NumberWord",
    "Operator",
    "Property",
    "Regex",
    "Truthy",
    "Word",
    "all_of",
    "any_of",
    "parse",
    "write",
]

#: Deepest nesting of groups, negations and properties. The server has no such limit; people's filters stay below 10.
MAX_DEPTH: Final = 100

Operator: TypeAlias = Literal[">", ">=", "<", "<="]


@dataclass(frozen=True, slots=True)
class Everything:
    """The empty filter."""

    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Word:
    """Some string contains `text`, in any case."""

    text: str
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class NumberWord:
    """Some number equals `text` read as a number, or some string contains `text`, in any case."""

    text: str
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Glob:
    """Some line of some string contains the pieces of `text` between asterisks, in order and in any case."""

    text: str
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Regex:
    """Some string is matched by `source`, JavaScript's syntax, as it stands between the slashes."""

    source: str
    ignore_case: bool
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """The value itself, turned into a number, compares so with `limit`."""

    operator: Operator
    limit: float
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Truthy:
    """The property `name` is truthy."""

    name: str
    depth: int = field(default=0, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Property:
    """`child` holds for the property `name`."""

    name: str
    child: Node
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + self.child.depth)


@dataclass(frozen=True, slots=True)
class Not:
    """`child` does not hold."""

    child: Node
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + self.child.depth)


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of two or more hold."""

    children: tuple[Node, ...]
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max(child.depth for child in self.children))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of two or more holds."""

    children: tuple[Node, ...]
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max(child.depth for child in self.children))


Node: TypeAlias = (
    Everything | Word | NumberWord | Glob | Regex | Compare | Truthy | Property | Not | AllOf | AnyOf
)  # fmt: skip


def all_of(*nodes: Node) -> Node:
    """Return the canonical node for "all of `nodes`"."""
    flat: list[Node] = []
    for node in nodes:
        if isinstance(node, AllOf):
            flat += node.children
        elif not isinstance(node, Everything):
            flat.append(node)
    if not flat:
        return Everything()
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def any_of(*nodes: Node) -> Node:
    """Return the canonical node for "any of `nodes`", of which there must be one."""
    flat: list[Node] = []
    for node in nodes:
        if isinstance(node, Everything):
            return node
        flat += node.children if isinstance(node, AnyOf) else (node,)
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


_SPACES: Final = re.compile(f"[{SPACE}]*")
_RAW: Final = re.compile(r"[0-9A-Za-z_.$-]*")
_RAW_OR_STAR: Final = re.compile(r"[0-9A-Za-z_.$*-]*")
# A missing end quote is tolerated, but not a backslash with nothing behind it.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)(?:"|\Z)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

_Parsed: TypeAlias = "tuple[Node, int]"


def parse(text: str) -> Node:
    """Parse a query string; `FilterSyntaxError` when it is not in the language."""
    parser = _Parser(text)
    nodes, position = parser.terms(parser.skip_space(0), 0)
    if position != len(text):
        # The server counts UTF-16 units; the error's `position` indexes the Python string.
        shown = unit_length(text[:position])
        raise FilterSyntaxError(f"parse error: expected end of input at position {shown}", text=text, position=position)
    return all_of(*nodes)


class _Parser:
    """One text being parsed. Methods take a position and return what they found with the position after it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def skip_space(self, position: int) -> int:
        match = _SPACES.match(self.text, position)
        return match.end() if match else position

    def scan(self, characters: re.Pattern[str], position: int) -> int:
        """Return the end of the raw characters at `position`: those of the pattern, and cased letters."""
        text = self.text
        while True:
            match = characters.match(text, position)
            position = match.end() if match else position
            if position < len(text) and text[position] > "\x7f" and is_cased(text[position]):
                position += 1
            else:
                return position

    def terms(self, position: int, depth: int) -> tuple[list[Node], int]:
        nodes: list[Node] = []
        while found := self.term(position, depth):
            nodes.append(found[0])
            position = self.skip_space(found[1])
        return nodes, position

    def term(self, position: int, depth: int) -> _Parsed | None:
        if depth > MAX_DEPTH:
            raise FilterSyntaxError(
                f"nested more than {MAX_DEPTH} levels deep at position {position}", text=self.text, position=position
            )
        match self.text[position : position + 1]:
            case "":
                return None
            case "(":
                return self.group(position, depth, any_child=False)
            case "|":
                return self.group(self.skip_space(position + 1), depth, any_child=True)
            case "!":
                found = self.term(self.skip_space(position + 1), depth + 1)
                return found and (Not(found[0]), found[1])
            case ">" | "<":
                return self.comparison(position)
            case "/":
                return self.regex(position)
            case '"':
                return self.quoted(position, depth)
        return self.unquoted(position, depth)

    def group(self, position: int, depth: int, *, any_child: bool) -> _Parsed | None:
        if not self.text.startswith("(", position):
            return None
        nodes, position = self.terms(self.skip_space(position + 1), depth + 1)
        if not nodes or not self.text.startswith(")", position):
            return None
        return (any_of if any_child else all_of)(*nodes), position + 1

    def comparison(self, position: int) -> _Parsed | None:
        sign = self.text[position]
        operator: Operator = ">" if sign == ">" else "<"
        start = position + 1
        if self.text.startswith("=", start):
            operator = ">=" if sign == ">" else "<="
            start += 1
        end = self.scan(_RAW, start)
        if end == start:
            return None
        limit = parse_number(self.text[start:end])
        if math.isnan(limit):
            raise FilterSyntaxError("value must be a number", text=self.text, position=start)
        return Compare(operator, limit), end

    def regex(self, position: int) -> _Parsed | None:
        text = self.text
        start = position + 1
        end = text.find("/", start)
        # A slash right behind a backslash never ends the expression, not even behind an escaped backslash ...
        while end > start and text[end - 1] == "\\":
            end = text.find("/", end + 1)
        after = end + 1
        if end < 0:
            # ... unless the text ends there: then all of it, slash included, is the expression.
            if not text.endswith("\\/"):
                return None
            end = after = len(text)
        source = text[start:end]
        ignore_case = text.startswith("i", after)
        try:
            compile_regex(source, ignore_case=ignore_case)
        except RegexError as error:
            raise FilterSyntaxError(str(error), text=text, position=position) from error
        return Regex(source, ignore_case), after + ignore_case

    def quoted(self, position: int, depth: int) -> _Parsed | None:
        match = _QUOTED.match(self.text, position)
        if match is None:
            return None
        content = _ESCAPED.sub(r"\1", match[1])
        return self.property(content, match.end(), depth) or (Word(content), match.end())

    def unquoted(self, position: int, depth: int) -> _Parsed | None:
        text = self.text
        end = self.scan(_RAW, position)
        if end > position and (found := self.property(text[position:end], end, depth)):
            return found
        end = self.scan(_RAW_OR_STAR, end)
        if end == position:
            return None
        word = text[position:end]
        if "*" in word:
            return Glob(word), end
        return (Word(word) if math.isnan(parse_number(word)) else NumberWord(word)), end

    def property(self, name: str, end: int, depth: int) -> _Parsed | None:
        colon = self.skip_space(end)
        if self.text.startswith(":", colon):
            found = self.term(self.skip_space(colon + 1), depth + 1)
            if found:
                return Property(name, found[0]), found[1]
        if self.text.startswith("?", end):
            return Truthy(name), end + 1
        return None


def write(node: Node, *, top: bool = True) -> str:
    """Return the query string for `node`, such that `parse` gives the same node again."""
    match node:
        case Everything():
            return ""
        case Word(text):
            # Unquoted, what reads as a number would match numbers too.
            return _name(text) if math.isnan(parse_number(text)) else _quote(text)
        case NumberWord(text) | Glob(text):
            return text
        case Regex(source, ignore_case):
            return f"/{source}/{'i' if ignore_case else ''}"
        case Compare(operator, limit):
            return operator + number_text(limit)
        case Truthy(name):
            return _name(name) + "?"
        case Property(name, child):
            return f"{_name(name)}:{write(child, top=False)}"
        case Not(child):
            return "!" + write(child, top=False)
        case AllOf(children):
            joined = " ".join(write(child, top=False) for child in children)
            return joined if top else f"({joined})"
        case AnyOf(children):
            return f"|({' '.join(write(child, top=False) for child in children)})"


def _name(text: str) -> str:
    # Letters beyond ASCII are quoted too: whether they are raw depends on the server's version of Unicode.
    match = _RAW.fullmatch(text)
    return text if match and text else _quote(text)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
