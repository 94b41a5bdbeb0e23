"""Which chain a network is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Role
from evmlb.policy.chain_id import ChainVerdict, judge_chain_ids

L, M, F = Role.LOCAL, Role.MONITORING, Role.FALLBACK


class ChainIdTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """The configured id wins over any majority."""
        self.assertEqual(judge_chain_ids(1, [(L, 5), (L, 5)]), ChainVerdict(1))

    def test_nothing_known(self) -> None:
        """Without a vote nothing is expected, and nothing disputed."""
        self.assertEqual(judge_chain_ids(None, []), ChainVerdict(None))

    def test_locals_first(self) -> None:
        """The majority of local nodes wins over a larger one of all."""
        self.assertEqual(judge_chain_ids(None, [(L, 1), (M, 5), (F, 5), (F, 5)]), ChainVerdict(1))

    def test_all_break_a_tie(self) -> None:
        """Where the local nodes tie, all nodes decide."""
        self.assertEqual(judge_chain_ids(None, [(L, 1), (L, 5), (F, 5)]), ChainVerdict(5))

    def test_no_local(self) -> None:
        """Without a local vote all nodes decide."""
        self.assertEqual(judge_chain_ids(None, [(M, 1), (F, 1), (F, 5)]), ChainVerdict(1))

    def test_tie(self) -> None:
        """A tie of all names the ids that tie, and no other."""
        self.assertEqual(judge_chain_ids(None, [(L, 5), (L, 1), (M, 5), (M, 1), (F, 7)]), ChainVerdict(None, (1, 5)))

    def test_zero(self) -> None:
        """Chain id 0 is an id like any other."""
        self.assertEqual(judge_chain_ids(0, [(L, 1)]), ChainVerdict(0))
