"""What of a client's reaches the node through a pipe, and what the node's limits say to it."""

from __future__ import annotations

from typing import Any

import orjson
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import LimitsConfig
from tests.bridge.piping import PipeWorld, goodbye
from tests.bridge.support import call, frame, read_frames
from tests.support import node_config

RESULT = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'
EVENT = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{}}}'


def plain(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A frame of a node's."""
    return frame(payload, opcode, fin=fin, key=None)


class PipeCase(SynchronousTestCase):
    def join(self, *args: Any, **settings: Any) -> None:
        self.world = PipeWorld(*(args or ("a",)), **settings)
        self.guest, self.node = self.world.join()

    def answers(self) -> list[Any]:
        """What the client was told, as JSON."""
        return [orjson.loads(payload) for _, payload in read_frames(self.guest.take())]


class MethodTests(PipeCase):
    OPERATORS = ("engine_newPayloadV4", "personal_sendTransaction", "admin_peers", "miner_start", "debug_startGoTrace")

    def test_refused(self) -> None:
        """What clients may not call reaches no node: plain, binary, in fragments, in a batch, or written oddly."""
        self.join()
        for method in self.OPERATORS:
            body = call(method)
            for data in (
                frame(body),
                frame(body, 2),
                frame(body[:9], fin=False) + frame(body[9:], 0),
                frame(b"[%b]" % body),
                frame(b"[%b,%b]" % (call("eth_chainId"), body)),
                frame(b'{"id":1,"method":"eth_call","METHOD":"%b"}' % method.encode()),
                frame(body + b"{}"),
                frame(b'{"id":1,"m\\u0065thod":"%b"}' % method.encode()),
            ):
                self.guest.send(data)
                self.assertEqual(self.node.take(), b"", data)
                [answer] = self.answers()
                for each in answer if isinstance(answer, list) else [answer]:
                    self.assertIn("error", each)
        self.guest.send(frame(call("engine_x", call_id=b"")))
        self.assertEqual((self.node.take(), self.guest.take()), (b"", b""))

    def test_words(self) -> None:
        """The client hears the same as over HTTP, with its id."""
        self.join()
        self.guest.send(frame(call("personal_sign", call_id=b'"x"')))
        [answer] = self.answers()
        self.assertEqual((answer["id"], answer["error"]["code"]), ("x", -32601))
        self.assertIn("personal_sign is for the operator", answer["error"]["message"])

    def test_allowed(self) -> None:
        """What a network allows passes."""
        self.join(network={"allow_methods": ("admin_*",)})
        self.guest.send(frame(call("admin_peers")))
        self.assertEqual(self.node.take(), frame(call("admin_peers")))

    def test_others_pass(self) -> None:
        """Every other call passes as it came, and so does what no node could take for a call."""
        self.join()
        for body in (
            call("eth_subscribe"),
            b"[%b]" % call(),
            b"hello",
            b"\x00\xff",
            b"",
            b'{"query":"{ block { hash } }"}',
        ):
            self.guest.send(frame(body))
            self.assertEqual((self.node.take(), self.guest.take()), (frame(body), b""))

    def test_behind_a_message(self) -> None:
        """The answer stands behind the node's message that is being passed on, never within it, nor its fragments."""
        self.join()
        half = len(RESULT) // 2
        message = plain(RESULT[:half], fin=False) + plain(b"?", 9) + plain(RESULT[half:], 0)
        for cut in range(1, len(message)):
            self.node.send(message[:cut])
            self.guest.send(frame(call("engine_x")))
            self.node.send(message[cut:] + plain(EVENT)[:5])
            said = self.guest.take()
            self.assertEqual(said[: len(message)], message, cut)
            self.assertTrue(said.endswith(plain(EVENT)[:5]))
            [(first, payload)] = read_frames(said[len(message) : -5])
            self.assertEqual((first, orjson.loads(payload)["error"]["code"]), (0x81, -32601))
            self.node.send(plain(EVENT)[5:])
            self.guest.take()

    def test_flood(self) -> None:
        """Who is refused all the time while the node's message does not end is closed."""
        self.join()
        self.node.send(plain(RESULT)[:-1])
        for _ in range(2000):
            self.guest.send(frame(call("engine_x")))
        self.assertEqual(self.guest.state, "aborted")


class BreachTests(PipeCase):
    def test_broken_rules(self) -> None:
        """A client that breaks WebSocket's rules is told so; the node sees none of it, and is not blamed."""
        for code, data in ((1002, frame(b"x", key=None)), (1002, frame(b"x", rsv=4)), (1009, frame(b"x" * 70_000))):
            self.join(websocket={"max_message_bytes": 65536})
            self.guest.send(data)
            self.assertEqual((goodbye(self.guest.take())[0], goodbye(self.node.take())), (code, (1001, "")))
            self.assertEqual(self.world.blames, [])

    def test_time(self) -> None:
        """A message that does not come whole in time is not waited for, and its memory is free with its client."""
        self.join(limits=LimitsConfig(max_request_memory_bytes=100_000, max_body_bytes=10_000))
        memory = self.world.front.memory
        data = frame(b"x" * 5000)
        for at in range(len(data) - 1):
            self.guest.send(data[at : at + 1])
        self.assertEqual(memory.total - memory.left, len(data) - 1)
        self.world.sweep(32)
        self.assertEqual(goodbye(self.guest.take())[0], 1008)
        self.guest.lose()
        self.assertEqual(memory.left, memory.total)

    def test_share(self) -> None:
        """Halves of messages take no more than their client's share of the memory for requests."""
        self.join(limits=LimitsConfig(max_request_memory_bytes=100_000, max_body_bytes=10_000))
        memory = self.world.front.memory
        guests = [self.world.join()[0] for _ in range(20)]
        for guest in guests:
            guest.send(frame(b"x" * 8000)[:-1])
        self.assertLessEqual(memory.held("192.0.2.1"), 50_000)
        self.assertEqual({goodbye(guest.take())[0] for guest in guests if guest.transport.out}, {1013})


class LimitTests(PipeCase):
    def limited(self, **node: Any) -> None:
        self.world = PipeWorld("a", network={"nodes": (node_config("a", **node),)})
        self.guest, self.node = self.world.join()

    def test_concurrency(self) -> None:
        """A node has no more calls under way than it may; what is answered makes room, an event does not."""
        self.limited(max_concurrency=2)
        for number in range(3):
            self.guest.send(frame(call(call_id=b"%d" % number)))
        self.assertEqual(self.node.take(), frame(call(call_id=b"0")) + frame(call(call_id=b"1")))
        [answer] = self.answers()
        self.assertEqual((answer["id"], answer["error"]["code"]), (2, -32011))
        self.assertEqual(self.world.nodes["a"].in_flight, 2)
        self.node.send(plain(EVENT))
        self.assertEqual(self.world.nodes["a"].in_flight, 2)
        self.node.send(plain(RESULT))
        self.assertEqual(self.world.nodes["a"].in_flight, 1)
        self.guest.send(frame(b"[%b,%b]" % (call(), call())))
        self.guest.send(frame(call(call_id=b"")))  # no answer is owed
        self.assertEqual((self.world.nodes["a"].in_flight, len(read_frames(self.guest.take()))), (2, 2))

    def test_requests_over_http_count(self) -> None:
        """The limit is the node's, whichever way calls come."""
        self.limited(max_concurrency=1)
        self.world.submit()
        self.guest.send(frame(call()))
        self.assertEqual((self.node.take(), self.answers()[0]["error"]["code"]), (b"", -32011))
        self.world.last("a").result()
        self.guest.send(frame(call()))
        self.assertEqual(self.node.take(), frame(call()))
        waiting = self.world.submit()
        self.assertEqual(self.world.sends, "a")
        self.node.send(plain(RESULT))
        self.world.pass_time(0.05)
        self.assertEqual((self.world.sends, waiting.said), ("aa", []))
        self.world.last("a").result()

    def test_rate(self) -> None:
        """Calls on pipes are some of the node's requests per second."""
        self.limited(requests_per_second=2.0)
        for _ in range(10):
            self.guest.send(frame(call()))
        passed = len(self.node.take()) // len(frame(call()))
        self.assertEqual(passed + len(self.answers()), 10)
        self.assertLess(passed, 5)
        self.world.clock.advance(1.0)
        self.guest.send(frame(call()))
        self.assertEqual(self.node.take(), frame(call()))

    def test_never_answered(self) -> None:
        """What is never answered does not count for ever, nor beyond the end of its pipe."""
        self.limited(max_concurrency=1)
        node = self.world.nodes["a"]
        self.guest.send(frame(call()))
        self.world.sweep(602)
        self.assertEqual(node.in_flight, 0)
        self.guest.send(frame(call()))
        self.assertEqual(node.in_flight, 1)
        self.guest.lose()
        self.assertEqual(node.in_flight, 0)

    def test_asked_elsewhere(self) -> None:
        """A pipe goes to a node with room, if there is one."""
        self.world = PipeWorld("a b")
        self.world.nodes["a"].in_flight = self.world.nodes["a"].capacity
        self.world.ask()
        self.assertEqual(self.world.asked, "b")
