"""One client connection: framing, order, limits, time, and both directions of backpressure."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import CorsConfig, LimitsConfig, LogLevel
from evmlb.errors import Fault
from evmlb.front import lane as lane_module
from evmlb.front.cors import MAX_REMEMBERED, MAX_WORD_BYTES
from evmlb.methods import UNSAFE
from tests.front.support import BALANCE, FrontWorld, Visitor, chunked, post, read_replies
from tests.support import FakeHead, run_property

RESULT = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'
ORIGIN = b"Origin: https://page.example"
JSON_TYPE = b"Content-Type: application/json"
PREFLIGHT = b"Access-Control-Request-Method: POST"
ALLOW = (b"access-control-allow-origin", b"https://page.example")
OTHERS = {"pass_other_requests": True}


class LaneTestCase(SynchronousTestCase):
    def make(self, *args: Any, **settings: Any) -> Visitor:
        self.world = FrontWorld(*args, **settings)
        return self.world.connect()

    def limited(self, **limits: Any) -> Visitor:
        return self.make(limits=LimitsConfig(**limits))

    def assertError(self, reply: Any, status: int, code: int) -> None:
        error = json.loads(reply.body)
        self.assertEqual((reply.status, error["error"]["code"]), (status, code))
        self.assertEqual(reply["content-type"], "application/json")

    def assertNothingLeft(self) -> None:
        world = self.world
        world.check_idle(self)
        self.assertEqual((len(world.front.lanes), world.front.stats.open), (0, 0))
        self.assertEqual(world.front.memory.left, world.front.limits.max_request_memory_bytes)


class CommonTests(LaneTestCase):
    def test_one_request(self) -> None:
        """A request goes to its network as it came, and its answer comes back as it is."""
        visitor = self.make()
        visitor.send(post())
        self.assertEqual(self.world.last("a").body, BALANCE)
        self.assertEqual(visitor.take(), b"")
        self.world.last("a").result()
        reply = visitor.reply
        self.assertEqual((reply.status, reply.body), (200, RESULT))
        self.assertEqual(reply.headers["content-type"], "application/json")
        self.assertEqual((reply["x-evmlb-node"], reply["x-evmlb-attempts"]), ("a", "1"))
        self.assertNotIn("x-evmlb-degraded", reply.headers)
        self.assertNotIn("connection", reply.headers)
        self.assertEqual(visitor.state, "open")

    def test_many_requests(self) -> None:
        """A connection stays for any number of requests."""
        visitor = self.make(echo=True)
        for _ in range(50):
            visitor.send(post())
        self.assertEqual(len(visitor.replies()), 50)

    def test_failover_is_told(self) -> None:
        """The answer says which node gave it, at which attempt."""
        visitor = self.make()
        visitor.send(post())
        self.world.last("a").fail()
        self.world.last("b").result()
        reply = visitor.reply
        self.assertEqual((reply["x-evmlb-node"], reply["x-evmlb-attempts"]), ("b", "2"))

    def test_degraded_is_told(self) -> None:
        """A degraded answer is marked."""
        visitor = self.make()
        visitor.send(post())
        self.world.last("a").sink.exchange.degraded = True
        self.world.last("a").result()
        self.assertEqual(visitor.reply["x-evmlb-degraded"], "true")

    def test_no_own_headers(self) -> None:
        """X-Evmlb-* can be switched off."""
        visitor = self.make(answer_headers=False)
        visitor.send(post())
        self.world.last("a").fail()
        self.world.last("b").result()
        visitor.send(post())
        self.world.last("b").result()
        visitor.send(post())
        for _ in range(3):
            self.world.last(self.world.sends[-1]).fail(Fault.GARBAGE)
        self.assertNotIn(b"Evmlb", visitor.take())

    def test_node_status(self) -> None:
        """A JSON-RPC answer travels with 200, whatever status the node gave it."""
        visitor = self.make()
        visitor.send(post())
        self.world.last("a").answer(RESULT, 500)
        self.assertEqual(visitor.reply.status, 200)

    def test_refusal(self) -> None:
        """An answer of our own carries the request's id, and the attempts that were made."""
        visitor = self.make("a")
        visitor.send(post(BALANCE.replace(b'"id":1', b'"id":"x"')))
        self.world.last("a").fail(Fault.GARBAGE)
        reply = visitor.reply
        self.assertError(reply, 502, -32013)
        self.assertEqual((json.loads(reply.body)["id"], reply["x-evmlb-attempts"]), ("x", "1"))
        self.assertEqual(visitor.state, "open")

    def test_rate_limited(self) -> None:
        """A limit of the nodes' is passed on with its Retry-After."""
        visitor = self.make("a")
        visitor.send(post())
        self.world.last("a").answer(b"", 429, ((b"retry-after", b"9"),))
        reply = visitor.reply
        self.assertError(reply, 429, -32005)
        self.assertEqual(reply["retry-after"], "9")

    def test_error_status(self) -> None:
        """With ``error_status: 200`` own errors travel with 200, but for those of plain HTTP."""
        visitor = self.make("a", error_status=200)
        visitor.send(post())
        self.world.last("a").fail(Fault.GARBAGE)
        self.assertError(visitor.reply, 200, -32013)
        visitor.send(post(b"not json"))
        self.assertError(visitor.reply, 200, -32700)

    def test_batch_refused(self) -> None:
        """A batch is refused with an array, an error per id."""
        visitor = self.make("a")
        body = b"[%b,%b,%b]" % (
            BALANCE,
            b'{"jsonrpc":"2.0","method":"eth_chainId"}',
            BALANCE.replace(b'"id":1', b'"id":"z"'),
        )
        visitor.send(post(body))
        self.world.last("a").fail(Fault.GARBAGE)
        self.assertEqual([error["id"] for error in json.loads(visitor.reply.body)], [1, "z"])

    def test_notification_refused(self) -> None:
        """Only notifications: 204, and the connection goes on."""
        visitor = self.make("a")
        for body in (b'{"method":"eth_chainId"}', b'[{"method":"eth_chainId"}]', b'{"method":"engine_x"}'):
            visitor.send(post(body))
            if b"engine" not in body:
                self.world.last("a").fail(Fault.GARBAGE)
            self.assertEqual((visitor.reply.status, visitor.state), (204, "open"))

    def test_notification_answered(self) -> None:
        """A node's empty 204 passes as such, without a length."""
        visitor = self.make("a")
        visitor.send(post(b'{"method":"eth_chainId"}'))
        self.world.last("a").answer(b"", 204)
        self.assertEqual(visitor.reply.status, 204)

    def test_refused_method(self) -> None:
        """engine_* is refused with -32601 and never sent, alone or in a batch of its like."""
        visitor = self.make()
        for body in (b'{"id":1,"method":"engine_x"}', b'[{"id":1,"method":"engine_x"},1]'):
            visitor.send(post(body))
            self.assertIn(b"-32601", visitor.reply.body)
            visitor.send(post(body, ORIGIN, JSON_TYPE))
            self.assertIn(b"-32601", visitor.reply.body)
        self.assertEqual(self.world.sends, "")

    def test_bad_members(self) -> None:
        """In a batch each member that is no call, or not for nodes, is refused by itself; the good one is answered."""
        visitor = self.make()
        for other, answer in (
            (b"1", (None, -32600)),
            (b'{"id":2,"method":null}', (2, -32600)),
            (b'{"id":2,"method":"engine_x"}', (2, -32601)),
        ):
            visitor.send(post(b"[%b,%b]" % (BALANCE, other)))
            sent = self.world.spies["a"].last
            self.assertEqual(sent.body, b"[%b]" % BALANCE)
            sent.answer(b"[%b]" % RESULT)
            good, bad = json.loads(visitor.reply.body)
            self.assertEqual((good, bad["id"], bad["error"]["code"]), (json.loads(RESULT), *answer))
        visitor.send(post(b"[1,2,3]"))
        reply = visitor.reply
        answers = [(answer["id"], answer["error"]["code"]) for answer in json.loads(reply.body)]
        self.assertEqual((reply.status, answers), (200, [(None, -32600)] * 3))

    def test_a_member_is_asked_again(self) -> None:
        """A member that one node fails is answered by another, in one array with the others; streamed, too."""
        visitor = self.make()
        second = b'{"jsonrpc":"2.0","id":2,"result":"0x2"}'
        for large in (False, True):
            visitor.send(post(b"[%b,%b]" % (BALANCE, BALANCE.replace(b'"id":1', b'"id":2'))))
            first = self.world.spies[self.world.sends[-1]].last
            first.answer(
                b'[{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"missing trie node"}},%b]' % second
            )
            rest = self.world.spies[self.world.sends[-1]].last
            self.assertEqual((rest is first, rest.body), (False, b"[%b]" % BALANCE))
            if large:
                rest.begin(b"[" + RESULT[:20], length=len(RESULT) + 2)
                rest.sink.streamed(RESULT[20:] + b"]")
                rest.sink.ended()
            else:
                rest.answer(b"[%b]" % RESULT)
            answers = sorted(json.loads(visitor.reply.body), key=lambda answer: answer["id"])
            self.assertEqual(answers, [json.loads(RESULT), json.loads(second)])

    def test_not_json(self) -> None:
        """Bodies that are no JSON-RPC get 400 and the right code; the connection stays."""
        visitor = self.make()
        for body, code in (
            (b"", -32700),
            (b"nonsense", -32700),
            (b"[]", -32600),
            (b"{}", -32600),
            (b'{"method":"eth_call","METHOD":"debug_x"}', -32600),
            (b"[" * 100_000, -32600),
        ):
            visitor.send(post(body))
            reply = visitor.reply
            self.assertIn(json.loads(reply.body)["error"]["code"], (code, -32700), body[:20])
            self.assertEqual((reply.status, visitor.state), (400, "open"))
        self.assertEqual(self.world.front.stats.bad_requests[400], 6)


class FramingTests(LaneTestCase):
    def test_chunked_body(self) -> None:
        """A chunked body is put together and goes on as one."""
        visitor = self.make()
        visitor.send(chunked(BALANCE))
        self.assertEqual(self.world.last("a").body, BALANCE)

    def test_head_and_body_apart(self) -> None:
        """A body may come in a segment of its own."""
        visitor = self.make(echo=True)
        head, body = post().split(b"\r\n\r\n")
        for _ in range(3):
            visitor.send(head + b"\r\n\r\n")
            visitor.send(body)
        self.assertEqual(len(visitor.replies()), 3)

    def test_expect(self) -> None:
        """A client that expects 100-continue gets it, unless its body is there already."""
        visitor = self.make()
        head, body = post(BALANCE, b"Expect: 100-continue").split(b"\r\n\r\n")
        visitor.send(head + b"\r\n\r\n")
        self.assertEqual(visitor.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        visitor.send(body)
        self.world.last("a").result()
        self.assertEqual(visitor.reply.status, 200)
        visitor.send(head + b"\r\n\r\n" + body)
        self.world.last("a").result()
        self.assertEqual(visitor.reply.status, 200)

    def test_expect_too_large(self) -> None:
        """One whose body would be too large is told so instead."""
        visitor = self.limited(max_body_bytes=100)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n")
        self.assertError(visitor.reply, 413, -32600)

    def test_other_expectation(self) -> None:
        """Another expectation cannot be met: 417."""
        visitor = self.make()
        visitor.send(post(BALANCE, b"Expect: wonders"))
        self.assertError(visitor.reply, 417, -32600)

    def test_pipelining(self) -> None:
        """Pipelined requests are sent on strictly one after the other, and answered in order."""
        visitor = self.make()
        visitor.send(b"".join(post(BALANCE.replace(b'"id":1', b'"id":%d' % number)) for number in range(4)))
        for number in range(4):
            self.assertEqual(len(self.world.sends), number + 1)
            self.world.last("a").result(request_id=b"%d" % number)
        self.assertEqual([json.loads(reply.body)["id"] for reply in visitor.replies()], [0, 1, 2, 3])

    def test_reading_is_bounded(self) -> None:
        """While an answer is owed no more than a buffer is read ahead, and reading goes on afterwards."""
        visitor = self.make()
        visitor.send(post())
        for _ in range(lane_module.READ_AHEAD_BYTES // 1000 + 10):
            visitor.send(post(BALANCE + b" " * 1000))
        self.assertFalse(visitor.transport.reading)
        self.assertGreater(len(visitor.transport.inbox), 0)
        self.world.spies["a"].script.extend([lambda sent: sent.result()] * 1000)
        self.world.last("a").result()
        self.assertEqual((visitor.transport.reading, visitor.transport.inbox), (True, []))
        self.assertEqual(len(visitor.replies()), lane_module.READ_AHEAD_BYTES // 1000 + 11)

    def test_empty_lines(self) -> None:
        """Empty lines before a request are ignored, however many come, and cost little."""
        visitor = self.make(echo=True)
        visitor.send(b"\r\n" * 100_000 + post() + b"\r\n" + post())
        self.assertEqual(len(visitor.replies()), 2)

    def test_malformed(self) -> None:
        """What is no HTTP is answered with an error and a close, and nothing behind it is read."""
        for data, status in (
            (b"nonsense\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
            (b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400),
            (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            (b"POST /net HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ):
            visitor = self.make()
            visitor.send(data + post())
            visitor.send(post())
            reply = visitor.reply
            self.assertIn(reply.status, (status, 400), data)
            self.assertEqual((reply["connection"], self.world.sends), ("close", ""), data)
            self.assertIn(visitor.state, ("half", "closed"))

    def test_smuggling_behind_an_error(self) -> None:
        """A request that comes behind a refused one, in a segment of its own, is not read either."""
        visitor = self.limited(max_body_bytes=10)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
        visitor.send(post(b"{}"))
        self.assertEqual((visitor.reply.status, self.world.sends), (413, ""))

    def test_error_belongs_to_its_request(self) -> None:
        """A malformed request's error has nothing of the request before it."""
        visitor = self.make(cors=CorsConfig(origins=("*",)), echo=True)
        visitor.send(b"HEAD /net HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % ORIGIN)
        visitor.take()
        visitor.send(b"nonsense\r\n\r\n")
        reply = visitor.reply
        self.assertError(reply, 400, -32600)
        self.assertNotIn("access-control-allow-origin", reply.headers)

    def test_byte_by_byte(self) -> None:
        """A request may come byte by byte."""
        visitor = self.make()
        for byte in post():
            visitor.send(bytes([byte]))
        self.assertEqual(self.world.last("a").body, BALANCE)

    def test_every_cutting(self) -> None:
        """However the bytes of a connection are cut, its answers are the same and in order."""

        @settings(max_examples=150, deadline=None)
        @given(st.lists(REQUESTS, min_size=1, max_size=6), st.lists(st.integers(1, 400), max_size=12), st.booleans())
        def check(requests: list[bytes], cuts: list[int], fin: bool) -> None:
            stream = b"".join(requests)
            whole, wanted = converse([stream], fin)
            pieces, rest = [], stream
            for cut in cuts:
                pieces.append(rest[:cut])
                rest = rest[cut:]
            self.assertEqual(converse([piece for piece in (*pieces, rest) if piece], fin), (whole, wanted))
            self.assertEqual(converse([stream[at : at + 1] for at in range(len(stream))], fin), (whole, wanted))
            heads = tuple(place for place, request in enumerate(requests) if b"HEAD " in request)
            self.assertLessEqual(len(read_replies(whole, heads)), len(requests))

        run_property(check)


def converse(pieces: list[bytes], fin: bool) -> tuple[bytes, str]:
    """All that a connection answers to these pieces, and how it ends."""
    visitor = FrontWorld("a", echo=True, limits=LimitsConfig(max_body_bytes=500)).connect()
    for piece in pieces:
        visitor.send(piece)
    if fin:
        visitor.fin()
    out = visitor.take().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return out, visitor.state.replace("half", "closed")


def _line(text: bytes) -> bytes:
    return text + b"\r\nHost: x\r\n\r\n"


REQUESTS = st.sampled_from(
    (
        post(),
        post(b'{"id":"\xc3\xa4","method":"eth_call","params":[{"to":"0x1"},"latest"]}'),
        post(b'{"method":"eth_chainId"}'),
        post(b"[" + BALANCE + b"," + BALANCE.replace(b'"id":1', b'"id":2') + b"]"),
        post(b"[" + b'{"method":"eth_chainId"}' + b"]"),
        post(b"nonsense"),
        post(b""),
        post(path=b"/net/"),
        post(path=b"/net/deeper/../x?key=1"),
        post(b"foreign", path=b"/net/graphql"),
        post(path=b"/unknown"),
        post(path=b"/"),
        post(BALANCE, ORIGIN),
        post(BALANCE, ORIGIN, JSON_TYPE),
        post(BALANCE, b"Expect: 100-continue"),
        post(BALANCE, b"Connection: keep-alive", version=b"HTTP/1.0"),
        post(version=b"HTTP/1.0"),
        post(BALANCE, b"Connection: close"),
        post(b" " * 501),
        chunked(BALANCE),
        chunked(BALANCE, size=1),
        chunked(b" " * 500, size=100),
        chunked(b" " * 501, size=100),
        chunked(b""),
        b"\r\n" + post(),
        b"\r\n\r\n" + chunked(BALANCE),
        _line(b"GET / HTTP/1.1"),
        _line(b"GET /net/x HTTP/1.1"),
        _line(b"HEAD /net HTTP/1.1"),
        _line(b"HEAD / HTTP/1.1"),
        _line(b"OPTIONS /net HTTP/1.1"),
        _line(b"DELETE /net HTTP/1.1"),
        _line(b"GET /net HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket"),
        post(BALANCE, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"),
        b"nonsense\r\n\r\n",
        b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    )
)


class ConnectionTests(LaneTestCase):
    def test_close(self) -> None:
        """``Connection: close`` closes behind the answer, and says so."""
        visitor = self.make()
        visitor.send(post(BALANCE, b"Connection: close") + post())
        self.world.last("a").result()
        self.assertEqual((visitor.reply["connection"], visitor.state, self.world.sends), ("close", "closed", "a"))

    def test_http_10(self) -> None:
        """HTTP/1.0 closes, unless it asks to stay and is told that it may."""
        visitor = self.make(echo=True)
        visitor.send(post(BALANCE, b"Connection: keep-alive", version=b"HTTP/1.0"))
        self.assertEqual((visitor.reply["connection"], visitor.state), ("keep-alive", "open"))
        visitor.send(post(version=b"HTTP/1.0"))
        self.assertEqual((visitor.reply["connection"], visitor.state), ("close", "closed"))

    def test_fin_with_an_answer_owed(self) -> None:
        """A client that sends its FIN behind its request still gets the answer, and then the close."""
        visitor = self.make()
        visitor.send(post())
        visitor.fin()
        self.assertEqual(visitor.state, "open")
        self.world.last("a").result()
        self.assertEqual((visitor.reply.status, visitor.state), (200, "closed"))

    def test_fin_does_not_wait_for_ever(self) -> None:
        """A client that gave up looks the same: its work is ended after a while, and nobody is blamed."""
        visitor = self.make()
        visitor.send(post(b'{"id":1,"method":"eth_call","params":[]}'))
        self.world.pass_time(20)
        visitor.fin()
        self.world.sweep(4)
        self.assertEqual(visitor.state, "open")
        self.world.sweep(3)
        self.assertEqual(visitor.state, "aborted")
        visitor.lose()
        self.assertEqual(self.world.nodes["a"].in_flight, 0)
        self.assertFalse(self.world.nodes["a"].suspect)

    def test_fin_behind_pipelined_requests(self) -> None:
        """So does one that sends several: all of them are answered."""
        visitor = self.make()
        visitor.send(post() * 3 + b"POST /net HT")
        visitor.fin()
        for _ in range(3):
            self.assertEqual(visitor.state, "open")
            self.world.last("a").result()
        self.assertEqual((len(visitor.replies()), visitor.state), (3, "closed"))

    def test_fin_when_idle(self) -> None:
        """An idle client's FIN closes, and so does one in the middle of a request."""
        visitor = self.make()
        visitor.fin()
        self.assertEqual((visitor.take(), visitor.state), (b"", "closed"))
        visitor = self.world.connect()
        visitor.send(post()[:-5])
        visitor.fin()
        self.assertEqual((visitor.take(), visitor.state), (b"", "closed"))

    def test_fin_with_a_large_answer(self) -> None:
        """A half-closed client gets all of a streamed answer."""
        visitor = self.make()
        visitor.send(post())
        visitor.fin()
        self.world.last("a").begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        self.world.last("a").sink.streamed(b'"}')
        self.world.last("a").sink.ended()
        self.assertEqual((visitor.reply.body[-2:], visitor.state), (b'"}', "closed"))

    def test_reset(self) -> None:
        """A reset ends the upstream work, and nothing is left."""
        visitor = self.make()
        visitor.send(post())
        visitor.lose(ConnectionLost)
        self.assertEqual((self.world.events, self.world.blames), ([("a", "send"), ("a", "cancel")], []))
        self.assertNothingLeft()

    def test_node_dies_in_the_middle(self) -> None:
        """An answer that cannot be finished cuts the connection."""
        visitor = self.make()
        visitor.send(post() + post())
        self.world.last("a").begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        self.world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual((visitor.state, len(self.world.sends)), ("aborted", 1))
        visitor.lose()
        self.assertNothingLeft()

    def test_too_many_connections(self) -> None:
        """Connections beyond the limit are not taken."""
        self.make(max_connections=1)
        self.assertIsNone(self.world.front.build(None))
        self.assertEqual(self.world.front.stats.rejected, 1)

    def test_share_of_connections(self) -> None:
        """One peer gets half of them at most; a trusted one, which may speak for many, all."""
        self.make(max_connections=21)  # one is there
        greedy, proxy = IPv4Address("TCP", "192.0.2.66", 1), IPv4Address("TCP", "10.0.0.1", 1)
        lanes = [self.world.front.build(greedy) for _ in range(15)]
        self.assertEqual(sum(lane is not None for lane in lanes), 10)
        self.assertIsNotNone(self.world.front.build(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertEqual(sum(self.world.front.build(proxy) is not None for _ in range(15)), 9)

    def test_websocket(self) -> None:
        """A WebSocket upgrade is refused with 501, at once."""
        visitor = self.make()
        visitor.send(_line(b"GET /net HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket"))
        self.assertError(visitor.reply, 501, -32601)
        self.assertNotEqual(visitor.state, "open")

    def test_h2c_offer(self) -> None:
        """An offer of h2c is ignored, and its body is not lost."""
        visitor = self.make()
        visitor.send(post(BALANCE, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"))
        self.assertEqual(self.world.last("a").body, BALANCE)


class RefusedMethodTests(LaneTestCase):
    OPERATORS = ("personal_sendTransaction", "admin_peers", "miner_start", "debug_startCPUProfile", "engine_x")

    def test_refused(self) -> None:
        """What is for a node's operator reaches no node: alone, in a batch, from a page or a deeper path."""
        visitor = self.make()
        for method in self.OPERATORS:
            body = b'{"jsonrpc":"2.0","id":7,"method":"%b"}' % method.encode()
            for data in (post(body), post(body, path=b"/net/deeper"), post(body, b"Origin: http://x", JSON_TYPE)):
                visitor.send(data)
                reply = visitor.reply
                self.assertError(reply, 200, -32601)
                self.assertEqual(json.loads(reply.body)["id"], 7)
            visitor.send(post(b"[%b]" % body))
            self.assertEqual(json.loads(visitor.reply.body)[0]["error"]["code"], -32601)
        self.assertEqual(self.world.sends, "")

    def test_allowed(self) -> None:
        """A network may allow some; they are sent once, as what must not be done twice."""
        visitor = self.make(network={"allow_methods": ("admin_*", "engine_*")})
        visitor.send(post(b'{"jsonrpc":"2.0","id":1,"method":"admin_peers"}'))
        exchange = self.world.last("a").sink.exchange
        self.assertIs(exchange.klass, UNSAFE)
        self.world.last("a").result()
        self.assertEqual(visitor.reply.status, 200)
        visitor.send(post(b'[{"id":1,"method":"admin_peers"},{"id":2,"method":"personal_sign"}]'))
        exchange = self.world.last("a").sink.exchange
        self.assertEqual((exchange.klass, b"personal_sign" in self.world.last("a").body), (UNSAFE, False))
        self.world.last("a").answer(b'[{"jsonrpc":"2.0","id":1,"result":[]}]')
        [peers, sign] = json.loads(visitor.reply.body)
        self.assertEqual((peers["result"], sign["error"]["code"]), ([], -32601))
        self.assertIn("personal_sign is for the operator of a node", sign["error"]["message"])
        visitor.send(post(b'[{"id":1,"method":"admin_peers"},{"id":2,"method":"eth_chainId"}]'))
        self.assertIs(self.world.last("a").sink.exchange.klass, UNSAFE)
        self.world.last("a").answer(b'[{"jsonrpc":"2.0","id":1,"result":[]},{"jsonrpc":"2.0","id":2,"result":1}]')
        self.assertEqual(visitor.reply.status, 200)
        visitor.send(post(b'{"jsonrpc":"2.0","id":1,"method":"engine_x"}'))
        self.assertError(visitor.reply, 200, -32601)


class PathTests(LaneTestCase):
    def test_unknown_network(self) -> None:
        """Another network is 404 in the original's words; the connection stays."""
        visitor = self.make()
        visitor.send(post(path=b"/other"))
        reply = visitor.reply
        self.assertError(reply, 404, -32001)
        self.assertEqual(json.loads(reply.body)["error"]["message"], "Unknown network: other")
        self.assertEqual(visitor.state, "open")

    def test_refused_with_the_id(self) -> None:
        """A refusal carries the client's id wherever the body has one, a batch each of its ids; else null."""
        visitor = self.make()
        batch = b'[{"id":1,"method":"eth_chainId"},{"method":"eth_chainId"},{"id":"b","method":"eth_chainId"}]'
        for request, status, ids in (
            (post(b'{"id":7,"method":"eth_chainId"}', path=b"/other"), 404, 7),
            (post(b'{"id":7,"method":null}', path=b"/other"), 404, 7),
            (post(batch, path=b"/other"), 404, [1, "b"]),
            (post(b'{"method":"eth_chainId"}', path=b"/other"), 404, None),
            (post(b"nonsense", path=b"/other"), 404, None),
            (post(b'{"id":"a","method":"eth_chainId"}', path=b"/"), 400, "a"),
            (post(b'{"id":1,"method":null}'), 400, 1),
            (post(b'{"id":"x"}'), 400, "x"),
            (post(b'{"id":5,"method":"a","METHOD":"b"}'), 400, 5),
            (post(b'{"id":{},"method":"a"}'), 400, None),
            (post(b'{"id":6,"method":"eth_chainId"}', ORIGIN, b"Content-Type: text/plain"), 415, 6),
            (post(b'{"id":8,"method":3}', ORIGIN, JSON_TYPE), 400, 8),
            (post(b'{"id":9,"method":"eth_chainId"}').replace(b"POST", b"PUT"), 405, 9),
            (post(b'{"id":10,"method":"engine_x"}'), 200, 10),
        ):
            visitor.send(request)
            reply = visitor.reply
            said = json.loads(reply.body)
            given = [each["id"] for each in said] if isinstance(said, list) else said["id"]
            self.assertEqual((reply.status, given), (status, ids), request)
        self.assertEqual(self.world.sends, "")

    def test_no_network(self) -> None:
        """No network at all is 400 in the original's words."""
        visitor = self.make()
        visitor.send(post(path=b"/"))
        reply = visitor.reply
        self.assertError(reply, 400, -32600)
        self.assertIn("Network name not specified in URL", reply.body.decode())

    def test_overview(self) -> None:
        """GET / lists the networks; HEAD / has only its length."""
        visitor = self.make()
        visitor.send(_line(b"GET / HTTP/1.1"))
        reply = visitor.reply
        self.assertEqual(json.loads(reply.body), {"networks": [{"name": "net", "path": "/net", "serving": True}]})
        visitor.send(_line(b"HEAD / HTTP/1.1"))
        [head] = visitor.replies(0)
        self.assertEqual(head["content-length"], str(len(reply.body)))

    def test_extra_path_and_query(self) -> None:
        """Extra path and query go to the node, cleaned, per request."""
        visitor = self.make(echo=True)
        for path, target in (
            (b"/net/", b""),
            (b"/net?x=1", b"?x=1"),
            (b"/net/a/./b/../c?x=1", b"/a/c?x=1"),
            (b"/net/%2e%2e/%2E./x", b""),
            (b"/n%65t/a", b"/a"),
        ):
            visitor.send(post(path=path))
            visitor.take()
            if path == b"/net/%2e%2e/%2E./x":
                continue  # climbs out of the network: no such one
            self.assertEqual(self.world.last("a").target, target, path)
        visitor.send(post())
        self.assertEqual(self.world.last("a").target, b"")

    def test_climbing_in_a_disguise(self) -> None:
        """Dot segments that only the node behind would see are refused: in front of its path is often a key."""
        hidden = (
            b"..%2fadmin",
            b"..\\..\\admin",
            b"..;/admin",
            b"..%3bx",
            b"%2e%2e%5cx",
            b"%252e%252e%252fx",
            b"a%2f..%2fb",
        )
        for path in (*hidden, b"..%00", b".%00./x", b"..%20/x", b"%25%32%65%2e/x", b"..%2525252525252fx"):
            visitor = self.make(network=OTHERS)
            visitor.send(post(path=b"/net/" + path))
            self.assertEqual((visitor.reply.status, self.world.sends), (400, ""), path)
        visitor = self.make(echo=True)
        for path in (b"a..b", b".hidden/x", b"v1.0/...", b"a%20b", b"%c3%a9..", b"a;b=.."):
            visitor.send(post(path=b"/net/" + path))
            self.assertEqual((visitor.reply.status, self.world.last("a").target), (200, b"/" + path))

    def test_not_passed_on(self) -> None:
        """What is no JSON-RPC by POST goes to no node, because its page may repeat the node's path with its key."""
        visitor = self.make(echo=True)
        for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"):
            visitor.send(_line(b"%b /net/x HTTP/1.1" % method))
            [reply] = visitor.replies(*((0,) if method == b"HEAD" else ()))
            self.assertEqual((reply.status, reply["allow"]), (405, "POST, OPTIONS"))
        visitor.send(post(b"query { block }", b"Content-Type: text/graphql", path=b"/net/graphql"))
        self.assertError(visitor.reply, 400, -32700)
        self.assertEqual(self.world.sends, "")

    def test_foreign_body_on_a_deeper_path(self) -> None:
        """Where the network allows it, what is no JSON-RPC passes on a deeper path as it is; so does its answer."""
        visitor = self.make(network=OTHERS)
        visitor.send(post(b"query { block }", b"Content-Type: text/graphql", path=b"/net/graphql"))
        sent = self.world.last("a")
        self.assertEqual((sent.method, sent.target, sent.body), (b"POST", b"/graphql", b"query { block }"))
        self.assertIn(b"content-type: text/graphql\r\n", sent.headers)
        sent.answer(b"teapot", 418)
        reply = visitor.reply
        self.assertEqual((reply.status, reply.body), (418, b"teapot"))

    def test_never_passed_on(self) -> None:
        """TRACE would show keys, and a call by another method would go around the rules about methods."""
        for raw in (
            _line(b"TRACE /net HTTP/1.1"),
            post(b'{"id":1,"method":"engine_x"}').replace(b"POST", b"PUT", 1),
            post(b'{"id":1,"method":"eth_sendRawTransaction"}').replace(b"POST", b"GET", 1),
        ):
            visitor = self.make(network=OTHERS)
            visitor.send(raw)
            self.assertEqual(visitor.reply.status, 405, raw)
            self.assertEqual(self.world.spies["a"].sent, [])

    def test_trace(self) -> None:
        """TRACE shows who asks for what; no other level does."""
        for level, expected in ((LogLevel.TRACE, 1), (LogLevel.DEBUG, 0)):
            visitor = self.make(log_level=level)
            with capturedLogs() as captured:
                visitor.send(post())
            lines = [event for event in captured if event.get("trace")]
            self.assertEqual([event["method"] for event in lines], ["eth_getBalance"] * expected)

    def test_no_way_around_the_rules(self) -> None:
        """What a laxer parser could take for a call does not pass as foreign on a deeper path."""
        for body in (
            b'{"id":1,"method":"eth_chainId","METHOD":"engine_x"}',
            b'{"id":1,"method":"engine_x"} and more',
            b'{"id":1,"meth\\u006fd":"engine_x","x":tru}',
        ):
            visitor = self.make(network=OTHERS)
            visitor.send(post(body, path=b"/net/deeper"))
            self.assertEqual(visitor.reply.status, 400, body)

    def test_other_methods(self) -> None:
        """GET, HEAD, OPTIONS and others go to the node where they may; an answer to HEAD has no body."""
        visitor = self.make(echo=True, network=OTHERS)
        for method in (b"GET", b"OPTIONS", b"DELETE", b"PUT"):
            visitor.send(_line(b"%b /net/x HTTP/1.1" % method))
            self.assertEqual((self.world.last("a").method, visitor.reply.body), (method, method + b" /x "))
        visitor.send(_line(b"HEAD /net/x HTTP/1.1"))
        self.assertEqual(visitor.replies(0)[0].body, b"")

    def test_encoded_by_the_node(self) -> None:
        """What a node compresses unasked is passed on with the name of its coding."""
        visitor = self.make(network=OTHERS)
        visitor.send(_line(b"GET /net/x HTTP/1.1"))
        head = FakeHead(is_encoded=True, headers=((b"content-encoding", b"br"),))
        self.world.last("a").sink.answered(head, [b"packed"])
        reply = visitor.reply
        self.assertEqual((reply.body, reply["content-encoding"]), (b"packed", "br"))

    def test_head_of_a_node_that_sends_a_body(self) -> None:
        """A node that sends a body to HEAD does not put it into the client's next answer."""
        visitor = self.make(network=OTHERS)
        visitor.send(_line(b"HEAD /net/x HTTP/1.1"))
        self.world.last("a").answer(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertTrue(visitor.take().endswith(b"\r\n\r\n"))
        visitor.send(post())
        self.world.last("a").result()
        self.assertEqual(visitor.reply.body, RESULT)


class HeaderTests(LaneTestCase):
    def test_nothing_is_forwarded(self) -> None:
        """By default no header of the client's goes to a node but what says who it is."""
        visitor = self.world_with("10.1.2.3")
        visitor.send(post(BALANCE, b"Authorization: Bearer x", b"Cookie: a=b", b"X-Key: 1", JSON_TYPE))
        self.assertEqual(self.world.last("a").headers, b"X-Forwarded-For: 10.1.2.3\r\n")

    def world_with(self, host: str, **settings: Any) -> Visitor:
        self.world = FrontWorld(**settings)
        return self.world.connect(IPv4Address("TCP", host, 1))

    def test_forward_headers(self) -> None:
        """Headers that are configured do, unless the client means them for this hop alone."""
        visitor = self.world_with("8.8.8.8", forward_headers=("X-Key", "Authorization"))
        visitor.send(post(BALANCE, b"authorization: Bearer x", b"X-Key: 1", b"Connection: x-key"))
        self.assertEqual(self.world.last("a").headers, b"authorization: Bearer x\r\nX-Forwarded-For: 8.8.8.8\r\n")

    def test_forwarded_for(self) -> None:
        """A trusted peer's X-Forwarded-For is continued, another's is dropped; the client is counted by it."""
        visitor = self.world_with("10.0.0.1", echo=True)
        visitor.send(post(BALANCE, b"X-Forwarded-For: 1.2.3.4, 5.6.7.8"))
        self.assertEqual(self.world.last("a").headers, b"X-Forwarded-For: 1.2.3.4, 5.6.7.8, 10.0.0.1\r\n")
        visitor = self.world.connect(IPv4Address("TCP", "8.8.8.8", 1))
        visitor.send(post(BALANCE, b"X-Forwarded-For: 1.2.3.4"))
        self.assertEqual(self.world.last("a").headers, b"X-Forwarded-For: 8.8.8.8\r\n")
        self.assertEqual(self.world.router.stats.by_client, {"5.6.7.8": 1, "8.8.8.8": 1})

    def test_opaque_values(self) -> None:
        """Values may have bytes above 0x7F (RFC 9110, 5.5); where they are forwarded, they go on as they came."""
        for name in (
            b"CF-Region",
            b"Cookie",
            b"Origin",
            b"X-Forwarded-For",
            b"X-Fast-Track",
            b"Connection",
            b"Content-Type",
            b"Access-Control-Request-Headers",
        ):
            visitor = self.world_with("10.0.0.1", echo=True, forward_headers=("CF-Region",))
            for value in ("Île-de-France".encode(), "café".encode("latin-1")):
                visitor.send(post(BALANCE, b"%b: %b" % (name, value)))
                reply = visitor.reply
                self.assertEqual(reply.status, 415 if name == b"Origin" else 200, name)
                if name == b"CF-Region":
                    self.assertIn(b"cf-region: %b\r\n" % value, self.world.last("a").headers)

    def test_unix_peer(self) -> None:
        """A peer on a UNIX socket has no address to tell, and may speak for others."""
        self.world = FrontWorld(echo=True)
        visitor = self.world.connect(UNIXAddress("/run/x"))
        visitor.send(post())
        self.assertEqual(self.world.last("a").headers, b"")
        visitor.send(post(BALANCE, b"X-Forwarded-For: 1.2.3.4"))
        self.assertEqual(self.world.last("a").headers, b"X-Forwarded-For: 1.2.3.4\r\n")
        self.assertEqual(self.world.router.stats.by_client, {"unix": 1, "1.2.3.4": 1})

    def test_cors_pass(self) -> None:
        """With an Origin the node's Access-Control-* come back, and only then."""
        visitor = self.make()
        headers = ((b"access-control-allow-origin", b"*"), (b"set-cookie", b"x"), (b"vary", b"Origin"))
        visitor.send(post(BALANCE, ORIGIN, JSON_TYPE))
        self.world.last("a").answer(RESULT, headers=headers)
        reply = visitor.reply
        self.assertEqual((reply["access-control-allow-origin"], reply["vary"]), ("*", "Origin"))
        self.assertNotIn("set-cookie", reply.headers)
        visitor.send(post())
        self.world.last("a").answer(RESULT, headers=headers)
        self.assertNotIn("access-control-allow-origin", visitor.reply.headers)

    def test_cors_own(self) -> None:
        """With origins configured the word is ours, for answers, errors and preflights."""
        visitor = self.make(cors=CorsConfig(origins=("https://page.example",)), echo=True)
        visitor.send(post(BALANCE, ORIGIN, JSON_TYPE))
        self.assertEqual(visitor.reply["access-control-allow-origin"], "https://page.example")
        visitor.send(post(b"nonsense", ORIGIN, JSON_TYPE))
        self.assertEqual(visitor.reply["access-control-allow-origin"], "https://page.example")
        visitor.send(_line(b"OPTIONS /net HTTP/1.1\r\n" + ORIGIN + b"\r\nAccess-Control-Request-Method: POST"))
        reply = visitor.reply
        self.assertEqual((reply.status, reply["access-control-allow-origin"]), (204, "https://page.example"))
        self.assertIn("Content-Type", reply["access-control-allow-headers"])
        self.assertEqual(len(self.world.sends), 1)
        visitor.send(_line(b"OPTIONS /net HTTP/1.1\r\nOrigin: https://other"))
        self.assertNotIn("access-control-allow-origin", visitor.reply.headers)
        visitor.send(post())
        self.assertEqual(visitor.reply.status, 200)

    def test_strange_origin(self) -> None:
        """With origins configured, a page of another one is refused, whatever it asks; one of our own is not."""
        visitor = self.make(cors=CorsConfig(origins=("https://page.example",)), echo=True)
        for data in (
            post(BALANCE, b"Origin: https://evil.example", JSON_TYPE),
            post(BALANCE, b"Origin: null", JSON_TYPE),
            _line(b"GET /net HTTP/1.1\r\nOrigin: https://evil.example"),
        ):
            visitor.send(data)
            self.assertError(visitor.reply, 403, -32600)
        visitor.send(post(BALANCE, b"Origin: http://x", JSON_TYPE))
        self.assertEqual((visitor.reply.status, len(self.world.sends)), (200, 1))

    def test_hosts(self) -> None:
        """Where names are configured, requests under another are refused, whatever they are (DNS rebinding)."""
        visitor = self.make(hosts=("rpc.example",), echo=True)
        for data in (
            post(),
            post(BALANCE, b"Origin: http://x", JSON_TYPE),
            _line(b"GET /net HTTP/1.1"),
            _line(b"GET / HTTP/1.1"),
            _line(b"OPTIONS /net HTTP/1.1\r\nOrigin: http://x"),
            _line(b"GET /net HTTP/1.1\r\nX-Forwarded-Host: rpc.example"),
        ):
            visitor.send(data)
            self.assertError(visitor.reply, 403, -32600)
        self.assertEqual(self.world.sends, "")
        for host in (b"rpc.example", b"RPC.example:8080", b"192.0.2.7:8080"):
            visitor.send(post().replace(b"Host: x", b"Host: " + host))
            self.assertEqual(visitor.reply.status, 200, host)

    def preflight(self, visitor: Visitor, *lines: bytes, origin: bytes = ORIGIN) -> None:
        visitor.send(_line(b"\r\n".join((b"OPTIONS /net HTTP/1.1", origin, PREFLIGHT, *lines))))

    def test_preflight_pass(self) -> None:
        """By default a node is asked about a preflight; only what it says of pages comes back."""
        visitor = self.make()
        self.preflight(visitor)
        sent = self.world.last("a")
        self.assertIn(b"origin: https://page.example\r\naccess-control-request-method: POST\r\n", sent.headers)
        age = (b"access-control-max-age", b"9")
        sent.answer(b"/v3/KEY is not there", 200, (ALLOW, age, (b"server", b"/v3/KEY")))
        reply = visitor.reply
        self.assertEqual((reply.status, reply.body, reply["access-control-max-age"]), (204, b"", "9"))
        self.assertNotIn("server", reply.headers)
        self.assertEqual(self.world.sends, "a")
        self.world.check_idle(self)

    def test_preflight_again(self) -> None:
        """For a minute a preflight is answered here; then a node is asked, and the last word holds if none answers."""
        visitor = self.make("a", network={"rpc_retries": 0})
        self.preflight(visitor)
        self.world.last("a").answer(b"", 204, (ALLOW,))
        visitor.take()
        for seconds, sends in ((59, "a"), (2, "aa")):
            self.world.clock.advance(seconds)
            self.preflight(visitor)
            self.assertEqual(self.world.sends, sends)
            if sends == "aa":
                self.world.last("a").fail()
            reply = visitor.reply
            self.assertEqual((reply.status, reply["access-control-allow-origin"]), (204, "https://page.example"))

    def test_preflight_of_its_own(self) -> None:
        """Another network, page, method or header is another preflight."""
        visitor = self.make()
        self.preflight(visitor)
        self.world.last("a").answer(b"", 204, (ALLOW,))
        visitor.take()
        for lines, origin in (
            ((b"Access-Control-Request-Headers: x",), ORIGIN),
            ((), b"Origin: https://other.example"),
        ):
            self.preflight(visitor, *lines, origin=origin)
            self.world.last("a").answer(b"", 403)
            reply = visitor.reply
            self.assertEqual((reply.status, reply.headers.get("access-control-allow-origin")), (204, None))
        self.assertEqual(self.world.sends, "aaa")

    def test_preflight_without_an_answer(self) -> None:
        """Where no node answers, and none ever did, nothing is allowed; a body without end is dropped."""
        visitor = self.make("a", network={"rpc_retries": 0})
        self.preflight(visitor)
        self.world.last("a").fail()
        reply = visitor.reply
        self.assertEqual((reply.status, reply.headers.get("access-control-allow-origin")), (502, None))
        self.preflight(visitor)
        sink = self.world.last("a").sink
        sink.began(FakeHead(status=200, headers=(ALLOW,)), [b"x" * 300_000])
        sink.streamed(b"x" * 100_000)
        self.assertEqual(visitor.take(), b"")
        sink.ended()
        self.assertEqual((visitor.reply.status, visitor.state), (204, "open"))
        self.preflight(visitor, b"X: 1", origin=b"Origin: https://third.example")
        visitor.lose()
        self.assertNothingLeft()

    def test_what_nodes_allowed(self) -> None:
        """A refusal of ours repeats what a node last allowed this page, so that the page can read it."""
        visitor = self.make()
        visitor.send(post(b"not JSON", ORIGIN, JSON_TYPE))
        self.assertNotIn("access-control-allow-origin", visitor.reply.headers)
        visitor.send(post(BALANCE, ORIGIN, JSON_TYPE))
        self.world.last("a").answer(RESULT, headers=(ALLOW, (b"access-control-expose-headers", b"x-y")))
        visitor.take()
        visitor.send(post(b"not JSON", ORIGIN, JSON_TYPE))
        reply = visitor.reply
        self.assertError(reply, 400, -32700)
        names = ("access-control-allow-origin", "access-control-expose-headers", "vary")
        self.assertEqual([reply[name] for name in names], ["https://page.example", "x-y", "Origin"])
        for other in (
            post(b"not JSON", b"Origin: https://other.example", JSON_TYPE),
            post(b"not JSON", ORIGIN, path=b"/x"),
        ):
            visitor.send(other)
            self.assertNotIn("access-control-allow-origin", visitor.reply.headers)

    def test_what_no_node_allowed(self) -> None:
        """A node that denies a page takes back what was allowed; a flood of pages makes nothing grow."""
        visitor = self.make(echo=False)
        visitor.send(post(BALANCE, ORIGIN, JSON_TYPE))
        self.world.last("a").answer(RESULT, headers=(ALLOW,))
        visitor.take()
        self.preflight(visitor)
        self.world.last("a").answer(b"", 200)
        visitor.take()
        visitor.send(post(b"not JSON", ORIGIN, JSON_TYPE))
        self.assertNotIn("access-control-allow-origin", visitor.reply.headers)
        cors: Any = self.world.front.cors
        for number in range(3 * MAX_REMEMBERED):
            self.preflight(visitor, origin=b"Origin: https://%d.example" % number)
            self.world.last("a").answer(
                b"", 204, (ALLOW, (b"access-control-allow-headers", b"x" * 9 * (number % 1000)))
            )
            self.assertEqual(visitor.reply.status, 204)
        self.assertLessEqual(max(len(cors._answers), len(cors._preflights)), MAX_REMEMBERED)
        self.assertLess(sum(len(word.lines) for word in cors._preflights.values()), MAX_REMEMBERED * MAX_WORD_BYTES)

    def test_content_type(self) -> None:
        """A Content-Type other than JSON, or none, is fine from a program, and 415 from a browser page."""
        visitor = self.make(echo=True)
        for kind in ((b"Content-Type: text/plain",), (), (b"Content-Type: application/x-www-form-urlencoded",)):
            visitor.send(post(BALANCE, *kind))
            self.assertEqual(visitor.reply.status, 200)
            visitor.send(post(BALANCE, ORIGIN, *kind))
            self.assertError(visitor.reply, 415, -32600)
        visitor.send(post(BALANCE, ORIGIN, b"content-type: Application/JSON; charset=utf-8"))
        self.assertEqual(visitor.reply.status, 200)


class LimitTests(LaneTestCase):
    def test_head(self) -> None:
        """A head beyond its limit is 431, whole or without end."""
        for data in (b"POST /net HTTP/1.1\r\nX: " + b"x" * 2000, post(BALANCE, b"X: " + b"x" * 2000)):
            visitor = self.limited(max_header_bytes=1000)
            visitor.send(data)
            self.assertError(visitor.reply, 431, -32600)
            visitor = self.limited(max_header_bytes=1000)
            for at in range(0, len(data), 10):
                visitor.send(data[at : at + 10])
            self.assertError(visitor.reply, 431, -32600)

    def test_body(self) -> None:
        """A body of just the limit passes, one byte more is 413, by length, in chunks or in one piece."""
        body = BALANCE + b" " * (200 - len(BALANCE))
        for make in (post, chunked):
            visitor = self.limited(max_body_bytes=200)
            visitor.send(make(body))
            self.assertEqual(self.world.last("a").body, body)
            visitor = self.limited(max_body_bytes=200)
            visitor.send(make(body + b" "))
            self.assertError(visitor.reply, 413, -32600)
            self.assertEqual(self.world.sends, "")

    def test_head_seen_before(self) -> None:
        """Nor does a body pass whose head is known from a connection with another limit."""
        self.limited().send(post(b" " * 300))
        visitor = self.limited(max_body_bytes=200)
        visitor.send(post(b" " * 300))
        self.assertError(visitor.reply, 413, -32600)

    def test_in_one_read(self) -> None:
        """A body that comes in one read counts in the memory for bodies as any other, until it is answered."""
        body = BALANCE + b" " * 50_000
        first = self.limited(max_request_memory_bytes=150_000)
        second, third = self.world.connect(), self.world.connect()
        first.send(post(body))
        second.send(post(body))
        self.assertEqual((self.world.sends, self.world.front.memory.left), ("aa", 150_000 - 2 * len(body)))
        third.send(post(body))
        self.assertError(third.reply, 503, -32011)
        self.world.last("a").result()
        self.assertEqual(self.world.front.memory.left, 150_000 - len(body))
        first.lose()
        self.assertEqual(self.world.front.memory.left, 150_000)
        second.send(post(body))
        self.world.last("a").result()
        self.assertEqual(len(second.replies()), 2)

    def test_small_chunks(self) -> None:
        """Thousands of chunks that hold next to nothing are refused."""
        visitor = self.limited()
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        visitor.send(b"2\r\nxy\r\n" * 5000)
        self.assertError(visitor.reply, 400, -32600)

    def test_endless_chunks(self) -> None:
        """A chunked body without end is stopped at the limit."""
        visitor = self.limited(max_body_bytes=1000)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(60):
            visitor.send(b"14\r\n" + b"x" * 20 + b"\r\n")
        self.assertError(visitor.reply, 413, -32600)

    def test_client_still_sends(self) -> None:
        """A client that is refused while it still sends gets to read why: we end our side, and drop the rest."""
        visitor = self.limited(max_body_bytes=1000)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 500)
        self.assertEqual((visitor.reply.status, visitor.state), (413, "half"))
        for _ in range(100):
            visitor.send(b"x" * 500)
        self.assertEqual(visitor.state, "half")
        visitor.fin()
        self.assertEqual(visitor.state, "closed")

    def test_client_sends_for_ever(self) -> None:
        """But not for ever."""
        visitor = self.limited(max_body_bytes=1000)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        self.world.sweep(9)
        self.assertEqual(visitor.state, "half")
        self.world.sweep(3)
        self.assertEqual(visitor.state, "aborted")

    def test_memory(self) -> None:
        """Large bodies share a budget: beyond it 503, and it comes back with the answer."""
        visitor = self.limited(max_request_memory_bytes=200_000)
        body = BALANCE + b" " * 150_000
        head, rest = post(body)[:-100_000], post(body)[-100_000:]
        visitor.send(head)
        visitor.send(rest)
        self.assertEqual(self.world.front.memory.left, 200_000 - len(body))
        second = self.world.connect()
        second.send(head)
        second.send(rest)
        reply = second.reply
        self.assertError(reply, 503, -32011)
        self.assertEqual(reply["retry-after"], "1")
        self.world.last("a").result()
        self.assertEqual(visitor.reply.status, 200)
        self.assertEqual(self.world.front.memory.left, 200_000)

    def test_share_of_memory(self) -> None:
        """One client gets no more than half of it, over all its connections: others' bodies are still taken."""
        self.make(limits=LimitsConfig(max_request_memory_bytes=1_000_000, max_body_bytes=450_000))
        head = b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
        greedy = [self.world.connect(IPv4Address("TCP", "192.0.2.66", 1)) for _ in range(10)]
        for visitor in greedy:
            visitor.send(head)
            visitor.send(b" " * 99_000)
        self.assertEqual(sum(visitor.state == "open" for visitor in greedy), 5)
        self.assertError(next(visitor for visitor in greedy if visitor.state != "open").reply, 503, -32011)
        modest = self.world.connect(IPv4Address("TCP", "192.0.2.1", 1))
        modest.send(post(BALANCE + b" " * 150_000)[:100_000])
        modest.send(post(BALANCE + b" " * 150_000)[100_000:])
        self.world.last("a").result()
        self.assertEqual(modest.reply.status, 200)

    def test_memory_behind_a_proxy(self) -> None:
        """Behind a trusted proxy the share is that of the client which it names."""
        self.make(limits=LimitsConfig(max_request_memory_bytes=1_000_000, max_body_bytes=450_000))
        lines = b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 450000\r\nX-Forwarded-For: 198.51.100.%d\r\n\r\n"
        for number, state in ((1, "open"), (1, "half"), (2, "open")):
            visitor = self.world.connect(IPv4Address("TCP", "10.0.0.1", 1))
            visitor.send(lines % number)
            for _ in range(3):
                if visitor.state == "open":
                    visitor.send(b" " * 100_000)
            self.assertEqual(visitor.state, state)

    def test_memory_is_not_claimed(self) -> None:
        """A length that is only announced takes nothing from others."""
        visitor = self.limited(max_request_memory_bytes=200_000)
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nContent-Length: 190000\r\n\r\n")
        self.assertEqual(self.world.front.memory.left, 200_000)

    def test_memory_of_pipelined_requests(self) -> None:
        """What a request holds is given back with its own answer, also when the next came meanwhile."""
        visitor = self.limited()
        body = BALANCE + b" " * 100_000
        whole = post(b'{"method":"engine_x"}') + chunked(body, size=50_000) + post(body)
        for at in range(0, len(whole), 30_000):
            visitor.send(whole[at : at + 30_000])
        left = self.world.front.memory.left
        self.assertEqual(left, self.world.front.limits.max_request_memory_bytes - len(body))
        self.world.last("a").result()
        self.world.last("a").result()
        self.assertEqual(len(visitor.replies()), 3)
        visitor.lose()
        self.assertNothingLeft()

    def test_memory_of_the_gone(self) -> None:
        """A client that goes gives its memory back."""
        for sent in (100_000, 150_000):
            visitor = self.limited()
            visitor.send(post(BALANCE + b" " * 120_000)[:sent])
            visitor.send(b"")
            visitor.lose()
            self.assertNothingLeft()


class TimeTests(LaneTestCase):
    def test_slow_request(self) -> None:
        """A request that takes too long to arrive is 408, however it trickles."""
        for request in (post(), chunked(BALANCE)):
            visitor = self.limited(request_read_timeout_seconds=30.0)
            for at in range(29):
                visitor.send(request[at : at + 1])
                self.world.sweep(1)
            self.assertEqual(visitor.take(), b"")
            self.world.sweep(2)
            self.assertEqual(visitor.reply.status, 408)
            self.assertNotEqual(visitor.state, "open")

    def test_slow_body(self) -> None:
        """So is a body that stops."""
        visitor = self.make()
        visitor.send(post()[:-5])
        self.world.sweep(32)
        self.assertEqual(visitor.reply.status, 408)

    def test_slow_second_request(self) -> None:
        """The time of each request counts from its own first byte, not from the last answer."""
        visitor = self.make(echo=True)
        visitor.send(post())
        visitor.take()
        self.world.sweep(60)
        visitor.send(post()[:20])
        self.world.sweep(25)
        self.assertEqual((visitor.take(), visitor.state), (b"", "open"))
        visitor.send(post()[20:])
        self.assertEqual(visitor.reply.status, 200)
        visitor.send(post()[:20])
        self.world.sweep(32)
        self.assertEqual(visitor.reply.status, 408)

    def test_idle(self) -> None:
        """An idle connection is closed after 75 s."""
        visitor = self.make(echo=True)
        visitor.send(post())
        visitor.take()
        self.world.sweep(74)
        self.assertEqual(visitor.state, "open")
        self.world.sweep(2)
        self.assertEqual((visitor.take(), visitor.state), (b"", "closed"))

    def test_never_a_word(self) -> None:
        """So is one that never sent anything, or only empty lines."""
        visitor = self.make()
        for _ in range(38):
            visitor.send(b"\r\n")
            self.world.sweep(2)
        self.assertEqual(visitor.state, "closed")

    def test_idle_counts_from_the_answer(self) -> None:
        """A connection whose answer took long is not idle for it."""
        visitor = self.make()
        visitor.send(post(BALANCE.replace(b"eth_getBalance", b"eth_getLogs")))
        self.world.sweep(100)
        self.world.last("a").result()
        self.world.sweep(70)
        self.assertEqual((visitor.reply.status, visitor.state), (200, "open"))
        self.world.sweep(8)
        self.assertEqual(visitor.state, "closed")

    def test_waiting_client(self) -> None:
        """A client that waits for its answer is never idle."""
        visitor = self.make()
        visitor.send(post(BALANCE.replace(b"eth_getBalance", b"eth_getLogs")))
        self.world.sweep(200)
        self.assertEqual((visitor.take(), visitor.state), (b"", "open"))

    def test_does_not_close(self) -> None:
        """A client that does not notice that we closed is cut off after a while."""
        visitor = self.make(echo=True)
        visitor.send(post(BALANCE, b"Connection: close"))
        self.world.sweep(12)
        self.assertEqual(visitor.state, "aborted")


class BackpressureTests(LaneTestCase):
    BEGINNING = b'{"jsonrpc":"2.0","id":1,"result":"'

    def stuffed(self, data: bytes = b"", **settings: Any) -> Visitor:
        self.world = FrontWorld(**settings)
        visitor = self.world.connect(room=1000)
        visitor.send(data or post())
        return visitor

    def test_pauses_the_upstream(self) -> None:
        """While the client does not read, the node's answer is not read either."""
        visitor = self.stuffed()
        sent = self.world.last("a")
        sent.begin(self.BEGINNING, length=5000)
        sent.sink.streamed(b"x" * 2000)
        visitor.transport.read()
        sent.sink.streamed(b"x" * 10)
        self.assertEqual([what for _, what in self.world.events], ["send", "pause", "resume"])

    def test_pauses_at_the_beginning(self) -> None:
        """So it is when the beginning alone is too much."""
        self.stuffed()
        self.world.last("a").begin(self.BEGINNING, b"x" * 5000)
        self.assertEqual([what for _, what in self.world.events], ["send", "pause"])

    def test_requests_wait_for_reading(self) -> None:
        """A client that does not read its answers gets no further ones, whatever it asks."""
        visitor = self.stuffed()
        for _ in range(100):
            visitor.send(post())
        self.world.last("a").result(b'"' + b"x" * 5000 + b'"')
        for _ in range(100):
            visitor.send(post())
        self.assertEqual((self.world.sends, visitor.transport.reading), ("a", False))
        visitor.transport.read()
        self.assertEqual((self.world.sends, visitor.transport.reading), ("aa", True))

    def test_idle_client_does_not_read(self) -> None:
        """Also when the next request comes later, in one piece."""
        visitor = self.stuffed()
        self.world.last("a").result(b'"' + b"x" * 5000 + b'"')
        visitor.send(post())
        self.assertEqual(self.world.sends, "a")
        visitor.transport.read()
        self.assertEqual(self.world.sends, "aa")

    def test_never_reads(self) -> None:
        """One that reads nothing for 75 s is cut off."""
        visitor = self.stuffed()
        self.world.last("a").result(b'"' + b"x" * 5000 + b'"')
        self.world.sweep(74)
        self.assertEqual(visitor.state, "open")
        self.world.sweep(3)
        self.assertEqual(visitor.state, "aborted")

    def test_fin_while_stuffed(self) -> None:
        """A FIN that comes with the rest of the requests waits with them."""
        visitor = self.stuffed(post() * 2)
        visitor.fin()
        self.world.last("a").result(b'"' + b"x" * 5000 + b'"')
        self.assertEqual((self.world.sends, visitor.state), ("a", "open"))
        visitor.transport.read()
        self.assertEqual(self.world.sends, "aa")
        self.world.last("a").result()
        self.assertEqual((len(visitor.replies()), visitor.state), (2, "closed"))


class StreamTests(LaneTestCase):
    BEGINNING = b'{"jsonrpc":"2.0","id":1,"result":["'
    REST = (b"x" * 10, b"", b'"]}')

    def stream(self, request: bytes, length: int = -1) -> Visitor:
        visitor = self.make()
        visitor.send(request)
        sent = self.world.last("a")
        sent.begin(self.BEGINNING, length=length)
        for part in self.REST:
            sent.sink.streamed(part)
        sent.sink.ended()
        return visitor

    def test_chunked(self) -> None:
        """An answer of unknown length goes to HTTP/1.1 in chunks, and no piece ends it early."""
        visitor = self.stream(post())
        reply = visitor.reply
        self.assertEqual((reply.body, reply["transfer-encoding"]), (self.BEGINNING + b"".join(self.REST), "chunked"))
        self.assertEqual(visitor.state, "open")

    def test_known_length(self) -> None:
        """One of known length has it."""
        length = len(self.BEGINNING + b"".join(self.REST))
        visitor = self.stream(post(), length)
        self.assertEqual(visitor.reply["content-length"], str(length))

    def test_http_10(self) -> None:
        """HTTP/1.0 gets it until the close, also when it asked to stay."""
        visitor = self.stream(post(BALANCE, b"Connection: keep-alive", version=b"HTTP/1.0"))
        reply = visitor.reply
        self.assertEqual((reply.body, reply["connection"]), (self.BEGINNING + b"".join(self.REST), "close"))
        self.assertEqual(visitor.state, "closed")

    def test_next_request(self) -> None:
        """A pipelined request waits for the end of the stream."""
        visitor = self.make()
        visitor.send(post() * 2)
        sent = self.world.last("a")
        sent.begin(self.BEGINNING)
        self.assertEqual(self.world.sends, "a")
        sent.sink.streamed(b'"]}')
        sent.sink.ended()
        self.assertEqual(self.world.sends, "aa")
        self.world.last("a").result()
        self.assertEqual(len(visitor.replies()), 2)

    def test_held_in_parts(self) -> None:
        """An answer that was held in parts is written whole."""
        visitor = self.make()
        visitor.send(post())
        sink = self.world.last("a").sink
        sink.answered(FakeHead(), [RESULT[:10], RESULT[10:]])
        self.assertEqual(visitor.reply.body, RESULT)

    def test_large(self) -> None:
        """A large answer in one part as well."""
        visitor = self.make()
        visitor.send(post())
        big = b'"' + b"x" * 200_000 + b'"'
        self.world.last("a").result(big)
        self.assertIn(big, visitor.reply.body)


class DrainTests(LaneTestCase):
    def test_drain(self) -> None:
        """Idle connections close at once, others with their next answer, and then the drain is done."""
        idle = self.make()
        busy = self.world.connect()
        half = self.world.connect()
        busy.send(post())
        half.send(post()[:30])
        drained = self.world.front.drain()
        self.assertEqual((idle.state, busy.state, half.state), ("closed", "open", "open"))
        self.world.last("a").result()
        self.assertEqual((busy.reply["connection"], busy.state), ("close", "closed"))
        half.send(post()[30:])
        self.world.last("a").result()
        self.assertEqual((half.reply["connection"], half.state), ("close", "closed"))
        self.assertNoResult(drained)
        for visitor in (idle, busy, half):
            visitor.lose()
        self.successResultOf(drained)
        self.assertNothingLeft()

    def test_drain_of_nothing(self) -> None:
        """With no connections it is done at once."""
        self.make().lose()
        self.successResultOf(self.world.front.drain())

    def test_abort(self) -> None:
        """What does not end in time is cut off, and a cancelled drain says so."""
        visitor = self.make()
        visitor.send(post())
        drained = self.world.front.drain()
        drained.cancel()
        self.failureResultOf(drained)
        self.world.front.abort()
        self.assertEqual(visitor.state, "aborted")
        visitor.lose()
        self.assertNothingLeft()

    def test_pipelined(self) -> None:
        """A connection that closes answers no request behind the one that it closes with."""
        visitor = self.make()
        visitor.send(post() * 3)
        self.world.front.closes_connections = True
        self.world.last("a").result()
        self.assertEqual((len(visitor.replies()), visitor.state, self.world.sends), (1, "closed", "a"))


FRAGMENTS = st.sampled_from(
    (
        b"POST /net HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"HEAD /net ",
        b"HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        ORIGIN + b"\r\n",
        b"X: " + b"y" * 300,
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"5\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b'{"id":1,"method":"eth_chainId"}',
        b"[[[[",
        b"\xff\xfe",
        post(),
        chunked(BALANCE),
    )
)


class FuzzTests(LaneTestCase):
    def test_anything(self) -> None:
        """Whatever bytes come, nothing is raised, each whole request has one end, and nothing stays behind."""

        @settings(max_examples=400, deadline=None)
        @given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=40)), max_size=25), st.integers(0, 5), st.booleans())
        def check(pieces: list[bytes], answered: int, fin: bool) -> None:
            limits = LimitsConfig(max_body_bytes=200, max_header_bytes=500)
            self.world = FrontWorld("a", limits=limits)
            visitor = self.world.connect(room=2000)
            for piece in pieces:
                visitor.send(piece)
            if fin:
                visitor.fin()
            for _ in range(answered):
                if self.world.deadlines.watched:
                    self.world.last("a").result()
            if not self.world.deadlines.watched and visitor.state == "open":
                # nothing is owed: the connection waits for more, and says so in time
                self.world.sweep(120)
                visitor.transport.read()
                self.assertNotEqual(visitor.state, "open", visitor.take())
            visitor.lose()
            self.assertNothingLeft()

        run_property(check)

    def test_tiny_chunks(self) -> None:
        """A body of very many very small chunks takes no more memory than its bytes."""
        visitor = self.make()
        visitor.send(b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            visitor.send(b"10\r\n%b\r\n" % (b"x" * 16) * 2000)
        self.assertIsInstance(visitor.lane._reader._body, bytearray)
        self.assertEqual(len(visitor.lane._reader._body), 640_000)
