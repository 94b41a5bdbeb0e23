"""Twisted protocols on the event loop's own transports: on a fake one, and on asyncio's over loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import _producer_helpers, error, interfaces, protocol
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock, Cooperator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from evmlb.wire import transport as transport_module
from evmlb.wire.reactor import new_loop
from evmlb.wire.transport import NativeTransport


class Native:
    """A loop's transport that notes what is done to it."""

    def __init__(self, **extra: Any) -> None:
        self.extra = {"peername": ("10.0.0.1", 1234), "sockname": ("10.0.0.2", 80), **extra}
        self.calls: list[Any] = []
        self.buffered = 0
        self.closing = False
        self.half_closable = True

    def get_extra_info(self, name: str) -> Any:
        return self.extra.get(name)

    def set_protocol(self, protocol: Any) -> None:
        self.bound = protocol.data_received

    def write(self, data: bytes) -> None:
        assert not self.closing
        assert "eof" not in self.calls, "uvloop raises after a half-close"
        self.calls.append(data)

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.calls.append("close")

    def abort(self) -> None:
        self.closing = True
        self.calls.append("abort")

    def can_write_eof(self) -> bool:
        return self.half_closable

    def write_eof(self) -> None:
        self.calls.append("eof")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Recorder(protocol.Protocol):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def connectionMade(self) -> None:
        self.heard.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.heard.append(reason.type)


@implementer(interfaces.IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    def readConnectionLost(self) -> None:
        self.heard.append("eof")

    def writeConnectionLost(self) -> None:
        pass


class Producer:
    """Notes what it is told, and as a pull producer gives pieces until there are no more."""

    def __init__(self, consumer: Any = None, pieces: int = 0) -> None:
        self.told: list[str] = []
        self.consumer = consumer
        self.pieces = pieces

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.consumer is not None:
            self.pieces -= 1
            self.consumer.write(b"piece")
            if not self.pieces:
                self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.told.append("stop")


class FakeNativeTests(SynchronousTestCase):
    def make(self, made: Any = None, native: Native | None = None) -> NativeTransport:
        self.protocol = made or Recorder()
        self.native = native or Native()
        transport = NativeTransport(lambda peer: self.protocol)
        transport.connection_made(self.native)
        return transport

    def test_interfaces(self) -> None:
        """It is what Twisted calls a TCP transport."""
        transport = self.make()
        for interface in (interfaces.ITCPTransport, interfaces.IConsumer, interfaces.IPushProducer):
            self.assertTrue(verifyObject(interface, transport))

    def test_data(self) -> None:
        """Bytes go from the loop to the protocol, and back."""
        transport = self.make()
        self.native.bound(b"in")
        transport.write(b"out")
        transport.writeSequence([b"a", b"b"])
        self.assertEqual((self.protocol.heard, self.native.calls), (["made", b"in"], [b"out", b"ab"]))

    def test_addresses(self) -> None:
        """Addresses are Twisted's, of either family, of UNIX sockets, and of a peer that is gone."""
        for name, address in (
            (("1.2.3.4", 5), IPv4Address("TCP", "1.2.3.4", 5)),
            (("::1", 5, 0, 0), IPv6Address("TCP", "::1", 5)),
            ("/run/x", UNIXAddress("/run/x")),
            ("", UNIXAddress(None)),
            (None, UNIXAddress(None)),
        ):
            transport = self.make(native=Native(peername=name, sockname=name))
            self.assertEqual((transport.getPeer(), transport.getHost()), (address, address))

    def test_refused(self) -> None:
        """A factory that makes no protocol refuses the peer."""
        native = Native()
        transport = NativeTransport(lambda peer: None)
        transport.connection_made(native)
        self.assertEqual(native.calls, ["abort"])
        self.assertFalse(transport.eof_received())
        transport.connection_lost(None)

    def test_exception_while_connecting(self) -> None:
        """A protocol that fails while it is connected is closed, and told."""

        class Failing(Recorder):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        transport = self.make(Failing())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.native.calls, ["abort"])
        transport.connection_lost(None)
        self.assertEqual(self.protocol.heard, [error.ConnectionAborted])

    def test_exception_while_building(self) -> None:
        """So is a connection whose protocol cannot be made."""
        native = Native()
        transport = NativeTransport(lambda peer: 1 / 0)
        transport.connection_made(native)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(native.calls, ["abort"])
        transport.connection_lost(None)

    def test_write_after_close(self) -> None:
        """Writes after ``loseConnection`` or ``abortConnection`` are no-ops, and so is closing twice."""
        for close in ("loseConnection", "abortConnection"):
            transport = self.make()
            self.assertFalse(transport.disconnecting)
            getattr(transport, close)()
            self.assertTrue(transport.disconnecting)
            transport.write(b"x")
            transport.writeSequence([b"x"])
            transport.loseConnection()
            self.assertEqual(self.native.calls, ["close" if close == "loseConnection" else "abort"])

    def test_reasons(self) -> None:
        """A connection is done, lost or aborted."""
        for action, cause, reason in (
            (None, None, error.ConnectionDone),
            (None, ConnectionResetError(), error.ConnectionLost),
            ("loseConnection", None, error.ConnectionDone),
            ("abortConnection", None, error.ConnectionAborted),
        ):
            transport = self.make()
            if action:
                getattr(transport, action)()
            transport.connection_lost(cause)
            self.assertEqual(self.protocol.heard, ["made", reason])
            transport.write(b"x")
            transport.data_received(b"late")
            self.assertNotIn(b"x", self.native.calls)
            self.assertEqual(len(self.protocol.heard), 2)

    def test_abort_is_a_reset(self) -> None:
        """An abort resets the connection, so that the peer does not take what it has for the whole."""
        with socket.socket() as sock:
            transport = self.make(native=Native(socket=sock))
            transport.abortConnection()
            linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        self.assertEqual(linger, b"\x01\0\0\0\0\0\0\0")

    def test_half_close_of_the_peer(self) -> None:
        """A peer's FIN closes, but for protocols that can be half closed: these are told, and keep writing."""
        transport = self.make()
        self.assertFalse(transport.eof_received())
        transport = self.make(HalfRecorder())
        self.assertTrue(transport.eof_received())
        transport.write(b"owed")
        self.assertEqual((self.protocol.heard, self.native.calls), (["made", "eof"], [b"owed"]))

    def test_half_close_answered_by_closing(self) -> None:
        """One that closes when it hears of the FIN lets the connection end."""

        class Closing(HalfRecorder):
            def readConnectionLost(self) -> None:
                self.transport.loseConnection()

        self.assertFalse(self.make(Closing()).eof_received())

    def test_half_close_tls(self) -> None:
        """TLS has no half-close: a FIN closes."""
        transport = self.make(HalfRecorder(), Native(sslcontext=object()))
        self.assertFalse(transport.eof_received())

    def test_lose_write_connection(self) -> None:
        """Our own half-close sends a FIN, ends all writing, and can be followed by a close."""
        transport = self.make(HalfRecorder())
        transport.loseWriteConnection()
        transport.write(b"x")
        transport.loseWriteConnection()
        self.assertEqual(self.native.calls, ["eof"])
        self.native.bound(b"still read")
        self.assertEqual(self.protocol.heard, ["made", b"still read"])
        transport.loseConnection()
        self.assertEqual(self.native.calls, ["eof", "close"])

    def test_lose_write_connection_and_eof(self) -> None:
        """When both sides have sent their FIN, the connection ends."""
        transport = self.make(HalfRecorder())
        transport.loseWriteConnection()
        self.assertFalse(transport.eof_received())

    def test_lose_write_connection_without_one(self) -> None:
        """Where there is no half-close, it closes."""
        transport = self.make()
        self.native.half_closable = False
        transport.loseWriteConnection()
        self.assertEqual(self.native.calls, ["close"])

    def test_flow(self) -> None:
        """Reading can be paused, but not on a connection that closes."""
        transport = self.make()
        transport.pauseProducing()
        transport.resumeProducing()
        transport.loseConnection()
        transport.pauseProducing()
        transport.resumeProducing()
        self.assertEqual(self.native.calls, ["pause", "resume", "close"])

    def test_push_producer(self) -> None:
        """A push producer hears when to wait; there is only one, and none on a closed connection."""
        transport = self.make()
        transport.pause_writing()
        producer = Producer()
        transport.registerProducer(producer, True)
        self.assertRaises(RuntimeError, transport.registerProducer, producer, True)
        transport.pause_writing()
        transport.resume_writing()
        transport.unregisterProducer()
        transport.pause_writing()
        self.assertEqual(producer.told, ["pause", "resume"])
        transport.stopProducing()
        transport.registerProducer(producer, True)
        self.assertEqual((producer.told[-1], self.native.calls), ("stop", ["close"]))

    def test_pull_producer(self) -> None:
        """A pull producer is driven by a task until it has no more, waiting while the loop wants it to."""
        clock = Clock()
        cooperator = Cooperator(scheduler=lambda f: clock.callLater(0.001, f))
        self.patch(_producer_helpers, "cooperate", cooperator.cooperate)
        transport = self.make()
        producer = Producer(transport, pieces=30)
        transport.registerProducer(producer, False)
        transport.pause_writing()
        clock.pump([0.001] * 3)
        before = len(self.native.calls)
        transport.resume_writing()
        clock.pump([0.001] * 100)
        self.assertEqual((before, self.native.calls), (0, [b"piece"] * 30))
        transport.registerProducer(Producer(transport, pieces=10**9), False)
        transport.connection_lost(None)
        clock.pump([0.001] * 3)
        self.assertEqual((len(self.native.calls), clock.getDelayedCalls()), (30, []))

    def test_protocol_switch(self) -> None:
        """Data goes to the protocol that was assigned last, and so does the end."""
        transport = self.make()
        other = Recorder()
        transport.protocol = other
        self.native.bound(b"x")
        transport.connection_lost(None)
        self.assertEqual((self.protocol.heard, other.heard), (["made"], [b"x", error.ConnectionDone]))
        self.assertIsNone(transport.protocol)

    def test_socket_options(self) -> None:
        """Options that the loop sets by itself are told as they are."""
        transport = self.make()
        transport.setTcpNoDelay(False)
        transport.setTcpKeepAlive(True)
        self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (True, False))


class LoopTests(SynchronousTestCase):
    """On asyncio's loop, without a reactor: what only a real transport can show."""

    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop

    def converse(
        self, make: Callable[[], Any], client: Callable[[Any, Any, list[NativeTransport]], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Run a server of these protocols and a client of it."""
        native: list[NativeTransport] = []

        async def run() -> Any:
            loop = asyncio.get_running_loop()

            def accept() -> NativeTransport:
                native.append(NativeTransport(lambda peer: make()))
                return native[-1]

            server = await loop.create_server(accept, "127.0.0.1", 0)
            try:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                try:
                    return await asyncio.wait_for(client(reader, writer, native), 10)
                finally:
                    writer.close()
            finally:
                server.close()

        loop = self.make_loop()
        try:
            return loop.run_until_complete(run())
        finally:
            loop.close()

    def test_answer_behind_a_fin(self) -> None:
        """A client that half-closes gets its answer."""

        class Answering(HalfRecorder):
            def readConnectionLost(self) -> None:
                self.transport.write(b"answer to " + self.heard[-1])
                self.transport.loseConnection()

        async def client(reader: Any, writer: Any, native: Any) -> bytes:
            writer.write(b"question")
            await asyncio.sleep(0.01)
            writer.write_eof()
            answer: bytes = await reader.read()
            return answer

        self.assertEqual(self.converse(Answering, client), b"answer to question")

    def test_refusal_while_the_client_sends(self) -> None:
        """After our half-close the client reads all that was written, while it still sends."""

        class Refusing(HalfRecorder):
            def dataReceived(self, data: bytes) -> None:
                if self.heard == ["made"]:
                    self.heard.append("refused")
                    self.transport.write(b"no")
                    self.transport.loseWriteConnection()

        async def client(reader: Any, writer: Any, native: Any) -> bytes:
            for _ in range(20):
                writer.write(b"x" * 1000)
                await asyncio.sleep(0.001)
            answer: bytes = await reader.read()
            return answer

        self.assertEqual(self.converse(Refusing, client), b"no")

    def test_abort(self) -> None:
        """An aborted connection ends with a reset at its client."""

        class Aborting(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"half an ans")
                self.transport.abortConnection()

        async def client(reader: Any, writer: Any, native: Any) -> Any:
            writer.write(b"question")
            with self.assertRaises(ConnectionResetError):
                while await reader.read(100):
                    pass

        self.converse(Aborting, client)

    def test_linger(self) -> None:
        """A peer that does not read what is left is cut off after a while."""
        self.patch(transport_module, "LINGER_SECONDS", 0.05)
        made: list[Recorder] = []

        class Flooding(Recorder):
            def connectionMade(self) -> None:
                made.append(self)
                self.transport.write(b"x" * 20_000_000)
                self.transport.loseConnection()

        async def client(reader: Any, writer: Any, native: Any) -> None:
            writer.transport.pause_reading()
            while not made or not made[0].heard:
                await asyncio.sleep(0.01)

        self.converse(Flooding, client)
        self.assertEqual(len(made[0].heard), 1)

    def test_backpressure(self) -> None:
        """A client that does not read pauses the producer, and one that goes on resumes it."""
        producer = Producer()

        class Flooding(Recorder):
            def connectionMade(self) -> None:
                self.transport.registerProducer(producer, True)
                self.transport.write(b"x" * 20_000_000)

        async def client(reader: Any, writer: Any, native: Any) -> int:
            left = 20_000_000
            while left:
                left -= len(await reader.read(1_000_000))
            while producer.told[-1:] != ["resume"]:
                await asyncio.sleep(0.001)
            return left

        self.assertEqual(self.converse(Flooding, client), 0)
        self.assertEqual(producer.told, ["pause", "resume"])


class FastLoopTests(LoopTests):
    """The same on the loop that is used in production, where it is installed."""

    make_loop = staticmethod(new_loop)
