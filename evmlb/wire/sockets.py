"""Sockets, and connecting: on the loop's own transports where the reactor has a loop, else on Twisted's."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from typing import Any

from twisted.internet import endpoints, interfaces
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from evmlb.wire.reactor import native_loop
from evmlb.wire.transport import Build, NativeTransport

BACKLOG = 4096


def bind_tcp(port: int, host: str | None = None) -> socket.socket:
    """A bound, non-blocking TCP socket; ``host`` None means all interfaces, IPv4 and IPv6.

    Raises ``OSError`` when the port is taken, before anything else is started.
    """
    if host is None:
        return _bind_everywhere(port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _bound(family, (host, port), v6only=True)


def _bind_everywhere(port: int) -> socket.socket:
    """One dual-stack socket; a machine without IPv6 gets an IPv4 one."""
    try:
        return _bound(socket.AF_INET6, ("::", port), v6only=False)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(socket.AF_INET, ("0.0.0.0", port), v6only=False)


def _bound(family: socket.AddressFamily, address: tuple[str, int], *, v6only: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


class BuildFactory(Factory):
    """A Twisted factory around a ``Build``."""

    noisy = False

    def __init__(self, build: Build) -> None:
        self._build = build

    def buildProtocol(self, addr: interfaces.IAddress | None) -> Any:
        """Make the protocol of one more connection."""
        return self._build(addr)


class ClientTLS:
    """How TLS to one node is spoken: the system's trust or a ``ca_file``, always verified, with SNI.

    Raises ``OSError`` or ``ssl.SSLError`` when the file cannot be used.
    """

    def __init__(self, host: str, ca_file: str | None) -> None:
        self.host = host
        self.native = ssl.create_default_context(cafile=ca_file)
        self.native.minimum_version = ssl.TLSVersion.TLSv1_2
        self._ca_file = ca_file

    def for_twisted(self) -> Any:
        """The same for Twisted's endpoints."""
        if self._ca_file is None:
            return optionsForClientTLS(self.host)
        return optionsForClientTLS(self.host, trustRoot=trustRootFromCertificates(_certificates(self._ca_file)))


def _certificates(ca_file: str) -> list[Certificate]:
    end = b"-----END CERTIFICATE-----"
    with open(ca_file, "rb") as file:
        parts = file.read().split(end)[:-1]
    return [Certificate.loadPEM(part[part.index(b"-----BEGIN") :] + end) for part in parts]


def connect(
    reactor: Any, address: str, port: int, protocol: Any, tls: ClientTLS | None, timeout_seconds: float
) -> Deferred[Any]:
    """Connect ``protocol`` to one address.

    Fires with the protocol when it is connected (TLS: after the handshake); fails with ``OSError``,
    ``ssl.SSLError``, ``asyncio.TimeoutError`` or a Twisted ``ConnectError``. Cancelling it ends the attempt.
    """
    loop = native_loop(reactor)
    if loop is None:
        return _connect_twisted(reactor, address, port, protocol, tls, timeout_seconds)
    connecting = loop.create_connection(
        lambda: NativeTransport(lambda _: protocol),
        address,
        port,
        ssl=tls.native if tls else None,
        server_hostname=tls.host if tls else None,
        ssl_handshake_timeout=timeout_seconds if tls else None,
    )
    waiting = asyncio.wait_for(connecting, timeout_seconds)
    return Deferred.fromFuture(asyncio.ensure_future(waiting, loop=loop)).addCallback(lambda _: protocol)


def _connect_twisted(
    reactor: Any, address: str, port: int, protocol: Any, tls: ClientTLS | None, timeout_seconds: float
) -> Deferred[Any]:
    kind = endpoints.TCP6ClientEndpoint if ":" in address else endpoints.TCP4ClientEndpoint
    endpoint: Any = kind(reactor, address, port, timeout=timeout_seconds)
    if tls is not None:
        endpoint = endpoints.wrapClientTLS(tls.for_twisted(), endpoint)
    connecting: Deferred[Any] = endpoint.connect(BuildFactory(lambda _: protocol))
    return connecting


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one; return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1_048_576
