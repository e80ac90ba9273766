"""What exactly is sent, seen where it leaves for the HTTP library: the few tests that need no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses

import aioxo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yarl import URL

SERVER = "https://xo.example/base"
TOKEN = "t0ken"
ALWAYS = {"Accept-Encoding": "identity", "User-Agent": f"aioxo/{aioxo.__version__}"}


class Response(aiohttp.ClientResponse):
    """aiohttp 3.14 wants the writer that sent the request, which aioresponses 0.7.9 does not know of."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, stream_writer=mock.Mock(output_size=0), **options)


class Mocked:
    """Answers what it is told, and keeps what was sent."""

    def __init__(self, responses: aioresponses) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self._responses = responses

    def answer(self, method: str, url: str, **options: Any) -> None:
        def keep(url: URL, **sent: Any) -> CallbackResult:
            self.sent.append((str(url), sent))
            return CallbackResult(response_class=Response, **options)

        self._responses.add(url, method, callback=keep, response_class=Response)


@pytest.fixture
def mocked() -> Iterator[Mocked]:
    with aioresponses() as responses:
        mocked = Mocked(responses)
        mocked.answer("GET", f"{SERVER}/rest/v0/pools?limit=1", payload=[])
        yield mocked


async def test_the_first_request_is_the_cheapest_there_is(mocked: Mocked) -> None:
    async with aioxo.connect(SERVER, token=TOKEN):
        pass
    ((url, sent),) = mocked.sent
    assert url == f"{SERVER}/rest/v0/pools?limit=1"
    assert sent["headers"] == {**ALWAYS, "Cookie": f"authenticationToken={TOKEN}"}
    assert sent["allow_redirects"] is False
    assert sent["data"] is None


async def test_no_second_way_to_sign_in_and_no_compression(mocked: Mocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", __file__)
    async with aioxo.connect(SERVER, token=TOKEN) as xo:
        client = xo._session._require_client()
        assert dict(client.headers)["Accept-Encoding"] == "identity"
        assert "Authorization" not in client.headers
        assert "Cookie" not in client.headers  # session-wide ones would follow a redirect
        assert client.auth is None
        assert client.trust_env is False
        assert client.timeout.total is None
        assert isinstance(client.cookie_jar, aiohttp.DummyCookieJar)
    assert all("auth" not in sent or sent["auth"] is None for _, sent in mocked.sent)


async def test_what_an_action_sends(mocked: Mocked) -> None:
    mocked.answer("POST", f"{SERVER}/rest/v0/vms/a/actions/start", payload={"taskId": "t"}, status=202)
    async with aioxo.connect(SERVER, token=TOKEN) as xo:
        assert (await xo.vms.start("a", host_id="h")).id == "t"
    url, sent = mocked.sent[-1]
    assert url == f"{SERVER}/rest/v0/vms/a/actions/start"
    assert sent["data"] == b'{"hostId":"h"}'
    assert sent["headers"] == {
        **ALWAYS,
        "Content-Type": "application/json",
        "Cookie": f"authenticationToken={TOKEN}",
    }


async def test_what_a_list_asks_for(mocked: Mocked) -> None:
    url = f"{SERVER}/rest/v0/vms?fields=id%2Cname_label&limit=2&ndjson=true"
    mocked.answer("GET", url, body=b'{"id":"a"}\n{"id":"b"}\n', content_type="application/x-ndjson")
    async with aioxo.connect(SERVER, token=TOKEN) as xo:
        assert await xo.vms.list(fields=["id", "name_label"], limit=2) == [{"id": "a"}, {"id": "b"}]
    # Quoted once: the HTTP library must not touch it again.
    assert mocked.sent[-1][0].endswith("ndjson=true")


async def test_what_the_http_library_raises_stays_inside() -> None:
    with aioresponses() as responses:
        responses.get(f"{SERVER}/rest/v0/pools?limit=1", exception=aiohttp.ServerDisconnectedError())
        with pytest.raises(aioxo.ConnectionLost):
            async with aioxo.connect(SERVER, token=TOKEN):
                pytest.fail("signed in")
