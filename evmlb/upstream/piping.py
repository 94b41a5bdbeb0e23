"""One handshake with a node's WebSocket, for a pipe: the client's own, so that the node's answer is the client's too.

::

    look-up, connecting, TLS --> request --> head of the answer --> 101: ``opened``, the connection is the caller's
                                                                '-> anything else: ``failed``, the connection is cut

``Sec-WebSocket-Key``, ``-Version`` and ``-Protocol`` are the client's, so the 101 can go back to it byte for byte, and
the subprotocol is between the two ends. Extensions are not offered. All else is ours: Host, the node's configured
headers, its path with the client's behind it. The answer is checked as any client would (RFC 6455, 4.1), because a 101
that the client must refuse is a failure of this node, and another one may be asked.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from evmlb.config.schema import NodeConfig
from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead
from evmlb.upstream.http import USER_AGENT, Connect, UnknownHost, _connect_words
from evmlb.upstream.link import Target
from evmlb.wire.http1 import END_OF_HEAD, BadMessage, ResponseHead, read_response_head
from evmlb.wire.sockets import connect
from evmlb.wire.transport import change_protocol

HANDSHAKE_SECONDS = 5.0
"""Look-up, connecting, TLS and handshake together take at most this."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_OWN_HEADERS = frozenset((b"host", b"upgrade", b"connection", b"content-length", b"transfer-encoding", b"expect"))
_STATUS_FAULTS = {401: Fault.UNAUTHORIZED, 403: Fault.UNAUTHORIZED, 429: Fault.RATE_LIMITED}


class Caller(Protocol):
    """Who hears of a handshake: one of the two, once."""

    def opened(self, transport: Any, head: bytes) -> Any:
        """The node took it. ``head`` is its answer's; return the protocol that hears what follows."""
        ...

    def failed(self, fault: Fault, words: str, answer: AnswerHead | None) -> None:
        """It came to nothing. ``answer``: the node's, where there was one in HTTP."""
        ...


class Dialler:
    """The way to one node's WebSocket. ``target`` may be shared with others who go there.

    ``is_guess``: nobody configured where it is. ``shares_port``: it is behind the port that answers HTTP, so that who
    cannot connect to one cannot to the other.
    """

    def __init__(
        self, reactor: Any, target: Target, node: NodeConfig, max_head_bytes: int, connect: Connect = connect
    ) -> None:
        self.reactor: IReactorTime = reactor
        self.target = target
        self.max_head_bytes = max_head_bytes
        self.connect = connect
        self.is_guess = target.is_guess
        self.shares_port = (target.endpoint.host, target.endpoint.port) == (node.endpoint.host, node.endpoint.port)
        given = target.request().headers or {}
        lines = [f"Host: {target.endpoint.host_header}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        self._lines = "".join(f"{line}\r\n" for line in lines).encode()
        self._ours = _OWN_HEADERS | {name.lower().encode() for name in given}

    def dial(self, extra: bytes, headers: tuple[tuple[bytes, bytes], ...], key: bytes, caller: Caller) -> Dial:
        """A handshake, to be begun.

        ``extra``: path and query behind the node's own. ``headers``: those of the client's; where the node has one of
        the same name configured, that is sent. ``key``: the client's, which the answer must prove.
        """
        lines = b"".join(b"%b: %b\r\n" % line for line in headers if line[0].lower() not in self._ours)
        if b"user-agent" not in self._ours and all(name.lower() != b"user-agent" for name, _ in headers):
            lines += b"User-Agent: %b\r\n" % USER_AGENT.encode()
        request = b"GET %b HTTP/1.1\r\n%b%b\r\n" % (self._path(extra), self._lines, lines)
        return Dial(self, request, key, caller)

    def _path(self, extra: bytes) -> bytes:
        endpoint = self.target.endpoint
        path, _, query = extra.partition(b"?")
        own = endpoint.path.encode()
        whole = (own.rstrip(b"/") + path if path else own) or b"/"
        queries = b"&".join(part for part in (endpoint.query.encode(), query) if part)
        return whole + b"?" + queries if queries else whole


class Dial:
    """See the module's head."""

    def __init__(self, dialler: Dialler, request: bytes, key: bytes, caller: Caller) -> None:
        self.request = request
        self.max_head_bytes = dialler.max_head_bytes
        self._dialler = dialler
        self._accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        self._caller = caller
        self._connecting: defer.Deferred[None] | None = None
        self._connection: _Connection | None = None
        self._timer: Any = None
        self._is_over = False

    def begin(self) -> None:
        """Connect. The caller may hear of a failure before this returns."""
        self._timer = self._dialler.reactor.callLater(HANDSHAKE_SECONDS, self._take_too_long)
        self._connecting = defer.Deferred.fromCoroutine(self._connect())
        self._connecting.addErrback(self._fail_to_connect)

    def cancel(self) -> None:
        """Nobody waits for it any more; the caller hears nothing."""
        if self._end() and self._connection is not None:
            self._connection.abandon()

    async def _connect(self) -> None:
        """Connect to the first of the host's addresses that answers; each gets its share of the time."""
        dialler, target = self._dialler, self._dialler.target
        addresses = await target.addresses.get()
        if not addresses:
            raise UnknownHost
        seconds = HANDSHAKE_SECONDS / len(addresses)
        for address in addresses:
            connection = _Connection(self)
            try:
                await dialler.connect(dialler.reactor, address, target.endpoint.port, connection, target.tls, seconds)
                return
            except Exception:
                if connection is self._connection:
                    return  # it stood before; its own end is told by itself
                connection.abandon()  # its transport may still come, when it was cancelled too late
                if self._is_over or address == addresses[-1]:
                    raise

    def _fail_to_connect(self, failure: Failure) -> None:
        self.fail(Fault.UNREACHABLE, _connect_words(failure))

    def _take_too_long(self) -> None:
        if self._connection is None:
            self.fail(Fault.UNREACHABLE, "connecting took too long")
        else:
            self.fail(Fault.TIMED_OUT, "the WebSocket handshake is not answered")

    def _end(self) -> bool:
        """It is over, one way or another; False when it was already."""
        if self._is_over:
            return False
        self._is_over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        return True

    # what the connection tells

    def joined(self, connection: _Connection) -> bool:
        """A connection stands; False when nobody waits for it any more."""
        if self._is_over:
            return False
        self._connection = connection
        self._connecting = None  # the loop may still be at it: cancelling would close what it made
        return True

    def fail(self, fault: Fault, words: str, answer: ResponseHead | None = None) -> None:
        """It came to nothing."""
        if self._end():
            if self._connection is not None:
                self._connection.abandon()
            self._caller.failed(fault, words, answer)

    def answered(self, head: ResponseHead, raw: bytes, rest: bytes) -> None:
        """The head of the answer is whole. ``rest``: bytes that came behind it."""
        connection = self._connection
        if head.status != 101:
            self.fail(_fault_of(head.status), f"the node answers {head.status} to a WebSocket handshake", head)
        elif not self._is_right(head):
            self.fail(Fault.GARBAGE, "what the node answers to a WebSocket handshake is no answer to it", head)
        elif self._end() and connection is not None:
            protocol = self._caller.opened(connection.transport, raw)
            change_protocol(connection.transport, protocol)
            if rest:
                protocol.dataReceived(rest)

    def _is_right(self, head: ResponseHead) -> bool:
        upgrade, accept = head.value(b"upgrade"), head.value(b"sec-websocket-accept")
        is_offered = not head.value(b"sec-websocket-extensions")  # none is (RFC 6455, 4.1, 5)
        return upgrade.lower() == b"websocket" and accept == self._accept and is_offered


def _fault_of(status: int) -> Fault:
    """What a status in place of 101 means: 4xx is about this request, anything else about the node."""
    return _STATUS_FAULTS.get(status) or (Fault.REJECTED if 400 <= status < 500 else Fault.HTTP_ERROR)


class _Connection:
    """A connection to one of the node's addresses until the handshake is done, a protocol of Twisted's."""

    def __init__(self, dial: Dial) -> None:
        self.transport: Any = None
        self._dial = dial
        self._kept = b""
        self._is_abandoned = False

    def abandon(self) -> None:
        """Cut it, now or once it is there."""
        self._is_abandoned = True
        if self.transport is not None:
            self.transport.abortConnection()

    def makeConnection(self, transport: Any) -> None:
        """Ask, if anybody still waits for the answer."""
        self.transport = transport
        if self._is_abandoned or not self._dial.joined(self):
            self.abandon()
        else:
            transport.write(self._dial.request)

    def connectionMade(self) -> None:
        """See :meth:`makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes until the head of the answer is whole, passing over 1xx but for 101."""
        if self._is_abandoned:
            return
        self._kept += data
        try:
            self._read()
        except BadMessage as error:
            self._dial.fail(Fault.GARBAGE, error.reason)

    def _read(self) -> None:
        while (end := self._kept.find(END_OF_HEAD) + 4) > 3:
            raw, self._kept = self._kept[:end], self._kept[end:]
            if end > self._dial.max_head_bytes:
                raise BadMessage("the head of the answer is too long")
            head = read_response_head(raw)
            if head.status == 101 or head.status >= 200:
                self._dial.answered(head, raw, self._kept)
                return
        self._check_beginning()

    def _check_beginning(self) -> None:
        if len(self._kept) > self._dial.max_head_bytes:
            raise BadMessage("the head of the answer has no end")
        if self._kept and not b"HTTP/1.".startswith(self._kept[:7]):
            raise BadMessage("the answer is not HTTP")

    def connectionLost(self, reason: Failure) -> None:
        """It is gone."""
        self.transport = None
        if not self._is_abandoned:
            self._is_abandoned = True
            self._dial.fail(Fault.DISCONNECTED, "the node ended the connection instead of answering the handshake")
