"""The half of a client connection that writes: what a router tells of its request becomes bytes.

Each request is answered in one of these ways, and then :meth:`AnsweringSide._next` is called::

    answer                      a node's answer, whole; compressed where it is large and the client wants it so
    begin, stream..., finish    a node's answer that is too large to be held
    refuse                      an answer of our own
    abort                       the connection is cut, when what was begun cannot be finished; nothing comes after it

The common answer (one part, first attempt, 200, a plain request, a connection that stays) is one write of a head that
is made already with its length and body. All others go through :mod:`.answers`, which knows what they look like.

It is a base class, and no object of its own, because the common answer has no call to spare and an idle connection no
bytes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from evmlb.errors import Refusal
from evmlb.exchange import Exchange
from evmlb.front.answers import chunk, framed
from evmlb.front.encodings import accepts_gzip
from evmlb.front.packing import ENCODING, VARY, Job
from evmlb.front.reading import RequestReader
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Call, error_body
from evmlb.session import Session
from evmlb.wire.http1 import RequestHead

if TYPE_CHECKING:
    from evmlb.front.shared import Shared
    from evmlb.routing import Router

SMALL_BYTES = 4096
"""Answers up to this size are never compressed (``gzip: min_size`` is no smaller): the common one is asked no more."""
JOIN_BYTES = 65536
"""Bodies up to this size are written together with their head."""


class AnsweringSide:
    """What a router has of a client connection: see ``Reply``."""

    __slots__ = (
        "_ended",
        "_exchange",
        "_front",
        "_head",
        "_reader",
        "_router",
        "_stream_chunked",
        "closing",
        "session",
        "transport",
    )

    def __init__(self, front: Shared) -> None:
        self._front = front
        self.transport: Any = None
        self.session: Session | None = None  # what routing knows of this connection's past
        self.closing = False  # no further request is taken
        self._exchange: Exchange | None = None  # the one an answer is owed to
        self._router: Router | None = None  # who has it; None once its answer is there, and only to be compressed
        self._head: RequestHead | None = None  # of the request that is answered
        self._stream_chunked = False
        self._reader: RequestReader | None = None  # while bytes are kept that are not a whole request, or not due yet
        self._ended = False  # the client sends no more

    def _next(self) -> None:
        """An answer is written: close, or see to the next request.

        The common answer skips it unless bytes are kept or the client has ended: there is nothing to see to then.
        """
        raise NotImplementedError

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """Write a whole answer; nearly always with a head that is made already."""
        request: Any = self._head
        self._exchange = None
        if (
            len(parts) == 1
            and exchange.attempts == 1
            and request.is_plain
            and head.status == 200
            and not self.closing
            and not self._front.closes_connections
            and not exchange.degraded
            and exchange.trail is None
            and exchange.queued is None
        ):
            body = parts[0]
            size = len(body)
            start = self._front.answers.common(exchange.node, head.content_type)
            if size <= SMALL_BYTES:
                self.transport.write(b"%b%d\r\n\r\n%b" % (start, size, body))
            elif size >= self._front.packing.min_bytes:
                self._answer_large(exchange, head, parts, start)
                return
            elif size <= JOIN_BYTES:
                self.transport.write(b"%b%d\r\n\r\n%b" % (start, size, body))
            else:
                self.transport.writeSequence((b"%b%d\r\n\r\n" % (start, size), body))
            if self._reader is not None or self._ended:
                self._next()
        elif sum(map(len, parts)) >= self._front.packing.min_bytes:
            self._answer_large(exchange, head, parts)
        else:
            self._write_answer(exchange, head, parts)

    def _answer_large(self, exchange: Exchange, head: AnswerHead, parts: list[bytes], start: bytes = b"") -> None:
        """Answer compressed where the client wants it, now or when a thread is done: until then the answer is owed.

        ``start``: the head that is made already, where that will do for the plain answer.
        """
        request: Any = self._head
        vary = b"" if exchange.call is None or head.is_encoded else VARY
        if vary and accepts_gzip(request.value(b"accept-encoding")):
            self._exchange = exchange
            self._router = None
            packed = partial(self._packed, exchange, head, parts)
            exchange.state = self._front.packing.pack(exchange.client_address, parts, packed)
        elif start:
            self.transport.writeSequence((b"%b%d\r\n%b\r\n" % (start, len(parts[0]), vary), parts[0]))
            self._next()
        else:
            self._write_answer(exchange, head, parts, vary)

    def _packed(self, exchange: Exchange, head: AnswerHead, parts: list[bytes], packed: list[bytes] | None) -> None:
        """The body is compressed; or it is not to be."""
        self._exchange = None
        if packed is None:
            self._write_answer(exchange, head, parts, VARY)
        else:
            self._write_answer(exchange, head, packed, VARY + ENCODING)

    def _leave(self, exchange: Exchange) -> None:
        """The client is gone, and with it the wish for an answer."""
        if self._router is not None:
            self._router.cancel(exchange)
        elif isinstance(exchange.state, Job):
            exchange.state.cancel()

    def _write_answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes], lines: bytes = b"") -> None:
        """Write a whole answer with a head of its own, and these lines in it."""
        status = head.status if exchange.call is None or head.status == 204 else 200
        start = self._answer_head(exchange, head, status) + lines
        self.transport.writeSequence(framed(self._head, status, start, parts))
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
            self.stream(exchange, part)

    def stream(self, exchange: Exchange, data: bytes) -> None:
        """Write more of it."""
        if not self._stream_chunked:
            self.transport.write(data)
        elif data:  # an empty chunk would be the last one
            self.transport.writeSequence(chunk(data))

    def finish(self, exchange: Exchange) -> None:
        """That was the end of it."""
        if self._stream_chunked:
            self.transport.write(b"0\r\n\r\n")
        self._exchange = None
        self._next()

    def abort(self, exchange: Exchange) -> None:
        """Cut the connection: the client must not take what it has for the whole."""
        self._exchange = None
        self.closing = True
        self.transport.abortConnection()

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Write an answer of our own."""
        self._exchange = None
        marks = b"" if exchange.trail is None else self._front.marks.lines(exchange)
        self._write_refusal(refusal, exchange.call, exchange.attempts, marks)
        self._next()

    def tell(self, lines: bytes) -> None:
        """Write header lines, and nothing else: the answer to a preflight."""
        self._exchange = None
        self._write_plain(204, lines, b"")
        self._next()

    def _answer_head(self, exchange: Exchange, head: AnswerHead, status: int) -> bytes:
        """The head of an answer off the common path. A JSON-RPC body travels with 200, whatever the node's status."""
        request: Any = self._head
        return self._front.answers.head(
            request,
            status,
            head,
            exchange.node,
            exchange.attempts,
            exchange.degraded,
            self._stays(),
            self._front.marks.lines(exchange),
        )

    def _stays(self) -> bool:
        """Whether the connection goes on after this answer; decides it when evmlb is shutting down."""
        if self._front.closes_connections or self._head is None or not self._head.keep_alive:
            self.closing = True
        return not self.closing

    def _write_refusal(self, refusal: Refusal, call: Call | bytes | None, attempts: int, marks: bytes = b"") -> None:
        """Write an error; of a call that cannot be told, its id may be known."""
        if isinstance(call, Call) and not call.expects_answer:
            self._write_plain(204, marks, b"")
            return
        head = self._front.answers.refusal(self._head, refusal, attempts, self._stays()) + marks
        status = self._front.answers.refusal_status(refusal)
        body = error_body(call, refusal.code, refusal.message)
        self.transport.writeSequence(framed(self._head, status, head, (body,)))

    def _write_plain(self, status: int, lines: bytes, body: bytes) -> None:
        head = self._front.answers.plain(self._head, status, lines, self._stays())
        self.transport.writeSequence(framed(self._head, status, head, (body,)))
