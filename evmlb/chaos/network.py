"""A network in memory: connections whose bytes take time, come in pieces, get lost; and hosts that cannot be reached.

A :class:`Link` joins two :class:`Transport` objects, one per end, which behave as the loop's own do
(:mod:`evmlb.wire.transport`) where the product can tell:

* nothing written is received, nothing closed is lost, before the clock has gone on; only ``pauseProducing`` of a
  writer comes from within ``write``, as it does there;
* ``loseConnection`` sends what was written before its end; ``abortConnection`` is a reset, which may overtake it;
* while reading is paused the other side's end goes unnoticed; who closes reads no more, and bytes that come then
  are answered by a reset.

A direction of a link can fall silent: what is written then never arrives, nor does anything written later on that
link. TCP would send it again; a link that forgets it is one whose other end has lost its state.
"""

from __future__ import annotations

import enum
import errno
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from evmlb.chaos.clock import VirtualClock
from evmlb.wire.transport import LINGER_SECONDS

HIGH_WATER_BYTES = 65536
"""More than this on the way, or unread, pauses the writer."""
CUT_SHARE = 0.15
"""The share of writes that arrive in more than one piece."""
MAX_PIECES = 4
_SPACING_SECONDS = 1e-6  # between two pieces of one direction, so that rounding cannot swap them


class _Mark(enum.Enum):
    """What arrives besides bytes."""

    FIN = "fin"
    RESET = "reset"


class Reach(enum.Enum):
    """What happens to who connects to a host."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"  # connecting takes for ever


class Host:
    """One address. ``build`` makes the protocol of a connection. ``deaf``: what is sent to it is lost from now on;
    ``mute``: what it sends is.
    """

    def __init__(self, address: str, build: Callable[[], Any]) -> None:
        self.address = address
        self.build = build
        self.reach = Reach.OPEN
        self.deaf = False
        self.mute = False


class MemoryNetwork:
    """The hosts that can be connected to, and every connection.

    ``ours`` are the balancer's ends that are not lost yet.
    """

    def __init__(self, clock: VirtualClock, seed: int, latency_seconds: float) -> None:
        self.clock = clock
        self.ours: dict[Transport, None] = {}
        self.hosts: dict[str, Host] = {}
        self._rng = random.Random(seed)
        self._latency = latency_seconds

    def add_host(self, address: str, build: Callable[[], Any]) -> Host:
        """Make an address that can be connected to."""
        host = self.hosts[address] = Host(address, build)
        return host

    def connect(
        self, reactor: Any, address: str, port: int, protocol: Any, tls: object, timeout_seconds: float
    ) -> Deferred[Any]:
        """Connect the balancer to a host, as :func:`evmlb.wire.sockets.connect` does. TLS is taken for granted."""
        host = self.hosts[address]
        connecting: Deferred[Any] = Deferred(lambda _: timer.active() and timer.cancel())
        if host.reach is Reach.SILENT:
            timer = self.clock.callLater(timeout_seconds, connecting.errback, TimeoutError())
        else:
            timer = self.clock.callLater(2 * self._draw(), self._arrive, host, port, protocol, connecting)
        return connecting

    def _arrive(self, host: Host, port: int, protocol: Any, connecting: Deferred[Any]) -> None:
        if host.reach is not Reach.OPEN:
            connecting.errback(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
            return
        link = Link(self, self._rng.randrange(2**32), self._latency, host)
        near, far = link.ends
        near.address, far.address = ("10.255.0.1", 0), (host.address, port)
        self.ours[near] = None
        far.open(host.build())
        near.open(protocol)
        self.clock.callLater(0, _fire, connecting, protocol)

    def call(self, build: Callable[[Any], Any], address: str, protocol: Any) -> Transport | None:
        """Connect a client at ``address`` to the balancer; None when it is not let in.

        ``build`` is what a listening port of the balancer is given.
        """
        ours = build(IPv4Address("TCP", address, 40000))
        if ours is None:
            return None
        link = Link(self, self._rng.randrange(2**32), self._latency, None)
        near, far = link.ends
        near.address, far.address = ("10.255.0.1", 8080), (address, 40000)
        self.ours[near] = None
        near.open(ours)
        far.open(protocol)
        return far

    def _draw(self) -> float:
        return self._latency * (0.5 + self._rng.random())


def _fire(connecting: Deferred[Any], protocol: Any) -> None:
    if not connecting.called:
        connecting.callback(protocol)


class Link:
    """Two ends: the balancer's first. ``silent``: nothing gets through any more, either way."""

    def __init__(self, network: MemoryNetwork, seed: int, latency_seconds: float, host: Host | None) -> None:
        self.network = network
        self.rng = random.Random(seed)
        self.latency_seconds = latency_seconds
        self.host = host
        self.silent = False
        near, far = Transport(self), Transport(self)
        near.peer, far.peer = far, near
        self.ends = (near, far)

    def swallows(self, end: Transport) -> bool:
        """Whether what this end sends is lost."""
        if self.silent or self.host is None:
            return self.silent
        return self.host.deaf if end is self.ends[0] else self.host.mute


@implementer(interfaces.ITCPTransport, interfaces.IConsumer, interfaces.IPushProducer)
class Transport:
    """One end of a link. ``written`` counts the bytes that the protocol wrote, whether they arrive or not; ``ended_at``
    is when it ended its side.
    """

    peer: Transport

    def __init__(self, link: Link) -> None:
        self.link = link
        self.address: tuple[str, int] = ("", 0)
        self.protocol: Any = None
        self.written = 0
        self.ended_at: float | None = None
        self.lost = False
        self._clock = link.network.clock
        self._writable = True  # until we end our side
        self._closing = False
        self._paused = False
        self._swallowed = False  # something was lost on the way from here: nothing more gets through
        self._inbox: deque[bytes | _Mark] = deque()  # arrived, not read
        self._unread = 0  # bytes that were sent here and are not read yet
        self._due = 0.0  # when the last piece sent from here arrives
        self._producer: Any = None
        self._producer_paused = False
        self._linger: Any = None
        self._half_closes = False

    def open(self, protocol: Any) -> None:
        """Join the protocol."""
        self.protocol = protocol
        self._half_closes = interfaces.IHalfCloseableProtocol.providedBy(protocol)
        protocol.makeConnection(self)

    @property
    def disconnecting(self) -> bool:
        """Whether our side has ended, or is about to."""
        return not self._writable

    # writing

    def write(self, data: bytes, after: float = 0.0) -> None:
        """Send bytes; they set out ``after`` seconds from now."""
        if not self._writable or not data:
            return
        self.written += len(data)
        if self._lose_silently():
            return
        self.peer._unread += len(data)
        for piece in self._cut(data):
            self._dispatch(piece, after)
        if self.peer._unread > HIGH_WATER_BYTES and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Send several pieces as one."""
        self.write(b"".join(data))

    def _lose_silently(self) -> bool:
        self._swallowed = self._swallowed or self.link.swallows(self)
        return self._swallowed

    def _cut(self, data: bytes) -> list[bytes]:
        rng = self.link.rng
        if len(data) < 2 or rng.random() >= CUT_SHARE:
            return [data]
        places = sorted({rng.randrange(1, len(data)) for _ in range(rng.randrange(1, MAX_PIECES))})
        return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]

    def _dispatch(self, item: bytes | _Mark, after: float = 0.0) -> None:
        now = self._clock.rightNow
        self._due = max(now + after + self._draw(), self._due + _SPACING_SECONDS)
        self._clock.callLater(self._due - now, self.peer._arrive, item)

    def _draw(self) -> float:
        return self.link.latency_seconds * (0.5 + self.link.rng.random())

    # reading

    def _arrive(self, item: bytes | _Mark) -> None:
        if self.lost or self._closing:
            if isinstance(item, bytes):
                self._answer_by_reset()
            elif item is _Mark.RESET and not self.lost:
                self._lose(error.ConnectionLost("reset"))
        elif self._paused or self._inbox:
            self._inbox.append(item)
        else:
            self._take(item)

    def _answer_by_reset(self) -> None:
        if not self._lose_silently():
            self._clock.callLater(self._draw(), self.peer._arrive, _Mark.RESET)

    def _take(self, item: bytes | _Mark) -> None:
        if isinstance(item, bytes):
            self._unread -= len(item)
            self.peer._note_room()
            self.protocol.dataReceived(item)
        elif item is _Mark.RESET:
            self._lose(error.ConnectionLost("reset"))
        elif not self._half_closes:
            self.loseConnection()
        else:
            self.protocol.readConnectionLost()
            if not self._writable:
                self.loseConnection()

    def _drain(self) -> None:
        while self._inbox and not self._paused and not self.lost and not self._closing:
            self._take(self._inbox.popleft())

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Read again."""
        self._paused = False
        if self._inbox:
            self._clock.callLater(0, self._drain)

    def stopProducing(self) -> None:
        """As ``loseConnection``."""
        self.loseConnection()

    # the writer's pause

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell ``producer`` when to pause and to go on; it must be one that pushes."""
        if not streaming:
            raise NotImplementedError("nothing here pulls")
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def _note_room(self) -> None:
        if self.peer._unread > HIGH_WATER_BYTES // 4:
            return
        if self._linger is not None:
            self._end_lingering()
            self._clock.callLater(0, self._lose, error.ConnectionDone())
        elif self._producer_paused:
            self._producer_paused = False
            self._clock.callLater(0, self._tell_of_room)

    def _tell_of_room(self) -> None:
        if self._producer is not None and not self.lost:
            self._producer.resumeProducing()

    # ends

    def loseWriteConnection(self) -> None:
        """End our side behind what was written."""
        if self._writable:
            self._end()
            if not self._lose_silently():
                self._dispatch(_Mark.FIN)

    def _end(self) -> None:
        self._writable = False
        if self.ended_at is None:
            self.ended_at = self._clock.rightNow

    def loseConnection(self) -> None:
        """End behind what was written, or after ``LINGER_SECONDS``."""
        if self._closing or self.lost:
            return
        self.loseWriteConnection()
        self._closing = True
        if any(isinstance(item, bytes) for item in self._inbox):
            self._answer_by_reset()
        self._inbox.clear()
        if self.peer._unread > HIGH_WATER_BYTES and not self.peer.lost:
            self._linger = self._clock.callLater(LINGER_SECONDS, self._cut_off)
        else:
            self._clock.callLater(0, self._lose, error.ConnectionDone())

    def _cut_off(self) -> None:
        self._linger = None
        self.abortConnection()

    def _end_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def abortConnection(self) -> None:
        """End now; a reset goes out, and may overtake what was written."""
        if self.lost:
            return
        self._end()
        self._closing = True
        self._end_lingering()
        self._inbox.clear()
        self._answer_by_reset()
        self._clock.callLater(0, self._lose, error.ConnectionAborted())

    def _lose(self, reason: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        self._end()
        self._end_lingering()
        self._inbox.clear()
        self._producer = None
        self.link.network.ours.pop(self, None)
        self.protocol.connectionLost(Failure(reason))

    # the rest of a transport

    def getPeer(self) -> IPv4Address:
        """The other end's address."""
        return IPv4Address("TCP", *self.peer.address)

    def getHost(self) -> IPv4Address:
        """This end's address."""
        return IPv4Address("TCP", *self.address)

    def getTcpNoDelay(self) -> bool:
        """Nothing is ever held back."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See :meth:`getTcpNoDelay`."""

    def getTcpKeepAlive(self) -> bool:
        """There are no probes."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See :meth:`getTcpKeepAlive`."""
