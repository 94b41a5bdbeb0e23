"""One HTTP/1.1 connection to a node: a request out, the pieces of its answer in.

It carries one request at a time, so whatever comes belongs to that one. Two ways lead through an answer:

* all of it in one piece, with a head seen before (nearly always): looked up in a memo and handed on, no state touched;
* anything else goes through ``_take``: heads are kept until they end, 1xx passed over, bodies cut by length, by chunks
  or by the connection's end. Pieces are held until the body is whole or outgrows ``hold_bytes``; from then on it is
  streamed.

A kept connection that ends before the first byte of an answer may have been closed before the request came: one that
may be repeated goes back to the pool, if its sink says that so soon an end means that. A connection whose answer breaks
the rules is closed, never used again. An exception while an answer is taken is logged, and ends as garbage of that
one attempt, so that the next node is asked.

This is the hot path: ``Connection.dataReceived`` and ``carry`` are measured by ``make bench``.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.errors import Fault
from evmlb.interfaces import Sink
from evmlb.wire.http1 import (
    CHUNKED,
    END_OF_HEAD,
    UNTIL_CLOSE,
    BadMessage,
    ChunkedBody,
    ResponseHead,
    read_response_head,
    response_heads,
)

_log = Logger(namespace="evmlb.upstream")


class Request(msgspec.Struct):
    """One request as bytes: ``data`` is its head, with the body behind it unless ``body`` is apart (large ones)."""

    sink: Sink
    data: bytes
    body: bytes
    asked_with_head: bool


class Pool(Protocol):
    """Whose connection it is, and what it may hold. ``unasked`` counts answers that nobody had asked for."""

    open: set[Connection]
    unasked: int
    max_header_bytes: int
    hold_bytes: int

    def wait(self, request: Request) -> None:
        """Send a request once more, on another connection."""
        ...

    def release(self, connection: Connection, keep: bool) -> None:
        """A connection is done with its request."""
        ...

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        ...


class Connection:
    """One connection to a node, a protocol of Twisted's. Its pool gives it requests and takes it back after each."""

    __slots__ = (
        "_abandoned",
        "_chunks",
        "_head",
        "_held",
        "_kept",
        "_left",
        "_pool",
        "_request",
        "_size",
        "_streaming",
        "_used",
        "idle_since",
        "is_lost",
        "sink",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.transport: Any = None
        self.sink: Sink | None = None
        self.idle_since = 0.0
        self.is_lost = False
        self._abandoned = False
        self._used = False
        self._request: Request | None = None
        self._kept = b""
        self._head: ResponseHead | None = None
        self._reset()

    def _reset(self) -> None:
        self._head = None
        self._chunks: ChunkedBody | None = None
        self._held: list[bytes] = []
        self._size = 0  # of what is held
        self._left = 0  # bytes of the body still to come, or CHUNKED, or UNTIL_CLOSE
        self._streaming = False

    # the transport's side

    def makeConnection(self, transport: Any) -> None:
        """Join the pool, unless nobody waits for this connection any more."""
        self.transport = transport
        if self._abandoned:
            transport.abortConnection()
        else:
            self._pool.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Take a piece of the answer; nearly always all of it, with a head that was seen before."""
        sink = self.sink
        if self._head is None and not self._kept and sink is not None:
            end = data.find(END_OF_HEAD) + 4
            head: Any = response_heads.get(data[:end])
            if head is not None and head.length == len(data) - end and head.status == 200:
                self.sink = None
                self._used = True
                self._pool.release(self, head.keep_alive)
                try:
                    sink.answered(head, [data[end:]])
                except Exception:
                    _fail_broken(sink)
                return
        self._take(data)

    def connectionLost(self, reason: Failure) -> None:
        """The node, the network or we ended it."""
        self.is_lost = True
        self._pool.gone(self)
        sink, self.sink = self.sink, None
        if sink is None:
            return
        if self._head is not None and self._left == UNTIL_CLOSE and reason.check(ConnectionDone):
            self._deliver(sink, self._head)
        elif self._had_died(sink) and self._request is not None and sink.is_sent_anew():
            self._pool.wait(self._request)
        else:
            _tell(sink, Fault.DISCONNECTED, "the node closed the connection before its answer was whole")

    def _had_died(self, sink: Sink) -> bool:
        """Whether this may be a kept connection that the node had closed before it saw the request."""
        return self._used and self._head is None and not self._kept and sink.repeatable

    # the pool's side

    def carry(self, request: Request) -> None:
        """Send a request."""
        self._request = request
        self.sink = sink = request.sink
        sink.flight = self
        if request.body:
            self.transport.writeSequence((request.data, request.body))
        else:
            self.transport.write(request.data)

    def abort(self) -> None:
        """Give the request up."""
        self.sink = None
        self.transport.abortConnection()

    @property
    def held_bytes(self) -> int:
        """Bytes of the answer that are held back."""
        return self._size

    def forget(self) -> None:
        """Let go of the last request, which may be large, while nothing is under way."""
        self._request = None

    def abandon(self) -> None:
        """Another address was faster, or time is up: close it, now or once it is there."""
        self._abandoned = True
        if self.transport is not None:
            self.transport.abortConnection()

    def pause(self) -> None:
        """Read no more for now."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    # the uncommon answer

    def _take(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self._pool.unasked += 1
            self.transport.abortConnection()  # nobody asked: what else will it say?
            return
        try:
            if self._head is None:
                data = self._take_head(self._kept + data)
            if self._head is not None:
                self._take_body(data)
        except BadMessage as error:
            self._fail(Fault.GARBAGE, error.reason)
        except Exception:
            if self.sink is sink:
                self.abort()
            _fail_broken(sink)

    def _take_head(self, data: bytes) -> bytes:
        """Read heads until one is an answer's, passing over 1xx; return what lies behind it."""
        self._kept = b""
        start = 0
        while True:
            end = data.find(END_OF_HEAD, start) + 4
            if end == 3:
                self._keep_head(data[start:])
                return b""
            if end - start > self._pool.max_header_bytes:
                raise BadMessage("the head of the answer is too long")
            head = read_response_head(data[start:end], asked_with_head=self._asked_with_head())
            start = end
            if head.status >= 200:
                self._begin_body(head)
                return data[end:]

    def _asked_with_head(self) -> bool:
        return self._request is not None and self._request.asked_with_head

    def _keep_head(self, data: bytes) -> None:
        if len(data) > self._pool.max_header_bytes:
            raise BadMessage("the head of the answer has no end")
        if data and not b"HTTP/1.".startswith(data[:7]):
            raise BadMessage("the answer is not HTTP")
        self._kept = data

    def _begin_body(self, head: ResponseHead) -> None:
        self._head = head
        self._left = head.length
        if head.length == CHUNKED:
            self._chunks = ChunkedBody()

    def _take_body(self, data: bytes) -> None:
        sink, head = self.sink, self._head
        if sink is None or head is None:
            return
        pieces, rest, done = self._cut(data)
        if self._streaming:
            for piece in pieces:
                sink.streamed(piece)
                if self.sink is not sink:
                    return
        else:
            self._held += pieces
            self._size += sum(map(len, pieces))
            if not done and self._size > self._pool.hold_bytes:
                self._streaming = True
                held, self._held = self._held, []
                sink.began(head, held)
        if self.sink is not sink:
            return
        if done:
            self._kept = rest
            self._deliver(sink, head)
        else:
            sink.progressed()

    def _cut(self, data: bytes) -> tuple[list[bytes], bytes, bool]:
        """Body pieces in ``data``, what lies behind the body, and whether the body is done."""
        if self._chunks is not None:
            pieces, rest = self._chunks.feed(data)
            return pieces, rest, self._chunks.done
        if self._left == UNTIL_CLOSE:
            return [data], b"", False
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        return [piece] if piece else [], rest, self._left == 0

    def _deliver(self, sink: Sink, head: ResponseHead) -> None:
        held, streaming = self._held, self._streaming
        # a node that refuses a large body may do so before it has read it: what it reads next would not be a request
        refused_early = head.status >= 400 and self._request is not None and self._request.body != b""
        clean = head.keep_alive and not self._kept and not refused_early
        self._kept = b""
        self._reset()
        self.sink = None
        self._used = True
        if streaming:
            self.transport.resumeProducing()  # a client that does not read may have paused it
        self._pool.release(self, clean)
        try:
            if streaming:
                sink.ended()
            else:
                sink.answered(head, held or [b""])
        except Exception:
            _fail_broken(sink)

    def _fail(self, fault: Fault, detail: str) -> None:
        sink, self.sink = self.sink, None
        self.transport.abortConnection()
        if sink is not None:
            _tell(sink, fault, detail)


def _fail_broken(sink: Sink) -> None:
    """Something broke while an answer was taken: nobody foresaw such an answer, but another node may have a better one.

    To be called where that is caught.
    """
    _log.failure("while an answer of a node was being taken")
    _tell(sink, Fault.GARBAGE, "its answer could not be passed on")


def _tell(sink: Sink, fault: Fault, detail: str) -> None:
    """Tell a sink of its end, whatever comes of that."""
    with _log.failuresHandled("while the end of a request was being told"):
        sink.failed(fault, detail, True)
