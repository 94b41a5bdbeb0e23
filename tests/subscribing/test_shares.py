"""What the subscriptions of one client may take of what all share: memory for filters, and topics fed by nodes."""

from __future__ import annotations

import tracemalloc
from typing import Any

from evmlb.policy.bloom import bloom_mask
from evmlb.policy.logfilter import read_filter
from evmlb.policy.logindex import LogIndex
from evmlb.subscribing.hub import SUBSCRIPTION_BYTES
from evmlb.subscribing.topics import MOST_RELAYS
from tests.subscribing.test_hub import Case

LIMIT_EXCEEDED = -32005


def wide(seed: int, addresses: int = 1000, topics: int = 1000) -> dict[str, Any]:
    """A filter like no other's."""
    numbers = iter(range(seed << 32, (seed + 1) << 32))
    return {
        "address": [f"0x{next(numbers):040x}" for _ in range(addresses)],
        "topics": [[f"0x{next(numbers):064x}" for _ in range(topics)] for _ in range(4)] if topics else [],
    }


class FilterTests(Case):
    def test_charged(self) -> None:
        """Wide filters are charged to a budget; a client that has its share is told so, others are served."""
        world = self.world("a", memory=10_000_000)
        client, other = world.client(), world.client(client="198.51.100.7")
        calls = [world.call(client, "logs", wide(seed)) for seed in range(20)]
        refused = [client.refusals[call] for call in calls if call in client.refusals]
        self.assertEqual((client.subscriptions, len(refused)), (5, 15))
        self.assertEqual(refused[0][0], LIMIT_EXCEEDED)
        self.assertIn("this client's subscriptions take too much memory", refused[0][1])
        self.assertNotIn(world.call(other, "logs", wide(99)), other.refusals)

    def test_over_connections(self) -> None:
        """The share is the client's, not the connection's."""
        world = self.world("a", memory=10_000_000)
        connections = [world.client() for _ in range(10)]
        for seed, each in enumerate(connections):
            world.call(each, "logs", wide(seed))
        self.assertEqual(sum(each.subscriptions for each in connections), 5)

    def test_given_back(self) -> None:
        """What a subscription takes is free with its end, and with its client's; what is refused takes nothing."""
        world = self.world("a b")
        client = world.client()
        for params in (("newHeads",), ("logs", wide(1, 3, 3)), ("syncing",), ("logs", {"address": 5}), ("newHeads", 1)):
            world.call(client, *params)
        taken = world.memory.total - world.memory.left
        self.assertEqual(taken, 2 * SUBSCRIPTION_BYTES + read_filter(wide(1, 3, 3)).held_bytes)
        world.hub.unsubscribe(client, client.last_id)
        self.assertEqual(world.memory.total - world.memory.left, taken - SUBSCRIPTION_BYTES)
        world.hub.gone(client)
        self.assertEqual(world.memory.left, world.memory.total)

    def test_given_back_when_it_waits_in_vain(self) -> None:
        """One that is not made, because the chain's head is not known or its client leaves meanwhile, takes nothing."""
        world = self.world("a", push=False)
        world["a"].is_frozen = True
        world.wait(5)
        client, leaving = world.client(), world.client()
        call = world.call(client, "logs", wide(1, 3, 3))
        world.call(leaving, "newHeads")
        self.assertLess(world.memory.left, world.memory.total)
        leaving.is_open = False
        world.hub.gone(leaving)
        world.wait(6)
        self.assertIn(call, client.refusals)
        self.assertEqual(world.memory.left, world.memory.total)

    def test_honest(self) -> None:
        """What a filter is charged is what it takes, not less and not twice as much.

        The memo of masks is emptied before and after: what it has of its own is no filter's, and a mask that it knew
        already would seem to take nothing.
        """
        for addresses, topics, count in ((1000, 1000, 10), (1000, 0, 10), (100, 0, 100), (99, 99, 20), (10, 0, 200)):
            index: LogIndex[int] = LogIndex()
            values = [wide(seed, addresses, topics) for seed in range(count)]
            bloom_mask.cache_clear()
            tracemalloc.start()
            try:
                charged = 0
                for seed, value in enumerate(values):
                    log_filter = read_filter(value)
                    index.add(log_filter, seed)
                    charged += log_filter.held_bytes
                bloom_mask.cache_clear()
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            self.assertTrue(0.75 * held < charged < 2 * held, (addresses, topics, held, charged))


class TopicTests(Case):
    def test_odd_topics(self) -> None:
        """A client with ever other topics gets half of what nodes feed at most; another client still gets its own."""
        world = self.world("a")
        client, other = world.client(max_subscriptions=2000), world.client(client="198.51.100.7")
        calls = [world.call(client, "odd", number) for number in range(999)]
        self.assertEqual(client.subscriptions, MOST_RELAYS // 2)
        code, words = client.refusals[calls[-1]]
        self.assertEqual((code, words), (LIMIT_EXCEEDED, "too many different subscriptions of this client's"))
        self.assertNotIn(world.call(other, "syncing"), other.refusals)
        self.assertNotIn(world.call(client, "odd", 5), client.refusals)  # one that there is
        world.hub.gone(client)
        calls = [world.call(other, "odd", number) for number in range(400)]
        self.assertFalse(other.refusals)


class CountTests(Case):
    def test_too_many_arguments(self) -> None:
        """As geth and Erigon do: what a topic does not take is refused, with its words, and not silently ignored."""
        world = self.world("a")
        client = world.client()
        for most, params in (
            (1, ("newHeads", {})),
            (1, ("newHeads", {"includeTransactions": True})),
            (1, ("newHeads", None)),
            (1, ("newHeads", {}, {"resume": world.chain.tip.hash})),
            (2, ("logs", {}, {})),
            (1, ("syncing", 1)),
            (1, ("syncing", {})),
        ):
            call = world.call(client, *params)
            self.assertEqual(client.refusals.get(call), (-32602, f"too many arguments, want at most {most}"), params)
        for params in (("newHeads",), ("logs", {}), ("newHeads", {"resume": world.chain.tip.hash}), ("syncing",)):
            self.assertNotIn(world.call(client, *params), client.refusals)
