"""How late the event loop is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

LAG_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_INTERVAL_SECONDS = 0.1


class Histogram:
    """Plain numbers in buckets: ``counts`` has one more than ``bounds``, for what is above the last."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is within it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class LoopLag:
    """A timer that measures how late it comes, ten times a second.

    What holds the loop holds every request, and no other number shows it. ``clock`` gives ``callLater``, ``now`` a time
    that does not step.
    """

    def __init__(self, clock: Any, now: Callable[[], float], interval_seconds: float = LAG_INTERVAL_SECONDS) -> None:
        self.histogram = Histogram(LAG_BOUNDS_SECONDS)
        self._clock = clock
        self._now = now
        self._interval = interval_seconds
        self._timer: Any = None
        self._due = 0.0

    def start(self) -> None:
        """Measure from now on; nothing changes when it does already."""
        if self._timer is None:
            self._wait()

    def stop(self) -> None:
        """Measure no more, until started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._due = self._now() + self._interval
        self._timer = self._clock.callLater(self._interval, self._fire)

    def _fire(self) -> None:
        self.histogram.observe(max(0.0, self._now() - self._due))
        self._wait()
