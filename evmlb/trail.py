"""The path of a request through evmlb, as a person reads it, and the ring in which the telling ones are kept.

A *trail* notes what happened to one request: when, what, at which node, and in what words. One is begun for a request
that asks for it (``X-Evmlb-Explain: 1``) and for every other one at the first thing that is not common, so that a
request without a story costs nothing. When the request ends it becomes a *record*: a plain mapping, JSON-able.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from operator import itemgetter
from typing import Any

Record = dict[str, Any]

MAX_STEPS = 64
"""Steps beyond are not noted: a request with more of them has told its story."""
SLOW_SECONDS = 0.05
"""A request that took less is never among the slowest that are kept."""
REFUSAL_SECONDS = 0.1
"""Of requests that are refused at once, one in so long is kept: under overload they are all alike, and many."""
KEPT_SECONDS = 3600.0
"""The slowest requests are those of the last hour."""


class Trail:
    """What happened to one request. ``asked``: its client wants to read it. ``record`` is there at the end."""

    __slots__ = ("asked", "candidates", "record", "steps")

    def __init__(self, *, asked: bool = False) -> None:
        self.asked = asked
        self.candidates: tuple[Any, ...] = ()  # the places of the order at its beginning
        self.steps: list[tuple[float, str, str, str]] = []
        self.record: Record | None = None

    def note(self, at: float, what: str, node: str = "", detail: str = "") -> None:
        """Something happened ``at`` seconds after the request came in."""
        if len(self.steps) < MAX_STEPS:
            self.steps.append((at, what, node, detail))

    def told(self) -> Record:
        """Candidates and steps, as a record shows them; times in milliseconds."""
        return {
            "candidates": [
                {"node": place.node.name, "rank": place.rank, "reason": place.reason} for place in self.candidates
            ],
            "steps": [_step(*step) for step in self.steps],
        }


def _step(at: float, what: str, node: str, detail: str) -> Record:
    step: Record = {"at_ms": round(at * 1000, 1), "what": what}
    if node:
        step["node"] = node
    if detail:
        step["detail"] = detail
    return step


class Ring:
    """The last failures and the slowest requests, ``kept`` of each; all networks of a process share one.

    ``bar_seconds``: a request that took longer is worth a record.
    """

    def __init__(self, kept: int, now: Callable[[], float]) -> None:
        self.bar_seconds = SLOW_SECONDS if kept else float("inf")
        self._kept = kept
        self._now = now
        self._order = count()
        self._refusal_at = float("-inf")
        self._failures: deque[tuple[float, Record]] = deque(maxlen=kept)
        self._slowest: list[tuple[float, int, float, Record]] = []  # a heap: the least slow first

    def takes_refusal(self) -> bool:
        """Whether a request that is refused at once is worth a record."""
        now = self._now()
        if not self._kept or now - self._refusal_at < REFUSAL_SECONDS:
            return False
        self._refusal_at = now
        return True

    def keep_failure(self, record: Record) -> None:
        """A request ended with an error of ours, or with a node's after all nodes were asked."""
        self._failures.append((self._now(), record))

    def keep_slow(self, seconds: float, record: Record) -> None:
        """A request took longer than the bar."""
        if not self._kept:
            return
        entry = (seconds, next(self._order), self._now(), record)
        if len(self._slowest) < self._kept:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heapreplace(self._slowest, entry)
        self._raise_bar()

    def _raise_bar(self) -> None:
        full = len(self._slowest) >= self._kept
        self.bar_seconds = max(SLOW_SECONDS, self._slowest[0][0]) if full else SLOW_SECONDS

    def expire(self) -> None:
        """Forget slow requests of more than an hour ago. Called about once a second."""
        oldest = self._now() - KEPT_SECONDS
        if any(at < oldest for _, _, at, _ in self._slowest):
            self._slowest = [entry for entry in self._slowest if entry[2] >= oldest]
            heapq.heapify(self._slowest)
            self._raise_bar()

    def failures(self) -> Iterator[Record]:
        """The last failures, newest first."""
        return self._aged([(at, record) for at, record in reversed(self._failures)])

    def slowest(self) -> Iterator[Record]:
        """The slowest requests, slowest first."""
        return self._aged([(at, record) for _, _, at, record in sorted(self._slowest, key=itemgetter(0), reverse=True)])

    def _aged(self, entries: list[tuple[float, Record]]) -> Iterator[Record]:
        """One after the other, as there may be thousands."""
        now = self._now()
        for at, record in entries:
            yield {**record, "seconds_ago": round(now - at, 1)}
