"""TLS: which certificates are trusted, and what is said of those that are not."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import aioxo
from aioxo.auth import TLS
from aioxo.session import Session

from .peers import Line, serve
from .test_session import fetch, hello, opened, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, *names: str, **options: Any) -> tuple[ssl.SSLContext, str]:
    """Make a server's context and the fingerprint of its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = authority.issue_cert(*names, **options)
    leaf.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    return context, hashlib.sha256(der).hexdigest()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def quiet_handshakes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let the peer's own complaints about a refused handshake pass."""
    with caplog.at_level("CRITICAL", logger="asyncio"):
        yield


async def test_tls_with_our_authority_or_fingerprint_or_none(authority: trustme.CA, ca_file: str) -> None:
    context, fingerprint = server_side(authority, "127.0.0.1")
    async with serve(hello, tls=context) as peer:
        for tls in (TLS(ca_file=ca_file), TLS(fingerprint=bytes.fromhex(fingerprint)), TLS(insecure=True)):
            async with opened(peer.url, tls) as session:
                assert await fetch(session) == b"hello"


async def test_a_websocket_over_tls(authority: trustme.CA, ca_file: str) -> None:
    context, _ = server_side(authority, "127.0.0.1")
    async with serve(upgrade, tls=context) as peer, opened(peer.url, TLS(ca_file=ca_file)) as session:
        await (await session.websocket()).close()


@pytest.mark.usefixtures("quiet_handshakes")
@pytest.mark.parametrize("operation", ["exchange", "websocket"])
@pytest.mark.parametrize(
    ("case", "match"),
    [
        ("untrusted", "unable to get local issuer certificate|self.signed"),
        ("host", "IP address mismatch|not valid for"),
        ("expired", "expired"),
    ],
)
async def test_a_certificate_that_is_refused(
    authority: trustme.CA, ca_file: str, operation: str, case: str, match: str
) -> None:
    options = {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)} if case == "expired" else {}
    if options:
        options["not_before"] = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    context, _ = server_side(authority, "192.0.2.1" if case == "host" else "127.0.0.1", **options)
    tls = TLS() if case == "untrusted" else TLS(ca_file=ca_file)
    async with serve(hello, tls=context) as peer, opened(peer.url, tls) as session:
        with pytest.raises(aioxo.TLSError, match=match) as raised:
            await (fetch(session) if operation == "exchange" else session.websocket())
        assert raised.value.sent is False
        for way_out in ("ca_file=", "fingerprint=", "insecure=True"):
            assert way_out in str(raised.value)
        assert peer.requests == []


@pytest.mark.usefixtures("quiet_handshakes")
@pytest.mark.parametrize("operation", ["exchange", "websocket"])
async def test_another_fingerprint_is_shown(authority: trustme.CA, operation: str) -> None:
    context, fingerprint = server_side(authority, "127.0.0.1")
    async with serve(hello, tls=context) as peer, opened(peer.url, TLS(fingerprint=bytes(32))) as session:
        with pytest.raises(aioxo.TLSError, match="another fingerprint") as raised:
            await (fetch(session) if operation == "exchange" else session.websocket())
        assert fingerprint.upper() in str(raised.value).replace(":", "")
        assert peer.requests == []


async def test_tls_to_a_port_without_it() -> None:
    async def script(line: Line) -> None:
        await line.reader.read(1)
        await line.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with serve(script) as peer, opened(peer.url.replace("http:", "https:"), TLS(insecure=True)) as session:
        for attempt in (fetch, Session.websocket):
            with pytest.raises(aioxo.TLSError, match="http:// meant"):
                await attempt(session)


async def test_tls_to_a_port_that_hangs_up() -> None:
    async def script(line: Line) -> None:
        await line.reader.read(1)

    async with serve(script) as peer, opened(peer.url.replace("http:", "https:"), TLS(insecure=True)) as session:
        with pytest.raises(aioxo.CannotConnect):
            await fetch(session)


@pytest.mark.usefixtures("quiet_handshakes")
async def test_no_tls_to_a_port_with_it(authority: trustme.CA) -> None:
    context, _ = server_side(authority, "127.0.0.1")
    async with serve(hello, tls=context) as peer, opened(peer.url.replace("https:", "http:")) as session:
        for attempt in (fetch, Session.websocket):
            with pytest.raises(aioxo.XOError, match="https://") as raised:
                await attempt(session)
            assert isinstance(raised.value, (aioxo.ConnectionLost, aioxo.NotXenOrchestra))


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
async def test_a_file_of_authorities_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(aioxo.ConfigurationError, match=r"ca\.pem.*readable PEM"):
        async with opened("https://127.0.0.1", TLS(ca_file=str(path))):
            pytest.fail("opened")
