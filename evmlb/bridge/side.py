"""One of the two connections of a pipe: passes on what comes, and notices how it ends."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from evmlb.bridge.boundaries import FrameWatch


class Ways(Protocol):
    """What a side tells its pipe. ``is_alive`` is set whenever something comes; while ``is_leaving`` the pipe wants to
    know when the client is between two frames.
    """

    is_alive: bool
    is_leaving: bool

    def pass_on(self, side: Side, data: bytes) -> None:
        """Bytes came from a side."""
        ...

    def said_goodbye(self, side: Side, code: int) -> None:
        """A close frame of a side's has passed."""
        ...

    def leave(self) -> None:
        """What was passed to the client are whole frames."""
        ...

    def hold_opposite(self, side: Side, wait: bool) -> None:
        """A side does not keep up with what is written, or does again."""
        ...

    def broke_off(self, side: Side) -> None:
        """Nothing more comes from a side."""
        ...

    def lost(self, side: Side) -> None:
        """A side's connection is gone."""
        ...


@implementer(IHalfCloseableProtocol, IPushProducer)
class Side:
    """One of a pipe's two connections, a protocol of Twisted's; ``pipe`` says what follows from what happens on it.

    ``watch`` follows what comes from it. ``is_dismissed``: it was written a close frame, and is written nothing more.
    ``has_closed``: its own close frame has passed. ``is_over``: nothing more comes from it at all. ``stuffed_at``:
    since when it does not read what is written.
    """

    def __init__(self, pipe: Ways | None, transport: Any) -> None:
        self.transport = transport
        self.watch = FrameWatch()
        self.is_dismissed = False
        self.has_closed = False
        self.is_over = False
        self.is_lost = False
        self.stuffed_at: float | None = None
        self._pipe: Any = pipe or self  # a pipe is a side itself
        self._is_held = False

    def makeConnection(self, transport: Any) -> None:
        """Never called: the connection stood before."""

    connectionMade = makeConnection

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came, up to and with the first close frame."""
        pipe = self._pipe
        pipe.is_alive = True
        if self.has_closed:
            return
        end = self.watch.feed(data)
        if self.watch.close_code is not None:
            self.has_closed = True
            pipe.pass_on(self, data[:end])
            pipe.said_goodbye(self, self.watch.close_code)
        elif end and pipe.is_leaving and self is not pipe:
            pipe.pass_on(self, data[:end])
            pipe.leave()
        else:
            pipe.pass_on(self, data)

    def readConnectionLost(self) -> None:
        """It sends no more."""
        self._end()

    def writeConnectionLost(self) -> None:
        """We never close only our sending side."""

    def connectionLost(self, reason: Failure) -> None:
        """It is gone."""
        self.is_lost = True
        self._end()
        self._pipe.lost(self)

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._pipe.broke_off(self)

    def pauseProducing(self) -> None:
        """It does not read as fast as the other side sends."""
        self._pipe.hold_opposite(self, True)

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._pipe.hold_opposite(self, False)

    def stopProducing(self) -> None:
        """See ``IPushProducer``; the end comes by ``connectionLost``."""

    # what the pipe does with it

    def hold(self, wait: bool) -> None:
        """Read no more for now, or read on."""
        if wait != self._is_held and not self.is_lost:
            self._is_held = wait
            if wait:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def write(self, data: bytes) -> None:
        """Write, unless nothing may or can be written any more."""
        if data and not self.is_dismissed and not self.is_lost:
            self.transport.write(data)

    def dismiss(self, frame: bytes) -> bool:
        """Write a close frame, or cut the connection where there is none; False then, and where it had one."""
        if self.is_dismissed or self.is_lost:
            return False
        self.write(frame)
        self.is_dismissed = True
        if not frame:
            self.cut()
        return bool(frame)

    def finish(self) -> None:
        """Close behind what is written."""
        if not self.is_lost:
            self.transport.unregisterProducer()  # a Twisted transport would wait for it to be done
            self.transport.loseConnection()

    def cut(self) -> None:
        """Close at once."""
        if not self.is_lost:
            self.transport.abortConnection()
