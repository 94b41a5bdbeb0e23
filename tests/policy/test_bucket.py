"""A rate that is kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.bucket import TokenBucket
from tests.support import run_property


def take_all(bucket: TokenBucket, now: float) -> int:
    """Take until there is none; how many there were."""
    taken = 0
    while bucket.take(now) == 0.0:
        taken += 1
    return taken


class TokenBucketTests(SynchronousTestCase):
    def test_burst(self) -> None:
        """It starts full: a second's worth, or as many as said, but at least one."""
        for rate, burst, expected in ((10.0, None, 10), (0.1, None, 1), (10.0, 3.0, 3), (10.0, 0.0, 1)):
            self.assertEqual(take_all(TokenBucket(rate, burst), 5.0), expected, (rate, burst))

    def test_wait(self) -> None:
        """Without a token it says how long until there is one, and takes nothing by saying so."""
        bucket = TokenBucket(4.0, 1.0)
        self.assertEqual(bucket.take(100.0), 0.0)
        self.assertEqual([bucket.take(100.0), bucket.take(100.0), bucket.take(100.125)], [0.25, 0.25, 0.125])
        self.assertEqual(bucket.take(100.25), 0.0)

    def test_refill(self) -> None:
        """Tokens come back at the rate, and no more than the burst in all."""
        bucket = TokenBucket(10.0, 5.0)
        take_all(bucket, 0.0)
        self.assertEqual(take_all(bucket, 0.3), 3)
        self.assertEqual(take_all(bucket, 1000.0), 5)

    def test_no_rate(self) -> None:
        """A rate that lets nothing through is refused by name."""
        for rate in (0.0, -1.0, float("nan")):
            with self.assertRaisesRegex(ValueError, "rate_per_second"):
                TokenBucket(rate)

    def test_any(self) -> None:
        """In any span no more is taken than burst and rate allow, and who waits as told gets a token."""

        @given(
            rate=st.floats(0.01, 10_000),
            burst=st.floats(1, 100),
            start=st.floats(0, 1e7),
            pauses=st.lists(st.one_of(st.just(0.0), st.floats(0, 5), st.just(-1.0)), min_size=1, max_size=60),
        )
        def check(rate: float, burst: float, start: float, pauses: list[float]) -> None:
            bucket, now, wait, taken = TokenBucket(rate, burst), start, 0.0, []
            for pause in pauses:
                now += wait if pause < 0 else pause  # -1: as long as told
                told, wait = wait, bucket.take(now)
                assert wait >= 0
                assert not (pause < 0 and told > 0 and wait > 0), "waited as told, in vain"
                taken += [now] * (wait == 0)
            for index, first in enumerate(taken):
                for count, last in enumerate(taken[index:], 1):
                    assert count <= burst + rate * (last - first + 1e-5 * len(taken)) + 1e-6

        run_property(settings(max_examples=150, deadline=None)(check))
