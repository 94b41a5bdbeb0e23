"""How long each method usually takes: when a hedge is due.

A second node is asked when the first takes longer than 95 % of the method's answers: then at most one request in
twenty is sent twice, and only the slow ones (Dean and Barroso, "The Tail at Scale", CACM 2013). The delay is that
percentile, never below ``min_delay_seconds`` (so fast an answer cannot be overtaken) nor above ``max_delay_seconds``.

So only the span between these two need be known exactly. Answers below it are one counter; the others go into
``BUCKETS`` buckets, each as many times as wide as the one before, where a percentile is right to the width of its
bucket: 12 % with the default span, and always on the side of waiting. What took longer than the longest delay is in the
last, as it means that delay too. The percentiles are taken once a second, not per request. Counts are halved every
``HALVING_TICKS``, so what was a few minutes ago no longer matters, and a method that is hardly ever called keeps the
figure that it had.

Refused: samples in a ring (sorting them costs, and 95 % of what?), and streaming estimators such as P2 (several
floating-point steps per answer, slow to follow a change).
"""

from __future__ import annotations

from math import exp, log

from evmlb.config.schema import HedgeConfig

BUCKETS = 32
"""Buckets between the shortest and the longest delay; the last is for all above as well."""
SHARE = 0.95
"""The share of the answers that should come before a second node is asked."""
FEWEST_ANSWERS = 20
"""Fewer say nothing of a percentile of 95 %."""
HALVING_TICKS = 60
MAX_METHODS = 256
"""So many methods have a pace of their own; the rest share one."""
SHORTEST_SECONDS = 0.001
"""Below this, delays are not told apart: ``min_delay_seconds`` of 0 acts as this."""


class Scale:
    """The buckets between two delays, for all paces of a network."""

    __slots__ = ("factor", "first_delay_seconds", "least_seconds", "most_seconds")

    def __init__(self, config: HedgeConfig) -> None:
        self.least_seconds = max(SHORTEST_SECONDS, config.min_delay_seconds)
        self.most_seconds = max(self.least_seconds, config.max_delay_seconds)
        span = log(self.most_seconds / self.least_seconds)
        self.factor = BUCKETS / span if span > 0 else 0.0
        self.first_delay_seconds = config.first_delay_seconds

    def bucket(self, seconds: float) -> int:
        """The bucket of an answer that took at least the shortest delay."""
        if seconds >= self.most_seconds:
            return BUCKETS - 1
        return min(int(log(seconds / self.least_seconds) * self.factor), BUCKETS - 1)

    def upper_seconds(self, bucket: int) -> float:
        """The upper end of a bucket; of the last, the longest delay."""
        if bucket >= BUCKETS - 1:
            return self.most_seconds
        return self.least_seconds * exp((bucket + 1) / self.factor)


class Pace:
    """How long one method takes. ``delay_seconds``: ask a second node after this; read per request.

    ``is_known``: the delay is the method's own percentile, and not the first delay any more.
    """

    __slots__ = ("_counts", "_fast", "_known", "_least", "_scale", "_slow", "delay_seconds", "is_known")

    delay_seconds: float

    def __init__(self, scale: Scale) -> None:
        self.delay_seconds = scale.first_delay_seconds
        self.is_known = False
        self._scale = scale
        self._least = scale.least_seconds
        self._fast = 0  # answers below the shortest delay
        self._slow = 0.0  # the others, and where they are: halved exactly, as few in each would be rounded away
        self._counts = [0.0] * BUCKETS
        self._known = 0.0  # how many answers the present delay comes from

    def observe(self, seconds: float) -> None:
        """An answer came, after so long. Takes 0.07 us below the shortest delay, 0.3 us above it."""
        if seconds < self._least:
            self._fast += 1
        else:
            self._slow += 1
            self._counts[self._scale.bucket(seconds)] += 1

    def update(self) -> None:
        """Take the percentile anew, if answers have come."""
        answers = self._fast + self._slow
        if answers == self._known or answers < FEWEST_ANSWERS:
            return
        self._known = answers
        self.is_known = True
        self.delay_seconds = self._percentile(SHARE * answers)

    def halve(self) -> None:
        """Let every answer so far count half."""
        self._fast //= 2
        self._slow /= 2
        self._counts = [count / 2 for count in self._counts]
        self._known = self._fast + self._slow

    def _percentile(self, rank: float) -> float:
        reached: float = self._fast
        if reached >= rank:
            return self._least
        for bucket, count in enumerate(self._counts):
            reached += count
            if reached >= rank:
                return self._scale.upper_seconds(bucket)
        return self._scale.most_seconds


class Paces:
    """The paces of one network's methods."""

    __slots__ = ("_paces", "_rest", "_scale", "_ticks")

    def __init__(self, config: HedgeConfig) -> None:
        self._scale = Scale(config)
        self._paces: dict[str, Pace] = {}
        self._rest = Pace(self._scale)
        self._ticks = 0

    def of(self, method: str) -> Pace:
        """The pace of a method."""
        pace = self._paces.get(method)
        if pace is not None:
            return pace
        if len(self._paces) >= MAX_METHODS:
            return self._rest
        pace = self._paces[method] = Pace(self._scale)
        return pace

    def known(self) -> list[tuple[str, float]]:
        """The methods whose delay is their own percentile, each with that delay in seconds; first called, first.

        Not the pace that the rest shares.
        """
        return [(method, pace.delay_seconds) for method, pace in self._paces.items() if pace.is_known]

    def tick(self) -> None:
        """Bring the delays up to date. Called about once a second."""
        self._ticks += 1
        for pace in (*self._paces.values(), self._rest):
            pace.update()
            if self._ticks % HALVING_TICKS == 0:
                pace.halve()
