"""Large answers, compressed: for whom, when, in what order, and what becomes of those that nobody waits for."""

from __future__ import annotations

import gzip
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import CorsConfig, GzipConfig, LimitsConfig
from evmlb.front.packing import INLINE_BYTES, MAX_WAITING_BYTES
from tests.front.support import BALANCE, FrontWorld, Reply, Visitor, post
from tests.support import FakeHead

ACCEPT = b"Accept-Encoding: gzip"
SECOND = BALANCE.replace(b'"id":1', b'"id":2')


def answer(size: int, call_id: int = 1) -> bytes:
    """A good answer of so many bytes."""
    frame = b'{"jsonrpc":"2.0","id":%d,"result":"0x%b"}'
    return frame % (call_id, b"a" * (size - len(frame % (call_id, b""))))


SMALL, INLINE, LARGE = answer(16_383), answer(INLINE_BYTES), answer(INLINE_BYTES + 1)


class PackingTestCase(SynchronousTestCase):
    def make(self, room: int | None = None, **settings: Any) -> Visitor:
        settings = {"gzip": GzipConfig(enabled=True), **settings}
        self.world = FrontWorld("a", **settings)
        self.threads = self.world.threads
        return self.world.connect(room=room)

    def ask(self, visitor: Visitor, body: bytes, *lines: bytes, call: bytes = BALANCE, **how: Any) -> None:
        """A call with these header lines, which the node answers with this body."""
        visitor.send(post(call, *lines, **how))
        self.world.last("a").answer(body)

    def assertPacked(self, reply: Reply, body: bytes) -> None:
        self.assertEqual((reply["content-encoding"], reply["vary"]), ("gzip", "Accept-Encoding"))
        self.assertLess(len(reply.body), len(body))
        self.assertEqual(gzip.decompress(reply.body), body)

    def assertPlain(self, reply: Reply, body: bytes, *, vary: bool) -> None:
        self.assertNotIn("content-encoding", reply.headers)
        self.assertEqual(reply.headers.get("vary"), "Accept-Encoding" if vary else None)
        self.assertEqual(reply.body, body)

    @property
    def memory_used(self) -> int:
        return self.world.front.memory.total - self.world.front.memory.left


class ForWhom(PackingTestCase):
    def test_at_once(self) -> None:
        """A somewhat large answer is compressed in the loop; the head is the usual one otherwise."""
        visitor = self.make()
        self.ask(visitor, INLINE, ACCEPT)
        reply = visitor.reply
        self.assertPacked(reply, INLINE)
        self.assertEqual((reply["x-evmlb-node"], reply["content-type"]), ("a", "application/json"))
        self.assertEqual(self.threads.waiting, [])

    def test_in_a_thread(self) -> None:
        """A larger one by a thread; nothing is written until that is done."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        self.assertEqual(visitor.take(), b"")
        self.threads.finish()
        self.assertPacked(visitor.reply, LARGE)
        self.assertEqual(self.memory_used, 0)

    def test_small(self) -> None:
        """Below the size nothing is said of it."""
        visitor = self.make()
        for size in (100, 4096, 4097, 16_383):
            self.ask(visitor, answer(size), ACCEPT)
            self.assertPlain(visitor.reply, answer(size), vary=False)

    def test_not_accepted(self) -> None:
        """A client that does not ask for it gets it plain, and caches are told that others may not."""
        visitor = self.make()
        for lines in ((), (b"Accept-Encoding: br",), (ACCEPT, b"Accept-Encoding: identity;q=1, gzip;q=0")):
            for body in (INLINE, LARGE):
                self.ask(visitor, body, *lines)
                self.assertPlain(visitor.reply, body, vary=True)

    def test_several_lines(self) -> None:
        """Header lines of one name are one list."""
        visitor = self.make()
        self.ask(visitor, INLINE, b"Accept-Encoding: br", b"accept-encoding: x-gzip")
        self.assertPacked(visitor.reply, INLINE)

    def test_not_enabled(self) -> None:
        """By default nothing is compressed, and nothing is said."""
        visitor = self.make(gzip=GzipConfig())
        for body in (INLINE, LARGE, answer(100_000)):
            self.ask(visitor, body, ACCEPT)
            self.assertPlain(visitor.reply, body, vary=False)

    def test_configured_size(self) -> None:
        """The size is configured, as the level is."""
        visitor = self.make(gzip=GzipConfig(enabled=True, min_bytes=4096, level=9))
        self.ask(visitor, answer(4097), ACCEPT)
        self.assertPacked(visitor.reply, answer(4097))

    def test_streamed(self) -> None:
        """An answer that is passed on while it comes stays plain."""
        visitor = self.make()
        visitor.send(post(BALANCE, ACCEPT))
        sent = self.world.last("a")
        sent.begin(LARGE[:1000], length=len(LARGE))
        sent.sink.streamed(LARGE[1000:])
        sent.sink.ended()
        self.assertPlain(visitor.reply, LARGE, vary=False)

    def test_not_a_call(self) -> None:
        """What is no JSON-RPC is passed on as it came."""
        visitor = self.make(network={"pass_other_requests": True})
        visitor.send(b"GET /net/x HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        self.world.last("a").sink.answered(FakeHead(), [LARGE])
        self.assertPlain(visitor.reply, LARGE, vary=False)

    def test_pieces(self) -> None:
        """An answer that came in pieces, at the second attempt, by HTTP/1.0: the same, and the connection closes."""
        visitor = self.make()
        visitor.send(post(BALANCE, ACCEPT, version=b"HTTP/1.0"))
        self.world.last("a").sink.answered(FakeHead(), [LARGE[:10], LARGE[10:30_000], LARGE[30_000:]])
        self.threads.finish()
        reply = visitor.reply
        self.assertPacked(reply, LARGE)
        self.assertEqual((reply["connection"], visitor.state), ("close", "closed"))

    def test_noise(self) -> None:
        """Random data in hexadecimal, as in proofs and traces, halves at least."""
        noise = random.Random(1).randbytes(10_000).hex().encode()
        body = b'{"jsonrpc":"2.0","id":1,"result":"%b"}' % noise
        visitor = self.make()
        self.ask(visitor, body, ACCEPT)
        self.assertPacked(visitor.reply, body)

    def test_browser_page(self) -> None:
        """The lines on the origin stay beside it."""
        visitor = self.make(cors=CorsConfig(origins=("https://page",)))
        visitor.send(post(BALANCE, ACCEPT, b"Origin: https://page", b"Content-Type: application/json"))
        self.world.last("a").answer(INLINE)
        head = visitor.take().partition(b"\r\n\r\n")[0]
        for line in (b"Vary: Origin", b"Vary: Accept-Encoding", b"Content-Encoding: gzip"):
            self.assertIn(b"\r\n" + line, head)


class InOrder(PackingTestCase):
    def test_pipelined(self) -> None:
        """A later request of the connection is not read until the answer before it is written."""
        visitor = self.make()
        visitor.send(post(BALANCE, ACCEPT) + post(SECOND, ACCEPT))
        self.world.last("a").answer(LARGE)
        self.assertEqual(self.world.sends, "a")
        self.threads.finish()
        self.assertEqual(self.world.sends, "aa")
        self.world.last("a").answer(answer(100, 2))
        first, second = visitor.replies()
        self.assertPacked(first, LARGE)
        self.assertPlain(second, answer(100, 2), vary=False)

    def test_sent_meanwhile(self) -> None:
        """Nor is one that comes while a thread is at it."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        visitor.send(post(SECOND))
        self.assertEqual(self.world.sends, "a")
        self.threads.finish()
        self.assertPacked(visitor.reply, LARGE)
        self.assertEqual(self.world.sends, "aa")

    def test_connections_apart(self) -> None:
        """Other connections do not wait."""
        visitor = self.make()
        other = self.world.connect()
        self.ask(visitor, LARGE, ACCEPT)
        self.ask(other, SMALL, ACCEPT)
        self.assertPlain(other.reply, SMALL, vary=False)

    def test_half_closed(self) -> None:
        """A client that has ended its side is answered, then closed."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        visitor.fin()
        self.assertEqual(visitor.state, "open")
        self.threads.finish()
        self.assertPacked(visitor.reply, LARGE)
        self.assertEqual(visitor.state, "closed")

    def test_drain(self) -> None:
        """While evmlb stops, what is being compressed is waited for, and is the connection's last answer."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        drained = self.world.front.drain()
        self.assertEqual(visitor.state, "open")
        self.threads.finish()
        reply = visitor.reply
        self.assertPacked(reply, LARGE)
        self.assertEqual((reply["connection"], visitor.state), ("close", "closed"))
        visitor.lose()
        self.successResultOf(drained)

    def test_backpressure(self) -> None:
        """A client that reads slowly may say so meanwhile."""
        visitor = self.make(room=100)
        self.ask(visitor, INLINE, ACCEPT)
        self.assertTrue(visitor.transport.is_stuffed)
        visitor.transport.read()
        self.ask(visitor, LARGE, ACCEPT)
        visitor.lane.pauseProducing()
        visitor.lane.resumeProducing()
        self.threads.finish()
        first, second = visitor.replies()
        self.assertPacked(first, INLINE)
        self.assertPacked(second, LARGE)


class Bounds(PackingTestCase):
    def test_client_leaves(self) -> None:
        """Nothing is kept of what nobody waits for; a thread finds nothing to do, and the request is counted once."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        done = self.world.router.stats.requests
        visitor.lose()
        [(work, _)] = self.threads.waiting
        self.assertIsNone(work())
        self.threads.finish()
        self.assertEqual(visitor.take(), b"")
        self.assertEqual((self.memory_used, self.world.front.stats.gzip_bytes_in), (0, 0))
        self.assertEqual((self.world.router.stats.requests, self.world.router.stats.in_flight), (done, 0))
        self.assertFalse(any(self.world.router.stats.failed.values()))

    def test_leaves_while_a_thread_works(self) -> None:
        """The same for a client that leaves in the middle of it."""
        visitor = self.make()
        self.ask(visitor, LARGE, ACCEPT)
        [(work, done)] = self.threads.waiting
        packed = work()
        visitor.lose()
        done(packed)
        self.assertEqual((visitor.take(), self.memory_used), (b"", 0))

    def test_too_much_waits(self) -> None:
        """What comes when the threads have enough to do goes plain."""
        visitor = self.make(gzip=GzipConfig(enabled=True))
        body = answer(MAX_WAITING_BYTES - 10)
        self.ask(visitor, body, ACCEPT)
        other = self.world.connect()
        self.ask(other, LARGE, ACCEPT)
        self.assertPlain(other.reply, LARGE, vary=True)
        self.threads.finish()
        self.assertPacked(visitor.reply, body)
        self.assertEqual(self.world.front.stats.gzip_skipped, 1)
        self.ask(other, LARGE, ACCEPT)
        self.threads.finish()
        self.assertPacked(other.reply, LARGE)

    def test_a_very_large_one(self) -> None:
        """One that is larger than all that may wait is compressed when nothing does."""
        visitor = self.make()
        body = answer(MAX_WAITING_BYTES + 1)
        self.ask(visitor, body, ACCEPT)
        self.threads.finish()
        self.assertPacked(visitor.reply, body)

    def test_memory(self) -> None:
        """What waits counts in the memory for requests: without room it goes plain."""
        visitor = self.make(limits=LimitsConfig(max_request_memory_bytes=50_000, max_body_bytes=1024))
        other = self.world.connect()
        self.ask(visitor, LARGE, ACCEPT)
        self.assertEqual(self.memory_used, len(LARGE))
        self.ask(other, LARGE, ACCEPT)
        self.assertPlain(other.reply, LARGE, vary=True)
        self.threads.finish()
        self.assertEqual(self.memory_used, 0)

    def test_a_thread_fails(self) -> None:
        """Then the answer goes plain."""
        visitor = self.make()
        self.threads.fails = True
        self.ask(visitor, LARGE, ACCEPT)
        self.threads.finish()
        self.assertPlain(visitor.reply, LARGE, vary=True)

    def test_counted(self) -> None:
        """Bytes are counted before and after."""
        visitor = self.make()
        self.ask(visitor, INLINE, ACCEPT)
        self.ask(visitor, LARGE, ACCEPT)
        self.threads.finish()
        written = sum(len(reply.body) for reply in visitor.replies())
        stats = self.world.front.stats
        self.assertEqual((stats.gzip_bytes_in, stats.gzip_bytes_out), (len(INLINE) + len(LARGE), written))

    def test_hostile_header(self) -> None:
        """Ten thousand weights cost nobody anything."""
        visitor = self.make()
        self.ask(visitor, INLINE, b"Accept-Encoding: " + b"a;q=0," * 10_000 + b"gzip")
        self.assertPlain(visitor.reply, INLINE, vary=True)
