"""A rate that we keep of our own: ``requests_per_second`` of a node.

A token bucket, kept as one number in place of a level and a time: when the bucket will next be full (the *theoretical
arrival time* of the generic cell rate algorithm, ITU-T I.371, where the two are shown to be the same). A token moves
that time on by one interval; there is one as long as it is not further ahead than the bucket is deep.
"""

from __future__ import annotations

from math import inf

GRACE_SECONDS = 1e-6
"""A token that is this near is there: whoever waits as long as told finds it, in spite of rounding."""


class TokenBucket:
    """Lets ``burst`` requests through at once and ``rate_per_second`` in the long run. It starts full."""

    __slots__ = ("_depth", "_full_at", "_interval")

    def __init__(self, rate_per_second: float, burst: float | None = None) -> None:
        """``rate_per_second`` must be above 0. ``burst``: by default a second's worth; at least 1 in any case.

        Raises:
            ValueError: the rate is not above 0.
        """
        if not rate_per_second > 0:
            raise ValueError(f"rate_per_second must be above 0, not {rate_per_second}")
        self._interval = 1.0 / rate_per_second
        self._depth = (max(1.0, rate_per_second if burst is None else burst) - 1.0) * self._interval
        self._full_at = -inf

    def take(self, now: float) -> float:
        """Take a token: 0.0. If there is none, nothing is taken: the seconds until one is there."""
        full_at = max(self._full_at, now)
        wait = full_at - now - self._depth
        if wait > GRACE_SECONDS:
            return wait
        self._full_at = full_at + self._interval
        return 0.0

    def is_ready(self, now: float) -> bool:
        """Whether a token is there."""
        return self._full_at - now - self._depth <= GRACE_SECONDS
