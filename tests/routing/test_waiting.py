"""Who waits for whom: lines of their own for those that not every node can serve."""

from __future__ import annotations

from evmlb.config.schema import PriorityQueueConfig
from evmlb.policy.priority import PriorityClass
from tests.routing.support import RoutingTestCase, World
from tests.support import node_config


class NarrowTests(RoutingTestCase):
    def small(self, **config: object) -> World:
        return self.make(nodes=(node_config("a", max_concurrency=1), node_config("b", max_concurrency=1)), **config)

    def test_no_head_of_line_blocking(self) -> None:
        """Calls that one node lacks and the other has no room for do not hold up those that could go elsewhere."""
        world = self.small()
        world.submit("trace_block")
        world.last("a").error(-32601, "the method trace_block does not exist")
        waiting = [world.submit("trace_block") for _ in range(3)]
        self.assertEqual(world.router.stats.queued, 3)
        client = world.submit()
        self.assertEqual(world.sends, "aba")
        world.last("a").result()
        self.assertEqual(client.said, ["answer"])
        for _ in range(4):
            world.last("b").result()
            world.pass_time(0.01)
        self.assertEqual([each.said for each in waiting], [["answer"]] * 3)
        world.check_idle(self)

    def test_unknown_filters(self) -> None:
        """A filter that nobody holds binds its call to no node: it waits in line like any other."""
        world = self.small()
        for _ in range(2):
            world.submit("eth_call")
        first, second = world.submit(), world.submit("eth_getFilterChanges", b'["0x1"]')
        world.last("a").result()
        world.pass_time(0.01)
        world.last("a").result()
        self.assertEqual((first.said, second.said), (["answer"], []))

    def test_urgent_before_bound(self) -> None:
        """The most urgent of those that may go is next, bound or not."""
        world = self.small(priority_queue=PriorityQueueConfig(enabled=True, fasttrack_methods=("eth_chainId",)))
        creating = world.submit("eth_newBlockFilter")
        world.last("a").result(b'"0xf1"')
        self.assertEqual(creating.said, ["answer"])
        for _ in range(2):
            world.submit("eth_call")
        bound = world.submit("eth_getFilterChanges", b'["0xf1"]')
        fast = world.submit("eth_chainId", priority=PriorityClass.FASTTRACK)
        world.last("a").result()
        world.pass_time(0.01)
        world.last("a").result()
        self.assertEqual((fast.said, bound.said), (["answer"], []))

    def test_shed(self) -> None:
        """Those in a line of their own are not waited for longer than others."""
        world = self.small(queue_timeout_seconds=1.0)
        creating = world.submit("eth_newBlockFilter")
        world.last("a").result(b'"0xf1"')
        self.assertEqual(creating.said, ["answer"])
        world.submit("eth_call")
        client = world.submit("eth_getFilterChanges", b'["0xf1"]')
        world.pass_time(1.1)
        self.assertRefused(client, 503, -32011)
        self.assertEqual(world.router.stats.shed, 1)

    def test_client_leaves(self) -> None:
        """One that waits in such a line may leave."""
        world = self.small()
        world.submit("trace_block")
        world.last("a").error(-32601, "the method trace_block does not exist")
        client = world.submit("trace_block")
        self.assertEqual(world.router.stats.queued, 1)
        world.leave(client)
        self.assertEqual(world.router.stats.queued, 0)

    def test_many(self) -> None:
        """Thousands that wait for one node cost no more per answer than a few do."""
        world = self.small(queue_timeout_seconds=60.0)
        world.submit("trace_block")
        world.last("a").error(-32601, "the method trace_block does not exist")
        for _ in range(3000):
            world.submit("trace_block")
        looked = []
        eligible = world.router._choices.eligible
        world.router._choices.eligible = lambda *args: looked.append(1) or eligible(*args)  # type: ignore
        world.last("b").result()
        world.pass_time(0.01)
        self.assertLess(len(looked), 20)
