"""A node's WebSocket that is kept alive: connecting again, subscriptions, silence, and nodes that talk nonsense."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from evmlb import __version__
from evmlb.upstream.conversation import CallRefused, SocketLost
from evmlb.upstream.link import CONNECT_SECONDS, MAX_HEAD_BYTES, PING_SECONDS, Client
from evmlb.upstream.messages import MAX_MESSAGE_BYTES
from evmlb.upstream.websocket import GUESS_AGAIN_SECONDS, NodeSocket, wait_seconds
from tests.support import FakeNode, Still, node_config, run_property
from tests.upstream.sockets import RawNode, ScriptedNode, Wire, event, refused, result


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def connected(self, socket: NodeSocket) -> None:
        self.events.append("connected")

    def disconnected(self, socket: NodeSocket, reason: str) -> None:
        self.events.append(reason)


class World:
    """A node's WebSocket in memory, and one who listens to it."""

    def __init__(self, make: Any = ScriptedNode, *, ws_endpoint: str | None = "ws://10.0.0.1:8546", **node: Any):
        self.clock = Clock()
        self.wire = Wire(make)
        self.listener = Listener()
        config = node_config(**{"url": "http://10.0.0.1:8545", "ws_endpoint": ws_endpoint, **node})
        self.socket = NodeSocket(
            self.clock, config, self.clock.seconds, Still(), self.listener, connect=self.wire.connect
        )

    def begin(self) -> World:
        """Start it, and let the handshake be done."""
        self.socket.start()
        self.wire.flush()
        return self

    def pass_time(self, seconds: float) -> None:
        """Let time pass in steps, and bytes flow in between."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.wire.flush()

    def subscribe(self, *params: Any, answer: str = "0x1") -> list[Any]:
        """Subscribe, and have the node take it; the list to which results will be added."""
        got: list[Any] = []
        self.socket.subscribe(params, lambda raw: got.append(json.loads(raw))).addErrback(got.append)
        [call] = self.wire.take()
        self.wire.say(result(call["id"], answer))
        return got


class CallsTests(SynchronousTestCase):
    def test_calls(self) -> None:
        """Calls have ids of ours, may be answered in any order, and give results as bytes."""
        world = World().begin()
        first, second = world.socket.call("eth_a", [1]), world.socket.call("eth_b", [])
        calls = world.wire.take()
        self.assertEqual([(c["method"], c["params"]) for c in calls], [("eth_a", [1]), ("eth_b", [])])
        world.wire.say(b'{"jsonrpc":"2.0","result":{"x": 1},"id":%d}' % calls[1]["id"], result(calls[0]["id"], None))
        self.assertEqual(self.successResultOf(second), b'{"x": 1}')
        self.assertEqual(self.successResultOf(first), b"null")
        self.assertEqual(world.socket.outstanding, 0)

    def test_errors(self) -> None:
        """A node's error fails the call with code and message; null beside a result is none."""
        world = World().begin()
        refused_call, fine = world.socket.call("eth_a", []), world.socket.call("eth_b", [])
        first, second = (call["id"] for call in world.wire.take())
        world.wire.say({"id": first, "error": {"code": -32000, "message": "no"}}, {**result(second, 1), "error": None})
        failure = self.failureResultOf(refused_call, CallRefused).value
        self.assertEqual((failure.code, failure.message), (-32000, "no"))
        self.assertEqual(self.successResultOf(fine), b"1")

    def test_given_up(self) -> None:
        """A call's time-out is its caller's; the answer that comes later is counted, and disturbs nobody."""
        world = World().begin()
        waiting = world.socket.call("eth_a", []).addTimeout(2.0, world.clock)
        [call] = world.wire.take()
        world.clock.advance(2.0)
        self.failureResultOf(waiting)
        world.wire.say(result(call["id"], 1))
        stats = world.socket.stats
        self.assertEqual((stats.late_answers, stats.unknown_answers, world.socket.is_connected), (1, 0, True))

    def test_unknown_answers(self) -> None:
        """Answers that nobody asked for are counted and ignored, whatever their id is."""
        world = World().begin()
        for strange in (77, None, "1", -1, 1.5, "0x1", 10**30):
            world.wire.say({"jsonrpc": "2.0", "id": strange, "result": 1})
        self.assertEqual((world.socket.stats.unknown_answers, world.socket.is_connected), (7, True))

    def test_without_connection(self) -> None:
        """Without a connection a call fails at once, as not sent."""
        world = World(refused).begin()
        for answer in (world.socket.call("eth_a", []), world.socket.subscribe(["newHeads"], lambda raw: None)):
            self.assertFalse(self.failureResultOf(answer, SocketLost).value.sent)

    def test_lost(self) -> None:
        """A call whose connection ends fails as sent: the node may have done it. The listener hears afterwards."""
        world = World().begin()
        answer = world.socket.call("eth_a", [])
        answer.addErrback(lambda failure: world.listener.events.append(failure.value.sent))
        world.wire.take()
        world.wire.cut()
        self.assertEqual(world.listener.events, ["connected", True, "the connection ended"])

    def test_room(self) -> None:
        """More than so many calls at a time, or too large a one, are refused as not sent."""
        world = World().begin()
        calls = [world.socket.call("eth_a", []) for _ in range(4096)]
        self.assertFalse(self.failureResultOf(world.socket.call("eth_a", []), SocketLost).value.sent)
        world.wire.say(result(world.wire.take()[0]["id"], 1))
        self.successResultOf(calls[0])
        large = world.socket.call("eth_a", ["x" * MAX_MESSAGE_BYTES])
        self.assertFalse(self.failureResultOf(large, SocketLost).value.sent)
        calls.append(world.socket.call("eth_a", []))
        self.assertNoResult(calls[-1])
        world.socket.stop()
        for each in calls[1:]:
            self.failureResultOf(each)


class HandshakeTests(SynchronousTestCase):
    def head(self, **node: Any) -> tuple[str, dict[str, str]]:
        world = World(RawNode, **node).begin()
        line, *lines = world.wire.node.got.decode().strip().split("\r\n")
        return line, {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}

    def test_request(self) -> None:
        """Path, query, headers and user information of the endpoint go into the handshake; ours are not replaced."""
        line, headers = self.head(
            ws_endpoint="ws://me:secret@10.0.0.1:8546/ws/key?x=1", headers=(("X-Key", "k"), ("Host", "other"))
        )
        self.assertEqual(line, "GET /ws/key?x=1 HTTP/1.1")
        self.assertEqual((headers["x-key"], headers["host"]), ("k", "10.0.0.1:8546"))
        self.assertEqual(headers["authorization"], "Basic bWU6c2VjcmV0")
        self.assertNotIn("sec-websocket-extensions", headers)

    def test_names_itself(self) -> None:
        """A User-Agent of ours, unless the node has one configured."""
        url = "ws://10.0.0.1:8546"
        self.assertEqual(self.head(ws_endpoint=url)[1]["user-agent"], f"evmlb/{__version__}")
        self.assertEqual(self.head(ws_endpoint=url, headers=(("USER-agent", "me"),))[1]["user-agent"], "me")

    def test_beside(self) -> None:
        """Without ``ws_endpoint`` the ``rpc_endpoint``'s host, port, path and user information are tried."""
        line, headers = self.head(ws_endpoint=None, url="http://me:secret@[::1]:8545/rpc")
        self.assertEqual((line, headers["host"]), ("GET /rpc HTTP/1.1", "[::1]:8545"))
        self.assertEqual(headers["authorization"], "Basic bWU6c2VjcmV0")

    def test_an_own_authorization(self) -> None:
        """A configured Authorization comes before the URL's."""
        _, headers = self.head(ws_endpoint="ws://a:b@10.0.0.1/", headers=(("authorization", "Bearer t"),))
        self.assertEqual(headers["authorization"], "Bearer t")

    def test_never_answered(self) -> None:
        """A node that takes the connection and answers nothing is given up in time, and tried again."""
        world = World(RawNode).begin()
        world.clock.advance(CONNECT_SECONDS)
        world.wire.flush()
        self.assertTrue(world.wire.clients[0].transport.disconnected)
        self.assertEqual((world.socket.stats.failures, world.listener.events), (1, []))
        world.clock.advance(wait_seconds(1, 0.5))
        self.assertEqual(len(world.wire.nodes), 2)

    def test_never_connected(self) -> None:
        """So is an address that does not answer; if it does later, that connection is cut."""
        world = World(Deferred).begin()
        world.clock.advance(CONNECT_SECONDS)
        self.assertEqual((world.socket.stats.failures, world.socket.is_connected), (1, False))

    def test_too_late(self) -> None:
        """A connection that comes when it is no longer wanted is cut before a byte is sent."""
        clients: list[Client] = []
        world = World()
        world.socket._connect = lambda *args: clients.append(args[3]) or Deferred()  # type: ignore[func-returns-value]
        world.begin()
        world.socket.stop()
        transport = iosim_transport()
        clients[0].makeConnection(transport)
        self.assertEqual((transport.value(), transport.was_aborted), (b"", True))
        clients[0].connectionLost(None)  # type: ignore[arg-type]

    def test_what_is_no_websocket(self) -> None:
        """Any other answer to the handshake ends the attempt, without a trace in the log but one line."""
        answers = (
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 \r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
            b"\x16\x03\x01SSH-2.0\xff\xfe\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"x" * (MAX_HEAD_BYTES + 1),
        )
        for answer in answers:
            world = World(RawNode).begin()
            with capturedLogs() as events:
                world.wire.node.transport.write(answer)
                world.wire.flush()
            self.assertEqual((world.socket.stats.failures, world.socket.is_connected), (1, False), answer)
            self.assertEqual([each["log_level"] for each in events], [LogLevel.warn], answer)
            self.assertTrue(world.wire.clients[0].transport.disconnected)

    def test_addresses(self) -> None:
        """Each address of a name is tried in its turn, with its share of the time."""
        world = World(lambda: refused() if len(world.wire.addresses) < 2 else ScriptedNode())
        world.socket.target.addresses.known = ("10.0.0.1", "10.0.0.2")
        world.begin()
        self.assertEqual((world.wire.addresses, world.listener.events), (["10.0.0.1", "10.0.0.2"], ["connected"]))


def iosim_transport() -> Any:
    class Transport(StringTransport):
        was_aborted = False

        def abortConnection(self) -> None:
            self.was_aborted = True

    return Transport()


class AgainTests(SynchronousTestCase):
    def test_waits(self) -> None:
        """The waits double from half a second to half a minute, jitter included."""
        self.assertEqual([wait_seconds(n, 0.0) for n in (1, 2, 3, 9, 500)], [0.5, 1.0, 2.0, 20.0, 20.0])
        self.assertEqual(wait_seconds(500, 1.0), 30.0)

        @given(st.integers(1, 10_000), st.floats(0, 1))
        def check(attempts: int, draw: float) -> None:
            self.assertTrue(0.5 <= wait_seconds(attempts, draw) <= 30.0)

        run_property(check)

    def test_connects_again(self) -> None:
        """After a loss it connects again, and can be subscribed to anew; nothing of the old connection is left."""
        world = World().begin()
        old = world.subscribe("newHeads")
        world.wire.cut()
        world.pass_time(1)
        self.assertEqual(world.listener.events, ["connected", "the connection ended", "connected"])
        new = world.subscribe("newHeads")
        world.wire.say(event("0x1", {"number": "0x2"}))
        self.assertEqual((old, new), ([], [{"number": "0x2"}]))
        self.assertEqual((world.socket.stats.connects, world.socket.stats.losses), (2, 1))

    def test_backs_off(self) -> None:
        """A node that is down is tried ever more rarely; it is said once, and once when it is back."""
        up = False
        world = World(lambda: ScriptedNode() if up else refused())
        with capturedLogs() as events:
            world.begin()
            world.pass_time(120)
            tries = len(world.wire.addresses)
            up = True
            world.pass_time(30)
        self.assertTrue(7 < tries < 13, tries)
        self.assertEqual([each["log_level"] for each in events], [LogLevel.warn, LogLevel.info])
        self.assertIn("refused", events[0]["words"].lower())
        self.assertEqual(world.socket.stats.losses, 0)

    def test_a_node_that_closes_at_once(self) -> None:
        """A node that takes connections and closes them is backed off from as well; one that stood begins anew."""
        world = World().begin()
        for _ in range(5):
            world.wire.cut()
            world.pass_time(30)
        after_short = world.socket._attempts
        world.pass_time(60)
        world.wire.cut()
        self.assertEqual((after_short, world.socket._attempts), (1, 1))
        for n in range(2, 6):
            world.pass_time(wait_seconds(n - 1, 0.5) + 0.1)
            world.wire.cut()
            self.assertEqual(world.socket._attempts, n)

    def test_closed_by_the_node(self) -> None:
        """A close frame is answered, and its code and reason are told."""
        world = World().begin()
        world.wire.node.sendCloseFrame(1001, b"going\n away")
        world.wire.flush()
        self.assertEqual(world.listener.events[1:], ["the node closed it (1001 going away)"])
        self.assertEqual((world.wire.node.remoteCloseCode, world.wire.node.wasClean), (1000, True))

    def test_stop(self) -> None:
        """When stopped it closes properly, tells so, and stays away; it may be started again."""
        world = World().begin()
        world.socket.stop()
        world.wire.flush()
        self.assertEqual(world.listener.events, ["connected", "closed by evmlb"])
        self.assertEqual(world.wire.node.remoteCloseCode, 1000)
        self.assertEqual((world.clock.getDelayedCalls(), world.socket.stats.losses), ([], 0))
        world.begin()
        self.assertTrue(world.socket.is_connected)

    def test_stop_while_connecting(self) -> None:
        """Stopped while it waits, or connects, it leaves nothing behind and tells nothing."""
        for make in (refused, RawNode, Deferred):
            world = World(make).begin()
            world.socket.stop()
            self.assertEqual((world.clock.getDelayedCalls(), world.listener.events), ([], []), make)


class GuessTests(SynchronousTestCase):
    def test_none_there(self) -> None:
        """Where the guess is answered and wrong, it is said once and tried hourly; nobody is blamed."""
        world = World(RawNode, ws_endpoint=None)
        with capturedLogs() as events:
            world.begin()
            for _ in range(3):
                world.wire.node.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                world.wire.flush()
                world.clock.advance(GUESS_AGAIN_SECONDS - 1)
                tries = len(world.wire.nodes)
                world.clock.advance(1)
                self.assertEqual(len(world.wire.nodes), tries + 1)
        self.assertEqual([each["log_level"] for each in events], [LogLevel.info])
        self.assertEqual(world.socket.stats.losses, 0)

    def test_node_is_down(self) -> None:
        """A node that cannot be reached says nothing about its WebSocket: it is tried as usual, without a word."""
        world = World(refused, ws_endpoint=None)
        with capturedLogs() as events:
            world.begin()
            world.pass_time(20)
        self.assertTrue(len(world.wire.addresses) > 3)
        self.assertEqual(events, [])

    def test_right(self) -> None:
        """A guess that was right is kept to like a given endpoint."""
        world = World(ws_endpoint=None).begin()
        world.wire.make = lambda: RawNode()
        world.wire.cut()
        for _ in range(3):
            world.pass_time(3)
            world.wire.node.transport.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            world.wire.flush()
        self.assertTrue(len(world.wire.nodes) >= 4)


class SubscriptionTests(SynchronousTestCase):
    def test_events(self) -> None:
        """Results are given as they came, in their order, to the subscription they belong to."""
        world = World().begin()
        raw: list[bytes] = []
        world.socket.subscribe(["logs", {"address": "0xaa"}], raw.append)
        [call] = world.wire.take()
        self.assertEqual((call["method"], call["params"]), ("eth_subscribe", ["logs", {"address": "0xaa"}]))
        world.wire.say(result(call["id"], "0xa"))
        heads = world.subscribe("newHeads", answer="0xb")
        text = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"result": {"x" : 1e3},"subscription":"0xa"}}'
        world.wire.say(text, event("0xb", 5), event("0xa", "second"))
        self.assertEqual((raw, heads), ([b'{"x" : 1e3}', b'"second"'], [5]))

    def test_event_before_answer(self) -> None:
        """Events that come before the answer that names them are given once it is there, and then in order."""
        world = World().begin()
        got: list[bytes] = []
        made = world.socket.subscribe(["newHeads"], got.append)
        [call] = world.wire.take()
        world.wire.say(event("0x1", 1), event("0x1", 2))
        self.assertEqual(got, [])
        world.wire.say(result(call["id"], "0x1"), event("0x1", 3))
        self.assertEqual(got, [b"1", b"2", b"3"])
        self.assertEqual((self.successResultOf(made).id, world.socket.stats.unknown_events), (b'"0x1"', 0))

    def test_early_events_of_two(self) -> None:
        """With two unanswered, the events of each wait for its own answer; what is left then belongs to nobody."""
        world = World().begin()
        got: dict[str, list[bytes]] = {"a": [], "b": []}
        for each in got.values():
            world.socket.subscribe(["newHeads"], each.append)
        first, second = (call["id"] for call in world.wire.take())
        world.wire.say(event("0xb", 1), event("0xc", 2), result(first, "0xa"))
        self.assertEqual((got, world.socket.stats.unknown_events), ({"a": [], "b": []}, 0))
        world.wire.say(result(second, "0xb"))
        self.assertEqual((got["b"], world.socket.stats.unknown_events), ([b"1"], 1))

    def test_too_many_early_events(self) -> None:
        """Only so many are kept while an answer is out."""
        world = World().begin()
        got: list[bytes] = []
        world.socket.subscribe(["newHeads"], got.append)
        [call] = world.wire.take()
        world.wire.say(*(event("0x1", n) for n in range(300)), result(call["id"], "0x1"))
        self.assertEqual((got[0], len(got), world.socket.stats.unknown_events), (b"44", 256, 44))

    def test_unknown_events(self) -> None:
        """A subscription that nobody has is ended, with one call, in its own namespace."""
        world = World().begin()
        world.wire.say(event("0x9", 1), event("0x9", 2), {**event("0x8", 1), "method": "parity_subscription"})
        self.assertEqual(
            [(call["method"], call["params"]) for call in world.wire.take()],
            [("eth_unsubscribe", ["0x9"]), ("parity_unsubscribe", ["0x8"])],
        )
        self.assertEqual((world.socket.stats.unknown_events, world.socket.is_connected), (3, True))

    def test_flood_of_unknown_events(self) -> None:
        """A node that goes on and on with them loses the connection; what is kept of them is bounded."""
        world = World().begin()
        for n in range(10_001):
            world.wire.node.sendMessage(json.dumps(event(hex(n), 1)).encode())
        world.wire.flush()
        self.assertEqual(world.listener.events[1:], ["events of subscriptions that nobody has"])
        self.assertEqual(world.socket.stats.garbage, 1)

    def test_unsubscribe(self) -> None:
        """Ended subscriptions are unsubscribed from; what still comes is not given."""
        world = World().begin()
        got: list[bytes] = []
        made = world.socket.subscribe(["newHeads"], got.append)
        world.wire.say(result(world.wire.take()[0]["id"], "0x1"))
        subscription = self.successResultOf(made)
        subscription.unsubscribe()
        subscription.unsubscribe()
        world.wire.say(event("0x1", 1))
        self.assertEqual([call["params"] for call in world.wire.take()], [["0x1"]])
        self.assertEqual(got, [])

    def test_given_up(self) -> None:
        """A subscription that is made when nobody wants it any more is undone."""
        world = World().begin()
        waiting = world.socket.subscribe(["newHeads"], self.fail).addTimeout(1.0, world.clock)
        [call] = world.wire.take()
        world.clock.advance(1.0)
        self.failureResultOf(waiting)
        world.wire.say(event("0x1", 1), result(call["id"], "0x1"), event("0x1", 2))
        self.assertEqual([call["method"] for call in world.wire.take()], ["eth_unsubscribe"])

    def test_refused(self) -> None:
        """A refused subscription fails with the node's words; so does one without a usable id."""
        for answer in ({"error": {"code": -32601, "message": "no"}}, {"result": None}, {"result": {}}, {"result": ""}):
            world = World().begin()
            waiting = world.socket.subscribe(["newHeads"], self.fail)
            world.wire.say({"jsonrpc": "2.0", "id": world.wire.take()[0]["id"], **answer})
            self.failureResultOf(waiting, CallRefused)
            self.assertTrue(world.socket.is_connected)

    def test_callback_fails(self) -> None:
        """A callback that raises is logged, and stops nothing."""
        world = World().begin()

        def stumble(raw: bytes) -> None:
            raise ValueError(raw)

        world.socket.subscribe(["newHeads"], stumble)
        world.wire.say(result(world.wire.take()[0]["id"], "0x1"), event("0x1", 1), event("0x1", 2))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertTrue(world.socket.is_connected)


class SilenceTests(SynchronousTestCase):
    def test_pings(self) -> None:
        """A quiet connection is kept by pings."""
        world = World().begin()
        world.pass_time(10 * PING_SECONDS + 0.5)
        self.assertEqual((world.wire.node.pings, world.listener.events), (10, ["connected"]))

    def test_no_pong(self) -> None:
        """A node from which nothing comes, not even a pong, is given up within two pings."""
        world = World().begin()
        world.wire.node.answers_pings = False
        world.pass_time(2 * PING_SECONDS + 0.5)
        self.assertEqual(len(world.listener.events), 2)
        self.assertEqual((world.socket.stats.silences, world.socket.stats.losses), (1, 1))

    def test_anything_counts(self) -> None:
        """A node that sends messages need not answer pings."""
        world = World().begin()
        world.wire.node.answers_pings = False
        for _ in range(20):
            world.pass_time(PING_SECONDS / 2)
            world.wire.say(result(0, 0))
        self.assertEqual(world.listener.events, ["connected"])

    def test_no_heads(self) -> None:
        """Without a head for half a minute a fast chain's connection is replaced, though pings are answered."""
        world = World().begin()
        world.socket.block_time_seconds = 2.0
        world.subscribe("newHeads")
        for number in range(4):
            world.pass_time(25)
            world.wire.say(event("0x1", number))
        self.assertEqual(world.listener.events, ["connected"])
        world.pass_time(29.5)
        self.assertEqual(world.listener.events, ["connected"])
        world.pass_time(1)
        self.assertEqual(world.listener.events[1:2], ["no head for 30 s"])
        self.assertEqual(world.socket.stats.silences, 1)
        world.pass_time(1)
        self.assertEqual(world.listener.events[2:], ["connected"])

    def test_slow_chain(self) -> None:
        """A slow chain is given three block times."""
        world = World().begin()
        world.socket.block_time_seconds = 60.0
        world.subscribe("newHeads")
        world.pass_time(179)
        self.assertEqual(world.listener.events, ["connected"])
        world.pass_time(2)
        self.assertEqual(world.listener.events[1:2], ["no head for 180 s"])

    def test_other_topics(self) -> None:
        """Silence of any other topic means nothing, nor does that of one that was left."""
        world = World().begin()
        world.subscribe("logs", {})
        made = world.socket.subscribe(["newHeads"], lambda raw: None)
        world.wire.say(result(world.wire.take()[0]["id"], "0x2"))
        self.successResultOf(made).unsubscribe()
        world.pass_time(100)
        self.assertEqual(world.listener.events, ["connected"])


class GarbageTests(SynchronousTestCase):
    def test_messages(self) -> None:
        """What is no JSON-RPC ends the connection, counted, and backed off from."""
        nonsense = (
            b"",
            b"}{",
            b"[]",
            b"1",
            b"null",
            b"{}",
            b'{"id":1}',
            b'{"jsonrpc":"2.0","id":1,"result":"\xff"}',
            b'{"method":5}',
            b'{"method":"eth_subscription"}',
            b'{"method":"eth_subscription","params":[]}',
            b'{"method":"eth_subscription","params":{}}',
            b'{"method":"eth_subscription","params":{"subscription":"0x1","error":{}}}',
            b"[" * 100_000,
        )
        for message in nonsense:
            world = World().begin()
            world.wire.say(message)
            self.assertEqual(len(world.listener.events), 2, message)
            self.assertEqual((world.socket.stats.garbage, world.socket.stats.losses), (1, 1), message)
            world.pass_time(1)
            self.assertTrue(world.socket.is_connected)

    def test_frames(self) -> None:
        """So do frames that break WebSocket's rules, and messages without end."""
        wrong = (b"\xff\xff\xff", b"\x83\x00", b"\x81\x7f\x00\x00\x00\x00\x01\x00\x00\x01", b"HTTP/1.1 400\r\n\r\n")
        for data in wrong:
            world = World().begin()
            world.wire.node.transport.write(data)
            world.wire.flush()
            self.assertEqual((world.socket.stats.garbage, len(world.listener.events)), (1, 2), data)
            self.assertTrue(world.wire.clients[0].transport.disconnected)

    def test_binary_and_fragments(self) -> None:
        """Binary messages and fragments are taken: some nodes send them."""
        world = World().begin()
        answer = world.socket.call("eth_a", [])
        [call] = world.wire.take()
        message = json.dumps(result(call["id"], 1)).encode()
        world.wire.node.sendMessage(message, isBinary=True, fragmentSize=7)
        world.wire.flush()
        self.assertEqual(self.successResultOf(answer), b"1")

    def test_two_subscriptions_with_one_id(self) -> None:
        """One id for two subscriptions is nonsense; who asked for the second is told at once."""
        world = World().begin()
        world.subscribe("newHeads")
        second = world.subscribe("logs", {})
        self.assertTrue(second[0].check(SocketLost))
        self.assertEqual(world.listener.events[1:], ["two subscriptions have one id"])

    def test_any_bytes(self) -> None:
        """No bytes of a node, before or after the handshake, get past the socket as an exception."""

        @given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
        def check(pieces: list[bytes], shaken: bool) -> None:
            world = World(ScriptedNode if shaken else RawNode).begin()
            for piece in pieces:
                world.wire.node.transport.write(piece)
                world.wire.flush()
            world.socket.stop()
            self.assertEqual(world.clock.getDelayedCalls(), [])

        run_property(check)
        self.assertEqual(self.flushLoggedErrors(), [])


class DemoNodeTests(SynchronousTestCase):
    """The same against a demo node: real answers, real subscriptions."""

    def world(self, fault: str = "healthy") -> tuple[World, FakeNode]:
        fake = FakeNode(fault=fault)
        return World(lambda: fake.node.factory.buildProtocol(None)).begin(), fake

    def test_heads(self) -> None:
        """NewHeads pushes the header of each block, a reorg's too."""
        world, fake = self.world()
        got: list[Any] = []
        world.socket.subscribe(["newHeads"], lambda raw: got.append(json.loads(raw)))
        world.wire.flush()
        first = fake.chain.mine(fake.chain.head.timestamp + 1)
        fake.chain.reorg(2, first.timestamp, length=3)
        world.wire.flush()
        numbers = [int(head["number"], 16) for head in got]
        self.assertEqual(numbers, [first.number, first.number - 1, first.number, first.number + 1])
        self.assertEqual((got[0]["hash"], got[-1]["hash"]), (first.hash, fake.chain.head.hash))
        self.assertEqual([head["parentHash"] for head in got[2:]], [head["hash"] for head in got[1:-1]])

    def test_logs_and_transactions(self) -> None:
        """Logs push those of new blocks, removed ones first; pending transactions their hashes, or all of them."""
        world, fake = self.world()
        got: dict[str, list[Any]] = {"logs": [], "hashes": [], "whole": []}
        for name, params in (
            ("logs", ["logs", {}]),
            ("hashes", ["newPendingTransactions"]),
            ("whole", ["newPendingTransactions", True]),
        ):
            world.socket.subscribe(params, lambda raw, name=name: got[name].append(json.loads(raw)))  # type: ignore[misc]
        world.wire.flush()
        sent = fake.chain.send_raw(b"\x02hello")
        before = [fake.chain.mine(fake.chain.head.timestamp + 1) for _ in range(8)]
        old = fake.chain.reorg(2, fake.chain.head.timestamp)
        world.wire.flush()
        self.assertEqual((got["hashes"], got["whole"][0]["hash"]), ([sent.hash], sent.hash))
        wanted = [log for block in before for log in block.logs()]
        wanted += [log for block in old for log in block.logs(removed=True)]
        wanted += [log for block in fake.chain.view().blocks(old[0].number, old[1].number) for log in block.logs()]
        self.assertEqual(got["logs"], wanted)
        self.assertTrue({False, True} <= {log["removed"] for log in wanted})

    def test_unsubscribed(self) -> None:
        """What was unsubscribed from is pushed no more; unknown topics and ids are refused in geth's words."""
        world, fake = self.world()
        got: list[bytes] = []
        made = world.socket.subscribe(["newHeads"], got.append)
        world.wire.flush()
        self.successResultOf(made).unsubscribe()
        world.wire.flush()
        fake.chain.mine(fake.chain.head.timestamp + 1)
        world.wire.flush()
        self.assertEqual((got, world.socket.stats.unknown_events), ([], 0))
        for method, params, code in (("eth_subscribe", ["x"], -32601), ("eth_unsubscribe", ["0x1"], -32000)):
            answer = world.socket.call(method, params)
            world.wire.flush()
            self.assertEqual(self.failureResultOf(answer, CallRefused).value.code, code)

    def test_faults(self) -> None:
        """A node that hangs, refuses or talks nonsense does so over its WebSocket."""
        for fault in ("hang", "status 503", "rate-limit", "html", "not-http", "close", "reset", "redirect"):
            world, _ = self.world(fault)
            self.assertEqual((world.socket.is_connected, world.socket.stats.connects), (False, 0), fault)
        for fault in ("garbage", "close", "reset"):
            world, fake = self.world()
            fake.become(fault)
            answer = world.socket.call("eth_chainId", [])
            world.wire.flush()
            self.failureResultOf(answer, SocketLost)

    def test_slow_and_frozen(self) -> None:
        """A slow node answers late; a frozen one pushes nothing until it is well again."""
        world, fake = self.world()
        got: list[bytes] = []
        world.socket.subscribe(["newHeads"], got.append)
        world.wire.flush()
        fake.become("slow 1000")
        answer = world.socket.call("eth_chainId", [])
        world.wire.flush()
        self.assertNoResult(answer)
        fake.clock.advance(1)
        world.wire.flush()
        self.assertEqual(self.successResultOf(answer), b'"0x539"')
        fake.become("frozen")
        fake.chain.mine(fake.chain.head.timestamp + 1)
        world.wire.flush()
        self.assertEqual(got, [])
        fake.become("healthy")
        fake.chain.mine(fake.chain.head.timestamp + 1)
        world.wire.flush()
        self.assertEqual(len(got), 2)

    def test_forgets_watchers(self) -> None:
        """A connection that is gone is no longer pushed to."""
        world, fake = self.world()
        self.assertEqual(len(fake.chain.watchers), 1)
        world.socket.stop()
        world.wire.flush()
        self.assertEqual((fake.chain.watchers, fake.node.connections), ([], set()))


class RandomnessTests(SynchronousTestCase):
    def test_jitter(self) -> None:
        """Two balancers of one dead node do not come back in step."""
        times = []
        for seed in (1, 2):
            world = World(refused)
            world.socket._rng = random.Random(seed)
            world.begin()
            [call] = world.clock.getDelayedCalls()
            times.append(call.getTime())
        self.assertNotEqual(times[0], times[1])
