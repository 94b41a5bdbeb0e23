"""The demo world on a reactor in memory."""

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.parse import parse
from evmlb.config.schema import Role
from evmlb.demo.faults import HEALTHY, fault
from evmlb.demo.schedule import Schedule
from evmlb.demo.world import DemoWorld

SCHEDULES = {"local-1": Schedule(((5, fault("status 500")), (8, HEALTHY), (10, fault("refuse")), (12, HEALTHY)))}


class WorldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_700_000_000)
        self.lines: list[str] = []
        self.world = DemoWorld(
            self.reactor, schedules=SCHEDULES, narrate=self.lines.append, reorg_every_blocks=25, start_blocks=100
        )
        self.world.startService()

    def live(self, seconds: float) -> None:
        self.reactor.pump([0.25] * int(seconds * 4))

    def test_blocks_come(self) -> None:
        """The chain has a past, and grows by a block a second."""
        self.assertEqual(self.world.chain.head.number, 100)
        self.live(6)
        self.assertEqual(self.world.chain.head.number, 106)

    def test_misfortunes_are_told(self) -> None:
        """What befalls a node is told once, in words."""
        self.live(9)
        self.assertEqual(self.lines, ["local-1 now answers HTTP 500", "local-1 is well again"])

    def test_port_closes_and_opens(self) -> None:
        """A node that refuses has no open port, and the same one afterwards."""
        node = self.world.nodes["local-1"]
        self.live(11)
        self.assertFalse(node.is_listening)
        self.live(2)
        self.assertTrue(node.is_listening)

    def test_reorgs_are_told(self) -> None:
        """Now and then the newest blocks are replaced, and told."""
        self.live(30)
        self.assertEqual([line for line in self.lines if "reorg" in line][:1][0][:18], "the chain replaced")

    def test_configuration(self) -> None:
        """The configuration is one that the balancer accepts, with each node in its role."""
        for number, node in enumerate(self.world.nodes.values()):
            node.port = 9000 + number
        config = parse(self.world.config_text(0, 0), {})[0]
        nodes = config.networks[0].nodes
        self.assertEqual([n.role for n in nodes], [Role.LOCAL, Role.LOCAL, Role.FALLBACK])
        self.assertEqual([n.endpoint.port for n in nodes], [9000, 9001, 9002])

    def test_stops(self) -> None:
        """A stopped world has no timer left and no open port."""
        self.live(3)
        self.successResultOf(self.world.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(any(node.is_listening for node in self.world.nodes.values()))
