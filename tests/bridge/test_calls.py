"""Calls over WebSocket: requests like any other, side by side."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge import calls
from evmlb.errors import Fault
from evmlb.exchange import Session
from evmlb.methods import UNSAFE
from tests.bridge.support import BridgeWorld, Guest, call, frame
from tests.front.support import Echo
from tests.support import Sent


class CallsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = BridgeWorld("a")
        self.guest = self.world.open()

    @property
    def sent(self) -> list[Sent]:
        return self.world.spies["a"].sent

    def error(self, guest: Guest | None = None) -> tuple[Any, int, str]:
        """Id, code and words of the one answer that came."""
        [answer] = (guest or self.guest).answers()
        return answer["id"], answer["error"]["code"], answer["error"]["message"]


class Answered(CallsCase):
    def test_bytes(self) -> None:
        """The node gets the client's bytes, and the client the node's."""
        body = b' {"jsonrpc" : "2.0", "id":"\\u00e9", "method":"eth_getBalance", "params":["0x1" ]}\n'
        self.guest.say(body)
        self.assertEqual(self.sent[0].body, body)
        answer = '{"jsonrpc":"2.0","id":"é","result":"ü"}\n'.encode()
        self.sent[0].answer(answer)
        self.assertEqual(self.guest.texts(), [answer])

    def test_any_order(self) -> None:
        """Calls are under way side by side, also with the same id, and answered as their answers come."""
        self.guest.say(*(call(call_id=call_id) for call_id in (b"1", b'"1"', b"1", b"1.0")))
        self.assertEqual(len(self.sent), 4)
        for place, call_id in ((2, b"1"), (3, b"1.0"), (1, b'"1"'), (0, b"1")):
            self.sent[place].result(b"%d" % place, call_id)
        expected = [(1, 2), (1.0, 3), ("1", 1), (1, 0)]
        self.assertEqual([(answer["id"], answer["result"]) for answer in self.guest.answers()], expected)

    def test_batch(self) -> None:
        """A batch is one message, and so is its answer."""
        body = b"[%b,%b]" % (call(), call("eth_chainId", b"2"))
        self.guest.say(body)
        self.assertEqual(self.sent[0].body, body)
        answer = b'[{"jsonrpc":"2.0","id":1,"result":1},{"jsonrpc":"2.0","id":2,"result":2}]'
        self.sent[0].answer(answer)
        self.assertEqual(self.guest.texts(), [answer])

    def test_notifications(self) -> None:
        """They are sent and not answered, whatever the node says; nor is a batch of them."""
        self.guest.say(call(call_id=b""), b"[%b]" % call(call_id=b""))
        self.sent[0].answer(b"")
        self.sent[1].answer(b"", 204)
        self.assertEqual(self.guest.take(), b"")

    def test_notification_is_sent_once(self) -> None:
        """A notification that may have arrived is not sent to another node, and what failed is told to nobody."""
        world = BridgeWorld("a b")
        guest = world.open()
        guest.say(call(call_id=b""))
        world.spies["a"].last.fail(Fault.DISCONNECTED)
        self.assertEqual((world.spies["b"].sent, guest.take()), ([], b""))
        guest.say(call())
        world.spies["a"].last.fail(Fault.DISCONNECTED)
        self.assertEqual(len(world.spies["b"].sent), 1)

    def test_failover(self) -> None:
        """A node that fails is not noticed."""
        world = BridgeWorld("a b")
        guest = world.open()
        guest.say(call())
        world.spies["a"].last.fail()
        world.spies["b"].last.result()
        self.assertEqual([answer["result"] for answer in guest.answers()], ["0x1"])

    def test_binary(self) -> None:
        """A call in a binary message is answered in text, as geth does."""
        self.guest.send(frame(call(), 2))
        self.sent[0].result()
        self.assertEqual(len(self.guest.texts()), 1)

    def test_sizes(self) -> None:
        """Answers of any length are one frame."""
        for size in (0, 90, 1000, 65_500, 70_000):
            self.guest.say(call())
            self.sent[-1].result(b'"%b"' % (b"x" * size))
            self.assertEqual(len(self.guest.answers()[0]["result"]), size)

    def test_at_once(self) -> None:
        """Answers may come before the next call is read."""
        world = BridgeWorld("a", echo=True)
        self.assertIsInstance(world.spies["a"], Echo)
        guest = world.open()
        guest.say(*(call(call_id=b"%d" % number) for number in range(50)))
        self.assertEqual([answer["id"] for answer in guest.answers()], list(range(50)))

    def test_session(self) -> None:
        """What routing remembers belongs to the connection, and is one for all its calls."""
        other = self.world.open()
        for guest in (self.guest, self.guest, other):
            guest.say(call())
        first, second, third = (request.sink.exchange.reply for request in self.sent)
        first.session = Session()
        self.assertIs(second.session, first.session)
        self.assertIsNone(third.session)

    def test_counted(self) -> None:
        """Messages and calls are counted."""
        self.guest.say(call(), b"[%b,%b]" % (call(), call()), b"nonsense", call("engine_newPayloadV1"))
        self.sent[0].result()
        stats = self.world.bridge.stats
        self.assertEqual((stats.messages_in, stats.calls, stats.messages_out), (4, 2, 3))


class Refused(CallsCase):
    def test_not_json_rpc(self) -> None:
        """What is no call is an error without an id, and the connection stays."""
        for body, code in ((b"", -32700), (b"nonsense", -32700), (b"1", -32600), (b"{}", -32600), (b"[]", -32600)):
            self.guest.say(body)
            self.assertEqual(self.error()[:2], (None, code), body)
        self.guest.say(call())
        self.assertEqual(len(self.sent), 1)

    def test_binary_garbage(self) -> None:
        """So is what is not even UTF-8, in a binary message."""
        self.guest.send(frame(b'{"id":1,"method":"\xff"}', 2))
        self.assertEqual(self.error()[:2], (None, -32700))

    def test_engine(self) -> None:
        """The engine's methods are refused as by HTTP, also in a batch, and not answered where there is no id."""
        self.guest.say(call("engine_newPayloadV1", b'"x"'))
        self.assertEqual(self.error()[:2], ("x", -32601))
        self.guest.say(b"[%b,%b]" % (call("engine_newPayloadV1"), call("engine_newPayloadV1", b"2")))
        [answers] = self.guest.answers()
        self.assertEqual([(answer["id"], answer["error"]["code"]) for answer in answers], [(1, -32601), (2, -32601)])
        self.guest.say(call("engine_newPayloadV1", b""))
        self.assertEqual((self.guest.take(), self.sent), (b"", []))

    def test_bad_members(self) -> None:
        """In a batch each member that is no call, or not for nodes, is refused by itself; the good one is answered."""
        for other, answer in (
            (b"1", (None, -32600)),
            (b'{"id":2,"method":5}', (2, -32600)),
            (call("engine_newPayloadV1", b"2"), (2, -32601)),
        ):
            self.guest.say(b"[%b,%b]" % (call(), other))
            self.assertEqual(self.sent[-1].body, b"[%b]" % call())
            self.sent[-1].answer(b'[{"jsonrpc":"2.0","id":1,"result":"0x1"}]')
            [[good, bad]] = self.guest.answers()
            self.assertEqual(
                (good, bad["id"], bad["error"]["code"]), ({"jsonrpc": "2.0", "id": 1, "result": "0x1"}, *answer)
            )
        self.guest.say(b"[1,2,3]")
        [answers] = self.guest.answers()
        self.assertEqual([(answer["id"], answer["error"]["code"]) for answer in answers], [(None, -32600)] * 3)

    def test_nobody_answers(self) -> None:
        """Errors of our own have the call's id, and the same code and words as by HTTP."""
        self.guest.say(call("eth_sendTransaction", b'"x"'))
        self.sent[0].fail(Fault.DISCONNECTED)
        self.assertEqual(self.error()[:2], ("x", -32013))

    def test_not_utf8(self) -> None:
        """A large answer that is not UTF-8 is not sent: the client would have to close the connection."""
        self.guest.say(call())
        self.sent[0].result(b'"%b\xff"' % (b"x" * 5000))
        self.assertEqual(self.error(), (1, -32013, "the node's answer is not UTF-8"))


class Long(CallsCase):
    """Answers that come in pieces."""

    def begin(self, *parts: bytes, length: int = -1) -> Sent:
        self.guest.say(call())
        self.sent[-1].begin(*parts, length=length)
        return self.sent[-1]

    @property
    def reserved(self) -> int:
        return self.world.front.limits.max_request_memory_bytes - self.world.front.memory.left

    def test_whole(self) -> None:
        """They are collected and sent as one message; other calls are answered meanwhile."""
        long = self.begin(b'{"jsonrpc":"2.0","id":1,"res', b'ult":"')
        for _ in range(3):
            long.sink.streamed(b"y" * 1000)
        self.assertEqual(self.reserved, 3034)
        self.guest.say(call(call_id=b"2"))
        self.sent[-1].result(request_id=b"2")
        self.assertEqual([answer["id"] for answer in self.guest.answers()], [2])
        long.sink.streamed(b'"}')
        long.sink.ended()
        [text] = self.guest.texts()
        self.assertEqual(text, b'{"jsonrpc":"2.0","id":1,"result":"%b"}' % (b"y" * 3000))
        self.assertEqual((self.reserved, self.guest.socket.receiver.owes), (0, False))

    def test_broken_off(self) -> None:
        """When the node dies within one, its call gets an error, and the connection stays."""
        long = self.begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        long.fail(Fault.DISCONNECTED)
        self.assertEqual(self.error(), (1, -32013, "the node's answer broke off"))
        self.assertEqual((self.reserved, self.guest.state, self.guest.socket.receiver.owes), (0, "open", False))

    def test_too_long(self) -> None:
        """Beyond the bound it is given up, as soon as that is known; no more of it is read."""
        self.patch(calls, "MAX_ANSWER_BYTES", 2000)
        self.begin(b'{"jsonrpc":"2.0","id":1,"result":"', length=2001)
        self.assertEqual(self.error()[:2], (1, -32013))
        long = self.begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        long.sink.streamed(b"x" * 1900)
        self.assertEqual(self.guest.take(), b"")
        long.sink.streamed(b"x" * 100)
        self.assertEqual(self.error()[:2], (1, -32013))
        self.assertEqual((self.reserved, self.guest.socket.receiver.owes), (0, False))
        self.assertEqual(self.world.events.count(("a", "cancel")), 2)

    def test_memory(self) -> None:
        """All that is collected counts against the memory for requests."""
        self.world.front.memory.left = 100
        long = self.begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        long.sink.streamed(b"x" * 100)
        self.assertEqual(self.error()[:2], (1, -32011))
        self.assertEqual(self.world.front.memory.left, 100)

    def test_session(self) -> None:
        """It has the connection's session."""
        downstream = self.begin(b'{"jsonrpc":"2.0","id":1,"result":"').sink.exchange.reply
        downstream.session = Session()
        self.assertIs(self.guest.socket.receiver.session, downstream.session)
        self.assertIs(downstream.session, self.guest.socket.receiver.session)


class RefusedMethods(SynchronousTestCase):
    def test_refused(self) -> None:
        """What is for a node's operator reaches no node, as over HTTP; nobody hears of a notification's end."""
        world = BridgeWorld("a")
        guest = world.open()
        for method in ("personal_sendTransaction", "admin_addPeer", "debug_setHead", "engine_x"):
            guest.say(call(method), b"[%b]" % call(method), call(method, call_id=b""))
            single, [batch] = guest.answers()
            for answer in (single, batch):
                self.assertEqual((answer["id"], answer["error"]["code"]), (1, -32601))
        self.assertEqual(world.sends, "")

    def test_allowed(self) -> None:
        """What a network allows is sent, as what must not be done twice."""
        world = BridgeWorld("a", network={"allow_methods": ("admin_*",)})
        guest = world.open()
        guest.say(call("admin_peers"), call("personal_sign", call_id=b"2"))
        self.assertIs(world.spies["a"].last.sink.exchange.klass, UNSAFE)
        self.assertEqual([answer["id"] for answer in guest.answers()], [2])


class Memory(CallsCase):
    """What clients' messages take, all together."""

    @property
    def left(self) -> int:
        return self.world.front.memory.left

    @left.setter
    def left(self, size: int) -> None:
        self.world.front.memory.left = size

    def test_bad_members(self) -> None:
        """What a batch that is sent in part takes is given back whole."""
        before = self.left
        body = b"[%b,1]" % call(params=b'["%b"]' % (b"x" * 5000))
        self.guest.say(body)
        self.assertEqual(self.left, before - len(body))
        self.sent[-1].answer(b'[{"jsonrpc":"2.0","id":1,"result":"0x1"}]')
        self.assertEqual((len(self.guest.answers()), self.left), (1, before))

    def test_under_way(self) -> None:
        """A larger message counts until it is answered, well or badly; one for which there is no room is refused."""
        self.left = 5000
        large = call("eth_sendTransaction", params=b'["%b"]' % (b"x" * 2000))
        self.guest.say(large, large, large, call())
        self.assertEqual(self.left, 5000 - 2 * len(large))
        self.assertEqual(self.error()[:2], (1, -32011))
        self.assertEqual(len(self.sent), 3)
        self.sent[0].result()
        self.sent[1].fail(Fault.DISCONNECTED)
        self.assertEqual(self.left, 5000)

    def test_gone(self) -> None:
        """Or until its client leaves."""
        before = self.left
        self.guest.say(call(params=b'["%b"]' % (b"x" * 2000)))
        self.assertLess(self.left, before)
        self.guest.lose()
        self.assertEqual(self.left, before)

    def test_half_received(self) -> None:
        """What came of a message counts, too, until it is whole or its client leaves."""
        before = self.left
        data = frame(b" " * 70_000 + call())
        self.guest.send(data[:60_000])
        self.assertEqual(self.left, before - 60_000 + 14)
        self.guest.send(data[60_000:])
        self.sent[0].result()
        self.assertEqual(self.left, before)
        self.guest.send(frame(b"x" * 100, 2, fin=False))
        self.assertEqual(self.left, before - 100)
        self.guest.lose()
        self.assertEqual(self.left, before)

    def test_no_room_for_more(self) -> None:
        """Where there is no room for the rest of a message its connection is closed, 1013."""
        self.left = 1000
        self.guest.send(frame(b"x" * 900, fin=False) + frame(b"x" * 101, 0, fin=False))
        self.assertEqual((self.guest.closed[0], self.guest.state), (1013, "half"))
        self.guest.lose()
        self.assertEqual(self.left, 1000)


class Gone(CallsCase):
    def test_cancelled(self) -> None:
        """With the connection all its calls end, whole or half answered, and nobody is blamed."""
        self.guest.say(call(), call(), call())
        self.sent[0].begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        self.guest.lose()
        self.assertEqual(self.world.events.count(("a", "cancel")), 3)
        self.assertEqual(self.world.router.stats.in_flight, 0)
        self.assertEqual(self.world.front.memory.left, self.world.front.limits.max_request_memory_bytes)

    def test_others(self) -> None:
        """Other connections go on."""
        other = self.world.open()
        other.say(call())
        self.guest.lose()
        self.sent[0].result()
        self.assertEqual(len(other.answers()), 1)
