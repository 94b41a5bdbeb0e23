"""The composition: the order of starting and stopping, and who hears of what."""

import random
import resource

from prometheus_client import generate_latest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from evmlb.balancer import Balancer
from evmlb.config.schema import LimitsConfig, Role
from evmlb.events import ChainheadMoved
from evmlb.node import Poll
from evmlb.service import OrderedService, make_service
from tests.support import config, network_config, node_config


class Part(Service):
    """A child that notes what is done to it; ``stopping`` fires when it is to be done."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.label = name
        self.events = events
        self.stopping: Deferred[None] = Deferred()

    def startService(self) -> None:
        self.events.append(f"start {self.label}")

    def stopService(self) -> Deferred[None]:
        self.events.append(f"stop {self.label}")
        return self.stopping


class OrderedServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[str] = []
        self.parts = [Part(name, self.events) for name in "abc"]
        self.service = OrderedService()
        for part in self.parts:
            part.setServiceParent(self.service)

    def test_order(self) -> None:
        """What starts first stops last, and only when the one after it is stopped."""
        self.service.startService()
        stopped = self.service.stopService()
        self.assertEqual(self.events, ["start a", "start b", "start c", "stop c"])
        self.parts[2].stopping.callback(None)
        self.assertEqual(self.events[4:], ["stop b"])
        self.assertNoResult(stopped)
        self.parts[1].stopping.callback(None)
        self.parts[0].stopping.callback(None)
        self.successResultOf(stopped)

    def test_failure(self) -> None:
        """A part that fails to stop is logged, and the others are stopped all the same."""
        self.service.startService()
        stopped = self.service.stopService()
        self.parts[2].stopping.errback(ValueError("stuck"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.parts[1].stopping.callback(None)
        self.parts[0].stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.events[3:], ["stop c", "stop b", "stop a"])


class BalancerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[object] = []
        self.config = config(
            network_config(
                node_config("a", url="http://127.0.0.1:8545"), node_config("b", url="http://127.0.0.1:2"), name="net"
            )
        )
        self.balancer = Balancer(
            self.config,
            self.clock,
            self.clock.seconds,
            self.clock.seconds,
            random.Random(1),
            watch=self.heard.extend,
        )

    def test_publish(self) -> None:
        """Events of a network go to the log, the metrics and whoever watches."""
        parts = self.balancer.networks["net"]
        with capturedLogs() as captured:
            self.balancer.publish(
                parts.network.observe_poll(
                    parts.network.nodes[0], Poll(number=5, latency_seconds=0.1, started_at=0.0, chain_id=1), 0.1
                )
            )
        self.assertIn(ChainheadMoved(network="net", number=5, previous=None), self.heard)
        self.assertNotEqual(captured, [])
        page = generate_latest(self.balancer.metrics.registry).decode()
        self.assertIn('loadbalancer_node_chainhead{network="net",rpc_endpoint="http://127.0.0.1:8545"} 5.0', page)

    def test_tick(self) -> None:
        """Once a second, what only time changes is seen: observations expire."""
        network = self.balancer.networks["net"].network
        self.balancer.publish(
            network.observe_poll(network.nodes[0], Poll(number=5, latency_seconds=0.1, started_at=0.0, chain_id=1), 0.1)
        )
        self.assertEqual([node.name for node in network.order.candidates], ["a"])
        self.clock.advance(10)
        self.balancer.tick()
        self.assertEqual(network.order.candidates, ())

    def test_max_connections(self) -> None:
        """Without a setting, clients get 40 % of the descriptors."""
        self.assertGreater(self.balancer.front.connections.total, 100)


class DescriptorTests(SynchronousTestCase):
    def test_raised_in_any_case(self) -> None:
        """The limit of descriptors is raised also where the number of clients is set: nodes need them too."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
        clock = Clock()
        balancer = Balancer(config(limits=LimitsConfig(max_connections=7)), clock, clock.seconds, clock.seconds)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)
        self.assertEqual(balancer.front.connections.total, 7)


class StartTests(SynchronousTestCase):
    def test_says_who_serves(self) -> None:
        """Warnings of the file, and whether monitoring nodes serve, are said once at the start."""
        monitored = config(network_config(node_config("a"), node_config("m", Role.MONITORING), name="net"))
        with capturedLogs() as captured:
            make_service(monitored, Clock(), ["networks[0].load_period: has no effect"])
        lines = [formatEvent(event) for event in captured]
        self.assertIn("configuration: networks[0].load_period: has no effect", lines)
        self.assertIn("net: monitoring nodes serve before the fallback nodes", lines)
