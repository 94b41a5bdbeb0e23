"""Which web pages may ask, and under which names of this server: no I/O. One rule for HTTP and for WebSockets.

Theory. A browser sends any page's requests from inside the user's network, with the user's rights, to whatever the page
names. It says whose page it is, in Origin (https://fetch.spec.whatwg.org/#origin-header); who sends no Origin is no
page, or asks in a way that cannot call anything here. Permitted is

* a page of the same origin: host and port of its Origin are those that it asks (Host, or X-Forwarded-Host where a
  trusted proxy changed Host). The scheme is not compared, because TLS may end at a proxy;
* a page of an origin that is listed, ``*`` being all of them.

A page can make the name in its own Origin resolve to this server (DNS rebinding), and is then of the same origin. What
helps is to know one's own names: :class:`Hosts`. An address in place of a name cannot be made to resolve.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]/@?#\s]+)(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class Origins:
    """The origins that are listed, and the rule."""

    __slots__ = ("_all", "_listed")

    def __init__(self, *lists: Iterable[str]) -> None:
        self._listed = frozenset(origin.lower() for listed in lists for origin in listed)
        self._all = "*" in self._listed

    def permit(self, origin: bytes, *hosts: bytes) -> bool:
        """Whether a page may ask. ``hosts``: the authorities (host, perhaps port) that it asked; empty ones are none.

        Without an Origin it is no page.
        """
        if not origin or self._all:
            return True
        text = origin.decode("latin-1").lower()
        return text in self._listed or any(_is_same(text, host.decode("latin-1").lower()) for host in hosts if host)


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is that of an authority."""
    scheme, separator, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    ours, theirs = _AUTHORITY.fullmatch(host), _AUTHORITY.fullmatch(authority)
    if not separator or default is None or ours is None or theirs is None:
        return False
    return (ours["host"], ours["port"] or default) == (theirs["host"], theirs["port"] or default)


class Hosts:
    """The names under which requests are taken; none listed means any."""

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def permit(self, host: bytes) -> bool:
        """Whether a request with this Host is taken: one of the names, whatever the port; an address; none at all."""
        if not self._names or not host:
            return True
        authority = _AUTHORITY.fullmatch(host.decode("latin-1").lower())
        if authority is None:
            return False
        name = authority["host"].rstrip(".")
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
