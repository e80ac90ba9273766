"""``ls``, ``get`` and ``call``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from aioxo.errors import ConfigurationError, MethodNotFound, ProtocolError

from .columns import COLLECTIONS, Column, columns_for, columns_of, fields_of, value_at
from .connection import collection_name, find, unknown_collection
from .parse import closest, parse_fields, parse_parameters
from .render import Format, encode, write_value, writer_for
from .text import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioxo.models import Record

    from .connection import Server

__all__ = ["call", "get", "list_collections", "list_records", "parse_filter"]


def parse_filter(text: str | None) -> Any:
    """Return a `Filter`, or None for none.

    Raises:
        FilterSyntaxError: it is not in the server's language; nothing needs to be sent to know.
    """
    from aioxo.filters import Filter  # noqa: PLC0415 - brings aiohttp

    return None if text is None else Filter.parse(text)


def list_collections(format: Format | None) -> None:
    """Write what `ls` can list."""
    columns = [Column("name", "COLLECTION"), Column("what", "WHAT IS IN IT")]
    writer = writer_for(Format.pick(format), columns)
    for name, (what, _) in COLLECTIONS.items():
        writer.write({"name": name, "what": what})
    writer.finish()


async def list_records(
    server: Server, word: str, *, filter: str | None, fields: str | None, limit: int | None, format: Format | None
) -> None:
    """Stream the records of a collection to stdout."""
    name = collection_name(word)
    chosen = Format.pick(format)
    wanted = parse_fields(fields)
    parsed = parse_filter(filter)
    if limit is not None and limit < 0:
        message = "--limit is a number of records, 0 or more"
        raise ConfigurationError(message)
    missing, number = wanted or [], 0
    columns = columns_for(name) if wanted is None else columns_of(wanted)
    if wanted is None and chosen in {Format.TABLE, Format.CSV}:
        wanted = fields_of(columns)
    elif wanted is None and chosen is Format.NAME:
        wanted = ["id", "name_label", "name", "email", "label", "host", "jobName", "device"]
    async with server.connect() as xo:
        writer = writer_for(chosen, columns)
        try:
            async with xo.collection(name).stream(filter=parsed, fields=wanted, limit=limit) as records:
                async for record in records:
                    if not isinstance(record, dict):
                        message = f"the server sent one of the {name} that is not a JSON object: {encode(record)[:60]}"
                        raise ProtocolError(message)
                    writer.write(record)
                    number += 1
                    missing = [field for field in missing if not _has(record, field)]
        except MethodNotFound as error:
            raise unknown_collection(name, error) from error
        writer.finish()
    if number and missing:
        noun = "field" if len(missing) == 1 else "fields"
        sys.stderr.write(f"aioxo: no record has the {noun} {', '.join(map(quoted, missing))}\n")


def _has(record: Record, field: str) -> bool:
    # The value may be null.
    above, _, last = field.rpartition(".")
    holder = value_at(record, above) if above else record
    return field in record or (isinstance(holder, dict) and last in holder)


async def get(server: Server, word: str, wanted: Sequence[str], *, fields: str | None, format: Format | None) -> None:
    """Write one or several records, named by id or name."""
    name = collection_name(word)
    chosen = Format.pick(format)
    names = parse_fields(fields)
    async with server.connect() as xo:
        collection = xo.collection(name)
        try:
            found = [await find(collection, text) for text in wanted]
            # What was found by its name came with few fields.
            records = [record if "href" not in record else await collection.get(record["id"]) for record in found]
        except MethodNotFound as error:
            raise unknown_collection(name, error) from error
    write_value(records[0] if len(records) == 1 else records, chosen, names)


async def call(server: Server, method: str, words: Sequence[str], *, format: Format | None) -> None:
    """Call a JSON-RPC method and write its result."""
    parameters = parse_parameters(words)
    chosen = Format.pick(format)
    async with server.connect() as xo:
        try:
            result = await xo.connection.call(method, parameters, xo.timeouts.call)
        except MethodNotFound as error:
            known = await xo.methods()
            if method in known:
                raise
            message = f"the server has no method {quoted(method)}{closest(method, known)}"
            raise MethodNotFound(message, code=error.code) from error
    write_value(result, chosen)
