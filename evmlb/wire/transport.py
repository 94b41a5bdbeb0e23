"""Twisted protocols on the event loop's own transports.

:class:`NativeTransport` stands between: to the loop (uvloop's, or asyncio's) it is a protocol, to a Twisted protocol
it is its ``ITransport``. Data goes from the loop straight into ``dataReceived`` and from ``write`` straight into the
loop's transport; no Python of ours runs in between, which makes this 2.3 times as fast as Twisted's own transports on
the same loop (``bench/micro.py``). One object per connection: both faces share it, to keep an idle client small.

Differences from Twisted's own transports, on purpose: a write after ``loseConnection`` is a no-op even while a
producer is registered, and a peer that does not read what is left at ``loseConnection`` is cut off after
``LINGER_SECONDS``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet import error, interfaces
from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

LINGER_SECONDS = 10.0
"""How long a peer may take to read what is buffered when we close."""

Build = Callable[[Any], Any]
"""Makes the protocol for a peer's address, as ``IProtocolFactory.buildProtocol`` does; None refuses the peer."""

_RESET = struct.pack("ii", 1, 0)  # linger on, for no time: the kernel sends RST

_log = Logger()


def _ignore(data: bytes) -> None:
    """Take the place of ``write`` and ``data_received`` when there is nobody to hear."""


@implementer(interfaces.ITCPTransport, interfaces.IConsumer, interfaces.IPushProducer)
class NativeTransport(asyncio.Protocol):
    """``ITransport`` for Twisted above, an asyncio protocol for the loop below.

    ``build`` makes the protocol once the connection stands. Assigning ``protocol`` later changes it, as upgrades do:
    the next data goes to the new one.
    """

    __slots__ = ("_aborted", "_build", "_linger", "_native", "_producer", "_protocol", "data_received", "write")

    disconnecting = property(lambda self: self.write is _ignore)

    def __init__(self, build: Build) -> None:
        self._build = build
        self._native: Any = None
        self._producer: Any = None
        self._protocol: Any = None
        self._linger: asyncio.TimerHandle | None = None
        self._aborted = False
        # uvloop looks these up before it calls connection_made, so they exist from the beginning
        self.data_received: Callable[[bytes], None] = _ignore  # type: ignore[assignment]
        self.write: Callable[[bytes], None] = _ignore

    # what the loop calls

    def connection_made(self, native: Any) -> None:
        """The loop's transport is connected: build the protocol, or refuse."""
        self._native = native
        self.write = native.write
        try:
            protocol = self._build(self.getPeer())
            if protocol is None:
                native.abort()
                return
            self.protocol = protocol
            protocol.makeConnection(self)
        except Exception:
            _log.failure("while a protocol was being connected")
            self.abortConnection()

    def eof_received(self) -> bool:
        """The peer will send no more. True keeps our side open, for protocols that can be half closed."""
        if not interfaces.IHalfCloseableProtocol.providedBy(self._protocol) or self._is_tls():
            return False
        self._protocol.readConnectionLost()
        return self.write is not _ignore

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone; the protocol learns how, in Twisted's words."""
        self.write = _ignore
        if self._linger is not None:
            self._linger.cancel()
        protocol, self._protocol = self._protocol, None
        self.data_received = _ignore
        self.unregisterProducer()
        if protocol is not None:
            protocol.connectionLost(Failure(self._reason(exc)))

    def _reason(self, exc: BaseException | None) -> Exception:
        if self._aborted:
            return error.ConnectionAborted()
        return error.ConnectionDone() if exc is None else error.ConnectionLost(str(exc))

    def pause_writing(self) -> None:
        """The loop holds more than it likes: ask the producer to wait."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """The loop has room again."""
        if self._producer is not None:
            self._producer.resumeProducing()

    # what Twisted calls

    @property
    def protocol(self) -> Any:
        """The protocol that is fed."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data_received = protocol.dataReceived
        self._native.set_protocol(self)  # uvloop binds data_received here, once

    def getPeer(self) -> Any:
        """The other end's address."""
        return _address(self._native.get_extra_info("peername"))

    def getHost(self) -> Any:
        """Our end's address."""
        return _address(self._native.get_extra_info("sockname"))

    @property
    def queued_bytes(self) -> int:
        """Bytes that were written and not yet taken by the kernel."""
        return int(self._native.get_write_buffer_size()) if self._native is not None else 0

    def writeSequence(self, data: Any) -> None:
        """Write several pieces without joining them first."""
        if self.write is not _ignore:
            self._native.writelines(data)

    def loseConnection(self) -> None:
        """Close when all that was written is sent, or after ``LINGER_SECONDS``."""
        native = self._native
        if native is None or native.is_closing():
            return
        self.write = _ignore
        if native.get_write_buffer_size():
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, native.abort)
        native.close()

    def abortConnection(self) -> None:
        """Close now, by a reset: what was not sent is lost, and the peer must not take what it has for the whole."""
        self.write = _ignore
        self._aborted = True
        sock = self._native.get_extra_info("socket")
        if sock is not None and not self._native.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._native.abort()

    def loseWriteConnection(self) -> None:
        """Send a FIN behind what was written; over TLS, which has no half-close here, close."""
        if self.write is _ignore:
            return
        if self._native.can_write_eof():
            self.write = _ignore
            self._native.write_eof()
        else:
            self.loseConnection()

    def pauseProducing(self) -> None:
        """Read no more for now. While paused, the peer's end or reset goes unnoticed."""
        if not self._native.is_closing():
            self._native.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        if not self._native.is_closing():
            self._native.resume_reading()

    def stopProducing(self) -> None:
        """As ``loseConnection``."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell ``producer`` when to pause and go on. A pull producer is driven by a cooperative task."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.write is _ignore:
            producer.stopProducing()
            return
        if not streaming:
            producer = _PullToPush(producer, self)
            producer.startStreaming()
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        producer, self._producer = self._producer, None
        if isinstance(producer, _PullToPush):
            producer.stopStreaming()

    def getTcpNoDelay(self) -> bool:
        """The loop sets TCP_NODELAY on every TCP connection."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See :meth:`getTcpNoDelay`."""

    def getTcpKeepAlive(self) -> bool:
        """Keep-alive probes are left to the idle time-outs above."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See :meth:`getTcpKeepAlive`."""

    def _is_tls(self) -> bool:
        return self._native.get_extra_info("sslcontext") is not None


def change_protocol(transport: Any, protocol: Any) -> None:
    """Let another protocol hear what comes from now on; it is told of its transport by ``makeConnection``, not here.

    Twisted's TLS transport is a protocol itself, with the one that is meant behind it.
    """
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol


def _address(name: Any) -> Any:
    """An address of the loop as one of Twisted's; a peer that is gone already has none."""
    if isinstance(name, tuple):
        kind = IPv6Address if ":" in name[0] else IPv4Address
        return kind("TCP", *name[:2])
    return UNIXAddress(name or None)
