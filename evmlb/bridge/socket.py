"""One WebSocket as bytes: autobahn's server protocol, with a fast lane beneath it.

autobahn does the handshake, control frames, fragments, extensions, closing, and everything that is wrong. A message
costs it some 20 us, most of them in its chain of callbacks. So while it is *quiet* (open, and between two messages)
whole plain text frames are read past it (:mod:`.frames`), and it never hears of them::

    dataReceived --quiet, whole text frames--> received
          |
          '-- anything else --> autobahn --> received

The first byte that is not the fast lane's, and all that came with it, is autobahn's; the next read begins again. Text
is written past it as well: one frame, one write.

Nothing here has a timer: the client port looks at each connection about once a second (:meth:`Socket.check`), for
pings, for idling, for closing that takes too long. What a client sends while too many calls of its own are under way,
or while it does not read our answers, stays in the kernel. Subscriptions go on, so a client that does not read is
closed (1013) once ``max_queue`` bytes wait for it: before a message is added, so that one large answer is no reason.

A connection that fails (RFC 6455, 7.1.7) is told why by a close frame; then our side ends and the client's bytes are
dropped for a while, because closing at once could make the kernel reset the connection before the reason is read.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any, Protocol

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import INegotiated, IPushProducer
from zope.interface import implementer

from evmlb.bridge.autobahn import EXTENSIONS, Quiet, opening
from evmlb.bridge.frames import MOST_BYTES, may_become_text, read_text, text_header
from evmlb.bridge.offers import accepted
from evmlb.jsonrpc import error_body

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from evmlb.bridge.keeper import Keeper
    from evmlb.interfaces import Upgrade

CLOSE_SECONDS = 10.0
"""How long a client may take to answer our close frame, or to notice that we ended our side."""
_KEPT_BYTES = 4096
"""The beginning of a frame is kept up to here; what becomes longer is read by autobahn, bit by bit."""
_JOIN_BYTES = 65536
"""Messages up to this size are written together with their header."""
_UNCLEAN = 1006
_OPEN = WebSocketProtocol.STATE_OPEN
_CLOSED = WebSocketProtocol.STATE_CLOSED


class Receiver(Protocol):
    """Takes what comes in by a WebSocket."""

    @property
    def is_full(self) -> bool:
        """Whether no more should be read for now; :meth:`Socket.read_on` ends it."""
        ...

    @property
    def owes(self) -> bool:
        """Whether an answer is still to be sent."""
        ...

    @property
    def is_subscribed(self) -> bool:
        """Whether events are sent without being asked for one by one."""
        ...

    def received(self, message: bytes) -> None:
        """A message is there, text or binary."""
        ...

    def lost(self) -> None:
        """The connection ended."""
        ...


@implementer(IPushProducer)
class Socket(WebSocketServerProtocol):
    """One client's WebSocket; its ``receiver`` is set before it is opened."""

    log = Quiet()
    transport: Any
    is_idle = False  # when evmlb stops, the bridge says when it is closed
    _perMessageCompress: Any
    current_frame: Any

    def __init__(self, bridge: Keeper, upgrade: Upgrade) -> None:
        super().__init__()
        self.factory = bridge.factory
        self.upgrade = upgrade
        self.receiver: Any = None
        self.leave_at: float | None = None  # when evmlb stops: the time to go
        self._bridge = bridge
        self._stats = bridge.stats
        self._limit = min(bridge.config.max_message_bytes, MOST_BYTES)
        self._is_quiet = False  # autobahn is open, and between two messages
        self._is_free = False  # text can be written without a look at anything
        self._is_deaf = False  # what comes in is dropped
        self._kept = b""  # not read yet
        self._reading_paused = False
        self._stuffed_at: float | None = None  # since when the client does not read as fast as we write
        self._stuffed_bytes = 0  # written since then
        self._message: bytearray | None = None  # what there is of a message that autobahn reads
        self._held_bytes = 0  # of the memory for requests, for that message
        self._partial_since: float | None = None  # since when the same message is not whole
        self._is_leaving = False  # only what is owed is still sent
        self._was_open = False
        self._talked = False  # there was a message since the last look
        self._closing_at = 0.0
        self._heard = True
        self._heard_at = self._active_at = bridge.now()
        self._pinged_at: float | None = None

    def open(self, transport: Any, rest: bytes) -> None:
        """See ``ClientSocket``: shake hands, by the request that came already."""
        self.makeConnection(transport)
        head = self.upgrade.head
        offer = accepted(head.value(EXTENSIONS)) if self._bridge.config.compression else b""
        self._dataReceived(opening(head, offer))
        self._look_again()
        if rest:
            self.dataReceived(rest)

    # the transport's side

    def connectionMade(self) -> None:
        """Begin; autobahn's own would find out much about the transport that nobody asks for."""
        self.peer = self.upgrade.client
        self._connectionMade()
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes: nearly always one whole text frame, or several."""
        if self._is_deaf:
            return
        self._heard = True
        if self._kept:
            data, self._kept = self._kept + data, b""
        if self._reading_paused:
            self._kept = data
            return
        if self._is_quiet:
            data = self._read_frames(data)
        if data:
            self._dataReceived(data)
            self._look_again()

    def _read_frames(self, data: bytes) -> bytes:
        """Hand on the whole text messages at the beginning; return what is autobahn's to read, if anything."""
        start, receiver = 0, self.receiver
        while (read := read_text(data, start, self._limit)) is not None:
            text, start = read
            self._talked = True
            receiver.received(text)
            if receiver.is_full:
                self._wait_for_receiver()
            if self._reading_paused:
                self._kept = data[start:]
                return b""
            if not self._is_quiet:
                break
        rest = data[start:]
        if rest and len(rest) <= _KEPT_BYTES and self._is_quiet and may_become_text(rest, self._limit):
            self._kept = rest
            return b""
        return rest

    def _look_again(self) -> None:
        """After autobahn, or the transport, had a word: what may be done past autobahn?"""
        is_open = self.state == _OPEN
        self._is_quiet = is_open and not self.data and self.current_frame is None and not self.inside_message
        self._is_free = is_open and self._stuffed_at is None and self._perMessageCompress is None
        self._wait_for_receiver()

    def _wait_for_receiver(self) -> None:
        """Leave further bytes in the kernel while there is too much to do, or the client does not read."""
        wait = self.state == _OPEN and (self._stuffed_at is not None or self._is_leaving or self.receiver.is_full)
        if wait != self._reading_paused:
            self._reading_paused = wait
            if wait:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def read_on(self) -> None:
        """The receiver has room again."""
        self._wait_for_receiver()
        if not self._reading_paused and self._kept:
            self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write. Twisted's own transports say so again with each write."""
        if self._stuffed_at is None:
            self._stuffed_at = self._bridge.now()
            self._stuffed_bytes = 0
            self._look_again()

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._stuffed_at = None
        self._look_again()
        self.read_on()

    def stopProducing(self) -> None:
        """See ``IPushProducer``; the end comes by ``connectionLost``."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The connection is gone."""
        self._is_quiet = self._is_free = False
        self._is_deaf = True
        self._kept = b""
        self._let_go()
        super().connectionLost(reason)
        self.receiver.lost()
        self._bridge.gone(self, (self.localCloseCode or self.remoteCloseCode or _UNCLEAN) if self._was_open else None)

    # what autobahn calls

    def onOpen(self) -> None:
        """The handshake is done; what it consisted of is let go."""
        self.http_request_data, self.http_response_data, self.http_headers = b"", "", {}
        self._was_open = True
        self._bridge.opened(self)

    _onOpen = onOpen

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A message that came by autobahn; binary ones are read as text is, as geth does."""
        if self.state == _OPEN:
            self._talked = True
            self.receiver.received(payload)

    def onMessageFrameData(self, payload: bytes) -> None:
        """More of a message that comes in pieces, in this client's share of the memory for requests.

        A bytearray takes them: a message may come in very many very small ones, each of them an object in autobahn's.
        """
        if self.failedByMe:
            return
        if not self._bridge.memory.take(self.upgrade.client, len(payload)):
            self._fail_connection(1013, "try again later: too many messages are being held")
            return
        self._held_bytes += len(payload)
        if self._message is None:
            self._message = bytearray(payload)
        else:
            self._message += payload

    def onMessageEnd(self) -> None:
        """It is whole."""
        message = self._let_go()
        if not self.failedByMe:
            self.onMessage(message, self.message_is_binary)

    def _let_go(self) -> bytes:
        """The message that is half read is no more; return what there is of it."""
        held, self._held_bytes = self._held_bytes, 0
        self._bridge.memory.give_back(self.upgrade.client, held)
        message, self._message = self._message, None
        return bytes(message or b"")

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        """A handshake that is none is answered like any request of a client of JSON-RPC."""
        body = error_body(None, -32600, reason)
        lines = [f"HTTP/1.1 {code} {http.HTTPStatus(code).phrase}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in responseHeaders or ()]
        lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1") + body)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Say why, end our side, and read no more; autobahn's own cuts the connection instead."""
        if self.failedByMe:
            return
        if self.state != _OPEN:
            self.dropConnection(abort=True)
            return
        self.failedByMe = self._is_deaf = True
        self._let_go()
        self._end(code, reason)
        self.data = b""  # or autobahn would read on, and find more to complain of
        self.transport.unregisterProducer()
        if INegotiated.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        """Reset only what did not end cleanly; autobahn's own would also reset after both close frames."""
        self._closing_at = self._bridge.now()
        super()._closeConnection(abort=abort and not self.wasClean)

    # writing

    @property
    def can_send(self) -> bool:
        """Whether messages can be sent: open, and not closing."""
        return bool(self.state == _OPEN)

    @property
    def queued_bytes(self) -> int:
        """Bytes that the client has not read, as far as they are held here."""
        if self._stuffed_at is None:
            return 0
        return int(getattr(self.transport, "queued_bytes", self._stuffed_bytes))

    def send_text(self, text: bytes) -> None:
        """Send one text message."""
        self._stats.messages_out += 1
        length = len(text)
        if not self._is_free:
            self._send_with_care(text)
        elif length <= _JOIN_BYTES:
            self.transport.write(text_header(length) + text)
        else:
            self.transport.writeSequence((text_header(length), text))

    def send_frame(self, frame: bytes) -> None:
        """Send a whole frame, made by somebody else."""
        self._stats.messages_out += 1
        if self._is_free:
            self.transport.write(frame)
        elif self._has_room():
            self._write((frame,))

    def _send_with_care(self, text: bytes) -> None:
        """Send to a client that does not keep up, or with compression; or do not send, as it closes."""
        if not self._has_room():
            return
        if self._perMessageCompress is not None and len(text) <= self._bridge.config.max_message_bytes:
            self._stuffed_bytes += len(text)
            self.sendMessage(text)
        else:
            self._write((text_header(len(text)), text))

    def _has_room(self) -> bool:
        """Whether more can be written; closes the connection when too much waits already."""
        if self.state != _OPEN:
            return False
        if self.queued_bytes > self._bridge.config.max_queue_bytes:
            self._close_as_slow()
            return False
        return True

    def _write(self, pieces: tuple[bytes, ...]) -> None:
        self._stuffed_bytes += sum(map(len, pieces))
        self.transport.writeSequence(pieces)

    def _close_as_slow(self) -> None:
        self._stats.slow_closed += 1
        self.close(1013, "try again later: what was sent is not read")

    # closing, and time

    def close(self, code: int = 1001, reason: str = "evmlb is stopping") -> None:
        """Begin the closing handshake; what is under way is not answered any more."""
        if self.state == _OPEN:
            self._end(code, reason)
            self._wait_for_receiver()

    def _end(self, code: int, reason: str) -> None:
        self._is_quiet = self._is_free = False
        self._kept = b""
        self._closing_at = self._bridge.now()
        self.sendCloseFrame(code, reason.encode()[:123])

    def check(self, now: float) -> None:
        """Called about once a second: see what only time changes."""
        if self.state != _OPEN:
            if now - self._closing_at > CLOSE_SECONDS:
                self.transport.abortConnection()
            return
        if self._heard:
            self._heard, self._heard_at, self._pinged_at = False, now, None
        owes = self.receiver.owes
        self._note_partial(now)
        if self._talked or owes or self.receiver.is_subscribed:
            self._talked, self._active_at = False, now
        if self.leave_at is not None and now >= self.leave_at:
            self._leave(owes)
        elif self._stuffed_at is not None:
            if now - self._stuffed_at > self._bridge.stuffed_seconds:
                self._close_as_slow()
        elif self._partial_since is not None and now - self._partial_since > self._bridge.message_seconds:
            self._fail_connection(1008, "the message took too long to arrive")
        elif not self._reading_paused:
            self._check_signs_of_life(now)

    def _note_partial(self, now: float) -> None:
        """Note since when a message is half read; time in which we read nothing is not the client's."""
        is_partial = (bool(self._kept) or not self._is_quiet) and not self._reading_paused
        if not is_partial:
            self._partial_since = None
        elif self._talked or self._partial_since is None:
            self._partial_since = now

    def _leave(self, owes: bool) -> None:
        """Its time has come, as evmlb stops: what is under way is still answered, if that does not take too long."""
        self._is_leaving = True
        if owes:
            self._wait_for_receiver()
        else:
            self.close()

    def _check_signs_of_life(self, now: float) -> None:
        """Ping, and wait for whatever the client sends: a pong, or anything else."""
        config = self._bridge.config
        if self._pinged_at is not None:
            if now - self._pinged_at >= config.ping_timeout_seconds:
                self.close(1011, "there was no answer to a ping")
        elif config.idle_timeout_seconds and now - self._active_at >= config.idle_timeout_seconds:
            self.close(1000, "idle")
        elif config.ping_interval_seconds and now - self._heard_at >= config.ping_interval_seconds:
            self._pinged_at = now
            self.sendPing()
