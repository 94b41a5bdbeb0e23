"""A limit shared over clients: what one may have, what is left for the others, and that nothing gets lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.shares import Shares
from tests.support import run_property


def greedy(shares: Shares, client: str) -> int:
    """What a client has that takes one after another, for as long as it may."""
    while shares.take(client):
        pass
    return shares.held(client)


class ShareTests(SynchronousTestCase):
    def test_greedy_clients(self) -> None:
        """One alone ends at half, two at a third each, nine at a tenth; so much is left for the next one."""
        for count, most in ((1, 500), (2, 334), (9, 100)):
            shares = Shares(1000)
            for _ in range(1000):  # turn by turn
                for name in range(count):
                    shares.take(str(name))
            held = [shares.held(str(name)) for name in range(count)]
            self.assertLessEqual(max(held), most)
            self.assertGreaterEqual(shares.left, max(held) - 1)

    def test_newcomers(self) -> None:
        """Whoever holds nothing is served while there is room, however greedy the others were."""
        shares = Shares(1000)
        self.assertEqual(greedy(shares, "greedy"), 500)
        self.assertTrue(shares.take("modest", 400))
        self.assertFalse(shares.take("another", 101))
        self.assertTrue(shares.take("another", 100))

    def test_given_back(self) -> None:
        """What is given back is free for all; a client without anything is forgotten."""
        shares = Shares(10)
        self.assertEqual(greedy(shares, "a"), 5)
        shares.give_back("a", 5)
        self.assertEqual((shares.left, len(shares)), (10, 0))
        self.assertEqual(greedy(shares, "a"), 5)

    def test_unbound(self) -> None:
        """Who speaks for many may have all of it, and no more."""
        shares = Shares(10)
        self.assertEqual([shares.take("proxy", bound=False) for _ in range(11)], [True] * 10 + [False])

    def test_least(self) -> None:
        """A wish that comes in parts is granted up to ``least`` while there is room, also where that is everything."""
        shares = Shares(10, least=8)
        self.assertEqual(greedy(shares, "a"), 8)
        self.assertEqual(greedy(shares, "b"), 2)

    def test_too_much_given_back(self) -> None:
        """To give back more than was taken is an error here, not a gift."""
        shares = Shares(10)
        shares.take("a", 2)
        self.assertRaises(ValueError, shares.give_back, "a", 3)
        self.assertEqual((shares.left, shares.held("a")), (8, 2))

    def test_charge(self) -> None:
        """A charge is given back once, however often it is released; there is none without room."""
        shares = Shares(10)
        charge = shares.charge("a", 5)
        assert charge is not None
        self.assertIsNone(shares.charge("a", 5))
        charge.release()
        charge.release()
        self.assertEqual((shares.left, len(shares)), (10, 0))

    def test_any_order(self) -> None:
        """Whatever is taken and given back, all is accounted for, and no bound client has more than what was free."""
        steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=60)

        @given(st.integers(0, 100), steps)
        def check(total: int, taken: list[tuple[str, int, bool]]) -> None:
            shares, held = Shares(total), Counter[str]()
            for client, amount, gives in taken:
                if gives:
                    amount = min(amount, held[client])
                    shares.give_back(client, amount)
                    held[client] -= amount
                elif shares.take(client, amount):
                    self.assertTrue(not held[client] or held[client] + amount <= shares.left)
                    held[client] += amount
                self.assertEqual(shares.left, total - held.total())
                self.assertGreaterEqual(shares.left, 0)
                self.assertEqual(len(shares), sum(each > 0 for each in held.values()))

        run_property(check)
