"""Which node a pipe goes to: who is asked, what with, who is blamed, and what the client is told."""

from __future__ import annotations

import random

import orjson
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.pipe import CLOSE_SECONDS
from evmlb.bridge.search import PASS_OVER_SECONDS, SEARCH_SECONDS
from evmlb.config.schema import Strategy, WebSocketMode
from evmlb.errors import Fault
from evmlb.policy.balancing import chooser
from tests.bridge.piping import ANSWER, PipeWorld
from tests.bridge.support import NONCE, UPGRADE, Guest, frame, request
from tests.front.support import read_replies

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


class SearchCase(SynchronousTestCase):
    def refused(self, guest: Guest) -> tuple[int, int, str]:
        """Status, code and words of the one answer that came."""
        [reply] = read_replies(guest.take())
        self.assertEqual((reply["Content-Type"], reply["Connection"]), ("application/json", "close"))
        answer = orjson.loads(reply.body)
        return reply.status, answer["error"]["code"], answer["error"]["message"]


class Where(SearchCase):
    def test_modes(self) -> None:
        """A network in passthrough passes everything on; one with subscriptions nothing, whatever the path names."""
        passing, own = PipeWorld(), PipeWorld(mode=WebSocketMode.SUBSCRIPTIONS)
        for path, to_node in ((b"/net", b""), (b"/net/ws", b""), (b"/net/ws/", b""), (b"/net?k=1", b"?k=1")):
            passing.ask(path=path)
            self.assertEqual(passing.dials[-1].extra, to_node)
            own.open(path=path)
        self.assertEqual(own.asked, "")
        for path, to_node in ((b"/net/wss", b"/wss"), (b"/net/a/../b/c?k=1", b"/b/c?k=1"), (b"/net/ws/x", b"/ws/x")):
            passing.ask(path=path)
            self.assertEqual(passing.dials[-1].extra, to_node)
            self.assertEqual(self.refused(own.ask(path=path))[:2], (501, -32601))
        self.assertEqual(own.asked, "")

    def test_off(self) -> None:
        """Where WebSocket is off, nothing is passed on."""
        world = PipeWorld(mode=WebSocketMode.OFF)
        for path in (b"/net", b"/net/deeper"):
            self.assertEqual(self.refused(world.ask(path=path))[0], 501)
        self.assertEqual(world.asked, "")

    def test_bad_handshakes(self) -> None:
        """What is no handshake bothers no node."""
        world = PipeWorld()
        for status, data in (
            (400, request(first=UPGRADE[:2])),
            (400, request(first=(*UPGRADE[:2], b"Sec-WebSocket-Version: 8", NONCE))),
            (400, request(first=UPGRADE)),
            (400, request(NONCE)),
            (400, request(first=(*UPGRADE, b"Sec-WebSocket-Key: dGhl"))),
            (400, request(first=(*UPGRADE, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"))),
            (405, request().replace(b"GET", b"POST")),
            (505, request().replace(b"HTTP/1.1", b"HTTP/1.0")),
            (501, request(b"Content-Length: 1") + b"x"),
        ):
            guest = world.visit()
            guest.send(data)
            self.assertEqual(self.refused(guest)[0], status)
        self.assertEqual((world.asked, world.stats), ("", (0, 0, 8, {})))

    def test_limits(self) -> None:
        """A pipe is a WebSocket to every limit there is, from the moment it asks."""
        world = PipeWorld(websocket={"max_connections_per_address": 1, "allowed_origins": ("https://a.example",)})
        first = world.ask(b"Origin: https://a.example")
        self.assertEqual(self.refused(world.ask())[0], 503)
        self.assertEqual(self.refused(world.ask(b"Origin: https://b.example", host="192.0.2.2"))[0], 403)
        world.dials[0].fail(Fault.REJECTED, 400)
        first.lose()
        world.ask()
        self.assertEqual((world.asked, world.bridge.stats.rejected, len(world.front.lanes)), ("aba", 3, 3))


class What(SearchCase):
    def test_headers(self) -> None:
        """A node gets what the handshake is made of, and what is configured; nothing else of the client's."""
        world = PipeWorld(forward_headers=("X-Team", "Origin"), websocket={"allowed_origins": ("*",)})
        world.ask(
            b"Sec-WebSocket-Protocol: one, two",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            b"Sec-WebSocket-Extensions: x-other",
            b"Sec-WebSocket-Strange: 1",
            b"Authorization: Bearer secret",
            b"Cookie: a=b",
            b"Origin: https://page.example",
            b"X-Team: blue",
            b"User-Agent: it",
        )
        [dial] = world.dials
        self.assertEqual(dial.key, KEY)
        self.assertEqual(
            sorted(dial.headers),
            [
                (b"origin", b"https://page.example"),
                (b"sec-websocket-key", KEY),
                (b"sec-websocket-protocol", b"one, two"),
                (b"sec-websocket-version", b"13"),
                (b"x-forwarded-for", b"192.0.2.1"),
                (b"x-team", b"blue"),
            ],
        )

    def test_forwarded_for(self) -> None:
        """Only nodes of one's own hear where clients are."""
        world = PipeWorld("a", "m")
        world.ask(b"X-Forwarded-For: 198.51.100.7", host="10.0.0.1")
        world.dials[0].fail(Fault.DISCONNECTED)
        [local, remote] = [dict(dial.headers).get(b"x-forwarded-for") for dial in world.dials]
        self.assertEqual((local, remote), (b"198.51.100.7, 10.0.0.1", None))


class Failing(SearchCase):
    def setUp(self) -> None:
        self.world = PipeWorld()

    def fail_all(self, *faults: tuple[Fault, int]) -> tuple[int, int, str]:
        """The nodes fail one after the other; what the client is told."""
        guest = self.world.ask()
        for fault, status in faults:
            self.assertEqual(guest.take(), b"")
            self.world.dials[-1].fail(fault, status)
        self.assertEqual(guest.state, "closed")
        return self.refused(guest)

    def test_next(self) -> None:
        """Whatever goes wrong before the 101, the next node is asked, and the client hears nothing of it."""
        for fault, status in (
            (Fault.UNREACHABLE, 0),
            (Fault.TIMED_OUT, 0),
            (Fault.DISCONNECTED, 0),
            (Fault.GARBAGE, 0),
            (Fault.GARBAGE, 101),
            (Fault.RATE_LIMITED, 429),
            (Fault.HTTP_ERROR, 503),
            (Fault.HTTP_ERROR, 200),
            (Fault.REJECTED, 400),
            (Fault.UNAUTHORIZED, 401),
        ):
            self.setUp()
            guest = self.world.ask()
            self.world.dials[0].fail(fault, status)
            self.assertEqual((self.world.asked, guest.take()), ("ab", b""))
            self.world.dials[1].open()
            self.assertEqual((guest.take(), self.world.stats[:3]), (ANSWER, (1, 1, 0)))

    def test_blame(self) -> None:
        """Who is blamed, and how surely."""
        for fault, status, blames in (
            (Fault.UNREACHABLE, 0, [("a", True)]),
            (Fault.TIMED_OUT, 0, [("a", False)]),
            (Fault.DISCONNECTED, 0, [("a", False)]),
            (Fault.GARBAGE, 101, [("a", False)]),
            (Fault.HTTP_ERROR, 500, [("a", False)]),
            (Fault.HTTP_ERROR, 200, []),
            (Fault.HTTP_ERROR, 302, []),
            (Fault.REJECTED, 400, []),
            (Fault.REJECTED, 404, []),
            (Fault.UNAUTHORIZED, 403, []),
            (Fault.RATE_LIMITED, 429, []),
        ):
            self.setUp()
            self.world.ask()
            self.world.dials[0].fail(fault, status)
            self.assertEqual(self.world.blames, blames, (fault, status))

    def test_other_port(self) -> None:
        """A WebSocket on a port of its own that is closed says nothing of the node's HTTP: it is only passed over."""
        self.world.diallers["a"].shares_port = False
        for _ in range(3):
            self.world.ask()
            self.world.dials[-1].fail(Fault.UNREACHABLE)
        self.assertEqual((self.world.asked[:2], self.world.blames), ("ab", [("b", True), ("c", True)]))
        self.assertIs(self.world.nodes["a"].suspect, False)

    def test_two_closed_ports(self) -> None:
        """A node that cannot be connected to is ejected, as by any other request."""
        for _ in range(2):
            self.world.ask()
            self.world.dials[-1].fail(Fault.UNREACHABLE)
            self.world.bridge.nodes["net"]._passed_over.clear()  # type: ignore[attr-defined]
            self.world.poll()
        self.assertEqual((self.world.nodes["a"].ejected, self.world.order), (True, "bc"))

    def test_guess(self) -> None:
        """A node whose WebSocket nobody configured is not blamed for having none, and asked last for a while."""
        self.world.diallers["a"].is_guess = True
        for fault, status in (
            (Fault.HTTP_ERROR, 200),
            (Fault.REJECTED, 404),
            (Fault.GARBAGE, 0),
            (Fault.DISCONNECTED, 0),
            (Fault.HTTP_ERROR, 503),
            (Fault.UNAUTHORIZED, 401),
        ):
            self.world.dials.clear()
            self.world.ask()
            self.world.dials[0].fail(fault, status)
            self.world.ask()
            self.assertEqual((self.world.asked, self.world.blames), ("abb", []), fault)
            self.world.clock.advance(PASS_OVER_SECONDS)
            self.world.poll()

    def test_clients_path(self) -> None:
        """A client's strange path takes no node out of anybody's way."""
        for guess in (False, True):
            self.world.diallers["a"].is_guess = guess
            self.world.dials.clear()
            self.world.ask(path=b"/net/strange")
            self.world.dials[0].fail(Fault.REJECTED, 404)
            self.world.ask(path=b"/net/strange")
            self.assertEqual(self.world.asked, "aba")

    def test_passed_over(self) -> None:
        """A node whose WebSocket could not be had is asked last for a while, but is asked."""
        self.world = PipeWorld("a b")
        self.world.diallers["a"].shares_port = False
        self.world.ask()
        self.world.dials[0].fail(Fault.UNREACHABLE)
        self.world.ask()
        self.world.dials[-1].fail(Fault.REJECTED, 400)
        self.assertEqual(self.world.asked, "abba")
        self.world.clock.advance(PASS_OVER_SECONDS)
        self.world.poll()
        self.world.ask()
        self.assertEqual(self.world.asked, "abbaa")

    def test_rate_limited(self) -> None:
        """A node that says 429 is held off for as long as it says; when all do, so does the client's answer."""
        guest = self.world.ask()
        for name in "abc":
            self.world.dials[-1].fail(Fault.RATE_LIMITED, 429, (b"retry-after", b"30"))
            self.assertIs(self.world.nodes[name].limit.limited, True)
        [reply] = read_replies(guest.take())
        self.assertEqual((reply.status, reply["Retry-After"]), (429, "30"))
        self.assertIn(b"All WebSocket endpoints rate limited", reply.body)
        self.world.clock.advance(10)
        [reply] = read_replies(self.world.ask().take())
        self.assertEqual((reply.status, reply["Retry-After"], self.world.asked), (429, "20", "abc"))

    def test_all_fail(self) -> None:
        """What the client is told when every node was asked."""
        failed = (502, -32013, "Failed to proxy WebSocket, all endpoints unavailable")
        down, limited, bad = (Fault.DISCONNECTED, 0), (Fault.RATE_LIMITED, 429), (Fault.REJECTED, 426)
        self.assertEqual(self.fail_all(down, down, down), failed)
        self.setUp()
        self.assertEqual(self.fail_all(limited, limited, down), failed)
        self.setUp()
        self.assertEqual(self.fail_all(down, down, limited)[0], 429)
        self.setUp()
        self.assertEqual(self.fail_all(bad, down, limited)[0], 426)
        self.assertEqual(self.world.asked, "abc")

    def test_rejected(self) -> None:
        """Two nodes that refuse the client's request are right; no third is bothered. So is the only one."""
        told = self.fail_all((Fault.REJECTED, 400), (Fault.REJECTED, 404))
        self.assertEqual(told, (400, -32600, "the node answers 400 to this WebSocket handshake"))
        self.world = PipeWorld("a")
        self.assertEqual(self.fail_all((Fault.REJECTED, 404))[0], 404)

    def test_nobody(self) -> None:
        """Without a node that may serve nobody is asked."""
        self.world.clock.advance(60)
        self.world.publish(self.world.network.expire(60))
        self.assertEqual(self.refused(self.world.ask()), (503, -32011, "No available WebSocket endpoints"))
        self.assertEqual(self.world.asked, "")

    def test_last_resort(self) -> None:
        """Ejected nodes are asked when nobody else took it."""
        for _ in range(2):
            self.world.publish(
                self.world.network.record_failure(
                    self.world.nodes["a"], "gone", self.world.clock.seconds(), proven=True, unreachable=True
                )
            )
        self.world.ask()
        self.world.dials[-1].fail(Fault.DISCONNECTED)
        self.world.dials[-1].fail(Fault.DISCONNECTED)
        self.assertEqual(self.world.asked, "bca")

    def test_too_long(self) -> None:
        """A client is not kept waiting for ever by nodes that hang."""
        for fault, status, words in (
            (Fault.TIMED_OUT, 0, "WebSocket max retries reached, all endpoints unavailable"),
            (Fault.RATE_LIMITED, 429, "WebSocket max retries reached after rate limits, all endpoints unavailable"),
        ):
            self.setUp()
            guest = self.world.ask()
            self.world.clock.advance(SEARCH_SECONDS)
            self.world.dials[0].fail(fault, status)
            self.assertEqual(self.refused(guest), (502, -32013, words))

    def test_at_once(self) -> None:
        """Failures that are known before the asking returns, and a node that takes it at once."""
        self.world.script = [lambda dial: dial.fail(Fault.UNREACHABLE)] * 2 + [lambda dial: dial.open()]
        guest = self.world.ask()
        self.assertEqual((guest.take(), self.world.asked), (ANSWER, "abc"))
        self.world.script = [lambda dial: dial.fail(Fault.UNREACHABLE)] * 3
        self.assertEqual(self.refused(self.world.ask())[0], 502)

    def test_refusal_is_gone(self) -> None:
        """Who was refused leaves nothing behind, and is cut off when it does not close."""
        guest = self.world.ask()
        for _ in range(3):
            self.world.dials[-1].fail(Fault.DISCONNECTED)
        guest.send(b"more")
        self.world.sweep(CLOSE_SECONDS + 2)
        self.assertEqual(guest.state, "aborted")
        guest.lose()
        self.assertEqual((self.world.stats, len(self.world.front.lanes)), ((0, 0, 1, {}), 0))

    def test_error_status(self) -> None:
        """Own errors travel with the status that is configured."""
        self.world.bridge._error_status = 200
        self.assertEqual(self.fail_all(*[(Fault.DISCONNECTED, 0)] * 3)[:2], (200, -32013))


class Meanwhile(SearchCase):
    def setUp(self) -> None:
        self.world = PipeWorld()

    def test_client_leaves(self) -> None:
        """A client that leaves before it is answered takes its search with it, and nobody is blamed."""
        for leave in (Guest.lose, lambda guest: guest.socket.readConnectionLost()):
            guest = self.world.ask()
            leave(guest)
            self.assertEqual(self.world.dials[-1].state, "cancelled")
            if guest.state != "gone":
                self.assertEqual(guest.state, "closed")
                guest.lose()
        self.assertEqual((self.world.blames, self.world.stats), ([], (0, 0, 2, {})))
        self.assertEqual(len(self.world.front.lanes), 0)

    def test_early_bytes(self) -> None:
        """What a client sends before it is answered waits, in bounded memory, and goes to the node."""
        guest = self.world.visit()
        guest.send(request() + frame(b"early"))
        guest.send(frame(b"x" * 70_000))
        self.assertIs(guest.transport.reading, False)
        guest.send(frame(b"late"))
        node = self.world.dials[0].open()
        self.assertEqual(node.take(), frame(b"early") + frame(b"x" * 70_000) + frame(b"late"))
        self.assertIs(guest.transport.reading, True)

    def test_rest(self) -> None:
        """What comes right behind the node's 101 goes to the client behind it."""
        guest = self.world.ask()
        self.world.dials[0].open(frame(b"hello", key=None))
        self.assertEqual(guest.take(), ANSWER + frame(b"hello", key=None))

    def test_stopping(self) -> None:
        """When evmlb stops, who still waits is told so."""
        guest = self.world.ask()
        self.world.bridge.drain()
        self.assertEqual(self.refused(guest)[:2], (503, -32011))
        self.assertEqual(self.world.dials[0].state, "cancelled")


class Order(SearchCase):
    def test_best(self) -> None:
        """Without a strategy that shares, all go to the first of the order."""
        world = PipeWorld()
        for _ in range(3):
            world.ask()
        self.assertEqual(world.asked, "aaa")

    def test_shared(self) -> None:
        """Where nodes share, pipes take turns."""
        world = PipeWorld(chooser=chooser(Strategy.SHARED, random.Random(1)))
        for _ in range(6):
            world.ask()
        self.assertEqual((world.network.order.ties, world.asked), (3, "abcabc"))
