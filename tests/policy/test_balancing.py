"""Who is asked first."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Strategy
from evmlb.policy.balancing import Chooser, chooser
from tests.support import run_property


@dataclass
class Fake:
    """What a chooser reads of a node."""

    index: int
    weight: int = 1
    in_flight: int = 0
    suspect: bool = False

    def __repr__(self) -> str:
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[self.index]


@dataclass(frozen=True)
class FakeOrder:
    """What a chooser reads of an order."""

    serving: tuple[Fake, ...]
    ties: int


def nodes(*weights: int) -> tuple[Fake, ...]:
    return tuple(Fake(index, weight) for index, weight in enumerate(weights))


def order(*serving: Fake, ties: int | None = None) -> FakeOrder:
    return FakeOrder(serving, len(serving) if ties is None else ties)


def made(strategy: Strategy, seed: int = 1) -> Chooser:
    found = chooser(strategy, random.Random(seed))
    assert found is not None
    return found


def sequence(choose: Chooser, given_order: FakeOrder, count: int) -> str:
    return "".join(repr(choose.first(given_order)) for _ in range(count))


class ChooserTests(SynchronousTestCase):
    def test_none(self) -> None:
        """With best and failover-priority the first of the order is the first choice."""
        self.assertIsNone(chooser(Strategy.BEST, random.Random(1)))
        self.assertIsNone(chooser(Strategy.FAILOVER_PRIORITY, random.Random(1)))


class SharedTests(SynchronousTestCase):
    def test_only_ties(self) -> None:
        """Nodes behind the leading group get nothing, however idle."""
        a, b, c = nodes(1, 1, 1)
        a.in_flight = b.in_flight = 50
        self.assertEqual(set(sequence(made(Strategy.SHARED), order(a, b, c, ties=2), 20)), {"A", "B"})

    def test_single(self) -> None:
        """A leader that ties with nobody gets everything."""
        self.assertEqual(sequence(made(Strategy.SHARED), order(*nodes(1, 1), ties=1), 5), "AAAAA")

    def test_turns(self) -> None:
        """Equally loaded nodes take turns."""
        self.assertEqual(sequence(made(Strategy.SHARED), order(*nodes(1, 1, 1)), 7), "ABCABCA")

    def test_fewest(self) -> None:
        """The node with the fewest requests in flight is chosen."""
        a, b, c = nodes(1, 1, 1)
        a.in_flight, b.in_flight, c.in_flight = 3, 1, 2
        self.assertEqual(sequence(made(Strategy.SHARED), order(a, b, c), 3), "BBB")

    def test_weights(self) -> None:
        """Requests that stay in flight spread by weight."""
        a, b = nodes(3, 1)
        choose, given_order = made(Strategy.SHARED), order(a, b)
        for _ in range(40):
            choose.first(given_order).in_flight += 1
        self.assertEqual((a.in_flight, b.in_flight), (30, 10))

    def test_many(self) -> None:
        """Of eight tying nodes the better of two random ones is taken: the busiest never, the others about alike."""
        eight = nodes(*[1] * 8)
        eight[3].in_flight = 9
        counted = Counter(sequence(made(Strategy.SHARED), order(*eight), 7000))
        self.assertNotIn("D", counted)
        self.assertTrue(all(700 < count < 1300 for count in counted.values()), counted)

    def test_many_spread(self) -> None:
        """With two choices, requests that stay in flight spread over many nodes almost evenly."""
        many = nodes(*[1] * 20)
        choose, given_order = made(Strategy.SHARED), order(*many)
        for _ in range(2000):
            choose.first(given_order).in_flight += 1
        self.assertLessEqual(max(n.in_flight for n in many) - min(n.in_flight for n in many), 8)


class WeightRoundRobinTests(SynchronousTestCase):
    def test_sequences(self) -> None:
        """The sequences are TyrScale's."""
        for weights, expected in (
            ((4, 3, 2), "AABABCABC"),
            ((5, 1), "AAAAAB"),
            ((90, 10), "AAAAAAAAAB"),
            ((10, 90), "BBBBBBBBAB"),
            ((7,), "AAA"),
        ):
            choose, given_order = made(Strategy.WEIGHT_ROUND_ROBIN), order(*nodes(*weights))
            self.assertEqual(sequence(choose, given_order, len(expected)), expected)
            self.assertEqual(sequence(choose, given_order, len(expected)), expected)

    def test_configured_order(self) -> None:
        """The sequence goes by the configuration, not by who is best now."""
        a, b, c = nodes(4, 3, 2)
        choose = made(Strategy.WEIGHT_ROUND_ROBIN)
        first = sequence(choose, order(c, a, b), 4)
        self.assertEqual(first + sequence(choose, order(b, c, a, ties=1), 5), "AABABCABC")

    def test_suspect(self) -> None:
        """A suspect node is left out while another is clear, and not when all are suspect."""
        a, b, c = nodes(1, 1, 1)
        b.suspect = True
        self.assertEqual(sequence(made(Strategy.WEIGHT_ROUND_ROBIN), order(a, c, b), 4), "ACAC")
        a.suspect = c.suspect = True
        self.assertEqual(sequence(made(Strategy.WEIGHT_ROUND_ROBIN), order(a, c, b), 4), "ABCA")

    def test_leaving(self) -> None:
        """When a node leaves the sequence goes on over the rest, by their weights."""
        a, b, c = nodes(4, 2, 2)
        choose = made(Strategy.WEIGHT_ROUND_ROBIN)
        sequence(choose, order(a, b, c), 3)
        counted = Counter(sequence(choose, order(a, b), 60))
        self.assertLessEqual(abs(counted["A"] - 40), 2)

    def test_another_tier(self) -> None:
        """A tier of other nodes begins the sequence anew."""
        a, b, c, d = nodes(2, 1, 2, 1)
        choose = made(Strategy.WEIGHT_ROUND_ROBIN)
        self.assertEqual(sequence(choose, order(a, b), 2) + sequence(choose, order(c, d), 3), "AACCD")

    def test_shares(self) -> None:
        """Over a whole round every node gets exactly its weight's share, whatever the weights."""

        @settings(max_examples=100, deadline=None)
        @given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
        def check(weights: list[int]) -> None:
            counted = Counter(sequence(made(Strategy.WEIGHT_ROUND_ROBIN), order(*nodes(*weights)), sum(weights)))
            assert [counted["ABCDEFGH"[n]] for n in range(len(weights))] == weights

        run_property(check)


class LeastLoadTests(SynchronousTestCase):
    def test_sequential(self) -> None:
        """Requests one after another go round, as TyrScale's do."""
        self.assertEqual(sequence(made(Strategy.LEAST_LOAD), order(*nodes(9, 1, 1)), 7), "ABCABCA")

    def test_whole_tier(self) -> None:
        """The fewest in flight of the whole tier wins, tie or not, and weights do not count."""
        a, b, c = nodes(9, 1, 1)
        a.in_flight, b.in_flight, c.in_flight = 2, 2, 1
        self.assertEqual(sequence(made(Strategy.LEAST_LOAD), order(a, b, c, ties=1), 2), "CC")

    def test_longest_ago(self) -> None:
        """Of equally loaded nodes the one chosen longest ago is next."""
        a, b, c = nodes(1, 1, 1)
        choose, given_order = made(Strategy.LEAST_LOAD), order(a, b, c)
        sequence(choose, given_order, 2)
        c.in_flight = 1
        self.assertEqual(sequence(choose, given_order, 1), "A")
        c.in_flight = 0
        self.assertEqual(sequence(choose, given_order, 2), "CB")


class AllStrategiesTests(SynchronousTestCase):
    def test_always_one_of_the_tier(self) -> None:
        """Every strategy always chooses a node of the serving tier, and a clear one while there is one."""

        @settings(max_examples=150, deadline=None)
        @given(st.data())
        def check(data: st.DataObject) -> None:
            strategy = data.draw(st.sampled_from([s for s in Strategy if chooser(s, random.Random(1)) is not None]))
            choose = made(strategy)
            for _ in range(data.draw(st.integers(1, 4))):
                indexes = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=12, unique=True))
                tier = [Fake(i, 1 + i % 4, data.draw(st.integers(0, 3)), data.draw(st.booleans())) for i in indexes]
                tier.sort(key=lambda n: n.suspect)
                leading = [n for n in tier if n.suspect == tier[0].suspect]
                given_order = order(*tier, ties=data.draw(st.integers(1, len(leading))))
                for _ in range(6):
                    assert choose.first(given_order) in leading

        run_property(check)
