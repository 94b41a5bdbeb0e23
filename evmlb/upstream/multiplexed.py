"""Requests to a node that has a WebSocket only: an ``Upstream`` over few connections, many calls on each.

Answers come in any order, so every call travels under an id of ours; the client's own is cut out of its body and put
into the answer, the bytes around it untouched. A batch goes out as its members, one message each, and its answers are
put together in the order of the questions: nodes limit what one batch may hold, and answer it only when all is done.

A connection is opened when a request finds none, and another, up to ``MAX_LINKS``, when the one with the least to do
has ``CROWDED_CALLS`` under way. What finds no room waits. Connections that idled too long are closed, but for one.

A connection that ends fails the calls on it, as sent; none is repeated here, since any of them may have been done.
Headers that clients sent have no place on a WebSocket, and are left out.

Nothing that goes wrong between a connection and a sink is lost: whatever is raised while a call is written, or while
its answer is read, judged and passed on, is logged and ends as a fault of that one attempt, so that the next node is
asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.logger import Logger

from evmlb.config.schema import LimitsConfig, NodeConfig
from evmlb.errors import Fault
from evmlb.interfaces import Sink
from evmlb.jsonrpc import Unreadable
from evmlb.upstream.conversation import Conversation, SocketLost, SocketStats
from evmlb.upstream.http import Connect
from evmlb.upstream.link import Ending, Link, Target
from evmlb.upstream.messages import MAX_CALL_BYTES, CutCall, Garbage, Message, cut_body, with_id
from evmlb.wire.sockets import connect

MAX_LINKS = 4
CROWDED_CALLS = 64
GROW_AGAIN_SECONDS = 30.0
"""How long a node that refused a further connection is left in peace."""
_JSON = b"application/json"
_BROKEN = "its answer could not be passed on"

_log = Logger(namespace="evmlb.upstream")


class SocketHead(msgspec.Struct, frozen=True, gc=False):
    """The outside that an answer has for HTTP: an ``AnswerHead``."""

    length: int
    status: int = 200
    keep_alive: bool = True
    content_type: bytes = _JSON
    is_encoded: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", _JSON),)

    def value(self, name: bytes) -> bytes:
        """The first value of a header, empty when there is none."""
        return self.content_type if name == b"content-type" else b""


class MultiplexedFlight:
    """A request on its way: who asked, and the answers that came so far, by our id. ``done`` is called at its end."""

    __slots__ = ("_answers", "_batch", "_calls", "_done", "_left", "_talk", "sink")

    def __init__(self, sink: Sink, talk: Conversation, done: Callable[[], None], *, batch: bool) -> None:
        self.sink: Sink | None = sink
        self._talk = talk
        self._done = done
        self._batch = batch
        self._calls: dict[int, bytes] = {}
        self._answers: dict[int, bytes] = {}
        self._left = 0

    def begin(self, calls: list[CutCall]) -> None:
        """Send every call. Where that breaks off, the sink hears of it."""
        try:
            self._send(calls)
        except SocketLost as lost:
            self._fail(Fault.DISCONNECTED, str(lost), sent=lost.sent or bool(self._calls))
        except Exception:
            _log.failure("while a request was being written to a node")
            self._fail(Fault.DISCONNECTED, "the request could not be written", sent=True)

    def _send(self, calls: list[CutCall]) -> None:
        """Write every call; those without an id are owed no answer."""
        asked = [call for call in calls if call.id]
        self._left = len(asked)
        for call in calls:
            if call.id:
                self._calls[self._talk.ask(call, self)] = call.id
            else:
                self._talk.tell(call.before)
        if not asked:
            self._deliver(b"")

    def answered(self, call_id: int, message: Message, data: bytes) -> None:
        """One of the answers. Raises :class:`Garbage` where the connection is not to be used any more."""
        try:
            self._take(call_id, message, data)
        except Garbage as garbage:
            self._fail(Fault.GARBAGE, str(garbage), sent=True)
            raise
        except Exception:
            _log.failure("while an answer of a node was being taken")
            self._fail(Fault.GARBAGE, _BROKEN, sent=True)

    def _take(self, call_id: int, message: Message, data: bytes) -> None:
        known = (message.result, message.error)
        self._answers[call_id] = with_id(data, bytes(message.id), self._calls[call_id], known)
        self._left -= 1
        if self._left:
            if self.sink is not None:
                self.sink.progressed()
        elif self._batch:
            self._deliver(b"[%b]" % b",".join(self._answers[each] for each in self._calls))
        else:
            self._deliver(self._answers[call_id])

    def lost(self, words: str) -> None:
        """The connection ended before the answer."""
        self._fail(Fault.DISCONNECTED, words, sent=True)

    def _fail(self, fault: Fault, words: str, *, sent: bool) -> None:
        sink = self.sink
        if sink is not None:
            self.abort()  # of a batch, others may be under way
            _fail(sink, fault, words, sent=sent)

    def _deliver(self, body: bytes) -> None:
        sink, self.sink = self.sink, None
        self._done()
        if sink is not None:
            try:
                sink.answered(SocketHead(len(body)), [body])
            except Exception:
                _log.failure("while an answer of a node was being passed on")
                _fail(sink, Fault.GARBAGE, _BROKEN, sent=True)

    @property
    def held_bytes(self) -> int:
        """Bytes of a batch's answer that wait for the rest of it."""
        return sum(map(len, self._answers.values()))

    def abort(self) -> None:
        """Give it up. The connection stays: others are on it."""
        self.sink = None
        for call_id in self._calls:
            self._talk.give_up(call_id)

    def pause(self) -> None:
        """Nothing to pause: an answer is handed on whole."""

    def resume(self) -> None:
        """See :meth:`pause`."""


class _Request(msgspec.Struct, eq=False):
    sink: Sink
    calls: list[CutCall]
    batch: bool


class WebSocketUpstream:
    """See the module's head. The node is asked at ``ws_endpoint``, or at an ``rpc_endpoint`` that is ``ws`` itself."""

    def __init__(
        self,
        reactor: Any,
        node: NodeConfig,
        limits: LimitsConfig,
        now: Callable[[], float],
        connect: Connect = connect,
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._connect = connect
        self._idle_timeout = limits.upstream_idle_timeout_seconds
        self._target = Target(reactor, node, now)
        self._waiting: deque[_Request] = deque()
        self._idle_since: dict[Link, float] = {}
        self._closed = False
        self._grow_after = float("-inf")
        self.stats = SocketStats()
        self.open: set[Link] = set()
        """All connections, those that are being made too."""

    @property
    def losses(self) -> int:
        """How many connections the node, or the network, has ended so far."""
        return self.stats.losses

    @property
    def unasked(self) -> int:
        """Answers that nobody had asked for."""
        return self.stats.unknown_answers

    def send(
        self, sink: Sink, body: bytes, *, method: bytes = b"POST", target: bytes = b"", headers: bytes = b""
    ) -> None:
        """Send a JSON-RPC request; anything else fails as unsupported."""
        sink.flight = None
        try:
            cut = cut_body(body)
        except Unreadable:
            cut = []
        calls = cut if isinstance(cut, list) else [cut]
        if method != b"POST" or target or not calls:
            sink.failed(Fault.UNSUPPORTED, "only JSON-RPC goes over a WebSocket", False)
        elif max(call.size for call in calls) > MAX_CALL_BYTES:
            sink.failed(Fault.REJECTED, f"a call is larger than {MAX_CALL_BYTES} bytes", False)
        else:
            self._waiting.append(_Request(sink, calls, isinstance(cut, list)))
            self.carry_waiting()

    def carry_waiting(self) -> None:
        """Send what waits, in its order, as far as there is room."""
        while self._waiting:
            if self._closed:
                _fail(self._waiting.popleft().sink, Fault.UNREACHABLE, "evmlb is shutting down", sent=False)
                continue
            link = self._freest()
            if link is None or not self._waiting:  # a new connection may have taken it meanwhile
                return
            request = self._waiting.popleft()
            flight = MultiplexedFlight(request.sink, link.talk, self.carry_waiting, batch=request.batch)
            request.sink.flight = flight
            flight.begin(request.calls)

    def _freest(self) -> Link | None:
        """The connection that has the least to do, if it has room; opens another where all are crowded."""
        links = [link for link in self.open if link.is_open]
        link = min(links, key=_load, default=None)
        if link is None or _load(link) >= CROWDED_CALLS:
            self._grow(len(links))
        return link if link is not None and link.talk.has_room else None

    def _grow(self, standing: int) -> None:
        """Open one more connection, unless one is being made or there are enough."""
        if standing and self._now() < self._grow_after:
            return
        if len(self.open) == standing and standing < MAX_LINKS:
            link = Link(self._reactor, self._target, self._now, self.stats, self, self._connect)
            self.open.add(link)
            link.begin()

    def opened(self, link: Link) -> None:
        """A connection stands (called by it, as what follows)."""
        self.carry_waiting()

    def ended(self, link: Link, ending: Ending, words: str) -> None:
        """A connection is gone. Who waits for one fails with the last attempt, and else gets a new one."""
        self.open.discard(link)
        self._idle_since.pop(link, None)
        if link.was_open:
            self.carry_waiting()
        elif self.open:
            self._grow_after = self._now() + GROW_AGAIN_SECONDS
        else:
            waiting, self._waiting = self._waiting, deque()
            for request in waiting:
                _fail(request.sink, Fault.UNREACHABLE, words, sent=False)

    def cancel(self, sink: Sink) -> None:
        """Forget a request, whether it waits for a connection or is under way."""
        flight, sink.flight = sink.flight, None
        if flight is not None:
            if getattr(flight, "sink", None) is sink:  # else it is done
                flight.abort()
                self.carry_waiting()
            return
        self._waiting = deque(request for request in self._waiting if request.sink is not sink)

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

    def sweep(self, now: float) -> None:
        """Close connections that idled too long, but one; look the name up again when it is time."""
        for link in tuple(self.open):
            if not link.is_open or link.talk.outstanding:
                self._idle_since.pop(link, None)
            elif now - self._idle_since.setdefault(link, now) > self._idle_timeout and len(self.open) > 1:
                link.close()
        self.carry_waiting()
        self._target.addresses.refresh_when_due()

    def close(self) -> None:
        """Close every connection; requests under way, or waiting for one, fail."""
        self._closed = True
        self.carry_waiting()  # all of it fails
        for link in tuple(self.open):
            link.close()


def _fail(sink: Sink, fault: Fault, words: str, *, sent: bool) -> None:
    """Tell a sink of its end, whatever comes of that: others wait to be told as well."""
    with _log.failuresHandled("while the end of a request was being told"):
        sink.failed(fault, words, sent)


def _load(link: Link) -> int:
    return link.talk.outstanding
