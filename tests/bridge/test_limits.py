"""What a client may make us hold, and how connections end by time."""

from __future__ import annotations

import tracemalloc

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.socket import CLOSE_SECONDS
from evmlb.config.schema import LimitsConfig
from evmlb.errors import Fault
from tests.bridge.support import BridgeWorld, Guest, HubSpy, call, close_payload, frame, read_frames, request
from tests.bridge.test_socket import pieces
from tests.support import run_property


class Halves(SynchronousTestCase):
    """Messages of which a part is there and the rest does not come."""

    MESSAGE = call(params=b'["%b"]' % (b"x" * 8000))

    def setUp(self) -> None:
        self.world = BridgeWorld("a", limits=LimitsConfig(max_request_memory_bytes=100_000, max_body_bytes=10_000))
        self.memory = self.world.front.memory

    def _half(self, guest: Guest, *, fragments: bool = False) -> None:
        """All but the last byte, each byte for itself."""
        data = frame(self.MESSAGE, fin=False) + frame(b"", 0) if fragments else frame(self.MESSAGE)
        for at in range(len(data) - 1):
            guest.send(data[at : at + 1])

    def test_time(self) -> None:
        """A message has as long as a request over HTTP; then its connection is closed, and its memory is free."""
        for fragments in (False, True):
            guest = self.world.open()
            self._half(guest, fragments=fragments)
            self.assertEqual(self.memory.held("192.0.2.1"), len(self.MESSAGE) - (not fragments))
            self.world.sweep(30)
            self.assertEqual([first for first, _ in guest.frames() if first != 0x89], [])
            self.world.sweep(2)
            code = int.from_bytes(guest.frames()[-1][1][:2], "big")
            self.assertEqual((code, self.memory.left), (1008, 100_000))
            guest.lose()

    def test_pings_are_no_way_out(self) -> None:
        """Control frames between the fragments show that the client lives, not that its message comes."""
        guest = self.world.open()
        guest.send(frame(self.MESSAGE, fin=False))
        for _ in range(32):
            guest.send(frame(b"", 9))
            self.world.sweep(1)
        self.assertEqual(guest.frames()[-1][0], 0x88)

    def test_short_one(self) -> None:
        """So it is with one that is too short to be handed to autobahn."""
        guest = self.world.open()
        guest.send(frame(call())[:-1])
        self.world.sweep(32)
        self.assertEqual(guest.frames()[-1][0], 0x88)

    def test_busy_client(self) -> None:
        """Who sends one message after another, each cut somewhere at each look, is not closed."""
        guest = self.world.open()
        data, middle = frame(self.MESSAGE), 5000
        guest.send(data[:middle])
        for _ in range(60):
            self.world.sweep(1)
            guest.send(data[middle:] + data[:middle])
            self.world.spies["a"].last.result()
        self.assertNotIn(0x88, [first for first, _ in guest.frames()])

    def test_our_own_waiting(self) -> None:
        """While it is we who do not read, the time does not count."""
        self.world = BridgeWorld("a", websocket={"max_outstanding_calls": 1})
        guest = self.world.open()
        guest.send(frame(call("eth_getLogs")) + frame(call(call_id=b"2"))[:-1])
        self.world.sweep(40)
        self.assertEqual(guest.take(), b"")
        self.world.spies["a"].last.result()
        guest.send(frame(call(call_id=b"2"))[-1:])
        self.world.spies["a"].last.result(request_id=b"2")
        self.assertEqual([answer["id"] for answer in guest.answers()], [1, 2])

    def test_share(self) -> None:
        """One client's halves, however many connections it has, leave room for other clients' bodies and messages."""
        greedy = [self.world.open(host="192.0.2.66") for _ in range(20)]
        for guest in greedy:
            self._half(guest)
        self.assertLessEqual(self.memory.held("192.0.2.66"), 50_000)
        self.assertEqual({guest.closed[0] for guest in greedy if guest.transport.out}, {1013})
        modest = self.world.open()
        modest.say(self.MESSAGE)
        self.world.spies["a"].last.result()
        self.assertEqual(modest.answers()[0]["result"], "0x1")

    def test_small_fragments(self) -> None:
        """A message of very many very small fragments takes no more memory than its bytes."""
        guest = self.world.open()
        size = 200_000
        self.memory.total = self.memory.left = 10 * size
        data = frame(b"x", fin=False) + b"".join(frame(b"xy", 0, fin=False) for _ in range(size // 2))
        tracemalloc.start()
        try:
            for at in range(0, len(data), 65536):
                guest.send(data[at : at + 65536])
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(self.memory.held("192.0.2.1"), size + 1)
        self.assertLess(held, 2 * size + 300_000)


class Outstanding(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = BridgeWorld("a", websocket={"max_outstanding_calls": 4})
        self.guest = self.world.open()

    @property
    def sent(self) -> list[bytes]:
        return [orjson.loads(request.body)["id"] for request in self.world.spies["a"].sent]

    def answer(self, place: int) -> None:
        self.world.spies["a"].sent[place].result(request_id=b"%d" % self.sent[place])

    def test_stops_reading(self) -> None:
        """No more calls are taken than may be under way; the rest waits, also within one piece, and none is lost."""
        self.guest.say(*(call(call_id=b"%d" % number) for number in range(10)))
        self.assertEqual((self.sent, self.guest.transport.reading), ([0, 1, 2, 3], False))
        self.guest.say(call(call_id=b"10"))
        self.answer(1)
        self.assertEqual((len(self.sent), self.guest.transport.reading), (4, False))
        self.answer(0)
        self.assertEqual((self.sent, self.guest.transport.reading), ([0, 1, 2, 3, 4, 5], False))
        for place in range(2, 11):
            self.answer(place)
        self.assertEqual((self.sent, self.guest.transport.reading), (list(range(11)), True))
        self.assertEqual(sorted(answer["id"] for answer in self.guest.answers()), list(range(11)))

    def test_one_at_a_time(self) -> None:
        """The smallest bound."""
        self.world = BridgeWorld("a", websocket={"max_outstanding_calls": 1})
        self.guest = self.world.open()
        self.guest.say(*(call(call_id=b"%d" % number) for number in range(3)))
        for place in range(3):
            self.assertEqual(self.sent, list(range(place + 1)))
            self.answer(place)

    def test_by_autobahn(self) -> None:
        """What autobahn reads is bounded by one read; it stops reading, too."""
        self.guest.send(b"".join(frame(call(call_id=b"%d" % number), 2) for number in range(6)))
        self.assertEqual((len(self.sent), self.guest.transport.reading), (6, False))
        for place in range(6):
            self.answer(place)
        self.assertIs(self.guest.transport.reading, True)

    def test_any_pace(self) -> None:
        """However calls are cut, and in whatever order they are answered: each is sent and answered once."""

        @given(st.integers(1, 5), st.lists(st.integers(0, 2000), max_size=12), st.lists(st.integers(0, 9), min_size=12))
        def check(most: int, cuts: list[int], picks: list[int]) -> None:
            self.world = BridgeWorld("a", websocket={"max_outstanding_calls": most})
            guest = self.world.open()
            data = b"".join(frame(call(call_id=b"%d" % number)) for number in range(12))
            for piece in pieces(data, cuts):
                guest.send(piece)
            under_way = self.world.spies["a"].sent
            for done, pick in enumerate(picks[:12]):
                self.assertIn(len(under_way) - done, range(1, most + 1))
                request = under_way.pop(done + pick % (len(under_way) - done))
                under_way.insert(done, request)
                request.result(request_id=request.sink.exchange.call.id)
            self.assertEqual(sorted(answer["id"] for answer in guest.answers()), list(range(12)))

        run_property(check)

    def test_no_pings_meanwhile(self) -> None:
        """A client that is not read from cannot be said to be silent."""
        self.guest.say(*(call(call_id=b"%d" % number) for number in range(4)))
        self.guest.transport.read()
        self.world.deadlines.watched.clear()  # or the nodes' time would be up
        self.world.sweep(120)
        self.assertEqual((self.guest.take(), self.guest.state), (b"", "open"))

    def test_refusals_free_places(self) -> None:
        """An error is an answer, too."""
        self.guest.say(*(call("eth_sendTransaction", b"%d" % number) for number in range(6)))
        for place in range(4):
            self.world.spies["a"].sent[place].fail(Fault.DISCONNECTED)
        self.assertEqual(len(self.sent), 6)


class Slow(SynchronousTestCase):
    """Clients that do not read."""

    def setUp(self) -> None:
        self.hub = HubSpy()
        self.world = BridgeWorld("a", hub=self.hub, websocket={"max_queue_bytes": 100_000})
        self.guest = self.world.open(room=20_000)
        self.guest.say(call("eth_subscribe", params=b'["newHeads"]'))
        self.subscriber = self.hub.subscribers[0]
        self.guest.take()

    def notify(self, times: int) -> None:
        for _ in range(times):
            self.subscriber.notify(b"x" * 950, b"0xabc", b"y" * 45)

    def test_not_read_from(self) -> None:
        """While our answers are not read, calls are left in the kernel."""
        self.notify(21)
        self.guest.say(call())
        self.assertEqual((self.guest.transport.reading, self.world.spies["a"].sent), (False, []))
        self.guest.transport.read()
        self.assertEqual(len(self.world.spies["a"].sent), 1)

    def test_closed(self) -> None:
        """Beyond the bound it is closed with 1013, no byte more is held, and it is counted; then it is cut off."""
        self.notify(200)
        frames = read_frames(self.guest.take())
        self.assertEqual(frames[-1], (0x88, close_payload(1013, b"try again later: what was sent is not read")))
        self.assertLess(len(frames), 103)
        self.assertEqual(self.world.bridge.stats.slow_closed, 1)
        self.assertIs(self.subscriber.is_open, False)
        self.world.sweep(CLOSE_SECONDS + 2)
        self.assertEqual(self.guest.state, "aborted")
        self.guest.lose()
        self.assertEqual(self.world.bridge.stats.closes, {1013: 1})

    def test_reading_again(self) -> None:
        """One that reads in time is told all, again and again."""
        for _ in range(5):
            self.notify(60)
            self.assertGreater(self.subscriber.queued_bytes, 50_000)
            self.guest.transport.read()
            self.assertEqual(self.subscriber.queued_bytes, 0)
        self.assertEqual((len(self.guest.texts()), self.guest.state), (300, "open"))

    def test_others(self) -> None:
        """Others are not disturbed."""
        other = self.world.open(room=20_000)
        other.say(call("eth_subscribe", params=b'["newHeads"]'))
        other.take()
        for _ in range(200):
            for subscriber in self.hub.subscribers:
                subscriber.notify(b"x" * 950, b"0xabc", b"y" * 45)
            other.transport.read()
        self.assertEqual(len(other.texts()), 200)

    def test_one_large_answer(self) -> None:
        """One message may be larger than the queue may be."""
        self.guest.say(call())
        self.world.spies["a"].last.result(b'"%b"' % (b"x" * 300_000))
        self.assertEqual((len(self.guest.texts()), self.guest.state), (1, "open"))
        self.notify(1)
        self.assertEqual(self.guest.closed[0], 1013)

    def test_never_reads(self) -> None:
        """One that leaves a little unread for ever is closed as well."""
        self.notify(21)
        self.guest.take()
        self.world.sweep(70)
        self.assertEqual(self.guest.take(), b"")
        self.world.sweep(7)
        self.assertEqual(self.guest.closed[0], 1013)

    def test_estimated(self) -> None:
        """Where a transport cannot tell what it holds, all counts that was written since it was full."""
        del type(self.guest.transport).queued_bytes
        try:
            self.notify(25)
            self.guest.socket.pauseProducing()  # some transports say it again and again
            self.assertEqual(self.subscriber.queued_bytes, 5 * 1004)
            self.notify(200)
            self.assertEqual(read_frames(self.guest.take())[-1][0], 0x88)
        finally:
            type(self.guest.transport).queued_bytes = property(lambda self: self.unread)


class Time(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = BridgeWorld("a", hub=HubSpy())
        self.guest = self.world.open()

    def test_pings(self) -> None:
        """A silent client is pinged once; whatever it says shows that it lives."""
        for answer in (frame(b"", 10), frame(b"", 9), frame(call())):
            self.world.sweep(30)
            self.assertEqual(self.guest.take(), b"")
            self.world.sweep(2)
            self.assertEqual(self.guest.frames(), [(0x89, b"")])
            self.guest.send(answer)
            self.guest.take()
            self.world.spies["a"].sent.clear()

    def test_silence(self) -> None:
        """Who does not answer a ping is told 1011, and cut off if it does not hear that either."""
        self.world.sweep(32)
        self.guest.take()
        self.world.sweep(18)
        self.assertEqual(self.guest.take(), b"")
        self.world.sweep(3)
        self.assertEqual(self.guest.closed, (1011, "there was no answer to a ping"))
        self.world.sweep(12)
        self.assertEqual(self.guest.state, "aborted")

    def test_no_pings(self) -> None:
        """Pings can be switched off."""
        self.world.limit(ping_interval_seconds=0.0)
        self.world.sweep(300)
        self.assertEqual((self.guest.take(), self.guest.state), (b"", "open"))

    def test_idle(self) -> None:
        """A client that only answers pings may be closed; 1000, so that it need not come again."""
        self.world.limit(idle_timeout_seconds=100.0)
        for _ in range(3):
            self.world.sweep(30)
            self.guest.send(frame(b"", 10))
        self.guest.say(b"{}")
        self.guest.take()
        for _ in range(3):
            self.world.sweep(30)
            self.guest.send(frame(b"", 10))
        self.assertEqual(self.guest.take(), b"")
        self.world.sweep(15)
        self.assertEqual(self.guest.closed, (1000, "idle"))

    def test_not_idle(self) -> None:
        """Not one with a subscription, nor one that waits for an answer."""
        self.world.limit(idle_timeout_seconds=10.0, ping_interval_seconds=0.0)
        subscribed, waiting = self.world.open(), self.world.open()
        subscribed.say(call("eth_subscribe", params=b'["newHeads"]'))
        waiting.say(call("debug_traceBlock"))
        self.world.sweep(30)
        self.assertEqual(self.guest.closed[0], 1000)
        self.assertEqual((len(subscribed.texts()), waiting.take()), (1, b""))

    def test_closing_handshake(self) -> None:
        """A client that answers our close frame is let go cleanly; its own code does not matter."""
        self.guest.socket.close(1012, "gap")
        self.guest.take()
        self.guest.send(frame(close_payload(1000), 8))
        self.assertEqual(self.guest.state, "closed")
        self.guest.lose()
        self.assertEqual((self.world.bridge.stats.closes, self.world.bridge.stats.open), ({1012: 1}, 0))

    def test_how_it_ended(self) -> None:
        """Closes are counted by our code, else by the client's, else as 1006."""
        guests = [self.world.open() for _ in range(3)]
        guests[0].send(frame(close_payload(4001), 8))
        guests[1].send(frame(b"\xff"))
        for guest in guests:
            guest.lose()
        self.assertEqual(self.world.bridge.stats.closes, {1000: 1, 1007: 1, 1006: 1})


class Drain(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = BridgeWorld("a")

    def closing(self, guests: list[Guest]) -> list[bool]:
        return [bool(guest.transport.out) for guest in guests]

    def test_spread(self) -> None:
        """The close frames, 1001, are spread over the grace time, and the front is empty when all have gone."""
        guests = [self.world.open() for _ in range(14)]
        emptied = self.world.front.drain()
        self.assertEqual(sum(self.closing(guests)), 1)
        counts = []
        for _ in range(7):
            self.world.sweep(1)
            counts.append(sum(self.closing(guests)))
        self.assertEqual(counts, [3, 6, 8, 11, 13, 14, 14])
        self.assertNoResult(emptied)
        for guest in guests:
            self.assertEqual(guest.closed, (1001, "evmlb is stopping"))
            guest.lose()
        self.successResultOf(emptied)

    def test_finishes_calls(self) -> None:
        """What is under way is answered first; new calls are not read any more."""
        guest = self.world.open()
        guest.say(call())
        self.world.front.drain()
        guest.say(call(call_id=b"2"))
        self.world.sweep(1)
        self.assertEqual((guest.take(), len(self.world.spies["a"].sent)), (b"", 1))
        self.world.spies["a"].last.result()
        self.assertEqual(len(guest.texts()), 1)
        self.world.sweep(1)
        self.assertEqual(guest.closed[0], 1001)
        guest.send(frame(close_payload(1001), 8))
        self.assertEqual((guest.state, len(self.world.spies["a"].sent)), ("closed", 1))

    def test_no_more(self) -> None:
        """Nobody is let in any more."""
        guest = self.world.visit()
        self.world.front.drain()
        guest = self.world.visit()
        guest.send(request())
        self.assertTrue(guest.take().startswith(b"HTTP/1.1 503 "))

    def test_cut_off(self) -> None:
        """Who does not go in time is cut off with all others."""
        guest = self.world.open()
        self.world.front.drain()
        self.world.front.abort()
        self.assertEqual(guest.state, "aborted")
