"""Connections to one node: answers in every cutting, the pool, and what may be sent twice."""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer, error
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evmlb import __version__
from evmlb.config.schema import LimitsConfig
from evmlb.errors import Fault
from evmlb.upstream.http import HttpUpstream
from tests.support import SinkSpy, node_config, run_property

RESULT = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'


def answer(body: bytes = RESULT, *lines: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    head = (
        b"HTTP/1.1 %b" % status,
        *lines,
        b"Content-Length: %d" % (len(body) if length is None else length),
        b"",
        b"",
    )
    return b"\r\n".join(head) + body


def chunked(body: bytes, size: int = 7, trailer: bytes = b"") -> bytes:
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x;ext\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\n%b\r\n" % trailer
    )


class NodeTransport:
    """The transport of one connection, as seen by the node."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.sent = b""
        self.state = "open"  # closed, aborted, gone
        self.reading = True

    def write(self, data: bytes) -> None:
        if self.state == "open":
            self.sent += data

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.state == "open":
            self.state = "closed"

    def abortConnection(self) -> None:
        if self.state in ("open", "closed"):
            self.state = "aborted"

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def answer(self, data: bytes) -> None:
        """Bytes come from the node."""
        if self.state == "open":
            self.connection.dataReceived(data)

    def end(self, reason: type[Exception] = error.ConnectionDone) -> None:
        """The connection ends."""
        if self.state != "gone":
            self.state = "gone"
            self.connection.connectionLost(Failure(reason()))

    def take(self) -> bytes:
        """What was sent since the last call."""
        data, self.sent = self.sent, b""
        return data


@dataclass
class Dial:
    """One attempt to connect."""

    address: str
    port: int
    connection: Any
    timeout: float
    done: defer.Deferred[Any] = field(default_factory=defer.Deferred)

    def succeed(self) -> NodeTransport:
        transport = NodeTransport(self.connection)
        self.connection.makeConnection(transport)
        self.done.callback(self.connection)
        return transport

    def fail(self, cause: Exception | None = None) -> None:
        self.done.errback(cause or ConnectionRefusedError(errno.ECONNREFUSED, "refused"))


class World:
    """A node that is dialled in memory."""

    def __init__(self, *, addresses: tuple[str, ...] = ("10.0.0.1",), limits: Any = None, **node: Any) -> None:
        self.clock = Clock()
        self.dials: list[Dial] = []
        self.instant = True
        config = node_config(**{"url": "http://10.0.0.1:8545", **node})
        self.upstream = HttpUpstream(
            self.clock, config, limits or LimitsConfig(), 2.0, self.clock.seconds, connect=self.connect
        )
        self.upstream.addresses.known = addresses
        self.upstream.addresses._fixed = True
        self.transports: list[NodeTransport] = []

    def connect(
        self, reactor: Any, address: str, port: int, protocol: Any, tls: Any, timeout: float
    ) -> defer.Deferred[Any]:
        dial = Dial(address, port, protocol, timeout)
        self.dials.append(dial)
        if self.instant:
            self.transports.append(dial.succeed())
        return dial.done

    def send(self, body: bytes = b"{}", *, repeatable: bool = True, **rest: Any) -> SinkSpy:
        sink = SinkSpy(repeatable=repeatable)
        self.upstream.send(sink, body, **rest)
        return sink

    @property
    def node(self) -> NodeTransport:
        """The newest connection."""
        return self.transports[-1]


def outcome(data: list[bytes], *, ends: bool, hold: int = 1000, method: bytes = b"POST") -> tuple[Any, ...]:
    """What a sink hears of an answer in these pieces: how it ended, the body, and what became of the connection."""
    world = World(limits=LimitsConfig(failover_buffer_bytes=hold, max_header_bytes=300))
    sink = world.send(method=method)
    for piece in data:
        world.node.answer(piece)
    state = world.node.state
    if ends:
        world.node.end()
    kinds = [event[0] for event in sink.events if event[0] not in ("streamed", "progressed")]
    if kinds[-1:] == ["failed"]:
        return sink.events[-1]  # how much came before is a matter of cutting
    kinds = ["answered" if kind == "ended" else kind for kind in kinds if kind != "began"]
    return (kinds, sink.head and sink.head.status, sink.body, state, len(world.upstream.idle))


ANSWERS = (
    answer(),
    answer(b""),
    answer(b"x" * 999),
    answer(b"y" * 1500),
    answer(RESULT, b"Connection: close"),
    answer(b"no", status=b"404 Not Found"),
    answer() + b"garbage",
    answer() + answer(),
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + answer(b"z" * 1100),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n" + RESULT,
    b"HTTP/1.1 200 OK\r\n\r\n" + b"u" * 1200,
    b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n",
    chunked(RESULT),
    chunked(b""),
    chunked(b"c" * 1200, 100),
    chunked(b"c" * 1200, 1),
    chunked(RESULT, trailer=b"X-Sum: 1\r\n"),
    chunked(RESULT) + b"HTTP",
    answer(RESULT, length=1000),
    answer(RESULT, length=10),
    answer(b"", length=-1),
    answer(RESULT, b"Content-Length: 5"),
    answer(RESULT, b"Transfer-Encoding: chunked"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"h" * 400 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"h" * 900,
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n",
    b"<html>nothing</html>",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"",
    answer()[:30],
    answer()[:-1],
    chunked(RESULT)[:-2],
)


class AnswerTests(SynchronousTestCase):
    def test_every_cutting(self) -> None:
        """However the bytes of an answer are cut, what is heard of it is the same."""

        @settings(max_examples=400, deadline=None)
        @given(
            st.sampled_from(ANSWERS),
            st.lists(st.integers(1, 300), max_size=10),
            st.booleans(),
            st.sampled_from((50, 1000)),
        )
        def check(data: bytes, cuts: list[int], ends: bool, hold: int) -> None:
            wanted = outcome([data] if data else [], ends=ends, hold=hold)
            pieces, rest = [], data
            for cut in cuts:
                pieces.append(rest[:cut])
                rest = rest[cut:]
            cut = outcome([p for p in (*pieces, rest) if p], ends=ends, hold=hold)
            self.assertEqual(strip_reuse(cut), strip_reuse(wanted))
            bytewise = outcome([data[at : at + 1] for at in range(len(data))], ends=ends, hold=hold)
            self.assertEqual(strip_reuse(bytewise), strip_reuse(wanted))

        def strip_reuse(told: tuple[Any, ...]) -> tuple[Any, ...]:
            # what lies behind an answer closes the connection in the same piece, and aborts it in a later one
            return told if told[0] == "failed" else (*told[:3], told[3] == "open")

        run_property(check)

    def test_kinds(self) -> None:
        """Whole answers are heard whole, with their connection kept when it may be."""
        for data, body, state in (
            (answer(), RESULT, "open"),
            (answer(b""), b"", "open"),
            (answer(RESULT, b"Connection: close"), RESULT, "closed"),
            (answer() + b"garbage", RESULT, "closed"),
            (answer(RESULT, length=10), RESULT[:10], "closed"),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), RESULT, "open"),
            (chunked(RESULT), RESULT, "open"),
        ):
            kinds, _, heard, was, idle = outcome([data], ends=False)
            self.assertEqual((kinds, heard, was, idle), (["answered"], body, state, int(state == "open")), data)

    def test_until_close(self) -> None:
        """An answer without length is whole when the connection ends cleanly, and only then."""
        world = World()
        sink = world.send()
        world.node.answer(b"HTTP/1.1 200 OK\r\n\r\n" + RESULT)
        self.assertFalse(sink.is_done)
        world.node.end()
        self.assertEqual(sink.body, RESULT)
        sink = world.send()
        world.node.answer(b"HTTP/1.1 200 OK\r\n\r\n" + RESULT)
        world.node.end(error.ConnectionLost)
        self.assertEqual(sink.events[-1], ("failed", Fault.DISCONNECTED, True))

    def test_head(self) -> None:
        """The answer to HEAD ends with its head, whatever length it tells, also when that head is known."""
        world = World()
        world.send()
        world.node.answer(answer())
        sink = world.send(b"", method=b"HEAD")
        world.node.answer(answer(b"", length=len(RESULT)))
        self.assertEqual((sink.body, sink.is_done), (b"", True))
        sink = world.send()
        world.node.answer(answer())
        self.assertEqual(sink.body, RESULT)
        self.assertEqual(len(world.dials), 1)

    def test_truncated(self) -> None:
        """A body that ends early is a disconnection, not an answer."""
        for data in (answer()[:-1], chunked(RESULT)[:-2], answer()[:20], b""):
            self.assertEqual(outcome([data] if data else [], ends=True), ("failed", Fault.DISCONNECTED, True))

    def test_garbage(self) -> None:
        """What is no HTTP is garbage at its first byte, and the connection is cut."""
        for data in (b"S", b"<html>", b"\x15\x03", b"HTTP/2", b"HTTP/1.1 200 OK\r\nX: " + b"h" * 400):
            world = World(limits=LimitsConfig(max_header_bytes=300))
            sink = world.send()
            world.node.answer(data)
            self.assertEqual((sink.events, world.node.state), ([("failed", Fault.GARBAGE, True)], "aborted"), data)

    def test_many_interim_answers(self) -> None:
        """Any number of 1xx is passed over, at a cost that grows with their bytes alone."""
        world = World()
        sink = world.send()
        for _ in range(5):
            world.node.answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)
        world.node.answer(answer())
        self.assertEqual(sink.body, RESULT)

    def test_unasked(self) -> None:
        """A node that speaks without being asked loses its connection."""
        world = World()
        world.send()
        world.node.answer(answer())
        world.node.answer(b"surprise")
        self.assertEqual(world.node.state, "aborted")
        world.node.end()
        self.assertEqual((world.upstream.idle, world.upstream.open), ([], set()))

    def test_commit_point(self) -> None:
        """An answer is held up to a size, then begun, streamed and ended."""
        world = World(limits=LimitsConfig(failover_buffer_bytes=100))
        sink = world.send()
        world.node.answer(answer(b"x" * 150)[:-100])
        world.node.answer(b"x" * 60)
        world.node.answer(b"x" * 40)
        kinds = [event[0] for event in sink.events]
        self.assertEqual(kinds, ["progressed", "began", "progressed", "streamed", "ended"])
        self.assertEqual((sink.body, len(world.upstream.idle)), (b"x" * 150, 1))

    def test_whole_beyond_the_commit_point(self) -> None:
        """One that comes whole is heard whole, however large."""
        kinds, _, body, _, _ = outcome([answer(b"x" * 5000)], ends=False, hold=100)
        self.assertEqual((kinds, len(body)), (["answered"], 5000))

    def test_pause_ends_with_the_answer(self) -> None:
        """A connection that was paused when its answer ended is read again: the next answer would not be."""
        world = World(limits=LimitsConfig(failover_buffer_bytes=10))
        sink = world.send()
        world.node.answer(answer(b"x" * 50)[:-20])
        sink.flight.pause()
        self.assertFalse(world.node.reading)
        world.node.connection.dataReceived(b"x" * 20)  # was read already
        self.assertEqual((sink.is_done, world.node.reading), (True, True))

    def test_large_body_refused_early(self) -> None:
        """A node that refuses a large body may not have read it all: that connection carries nothing more."""
        for size, kept in ((100_000, 0), (1000, 1)):
            world = World()
            world.send(b"x" * size)
            world.node.answer(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
            self.assertEqual(len(world.upstream.idle), kept)

    def test_cancelled_in_the_middle(self) -> None:
        """A sink that gives up at the commit point hears no more of its answer."""
        world = World(limits=LimitsConfig(failover_buffer_bytes=10))

        class Refusing(SinkSpy):
            def began(self, head: Any, parts: list[bytes]) -> None:
                super().began(head, parts)
                world.upstream.cancel(self)

        sink = Refusing()
        world.upstream.send(sink, b"{}")
        world.node.answer(answer(b"x" * 50)[:-20])
        self.assertEqual((sink.events[-1][0], world.node.state), ("began", "aborted"))


class BrokenSink(SinkSpy):
    """One that something breaks in while it is told."""

    breaks = "answered"

    def _break(self, method: str) -> None:
        if self.breaks == method:
            raise RuntimeError("nobody foresaw this")

    def answered(self, head: Any, parts: list[bytes]) -> None:
        self._break("answered")
        super().answered(head, parts)

    def began(self, head: Any, parts: list[bytes]) -> None:
        self._break("began")
        super().began(head, parts)

    def streamed(self, data: bytes) -> None:
        self._break("streamed")
        super().streamed(data)

    def ended(self) -> None:
        self._break("ended")
        super().ended()

    def progressed(self) -> None:
        self._break("progressed")
        super().progressed()

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        super().failed(fault, detail, sent)
        self._break("failed")


class BrokenTests(SynchronousTestCase):
    """An exception of ours while an answer is taken is logged, and the sink fails once, whenever it came up."""

    def test_each(self) -> None:
        """So its request goes on elsewhere; the connection is kept if its answer was over, else closed."""
        whole = answer(b"x" * 2000)
        for breaks, pieces, state, errors in (
            ("answered", [answer()], "open", 1),
            ("answered", [answer()[:20], answer()[20:]], "open", 1),
            ("progressed", [answer()[:-3]], "aborted", 1),
            ("began", [whole[:1500]], "aborted", 1),
            ("streamed", [whole[:1500], whole[1500:1600]], "aborted", 1),
            ("ended", [whole[:1500], whole[1500:]], "open", 1),
            ("failed", [b"SSH-2.0 x"], "aborted", 1),
        ):
            world = World(limits=LimitsConfig(failover_buffer_bytes=1000))
            sink = BrokenSink()
            sink.breaks = breaks
            world.upstream.send(sink, b"{}")
            for piece in pieces:
                world.node.answer(piece)
            self.assertEqual(sink.events[-1], ("failed", Fault.GARBAGE, True), breaks)
            self.assertEqual(len([event for event in sink.events if event[0] == "failed"]), 1, breaks)
            self.assertEqual((world.node.state, len(self.flushLoggedErrors(RuntimeError))), (state, errors), breaks)

    def test_next_request(self) -> None:
        """Who uses the connection next has nothing to do with it."""
        world = World()
        first = BrokenSink()
        world.upstream.send(first, b"{}")
        second = world.send()  # waits for the connection, which gets it before the first is told
        world.transports[0].answer(answer())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        for node in world.transports:
            node.answer(answer())
        self.assertEqual(second.events, [("answered", 200, RESULT)])


class RequestTests(SynchronousTestCase):
    def test_post(self) -> None:
        """A common request: the node's path and query, our headers, the body as it is."""
        world = World(
            url="http://user:pa%20ss@node.test:8545/v1/key?apikey=1", headers=(("X-Key", "k"), ("Host", "no"))
        )
        world.send(b'{"a":1}', headers=b"X-Forwarded-For: 1.2.3.4\r\n")
        self.assertEqual(
            world.node.take(),
            b"POST /v1/key?apikey=1 HTTP/1.1\r\nHost: node.test:8545\r\nAccept-Encoding: identity\r\n"
            b"Authorization: Basic dXNlcjpwYSBzcw==\r\nX-Key: k\r\nContent-Type: application/json\r\n"
            b"User-Agent: evmlb/%b\r\nAccept: application/json\r\n"
            b'X-Forwarded-For: 1.2.3.4\r\nContent-Length: 7\r\n\r\n{"a":1}' % __version__.encode(),
        )

    def test_names_itself(self) -> None:
        """Gateways may want a User-Agent and an Accept: the node's own, else the client's if passed on, else ours."""

        def lines(sent: bytes, name: bytes) -> list[bytes]:
            return [line for line in sent.split(b"\r\n") if line.lower().startswith(name)]

        ours = b"User-Agent: evmlb/" + __version__.encode()
        common, opaque = b"Accept: application/json", b"Accept: */*"
        client = b"user-agent: client\r\naccept: text/html\r\n"
        mine = (("user-agent", "mine"), ("ACCEPT", "mine/type"))
        for headers, request, agent, accept in (
            ((), {}, ours, common),
            ((), {"headers": b"X-Forwarded-For: 1.2.3.4\r\n"}, ours, common),
            ((), {"target": b"/x"}, ours, common),
            ((), {"method": b"GET", "target": b"/x"}, ours, opaque),
            ((), {"headers": client}, b"user-agent: client", b"accept: text/html"),
            ((), {"method": b"GET", "headers": client}, b"user-agent: client", b"accept: text/html"),
            (mine, {}, b"user-agent: mine", b"ACCEPT: mine/type"),
            (mine, {"method": b"GET", "target": b"/x"}, b"user-agent: mine", b"ACCEPT: mine/type"),
        ):
            world = World(headers=headers)
            world.send(**request)
            sent = world.node.take()
            self.assertEqual((lines(sent, b"user-agent:"), lines(sent, b"accept:")), ([agent], [accept]), request)

    def test_target(self) -> None:
        """Extra path and query come behind the node's own."""
        for url, extra, wanted in (
            ("http://n.test", b"", b"/"),
            ("http://n.test/", b"/x", b"/x"),
            ("http://n.test/key/", b"/x/", b"/key/x/"),
            ("http://n.test/key", b"?a=1", b"/key?a=1"),
            ("http://n.test/key?k=1", b"/x?a=1", b"/key/x?k=1&a=1"),
            ("http://n.test?k=1", b"?", b"/?k=1"),
        ):
            world = World(url=url)
            world.send(target=extra)
            self.assertEqual(world.node.take().split(b" ")[1], wanted)

    def test_content_type(self) -> None:
        """A body has a Content-Type, the client's own for what is not JSON-RPC; without a body there is none."""
        world = World()
        world.send(b"x", method=b"PUT", headers=b"accept: content-type:\r\n")
        self.assertIn(b"Content-Type: application/json\r\n", world.node.take())
        world.send(b"x", target=b"/y", headers=b"content-type: text/plain\r\n")
        self.assertNotIn(b"Content-Type: application/json", world.node.take())
        world.send(b"", method=b"GET")
        self.assertNotIn(b"Content-Type", world.node.take())

    def test_large_body(self) -> None:
        """A large body goes out whole, and is let go of once it is answered."""
        world = World()
        body = b"x" * 200_000
        world.send(body)
        self.assertTrue(world.node.take().endswith(b"Content-Length: 200000\r\n\r\n" + body))
        world.node.answer(answer())
        world.upstream.sweep(0.0)
        self.assertIsNone(world.node.connection._request)


class PoolTests(SynchronousTestCase):
    def test_reuse(self) -> None:
        """A connection serves one request after the other; two at a time need two."""
        world = World()
        for _ in range(3):
            world.send()
            world.node.answer(answer())
        self.assertEqual(len(world.dials), 1)
        world.send()
        world.send()
        self.assertEqual((len(world.dials), len(world.upstream.open)), (2, 2))

    def test_last_used_first(self) -> None:
        """The connection used last is used next, and those that idle for long are closed."""
        world = World()
        world.send()
        world.send()
        first, second = world.transports
        first.answer(answer())
        second.answer(answer())
        for _ in range(6):
            world.clock.advance(10)
            world.send()
            second.answer(answer())
            world.upstream.sweep(world.clock.seconds())
        self.assertEqual((first.state, second.state, len(world.upstream.idle)), ("closed", "open", 1))

    def test_dead_kept_connection(self) -> None:
        """A kept connection that turns out dead is replaced, for a request that may be repeated."""
        world = World()
        world.send()
        world.node.answer(answer())
        sink = world.send(b"[again]")
        world.node.end(error.ConnectionLost)
        self.assertEqual((sink.events, len(world.dials)), ([], 2))
        self.assertTrue(world.node.take().endswith(b"[again]"))
        world.node.answer(answer())
        self.assertEqual(sink.body, RESULT)

    def test_kept_connection_that_dies_late(self) -> None:
        """One that ends when its sink knows that the node had the request is a failure, told at once."""
        world = World()
        world.send()
        world.node.answer(answer())
        sink = world.send()
        sink.anew = False
        world.node.end()
        self.assertEqual((sink.events, len(world.dials)), ([("failed", Fault.DISCONNECTED, True)], 1))

    def test_dead_new_connection(self) -> None:
        """A new connection that dies is the node's failure, and so is one that dies within its answer."""
        world = World()
        sink = world.send()
        world.node.end()
        self.assertEqual(sink.events, [("failed", Fault.DISCONNECTED, True)])
        world.send()
        world.node.answer(answer())
        for part in (b"HTTP/1.1 2", answer()[:-5]):
            sink = world.send()
            world.node.answer(part)
            world.node.end()
            self.assertEqual(sink.events[-1], ("failed", Fault.DISCONNECTED, True))
            world.send()
            world.node.answer(answer())

    def test_unsafe_dead_connection(self) -> None:
        """A request that must not be sent twice fails with its connection."""
        world = World()
        world.send()
        world.node.answer(answer())
        sink = world.send(repeatable=False)
        world.node.end()
        self.assertEqual((sink.events, len(world.dials)), ([("failed", Fault.DISCONNECTED, True)], 1))

    def test_unsafe_needs_a_fresh_connection(self) -> None:
        """Such a request goes onto a kept connection only when that idled for less than a second."""
        world = World()
        world.send()
        world.node.answer(answer())
        world.clock.advance(0.9)
        world.send(repeatable=False)
        self.assertEqual(len(world.dials), 1)
        world.node.answer(answer())
        world.clock.advance(1.1)
        world.send(repeatable=False)
        self.assertEqual(len(world.dials), 2)

    def test_cancel(self) -> None:
        """Cancelling closes the connection of a request under way, and nobody hears of it again."""
        world = World()
        sink = world.send()
        world.upstream.cancel(sink)
        self.assertEqual(world.node.state, "aborted")
        world.node.end()
        self.assertEqual((sink.events, world.upstream.open), ([], set()))

    def test_cancel_what_is_done(self) -> None:
        """Cancelling a request that was answered leaves alone who has its connection now."""
        world = World()
        first = world.send()
        world.node.answer(answer())
        second = world.send()
        world.upstream.cancel(first)
        self.assertEqual(world.node.state, "open")
        world.node.answer(answer())
        self.assertTrue(second.is_done)

    def test_cancel_while_connecting(self) -> None:
        """Cancelling before there is a connection drops the request; the connection is kept for the next."""
        world = World()
        world.instant = False
        sink = world.send()
        world.upstream.cancel(sink)
        transport = world.dials[0].succeed()
        self.assertEqual((transport.sent, sink.events, len(world.upstream.idle)), (b"", [], 1))

    def test_whichever_is_free_first(self) -> None:
        """A request that waits for a connection takes the one that is free first."""
        world = World()
        world.send()
        world.instant = False
        waiting = world.send(b"[waiting]")
        world.node.answer(answer())
        self.assertTrue(world.node.take().endswith(b"[waiting]"))
        world.dials[1].fail()
        self.assertEqual(waiting.events, [])

    def test_another_ones_failure(self) -> None:
        """A failed attempt to connect fails nobody while another is under way for who waits."""
        world = World()
        world.instant = False
        gone = world.send()
        world.upstream.cancel(gone)
        waiting = world.send()
        world.dials[0].fail()
        self.assertEqual(waiting.events, [])
        world.dials[1].succeed().answer(answer())
        self.assertEqual(waiting.body, RESULT)

    def test_closed_at_once(self) -> None:
        """A connection that is gone before it could be used is one that could not be made."""
        world = World()
        world.instant = False
        sink = world.send(repeatable=False)
        dial = world.dials[0]
        transport = NodeTransport(dial.connection)
        dial.connection.makeConnection(transport)
        transport.end()
        dial.done.callback(dial.connection)
        self.assertEqual(sink.events, [("failed", Fault.UNREACHABLE, False)])
        self.assertEqual((world.upstream.open, world.upstream.idle), (set(), []))

    def test_close(self) -> None:
        """Closing ends everything: requests under way and waiting fail, and nothing new is opened."""
        world = World()
        busy, done = world.send(), world.send()
        world.transports[1].answer(answer())
        world.instant = False
        on_kept, waiting = world.send(), world.send(repeatable=False)
        self.assertEqual(len(world.dials), 3)
        world.upstream.close()
        for transport in world.transports:
            self.assertEqual(transport.state, "aborted")
            transport.end()
        self.assertTrue(done.is_done)
        for sink in (busy, on_kept, waiting, world.send()):
            self.assertEqual([event[0] for event in sink.events], ["failed"])
        self.assertEqual((world.upstream.open, world.upstream.idle), (set(), []))

    def test_keeps_nothing_when_closed(self) -> None:
        """A connection that comes up after closing is closed."""
        world = World()
        world.instant = False
        world.send()
        world.upstream.close()
        transport = NodeTransport(world.dials[0].connection)
        world.dials[0].connection.makeConnection(transport)
        self.assertEqual(transport.state, "aborted")


class ConnectTests(SynchronousTestCase):
    def dial(self, *addresses: str) -> tuple[World, SinkSpy]:
        world = World(addresses=addresses or ("10.0.0.1",))
        world.instant = False
        return world, world.send()

    def assertUnreachable(self, sink: SinkSpy) -> None:
        self.assertEqual(sink.events, [("failed", Fault.UNREACHABLE, False)])

    def test_refused(self) -> None:
        """A refused connection means that nothing was sent."""
        for cause in (None, ssl.SSLCertVerificationError(1, "no"), error.ConnectError(), OSError("odd")):
            world, sink = self.dial()
            world.dials[0].fail(cause)
            self.assertUnreachable(sink)

    def test_time_out(self) -> None:
        """Connecting takes two seconds at most, and what comes later is closed."""
        world, sink = self.dial()
        self.assertEqual((world.dials[0].address, world.dials[0].port), ("10.0.0.1", 8545))
        world.clock.advance(1.9)
        self.assertEqual(sink.events, [])
        world.clock.advance(0.2)
        self.assertUnreachable(sink)
        late = NodeTransport(world.dials[0].connection)
        world.dials[0].connection.makeConnection(late)
        self.assertEqual((late.state, world.upstream.open), ("aborted", set()))

    def test_next_address(self) -> None:
        """After 250 ms the next address is tried beside the first; who comes first is used, the other given up."""
        world, sink = self.dial("::1", "127.0.0.1")
        world.clock.advance(0.24)
        self.assertEqual(len(world.dials), 1)
        world.clock.advance(0.02)
        self.assertEqual([dial.address for dial in world.dials], ["::1", "127.0.0.1"])
        world.dials[1].succeed().answer(answer())
        self.assertEqual(sink.body, RESULT)
        late = NodeTransport(world.dials[0].connection)
        world.dials[0].connection.makeConnection(late)
        self.assertEqual((late.state, len(world.upstream.open)), ("aborted", 1))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_first_address_still_wins(self) -> None:
        """The first address may still be the faster one."""
        world, sink = self.dial("::1", "127.0.0.1", "127.0.0.2")
        world.clock.advance(0.3)
        world.dials[0].succeed().answer(answer())
        self.assertTrue(sink.is_done)
        world.clock.advance(1)
        self.assertEqual((len(world.dials), world.clock.getDelayedCalls()), (2, []))

    def test_refused_address(self) -> None:
        """An address that refuses gives way to the next at once."""
        world, sink = self.dial("::1", "127.0.0.1")
        world.dials[0].fail()
        world.clock.advance(0)
        world.dials[1].succeed().answer(answer())
        self.assertTrue(sink.is_done)
        self.assertEqual(world.clock.seconds(), 0.0)

    def test_all_refused(self) -> None:
        """When all addresses refuse, the request fails, once."""
        world, sink = self.dial("::1", "127.0.0.1", "127.0.0.2")
        for place in range(3):
            world.dials[place].fail()
            world.clock.advance(0)
        self.assertUnreachable(sink)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_no_address(self) -> None:
        """A name without an address cannot be reached."""
        world = World(url="http://name.test:1")
        world.upstream.addresses.get = lambda: defer.succeed(())  # type: ignore[method-assign]
        self.assertUnreachable(world.send())

    def test_words_tell_no_address(self) -> None:
        """Why it failed is said without addresses."""
        told: list[str] = []

        class Sink(SinkSpy):
            def failed(self, fault: Fault, detail: str, sent: bool) -> None:
                told.append(detail)

        for cause in (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 8545)"),
            OSError("Multiple exceptions: 10.0.0.1"),
            TimeoutError(),
            ssl.SSLError(1, "10.0.0.1"),
        ):
            world = World()
            world.instant = False
            world.upstream.send(Sink(), b"{}")
            world.dials[0].fail(cause)
        self.assertEqual(len(told), 4)
        self.assertEqual(told[0], "Connection refused")
        self.assertNotIn("10.0.0", " ".join(told))


class FuzzTests(SynchronousTestCase):
    def test_anything(self) -> None:
        """Whatever a node sends, its sink hears one end, and the pool keeps no broken connection."""

        @settings(max_examples=300, deadline=None)
        @given(st.lists(st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=30)), max_size=8), st.booleans())
        def check(pieces: list[bytes], repeatable: bool) -> None:
            world = World(limits=LimitsConfig(failover_buffer_bytes=100, max_header_bytes=300))
            sink = world.send(repeatable=repeatable)
            for piece in pieces:
                if piece:
                    world.node.answer(piece)
            for transport in world.transports:
                if transport.state in ("closed", "aborted"):
                    transport.end()
            self.assertTrue(all(c.transport.state == "open" for c in world.upstream.idle))
            while any(transport.state == "open" for transport in world.transports):
                for transport in tuple(world.transports):
                    transport.end(error.ConnectionLost)
            ends = [event for event in sink.events if event[0] in ("answered", "ended", "failed")]
            self.assertEqual(len(ends), 1)
            self.assertEqual((world.upstream.open, world.upstream.idle), (set(), []))

        run_property(check)
