"""Requests over a node's WebSockets: ids, batches, several connections, and what is told when one is lost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import LimitsConfig
from evmlb.errors import Fault
from evmlb.jsonrpc import is_plain_result
from evmlb.upstream import multiplexed
from evmlb.upstream.link import Ending
from evmlb.upstream.messages import MAX_MESSAGE_BYTES, Garbage
from evmlb.upstream.multiplexed import CROWDED_CALLS, GROW_AGAIN_SECONDS, MAX_LINKS, WebSocketUpstream
from tests.support import FakeNode, SinkSpy, node_config, run_property
from tests.upstream.sockets import ScriptedNode, Wire, refused, result

CALL = b'{"jsonrpc":"2.0","id":%b,"method":"eth_a","params":[]}'


class World:
    """A node that has a WebSocket only, in memory."""

    def __init__(self, make: Any = ScriptedNode) -> None:
        self.clock = Clock()
        self.wire = Wire(make)
        node = node_config(url="ws://10.0.0.1:8546")
        self.upstream = WebSocketUpstream(
            self.clock, node, LimitsConfig(), self.clock.seconds, connect=self.wire.connect
        )

    def send(self, body: bytes = CALL % b"1", **rest: Any) -> SinkSpy:
        sink = SinkSpy()
        self.upstream.send(sink, body, **rest)
        self.wire.flush()
        return sink

    def answer(self, *values: Any) -> None:
        """Answer the calls that came since the last time, with these values."""
        calls = self.wire.take()
        assert len(calls) == len(values), calls
        self.wire.say(*(result(call["id"], value) for call, value in zip(calls, values, strict=True)))


class CallTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """The node sees ids of ours; the client gets its own, and the rest as the node wrote it."""
        world = World()
        sinks = [world.send(CALL % each) for each in (b"1", b"1", b'"x y"', b"1.50")]
        calls = world.wire.take()
        self.assertEqual(len({call["id"] for call in calls}), 4)
        for call in reversed(calls):
            world.wire.say(b'{"jsonrpc":"2.0","id":%d,"result": {"n":%d}}' % (call["id"], call["id"]))
        for sink, theirs, call in zip(sinks, (b"1", b"1", b'"x y"', b"1.50"), calls, strict=True):
            self.assertEqual(sink.body, b'{"jsonrpc":"2.0","id":%b,"result": {"n":%d}}' % (theirs, call["id"]))
        self.assertEqual(len(world.wire.nodes), 1)

    def test_head(self) -> None:
        """An answer looks like one of HTTP's, whole, and is seen as a plain result."""
        world = World()
        sink = world.send()
        world.wire.say(b'{"jsonrpc":"2.0","id":%d,"result":1}' % world.wire.take()[0]["id"])
        head = sink.head
        self.assertEqual((head.status, head.length, head.keep_alive), (200, len(sink.body), True))
        self.assertEqual((head.value(b"content-type"), head.value(b"x")), (b"application/json", b""))
        self.assertTrue(is_plain_result(sink.body, sink.body, b"1"))

    def test_error(self) -> None:
        """A node's error is an answer."""
        world = World()
        sink = world.send(CALL % b'"q"')
        error = {"code": -32000, "message": "no"}
        world.wire.say({"jsonrpc": "2.0", "id": world.wire.take()[0]["id"], "error": error})
        self.assertEqual(json.loads(sink.body), {"jsonrpc": "2.0", "id": "q", "error": error})

    def test_batch(self) -> None:
        """A batch's members go out one by one, and are answered together in the order of the questions."""
        world = World()
        sink = world.send(b'[{"id":"a","method":"m"}, {"method":"note"}, {"id":"a","method":"n"}]')
        calls = world.wire.take()
        self.assertEqual(
            [(call["method"], "id" in call) for call in calls], [("m", True), ("note", False), ("n", True)]
        )
        world.wire.say(result(calls[2]["id"], 2))
        self.assertEqual((sink.events, sink.flight.held_bytes > 0), ([("progressed",)], True))
        world.wire.say(result(calls[0]["id"], 1))
        self.assertEqual(json.loads(sink.body), [result("a", 1), result("a", 2)])  # type: ignore[arg-type]
        self.assertEqual(sink.head.length, len(sink.body))

    def test_batch_of_one(self) -> None:
        """A batch of one is answered by an array."""
        world = World()
        sink = world.send(b"[%b]" % (CALL % b"7"))
        world.answer("0x1")
        self.assertEqual(json.loads(sink.body), [result(7, "0x1")])

    def test_notifications(self) -> None:
        """Notifications are sent once, and answered by nothing, at once."""
        for body in (b'{"jsonrpc":"2.0","method":"m"}', b'[{"method":"m"}]'):
            world = World()
            sink = world.send(body)
            self.assertEqual((sink.events, len(world.wire.take())), ([("answered", 200, b"")], 1))

    def test_what_is_no_call(self) -> None:
        """Other methods, other paths, and bodies that are no JSON-RPC cannot be sent."""
        for body, rest in (
            (b"{}", {"method": b"GET"}),
            (b"{}", {"target": b"/x"}),
            (b"", {}),
            (b"[]", {}),
            (b"[1]", {}),
        ):
            sink = World().send(body, **rest)
            self.assertEqual(sink.events, [("failed", Fault.UNSUPPORTED, False)])

    def test_too_large(self) -> None:
        """A call that is larger than a message may be is refused before anything is sent."""
        world = World()
        sink = world.send(b'{"id":1,"method":"m","params":["%b"]}' % (b"x" * MAX_MESSAGE_BYTES))
        self.assertEqual((sink.events, world.wire.nodes), ([("failed", Fault.REJECTED, False)], []))


class _Breaking(SinkSpy):
    """A sink in which something breaks, in the named methods."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.methods = methods

    def answered(self, head: Any, parts: list[bytes]) -> None:
        super().answered(head, parts)
        if "answered" in self.methods:
            raise RecursionError

    def progressed(self) -> None:
        if "progressed" in self.methods:
            raise ValueError

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        super().failed(fault, detail, sent)
        if "failed" in self.methods:
            raise KeyError(fault)


class NetTests(SynchronousTestCase):
    """What is raised between a connection and a sink ends as a fault of that one attempt."""

    def _send(self, world: World, sink: SinkSpy, body: bytes = CALL % b"1") -> SinkSpy:
        world.upstream.send(sink, body)
        world.wire.flush()
        return sink

    def test_while_it_is_judged(self) -> None:
        """An answer that breaks its reader fails that attempt; the connection and the others on it go on."""
        world = World()
        broken, good = self._send(world, _Breaking("answered")), world.send()
        world.answer("0x1", "0x2")
        self.assertEqual(broken.events[1:], [("failed", Fault.GARBAGE, True)])
        self.assertEqual([event[0] for event in good.events], ["answered"])
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)
        self.assertEqual(world.send().events, [])
        self.assertEqual(len(world.wire.nodes), 1)

    def test_while_a_batch_is_collected(self) -> None:
        """A batch breaks as a whole: its members still under way are given up."""
        world = World()
        batch = self._send(world, _Breaking("progressed"), b"[%b,%b]" % (CALL % b"1", CALL % b"2"))
        calls = world.wire.take()
        world.wire.say(result(calls[0]["id"], "0x1"))
        self.assertEqual(batch.events, [("failed", Fault.GARBAGE, True)])
        world.wire.say(result(calls[1]["id"], "0x2"))
        self.assertEqual((len(batch.events), world.upstream.stats.late_answers), (1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answer_that_hides_its_id(self) -> None:
        """An answer that our reader of messages takes and our cutter does not fails its call, too."""
        world = World()
        sink = world.send()
        self.patch(multiplexed, "with_id", _raise_garbage)
        world.answer("0x1")
        self.assertEqual(sink.events, [("failed", Fault.GARBAGE, True)])

    def test_while_an_end_is_told(self) -> None:
        """One sink that breaks on hearing of its end keeps nobody else from hearing of his."""
        world = World()
        sinks = [self._send(world, _Breaking("failed")), world.send()]
        world.wire.cut()
        self.assertEqual([sink.events for sink in sinks], [[("failed", Fault.DISCONNECTED, True)]] * 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_while_it_is_written(self) -> None:
        """A connection that breaks in the middle of a batch fails the batch, once."""
        world = World()
        world.send()
        (link,) = world.upstream.open
        writes: list[bytes] = []

        def write(message: bytes) -> None:
            writes.append(message)
            if len(writes) == 2:
                link.end(Ending.LOST, "gone")

        link.talk._write = write
        batch = world.send(b"[%b,%b,%b]" % (CALL % b"1", CALL % b"2", CALL % b"3"))
        self.assertEqual(batch.events, [("failed", Fault.DISCONNECTED, True)])

    def test_write_that_raises(self) -> None:
        """The same where the connection raises something unforeseen."""
        world = World()
        world.send()
        (link,) = world.upstream.open
        link.talk._write = _raise_garbage
        sink = world.send()
        self.assertEqual(sink.events, [("failed", Fault.DISCONNECTED, True)])
        self.assertEqual(len(self.flushLoggedErrors(Garbage)), 1)


def _raise_garbage(*_: Any) -> Any:
    raise Garbage("broken")


class LossTests(SynchronousTestCase):
    def test_unreachable(self) -> None:
        """Without a connection every request that waits for one fails, as not sent; the next one tries again."""
        dials: list[Deferred[Any]] = []
        world = World(lambda: dials.append(Deferred()) or dials[-1])  # type: ignore[func-returns-value]
        sinks = [world.send(), world.send()]
        self.assertEqual((len(dials), [sink.events for sink in sinks]), (1, [[], []]))
        dials[0].errback(refused())
        self.assertEqual([sink.events for sink in sinks], [[("failed", Fault.UNREACHABLE, False)]] * 2)
        world.send()
        self.assertEqual((len(dials), world.upstream.losses), (2, 0))

    def test_refused_at_once(self) -> None:
        """A connection that fails at once fails its request at once."""
        sink = World(refused).send()
        self.assertEqual(sink.events, [("failed", Fault.UNREACHABLE, False)])

    def test_lost(self) -> None:
        """A lost connection fails what was written, as sent, and once; later requests get a new one."""
        world = World()
        sinks = [world.send(), world.send(b"[%b,%b]" % (CALL % b"1", CALL % b"2"))]
        world.wire.cut()
        self.assertEqual([sink.events for sink in sinks], [[("failed", Fault.DISCONNECTED, True)]] * 2)
        self.assertEqual((world.upstream.losses, len(world.upstream.open)), (1, 0))
        again = world.send()
        world.answer("0x1")
        self.assertEqual((len(world.wire.nodes), again.is_done), (2, True))

    def test_asked_again_from_the_failure(self) -> None:
        """Who asks again while being told of the loss gets a new connection, not the old one."""
        world = World()
        again = SinkSpy()

        class Retrying(SinkSpy):
            def failed(self, fault: Fault, detail: str, sent: bool) -> None:
                world.upstream.send(again, CALL % b"2")

        world.upstream.send(Retrying(), CALL % b"1")
        world.wire.flush()
        world.wire.cut()
        world.wire.flush()
        world.answer("0x1")
        self.assertEqual((len(world.wire.nodes), again.is_done), (2, True))

    def test_garbage(self) -> None:
        """Nonsense ends the connection and fails all on it; an answer to nothing does not."""
        world = World()
        sink = world.send()
        world.wire.say(result(999, 1))
        self.assertEqual((sink.events, world.upstream.stats.unknown_answers), ([], 1))
        world.wire.say(b"}{")
        self.assertEqual(sink.events, [("failed", Fault.DISCONNECTED, True)])

    def test_close(self) -> None:
        """When closed, requests under way and waiting ones fail, and so do later ones; nothing is left."""
        world = World()
        under_way = world.send()
        world.upstream.close()
        later = world.send()
        self.assertEqual(under_way.events, [("failed", Fault.DISCONNECTED, True)])
        self.assertEqual(later.events, [("failed", Fault.UNREACHABLE, False)])
        self.assertEqual((world.clock.getDelayedCalls(), world.upstream.open), ([], set()))
        waiting = World(Deferred)
        sink = waiting.send()
        waiting.upstream.close()
        self.assertEqual(sink.events, [("failed", Fault.UNREACHABLE, False)])
        self.assertEqual((waiting.clock.getDelayedCalls(), waiting.upstream.open), ([], set()))


class CancelTests(SynchronousTestCase):
    def test_under_way(self) -> None:
        """A cancelled request hears nothing more; the connection stays, and the late answer is known as late."""
        world = World()
        sink, other = world.send(), world.send(CALL % b"2")
        world.upstream.cancel(sink)
        world.answer(1, 2)
        self.assertEqual((sink.events, sink.flight, other.is_done), ([], None, True))
        self.assertEqual((world.upstream.stats.late_answers, world.upstream.losses), (1, 0))

    def test_waiting(self) -> None:
        """One that waits for a connection is forgotten."""
        world = World(Deferred)
        sink = world.send()
        world.upstream.cancel(sink)
        world.upstream.close()
        self.assertEqual(sink.events, [])

    def test_done(self) -> None:
        """Cancelling one that is done changes nothing."""
        world = World()
        sink = world.send()
        world.answer(1)
        world.upstream.cancel(sink)
        self.assertEqual([event[0] for event in sink.events], ["answered"])

    def test_redirect(self) -> None:
        """Another sink may take the answer of what was sent; what was not sent is forgotten."""
        world = World()
        sink, to = world.send(), SinkSpy()
        self.assertTrue(world.upstream.redirect(sink, to))
        world.answer(1)
        self.assertEqual((sink.events, to.is_done), ([], True))
        self.assertFalse(world.upstream.redirect(to, sink))
        waiting = World(Deferred)
        sink = waiting.send()
        self.assertFalse(waiting.upstream.redirect(sink, to))


class PoolTests(SynchronousTestCase):
    def crowded(self, calls: int) -> World:
        world = World()
        for _ in range(calls):
            world.send()
        return world

    def test_grows(self) -> None:
        """More connections are opened as calls pile up, four at most, and share them."""
        self.assertEqual(len(self.crowded(CROWDED_CALLS).wire.nodes), 1)
        self.assertEqual(len(self.crowded(CROWDED_CALLS + 1).wire.nodes), 2)
        world = self.crowded(10 * CROWDED_CALLS)
        self.assertEqual(len(world.wire.nodes), MAX_LINKS)
        counts = [len(node.got) for node in world.wire.nodes]
        self.assertTrue(max(counts) - min(counts) <= 2, counts)

    def test_grows_in_vain(self) -> None:
        """A node that takes no further connection is not asked for one with every call."""
        world = self.crowded(CROWDED_CALLS)
        world.wire.make = refused
        for _ in range(10):
            world.send()
        self.assertEqual((world.upstream.stats.failures, len(world.wire.nodes[0].got)), (1, CROWDED_CALLS + 10))
        world.clock.advance(GROW_AGAIN_SECONDS)
        world.send()
        self.assertEqual(world.upstream.stats.failures, 2)

    def test_room(self) -> None:
        """What finds no room waits, and goes when an answer makes some, in its order."""
        world = World()
        first = world.send(b"[%b]" % b",".join(CALL % b"%d" % n for n in range(4096)))
        world.wire.make = refused
        second, third = world.send(CALL % b'"s"'), world.send(CALL % b'"t"')
        calls = world.wire.take()
        self.assertEqual((len(calls), second.flight, third.flight), (4096, None, None))
        world.wire.say(*(result(call["id"], 1) for call in calls))
        self.assertTrue(first.is_done)
        world.answer("s", "t")
        self.assertEqual([json.loads(sink.body)["result"] for sink in (second, third)], ["s", "t"])

    def test_idle(self) -> None:
        """Connections that idle are closed, but for one, which is pinged."""
        world = self.crowded(3 * CROWDED_CALLS)
        for node in world.wire.nodes:
            for call in [json.loads(each) for each in node.got]:
                node.sendMessage(json.dumps(result(call["id"], 1)).encode())
        world.wire.flush()
        self.assertEqual(len(world.upstream.open), 3)
        for _ in range(60):
            world.clock.advance(1)
            world.wire.flush()
            world.upstream.sweep(world.clock.seconds())
        self.assertEqual((len(world.upstream.open), world.upstream.losses), (1, 0))


class DemoNodeTests(SynchronousTestCase):
    def test_against_http(self) -> None:
        """Whatever is asked, a demo node's answer over WebSocket is its answer over HTTP."""
        fake = FakeNode()

        @given(
            st.lists(
                st.tuples(
                    st.sampled_from(["eth_blockNumber", "eth_getBlockByNumber", "eth_nothing", "eth_chainId"]),
                    st.one_of(st.integers(), st.text(max_size=5)),
                ),
                min_size=1,
                max_size=4,
            ),
            st.booleans(),
        )
        def check(asked: list[tuple[str, object]], batch: bool) -> None:
            calls = [{"jsonrpc": "2.0", "id": i, "method": m, "params": ["latest", False]} for m, i in asked]
            world = World(lambda: fake.node.factory.buildProtocol(None))
            bodies = [json.dumps(calls).encode()] if batch else [json.dumps(call).encode() for call in calls]
            sinks = [world.send(body) for body in bodies]
            for sink, body in zip(sinks, bodies, strict=True):
                self.assertEqual(json.loads(sink.body), json.loads(fake.answer(body)))

        run_property(check)
