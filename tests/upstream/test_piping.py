"""One handshake with a node for a pipe: what is asked, which answers are taken, and what the rest amounts to."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb import __version__
from evmlb.errors import Fault
from evmlb.upstream.link import Target
from evmlb.upstream.piping import HANDSHAKE_SECONDS, Dial, Dialler
from tests.support import AbortableTransport, node_config, run_property
from tests.upstream.sockets import RawNode, Wire, refused

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS = ((b"sec-websocket-key", KEY), (b"sec-websocket-version", b"13"))
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
ANSWER = SWITCHING + ACCEPT + b"X-Any: thing\r\n\r\n"
MOST = 4096


class CallerSpy(Protocol):
    """Notes what it is told; once joined, it is the protocol of the connection."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.got = b""

    def opened(self, transport: Any, head: bytes) -> Any:
        self.told.append(("opened", head))
        self.transport = transport
        return self

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append("lost")

    def failed(self, fault: Fault, words: str, answer: Any) -> None:
        self.told.append((fault, None if answer is None else answer.status))
        self.words = words
        self.answer = answer


class World:
    """A way to one node, in memory."""

    def __init__(self, make: Any = RawNode, **node: Any) -> None:
        self.clock = Clock()
        self.wire = Wire(make)
        config = node_config(**{"url": "http://10.0.0.1:8545", "ws_endpoint": "ws://10.0.0.1:8546", **node})
        self.target = Target(self.clock, config, self.clock.seconds)
        self.dialler = Dialler(self.clock, self.target, config, MOST, self.wire.connect)
        self.caller = CallerSpy()
        self.dial: Any = None

    def begin(self, extra: bytes = b"", *headers: tuple[bytes, bytes]) -> World:
        self.dial = self.dialler.dial(extra, HEADERS + headers, KEY, self.caller)
        assert isinstance(self.dial, Dial)
        self.dial.begin()
        self.wire.flush()
        return self

    @property
    def asked(self) -> list[bytes]:
        """The lines of the request that the node got."""
        head, blank, rest = self.wire.node.got.partition(b"\r\n\r\n")
        assert (blank, rest) == (b"\r\n\r\n", b""), rest
        lines: list[bytes] = head.split(b"\r\n")
        return lines

    def say(self, *pieces: bytes) -> World:
        for piece in pieces:
            self.wire.node.transport.write(piece)
            self.wire.flush()
        return self


class Asking(SynchronousTestCase):
    def test_request(self) -> None:
        """The client's handshake, and nothing else of its; to the node's own host."""
        world = World().begin()
        self.assertEqual(
            world.asked,
            [
                b"GET / HTTP/1.1",
                b"Host: 10.0.0.1:8546",
                b"Upgrade: websocket",
                b"Connection: Upgrade",
                b"sec-websocket-key: " + KEY,
                b"sec-websocket-version: 13",
                b"User-Agent: evmlb/" + __version__.encode(),
            ],
        )

    def test_names(self) -> None:
        """One User-Agent: the node's, else the client's, else ours."""
        client = (b"user-agent", b"client")
        for headers, of_client, sent in (
            ((), (client,), b"user-agent: client"),
            ((("User-Agent", "mine"),), (client,), b"User-Agent: mine"),
            ((("User-Agent", "mine"),), (), b"User-Agent: mine"),
        ):
            asked = World(headers=headers).begin(b"", *of_client).asked
            self.assertEqual([line for line in asked if line.lower().startswith(b"user-agent")], [sent])

    def test_paths(self) -> None:
        """The client's path and query go behind the node's own."""
        for url, extra, path in (
            ("ws://10.0.0.1", b"", b"/"),
            ("ws://10.0.0.1/", b"/more", b"/more"),
            ("ws://10.0.0.1/v1/key", b"", b"/v1/key"),
            ("ws://10.0.0.1/v1/key/", b"", b"/v1/key/"),
            ("ws://10.0.0.1/v1/key/", b"/more?a=1", b"/v1/key/more?a=1"),
            ("ws://10.0.0.1/v1?key=2", b"?a=1", b"/v1?key=2&a=1"),
            ("ws://10.0.0.1?key=2", b"/x", b"/x?key=2"),
        ):
            self.assertEqual(World(ws_endpoint=url).begin(extra).asked[0], b"GET %b HTTP/1.1" % path)

    def test_headers(self) -> None:
        """What is configured for the node stands, whatever the client has; what frames a request is ours alone."""
        world = World(
            ws_endpoint="ws://user:pass@10.0.0.1:8546", headers=(("X-Key", "secret"), ("Connection", "close"))
        )
        world.begin(
            b"",
            (b"x-key", b"the client's"),
            (b"authorization", b"Bearer mine"),
            (b"host", b"elsewhere"),
            (b"connection", b"close"),
            (b"upgrade", b"h2c"),
            (b"transfer-encoding", b"chunked"),
            (b"content-length", b"5"),
            (b"x-team", b"blue"),
        )
        self.assertEqual(
            world.asked[1:],
            [
                b"Host: 10.0.0.1:8546",
                b"Upgrade: websocket",
                b"Connection: Upgrade",
                b"X-Key: secret",
                b"Authorization: Basic dXNlcjpwYXNz",
                b"sec-websocket-key: " + KEY,
                b"sec-websocket-version: 13",
                b"x-team: blue",
                b"User-Agent: evmlb/" + __version__.encode(),
            ],
        )

    def test_where(self) -> None:
        """A WebSocket may be guessed to be beside HTTP, and may be behind the same port."""
        for ws_endpoint, guess, shares in (
            (None, True, True),
            ("ws://10.0.0.1:8545/ws", False, True),
            ("ws://10.0.0.1:8546", False, False),
            ("ws://10.0.0.2:8545", False, False),
        ):
            dialler = World(ws_endpoint=ws_endpoint).dialler
            self.assertEqual((dialler.is_guess, dialler.shares_port), (guess, shares))


class Answered(SynchronousTestCase):
    def test_taken(self) -> None:
        """A 101 is handed over byte for byte, with all that comes behind it, and no time-out is left."""
        world = World().begin().say(ANSWER + b"first", b"second")
        self.assertEqual((world.caller.told, world.caller.got), ([("opened", ANSWER)], b"firstsecond"))
        world.caller.transport.write(b"hello")
        world.wire.flush()
        self.assertTrue(world.wire.node.got.endswith(b"\r\n\r\nhello"))
        self.assertEqual(world.clock.getDelayedCalls(), [])
        world.wire.cut()
        self.assertEqual(world.caller.told[1:], ["lost"])

    def test_in_pieces(self) -> None:
        """Byte by byte, with interim answers in front."""
        data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ANSWER + b"rest"
        world = World().begin().say(*(data[place : place + 1] for place in range(len(data))))
        self.assertEqual((world.caller.told, world.caller.got), ([("opened", ANSWER)], b"rest"))

    def test_any_key(self) -> None:
        """The node has to prove that it read this client's key (RFC 6455, 4.2.2)."""

        @given(st.binary(min_size=16, max_size=16), st.booleans())
        def check(nonce: bytes, right: bool) -> None:
            world, key = World(), base64.b64encode(nonce)
            world.dialler.dial(b"", (), key, world.caller).begin()
            proven = key if right else KEY
            accept = base64.b64encode(hashlib.sha1(proven + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            world.say(SWITCHING + b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept)
            took = world.caller.told[0][0] == "opened"
            self.assertEqual(took, right or key == KEY)

        run_property(check)

    def test_statuses(self) -> None:
        """What another status means; the connection is cut without reading on."""
        for status, fault in (
            (200, Fault.HTTP_ERROR),
            (302, Fault.HTTP_ERROR),
            (400, Fault.REJECTED),
            (404, Fault.REJECTED),
            (426, Fault.REJECTED),
            (401, Fault.UNAUTHORIZED),
            (403, Fault.UNAUTHORIZED),
            (429, Fault.RATE_LIMITED),
            (500, Fault.HTTP_ERROR),
            (503, Fault.HTTP_ERROR),
        ):
            world = World().begin()
            world.say(b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\nbody" % status)
            self.assertEqual(world.caller.told, [(fault, status)])
            self.assertEqual(world.caller.answer.value(b"retry-after"), b"7")
            self.assertEqual((world.wire.node.transport.disconnected, world.clock.getDelayedCalls()), (True, []))

    def test_garbage(self) -> None:
        """What is no answer to a handshake."""
        for data in (
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 101 X\r\n\r\n",
            SWITCHING + b"\r\n",
            SWITCHING + b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
            b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\n" + ACCEPT + b"\r\n",
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 101 X\r\n" + b"X-Long: 12345678901234567890\r\n" * 200,
            ANSWER[:-2] + b"X-Long: %b\r\n\r\n" % (b"x" * MOST),
            b"\x81\x05hello",
        ):
            world = World().begin().say(data)
            self.assertEqual([told[0] for told in world.caller.told], [Fault.GARBAGE], data[:50])
            self.assertEqual((world.wire.node.transport.disconnected, world.clock.getDelayedCalls()), (True, []))

    def test_any_answer(self) -> None:
        """Whatever a node says, the caller hears one end of it at most, and no exception gets out."""

        @given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from((ANSWER, ANSWER[:40], SWITCHING, b"\r\n")))))
        def check(pieces: list[bytes]) -> None:
            world = World().begin()
            for piece in pieces:
                if not world.wire.node.transport.disconnected:
                    world.say(piece)
            self.assertLessEqual(len(world.caller.told), 1)

        run_property(check)

    def test_ended(self) -> None:
        """A node that ends the connection in place of an answer."""
        for data in (b"", ANSWER[:30]):
            world = World().begin().say(data)
            world.wire.cut()
            self.assertEqual((world.caller.told, world.clock.getDelayedCalls()), ([(Fault.DISCONNECTED, None)], []))


class Connecting(SynchronousTestCase):
    def test_refused(self) -> None:
        """Nobody listens."""
        world = World(refused).begin()
        self.assertEqual((world.caller.told, world.caller.words), ([(Fault.UNREACHABLE, None)], "Connection refused"))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_next_address(self) -> None:
        """A host has several addresses: the first that answers is taken."""
        ends = [refused(), RawNode()]
        world = World(lambda: ends.pop(0))
        world.target.addresses.known = ("10.0.0.1", "10.0.0.2")
        world.begin().say(ANSWER)
        self.assertEqual((world.wire.addresses, world.caller.told), (["10.0.0.1", "10.0.0.2"], [("opened", ANSWER)]))

    def test_unknown_host(self) -> None:
        """A name without an address."""
        world = World()
        world.target.addresses.known = ()
        world.target.addresses._looking = True
        world.target.addresses._asked_at = 0.0
        world.begin()
        world.target.addresses._resolved(())
        self.assertEqual(world.caller.words, "the host name cannot be resolved")

    def test_too_long(self) -> None:
        """Connecting and being answered together have a time-out, and it is told which of them hung."""
        world = World(Deferred).begin()
        world.clock.advance(HANDSHAKE_SECONDS)
        self.assertEqual(world.caller.told, [(Fault.UNREACHABLE, None)])
        world = World().begin().say(ANSWER[:50])
        world.clock.advance(HANDSHAKE_SECONDS)
        world.wire.flush()
        self.assertEqual(world.caller.told, [(Fault.TIMED_OUT, None)])
        self.assertIs(world.wire.node.transport.disconnected, True)

    def test_cancelled(self) -> None:
        """Nobody waits any more: the connection is cut, or never used, and the caller hears nothing."""
        world = World().begin()
        world.dial.cancel()
        world.wire.flush()
        self.assertEqual((world.caller.told, world.wire.node.transport.disconnected), ([], True))
        world = World(Deferred).begin()
        world.dial.cancel()
        self.assertEqual((world.caller.told, world.clock.getDelayedCalls()), ([], []))

    def test_too_late(self) -> None:
        """A transport that comes when nobody waits any more is cut, and says nothing to the node."""
        made: list[Any] = []

        def connect(reactor: Any, address: str, port: int, protocol: Any, tls: Any, seconds: float) -> Deferred[Any]:
            made.append(protocol)
            return Deferred()

        world = World()
        world.dialler.connect = connect
        world.begin()
        world.clock.advance(HANDSHAKE_SECONDS)
        transport = AbortableTransport()
        made[0].makeConnection(transport)
        self.assertEqual((transport.value(), transport.was_aborted), (b"", True))
        self.assertEqual(world.caller.told, [(Fault.UNREACHABLE, None)])

    def test_answered_before_connected(self) -> None:
        """A node may answer before the loop has told that the connection stands: it stays."""
        cancelled: list[Any] = []
        waiting: Deferred[Any] = Deferred(cancelled.append)
        made: list[Any] = []

        def connect(reactor: Any, address: str, port: int, protocol: Any, tls: Any, seconds: float) -> Deferred[Any]:
            made.append(protocol)
            return waiting

        world = World()
        world.dialler.connect = connect
        world.begin()
        transport = AbortableTransport()
        made[0].makeConnection(transport)
        made[0].dataReceived(ANSWER)
        self.assertEqual(cancelled, [])  # the loop would close what it made
        waiting.errback(TimeoutError())
        self.assertEqual(world.caller.told, [("opened", ANSWER)])
        self.assertIs(transport.was_aborted, False)
