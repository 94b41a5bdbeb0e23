"""Addresses of nodes, and the one way in which they may be shown.

A node's URL often *is* the secret: the key sits in the path, in the query or before the ``@``. So an
:class:`Endpoint` keeps the URL for connecting and a ``masked`` form for everything a person or a dashboard may see.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_KEY_LIKE = re.compile(r"(?=[^/]*[0-9])[A-Za-z0-9_-]{16,}")


class InvalidEndpoint(ValueError):
    """The text is no URL that a node can be asked at; the message says why, without repeating a secret."""


def mask(secret: str) -> str:
    """Three stars and four hex digits of the secret's SHA-256: equal secrets stay recognisable, none is readable."""
    return "***" + hashlib.sha256(secret.encode()).hexdigest()[:4]


def mask_url(url: str) -> str:
    """The URL with user information, query values and key-like path segments masked.

    A path segment is key-like when it has 16 or more of ``[A-Za-z0-9_-]``, a digit among them. Text that is no URL
    is masked whole.
    """
    try:
        parts = urlsplit(url)
        host = _host_and_port(parts)
    except ValueError:
        return mask(url)
    if not parts.scheme or not host:
        return mask(url)
    user = f"{mask(parts.netloc.rpartition('@')[0])}@" if "@" in parts.netloc else ""
    path = "/".join(mask(s) if _KEY_LIKE.fullmatch(s) else s for s in parts.path.split("/"))
    query = "?" + "&".join(_masked_pair(pair) for pair in parts.query.split("&")) if parts.query else ""
    return f"{parts.scheme}://{user}{host}{path}{query}"


def _masked_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return f"{name}={mask(value)}" if equals else mask(name)


def _host_and_port(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2] if parts.port is not None or parts.hostname else ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one node is asked: a parsed URL.

    ``host`` is a name or an address, IPv6 without brackets. ``target`` is the request target, path and query.
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
    def host_header(self) -> str:
        """The Host header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.masked}>"


def parse_endpoint(url: str) -> Endpoint:
    """Parse an ``http``, ``https``, ``ws`` or ``wss`` URL; raise :class:`InvalidEndpoint` on anything else."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise InvalidEndpoint("the host or port of the URL cannot be read") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidEndpoint("a URL begins with http://, https://, ws:// or wss://")
    if not parts.hostname:
        raise InvalidEndpoint("the URL has no host")
    if parts.fragment:
        raise InvalidEndpoint("the URL has a fragment (#...), which no node ever sees")
    target = parts.path + parts.query
    if any(not "!" <= c <= "~" for c in target) or any(not "!" <= c for c in parts.netloc):
        raise InvalidEndpoint("the URL has a space, a control or a non-ASCII character: percent-encode it")
    if port == 0:
        raise InvalidEndpoint("port 0 cannot be connected to")
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or _DEFAULT_PORTS[parts.scheme],
        path=parts.path,
        query=parts.query,
        authorization=_authorization(parts),
        masked=mask_url(url.strip()),
    )


def _authorization(parts: SplitResult) -> str | None:
    if "@" not in parts.netloc:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
