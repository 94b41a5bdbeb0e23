"""Whether nodes have the same blocks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Role
from evmlb.policy.forks import KEPT_HEIGHTS, LEAST_DEPTH, PERIOD_SECONDS, Forks

L, M, F = Role
A, B, C = "0xaa", "0xbb", "0xcc"


class HeightTests(SynchronousTestCase):
    def test_below_the_tip(self) -> None:
        """The block is so deep that no race of tips reaches it, and that a node which lags as far as it may has it."""
        self.assertEqual(Forks(5).height(100, 0.0), 100 - LEAST_DEPTH)
        self.assertEqual(Forks(50).height(100, 0.0), 50)
        self.assertEqual(Forks(5).height(3, 0.0), 0)
        self.assertIsNone(Forks(5).height(None, 0.0))

    def test_same_for_a_while(self) -> None:
        """Within a period all are asked for the same block; not for one that a fallen chainhead does not have."""
        forks = Forks(5)
        first = forks.height(100, 0.0)
        self.assertEqual(forks.height(110, PERIOD_SECONDS - 0.1), first)
        self.assertEqual(forks.height(110, PERIOD_SECONDS), 110 - LEAST_DEPTH)
        self.assertEqual(forks.height(50, PERIOD_SECONDS + 1), 50 - LEAST_DEPTH)


class StrayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.forks = Forks(5)

    def vote(self, *votes: tuple[int, Role, str], height: int = 84) -> dict[int, int]:
        for index, role, block_hash in votes:
            self.forks.report(index, role, height, block_hash)
        return self.forks.strays

    def test_agreed(self) -> None:
        """Nodes with the same block are no strays, however they write it, nor is one that is alone."""
        self.assertEqual(self.vote((0, L, A), (1, L, A.upper().replace("0X", "0x"))), {})
        self.assertEqual(self.vote((2, F, B), height=90), {})

    def test_local_majority(self) -> None:
        """What most local nodes have is right, whatever the others have."""
        self.assertEqual(
            self.vote((0, L, A), (1, L, A), (2, L, B), (3, F, B), (4, F, B), (5, F, B)), {2: 84, 3: 84, 4: 84, 5: 84}
        )

    def test_others_decide(self) -> None:
        """Where local nodes tie, most of all nodes decide."""
        self.assertEqual(self.vote((0, L, A), (1, L, B), (2, F, B)), {0: 84})

    def test_tie(self) -> None:
        """Where that ties as well, the one that is listed first is right."""
        self.assertEqual(self.vote((0, L, A), (1, L, B)), {1: 84})
        self.assertEqual(self.vote((1, L, B), (0, L, A), height=90), {1: 90})

    def test_tie_after_a_majority(self) -> None:
        """A stray does not become right by a tie, though it is listed first."""
        self.vote((0, L, A), (1, L, B), (2, L, B))
        self.assertEqual(self.vote((0, L, A), (1, L, B), height=90), {0: 90})

    def test_heals(self) -> None:
        """A stray that agrees at a later block is none any more; not by an answer to an earlier question."""
        self.vote((0, L, A), (1, L, A), (2, L, B))
        self.vote((0, L, A), (1, L, A), (2, L, B), height=90)
        self.assertEqual(self.vote((2, L, A), height=84), {2: 90})
        self.assertEqual(self.vote((0, L, C), (2, L, C), (1, L, C), height=95), {})

    def test_no_vote(self) -> None:
        """Who cannot be compared stays what it was: a stray alone at a height is still one."""
        self.vote((0, L, A), (1, L, A), (2, L, B))
        self.assertEqual(self.vote((2, L, B), height=90), {2: 84})

    def test_told(self) -> None:
        """It is said when the strays change."""
        said = [self.forks.report(*vote) for vote in ((0, L, 84, A), (1, L, 84, B), (1, L, 84, B), (1, L, 84, A))]
        self.assertEqual(said, [False, True, False, True])

    def test_bounded(self) -> None:
        """Only a few heights are kept."""
        for height in range(100):
            self.vote((0, L, A), height=height)
        self.assertEqual(len(self.forks._votes), KEPT_HEIGHTS)
