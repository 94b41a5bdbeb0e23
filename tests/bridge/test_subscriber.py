"""Subscriptions between a client and the hub that makes them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.frames import text_header
from tests.bridge.support import BridgeWorld, HubSpy, call


class SubscriberCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.hub = HubSpy()
        self.world = BridgeWorld("a", hub=self.hub, websocket={"max_subscriptions": 7})
        self.guest = self.world.open()

    def error(self) -> tuple[object, int]:
        [answer] = self.guest.answers()
        return answer["id"], answer["error"]["code"]


class Asked(SubscriberCase):
    def test_subscribe(self) -> None:
        """The hub hears of the call, with one subscriber for all calls of a connection; no node does."""
        self.guest.say(call("eth_subscribe", b'"x"', b'["newHeads"]'), call("eth_subscribe", b"2", b'["logs",{}]'))
        self.assertEqual(self.hub.events, [("subscribe", b'"x"', b'["newHeads"]'), ("subscribe", b"2", b'["logs",{}]')])
        answers = [{"jsonrpc": "2.0", "id": call_id, "result": "0xabc"} for call_id in ("x", 2)]
        self.assertEqual(self.guest.answers(), answers)
        first, second = self.hub.subscribers
        self.assertIs(first, second)
        self.assertEqual((first.max_subscriptions, first.subscriptions, first.is_open), (7, 2, True))
        self.assertEqual(self.world.spies["a"].sent, [])

    def test_refused(self) -> None:
        """The hub may refuse."""
        self.hub.answer = lambda subscriber, call: subscriber.refuse(call.id, -32602, "no such topic")
        self.guest.say(call("eth_subscribe", b"3"))
        self.assertEqual(self.error(), (3, -32602))

    def test_unsubscribe(self) -> None:
        """True for a subscription of one's own, an error for any other."""
        other = self.world.open()
        self.guest.say(call("eth_subscribe"))
        self.guest.take()
        self.guest.say(call("eth_unsubscribe", b"4", b'["0xabc"]'))
        self.assertEqual(self.guest.answers(), [{"jsonrpc": "2.0", "id": 4, "result": True}])
        self.guest.say(call("eth_unsubscribe", b"5", b'["0xdef"]'))
        self.assertEqual(self.error(), (5, -32000))
        other.say(call("eth_unsubscribe", b"6", b'["0xabc"]'))
        self.assertEqual(other.answers()[0]["error"]["message"], "subscription not found")

    def test_bad_params(self) -> None:
        """To unsubscribe takes one string."""
        for params in (b"[]", b"[1]", b'["a","b"]', b"{}", b"null", b'["\xff"]'):
            self.guest.say(call("eth_unsubscribe", b"1", params))
            frames = self.guest.take()
            self.assertIn(b"-32602" if params.isascii() else b"\x88", frames, params)
        self.assertEqual(self.hub.events, [])

    def test_without_id(self) -> None:
        """Without an id nobody could be told; nothing is done."""
        self.guest.say(call("eth_subscribe", b""), call("eth_unsubscribe", b"", b'["0xabc"]'))
        self.assertEqual((self.guest.take(), self.hub.events), (b"", []))

    def test_in_batch(self) -> None:
        """They cannot be part of a batch: they are refused there, and the others answered."""
        sent = self.world.spies["a"].sent
        for method in ("eth_subscribe", "eth_unsubscribe"):
            self.guest.say(b"[%b,%b]" % (call(), call(method, b"2")))
            self.assertEqual(sent[-1].body, b"[%b]" % call())
            sent[-1].answer(b'[{"jsonrpc":"2.0","id":1,"result":"0x1"}]')
            [answers] = self.guest.answers()
            self.assertEqual([answer["id"] for answer in answers], [1, 2])
            self.assertEqual((answers[0]["result"], answers[1]["error"]["code"]), ("0x1", -32600))
        self.assertEqual(self.hub.events, [])

    def test_without_hub(self) -> None:
        """A network without subscriptions says so; calls are served."""
        self.world = BridgeWorld("a")
        self.guest = self.world.open()
        for method in ("eth_subscribe", "eth_unsubscribe"):
            self.guest.say(call(method))
            self.assertEqual(self.error(), (1, -32601))
        self.guest.say(call("eth_sendRawTransaction"))
        self.assertEqual(len(self.world.spies["a"].sent), 1)


class Told(SubscriberCase):
    def setUp(self) -> None:
        super().setUp()
        self.guest.say(call("eth_subscribe"))
        self.subscriber = self.hub.subscribers[0]
        self.guest.take()

    def test_height(self) -> None:
        """What a subscription told counts for calls on the same connection: none is shown what was before it."""
        guest = self.guest
        self.world.spies["a"].script = [lambda sent: sent.result(b'"0x64"')] * 3
        self.hub.told_height = self.world.network.top = 101
        guest.say(call("eth_blockNumber"))
        self.assertEqual(guest.answers()[0]["result"], "0x65")
        other = self.world.open()
        other.say(call("eth_blockNumber"))
        self.assertEqual(other.answers()[0]["result"], "0x64")

    def test_notify(self) -> None:
        """One message of three parts, in one write, whatever its length."""
        for size in (0, 100, 1000, 70_000):
            self.subscriber.notify(b"a" * size, b"0xabc", b"z")
            self.assertEqual(self.guest.texts(), [b"a" * size + b"0xabcz"])

    def test_send_frame(self) -> None:
        """A frame made once for many is sent as it is."""
        for data in (text_header(2) + b"hi", text_header(200) + b"x" * 200):
            self.subscriber.send_frame(data)
            self.assertEqual(self.guest.take(), data)

    def test_without_id(self) -> None:
        """What has no id has no answer."""
        self.subscriber.reply(b"", b"true")
        self.subscriber.refuse(b"", -32000, "no")
        self.assertEqual(self.guest.take(), b"")

    def test_close_in_a_burst(self) -> None:
        """What came behind the call that closed the connection is dropped."""
        self.hub.answer = lambda subscriber, call: subscriber.close(1012, "gap")
        self.guest.say(call("eth_subscribe"), call(), call("eth_subscribe"))
        self.assertEqual(self.guest.closed, (1012, "gap"))
        self.assertEqual((len(self.hub.subscribers), self.world.spies["a"].sent), (2, []))

    def test_close(self) -> None:
        """The hub may close a client, with a reason; nothing is sent to it then."""
        self.subscriber.close(1012, "a gap that cannot be filled")
        self.subscriber.notify(b"a", b"b", b"c")
        self.subscriber.send_frame(text_header(0))
        self.subscriber.reply(b"1", b"true")
        self.assertEqual(self.guest.closed, (1012, "a gap that cannot be filled"))
        self.assertIs(self.subscriber.is_open, False)

    def test_close_with_long_reason(self) -> None:
        """A reason is cut to what a close frame holds."""
        self.subscriber.close(1012, "x" * 200)
        self.assertEqual(len(self.guest.closed[1]), 123)

    def test_gone(self) -> None:
        """When the connection ends the hub hears of it once, and can still speak to no effect."""
        self.guest.lose()
        self.assertEqual(self.hub.events[1:], ["gone"])
        self.subscriber.notify(b"a", b"b", b"c")
        self.assertEqual((self.guest.take(), self.subscriber.is_open, self.subscriber.queued_bytes), (b"", False, 0))

    def test_never_subscribed(self) -> None:
        """Of others the hub hears nothing."""
        self.world.open().lose()
        self.assertEqual(len(self.hub.events), 1)
