"""Collections: filtered, cut, picked and sent as JSON, NDJSON or Markdown.

The result is fixed before the first byte goes out, so an error can only come instead of it. NDJSON goes out one HTTP
chunk per record; between some of them other requests get their turn, however fast the client reads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aioxo.errors import FilterSyntaxError
from aioxo.filters import Filter
from aioxo.simulator.failures import BadRequest, Failure, InvalidParameters
from aioxo.simulator.rest.answers import JSON, body_answer, pretty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aioxo.simulator.rest.routes import Call
    from aioxo.simulator.state import Record

QUERY = {"fields": "string", "ndjson": "boolean", "markdown": "boolean", "filter": "string", "limit": "number"}
_TURN = 64


def parse_filter(call: Call, text: str) -> Filter:
    """Return the filter; raises a `Failure` of the dialect's status when it cannot be parsed."""
    try:
        return Filter.parse(text)
    except FilterSyntaxError as error:
        failure = BadRequest if call.state.dialect.bad_filter_status == 400 else Failure
        raise failure(str(error), {"stringToParse": text}) from None


def chosen(call: Call, records: Iterable[Record]) -> list[Record]:
    """Return the records that the query's `filter` and `limit` leave; a negative or fractional limit is none."""
    text = call.query.get("filter", "")
    if text:
        wanted = parse_filter(call, text)
        records = [record for record in records if wanted.matches(record)]
    limit = call.query.get("limit")
    result = list(records)
    return result[: int(limit)] if limit is not None and limit >= 0 and limit == int(limit) else result


async def listing(call: Call, records: Iterable[Record], base: str | Callable[[Record], str]) -> web.StreamResponse:
    """Answer with a collection; `base` is where its records live, or says so for each."""
    ndjson = _wants(call, "ndjson")
    markdown = _wants(call, "markdown") and call.state.dialect.modern_routes
    if ndjson and markdown:
        raise InvalidParameters("Cannot use both ndjson and markdown output formats simultaneously")
    records = chosen(call, records)
    hrefs = [f"{base}/{record['id']}" for record in records] if isinstance(base, str) else [base(r) for r in records]
    fields = call.query.get("fields")
    items: Iterator[Any]
    if fields is None:
        items = iter(hrefs)
    else:
        pick = picker(fields)
        link = call.state.dialect.link
        items = (_linked(pick(record), link, href) for record, href in zip(records, hrefs, strict=True))
    if ndjson:
        return await send_lines(call.request, items, "application/x-ndjson")
    if markdown:
        return await _markdown(call, list(items))
    if call.state.dialect.streamed_json:
        return await _streamed(call, items)
    return await body_answer(call.request, pretty(list(items)), JSON)


def _wants(call: Call, flag: str) -> bool:
    """Whether a format is asked for: a modern server compares with the exact text, so `True` is valid and ignored."""
    if call.state.dialect.flags_by_presence:
        return flag in call.query
    return call.raw_query.get(flag) == ["true"]


def _linked(record: Record, link: str, href: str) -> Record:
    record.pop(link, None)
    record[link] = href
    return record


async def send_lines(request: web.Request, items: Iterable[Any], content_type: str) -> web.StreamResponse:
    """Send one chunk per item: compact JSON and a newline."""
    answer = web.StreamResponse(headers={"Content-Type": content_type})
    await answer.prepare(request)
    if request.method == "HEAD":
        return answer
    for number, item in enumerate(items, start=1):
        await answer.write(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return answer


async def _streamed(call: Call, items: Iterable[Any]) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(call.request)
    if call.request.method == "HEAD":
        return answer
    separator = b"[\n"
    for number, item in enumerate(items, start=1):
        await answer.write(separator + orjson.dumps(item))
        separator = b",\n"
        if number % _TURN == 0:
            await asyncio.sleep(0)
    await answer.write(b"[\n\n]\n" if separator == b"[\n" else b"\n]\n")
    return answer


async def _markdown(call: Call, items: Sequence[Any]) -> web.StreamResponse:
    if not items:
        text = "No results."
    elif isinstance(items[0], str):
        text = "\n".join(items)
    else:
        columns = [name for name in items[0] if name != "href"]
        rows = [columns, ["---"] * len(columns), *([_cell(item.get(name)) for name in columns] for item in items)]
        text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    headers = {"Content-Type": "text/markdown; charset=utf-8", "Vary": "Accept-Encoding"}
    answer = web.Response(body=text.encode(), headers=headers)
    if call.request.version >= (1, 1):
        answer.enable_chunked_encoding()
    return answer


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text.replace("|", "\\|").replace("\r\n", " ").replace("\n", " ")


# --- fields


def picker(fields: str) -> Callable[[Record], Record]:
    """Return a function that copies a record with only these comma-separated fields; `*` is all of them.

    A field may be a path (`CPUs.number`, `tags.0`); the copy has the same nesting. Unknown fields are left out.
    """
    if fields == "*":
        return dict
    names = fields.split(",")
    if not any("." in name or "[" in name for name in names):
        return lambda record: {name: record[name] for name in names if name in record}
    paths = [name.replace("[", ".").replace("]", "").split(".") for name in names]

    def pick(record: Record) -> Record:
        picked: Record = {}
        for name, path in zip(names, paths, strict=True):
            if name in record:
                picked[name] = record[name]
            else:
                _copy(record, picked, path)
        return picked

    return pick


def _copy(source: Any, target: Record, path: list[str]) -> None:
    """Copy the value at `path` of `source` into `target`, if there is one; shared parts are replaced, not changed."""
    values = [source]
    for name in path:
        value = _member(values[-1], name)
        if value is _ABSENT:
            return
        values.append(value)
    copied = values[-1]
    held: list[Any] = [target]
    for name in path[:-1]:
        held.append(_member(held[-1], name))
    for name, container, original in zip(reversed(path), reversed(held), reversed(values[:-1]), strict=True):
        copied = _with(container, name, copied, like=original)
    target.update(copied)


_ABSENT = object()


def _member(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, _ABSENT)
    if isinstance(value, list) and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    return _ABSENT


def _with(container: Any, name: str, value: Any, *, like: Any) -> Any:
    """Return `container` (or a new one of the kind of `like`) with `name` set to `value`."""
    if isinstance(like, list):
        elements = list(container) if isinstance(container, list) else []
        elements += [None] * (int(name) + 1 - len(elements))
        elements[int(name)] = value
        return elements
    return (dict(container) if isinstance(container, dict) else {}) | {name: value}
