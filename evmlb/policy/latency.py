"""How fast a node is: a moving average of its polls, and the steadier figure that it is ranked by.

Theory. Polls use the connection requests use, so their latency is what clients feel; but a single poll is mostly
noise. So each sample moves an exponential average by ``ALPHA``, a fifth: after a change of speed the average has
gone two thirds of the way in five polls, nine tenths in eleven. The first sample *is* the average.

Ranking by the bare average would recompute the order at every poll. The ``settled`` figure follows the average only
when that has left it by more than 5 % and more than 0.2 ms, a small part of the 20 % and 2 ms within which nodes tie:
so a poll that brings nothing new changes no fact, and nothing needs to be ordered again.

Refused: a window with a percentile (keeps samples, and a node that got slow stays fast for half a window), and the
peak-sensitive average (one slow poll would move all the traffic).
"""

from __future__ import annotations

ALPHA = 0.2
"""The share of a new sample in the average."""

SETTLED_FRACTION = 0.05
SETTLED_SECONDS = 0.0002


class Latency:
    """The latency of one node. Both figures are seconds, and ``None`` before the first poll."""

    __slots__ = ("average_seconds", "settled_seconds")

    average_seconds: float | None
    settled_seconds: float | None

    def __init__(self) -> None:
        self.average_seconds = None
        self.settled_seconds = None

    def observe(self, sample_seconds: float) -> bool:
        """Take the latency of one poll; say whether the settled figure changed."""
        sample = max(0.0, sample_seconds)
        before = self.average_seconds
        average = sample if before is None else before + ALPHA * (sample - before)
        self.average_seconds = average
        settled = self.settled_seconds
        if settled is not None and abs(average - settled) <= max(SETTLED_SECONDS, SETTLED_FRACTION * settled):
            return False
        self.settled_seconds = average
        return True

    def forget(self) -> None:
        """Start anew: what the node did before it went away says nothing of how fast it is now."""
        self.average_seconds = None
        self.settled_seconds = None
