"""Topics that nodes feed."""

from __future__ import annotations

from evmlb.subscribing import relay
from evmlb.subscribing.fanout import SLICE
from tests.subscribing.test_hub import Case
from tests.subscribing.world import NodeRefused

TRANSACTIONS = ["0x" + f"{n:064x}" for n in range(10)]


class RelayTests(Case):
    def test_pending(self) -> None:
        """Pending transactions of all nodes are told, each once."""
        world = self.world("a b")
        client = world.client()
        world.call(client, "newPendingTransactions")
        world.call(client, "newPendingTransactions", False)
        for node, transaction in (("a", 0), ("b", 1), ("b", 0), ("a", 1), ("a", 0)):
            world[node].push("newPendingTransactions", TRANSACTIONS[transaction])
        for told in client.events.values():
            self.assertEqual(told, TRANSACTIONS[:2])
        self.assertEqual([len(node.handles) for node in world.nodes.values()], [2, 2])  # with newHeads

    def test_whole_transactions(self) -> None:
        """Whole transactions are told apart by their hash."""
        world = self.world("a b")
        client = world.client()
        world.call(client, "newPendingTransactions", True)
        world["a"].push("newPendingTransactions", {"hash": TRANSACTIONS[0], "seen": 1})
        world["b"].push("newPendingTransactions", {"seen": 2, "hash": TRANSACTIONS[0].upper().replace("X", "x")})
        for nonsense in (5, None, ["x"], {"hash": 5}):
            world["b"].push("newPendingTransactions", nonsense)
            world["a"].push("newPendingTransactions", nonsense)
        self.assertEqual(
            client.events[client.last_id], [{"hash": TRANSACTIONS[0], "seen": 1}, 5, None, ["x"], {"hash": 5}]
        )

    def test_one_of_several_lost(self) -> None:
        """While another node tells pending transactions, there is no gap; a node that comes back is asked again."""
        world = self.world("a b")
        client = world.client()
        world.call(client, "newPendingTransactions")
        world["a"].disconnect()
        self.assertEqual(world.hub.gaps_possible, 0)
        world["b"].disconnect()
        self.assertEqual(world.hub.gaps_possible, 1)
        world["a"].connect()
        world["a"].push("newPendingTransactions", TRANSACTIONS[0])
        self.assertEqual(client.events[client.last_id], TRANSACTIONS[:1])

    def test_taken_up_elsewhere(self) -> None:
        """Another topic is fed by one node; when that is lost the next one feeds it under the same id."""
        world = self.world("a b")
        client, other = world.client(), world.client()
        world.call(client, "syncing")
        world.call(other, "syncing")
        self.assertEqual([len(node.handles) for node in world.nodes.values()], [2, 1])
        world["a"].push("syncing", True)
        world["a"].die()
        world["b"].push("syncing", False)
        self.assertEqual(client.events[client.last_id], [True, False])
        self.assertEqual(other.events[other.last_id], [True, False])
        self.assertEqual(world.hub.gaps_possible, 1)

    def test_may_not_serve(self) -> None:
        """A node that may not serve any more, though its connection stands, is left for another one."""
        world = self.world("a b")
        client = world.client()
        world.call(client, "syncing")
        world["a"].is_dead = True
        world.wait(5)
        self.assertEqual([handle.params[0] for handle in world["a"].handles], ["newHeads"])
        world["b"].push("syncing", False)
        self.assertEqual(client.events[client.last_id], [False])
        self.assertEqual(world.hub.gaps_possible, 1)

    def test_refused(self) -> None:
        """What no node takes is refused, with the last one's code and words."""
        world = self.world("a b")
        for node in world.nodes.values():
            node.refuses["odd"] = NodeRefused(-32099, f"not {node.head.number}")
        client = world.client()
        call = world.call(client, "odd", {"x": [1, 2]})
        self.assertEqual(client.refusals[call], (-32099, f"not {world.chain.tip.number}"))
        self.assertEqual(client.subscriptions, 0)

    def test_one_refuses(self) -> None:
        """What one node does not take, the next one may."""
        world = self.world("a b")
        world["a"].refuses["odd"] = NodeRefused(-32601, "unknown")
        client = world.client()
        world.call(client, "odd", {"x": 1})
        world["b"].push("odd", {"any": "thing"})
        self.assertEqual(client.events[client.last_id], [{"any": "thing"}])

    def test_no_websocket(self) -> None:
        """Without a node that has WebSocket there are no such topics."""
        world = self.world("a", push=False)
        client = world.client()
        call = world.call(client, "syncing")
        self.assertEqual(client.refusals[call][0], -32601)

    def test_ends(self) -> None:
        """With the last subscriber the subscription at the node ends; events that come nevertheless are dropped."""
        world = self.world("a")
        one, other = world.client(), world.client()
        world.call(one, "syncing")
        world.call(other, "syncing")
        told = world["a"].handles[-1].told
        world.hub.unsubscribe(one, one.last_id)
        self.assertEqual(len(world["a"].handles), 2)
        world.hub.gone(other)
        self.assertEqual(len(world["a"].handles), 1)
        told(b"true")
        self.assertEqual(one.order + other.order, [])

    def test_no_answer(self) -> None:
        """A node that does not answer is given some time, then the next one is asked."""
        world = self.world("a b")
        world["a"].is_mute = True
        client, leaving = world.client(), world.client()
        world.call(client, "odd")
        world.call(leaving, "odd")
        leaving.is_open = False
        world.hub.gone(leaving)
        world.wait(4)
        self.assertEqual(client.replies, {})
        world.wait(2)
        world["b"].push("odd", 1)
        self.assertEqual(client.events[client.last_id], [1])
        world["a"].mute[0].callback(None)  # too late

    def test_comes_back(self) -> None:
        """When the last node was lost, the first one that has WebSocket again feeds the topic."""
        world = self.world("a")
        client = world.client()
        world.call(client, "syncing")
        world["a"].disconnect()
        world.wait(3)
        world["a"].connect()
        world["a"].push("syncing", True)
        self.assertEqual(client.events[client.last_id], [True])

    def test_flood(self) -> None:
        """What cannot be written as fast as it comes is dropped, and counted once as a gap."""
        self.patch(relay, "MOST_EVENTS", 3)
        world = self.world("a")
        client = world.client()
        for _ in range(SLICE + 1):
            world.call(client, "odd")
        for n in range(10):
            world["a"].push("odd", n)
        self.assertEqual(world.hub.gaps_possible, 1)
        world.settle()
        self.assertEqual({tuple(told) for told in client.events.values()}, {(0, 1, 2)})
        world["a"].push("odd", 10)
        world.settle()
        self.assertEqual(client.events[client.last_id], [0, 1, 2, 10])
