"""Where the server is and who we are there, as values.

Everything a person may type for a server becomes one `Address`; everything that signs in becomes one `Credentials`,
whose text shows no secret. `resolve` looks up what the caller left out; the environment is passed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TLS", "Address", "Credentials", "parse_fingerprint", "parse_url", "resolve"]

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_FALSE: Final = frozenset({"", "0", "false", "no", "off", "n", "f"})


@dataclass(frozen=True, slots=True)
class Address:
    """A server: `origin` such as "https://xo.example:8443", and `base`, the path in front of /rest/v0, often empty."""

    origin: str
    base: str = ""

    def __str__(self) -> str:
        return self.origin + self.base

    def http(self, path: str) -> str:
        """Return the URL of `path`, which starts with a slash and is percent-encoded already."""
        return self.origin + self.base + path

    @property
    def websocket(self) -> str:
        """URL of the JSON-RPC websocket. The slash at its end is needed: without it the server never answers."""
        return "ws" + self.origin.removeprefix("http") + self.base + "/api/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token, or a user with a password and perhaps a one-time code."""

    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    otp: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TLS:
    """What is asked of the server's certificate.

    Attributes:
        insecure: accept any certificate.
        ca_file: path of a PEM file with the authorities to trust instead of the system's, or None.
        fingerprint: SHA-256 of the one certificate to accept, or None.
    """

    insecure: bool = False
    ca_file: str | None = None
    fingerprint: bytes | None = None


def parse_url(text: str) -> tuple[Address, Credentials]:
    """Read a server's address: http, https, ws and wss, a bare host name, a base path; credentials before an "@".

    Raises:
        ConfigurationError: it is no such thing. The text is not repeated, for it may hold a password.
    """
    text = text.strip()
    # As xo-cli does: no scheme means TLS.
    parts, port = _split(text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else "https://" + text)
    if parts is None:
        message = "the server's URL cannot be read, or its port is no number from 0 to 65535; percent-encode a password"
        raise ConfigurationError(message)
    if (scheme := _SCHEMES.get(parts.scheme.lower())) is None:
        message = f"the server's URL starts with {parts.scheme}://; use https:// or http://"
        raise ConfigurationError(message)
    host = parts.hostname
    if not host or re.search(r"[\s/\\@]", host):
        message = "the server's URL names no host; it looks like https://xo.example.org"
        raise ConfigurationError(message)
    if parts.query or parts.fragment:
        message = "the server's URL has a query or a fragment; give the address alone, like https://xo.example.org"
        raise ConfigurationError(message)
    origin = f"{scheme}://" + (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    # People paste the address of a route as often as that of the server.
    base = re.sub(r"/+(rest(/v0)?|api)?/*$", "", quote(unquote(parts.path), safe="/"))
    if parts.username and parts.password is None:
        credentials = Credentials(token=unquote(parts.username))
    elif parts.username or parts.password:
        credentials = Credentials(
            username=unquote(parts.username or "") or None, password=unquote(parts.password or "")
        )
    else:
        credentials = Credentials()
    return Address(origin, base), credentials


def _split(text: str) -> tuple[SplitResult | None, int | None]:
    """Split a URL; None when that fails. Not raised from here: the error would carry what may be a password."""
    try:
        text.encode()
        parts = urlsplit(text)
        return parts, parts.port
    except ValueError:
        return None, None


def parse_fingerprint(text: str) -> bytes:
    """Read a certificate's SHA-256 fingerprint: 64 hexadecimal digits, colons and spaces allowed between them.

    Raises:
        ConfigurationError: it is not that.
    """
    digits = re.sub(r"[\s:]", "", text.lower().removeprefix("sha256:").removeprefix("sha256="))
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        message = "a certificate's fingerprint is the SHA-256 of it: 64 hexadecimal digits, with or without colons"
        raise ConfigurationError(message)
    return bytes.fromhex(digits)


def resolve(
    url: str | None, given: Credentials, insecure: bool | None, environ: Mapping[str, str]
) -> tuple[Address, Credentials, bool]:
    """Fill in what the caller left out from the environment: XOA_* first, then XO_*.

    A token beats a password wherever both are found, for the server refuses two ways to sign in at once. Credentials
    given by the caller, in the URL or beside it, keep those of the environment out: they may be another server's.

    Args:
        url: the server's address, or None for XOA_URL.
        given: what the caller passed.
        insecure: what the caller passed, or None for XOA_INSECURE.
        environ: such as os.environ.

    Raises:
        ConfigurationError: no address or no credentials are to be found, or what is there cannot be used.
    """

    def look_up(*names: str) -> str | None:
        for prefix in ("XOA_", "XO_"):
            for name in names:
                if value := environ.get(prefix + name):
                    return value
        return None

    if not (text := url or look_up("URL")):
        message = 'no server is named: pass its URL, as in connect("https://xo.example.org"), or set XOA_URL'
        raise ConfigurationError(message)
    address, in_url = parse_url(text)
    found = Credentials(
        given.token or in_url.token,
        given.username or in_url.username,
        given.password or in_url.password,
        given.otp,
    )
    if found.password and not found.token and not found.username:
        found = Credentials(None, look_up("USER", "USERNAME"), found.password, given.otp)
    elif not found.token and not found.password:
        found = Credentials(
            None if found.username else look_up("TOKEN"),
            found.username or look_up("USER", "USERNAME"),
            look_up("PASSWORD"),
            given.otp,
        )
    if insecure is None:
        insecure = (look_up("INSECURE") or "").strip().lower() not in _FALSE
    return address, _complete(found), insecure


def _complete(found: Credentials) -> Credentials:
    if found.token:
        if not re.fullmatch(r"[!#-+\--:<-\[\]-~]+", found.token):
            message = "the token holds characters that no token has; was something else pasted with it?"
            raise ConfigurationError(message)
        return Credentials(token=found.token)
    if found.username and found.password:
        return found
    if found.username or found.password:
        missing = "password" if found.username else "user name"
        message = f"the {missing} is missing: pass it, or set {'XOA_PASSWORD' if found.username else 'XOA_USER'}"
        raise ConfigurationError(message)
    message = "no credentials: pass token=, or username= and password=, or set XOA_TOKEN, or XOA_USER and XOA_PASSWORD"
    raise ConfigurationError(message)
