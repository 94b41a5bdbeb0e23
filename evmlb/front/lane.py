"""One client connection, as plain JSON-RPC over HTTP/1.1 uses it: the hot lane.

A request comes, goes to its network's router, and its answer is written; the next one, should it have been sent
already, waits in a bounded buffer until then, so pipelined answers come in order. The common request arrives whole in
one piece with a head that was seen before: it takes :meth:`Lane.dataReceived`, :meth:`Lane._request`,
:meth:`Lane.answer` and no more. The rules for everything else are kept elsewhere, without I/O: a
:class:`.reading.RequestReader` puts together what comes in pieces or with others behind it, :mod:`.asking` says what
odd requests ask for. Here is when: what is read next, whom it goes to, how the connection ends. The half that writes
is :mod:`.answering`.

Reading is never further ahead than one buffer, and stops while the client does not read what we write. A FIN keeps the
half-open connection until all that came before it is answered; a reset means that the client is gone, and its upstream
work ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated, IProtocol, IPushProducer
from zope.interface import implementer

from evmlb import errors
from evmlb.errors import Refusal
from evmlb.exchange import Exchange
from evmlb.front.answering import AnsweringSide
from evmlb.front.asking import Page, PassOn, Wish, asked, asker, foreign, refused_upgrade, without_network
from evmlb.front.preflight import Preflight
from evmlb.front.reading import ACCOUNTED_BYTES, Need, RequestReader, new_head
from evmlb.jsonrpc import Call, InvalidCall, parse_call
from evmlb.methods import FAST, REFUSED, UNSAFE
from evmlb.routing import Router, admit
from evmlb.wire.http1 import END_OF_HEAD, RequestHead, request_heads

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from evmlb.front.shared import Shared

READ_AHEAD_BYTES = 65536
"""Bytes of further requests that are kept while an answer is owed; more are left in the kernel."""
HALF_CLOSED_SECONDS = 5.0
"""How long a client that sends no more is waited on for its answer. A client that gave up looks the same as one that
only closed its sending side, and its work must not keep a node busy for minutes."""
LINGER_SECONDS = 10.0
"""How long a client may take to notice that we closed; after a refusal its further bytes are read and dropped."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Lane(AnsweringSide):
    """One client connection."""

    __slots__ = (
        "_pumping",
        "_reading_paused",
        "_write_paused_at",
        "active_at",
        "peer",
        "peer_line",
    )

    def __init__(self, front: Shared, peer: str) -> None:
        super().__init__(front)
        self.peer = peer
        self.peer_line = front.clients.line(peer, b"")
        self.active_at = front.now()  # the last sign of life
        self._pumping = False
        self._reading_paused = False
        self._write_paused_at: float | None = None

    # the transport's side

    def makeConnection(self, transport: Any) -> None:
        """See ``IProtocol``."""
        self.transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Nothing is left to do: see :meth:`makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes: nearly always one whole request with a head that was seen before."""
        if self._exchange is None and self._reader is None and not self.closing:
            end = data.find(END_OF_HEAD) + 4
            head: Any = request_heads.get(data[:end]) or new_head(data, end, self._front.limits.max_header_bytes)
            if (
                head is not None
                and head.is_plain
                and head.length == len(data) - end
                and head.length <= ACCOUNTED_BYTES  # longer ones count in the memory for bodies, by the reader
            ):
                self._head = head
                self._request(head, data[end:])
                return
        self._take(data)

    def readConnectionLost(self) -> None:
        """The client will send no more; what it asked for is still answered."""
        self._ended = True
        self.active_at = self._front.now()
        if self.closing and self._exchange is None:
            self.transport.loseConnection()
        elif self._exchange is None:
            self._pump()

    def writeConnectionLost(self) -> None:
        """We never close only our writing side."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, and with it the wish for an answer."""
        self.closing = True
        if self._reader is not None:
            self._reader.release()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._leave(exchange)
        self._front.gone(self)

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write. Twisted's own transports say it again with every write."""
        if self._write_paused_at is None:
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
        """Keep bytes that are not simply the next request, and read what can be read."""
        if self.closing:
            return
        if self._reader is None:
            self._reader = RequestReader(self._front.limits, self._front.memory, self._client_of)
        self._reader.feed(data)
        self._pump()

    def _client_of(self, head: RequestHead) -> str:
        return self._front.clients.client(self.peer, head.forwarded_for)

    def _pump(self) -> None:
        """Read requests from what is kept, one at a time, until an answer is owed or more bytes are needed."""
        if self._pumping:
            return  # an answer came before its request's submission returned: the loop below goes on
        self._pumping = True
        try:
            while self._exchange is None and self._write_paused_at is None and not self.closing:
                if self._reader is None or not self._read_one(self._reader):
                    break
        finally:
            self._pumping = False
        if self._ended and self._exchange is None and self._write_paused_at is None and not self.closing:
            self.close()
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Leave further bytes in the kernel while enough is kept, or while the client does not read."""
        ahead = self._exchange is not None and self._reader is not None and self._reader.ahead > READ_AHEAD_BYTES
        wait = not self.closing and (ahead or self._write_paused_at is not None)
        if wait != self._reading_paused:
            self._reading_paused = wait
            if wait:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _read_one(self, reader: RequestReader) -> bool:
        """Read a request and see to it; False when more bytes are needed."""
        read = reader.read(self._front.now())
        if isinstance(read, Refusal):
            self._reject(read, reader.head)
            return True
        if reader.is_empty:
            self._reader = None  # the next request may be a common one
        if isinstance(read, Need):
            if read is Need.LEAVE:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        self._head, body = read
        self._request(self._head, body)
        return True

    # a whole request

    def _request(self, head: RequestHead, body: bytes) -> None:
        """A request is complete: find its network, read its envelope, and send it on its way."""
        front = self._front
        self.active_at = now = front.now()
        router = front.routers.get(head.network)
        if (
            router is None
            or not head.is_plain
            or len(body) > front.limits.max_body_bytes
            or (front.hosts is not None and not front.hosts.permit(head.value(b"host")))
        ):
            self._unusual_request(head, body, router, now)
            return
        try:
            call = parse_call(body)
        except InvalidCall as error:
            self._follow(head, body, router, now, foreign(head, body, error, _passes_others(router)))
            return
        exchange = Exchange(self, call, body, self.peer, now)
        if (
            head.forwarded_for
            or head.extra
            or head.query
            or head.is_marked
            or front.forward_headers
            or router.prioritises
        ):
            front.describe(exchange, head, router)
        else:
            exchange.forwarded_for = self.peer_line
        self._start(router, exchange)

    def _start(self, router: Router, exchange: Exchange) -> None:
        """Send a request on its way; from here on an answer is owed."""
        if self._front.tracing:
            self._front.trace(router, exchange)
        self._router = router
        self._exchange = exchange
        refusal = admit(exchange, router.refusal) if exchange.klass is REFUSED else None
        if refusal is None:
            router.submit(exchange)
        else:
            self.refuse(exchange, refusal)

    def _unusual_request(self, head: RequestHead, body: bytes, router: Router | None, now: float) -> None:
        """Another method than POST, a browser page, an old version, a network or host that is not there."""
        front = self._front
        if not head.keep_alive:
            self.closing = True
        if len(body) > front.limits.max_body_bytes:
            self._reject(errors.TOO_LARGE, head)
        elif front.hosts is not None and not front.hosts.permit(head.value(b"host")):
            self._refuse_host(head, body)
        elif head.upgrade:
            self._upgrade(head, router)
        elif router is None:
            self._reply(without_network(front.overview, head), body)
        else:
            hosts = front.asked_hosts(head, self.peer)
            self._follow(head, body, router, now, asked(front.cors, head, body, hosts, _passes_others(router)))

    def _refuse_host(self, head: RequestHead, body: bytes) -> None:
        if head.upgrade:
            self._reject(errors.STRANGE_HOST, head)
        else:
            self._reply(errors.STRANGE_HOST, body)

    def _follow(self, head: RequestHead, body: bytes, router: Router, now: float, wish: Wish) -> None:
        """Do what a request asks for: see :mod:`.asking`."""
        if isinstance(wish, (Refusal, Page)):
            self._reply(wish, body)
        else:
            self._submit(head, wish, body, router, now)

    def _upgrade(self, head: RequestHead, router: Router | None) -> None:
        """Hand the connection over to WebSocket, and be done with it; or refuse, and close."""
        refusal = errors.INVALID_REQUEST if self._ended else refused_upgrade(head, router)
        if refusal is None and router is not None:
            rest = b"" if self._reader is None else self._reader.take_rest()
            self.closing = True
            self._read_or_wait()
            refusal = self._front.upgrade(self, self.peer, head, router, rest)
        if refusal is not None:
            self._reject(refusal, head)

    def _submit(self, head: RequestHead, wish: Call | PassOn, body: bytes, router: Router, now: float) -> None:
        reply = Preflight(self, head, self._front.cors) if wish is PassOn.PREFLIGHT else self
        exchange = Exchange(reply, None if isinstance(wish, PassOn) else wish, body, self.peer, now)
        self._front.describe(exchange, head, router)
        if exchange.call is None:
            exchange.http_method = head.method
            exchange.klass = FAST if head.method in (b"GET", b"HEAD", b"OPTIONS") and not body else UNSAFE
        self._start(router, exchange)

    def _reply(self, reply: Refusal | Page, body: bytes) -> None:
        """Answer a request that goes to no node; the connection stays."""
        if isinstance(reply, Page):
            self._write_plain(reply.status, reply.lines, reply.body)
        else:
            self._front.stats.bad_requests[reply.status] += 1
            self._write_refusal(reply, asker(body), 0)
        self._next()

    def _reject(self, refusal: Refusal, head: RequestHead | None) -> None:
        """Refuse, and close: what follows on this connection cannot be made sense of."""
        self._front.stats.bad_requests[refusal.status] += 1
        self.closing = True
        self._head = head
        if self._reader is not None:
            self._reader.drop()
        self._write_refusal(refusal, None, 0)
        self._next()

    def _next(self) -> None:
        """An answer is written: close, or see to the next request."""
        if self._reader is not None:
            self._reader.release()
        if self.closing:
            self.close()
            return
        self.active_at = self._front.now()
        if self._reader is not None or self._ended:
            self._pump()

    def close(self) -> None:
        """Take no more requests, and close behind what is written.

        While a request is half read its client may go on sending. Closing then would make the kernel send a reset,
        which can overtake the answer: so we end our side only, and drop what comes, for a while.
        """
        self.closing = True
        self.active_at = self._front.now()
        self._write_paused_at = None
        self.transport.unregisterProducer()  # a Twisted transport would wait for it to be done
        self._read_or_wait()
        if self._begun_at is not None and not self._ended and not INegotiated.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    # time

    def check(self, now: float) -> None:
        """Called about once a second: end what takes too long."""
        limits = self._front.limits
        if self._write_paused_at is not None:
            if now - self._write_paused_at > limits.client_idle_timeout_seconds:
                self.transport.abortConnection()
        elif self._exchange is not None:
            if not self._ended or self._exchange.committed:
                self.active_at = now
            elif now - self.active_at > HALF_CLOSED_SECONDS:
                self.transport.abortConnection()
        elif self.closing:
            if now - self.active_at > LINGER_SECONDS:
                self.transport.abortConnection()
        elif self._begun_at is not None:
            if now - self._begun_at > limits.request_read_timeout_seconds:
                self._time_out()
        elif now - self.active_at > limits.client_idle_timeout_seconds:
            self.close()

    def _time_out(self) -> None:
        refusal = Refusal(408, errors.INVALID_REQUEST.code, "the request took too long to arrive")
        self._reject(refusal, self._reader.head if self._reader is not None else None)

    @property
    def _begun_at(self) -> float | None:
        """Since when a request is half read; None when none is."""
        return None if self._reader is None else self._reader.begun_at

    @property
    def is_idle(self) -> bool:
        """Whether nothing is owed and nothing is half read."""
        return self._exchange is None and (self._reader is None or self._reader.is_empty)


def _passes_others(router: Router) -> bool:
    return router.network.config.pass_other_requests
