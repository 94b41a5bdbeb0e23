"""Demo nodes in memory: the protocol, and each fault as a client sees it."""

import gzip
from typing import Any

import httptools
import orjson
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from evmlb.demo.faults import Kind, fault
from tests.support import FakeConnection, FakeNode

CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x14"}\n'


class Reply:
    """A response as httptools reads it."""

    def __init__(self, data: bytes) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


def reply_with(wrong: str) -> tuple[Reply, FakeConnection]:
    connection = FakeNode(fault=wrong).connect()
    return Reply(connection.post(CALL)), connection


def asked(fake: FakeNode, method: str, *params: Any) -> Any:
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return orjson.loads(Reply(fake.connect().post(body)).body).get("result")


class ProtocolTests(SynchronousTestCase):
    def test_healthy(self) -> None:
        """A healthy node answers with JSON and keeps the connection."""
        reply, connection = reply_with("healthy")
        self.assertEqual((reply.status, reply.body, connection.state), (200, ANSWER, "open"))
        self.assertEqual(reply.headers["content-type"], "application/json")

    def test_in_pieces(self) -> None:
        """A request that comes byte by byte is answered once it is whole."""
        connection = FakeNode().connect()
        for byte in b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n%b" % (len(CALL), CALL):
            self.assertEqual(connection.read(), b"")
            connection.write(bytes([byte]))
        self.assertEqual(Reply(connection.read()).body, ANSWER)

    def test_pipelined(self) -> None:
        """Pipelined requests are answered in order."""
        connection = FakeNode().connect()
        calls = [CALL.replace(b'"id":1', b'"id":%d' % n) for n in (5, 6)]
        request = b"".join(b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n%b" % (len(c), c) for c in calls)
        connection.write(request)
        data = connection.read()
        self.assertTrue(0 < data.index(b'"id":5') < data.index(b'"id":6'))

    def test_connection_close(self) -> None:
        """A client that wants no more is answered and the connection closed."""
        connection = FakeNode().connect()
        reply = Reply(connection.post(CALL, b"Connection: close\r\n"))
        self.assertEqual((reply.headers["connection"], connection.state), ("close", "closed"))

    def test_no_http(self) -> None:
        """What is no HTTP is answered 400 and the connection closed."""
        connection = FakeNode().connect()
        connection.write(b"HELO there\r\n\r\n")
        self.assertEqual(Reply(connection.read()).status, 400)
        self.assertEqual(connection.state, "closed")

    def test_expect(self) -> None:
        """A client that asks first is told to go on."""
        connection = FakeNode().connect()
        connection.write(b"POST / HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(connection.read(), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_requests_are_remembered(self) -> None:
        """The node remembers what it got: target, headers, body."""
        fake = FakeNode()
        fake.connect().write(b"POST /v3/key?q=1 HTTP/1.1\r\nHost: n\r\nX-Any: y\r\nContent-Length: 2\r\n\r\n{}")
        [request] = fake.node.requests
        self.assertEqual((request.target, request.header("x-any"), request.body), ("/v3/key?q=1", "y", b"{}"))

    def test_exporter_page(self) -> None:
        """The node-exporter page can be parsed, holds the load among much else, and is not counted as a request."""
        fake = FakeNode(fault="hang")
        connection = fake.connect()
        connection.write(b"GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n")
        page = Reply(connection.read()).body.decode()
        values = {s.name: s.value for f in text_string_to_metric_families(page) for s in f.samples}
        self.assertEqual([values[f"node_load{n}"] for n in (1, 5, 15)], [0.5] * 3)
        self.assertGreater(page.count("\n"), 200)
        self.assertEqual(fake.node.request_count, 0)


class BeliefTests(SynchronousTestCase):
    def test_lag(self) -> None:
        """A node that lags says so in all its answers."""
        fake = FakeNode(fault="lag 4")
        self.assertEqual(asked(fake, "eth_blockNumber"), "0x10")
        self.assertEqual(asked(fake, "eth_getBlockByNumber", "latest", False)["number"], "0x10")

    def test_frozen(self) -> None:
        """A frozen node stands still while the chain goes on, and knows it again when healed."""
        fake = FakeNode()
        fake.become("frozen")
        fake.chain.mine_many(3, 0)
        self.assertEqual(asked(fake, "eth_blockNumber"), "0x14")
        fake.become("healthy")
        self.assertEqual(asked(fake, "eth_blockNumber"), "0x17")

    def test_wrong_chain(self) -> None:
        """A node on another chain tells another id, both ways."""
        fake = FakeNode(fault="wrong-chain")
        self.assertEqual((asked(fake, "eth_chainId"), asked(fake, "net_version")), ("0x53a", "1338"))

    def test_syncing(self) -> None:
        """A node that syncs says so, and no longer once healed."""
        fake = FakeNode(fault="syncing 16")
        self.assertEqual(asked(fake, "eth_syncing")["highestBlock"], "0x24")
        fake.become("healthy")
        self.assertIs(asked(fake, "eth_syncing"), False)

    def test_lying_head(self) -> None:
        """A lying node claims a head for which it has no block."""
        fake = FakeNode(fault="lying-head 100")
        head = asked(fake, "eth_blockNumber")
        self.assertEqual(head, hex(120))
        self.assertIsNone(asked(fake, "eth_getBlockByNumber", head, False))

    def test_internal_error(self) -> None:
        """Every call ends in -32603, with status 200 and the id of the call."""
        reply, _ = reply_with("internal-error")
        answer = orjson.loads(reply.body)
        self.assertEqual((reply.status, answer["id"], answer["error"]["code"]), (200, 1, -32603))


class DeliveryTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """The given status is answered; a rate limit says when to come back."""
        self.assertEqual([reply_with(f"status {n}")[0].status for n in (500, 502, 503, 401)], [500, 502, 503, 401])
        reply, _ = reply_with("rate-limit 7")
        self.assertEqual((reply.status, reply.headers["retry-after"]), (429, "7"))

    def test_hang(self) -> None:
        """A node that hangs takes the request and says nothing, ever."""
        fake = FakeNode(fault="hang")
        connection = fake.connect()
        self.assertEqual(connection.post(CALL), b"")
        fake.clock.advance(3600)
        self.assertEqual((connection.read(), connection.state, fake.node.request_count), (b"", "open", 1))

    def test_slow(self) -> None:
        """A slow node answers after its time, not before."""
        fake = FakeNode(fault="slow 250")
        connection = fake.connect()
        self.assertEqual(connection.post(CALL), b"")
        fake.clock.advance(0.24)
        self.assertEqual(connection.read(), b"")
        fake.clock.advance(0.02)
        self.assertEqual(Reply(connection.read()).body, ANSWER)

    def test_not_json(self) -> None:
        """A page and garbage come with status 200 and are no JSON."""
        for wrong in ("html", "garbage"):
            reply, connection = reply_with(wrong)
            self.assertEqual((reply.status, reply.is_complete, connection.state), (200, True, "open"))
            self.assertRaises(ValueError, orjson.loads, reply.body)

    def test_not_http(self) -> None:
        """Bytes that are no HTTP come, then the end."""
        connection = FakeNode(fault="not-http").connect()
        self.assertRaises(httptools.HttpParserError, Reply, connection.post(CALL))
        self.assertEqual(connection.state, "closed")

    def test_truncated(self) -> None:
        """A truncated answer ends before its announced length."""
        reply, connection = reply_with("truncate")
        self.assertFalse(reply.is_complete)
        self.assertEqual((reply.body, connection.state), (ANSWER[: len(ANSWER) // 2], "closed"))

    def test_wrong_length(self) -> None:
        """A wrong length leaves bytes behind the end."""
        data = FakeNode(fault="wrong-length 3").connect().post(CALL)
        head, _, body = data.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d" % (len(ANSWER) - 3), head)
        self.assertEqual(body, ANSWER)

    def test_close_and_reset(self) -> None:
        """The connection ends instead of an answer, properly or not."""
        for wrong, state in (("close", "closed"), ("reset", "reset")):
            connection = FakeNode(fault=wrong).connect()
            self.assertEqual((connection.post(CALL), connection.state), (b"", state))

    def test_chunked(self) -> None:
        """A chunked answer is a proper one."""
        reply, connection = reply_with("chunked 5")
        self.assertEqual((reply.is_complete, reply.body, connection.state), (True, ANSWER, "open"))

    def test_gzip(self) -> None:
        """A compressed answer is announced as such."""
        reply, _ = reply_with("gzip")
        self.assertEqual((reply.headers["content-encoding"], gzip.decompress(reply.body)), ("gzip", ANSWER))

    def test_redirect(self) -> None:
        """A redirect names another place."""
        reply, _ = reply_with("redirect")
        self.assertEqual(reply.status, 302)
        self.assertIn("location", reply.headers)

    def test_endless_headers(self) -> None:
        """Headers come for as long as one listens, and stop when one does not."""
        fake = FakeNode(fault="endless-headers")
        connection = fake.connect()
        connection.post(CALL)
        for _ in range(100):
            fake.clock.advance(0.002)
        data = connection.read()
        self.assertGreater(len(data), 100_000)
        self.assertNotIn(b"\r\n\r\n", data)
        connection.protocol.connectionLost()
        self.assertEqual(fake.clock.getDelayedCalls(), [])

    def test_drip(self) -> None:
        """A dripped answer comes a byte at a time, and whole in the end."""
        fake = FakeNode(fault="drip 10")
        connection = fake.connect()
        data = connection.post(CALL)
        for _ in range(400):
            fake.clock.advance(0.01)
            piece = connection.read()
            self.assertLessEqual(len(piece), 1)
            data += piece
        self.assertEqual(Reply(data).body, ANSWER)

    def test_refuse(self) -> None:
        """A node that refuses ends the connections it has, and forgets its filters."""
        fake = FakeNode()
        key = asked(fake, "eth_newBlockFilter")
        connection = fake.connect()
        fake.become("refuse")
        self.assertEqual(connection.state, "reset")
        fake.become("healthy")
        self.assertIsNone(asked(fake, "eth_getFilterChanges", key))

    def test_every_kind_leaves_nothing(self) -> None:
        """Whatever the fault, a client that goes away leaves no timer and no connection behind."""
        for kind in Kind:
            fake = FakeNode()
            connection = fake.connect()
            fake.node.fault = fault(kind.value)
            connection.post(CALL)
            connection.protocol.connectionLost()
            self.assertEqual(fake.clock.getDelayedCalls(), [], kind)
            self.assertEqual(fake.node.connections, set(), kind)
