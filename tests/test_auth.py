"""Addresses and credentials: whatever a person types, and nothing of it shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.auth import TLS, Address, Credentials, parse_fingerprint, parse_url, resolve
from aioxo.backoff import Backoff
from aioxo.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://xo.example", "https://xo.example"),
        ("http://xo.example/", "http://xo.example"),
        ("ws://xo.example:80", "http://xo.example:80"),
        ("wss://xo.example/api/", "https://xo.example"),
        ("xo.example", "https://xo.example"),
        ("xo.example:8443", "https://xo.example:8443"),
        ("  XO.example  ", "https://xo.example"),
        ("HTTPS://xo.example", "https://xo.example"),
        ("192.0.2.7", "https://192.0.2.7"),
        ("[2001:db8::7]:8443", "https://[2001:db8::7]:8443"),
        ("http://[::1]", "http://[::1]"),
        ("https://proxy.example/tools/xo/", "https://proxy.example/tools/xo"),
        ("https://proxy.example/xo/rest/v0", "https://proxy.example/xo"),
        ("https://proxy.example/xo/rest/v0/", "https://proxy.example/xo"),
        ("https://xo.example/rest", "https://xo.example"),
        ("https://xo.example/a b", "https://xo.example/a%20b"),
        ("https://xo.example/a%20b", "https://xo.example/a%20b"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    address, credentials = parse_url(text)
    assert str(address) == shown
    assert credentials == Credentials()
    assert parse_url(shown)[0] == address


def test_the_paths_of_an_address() -> None:
    address = Address("https://xo.example:8443", "/base")
    assert address.http("/rest/v0/vms") == "https://xo.example:8443/base/rest/v0/vms"
    assert address.websocket == "wss://xo.example:8443/base/api/"
    assert Address("http://xo.example").websocket == "ws://xo.example/api/"


@pytest.mark.parametrize(
    ("text", "token", "username", "password"),
    [
        ("https://TOKEN@xo.example", "TOKEN", None, None),
        ("https://admin:secret@xo.example", None, "admin", "secret"),
        ("https://admin%40net:p%3Aq%2Fr%40@xo.example", None, "admin@net", "p:q/r@"),
        ("admin:secret@xo.example:8443", None, "admin", "secret"),
    ],
)
def test_credentials_in_the_address(text: str, token: str | None, username: str | None, password: str | None) -> None:
    address, credentials = parse_url(text)
    assert credentials == Credentials(token, username, password)
    assert "@" not in str(address)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "names no host"),
        ("https://", "names no host"),
        ("https:///rest/v0", "names no host"),
        ("ftp://xo.example", "starts with ftp://"),
        ("https://xo.example:port", "port"),
        ("https://xo.example:65536", "port"),
        ("https://xo.example?x=1", "query"),
        ("https://xo.example#x", "fragment"),
        ("https://[", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://[not-an-address]/", "cannot be read"),
        ("https://a b/", "names no host"),
        ("https://xo.example/\ud800", "cannot be read"),
        ("https://admin:se/cret@xo.example", "cannot be read"),
        ("https://admin:secret\u2100@xo.example", "cannot be read"),
    ],
)
def test_what_is_no_address_is_refused(text: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as raised:
        parse_url(text)
    assert raised.value.__context__ is None  # the parser's own errors repeat what may be a password
    assert "secret" not in str(raised.value)


HOSTILE = st.text(st.sampled_from("aZ09.:/@?#[]%\\ \t\n_-~\u2100é\ud800"), max_size=24)


@given(HOSTILE | HOSTILE.map("https://".__add__))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address, _ = parse_url(text)
    except ConfigurationError:
        return
    assert address.origin.startswith(("http://", "https://"))
    assert address.base == "" or address.base.startswith("/")
    assert not address.base.endswith("/")
    for url in (address.http("/rest/v0"), address.websocket):
        assert "@" not in url
        assert not any(character.isspace() for character in url)


@given(
    st.text(min_size=1, max_size=12).filter(str.isprintable),
    st.text(min_size=1, max_size=12).filter(str.isprintable),
)
def test_credentials_come_out_as_they_went_in(username: str, password: str) -> None:
    from urllib.parse import quote

    _, credentials = parse_url(f"https://{quote(username, safe='')}:{quote(password, safe='')}@xo.example")
    assert (credentials.username, credentials.password) == (username, password)


def test_nothing_secret_is_shown() -> None:
    shown = repr(Credentials("TOKEN-x", "admin", "PASSWORD-x", "OTP-x")) + str(Credentials("TOKEN-x"))
    assert "-x" not in shown
    assert "admin" in shown


@pytest.mark.parametrize("text", ["AB" * 32, ":".join(["ab"] * 32), "sha256:" + "ab" * 32, " ".join(["Ab"] * 32)])
def test_fingerprints(text: str) -> None:
    assert parse_fingerprint(text) == b"\xab" * 32


@pytest.mark.parametrize("text", ["", "ab", "ab" * 20, "xy" * 32, "ab" * 33, "\u0660" * 64])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SHA-256"):
        parse_fingerprint(text)


def resolved(
    url: str | None = None,
    given: Credentials = Credentials(),  # noqa: B008 - frozen
    insecure: bool | None = None,
    **environ: Any,
) -> tuple[str, Credentials, bool]:
    address, credentials, lax = resolve(url, given, insecure, environ)
    return str(address), credentials, lax


def test_everything_from_the_environment() -> None:
    assert resolved(XOA_URL="xo.example", XOA_TOKEN="T") == ("https://xo.example", Credentials("T"), False)
    assert resolved(XO_URL="http://xo.example", XO_USERNAME="u", XO_PASSWORD="p") == (
        "http://xo.example",
        Credentials(username="u", password="p"),
        False,
    )


def test_xoa_comes_before_xo_and_user_before_username() -> None:
    environ: dict[str, Any] = {
        "XOA_URL": "first",
        "XO_URL": "second",
        "XOA_USER": "u1",
        "XOA_USERNAME": "u2",
        "XO_USER": "u3",
    }
    assert resolved(**environ, XO_PASSWORD="p") == (
        "https://first",
        Credentials(username="u1", password="p"),
        False,
    )


def test_a_token_beats_a_password() -> None:
    environ: dict[str, Any] = {"XOA_URL": "xo", "XOA_TOKEN": "T", "XOA_USER": "u", "XOA_PASSWORD": "p"}
    assert resolved(**environ)[1] == Credentials("T")
    assert resolved("xo", Credentials("T", "u", "p"))[1] == Credentials("T")


def test_the_environments_token_goes_to_nobody_else() -> None:
    # A user or a token named by the caller: XOA_TOKEN may be another server's, and another user's.
    environ: dict[str, Any] = {"XOA_TOKEN": "E", "XOA_USER": "eu", "XOA_PASSWORD": "ep"}
    assert resolved("https://u:p@xo.example", **environ)[1] == Credentials(username="u", password="p")
    assert resolved("https://T@xo.example", **environ)[1] == Credentials("T")
    assert resolved("xo", Credentials(username="u"), **environ)[1] == Credentials(username="u", password="ep")


def test_a_password_of_the_callers_goes_with_the_name_of_the_environment() -> None:
    assert resolved("xo", Credentials(password="p"), XOA_USER="u", XOA_TOKEN="E")[1] == Credentials(None, "u", "p")
    assert resolved("https://:p@xo.example", XOA_USERNAME="u")[1] == Credentials(None, "u", "p")


def test_a_one_time_code_stays_with_its_password() -> None:
    given = Credentials(username="u", password="p", otp="123456")
    assert resolved("xo", given)[1] == given
    assert resolved("xo", Credentials("T", otp="123456"))[1] == Credentials("T")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("false", False), (" No ", False), ("off", False)],
)
def test_insecure_from_the_environment(value: str, expected: bool) -> None:
    assert resolved("xo", Credentials("T"), XOA_INSECURE=value)[2] is expected
    assert resolved("xo", Credentials("T"), not expected, XOA_INSECURE=value)[2] is not expected


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "XOA_URL"),
        ({"url": "xo"}, "XOA_TOKEN"),
        ({"url": "xo", "given": Credentials(username="u")}, "XOA_PASSWORD"),
        ({"url": "xo", "XOA_PASSWORD": "p"}, "XOA_USER"),
        ({"url": "xo", "given": Credentials("two words")}, "characters that no token has"),
        ({"url": "xo", "given": Credentials("a\r\nX: y")}, "characters that no token has"),
        ({"url": "xo", "given": Credentials("a;b")}, "characters that no token has"),
        ({"url": "xo", "given": Credentials('a"b')}, "characters that no token has"),
    ],
)
def test_what_is_missing_is_named(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as raised:
        resolved(**arguments)
    assert "two words" not in str(raised.value)


def test_tls_defaults_to_the_strict_side() -> None:
    assert TLS() == TLS(insecure=False, ca_file=None, fingerprint=None)


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_delays_stay_in_their_bounds(attempt: int, drawn: float) -> None:
    backoff = Backoff()
    bound = min(backoff.limit, backoff.first * backoff.factor ** min(attempt, 64))
    assert 0.1 * bound <= backoff.delay(attempt, lambda: drawn) <= bound <= 30.0


def test_delays_grow_to_the_limit_and_depend_on_the_draw() -> None:
    backoff = Backoff(first=1.0, factor=2.0, limit=5.0)
    assert [backoff.delay(attempt, lambda: 1.0) for attempt in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay(0, lambda: 0.0) == pytest.approx(0.1)
    assert backoff.delay(0, lambda: 0.5) == pytest.approx(0.55)
