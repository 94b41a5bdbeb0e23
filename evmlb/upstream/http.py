"""A pool of HTTP/1.1 connections to one node, one request at a time on each.

One request per connection means that an answer needs no id of ours: the client's own body goes out as it came, and the
node's as it came goes back. The connection used last is used next, so that a quiet pool shrinks; idle ones are closed
before a node's own idle time-out (60 s and more) would close them under a request.

This is the hot path: ``send`` and ``release`` are measured by ``make bench``, with what a connection does of it
(:mod:`evmlb.upstream.connection`).
"""

from __future__ import annotations

import errno
import os
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from evmlb import __version__
from evmlb.config.schema import LimitsConfig, NodeConfig
from evmlb.errors import Fault
from evmlb.interfaces import Sink
from evmlb.upstream.connection import Connection, Request
from evmlb.wire.names import Addresses
from evmlb.wire.sockets import ClientTLS, connect

NEXT_ADDRESS_SECONDS = 0.25
"""How long one address of a host is given before the next is tried beside it (RFC 8305)."""
FRESH_SECONDS = 1.0
"""A kept connection that idled for less may carry a request that must not be sent twice."""
_JOIN_BYTES = 65536
_OWN_HEADERS = frozenset(("host", "content-type", "content-length", "accept-encoding", "connection"))
_FORWARDED_FOR = b"X-Forwarded-For: "
_JSON_TYPE = b"Content-Type: application/json\r\n"
USER_AGENT = f"evmlb/{__version__}"
"""Who we are to nodes and exporters. Some gateways refuse who does not say so, or does not say what it accepts."""

Connect = Callable[[Any, str, int, Any, ClientTLS | None, float], defer.Deferred[Any]]
"""How a connection is made: :func:`evmlb.wire.sockets.connect`, or what a test puts in its place."""


class HttpUpstream:
    """The connections to one node, and the way requests get onto them.

    ``connect_timeout_seconds`` bounds look-up, connecting and TLS together.
    """

    def __init__(
        self,
        reactor: Any,
        node: NodeConfig,
        limits: LimitsConfig,
        connect_timeout_seconds: float,
        now: Callable[[], float],
        connect: Connect = connect,
    ) -> None:
        self._reactor = reactor
        self._connect_to = connect
        self._node = node
        self._now = now
        self._connect_timeout = connect_timeout_seconds
        self._idle_timeout = limits.upstream_idle_timeout_seconds
        self.hold_bytes = limits.failover_buffer_bytes
        self.max_header_bytes = limits.max_header_bytes
        self.idle: list[Connection] = []
        self.losses = 0
        self.unasked = 0  # answers that nobody had asked for: a second one to a request, or none's at all
        self.open: set[Connection] = set()
        self._waiting: deque[Request] = deque()
        self._connecting: set[defer.Deferred[Any]] = set()
        self._closed = False
        self.addresses = Addresses(reactor, node.endpoint.host, now)
        self._tls = ClientTLS(node.endpoint.host, node.ca_file) if node.endpoint.is_tls else None
        self._path = node.endpoint.path.encode()
        self._query = node.endpoint.query.encode()
        self._fixed = _fixed_headers(node)
        self._given = frozenset(name.lower().encode() for name, _ in node.headers)
        self._post = self._start(b"POST", b"", b"{}", b"")

    def _target(self, extra: bytes) -> bytes:
        """The request target for extra path and query, the node's own path and query first."""
        path, _, query = extra.partition(b"?")
        whole = (self._path.rstrip(b"/") + path if path else self._path) or b"/"
        queries = [part for part in (self._query, query) if part]
        return whole + (b"?" + b"&".join(queries) if queries else b"")

    def _start(self, method: bytes, target: bytes, body: bytes, headers: bytes) -> bytes:
        """The head of a request up to the lines that it has for itself, ``headers``: what these say, we do not."""
        said = b"\r\n" + headers.lower()
        lines = b""
        if body and b"\r\ncontent-type:" not in said:
            lines += _JSON_TYPE
        if b"user-agent" not in self._given and b"\r\nuser-agent:" not in said:
            lines += b"User-Agent: %b\r\n" % USER_AGENT.encode()
        if b"accept" not in self._given and b"\r\naccept:" not in said:
            lines += b"Accept: application/json\r\n" if method == b"POST" else b"Accept: */*\r\n"
        return b"%b %b HTTP/1.1\r\n%b%b" % (method, self._target(target), self._fixed, lines)

    def send(
        self, sink: Sink, body: bytes, *, method: bytes = b"POST", target: bytes = b"", headers: bytes = b""
    ) -> None:
        """Send a request on a kept connection, or open one.

        A ``sink`` that is not repeatable only goes onto a connection that is new or idled under a second.
        """
        if target or method != b"POST" or (headers and not headers.startswith(_FORWARDED_FOR)):
            start = self._start(method, target, body, headers)
        else:
            start = self._post
        if len(body) <= _JOIN_BYTES:
            data, apart = b"%b%bContent-Length: %d\r\n\r\n%b" % (start, headers, len(body), body), b""
        else:
            data, apart = b"%b%bContent-Length: %d\r\n\r\n" % (start, headers, len(body)), body
        request = Request(sink, data, apart, method == b"HEAD")
        idle = self.idle
        if idle and (sink.repeatable or self._now() - idle[-1].idle_since < FRESH_SECONDS):
            idle.pop().carry(request)
        else:
            self.wait(request)

    def wait(self, request: Request) -> None:
        """Open a connection for a request; whichever is free first takes it."""
        sink = request.sink
        sink.flight = None
        if self._closed:
            sink.failed(Fault.UNREACHABLE, "evmlb is shutting down", False)
            return
        self._waiting.append(request)
        connecting = defer.Deferred.fromCoroutine(self._open())
        self._connecting.add(connecting)
        connecting.addBoth(self._opened, connecting)

    async def _open(self) -> None:
        """Connect to the first of the host's addresses that answers, within the connect time-out."""
        racing = defer.Deferred.fromCoroutine(self._race())
        racing.addTimeout(self._connect_timeout, self._reactor)
        connection = await racing
        if connection.is_lost:
            raise ConnectionResetError(errno.ECONNRESET, "closed at once")
        self.release(connection, True)

    async def _race(self) -> Connection:
        addresses = await self.addresses.get()
        if not addresses:
            raise UnknownHost
        return await self._connect_any(addresses)

    async def _connect_any(self, addresses: Sequence[str]) -> Connection:
        """Connect to one of the addresses: each has a while before the next is tried beside it, or until it fails."""
        connection = Connection(self)
        first = defer.Deferred.fromCoroutine(self._connect(connection, addresses[0]))
        if len(addresses) == 1:
            return await first
        turn: defer.Deferred[None] = defer.Deferred(lambda _: timer.active() and timer.cancel())
        timer = self._reactor.callLater(NEXT_ADDRESS_SECONDS, turn.callback, None)

        def hurry(failure: Failure) -> Failure:
            if timer.active():
                timer.reset(0)
            return failure

        rest = defer.Deferred.fromCoroutine(self._connect_after(turn, addresses[1:]))
        try:
            _, winner = await defer.race([first.addErrback(hurry), rest])
        except defer.FailureGroup as group:
            group.failures[0].raiseException()
        return winner

    async def _connect_after(self, turn: defer.Deferred[None], addresses: Sequence[str]) -> Connection:
        await turn
        return await self._connect_any(addresses)

    async def _connect(self, connection: Connection, address: str) -> Connection:
        port = self._node.endpoint.port
        try:
            await self._connect_to(self._reactor, address, port, connection, self._tls, self._connect_timeout)
        except BaseException:
            connection.abandon()  # its transport may still come, when it was cancelled too late
            raise
        return connection

    def _opened(self, result: object, connecting: defer.Deferred[Any]) -> None:
        """An attempt to connect is over. Fail a request only if no other attempt is left for it."""
        self._connecting.discard(connecting)
        if isinstance(result, Failure) and len(self._waiting) > len(self._connecting):
            self._waiting.popleft().sink.failed(Fault.UNREACHABLE, _connect_words(result), False)

    def cancel(self, sink: Sink) -> None:
        """Forget a request."""
        flight, sink.flight = sink.flight, None
        if flight is not None:
            if getattr(flight, "sink", None) is sink:  # else it is done, and the connection with somebody else
                flight.abort()
            return
        for request in self._waiting:
            if request.sink is sink:
                self._waiting.remove(request)
                return

    def redirect(self, sink: Sink, to: Sink) -> bool:
        """Let another sink take the answer; False when nothing was sent yet, and the request is forgotten."""
        flight = sink.flight
        if flight is None or getattr(flight, "sink", None) is not sink:
            self.cancel(sink)
            return False
        sink.flight = None
        flight.sink = to  # type: ignore[attr-defined]
        to.flight = flight
        return True

    def release(self, connection: Connection, keep: bool) -> None:
        """A connection has done its request: give it the next one, keep it, or close it."""
        if not keep or self._closed:
            connection.transport.loseConnection()
        elif self._waiting:
            connection.carry(self._waiting.popleft())
        else:
            connection.idle_since = self._now()
            self.idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """A connection ended."""
        if connection.sink is not None or connection in self.idle:
            self.losses += 1  # not by us
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close connections that idled too long, and look the name up again when it is time."""
        stale = [c for c in self.idle if now - c.idle_since > self._idle_timeout]
        for connection in stale:
            self.idle.remove(connection)
            connection.transport.loseConnection()
        for connection in self.idle:
            connection.forget()
        self.addresses.refresh_when_due()

    def close(self) -> None:
        """Close every connection; requests under way, or waiting for one, fail."""
        self._closed = True
        for connecting in tuple(self._connecting):
            connecting.cancel()
        for connection in tuple(self.open):
            connection.transport.abortConnection()


def _fixed_headers(node: NodeConfig) -> bytes:
    """The header lines that every request to this node has."""
    lines = [("Host", node.endpoint.host_header), ("Accept-Encoding", "identity")]
    given = {name.lower() for name, _ in node.headers}
    if node.endpoint.authorization is not None and "authorization" not in given:
        lines.append(("Authorization", node.endpoint.authorization))
    lines += [(name, value) for name, value in node.headers if name.lower() not in _OWN_HEADERS]
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode()


class UnknownHost(Exception):
    """The name has no address."""


def _connect_words(failure: Failure) -> str:
    """Why a connection could not be made, without addresses."""
    error = failure.value
    if isinstance(error, (TimeoutError, defer.TimeoutError)):
        return "connecting took too long"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'reason', None) or error.__class__.__name__}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, UnknownHost):
        return "the host name cannot be resolved"
    return f"connecting failed: {error.__class__.__name__}"
