"""The path of a request, for those who ask and for those who look later."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import HedgeConfig
from evmlb.errors import Fault
from evmlb.trail import MAX_STEPS, Ring, Trail
from tests.routing.support import RoutingTestCase
from tests.support import node_config


class PathTests(RoutingTestCase):
    def test_asked_for(self) -> None:
        """A request that asks gets its candidates with reasons and its steps with times."""
        world = self.make("a b")
        client = world.submit(explain=True)
        world.clock.advance(0.02)
        world.last("a").fail(Fault.DISCONNECTED, "reset")
        world.clock.advance(0.01)
        world.last("b").result()
        assert client.exchange is not None
        assert client.exchange.trail is not None
        record = client.exchange.trail.record
        assert record is not None
        self.assertEqual([(c["node"], c["rank"]) for c in record["candidates"]], [("a", 0), ("b", 1)])
        self.assertEqual(
            [(step["at_ms"], step["what"], step.get("node")) for step in record["steps"]],
            [(0.0, "asked", "a"), (20.0, "disconnected", "a"), (20.0, "asked", "b")],
        )
        self.assertEqual((record["outcome"], record["node"], record["total_ms"]), ("answered", "b", 30.0))
        json.dumps(record)

    def test_words_of_a_refusal(self) -> None:
        """What a node says when it refuses is in the path, whatever form it has, short and without keys."""
        key = "0123456789abcdef0"
        page = f"<html><style>p {{}}</style><title>403</title><p>no User-Agent for /v2/{key}</html>".encode()
        error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"origin not allowed"}}'
        for status, body, detail in (
            (403, page, "HTTP 403: 403 no User-Agent for /v2/***"),
            (406, b"Accept is missing", "HTTP 406: Accept is missing"),
            (503, b"", "HTTP 503"),
            (503, error, "HTTP 503: error -32000: origin not allowed"),
        ):
            world = self.make("a b")
            client = world.submit(explain=True)
            world.last("a").answer(body, status)
            world.last("b").result()
            assert client.exchange is not None
            assert client.exchange.trail is not None
            assert client.exchange.trail.record is not None
            self.assertTrue(client.exchange.trail.record["steps"][1]["detail"].startswith(detail), status)

    def test_sent_anew(self) -> None:
        """A request that goes out again as its kept connection had ended counts as sent twice, and the path says so."""
        world = self.make("a b")
        client = world.submit(explain=True)
        world.clock.advance(0.4)
        self.assertTrue(world.last("a").sink.is_sent_anew())
        world.last("a").result()
        assert client.exchange is not None
        assert client.exchange.trail is not None
        record = client.exchange.trail.record
        assert record is not None
        self.assertEqual(record["attempts"], 2)
        self.assertEqual([step["what"] for step in record["steps"]], ["asked", "sent anew"])

    def test_sent_anew_is_no_try(self) -> None:
        """It takes no try from the nodes behind: each tier has its turn as if it had gone well."""
        world = self.make("a", monitoring="m", fallback="f", switch_to_fallback_enabled=True)
        client = world.submit()
        for name in "am":
            self.assertTrue(world.last(name).sink.is_sent_anew())
            world.last(name).fail(Fault.DISCONNECTED)
        world.last("f").result()
        self.assertEqual((client.said, client.node), (["answer"], "f"))

    def test_not_sent_anew(self) -> None:
        """After half a second the node had the request: the next one is asked, and nothing is sent in secret."""
        world = self.make("a b")
        client = world.submit()
        world.clock.advance(0.5)
        self.assertFalse(world.last("a").sink.is_sent_anew())
        world.last("a").fail(Fault.DISCONNECTED)
        world.last("b").result()
        assert client.exchange is not None
        self.assertEqual((client.node, client.exchange.attempts), ("b", 2))

    def test_not_asked_for(self) -> None:
        """A request without a story leaves none."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").result()
        assert client.exchange is not None
        self.assertIsNone(client.exchange.trail)
        self.assertEqual(([*world.router._ring.failures()], [*world.router._ring.slowest()]), ([], []))

    def test_failure(self) -> None:
        """One that ends in an error of ours is kept, with its story from the first sending on."""
        world = self.make("a b", rpc_retries=0)
        world.submit()
        world.last("a").fail(Fault.GARBAGE, "not JSON")
        world.last("b").fail(Fault.DISCONNECTED)
        [record] = world.router._ring.failures()
        self.assertEqual([step["what"] for step in record["steps"]][:3], ["asked", "garbage", "asked"])
        self.assertEqual((record["outcome"], record["attempts"], record["method"]), ("refused", 2, "eth_getBalance"))
        self.assertEqual(record["steps"][1]["detail"], "not JSON")

    def test_rule(self) -> None:
        """An error says by which rule of the table it was judged."""
        world = self.make("a b")
        client = world.submit(explain=True)
        world.last("a").error(-32603, "boom")
        world.last("b").result()
        assert client.exchange is not None
        assert client.exchange.trail is not None
        steps = (client.exchange.trail.record or {})["steps"]
        self.assertRegex(steps[1]["detail"], r"^error -32603: boom \[.+\]$")

    def test_recovered(self) -> None:
        """One that another node answered is no failure."""
        world = self.make("a b")
        world.submit()
        world.last("a").fail(Fault.GARBAGE)
        world.last("b").result()
        self.assertEqual([*world.router._ring.failures()], [])

    def test_slow(self) -> None:
        """One that took long is among the slowest, with its hedge."""
        world = self.make("a b", hedge=HedgeConfig())
        world.submit()
        world.pass_time(0.4)
        world.last("b").result()
        [record] = world.router._ring.slowest()
        self.assertEqual([step["what"] for step in record["steps"]], ["asked", "hedged", "asked", "won"])
        self.assertEqual((record["hedges"], record["node"]), (1, "b"))

    def test_queued(self) -> None:
        """Waiting for room is part of the path."""
        world = self.make(nodes=(node_config("a", max_concurrency=1),))
        world.submit()
        client = world.submit(explain=True)
        world.pass_time(0.05)
        world.last("a").result()
        world.pass_time(0.01)
        world.last("a").result()
        assert client.exchange is not None
        assert client.exchange.trail is not None
        steps = (client.exchange.trail.record or {})["steps"]
        self.assertEqual([step["what"] for step in steps], ["waits", "waited", "asked"])

    def test_client_left(self) -> None:
        """A client that left is no failure of ours."""
        world = self.make("a b")
        client = world.submit(explain=True)
        world.leave(client)
        self.assertEqual([*world.router._ring.failures()], [])


class RingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.ring = Ring(3, lambda: self.now)

    def test_last_failures(self) -> None:
        """The newest first, and no more than are to be kept."""
        for number in range(5):
            self.now = float(number)
            self.ring.keep_failure({"number": number})
        self.assertEqual(
            [(r["number"], r["seconds_ago"]) for r in self.ring.failures()], [(4, 0.0), (3, 1.0), (2, 2.0)]
        )

    def test_slowest(self) -> None:
        """The slowest first; the bar rises when there are enough."""
        for seconds in (0.1, 0.4, 0.2):
            self.ring.keep_slow(seconds, {"seconds": seconds})
        self.assertEqual(self.ring.bar_seconds, 0.1)
        self.ring.keep_slow(0.3, {"seconds": 0.3})
        self.assertEqual([r["seconds"] for r in self.ring.slowest()], [0.4, 0.3, 0.2])
        self.assertEqual(self.ring.bar_seconds, 0.2)

    def test_an_hour(self) -> None:
        """Slow requests are forgotten after an hour, and the bar falls."""
        for seconds in (0.1, 0.4, 0.2):
            self.ring.keep_slow(seconds, {})
        self.now = 3601.0
        self.ring.expire()
        self.assertEqual(([*self.ring.slowest()], self.ring.bar_seconds), ([], 0.05))

    def test_refusals(self) -> None:
        """Of requests refused at once one in a tenth of a second is worth a record."""
        self.assertEqual([self.ring.takes_refusal() for _ in range(3)], [True, False, False])
        self.now = 0.11
        self.assertTrue(self.ring.takes_refusal())

    def test_none_kept(self) -> None:
        """With nothing to be kept nothing is."""
        ring = Ring(0, lambda: 0.0)
        ring.keep_failure({})
        ring.keep_slow(1e9, {})
        self.assertEqual(([*ring.failures()], [*ring.slowest()], ring.takes_refusal()), ([], [], False))

    def test_steps_are_bounded(self) -> None:
        """A trail has an end."""
        trail = Trail()
        for _ in range(100):
            trail.note(0.0, "asked")
        self.assertEqual(len(trail.told()["steps"]), MAX_STEPS)
