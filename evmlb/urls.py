"""Addresses of nodes, and the one way in which they may be shown.

A node's URL often *is* the secret: the key sits in the path, in the query or before the ``@``. So an
:class:`Endpoint` keeps the URL for connecting and a ``masked`` form for everything a person or a dashboard may see.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_KEY_LIKE = re.compile(r"(?=[^/]*[0-9])[^/]{16,}")
_VISIBLE = re.compile("[!-~]+")
_HOST = re.compile(r"(?=.{1,253}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")

_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*:[^\[\]]*\]|[^:\[\]]+)(:[0-9]*)?")  # urlsplit lets [::1]x through


class InvalidEndpoint(ValueError):
    """The text is no URL that a node can be asked at; the message says why, without repeating a secret."""


def mask(secret: str) -> str:
    """Three stars and four hex digits of the secret's SHA-256: equal secrets stay recognisable, none is readable."""
    return "***" + hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()[:4]


def mask_url(url: str) -> str:
    """The URL with user information, query values and key-like path segments masked, its fragment left out.

    A path segment is key-like when it has 16 or more characters, a digit among them: keys, and tokens with dots,
    dashes or percent signs in them. The name of a query parameter is masked by the same rule. Text that is no URL is
    masked whole, and so is a URL with an ``@`` behind the host: most likely it belongs to a password whose ``/``,
    ``?`` or ``#`` nobody encoded, and what looks like host and port is a part of it. Never raises.
    """
    try:
        parts = urlsplit(url)
        host = _host_and_port(parts)
    except ValueError:
        return mask(url)
    behind = parts.path + parts.query + parts.fragment
    if not _VISIBLE.fullmatch(url) or not parts.scheme or len(parts.scheme) > 15 or not host or "@" in behind:
        return mask(url)
    user = f"{mask(parts.netloc.rpartition('@')[0])}@" if "@" in parts.netloc else ""
    path = "/".join(_masked_if_key(segment) for segment in parts.path.split("/"))
    query = "?" + "&".join(_masked_pair(pair) for pair in parts.query.split("&")) if parts.query else ""
    return f"{parts.scheme}://{user}{host}{path}{query}"


def _masked_if_key(text: str) -> str:
    return mask(text) if _KEY_LIKE.fullmatch(text) else text


def _masked_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return f"{_masked_if_key(name)}={mask(value)}" if equals else mask(name)


def _host_and_port(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2] if parts.port is not None or parts.hostname else ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one node is asked: a parsed URL.

    ``host`` is a name in lower case or an address, IPv6 without brackets. ``path`` and ``query`` are as written.
    ``authorization`` is the value of the Authorization header made from the URL's user information (RFC 7617), or
    ``None``. ``masked`` is the URL as it may be shown.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str
    authorization: str | None
    masked: str

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("https", "wss")

    @property
    def target(self) -> str:
        """The request target of a request to the endpoint itself: path, ``/`` where it is empty, and query."""
        return f"{self.path or '/'}?{self.query}" if self.query else self.path or "/"

    @property
    def host_header(self) -> str:
        """The Host header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.masked}>"


def parse_endpoint(url: str) -> Endpoint:
    """Parse an ``http``, ``https``, ``ws`` or ``wss`` URL; raise :class:`InvalidEndpoint` on anything else.

    Blanks around the URL are ignored. The host is letters, digits, ``-``, ``_`` and dots, or an address: nothing that
    could end a header line, and nothing that a later look-up would stumble over.
    """
    url = url.strip()
    if not _VISIBLE.fullmatch(url):
        raise InvalidEndpoint("the URL is empty, or has a space, a control or a non-ASCII character: percent-encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidEndpoint("the host or port of the URL cannot be read") from None
    _check(parts, port)
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=port or _DEFAULT_PORTS[parts.scheme],
        path=parts.path,
        query=parts.query,
        authorization=_authorization(parts),
        masked=mask_url(url),
    )


def _check(parts: SplitResult, port: int | None) -> None:
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidEndpoint("a URL begins with http://, https://, ws:// or wss://")
    if not parts.hostname:
        raise InvalidEndpoint("the URL has no host")
    if not _is_host(parts.hostname) or not _HOST_AND_PORT.fullmatch(_host_and_port(parts)):
        raise InvalidEndpoint("the host of the URL is neither a name nor an address")
    if parts.fragment:
        raise InvalidEndpoint("the URL has a fragment (#...), which no node ever sees")
    if port == 0:
        raise InvalidEndpoint("port 0 cannot be connected to")


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None  # a zone (%eth0) is no part of a Host header
    except ValueError:
        return False


def _authorization(parts: SplitResult) -> str | None:
    if "@" not in parts.netloc:
        return None
    pair = unquote_to_bytes(parts.username or "") + b":" + unquote_to_bytes(parts.password or "")
    return "Basic " + base64.b64encode(pair).decode()
