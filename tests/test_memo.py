"""What was worked out before."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.memo import ENTRY_BYTES, Memo


class MemoTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """What was kept is there; a second time changes nothing."""
        memo: Memo[str, int] = Memo(10_000, 1000)
        for _ in range(1000):
            memo.keep("a", 1, 500)
        self.assertEqual(memo.get("a"), 1)

    def test_bounded_by_bytes(self) -> None:
        """However many entries come, their bytes are bounded, and the newest is there."""
        for size in (1, 100, 1000):
            memo: Memo[int, int] = Memo(10_000, 1000)
            for key in range(1000):
                memo.keep(key, key, size)
                self.assertLessEqual(len(memo) * (size + ENTRY_BYTES), 10_000)
            self.assertEqual(memo.get(999), 999)

    def test_large_ones(self) -> None:
        """One that is too large is not kept, and pushes out nothing."""
        memo: Memo[str, int] = Memo(10_000, 1000)
        memo.keep("a", 1, 10)
        memo.keep("b", 2, 1001)
        self.assertEqual(dict(memo), {"a": 1})
