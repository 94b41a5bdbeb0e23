"""From HTTP to WebSocket: who is let in, where, and what becomes of the rest."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.bridge import Bridge
from evmlb.config.schema import CorsConfig, PriorityQueueConfig, WebSocketMode
from evmlb.policy.pages import Hosts
from evmlb.wire.transport import NativeTransport, change_protocol
from tests.bridge.support import NONCE, UPGRADE, BridgeWorld, Guest, call, frame, request
from tests.front.support import post, read_replies
from tests.support import config, run_property


class Handshake(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = BridgeWorld()

    def refused(self, guest: Guest) -> tuple[int, int, str]:
        """Status, code and words of the one answer that came."""
        [reply] = read_replies(guest.take())
        self.assertEqual((reply["Content-Type"], reply["Connection"]), ("application/json", "close"))
        answer = orjson.loads(reply.body)
        self.assertIsNone(answer["id"])
        return reply.status, answer["error"]["code"], answer["error"]["message"]

    def asked(self, data: bytes) -> tuple[int, int, str]:
        guest = self.world.visit()
        guest.send(data)
        said = self.refused(guest)
        self.assertIn(guest.state, ("closed", "half"))
        return said

    def test_accepted(self) -> None:
        """The answer is RFC 6455's, 1.3, by the path of the network with and without /ws."""
        for path in (b"/net", b"/net/", b"/net/ws", b"/net/ws/", b"//net/./ws", b"/net?key=1"):
            guest = self.world.visit()
            guest.send(request(path=path))
            head = guest.take()
            self.assertEqual(head.split(b"\r\n")[0], b"HTTP/1.1 101 Switching Protocols", path)
            self.assertIn(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", head)
            self.assertNotIn(b"Sec-WebSocket-Protocol", head)
        stats = self.world.bridge.stats
        self.assertEqual((stats.open, stats.accepted, stats.rejected), (6, 6, 0))

    def test_opaque_values(self) -> None:
        """Bytes above 0x7F in the value of a header say nothing against a handshake (RFC 9110, 5.5)."""
        for name in (b"CF-Region", b"Cookie", b"User-Agent", b"X-Forwarded-For"):
            for value in ("Île-de-France".encode(), "café".encode("latin-1")):
                guest = self.world.visit()
                guest.send(request(b"%b: %b" % (name, value)))
                self.assertEqual(guest.take().split(b"\r\n")[0], b"HTTP/1.1 101 Switching Protocols", name)

    def test_in_pieces(self) -> None:
        """The request may come byte by byte, and messages right behind it, also the beginning of one."""
        message = frame(call())
        for data in (request() + message, request() + message + message[:7]):
            for size in (1, 50, len(data)):
                guest = self.world.visit()
                for start in range(0, len(data), size):
                    guest.send(data[start : start + size])
                self.world.spies["a"].last.result()
                self.assertIn(b"\r\n\r\n\x81", guest.take())

    def test_after_http(self) -> None:
        """A kept connection may change, once its requests are answered."""
        guest = self.world.visit()
        guest.send(post() + request() + frame(call(call_id=b"2")))
        self.assertEqual(guest.take(), b"")
        self.world.spies["a"].last.result()
        self.assertIn(b"HTTP/1.1 101 ", guest.take())
        self.world.spies["a"].last.result(b"7", b"2")
        self.assertEqual(guest.answers(), [{"jsonrpc": "2.0", "id": 2, "result": 7}])

    def test_subprotocols_and_extensions(self) -> None:
        """Offers are none of our business: accepted without."""
        guest = self.world.visit()
        guest.send(request(b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Extensions: permessage-deflate"))
        head = guest.take()
        self.assertIn(b" 101 ", head)
        self.assertNotIn(b"Sec-WebSocket-Protocol", head)
        self.assertNotIn(b"Sec-WebSocket-Extensions", head)

    def test_paths(self) -> None:
        """Deeper paths, and networks without it, have no WebSocket; unknown networks are told as always."""
        self.assertEqual(self.asked(request(path=b"/net/a/b"))[:2], (501, -32601))
        self.assertEqual(self.asked(request(path=b"/net/wss"))[:2], (501, -32601))
        self.assertEqual(self.asked(request(path=b"/other")), (404, -32001, "Unknown network: other"))
        self.assertEqual(self.asked(request(path=b"/"))[:2], (400, -32600))
        for mode in (WebSocketMode.OFF, WebSocketMode.PASSTHROUGH):
            self.world.network.config = replace(self.world.network.config, websocket=mode)
            self.assertEqual(self.asked(request())[:2], (501, -32601))

    def test_without_bridge(self) -> None:
        """A front without WebSockets says so."""
        self.world.front.upgrades = None
        self.assertEqual(self.asked(request())[:2], (501, -32601))

    def test_bad_handshakes(self) -> None:
        """What is no handshake is told why, as JSON-RPC."""
        version = b"Sec-WebSocket-Version: 8"
        for status, words, data in (
            (400, "version 13", request(first=UPGRADE[:2])),
            (400, "version 13", request(first=(*UPGRADE[:2], version, NONCE))),
            (400, "Sec-WebSocket-Key", request(first=UPGRADE)),
            (400, "Sec-WebSocket-Key", request(NONCE)),
            (405, "GET", request().replace(b"GET", b"POST")),
            (505, "HTTP/1.1", request().replace(b"HTTP/1.1", b"HTTP/1.0")),
            (501, "", request(b"Content-Length: 1") + b"x"),
            (501, "", request(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        ):
            found = self.asked(data)
            self.assertEqual(found[0], status, found)
            self.assertIn(words, found[2])
        self.assertEqual(self.world.bridge.stats.open, 0)

    def test_any_handshake(self) -> None:
        """Whatever the headers say, the answer is 101 or a refusal."""
        names = st.sampled_from(
            [b"Host", b"Connection", b"Upgrade", b"Origin"]
            + [b"Sec-WebSocket-" + name for name in (b"Key", b"Version", b"Protocol", b"Extensions")]
        )
        words = st.sampled_from(
            ["", "13", "8", "websocket", "Upgrade", "x:y", "[::1", "permessage-deflate", "; a=", '"', ",", "=", "a"]
        )
        values = st.lists(words, max_size=4).map("".join) | st.text(st.characters(codec="ascii", min_codepoint=32))
        lines = st.lists(st.tuples(names, values), max_size=4)

        @given(lines, st.booleans(), st.booleans())
        def check(lines: list[tuple[bytes, str]], complete: bool, compression: bool) -> None:
            world = BridgeWorld(websocket={"compression": compression})
            guest = world.visit()
            first = (*UPGRADE, NONCE) if complete else UPGRADE[:2]
            guest.send(request(*(b"%b: %b" % (name, value.encode()) for name, value in lines), first=first))
            [reply] = read_replies(guest.take())
            self.assertIn(reply.status, (101, 400, 403, 501))

        run_property(check)

    def test_bad_handshake_is_gone(self) -> None:
        """A handshake that failed leaves nothing behind; a client that does not close is cut off."""
        guest = self.world.visit()
        guest.send(request(first=UPGRADE))
        self.world.sweep(12)
        self.assertEqual(guest.state, "aborted")
        guest.lose()
        stats = self.world.bridge.stats
        self.assertEqual((stats.open, stats.accepted, stats.rejected, stats.closes), (0, 0, 1, {}))
        self.assertEqual(len(self.world.front.lanes), 0)

    def test_origins(self) -> None:
        """Pages of other origins than those configured are refused; clients without one are no pages."""
        self.world.limit(allowed_origins=("https://app.example", "null"))
        self.assertEqual(self.asked(request(b"Origin: https://evil.example"))[:2], (403, -32600))
        self.assertEqual(self.asked(request(b"Origin: https://app.example:8443"))[0], 403)
        for lines in ((b"Origin: https://app.example",), (b"Origin: null",), ()):
            self.world.open(*lines)
        self.world.limit(allowed_origins=("*",))
        for origin in (b"https://evil.example", b"chrome-extension://abc", b"file://", b"nonsense"):
            self.world.open(b"Origin: " + origin)

    def test_origins_by_default(self) -> None:
        """Without any configured, only pages of this server's own origin may; so it is where pipes are."""
        for mode in (WebSocketMode.SUBSCRIPTIONS, WebSocketMode.PASSTHROUGH):
            self.world.network.config = replace(self.world.network.config, websocket=mode)
            for origin in (
                b"https://evil.example",
                b"null",
                b"chrome-extension://abc",
                b"http://x:8080",
                b"http://x.evil",
            ):
                self.assertEqual(self.asked(request(b"Origin: " + origin))[:2], (403, -32600), origin)
        self.world.network.config = replace(self.world.network.config, websocket=WebSocketMode.SUBSCRIPTIONS)
        for origin in (b"http://x", b"https://x", b"https://X:443"):
            self.world.open(b"Origin: " + origin)

    def test_origin_behind_a_proxy(self) -> None:
        """Where a trusted proxy changes Host, what it says was asked counts; nobody else's word does."""
        lines = (b"Origin: https://rpc.example", b"X-Forwarded-Host: rpc.example")
        self.world.open(*lines, host="10.0.0.1")
        self.assertEqual(self.asked(request(*lines))[:2], (403, -32600))

    def test_origins_of_cors(self) -> None:
        """Origins that may ask over HTTP may open a WebSocket."""
        self.world.bridge.origins = Bridge(
            config(cors=CorsConfig(origins=("https://app.example",))), 9, self.world.front.memory, lambda: 0.0, {}
        ).origins
        self.world.open(b"Origin: https://app.example")
        self.assertEqual(self.asked(request(b"Origin: https://evil.example"))[0], 403)

    def test_hosts(self) -> None:
        """Where names are configured, others are not served, whatever a page's origin says (DNS rebinding)."""
        self.world.front.hosts = Hosts(("rpc.example",))
        self.assertEqual(self.asked(request(b"Origin: http://x"))[:2], (403, -32600))
        guest = self.world.visit()
        guest.send(request(b"Origin: http://rpc.example:8080").replace(b"Host: x", b"Host: rpc.example:8080"))
        self.assertIn(b" 101 ", guest.take())

    def test_most_connections(self) -> None:
        """Half of the client connections, or as configured, may be WebSockets; the place of one that ended is free."""
        guests = [self.world.open(host=f"192.0.2.{number}") for number in range(50)]
        self.assertEqual(self.asked(request())[:2], (503, -32011))
        self.assertEqual(self.world.bridge.stats.rejected, 1)
        guests[0].lose()
        self.world.open(host="198.51.100.7")
        self.world = BridgeWorld(websocket={"max_connections": 1})
        self.world.open()
        self.assertEqual(self.asked(request())[0], 503)

    def test_share_of_connections(self) -> None:
        """One client gets half of them at most, which leaves some for others; a proxy, who speaks for many, all."""
        for _ in range(25):
            self.world.open()
        self.assertEqual(self.asked(request())[:2], (503, -32011))
        self.world.open(host="198.51.100.7")
        self.world = BridgeWorld()
        for _ in range(50):
            self.world.open(host="10.0.0.1")

    def test_most_connections_of_an_address(self) -> None:
        """One address may be held to less; it is the one that a trusted proxy tells."""
        self.world = BridgeWorld(websocket={"max_connections_per_address": 2})
        first = self.world.open(host="198.51.100.7")
        self.world.open(b"X-Forwarded-For: 198.51.100.7", host="10.0.0.1")
        guest = self.world.visit(host="198.51.100.7")
        guest.send(request())
        self.assertEqual(self.refused(guest)[0], 503)
        self.world.open(host="198.51.100.8")
        first.lose()
        self.world.open(host="198.51.100.7")

    def test_counts_as_connection(self) -> None:
        """A WebSocket is one of the front's connections, until it ends."""
        guest = self.world.open()
        self.assertEqual((len(self.world.front.lanes), self.world.front.stats.accepted), (1, 1))
        guest.lose()
        self.assertEqual((len(self.world.front.lanes), self.world.front.stats.open), (0, 0))

    def test_half_closed(self) -> None:
        """Who ends its side before it asks is not upgraded; it could never say anything."""
        guest = self.world.visit()
        guest.send(post() + request())
        guest.socket.readConnectionLost()
        self.world.spies["a"].last.result()
        [answer, refusal] = read_replies(guest.take())
        self.assertEqual((answer.status, refusal.status, guest.state), (200, 400, "closed"))


class Described(SynchronousTestCase):
    def test_client(self) -> None:
        """Nodes and counters hear of the client as with any request; the query goes with each call."""
        world = BridgeWorld(forward_headers=("X-Team",))
        guest = world.open(b"X-Forwarded-For: 198.51.100.7", b"X-Team: blue", path=b"/net/ws?k=1", host="10.0.0.1")
        guest.say(call())
        sent = world.spies["a"].last
        self.assertEqual(sent.sink.exchange.client_address, "198.51.100.7")
        self.assertEqual(sent.headers, b"x-team: blue\r\nX-Forwarded-For: 198.51.100.7, 10.0.0.1\r\n")
        self.assertEqual((sent.target, sent.method), (b"?k=1", b"POST"))

    def test_priorities(self) -> None:
        """Where a network has classes of requests, the upgrade's header, or the method, says which."""
        world = BridgeWorld()
        world.router.prioritises = True
        classes = PriorityQueueConfig(enabled=True, fasttrack_methods=("eth_chainId",))
        world.network.config = replace(world.network.config, priority_queue=classes)
        world.open(b"X-High-Priority: true").say(call())
        self.assertEqual(world.spies["a"].last.sink.exchange.priority, 1)
        world.open().say(call("eth_chainId"))
        self.assertEqual(world.spies["a"].last.sink.exchange.priority, 0)

    def test_traced(self) -> None:
        """With log_level TRACE each call is told with its client, as any request."""
        world = BridgeWorld()
        world.front.tracing = True
        guest = world.open(host="198.51.100.7")
        with capturedLogs() as events:
            guest.say(call("eth_chainId"))
        [told] = [event for event in events if event.get("trace")]
        self.assertEqual((told["client"], told["method"]), ("198.51.100.7", "eth_chainId"))


class Loop:
    """A transport of the event loop that holds so much."""

    def __init__(self, held: int) -> None:
        self.held = held

    def get_write_buffer_size(self) -> int:
        return self.held

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.held += len(data)

    def abort(self) -> None:
        self.held = 0


class QueuedBytes(SynchronousTestCase):
    def test_native(self) -> None:
        """What the event loop holds; nothing before there is a connection."""
        transport = NativeTransport(lambda peer: None)
        self.assertEqual(transport.queued_bytes, 0)
        loop = Loop(0)
        transport.connection_made(loop)
        loop.held = 5
        self.assertEqual(transport.queued_bytes, 5)


class ChangeProtocol(SynchronousTestCase):
    def test_plain(self) -> None:
        """A transport has another protocol."""
        transport, protocol = StringTransport(), object()
        change_protocol(transport, protocol)
        self.assertIs(transport.protocol, protocol)

    def test_wrapped(self) -> None:
        """A protocol in a transport's place has another one behind it: as Twisted's TLS does."""
        wrapper, protocol = ProtocolWrapper(WrappingFactory(None), object()), object()
        change_protocol(wrapper, protocol)
        self.assertIs(wrapper.wrappedProtocol, protocol)
