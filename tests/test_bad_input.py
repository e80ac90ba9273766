"""Bad input gets a clear error and loses nothing: the whole client against servers that are wrong in one way each.

Every error that comes out here is looked at by `told`: its sentence is one line that helps, and neither the token nor
the password is in it, in anything it hangs on to, or in what was logged on the way at the finest level.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.errors import EXCERPT_LIMIT
from aioxo.models import Timeouts

from .peers import TOKEN, FakeServer, Handler, Line, Request, json_answer, ndjson, serve, server, unused_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

PASSWORD = "pass:word"
QUICK = Timeouts(connect=0.2, read=0.2, close=0.5)


class Told:
    """The error that a block raised."""

    value: aioxo.XOError


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., contextlib.AbstractContextManager[Told]]:
    @contextlib.contextmanager
    def watch(kind: type[aioxo.XOError], match: str) -> Iterator[Told]:
        result = Told()
        with caplog.at_level(logging.DEBUG), pytest.raises(kind, match=match) as raised:
            yield result
        result.value = raised.value
        assert type(raised.value) is kind
        sentence = str(raised.value)
        assert sentence.isprintable()
        assert len(sentence) < 3 * EXCERPT_LIMIT
        assert len(sentence.split()) >= 3
        assert_no_secret(raised.value)
        shown = [record.getMessage() + repr(record.args) for record in caplog.records]
        shown += traceback.format_exception(raised.value, chain=True)
        for text in shown:
            # The lines of code in a traceback name the variable, not its value.
            assert TOKEN not in text
            assert PASSWORD not in text.replace(f'PASSWORD = "{PASSWORD}"', "")

    return watch


def assert_no_secret(error: BaseException) -> None:
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        current = left.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        left += [current.__cause__, current.__context__]
        shown = f"{current} {current!r} {current.args!r} {vars(current)!r}"
        assert TOKEN not in shown
        assert PASSWORD not in shown


async def entered(url: str, **options: Any) -> None:
    async with aioxo.connect(url, **({"token": TOKEN} | options)):
        pytest.fail("signed in")


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN, timeouts=QUICK) as client:
        yield client


# Nobody there, or somebody else.


@pytest.mark.parametrize("credentials", [{"token": TOKEN}, {"token": None, "username": "u", "password": PASSWORD}])
async def test_nobody_there(told: Any, credentials: dict[str, str]) -> None:
    with told(aioxo.CannotConnect, "cannot connect: .*is the server running and the port right"):
        await entered(f"http://127.0.0.1:{unused_port()}", **credentials)
    with told(aioxo.CannotConnect, "no such host; check the name"):
        await entered("http://server.invalid", **credentials)


@pytest.mark.parametrize("credentials", [{"token": TOKEN}, {"token": None, "username": "u", "password": PASSWORD}])
@pytest.mark.parametrize(
    ("reply", "kind", "match"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", aioxo.NotXenOrchestra, "does not speak HTTP"),
        (b"\xff\x00garbage\r\n\r\n", aioxo.NotXenOrchestra, "does not speak HTTP"),
        (b"", aioxo.ConnectionLost, "lost before an answer came; .*https://"),
    ],
    ids=["ssh", "garbage", "empty"],
)
async def test_what_speaks_no_http(
    told: Any, credentials: dict[str, str], reply: bytes, kind: type[aioxo.XOError], match: str
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(reply)

    async with serve(script) as stranger:
        with told(kind, match):
            await entered(stranger.url, **credentials)


def answers(*arguments: Any, **options: Any) -> Callable[[Line], Any]:
    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.respond(*arguments, **options)

    return script


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (answers(200, b"<!DOCTYPE html><title>Welcome</title>", "text/html"), "a web page came instead of data"),
        (answers(403, b"<html>Forbidden</html>", "text/html; charset=utf-8"), "with a web page"),
        (answers(404, b"<html>nginx</html>", "text/html"), "no /rest/v0; is it Xen Orchestra"),
        (answers(302, b"", None, headers={"Location": "/signin"}), "redirected to /signin"),
        (answers(302, b"", None, headers={"Location": "https://sso.example/x"}), "redirects to https://sso.example"),
        (answers(307, b"", None, headers={"Location": "/rest/v1/pools"}), "redirected to /rest/v1/pools"),
        (answers(200, b'{"data": [], "apiVersion": 2}'), "not as Xen Orchestra does: .*apiVersion"),
        (answers(200, b'"hello"'), "not as Xen Orchestra does: hello"),
        (answers(200, b"", None), "not as Xen Orchestra does"),
        (answers(200, b"\x1b[2J", "text/plain"), "not as Xen Orchestra does"),
    ],
)
async def test_what_is_not_xen_orchestra(told: Any, script: Callable[[Line], Any], match: str) -> None:
    async with serve(script) as stranger:
        with told(aioxo.NotXenOrchestra, match):
            await entered(stranger.url)
        assert len(stranger.requests) == 1


async def test_an_answer_that_is_no_json(told: Any) -> None:
    async with serve(answers(200, b"{oops" * 200)) as stranger:
        with told(aioxo.ProtocolError, "the answer is not JSON"):
            await entered(stranger.url)


async def test_a_redirect_takes_the_token_nowhere(told: Any) -> None:
    async with server() as elsewhere:
        for location in (elsewhere.url + "/rest/v0/pools", elsewhere.url.removeprefix("http:") + "/rest/v0/pools"):
            for status in (301, 302, 307, 308):
                async with serve(answers(status, b"", None, headers={"Location": location})) as stranger:
                    with told(aioxo.NotXenOrchestra, f"redirects to .*{elsewhere.port}"):
                        await entered(stranger.url)
        assert elsewhere.requests == []


# A wrong token.


@pytest.mark.parametrize(
    ("body", "kind"), [(b'{"error": "invalid credentials"}', "application/json"), (b"Unauthorized", None), (b"", None)]
)
async def test_a_wrong_token_over_rest(told: Any, body: bytes, kind: str | None) -> None:
    async with serve(answers(401, body, kind)) as peer:
        with told(aioxo.AuthenticationError, "check that the token is right and has not expired"):
            await entered(peer.url)


async def test_a_wrong_token_over_the_websocket(told: Any, peer: FakeServer) -> None:
    wrong = "wr0ng-token"
    async with aioxo.connect(peer.url, token=wrong) as xo:
        with told(aioxo.AuthenticationError, "invalid credentials; check the token") as error:
            await xo.call("echo")
        assert wrong not in repr(error.value)
        with told(aioxo.AuthenticationError, "invalid credentials"):
            async with xo.changes("VM"):
                pytest.fail("subscribed")


# Lists.


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (b"{oops", "{oops"),
        (b"<html>" + b"x" * 1000, "<html>xxx"),
        (b'{"id": "\xff"}', r"\\ufffd|\\xff|id"),
        (b"NaN", "NaN"),
        (b"\x1b[2J", r"\\x1b\[2J"),
    ],
)
async def test_a_record_that_is_not_json(told: Any, peer: FakeServer, xo: aioxo.Client, bad: bytes, shown: str) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(200, ndjson({"id": "a"}, {"id": "b"}) + b"\n" + bad + b"\n" + ndjson({"id": "c"}))

    peer.routes["GET /rest/v0/vms"] = answer
    got = []
    with told(aioxo.InvalidRecord, f"line 4 of the stream is not JSON .*{shown}") as error:
        async with xo.vms.stream() as vms:
            async for vm in vms:
                got.append(vm["id"])  # noqa: PERF401 - what came before the error is the point
    assert got == ["a", "b"]
    assert isinstance(error.value, aioxo.InvalidRecord)
    assert error.value.line_number == 4
    assert len(error.value.excerpt) <= EXCERPT_LIMIT
    with told(aioxo.InvalidRecord, "line 4"):
        await xo.vms.list()


def cuts(body: bytes, end: str) -> Handler:
    async def answer(line: Line, request: Request) -> None:
        await line.start_chunked("application/x-ndjson")
        await line.chunk(body)
        if end == "clean":
            await line.chunk(b"")
            return
        if end == "reset":
            await received.wait()
            line.reset()
        raise EOFError

    received = asyncio.Event()
    answer.received = received  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize("end", ["close", "reset", "clean"])
@pytest.mark.parametrize("cut", [0, 5])
async def test_a_list_that_is_cut(told: Any, peer: FakeServer, xo: aioxo.Client, cut: int, end: str) -> None:
    body = ndjson({"id": "a"}, {"id": "b"}) + b'{"id": "c"}'[:cut]
    peer.routes["GET /rest/v0/vms"] = route = cuts(body, end)
    if end == "clean" and not cut:
        assert [vm["id"] for vm in await xo.vms.list()] == ["a", "b"]
        return
    kind = aioxo.InvalidRecord if end == "clean" else aioxo.ConnectionLost
    got = []
    with told(kind, "line 3 of the stream" if end == "clean" else f"cut after {len(body)} bytes"):
        async with xo.vms.stream() as vms:
            async for vm in vms:
                got.append(vm["id"])
                if len(got) == 2:
                    route.received.set()  # type: ignore[attr-defined]
    assert got == ["a", "b"]
    assert vms.delivered == 2
    peer.streams("GET /rest/v0/vms", {"id": "z"})
    assert await xo.vms.list() == [{"id": "z"}]


async def test_a_list_that_stalls(told: Any, peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.start_chunked()
        await line.chunk(ndjson({"id": "a"}))
        await line.hung_up()

    peer.routes["GET /rest/v0/vms"] = answer
    with told(aioxo.Timeout, r"nothing came for 0\.2 s after 12 bytes"):
        await xo.vms.list()


@pytest.mark.parametrize(
    ("status", "body", "kind", "match"),
    [
        (400, {"error": "unexpected character at 3"}, aioxo.InvalidParameters, "GET /rest/v0/vms: unexpected"),
        (403, {"error": "not enough permissions"}, aioxo.Unauthorized, "not enough permissions"),
        (404, {"error": "no such thing"}, aioxo.NotFound, "no such thing"),
        (422, {"error": {"limit": {"message": "invalid number"}}}, aioxo.InvalidParameters, "limit: invalid number"),
        (500, {"error": "boom"}, aioxo.ApiError, "boom"),
        (502, {"error": "bad gateway"}, aioxo.ServiceUnavailable, "bad gateway"),
    ],
)
async def test_a_list_that_is_refused(
    told: Any, peer: FakeServer, xo: aioxo.Client, status: int, body: Any, kind: type[aioxo.ApiError], match: str
) -> None:
    peer.routes["GET /rest/v0/vms"] = json_answer(body, status)
    with told(kind, match) as error:
        await xo.vms.list()
    assert isinstance(error.value, aioxo.ApiError)
    assert error.value.status == status


async def test_a_proxy_that_answers_for_a_server_that_is_away(told: Any, peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")

    peer.routes["GET /rest/v0/vms"] = answer
    with told(aioxo.ServiceUnavailable, "502 Bad Gateway"):
        await xo.vms.list()


async def test_an_error_whose_body_is_cut_keeps_its_status(told: Any, peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(403, b'{"error"', length=100)
        raise EOFError

    peer.routes["GET /rest/v0/vms"] = answer
    with told(aioxo.Unauthorized, "HTTP status 403"):
        await xo.vms.list()


async def test_a_route_that_is_not_there(told: Any, xo: aioxo.Client) -> None:
    with told(aioxo.MethodNotFound, "no such route; is it older") as error:
        await xo.collection("unheard-of").list()
    assert isinstance(error.value, aioxo.MethodNotFound)
    assert error.value.status == 404


# Calls.


async def test_an_unknown_method(told: Any, xo: aioxo.Client) -> None:
    with told(aioxo.MethodNotFound, "vm.fly: method not found") as error:
        await xo.call("vm.fly")
    assert isinstance(error.value, aioxo.MethodNotFound)
    assert (error.value.code, error.value.data) == (-32601, "vm.fly")


async def test_parameters_that_are_refused(told: Any, peer: FakeServer, xo: aioxo.Client) -> None:
    faults = [
        {
            "instancePath": "",
            "params": {"additionalProperty": "colour"},
            "message": "must NOT have additional properties",
        },
        {"instancePath": "/id", "params": {"type": "string"}, "message": "must be string"},
    ]
    peer.refuses("vm.set", 10, "invalid parameters", {"errors": faults})
    with told(aioxo.InvalidParameters, "vm.set: invalid parameters .*properties: colour; id must be string") as error:
        await xo.call("vm.set", id=5, colour="red")
    assert isinstance(error.value, aioxo.InvalidParameters)
    assert error.value.data["errors"] == faults


async def test_a_websocket_that_closes_during_a_call(told: Any, peer: FakeServer, xo: aioxo.Client) -> None:
    async def expire(socket: Any, call: dict[str, Any]) -> None:
        await socket.close()
        await socket.closed()

    peer.methods["slow"] = expire
    with told(aioxo.ConnectionLost, "has the token expired") as error:
        await xo.call("slow")
    assert isinstance(error.value, aioxo.ConnectionLost)
    assert error.value.sent is True
    assert await xo.call("echo", a=1) == {"a": 1}


async def test_a_wrong_base_path_is_never_answered(told: Any) -> None:
    async def script(line: Line) -> None:
        request = await line.request()
        if request.header("Upgrade"):
            await line.hung_up()
        else:
            await line.respond(200, b"[]")

    async with serve(script) as peer, aioxo.connect(peer.url + "/xo", token=TOKEN, timeouts=QUICK) as xo:
        with told(
            aioxo.CannotConnect, r"/xo: no connection within 0\.2 s; .*is the address right, path included"
        ) as error:
            await xo.call("echo")
        assert isinstance(error.value, aioxo.CannotConnect)
        assert error.value.sent is False


async def test_the_server_goes_away_between_calls(told: Any) -> None:
    async with server() as peer:
        xo = aioxo.connect(peer.url, token=TOKEN)
        await xo.__aenter__()
        await xo.call("echo")
        owner = xo.connection._owner
        assert owner is not None
    try:
        await owner
        for attempt in (lambda: xo.call("echo"), xo.vms.list):
            with told(aioxo.CannotConnect, "cannot connect") as error:
                await attempt()
            assert isinstance(error.value, aioxo.CannotConnect)
            assert error.value.sent is False
    finally:
        await xo.close()


# Secrets.


async def test_no_repr_and_no_log_shows_a_secret(peer: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    made = "made-token-that-nobody-may-see"
    peer.returns("token.create", made)
    peer.returns("token.deleteOwn", True)
    with caplog.at_level(logging.DEBUG):
        async with (
            aioxo.connect(peer.url, username="admin", password=PASSWORD) as xo,
            xo.notifications() as raw,
            xo.changes("VM") as changes,
        ):
            peer.sockets[0].line.reset()
            assert await raw.receive() == aioxo.Gap("disconnected")
            shown = [repr(thing) for thing in (xo, xo.connection, xo._rest, xo._session, xo.vms, raw, changes)]
    shown += [record.getMessage() for record in caplog.records]
    assert any("aioxo" in record.name for record in caplog.records)
    for text in shown:
        assert made not in text
        assert PASSWORD not in text


async def test_credentials_in_the_address_are_not_shown(told: Any) -> None:
    port = unused_port()
    with told(aioxo.CannotConnect, f"http://127.0.0.1:{port}: cannot connect"):
        await entered(f"http://u:{PASSWORD.replace(':', '%3A')}@127.0.0.1:{port}", token=None)
    with told(aioxo.ConfigurationError, "cannot be read"):
        aioxo.connect(f"http://{TOKEN}@[", token=None)
    with told(aioxo.ConfigurationError, "characters that no token has"):
        aioxo.connect("http://127.0.0.1", token=TOKEN + "\n")
