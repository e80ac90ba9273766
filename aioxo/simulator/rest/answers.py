"""The answers handlers give, byte for byte as a real server formats them, in the words of the dialect."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import zlib
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aioxo.simulator.rest.routes import BASE

if TYPE_CHECKING:
    from aioxo.simulator.failures import Failure
    from aioxo.simulator.rest.routes import Call

JSON = "application/json; charset=utf-8"
COMPRESS_FROM = 1024
#: A header that never goes out: it has the server take off the Content-Type that aiohttp adds.
NO_CONTENT_TYPE = "X-No-Content-Type"
COMPRESS_APART_FROM = 2**20


def pretty(data: Any) -> bytes:
    """Encode as a real server does: two spaces, no newline at the end."""
    return orjson.dumps(data, option=orjson.OPT_INDENT_2)


def accepted_encoding(request: web.Request) -> str | None:
    """Return the encoding a body is to be sent in, or None: gzip, else deflate, if the client accepts it."""
    offered = {}
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        offered[name.strip()] = parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return next((name for name in ("gzip", "deflate") if offered.get(name, offered.get("*", False))), None)


def compressor(encoding: str) -> zlib._Compress:
    """Return a compressor for one of the encodings that `accepted_encoding` names."""
    return zlib.compressobj(wbits=31 if encoding == "gzip" else 15)


async def body_answer(
    request: web.Request,
    body: bytes,
    content_type: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    etag: bool = True,
) -> web.Response:
    """Answer with a body that is known as a whole: with an ETag, compressed when large, 304 when the client has it."""
    headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"} | (headers or {})
    if etag:
        tag = f'W/"{len(body):x}-{base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()[:27]}"'
        headers["ETag"] = tag
        if request.method in {"GET", "HEAD"} and status == 200 and _has(request, tag):
            return web.Response(status=304, headers={"ETag": tag})
    encoding = accepted_encoding(request) if len(body) >= COMPRESS_FROM else None
    if encoding is None:
        return web.Response(status=status, body=body, headers=headers)
    if len(body) < COMPRESS_APART_FROM:
        packed = _compress(body, encoding)
    else:
        packed = await asyncio.to_thread(_compress, body, encoding)
    answer = web.Response(status=status, body=packed, headers=headers | {"Content-Encoding": encoding})
    if request.version >= (1, 1):
        answer.enable_chunked_encoding()
    return answer


def _has(request: web.Request, tag: str) -> bool:
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    return "*" in known or tag.removeprefix("W/") in known


def _compress(body: bytes, encoding: str) -> bytes:
    packer = compressor(encoding)
    return packer.compress(body) + packer.flush()


async def json_answer(
    call: Call, data: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with pretty JSON."""
    return await body_answer(call.request, pretty(data), JSON, status=status, headers=headers)


async def text_answer(
    request: web.Request, text: str, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with plain text."""
    return await body_answer(request, text.encode(), "text/plain; charset=utf-8", status=status, headers=headers)


async def created(call: Call, object_id: str, collection: str | None = None) -> web.Response:
    """Answer that an object was made: 201, its id, and where it is when `collection` is given."""
    if call.state.dialect.text_answers:
        return await text_answer(call.request, object_id)
    headers = {} if collection is None else {"Location": f"{BASE}/{collection}/{object_id}"}
    return await json_answer(call, {"id": object_id}, status=201, headers=headers)


def no_content() -> web.Response:
    """Answer that it is done."""
    return web.Response(status=204)


async def deleted(call: Call) -> web.Response:
    """Answer that an object is gone."""
    return await text_answer(call.request, "OK") if call.state.dialect.text_answers else no_content()


async def accepted(call: Call, task_id: str) -> web.Response:
    """Answer that an action goes on under this task."""
    location = f"{BASE}/tasks/{task_id}"
    if call.state.dialect.text_answers:
        return web.Response(status=202, body=location.encode(), headers={NO_CONTENT_TYPE: ""})
    return await json_answer(call, {"taskId": task_id}, status=202, headers={"Location": location})


def redirect(location: str, *, status: int = 302) -> web.Response:
    """Answer that the client should ask elsewhere, in the words of a real server."""
    words = {302: "Found", 307: "Temporary Redirect"}[status]
    headers = {"Location": location, "Vary": "Accept, Accept-Encoding", "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(status=status, body=f"{words}. Redirecting to {location}".encode(), headers=headers)


async def refusal(request: web.Request, failure: Failure, *, as_text: bool = False) -> web.Response:
    """Answer with a failure; `as_text` renders the two commonest ones as old servers do."""
    headers = {"WWW-Authenticate": 'Basic realm="xo"'} if failure.status == 401 else {}
    if as_text and failure.status in {401, 404}:
        words = "Unauthorized" if failure.status == 401 else "Not Found"
        return await text_answer(request, words, status=failure.status)
    return await body_answer(request, pretty(failure.rest_body()), JSON, status=failure.status, headers=headers)


def no_route(request: web.Request, path: str) -> web.Response:
    """Answer that there is no such route: a page of HTML."""
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n<body>\n'
        f"<pre>Cannot {html.escape(request.method)} {html.escape(path)}</pre>\n</body>\n</html>\n"
    )
    headers = {"Content-Type": "text/html; charset=utf-8", "Vary": "Accept-Encoding"}
    return web.Response(status=404, body=page.encode(), headers=headers)
