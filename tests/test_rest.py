"""The REST interface against scripted servers: queries, both dialects of answers, redirects, streams."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioxo
from aioxo.rest import encode_query, segment

from .cancellation import cancelled_at_every_await
from .peers import TOKEN, FakeServer, Line, Request, json_answer, ndjson, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES | st.integers(), max_size=4))
def test_queries_arrive_as_they_were(params: dict[str, Any]) -> None:
    query = encode_query(params)
    assert query.isascii()
    assert not set(query) & set(' "<>#+/?\r\n')
    assert parse_qsl(query, keep_blank_values=True) == [(name, str(value)) for name, value in params.items()]


def test_flags_in_queries() -> None:
    assert encode_query({"a": True, "b": False, "c": None, "d": [1, "x"], "e": 0, "f": ""}) == "a=true&d=1&d=x&e=0&f="


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10))
def test_segments_stay_segments(text: str) -> None:
    from urllib.parse import unquote

    if text in {".", ".."}:
        with pytest.raises(aioxo.ConfigurationError):
            segment(text)
        return
    assert unquote(segment(text)) == text
    assert not set(segment(text)) & set("/?#")


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_what_would_leave_the_collection_is_refused(text: str) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="cannot be an id"):
        segment(text)


async def test_a_list_asks_for_a_stream_with_the_cookie(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.streams("GET /rest/v0/vms", {"id": "a"}, {"id": "b"})
    assert await xo.vms.list(fields=["id", "CPUs.number"], limit=7) == [{"id": "a"}, {"id": "b"}]
    request = peer.requests[-1]
    assert request.query == {"fields": ["id,CPUs.number"], "limit": ["7"], "ndjson": ["true"]}
    assert request.header("Cookie") == f"authenticationToken={TOKEN}"
    assert request.header("Authorization") is None


async def test_all_fields_unless_asked_otherwise(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.streams("GET /rest/v0/vms")
    assert await xo.vms.list() == []
    assert peer.requests[-1].query == {"fields": ["*"], "ndjson": ["true"]}


async def test_hrefs(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.streams("GET /rest/v0/vms", "/rest/v0/vms/a", "/rest/v0/vms/b")
    assert await xo.vms.hrefs(limit=2) == ["/rest/v0/vms/a", "/rest/v0/vms/b"]
    assert peer.requests[-1].query == {"limit": ["2"], "ndjson": ["true"]}


async def test_the_link_of_old_servers_gets_its_name_of_today(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.streams("GET /rest/v0/vms", {"id": "a", "url": "/rest/v0/vms/a"}, {"id": "b", "url": "/rest/v0/vms/b"})
    peer.streams("GET /rest/v0/servers", {"id": "s", "href": "/rest/v0/servers/s", "url": "https://pool"})
    peer.streams("GET /rest/v0/backup-repositories", {"id": "r", "url": "nfs://host/path"})
    assert [vm["href"] for vm in await xo.vms.list()] == ["/rest/v0/vms/a", "/rest/v0/vms/b"]
    assert (await xo.servers.list())[0]["url"] == "https://pool"
    assert await xo.backup_repositories.list() == [{"id": "r", "url": "nfs://host/path"}]


async def test_records_come_one_by_one(peer: FakeServer, xo: aioxo.Client) -> None:
    go_on = asyncio.Event()

    async def answer(line: Line, request: Request) -> None:
        await line.start_chunked("application/x-ndjson")
        await line.chunk(b'{"id": "a"}\n{"id"')
        await go_on.wait()
        await line.chunk(b': "b"}\n')
        await line.chunk(b"")

    peer.routes["GET /rest/v0/vms"] = answer
    async with xo.vms.stream() as vms:
        assert await anext(vms) == {"id": "a"}
        assert vms.delivered == 1
        go_on.set()
        assert [vm async for vm in vms] == [{"id": "b"}]
        assert vms.delivered == 2
        assert [vm async for vm in vms] == []


async def test_an_empty_list_has_an_empty_body(peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(200, b"", None)

    peer.routes["GET /rest/v0/vms"] = answer
    assert await xo.vms.list() == []


async def test_a_stream_that_was_not_entered(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="async with"):
        await anext(xo.vms.stream())


async def test_leaving_a_stream_early_drops_it_and_the_next_request_works(peer: FakeServer, xo: aioxo.Client) -> None:
    async def endless(line: Line, request: Request) -> None:
        await line.start_chunked("application/x-ndjson")
        while not line.writer.is_closing():
            await line.chunk(b'{"id": "a"}\n' * 100)

    peer.routes["GET /rest/v0/vms"] = endless
    peer.streams("GET /rest/v0/hosts", {"id": "h"})
    async with xo.vms.stream() as vms:
        async for vm in vms:
            assert vm == {"id": "a"}
            break
    assert await xo.hosts.list() == [{"id": "h"}]


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        ("application/json; charset=utf-8", b'{"id": 1}', {"id": 1}),
        ("application/json", b"null", None),
        ("application/json", b"", None),
        (None, b'{"id": 1}', {"id": 1}),
        (None, b"OK", "OK"),
        (None, b"1b3e9f2c-aa", "1b3e9f2c-aa"),
        ("text/plain; charset=utf-8", b'{"not": "decoded"}', '{"not": "decoded"}'),
        ("application/x-ndjson", b"1\n2\n", [1, 2]),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
    ],
)
async def test_what_an_answer_is(
    peer: FakeServer, xo: aioxo.Client, kind: str | None, body: bytes, value: object
) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(200, body, kind)

    peer.routes["GET /rest/v0/thing"] = answer
    assert await xo.request("get", "/thing") == value
    assert await xo.request("GET", "/rest/v0/thing") == value


async def test_a_body_is_sent_as_json(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["POST /rest/v0/thing"] = json_answer({"ok": True}, 201)
    assert await xo.request("POST", "/thing", json={"name": "é"}, params={"sync": True}) == {"ok": True}
    request = peer.requests[-1]
    assert request.header("Content-Type") == "application/json"
    assert json.loads(request.body) == {"name": "é"}
    assert request.query == {"sync": ["true"]}
    peer.routes["GET /rest/v0/thing"] = json_answer(1)
    await xo.request("GET", "/thing")
    assert peer.requests[-1].header("Content-Type") is None


async def test_a_path_needs_its_slash(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="starts with a slash"):
        await xo.request("GET", "vms")


@pytest.mark.parametrize("base", ["", "/tools/xo"])
async def test_users_me_is_followed_with_verb_and_body(base: str) -> None:
    async def redirect(line: Line, request: Request) -> None:
        # The server knows nothing of the base path that a proxy put in front of it.
        await line.respond(307, b"", None, headers={"Location": "/rest/v0/users/u%2F1/thing?x=1"})

    async with server(base=base) as peer, aioxo.connect(peer.url, token=TOKEN) as xo:
        peer.routes["POST /rest/v0/users/me/thing"] = redirect
        peer.routes["POST /rest/v0/users/u%2F1/thing"] = json_answer("done")
        assert await xo.request("POST", "/users/me/thing", json={"a": 1}, params={"x": 1}) == "done"
        first, second = peer.requests[-2:]
        assert second.target == base + "/rest/v0/users/u%2F1/thing?x=1"
        assert first.body == second.body == b'{"a":1}'
        assert second.header("Content-Type") == "application/json"
        assert second.header("Cookie") == f"authenticationToken={TOKEN}"


async def test_redirects_without_end(peer: FakeServer, xo: aioxo.Client) -> None:
    async def redirect(line: Line, request: Request) -> None:
        await line.respond(307, b"", None, headers={"Location": "/rest/v0/round"})

    peer.routes["GET /rest/v0/round"] = redirect
    with pytest.raises(aioxo.ProtocolError, match="more than 3 redirects"):
        await xo.request("GET", "/round")


async def test_an_upload_is_not_sent_twice(peer: FakeServer, xo: aioxo.Client) -> None:
    async def redirect(line: Line, request: Request) -> None:
        await line.respond(307, b"", None, headers={"Location": "/rest/v0/elsewhere"})

    peer.routes["POST /rest/v0/srs/s/vdis"] = redirect
    with pytest.raises(aioxo.NotXenOrchestra, match="redirected to /rest/v0/elsewhere"):
        await xo.srs.import_vdi("s", b"x" * 512, format="raw")


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/signin",
        "/rest/v0",
        "/other",
        "http://[::1",
        "http://127.0.0.1:1/rest/v0/pools",
        "//127.0.0.1:1/rest/v0/pools",
        "https://evil.example/rest/v0/pools",
        "/rest/v0/\x1b[2J",
        "/signin\x1b[2J",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_other_redirect_is_followed(peer: FakeServer, xo: aioxo.Client, status: int, location: str) -> None:
    async def redirect(line: Line, request: Request) -> None:
        await line.respond(status, b"", None, headers={"Location": location})

    peer.routes["GET /rest/v0/thing"] = redirect
    before = len(peer.requests)
    with pytest.raises((aioxo.NotXenOrchestra, aioxo.MethodNotFound)) as raised:
        await xo.request("GET", "/thing")
    assert str(raised.value).isprintable()
    if isinstance(raised.value, aioxo.NotXenOrchestra):
        assert len(peer.requests) == before + 1


@pytest.mark.parametrize("path", ["/vms/a b", "/vms\r\nX-Header: y", "/vms/\x00", "/vms\u2028"])
async def test_a_path_that_would_break_the_request(xo: aioxo.Client, path: str) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="percent-encode") as raised:
        await xo.request("GET", path)
    assert str(raised.value).isprintable()


async def test_a_record_by_its_id(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["GET /rest/v0/vms/a%2Fb"] = json_answer({"id": "a/b"})
    assert await xo.vms.get("a/b") == {"id": "a/b"}
    peer.routes["GET /rest/v0/vms/c"] = json_answer([1])
    with pytest.raises(aioxo.ProtocolError, match="not an object"):
        await xo.vms.get("c")


async def test_a_record_is_deleted(peer: FakeServer, xo: aioxo.Client) -> None:
    async def gone(line: Line, request: Request) -> None:
        await line.send(line.head(204, {}))

    peer.routes["DELETE /rest/v0/vms/a"] = gone
    await xo.vms.delete("a")
    assert peer.requests[-1].target == "/rest/v0/vms/a"


async def test_objects_come_over_http_from_a_url_sent_byte_for_byte(peer: FakeServer, xo: aioxo.Client) -> None:
    place = "/api/t%2Fk%20n-%C3%A9/objects%21.json"

    async def answer(line: Line, request: Request) -> None:
        # As the server does it: this type, one chunk a record, a blank line for an object that went meanwhile.
        await line.start_chunked("application/json")
        for piece in (ndjson({"id": "a", "type": "VM"}), b"\n", ndjson({"id": "b", "type": "SR"})):
            await line.chunk(piece)
        await line.chunk(b"")

    peer.returns("xo.getAllObjects", {"$getFrom": place})
    peer.routes[f"GET {place}"] = answer
    assert set(await xo.objects(filter={"type": "VM"}, limit=5)) == {"a", "b"}
    assert peer.calls[-1]["params"] == {"ndjson": True, "filter": {"type": "VM"}, "limit": 5}
    assert peer.requests[-1].target == place
    # The URL is the credential: the token has no business there.
    assert peer.requests[-1].header("Cookie") is None


@pytest.mark.parametrize(
    ("record", "match"), [([1], "not an object with an id"), ({"type": "VM"}, "not an object with an id")]
)
async def test_objects_without_an_id(peer: FakeServer, xo: aioxo.Client, record: object, match: str) -> None:
    peer.returns("xo.getAllObjects", {"$getFrom": "/api/x"})
    peer.streams("GET /api/x", record)
    with pytest.raises(aioxo.ProtocolError, match=match):
        await xo.objects()


@pytest.mark.parametrize("reply", [None, [], {}, {"$getFrom": 1}, {"$getFrom": "http://evil.example/"}])
async def test_objects_from_nowhere(peer: FakeServer, xo: aioxo.Client, reply: object) -> None:
    peer.returns("xo.getAllObjects", reply)
    with pytest.raises(aioxo.ProtocolError, match="names no place"):
        await xo.objects()


async def test_a_one_shot_url_that_was_used_leads_to_the_login_page(peer: FakeServer, xo: aioxo.Client) -> None:
    async def redirect(line: Line, request: Request) -> None:
        await line.respond(302, b"", None, headers={"Location": "/signin"})

    peer.returns("xo.getAllObjects", {"$getFrom": "/api/used"})
    peer.routes["GET /api/used"] = redirect
    with pytest.raises(aioxo.NotXenOrchestra, match="status 302"):
        await xo.objects()


async def test_arguments_that_the_server_would_misread(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="must not be negative"):
        xo.vms.stream(limit=-1)
    with pytest.raises(aioxo.ConfigurationError, match="list of names"):
        xo.vms.stream(fields="id")
    for name in ("a/b", ""):
        with pytest.raises(aioxo.ConfigurationError, match="not the name of a collection"):
            xo.collection(name)


async def test_many_requests_at_once_share_the_connections(peer: FakeServer) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(200, b"1")

    peer.routes["GET /rest/v0/thing"] = answer
    async with aioxo.connect(peer.url, token=TOKEN, connections=3) as xo:
        assert await asyncio.gather(*(xo.request("GET", "/thing") for _ in range(30))) == [1] * 30
        assert peer.connections <= 3


# Cancelling.


async def test_a_list_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.start_chunked("application/x-ndjson")
        for name in "abc":
            await line.chunk(ndjson({"id": name}))
            await asyncio.sleep(0)
        await line.chunk(b"")

    peer.routes["GET /rest/v0/vms"] = answer

    async def operation() -> None:
        assert await xo.vms.list() == [{"id": "a"}, {"id": "b"}, {"id": "c"}]

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, operation)]
    assert len(outcomes) >= 4
    assert set(map(type, outcomes)) == {asyncio.CancelledError}


async def test_a_stream_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.streams("GET /rest/v0/vms", *({"id": str(number)} for number in range(5)))

    async def operation() -> None:
        async with xo.vms.stream() as vms:
            async for _ in vms:
                break

    async def check() -> None:
        assert len(await xo.vms.list()) == 5

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) == {asyncio.CancelledError}


async def test_entering_the_client_cancelled_at_every_await(peer: FakeServer) -> None:
    async def operation() -> None:
        async with aioxo.connect(peer.url, username="admin", password="pass:word") as xo:
            assert await xo.call("echo", a=1) == {"a": 1}

    async def check() -> None:
        pass

    peer.returns("token.create", TOKEN)
    peer.returns("token.deleteOwn", True)
    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert asyncio.CancelledError in map(type, outcomes)
    await peer.wait_for(lambda: not peer.sockets)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "POST", "PATCH"])
async def test_a_request_that_changes_something_is_sent_once(peer: FakeServer, xo: aioxo.Client, method: str) -> None:
    sent = 0

    async def cut(line: Line, request: Request) -> None:
        nonlocal sent
        sent += 1
        raise EOFError

    peer.routes[f"{method} /rest/v0/vms/a"] = cut
    with pytest.raises(aioxo.ConnectionLost) as caught:
        await xo.request(method, "/vms/a")
    assert caught.value.sent
    assert sent == 1


async def test_an_export_is_started_once(peer: FakeServer, xo: aioxo.Client) -> None:
    sent = 0

    async def cut(line: Line, request: Request) -> None:
        nonlocal sent
        sent += 1
        raise EOFError

    peer.routes["GET /rest/v0/vdis/d.vhd"] = cut
    with pytest.raises(aioxo.ConnectionLost):
        async with xo.vdis.open_export("d"):
            pytest.fail("opened")
    assert sent == 1


async def test_a_one_shot_url_is_in_no_error(peer: FakeServer, xo: aioxo.Client) -> None:
    async def cut(line: Line, request: Request) -> None:
        raise EOFError

    peer.routes["GET /api/S3CRET"] = cut
    peer.returns("xo.getAllObjects", {"$getFrom": "/api/S3CRET"})
    with pytest.raises(aioxo.ConnectionLost) as caught:
        await xo.objects()
    assert "S3CRET" not in str(caught.value)
