"""One client connection, as plain JSON-RPC over HTTP/1.1 uses it: the hot lane.

A request comes, goes to its network's router, and its answer is written; the next one, should it have been sent
already, waits in a bounded buffer until then, so pipelined answers come in order. The common request arrives whole in
one piece with a head that was seen before: it takes :meth:`Lane.dataReceived`, :meth:`Lane._request`,
:meth:`Lane.answer` and no more. Everything else (bodies in pieces, chunks, odd methods, refusals) is off that path.

Reading is never further ahead than one buffer, and stops while the client does not read what we write. A FIN keeps the
half-open connection until all that came before it is answered; a reset means that the client is gone, and its upstream
work ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated, IProtocol, IPushProducer
from zope.interface import implementer

from evmlb import errors
from evmlb.errors import Refusal
from evmlb.exchange import Exchange
from evmlb.front.answers import preflight
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Call, InvalidCall, error_body, parse_call
from evmlb.methods import FAST, REFUSED, UNSAFE
from evmlb.routing import Router
from evmlb.wire.http1 import (
    CHUNKED,
    END_OF_HEAD,
    BadMessage,
    ChunkedBody,
    RequestHead,
    read_request_head,
    request_heads,
)

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from evmlb.front.front import Front

READ_AHEAD_BYTES = 65536
"""Bytes of further requests that are kept while an answer is owed; more are left in the kernel."""
JOIN_BYTES = 65536
"""Bodies up to this size are written together with their head."""
ACCOUNTED_BYTES = 65536
"""Bodies that grow beyond this size count against the memory for request bodies."""
LINGER_SECONDS = 10.0
"""How long a client may take to notice that we closed; after a refusal its further bytes are read and dropped."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Lane:
    """One client connection."""

    __slots__ = (
        "_accounted",
        "_begun",
        "_body",
        "_chunks",
        "_ended",
        "_exchange",
        "_front",
        "_head",
        "_kept",
        "_left",
        "_pumping",
        "_reading_paused",
        "_router",
        "_stream_chunked",
        "_write_paused_at",
        "active_at",
        "closing",
        "peer",
        "peer_line",
        "transport",
    )

    def __init__(self, front: Front, peer: str) -> None:
        self._front = front
        self.peer = peer
        self.peer_line = front.clients.line(peer, b"")
        self.transport: Any = None
        self.active_at = front.now()  # the last sign of life, or the beginning of a request that is being read
        self.closing = False  # no further request is taken
        self._exchange: Exchange | None = None  # the one an answer is owed to
        self._router: Router | None = None
        self._head: RequestHead | None = None  # of the request being read or answered
        self._kept = b""  # bytes behind it, or of an unfinished head
        self._begun = False  # a request is half read
        self._ended = False  # the client sends no more
        self._body: bytearray | None = None  # of a body that comes in pieces
        self._left = 0  # its length, or CHUNKED
        self._chunks: ChunkedBody | None = None
        self._accounted = 0
        self._pumping = False
        self._reading_paused = False
        self._write_paused_at: float | None = None
        self._stream_chunked = False

    # the transport's side

    def makeConnection(self, transport: Any) -> None:
        """See ``IProtocol``."""
        self.transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Nothing is left to do: see :meth:`makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes: nearly always one whole request with a head that was seen before."""
        if self._exchange is None and self._body is None and not self._kept and not self.closing:
            end = data.find(END_OF_HEAD) + 4
            head: Any = request_heads.get(data[:end]) or self._new_head(data, end)
            if head is not None and head.is_plain and head.length == len(data) - end:
                self._head = head
                self._request(head, data[end:])
                return
        self._take(data)

    def _new_head(self, data: bytes, end: int) -> RequestHead | None:
        """Read a head that is not known yet; None where it takes more care, or is not whole."""
        if not 4 <= end <= self._front.limits.max_header_bytes:
            return None
        try:
            return read_request_head(data[:end])
        except BadMessage:
            return None  # it will be read, and refused, again

    def readConnectionLost(self) -> None:
        """The client will send no more; what it asked for is still answered."""
        self._ended = True
        if self.closing and self._exchange is None:
            self.transport.loseConnection()
        elif self._exchange is None:
            self._pump()

    def writeConnectionLost(self) -> None:
        """We never close only our writing side."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, and with it the wish for an answer."""
        self.closing = True
        self._release_memory()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._router is not None:
            self._router.cancel(exchange)
        self._front.gone(self)

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self._write_paused_at = self._front.now()
        if self._exchange is not None and self._router is not None:
            self._router.pause(self._exchange)
        self._read_or_wait()

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._write_paused_at = None
        if self._exchange is not None and self._router is not None:
            self._router.resume(self._exchange)
            self._read_or_wait()
        else:
            self._pump()

    def stopProducing(self) -> None:
        """See ``IPushProducer``; the end comes by ``connectionLost``."""

    # reading

    def _take(self, data: bytes) -> None:
        if self.closing:
            return
        self._kept = self._kept + data if self._kept else data
        self._pump()

    def _pump(self) -> None:
        """Read requests from what is kept, one at a time, until an answer is owed or more bytes are needed."""
        if self._pumping:
            return  # an answer came before its request's submission returned: the loop below goes on
        self._pumping = True
        try:
            while self._kept and self._exchange is None and self._write_paused_at is None and not self.closing:
                if not self._read_some():
                    break
        except BadMessage as error:
            self._reject(Refusal(error.status, errors.INVALID_REQUEST.code, error.reason))
        finally:
            self._pumping = False
        if self._ended and self._exchange is None and self._write_paused_at is None and not self.closing:
            self.close()
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Leave further bytes in the kernel while enough is kept, or while the client does not read."""
        ahead = self._exchange is not None and len(self._kept) > READ_AHEAD_BYTES
        wait = not self.closing and (ahead or self._write_paused_at is not None)
        if wait != self._reading_paused:
            self._reading_paused = wait
            if wait:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _read_some(self) -> bool:
        """Read a head, or some of a body; False when more bytes are needed."""
        if self._body is not None:
            data, self._kept = self._kept, b""
            self._read_body(self._body, data)
            return True
        if not self._begun:
            self._kept = self._kept.lstrip(b"\r\n")  # an empty line before a request is ignored (RFC 9112, 2.2)
            if not self._kept:
                return False
            self._begun = True
            self._head = None
            self.active_at = self._front.now()
        end = self._kept.find(END_OF_HEAD) + 4
        limit = self._front.limits.max_header_bytes
        if max(end, len(self._kept) if end == 3 else 0) > limit:
            raise BadMessage(f"the head is longer than {limit} bytes", 431)
        if end == 3:
            return False
        head = read_request_head(self._kept[:end])
        self._kept = self._kept[end:]
        self._begin_body(head)
        return True

    def _begin_body(self, head: RequestHead) -> None:
        self._head = head
        if head.upgrade:
            self._reject(errors.NO_WEBSOCKET)
        elif head.length > self._front.limits.max_body_bytes:
            self._reject(errors.TOO_LARGE)
        elif head.length == 0:
            self._begun = False
            self._request(head, b"")
        else:
            self._body = bytearray()
            self._left = head.length
            self._chunks = ChunkedBody() if head.length == CHUNKED else None
            if head.expects_continue and not self._kept:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, body: bytearray, data: bytes) -> None:
        """Add to a body; a bytearray, because a body may come in very many very small pieces."""
        if self._chunks is not None:
            pieces, self._kept = self._chunks.feed(data)
            for piece in pieces:
                body += piece
            done = self._chunks.done
        else:
            left = self._left - len(body)
            body += data[:left]
            self._kept = data[left:]
            done = len(body) == self._left
        if len(body) > self._front.limits.max_body_bytes:
            self._reject(errors.TOO_LARGE)
        elif len(body) > ACCOUNTED_BYTES and not self._account(len(body) - self._accounted):
            self._reject(errors.OVER_MEMORY)
        elif done and self._head is not None:
            self._body = self._chunks = None
            self._begun = False
            self._request(self._head, bytes(body))

    def _account(self, size: int) -> bool:
        """Reserve memory for so much more of a body; False when there is none."""
        if not self._front.reserve(size):
            return False
        self._accounted += size
        return True

    # a whole request

    def _request(self, head: RequestHead, body: bytes) -> None:
        """A request is complete: find its network, read its envelope, and send it on its way."""
        front = self._front
        self.active_at = now = front.now()
        router = front.routers.get(head.network)
        if router is None or not head.is_plain or len(body) > front.limits.max_body_bytes:
            self._unusual_request(head, body, router, now)
            return
        try:
            call = parse_call(body)
        except InvalidCall as error:
            self._invalid_call(head, body, router, now, error)
            return
        exchange = Exchange(self, call, body, self.peer, now)
        if head.forwarded_for or head.extra or head.query or front.forward_headers:
            self._describe(exchange, head)
        else:
            exchange.forwarded_for = self.peer_line
        self._router = router
        self._exchange = exchange
        if call.klass is REFUSED:
            self._refuse_unsent(exchange, errors.METHOD_REFUSED)
        else:
            router.submit(exchange)

    def _unusual_request(self, head: RequestHead, body: bytes, router: Router | None, now: float) -> None:
        """Another method than POST, a browser page, an old version, a network that is not there."""
        if not head.keep_alive:
            self.closing = True
        if len(body) > self._front.limits.max_body_bytes:
            self._reject(errors.TOO_LARGE)
        elif router is None:
            self._without_network(head)
        elif head.method == b"OPTIONS" and self._front.cors.origins and head.origin:
            self._write_plain(204, preflight(self._front.cors, head), b"")
            self._next()
        elif head.method != b"POST":
            self._opaque(head, body, router, now)
        elif head.origin and not (head.is_json and head.value(b"content-type")):
            # a page can send a body without a type as well as one of text/plain, and needs no preflight for either
            self._reject_request(errors.WRONG_CONTENT_TYPE)
        else:
            self._uncommon_call(head, body, router, now)

    def _uncommon_call(self, head: RequestHead, body: bytes, router: Router, now: float) -> None:
        try:
            call: Call | None = parse_call(body)
        except InvalidCall as error:
            self._invalid_call(head, body, router, now, error)
            return
        self._submit(head, call, body, router, now)

    def _invalid_call(self, head: RequestHead, body: bytes, router: Router, now: float, error: InvalidCall) -> None:
        """Not JSON-RPC: an error, or on a deeper path something foreign (GraphQL, REST) that is passed on as it is."""
        if head.extra:
            self._opaque(head, body, router, now)
        else:
            self._reject_request(Refusal(400, error.code, error.message))

    def _opaque(self, head: RequestHead, body: bytes, router: Router, now: float) -> None:
        self._submit(head, None, body, router, now)

    def _submit(self, head: RequestHead, call: Call | None, body: bytes, router: Router, now: float) -> None:
        exchange = Exchange(self, call, body, self.peer, now)
        self._describe(exchange, head)
        if call is None:
            exchange.http_method = head.method
            exchange.klass = FAST if head.method in (b"GET", b"HEAD", b"OPTIONS") else UNSAFE
        self._router = router
        self._exchange = exchange
        if exchange.klass is REFUSED:
            self._refuse_unsent(exchange, errors.METHOD_REFUSED)
        else:
            router.submit(exchange)

    def _describe(self, exchange: Exchange, head: RequestHead) -> None:
        """Add what goes to the node beside the body."""
        clients = self._front.clients
        exchange.client_address = clients.client(self.peer, head.forwarded_for)
        exchange.forwarded_for = clients.line(self.peer, head.forwarded_for)
        exchange.target = head.extra + head.query
        exchange.headers = self._front.forwarded(head, opaque=exchange.call is None)

    def _refuse_unsent(self, exchange: Exchange, refusal: Refusal) -> None:
        """Refuse what never goes to a node."""
        self._exchange = None
        self._write_refusal(refusal, exchange.call, 0)
        self._next()

    def _without_network(self, head: RequestHead) -> None:
        if head.network == "" and head.method in (b"GET", b"HEAD"):
            body = self._front.overview()
            self._write_plain(200, b"Content-Type: application/json\r\n", body)
            self._next()
        elif head.network == "":
            self._reject_request(errors.NO_NETWORK)
        else:
            name = head.network[:100]
            self._reject_request(errors.UNKNOWN_NETWORK.saying(f"Unknown network: {name}"))

    def _reject_request(self, refusal: Refusal) -> None:
        """Refuse one request; the connection stays."""
        self._front.stats.bad_requests[refusal.status] += 1
        self._write_refusal(refusal, None, 0)
        self._next()

    def _reject(self, refusal: Refusal) -> None:
        """Refuse, and close: what follows on this connection cannot be made sense of."""
        self._front.stats.bad_requests[refusal.status] += 1
        self.closing = True
        self._body = self._chunks = None
        self._kept = b""
        self._write_refusal(refusal, None, 0)
        self._next()

    # answering

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """Write a whole answer; nearly always with a head that is made already."""
        request: Any = self._head
        self._exchange = None
        node: Any = exchange.node
        if (
            len(parts) == 1
            and exchange.attempts == 1
            and request.is_plain
            and head.status == 200
            and not self.closing
            and not self._front.closes_connections
            and not exchange.degraded
        ):
            body = parts[0]
            start = self._front.answers.common(node, head.content_type)
            if len(body) <= JOIN_BYTES:
                self.transport.write(b"%b%d\r\n\r\n%b" % (start, len(body), body))
            else:
                self.transport.writeSequence((b"%b%d\r\n\r\n" % (start, len(body)), body))
            if self._kept or self._accounted or self._ended:
                self._next()
            return
        status = head.status if exchange.call is None or head.status == 204 else 200
        self._write(status, self._answer_head(exchange, head, status), parts)
        self._next()

    def begin(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """Write the head and the beginning of an answer whose end is not there yet."""
        request: Any = self._head
        known = head.length >= 0
        if not known and not request.http11:
            self.closing = True  # the end of the connection is the end of the answer
        start = self._answer_head(exchange, head, head.status if exchange.call is None else 200)
        self._stream_chunked = not known and request.http11
        if self._stream_chunked:
            self.transport.write(start + b"Transfer-Encoding: chunked\r\n\r\n")
        elif known:
            self.transport.write(b"%bContent-Length: %d\r\n\r\n" % (start, head.length))
        else:
            self.transport.write(start + b"\r\n")
        for part in parts:
            self.stream(part)

    def stream(self, data: bytes) -> None:
        """Write more of it."""
        if not self._stream_chunked:
            self.transport.write(data)
        elif data:  # an empty chunk would be the last one
            self.transport.writeSequence((b"%x\r\n" % len(data), data, b"\r\n"))

    def finish(self, exchange: Exchange) -> None:
        """That was the end of it."""
        if self._stream_chunked:
            self.transport.write(b"0\r\n\r\n")
        self._exchange = None
        self._next()

    def abort(self) -> None:
        """Cut the connection: the client must not take what it has for the whole."""
        self._exchange = None
        self.closing = True
        self.transport.abortConnection()

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Write an answer of our own."""
        self._exchange = None
        self._write_refusal(refusal, exchange.call, exchange.attempts)
        self._next()

    def _answer_head(self, exchange: Exchange, head: AnswerHead, status: int) -> bytes:
        """The head of an answer off the common path. A JSON-RPC body travels with 200, whatever the node's status."""
        request: Any = self._head
        node: Any = exchange.node
        return self._front.answers.head(
            request, status, head, node.name, exchange.attempts, exchange.degraded, self._stays()
        )

    def _stays(self) -> bool:
        """Whether the connection goes on after this answer; decides it when evmlb is shutting down."""
        if self._front.closes_connections or self._head is None or not self._head.keep_alive:
            self.closing = True
        return not self.closing

    def _write_refusal(self, refusal: Refusal, call: Call | None, attempts: int) -> None:
        if call is not None and not call.expects_answer:
            self._write_plain(204, b"", b"")
            return
        head = self._front.answers.refusal(self._head, refusal, attempts, self._stays())
        status = self._front.answers.refusal_status(refusal)
        self._write(status, head, (error_body(call, refusal.code, refusal.message),))

    def _write_plain(self, status: int, lines: bytes, body: bytes) -> None:
        self._write(status, self._front.answers.plain(self._head, status, lines, self._stays()), (body,))

    def _write(self, status: int, head: bytes, body: Sequence[bytes]) -> None:
        """Write a whole answer. 204 and 304 have no body by themselves, one to HEAD has only its length."""
        if status in (204, 304):
            self.transport.write(head + b"\r\n")
            return
        length = sum(map(len, body))
        if self._head is not None and self._head.method == b"HEAD":
            # what a node would send to GET, only it knows: no length rather than a wrong one
            self.transport.write(b"%bContent-Length: %d\r\n\r\n" % (head, length) if length else head + b"\r\n")
        else:
            self.transport.writeSequence((b"%bContent-Length: %d\r\n\r\n" % (head, length), *body))

    def _next(self) -> None:
        """An answer is written: close, or see to the next request."""
        self._release_memory()
        if self.closing:
            self.close()
            return
        self.active_at = self._front.now()
        if self._kept or self._ended:
            self._pump()

    def close(self) -> None:
        """Take no more requests, and close behind what is written.

        While a request is half read its client may go on sending. Closing then would make the kernel send a reset,
        which can overtake the answer: so we end our side only, and drop what comes, for a while.
        """
        self.closing = True
        self.active_at = self._front.now()
        self._write_paused_at = None
        self._read_or_wait()
        self.transport.unregisterProducer()  # a Twisted transport would wait for it to be done
        if self._begun and not self._ended and not INegotiated.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def _release_memory(self) -> None:
        if self._accounted:
            self._front.release(self._accounted)
            self._accounted = 0

    # time

    def check(self, now: float) -> None:
        """Called about once a second: end what takes too long."""
        limits = self._front.limits
        if self._write_paused_at is not None:
            if now - self._write_paused_at > limits.client_idle_timeout_seconds:
                self.transport.abortConnection()
        elif self._exchange is not None:
            self.active_at = now
        elif self.closing:
            if now - self.active_at > LINGER_SECONDS:
                self.transport.abortConnection()
        elif self._begun:
            if now - self.active_at > limits.request_read_timeout_seconds:
                self._reject(Refusal(408, errors.INVALID_REQUEST.code, "the request took too long to arrive"))
        elif now - self.active_at > limits.client_idle_timeout_seconds:
            self.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is owed and nothing is half read."""
        return self._exchange is None and not self._begun and not self._kept
