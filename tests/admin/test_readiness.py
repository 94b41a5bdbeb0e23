"""Readiness: networks in, an answer and its reason out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.admin.readiness import Readiness
from evmlb.network import Network
from evmlb.node import Poll
from tests.support import network_config, nodes_of


def network(name: str, local: str = "a", fallback: str = "") -> Network:
    return Network(network_config(*nodes_of(local, "", fallback), name=name), 0.0)


def poll(network: Network, index: int, now: float = 0.1) -> None:
    network.observe_poll(network.nodes[index], Poll(number=5, latency_seconds=0.01, started_at=0.0, chain_id=1), now)


class ReadinessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one, self.two = network("one", "a b"), network("two")
        self.readiness = Readiness([self.one, self.two], 0.0)

    def test_before_the_first_round(self) -> None:
        """Not ready until each network has heard of each node, even when one serves."""
        poll(self.one, 0)
        self.assertEqual(self.readiness.check(1.0), (False, "first polls are under way: one, two"))
        poll(self.one, 1)
        self.assertEqual(self.readiness.check(1.0), (False, "first polls are under way: two"))

    def test_after_the_first_round(self) -> None:
        """Ready at once when all are heard of."""
        for each, index in ((self.one, 0), (self.one, 1), (self.two, 0)):
            poll(each, index)
        self.assertEqual(self.readiness.check(0.2), (True, "serving: one, two"))

    def test_a_slow_node_holds_nothing_up(self) -> None:
        """After 3 s whoever serves makes it ready."""
        poll(self.one, 0)
        self.assertFalse(self.readiness.check(2.9)[0])
        self.assertEqual(self.readiness.check(3.0), (True, "serving: one"))

    def test_nobody_serves(self) -> None:
        """Without any network that can serve it is not ready."""
        self.assertEqual(self.readiness.check(3.0), (False, "no network can serve"))

    def test_draining(self) -> None:
        """Once the end has begun nothing is ready any more."""
        poll(self.one, 0)
        self.readiness.draining = True
        self.assertEqual(self.readiness.check(3.0), (False, "shutting down"))
        self.assertEqual(self.readiness.check_network("one", 3.0), (False, "shutting down"))

    def test_one_network(self) -> None:
        """A network is ready when it has started and can serve, whatever the others do."""
        self.assertFalse(self.readiness.check_network("one", 0.0)[0])
        poll(self.one, 0)
        self.assertEqual(self.readiness.check_network("one", 0.2), (True, "local nodes serve"))
        self.assertIn("No valid endpoint", self.readiness.check_network("two", 0.2)[1])
        self.assertRaises(KeyError, self.readiness.check_network, "three", 0.2)

    def test_only_the_fallback_has_answered(self) -> None:
        """A network whose preferred nodes have not been heard of has not started."""
        mixed = network("mixed", "a", "f")
        poll(mixed, 1)
        readiness = Readiness([mixed], 0.0)
        self.assertEqual([node.name for node in mixed.order.candidates], ["f"])
        reason = "no node of the preferred role has answered a poll yet"
        self.assertEqual(readiness.check_network("mixed", 0.2), (False, reason))
