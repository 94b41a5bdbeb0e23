"""How much may be sent beyond what was asked: retries and hedges.

A network in trouble must not be asked twice for everything: it would break where it only limped. So extra sendings
have a budget, a share of the requests, as in Finagle's ``RetryBudget`` (github.com/twitter/finagle): in any 10 s at
most ``percent`` of the requests of these 10 s, but ``min_per_second`` in any case, so that a quiet network can retry.

Finagle deposits into a token bucket at each request. Here an ordinary request costs nothing: the requests are read off
a counter that exists anyway. :meth:`Budget.tick` marks where it stood, once a second; the difference to the mark of
10 s ago is the number of requests. The mark is up to a second older than that, so the number is taken in proportion.
Spendings are rare, and counted by tenths of a second.
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0
"""What was spent is forgotten after so long, and so are requests."""
MARK_SECONDS = 0.5
"""Ticks that come sooner after each other make one mark: that bounds the marks, however often they come."""
SLICE_SECONDS = 0.1
"""Spendings that come sooner after each other are counted, and forgotten, together."""


class Budget:
    """The budget of one kind of extra sending in one network.

    ``now`` is in seconds and must not run backwards. ``total_requests``: requests since the start.
    """

    __slots__ = ("_floor", "_marks", "_share", "_spendings", "_spent")

    def __init__(self, percent: float, min_per_second: float) -> None:
        self._share = percent / 100
        self._floor = min_per_second * WINDOW_SECONDS
        self._marks: deque[tuple[float, int]] = deque()  # when, and the requests until then
        self._spendings: deque[tuple[float, int]] = deque()  # when a slice began, and how many in it
        self._spent = 0  # their sum

    def tick(self, total_requests: int, now: float) -> None:
        """Mark where the counter stands. Called about once a second."""
        marks = self._marks
        if not marks or now - marks[-1][0] >= MARK_SECONDS:
            marks.append((now, total_requests))
        while len(marks) > 1 and marks[1][0] <= now - WINDOW_SECONDS:
            marks.popleft()
        self._forget(now)

    def may_spend(self, total_requests: int, now: float) -> bool:
        """Whether one more extra sending is within the budget."""
        self.tick(total_requests, now)
        since, before = self._marks[0]
        requests = (total_requests - before) * WINDOW_SECONDS / max(now - since, WINDOW_SECONDS)
        return self._spent + 1 <= max(self._floor, self._share * requests)

    def spend(self, now: float) -> None:
        """An extra sending was made. It is counted even if the budget did not allow it."""
        self._forget(now)
        began_at, count = now, 0
        if self._spendings and now - self._spendings[-1][0] < SLICE_SECONDS:
            began_at, count = self._spendings.pop()
        self._spendings.append((began_at, count + 1))
        self._spent += 1

    def refund(self, now: float) -> None:
        """An extra sending turned out well and is not charged: the latest is taken back, if it still counts."""
        self._forget(now)
        if not self._spendings:
            return
        began_at, count = self._spendings.pop()
        if count > 1:
            self._spendings.append((began_at, count - 1))
        self._spent -= 1

    def _forget(self, now: float) -> None:
        """Drop the slices of which all was spent more than 10 s ago: in any 10 s no more is spent than allowed."""
        spendings = self._spendings
        while spendings and spendings[0][0] + SLICE_SECONDS <= now - WINDOW_SECONDS:
            self._spent -= spendings.popleft()[1]
