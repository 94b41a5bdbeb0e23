"""A pipe: what passes, what becomes of one end when the other goes, and what it may cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.pipe import CLOSE_SECONDS
from tests.bridge.piping import NodeEnd, PipeWorld, goodbye
from tests.bridge.support import Guest, close_payload, frame
from tests.support import run_property

WHOLE = frame(b"hello", key=None)
BEGUN = WHOLE + WHOLE[:3]
ENDS = ("fin", "lose", "reset")


def end(side: Guest | NodeEnd, how: str) -> None:
    """A side ends without a close frame."""
    if how == "fin":
        protocol = side.socket if isinstance(side, Guest) else side.transport.protocol
        protocol.readConnectionLost()
    else:
        side.lose(error.ConnectionLost if how == "reset" else error.ConnectionDone)


class PipeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = PipeWorld("a")
        self.guest, self.node = self.world.join()

    def lose_rest(self) -> None:
        """The connections that we closed, or cut, are gone."""
        for side in (self.guest, self.node):
            if side.state not in ("open", "gone"):
                side.lose()

    def assertEnded(self, code: int, *, blamed: bool = False) -> None:
        """Both connections are ended by now; nothing is left."""
        self.assertNotIn("open", (self.guest.state, self.node.state))
        self.lose_rest()
        self.assertEqual(self.world.stats, (0, 1, 0, {code: 1}))
        self.assertEqual((len(self.world.front.lanes), len(self.world.bridge._sockets)), (0, 0))
        self.assertEqual(self.world.blames, [("a", False)] if blamed else [])


class Passing(PipeCase):
    def test_both_ways(self) -> None:
        """Bytes pass as they are, whatever they mean."""
        for data in (frame(b"text"), frame(b"bin", 2), frame(b"x", 1, fin=False) + frame(b"y", 0), frame(b"", 9)):
            self.guest.send(data)
            self.assertEqual(self.node.take(), data)
        for data in (WHOLE, frame(b"z" * 70_000, 2, rsv=4, key=None), frame(b"", 10, key=None), b"\xff\xff\xff"):
            self.node.send(data)
            self.assertEqual(self.guest.take(), data)
        self.assertEqual((self.guest.state, self.node.state), ("open", "open"))

    def test_any_pieces(self) -> None:
        """Whatever passes up to the first close frame comes out as it went in, and nothing behind it."""

        @given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 50), st.booleans())
        def check(payloads: list[bytes], size: int, from_client: bool) -> None:
            self.setUp()
            key = b"abcd" if from_client else None
            whole = b"".join(frame(payload, key=key) for payload in payloads) + frame(close_payload(1000), 8, key=key)
            data = whole + b"\x88 more"
            source, sink = (self.guest, self.node) if from_client else (self.node, self.guest)
            for start in range(0, len(data), size):
                source.send(data[start : start + size])
            self.assertEqual(sink.take(), whole)

        run_property(check)

    def test_counts(self) -> None:
        """It is one of the client's connections, and one of the WebSockets; the node has room for as many calls."""
        self.assertEqual((self.world.stats, len(self.world.front.lanes)), ((1, 1, 0, {}), 1))
        self.assertEqual(self.world.nodes["a"].in_flight, 0)


class NodeCloses(PipeCase):
    def test_codes(self) -> None:
        """A node's close frame passes as it is, and so does the client's; then both connections end."""
        for code in (1000, 1001, 1008, 1009, 3000, 4999, 1011, 1012, 1013, 1014):
            self.setUp()
            said = frame(close_payload(code, b"so it is"), 8, key=None)
            self.node.send(WHOLE + said)
            self.assertEqual((self.guest.take(), self.guest.state), (WHOLE + said, "open"))
            answer = frame(close_payload(code), 8)
            self.guest.send(answer)
            self.assertEqual(self.node.take(), answer)
            self.assertEnded(code, blamed=1011 <= code <= 1014)

    def test_without_code(self) -> None:
        """A close frame without a code passes, too."""
        self.node.send(frame(b"", 8, key=None))
        self.assertEqual(self.guest.take(), frame(b"", 8, key=None))
        self.guest.send(frame(b"", 8))
        self.assertEnded(1005)

    def test_goes_at_once(self) -> None:
        """A node may go right behind its close frame; the client still has its time to answer."""
        for how in ENDS:
            self.setUp()
            self.node.send(frame(close_payload(1000), 8, key=None))
            end(self.node, how)
            self.assertEqual((goodbye(self.guest.take()), self.guest.state), ((1000, ""), "open"))
            self.guest.send(frame(b"crossing") + frame(close_payload(1000), 8))
            self.assertEnded(1000)

    def test_client_does_not_answer(self) -> None:
        """Whoever does not answer a close frame is cut off."""
        self.node.send(frame(close_payload(1000), 8, key=None))
        self.world.sweep(CLOSE_SECONDS - 1)
        self.assertEqual((self.guest.state, self.node.state), ("open", "open"))
        self.world.sweep(3)
        self.assertEqual((self.guest.state, self.node.state), ("aborted", "aborted"))
        self.assertEnded(1000)

    def test_client_goes(self) -> None:
        """A client that goes in place of an answer is as good."""
        for how in ENDS:
            self.setUp()
            self.node.send(frame(close_payload(1000), 8, key=None))
            end(self.guest, how)
            self.assertEnded(1000)


class NodeBreaksOff(PipeCase):
    def test_between_frames(self) -> None:
        """A node that goes without a word: the client is told so, and may answer."""
        for how in ENDS:
            self.setUp()
            self.node.send(WHOLE)
            end(self.node, how)
            self.assertEqual(self.guest.take()[: len(WHOLE)], WHOLE)
            self.assertEqual(self.guest.state, "open")
            self.guest.send(frame(b"crossing") + frame(close_payload(1001), 8))
            self.assertEnded(1001, blamed=True)

    def test_words(self) -> None:
        """The client is told by 1001."""
        self.node.lose()
        self.assertEqual(goodbye(self.guest.take()), (1001, "unexpected EOF"))
        self.assertIs(self.world.nodes["a"].suspect, True)

    def test_within_a_frame(self) -> None:
        """In the middle of a frame the client is cut off: a close frame would be taken for a part of it."""
        for how in ENDS:
            self.setUp()
            self.node.send(BEGUN)
            end(self.node, how)
            self.assertEqual((self.guest.take(), self.guest.state), (BEGUN, "aborted"))
            self.guest.lose()
            self.assertEnded(1006, blamed=True)

    def test_in_a_fragmented_message(self) -> None:
        """Between two fragments a close frame may stand."""
        begun = frame(b"x", fin=False, key=None)
        self.node.send(begun)
        self.node.lose()
        self.assertEqual(goodbye(self.guest.take()[len(begun) :]), (1001, "unexpected EOF"))

    def test_client_does_not_answer(self) -> None:
        """A client that does not take the hint is cut off."""
        self.node.lose()
        self.world.sweep(CLOSE_SECONDS + 2)
        self.assertEqual(self.guest.state, "aborted")
        self.assertEnded(1001, blamed=True)


class ClientCloses(PipeCase):
    def test_codes(self) -> None:
        """A client's close frame passes as it is, and blames nobody, whatever its code."""
        for code in (1000, 1001, 1011, 4000):
            self.setUp()
            said = frame(close_payload(code, b"enough"), 8)
            self.guest.send(frame(b"last") + said)
            self.assertEqual((self.node.take(), self.node.state), (frame(b"last") + said, "open"))
            answer = frame(close_payload(code), 8, key=None)
            self.node.send(WHOLE + answer)
            self.assertEqual(self.guest.take(), WHOLE + answer)
            self.assertEnded(code)

    def test_node_echoes_its_own(self) -> None:
        """What a node answers to a client's close frame is not its fault."""
        self.guest.send(frame(close_payload(1009), 8))
        self.node.send(frame(close_payload(1011), 8, key=None))
        self.assertEnded(1009)

    def test_node_goes(self) -> None:
        """A node that goes in place of an answer is not blamed."""
        for how in ENDS:
            self.setUp()
            self.guest.send(frame(close_payload(1000), 8))
            self.node.send(BEGUN)
            end(self.node, how)
            self.assertEnded(1000)

    def test_node_does_not_answer(self) -> None:
        """The client is not kept waiting for ever, though the node goes on sending."""
        self.guest.send(frame(close_payload(1000), 8))
        for _ in range(12):
            self.node.send(WHOLE)
            self.world.sweep(1)
        self.assertEqual((self.guest.state, self.node.state), ("aborted", "aborted"))
        self.assertEnded(1000)


class ClientBreaksOff(PipeCase):
    def test_between_frames(self) -> None:
        """A client that goes without a word: the node is told, and nobody is blamed."""
        for how in ENDS:
            self.setUp()
            self.guest.send(frame(b"last"))
            end(self.guest, how)
            said = self.node.take()
            self.assertEqual(said[: len(frame(b"last"))], frame(b"last"))
            self.assertEqual((goodbye(said[len(frame(b"last")) :]), self.node.state), ((1001, ""), "closed"))
            self.assertEnded(1006)

    def test_within_a_frame(self) -> None:
        """Of a frame that is not whole the node has seen nothing, and is told the same."""
        for how in ENDS:
            self.setUp()
            self.guest.send(frame(b"last")[:-1])
            end(self.guest, how)
            self.assertEqual((goodbye(self.node.take()), self.node.state), ((1001, ""), "closed"))
            self.assertEnded(1006)

    def test_node_goes_on(self) -> None:
        """What a node still sends to a client that is gone is dropped; one that does not end is cut."""
        self.guest.lose()
        self.assertEqual((self.node.state, len(self.world.front.lanes)), ("closed", 1))
        self.node.send(WHOLE)
        self.world.sweep(CLOSE_SECONDS + 2)
        self.assertEqual(self.node.state, "aborted")
        self.assertEnded(1006)


class Backpressure(PipeCase):
    def test_slow_client(self) -> None:
        """While the client does not read, nothing is read from the node."""
        self.world = PipeWorld("a")
        self.guest, self.node = self.world.join(room=1000)
        for number in range(20):
            self.node.send(frame(b"%03d" % number * 100, key=None))
        self.assertEqual((len(self.guest.transport.out), self.node.transport.reading), (4 * 304, False))
        passed = b""
        for _ in range(20):
            passed += self.guest.take()
            self.guest.transport.read()
        self.assertEqual(passed, b"".join(frame(b"%03d" % number * 100, key=None) for number in range(20)))
        self.assertIs(self.node.transport.reading, True)

    def test_slow_node(self) -> None:
        """The same the other way."""
        self.world = PipeWorld("a")
        self.guest, self.node = self.world.join(node_room=1000)
        for _ in range(20):
            self.guest.send(frame(b"x" * 300))
        self.assertEqual((len(self.node.transport.out), self.guest.transport.reading), (4 * 308, False))
        passed = b""
        for _ in range(20):
            passed += self.node.take()
            self.node.transport.read()
        self.assertEqual((passed, self.guest.transport.reading), (frame(b"x" * 300) * 20, True))

    def test_client_never_reads(self) -> None:
        """A client that does not read for long is let go; the node hears of it, and is not blamed."""
        for sent, state in ((WHOLE * 10, "open"), (WHOLE * 10 + WHOLE[:3], "aborted")):
            self.world = PipeWorld("a")
            self.guest, self.node = self.world.join(room=10)
            self.node.send(sent)
            self.world.sweep(77)
            self.assertEqual((self.guest.state, self.world.bridge.stats.slow_closed), (state, 1))
            self.assertEqual(goodbye(self.node.take()), (1001, ""))
            passed = self.guest.take()
            self.assertEqual(passed[: len(sent)], sent)
            if state == "open":
                self.assertEqual(goodbye(passed[len(sent) :])[0], 1013)
            self.world.sweep(CLOSE_SECONDS + 2)
            self.assertEnded(1013 if state == "open" else 1006)

    def test_node_never_reads(self) -> None:
        """So is a node, at whose door it is laid."""
        self.world = PipeWorld("a")
        self.guest, self.node = self.world.join(node_room=10)
        self.guest.send(frame(b"x" * 20))
        self.world.sweep(77)
        self.assertEqual(goodbye(self.guest.take()), (1001, "the node does not read"))
        self.assertIs(self.guest.transport.reading, False)
        self.world.sweep(CLOSE_SECONDS + 2)
        self.assertEnded(1001, blamed=True)

    def test_end_is_noticed(self) -> None:
        """When one end is gone the other is read again: its own end would not be noticed else."""
        self.world = PipeWorld("a")
        self.guest, self.node = self.world.join(room=10)
        self.node.send(WHOLE * 10)
        self.assertIs(self.node.transport.reading, False)
        self.guest.lose()
        self.assertIs(self.node.transport.reading, True)


class Time(PipeCase):
    def test_no_end_by_itself(self) -> None:
        """A silent pipe stays."""
        self.world.sweep(4000)
        self.assertEqual((self.guest.state, self.node.state, self.guest.take()), ("open", "open", b""))

    def test_idle(self) -> None:
        """Where an idle time-out is configured, bytes in either direction count."""
        self.world.limit(idle_timeout_seconds=30.0)
        self.world.sweep(20)
        self.guest.send(frame(b"", 9))
        self.world.sweep(20)
        self.node.send(frame(b"", 10, key=None))
        self.world.sweep(28)
        self.assertEqual(self.guest.take(), frame(b"", 10, key=None))
        self.world.sweep(4)
        self.assertEqual((goodbye(self.guest.take()), goodbye(self.node.take()[6:])), ((1000, "idle"), (1001, "")))
        self.guest.send(frame(close_payload(1000), 8))
        self.assertEnded(1000)


class Stopping(PipeCase):
    def test_spread(self) -> None:
        """When evmlb stops, clients are told one after another, and nodes with them."""
        more = [self.world.join() for _ in range(6)]
        drained = self.world.front.drain()
        joined = [(self.guest, self.node), *more]
        told = []
        for _ in range(7):
            told.append(sum(bool(guest.transport.out) for guest, _ in joined))
            self.world.sweep(1)
        self.assertEqual((told[0], told[2], told[-1]), (1, 3, 7))
        for guest, node in joined:
            self.assertEqual(goodbye(guest.take()), (1001, "evmlb is stopping"))
            self.assertEqual(goodbye(node.take()), (1001, ""))
            guest.send(frame(close_payload(1001), 8))
            self.assertEqual((guest.state, node.state), ("closed", "closed"))
            guest.lose()
            node.lose()
        self.successResultOf(drained)
        self.assertEqual((self.world.stats, self.world.blames), ((0, 7, 0, {1001: 7}), []))

    def test_within_a_frame(self) -> None:
        """A frame that is being passed on is finished first, and nothing of the next."""
        self.node.send(BEGUN)
        self.world.bridge.drain()
        self.assertEqual(self.guest.take(), BEGUN)
        self.node.send(WHOLE[3:4])
        self.assertEqual(self.guest.take(), WHOLE[3:4])
        self.node.send(WHOLE[4:] + WHOLE + WHOLE[:4])
        data = self.guest.take()
        whole = WHOLE[4:] + WHOLE
        self.assertEqual(data[: len(whole)], whole)
        self.assertEqual(goodbye(data[len(whole) :]), (1001, "evmlb is stopping"))
        self.node.send(WHOLE)
        self.assertEqual(self.guest.take(), b"")
        self.guest.send(frame(close_payload(1001), 8))
        self.assertEnded(1001)

    def test_client_within_a_frame(self) -> None:
        """Half a frame of the client's is in nobody's way."""
        self.guest.send(frame(b"abc")[:-1])
        self.world.bridge.drain()
        self.assertEqual((goodbye(self.guest.take())[0], goodbye(self.node.take())), (1001, (1001, "")))
        self.guest.send(frame(b"abc")[-1:] + frame(close_payload(1001), 8))
        self.assertEnded(1001)

    def test_closing_already(self) -> None:
        """What is ending by itself is not told twice."""
        self.guest.send(frame(close_payload(1000), 8))
        self.node.take()
        self.world.front.drain()
        self.assertEqual((self.guest.take(), self.node.take()), (b"", b""))
        self.node.send(frame(close_payload(1000), 8, key=None))
        self.assertEnded(1000)

    def test_cut_off(self) -> None:
        """What does not end in time is cut off by the front; the node's connection goes with it."""
        self.world.front.abort()
        self.assertEqual(self.guest.state, "aborted")
        self.guest.lose()
        self.assertEqual(self.node.state, "closed")
        self.assertEnded(1006)
