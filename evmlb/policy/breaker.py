"""When failing requests take a node out, and how it comes back.

Polls ask for little; a node may answer them and still fail what clients ask. Its circuit breaker then takes it out,
and it returns by what clients ask, not by polls. The states, with what leads from one to the other::

    closed ---- too many proven failures ------------> open       (trial due after timeout_seconds)
    open ------ begin, when due ---------------------> half-open
    half-open - max_requests successes in a row -----> closed
    half-open - any failure -------------------------> open       (for twice as long, max_timeout_seconds at most)
    half-open - no outcome in time: stays, and another trial is due

*Too many* is whichever comes first:

* ``max_consecutive_failures`` in a row;
* two in a row that made no connection at all: nothing about a request can have been the cause, and nothing is lost by
  believing it early;
* ``failure_percent`` of the requests of the window, once these are ``min_requests``.

Only *proven* failures count: another node answered the same call well, or no connection could be made. Anything else
might be the request's own doing, and one client's odd request must not take a node from the others. An unproven
failure counts only as a trial's end.

**The window** opens with the first failure and closes, all counts cleared, ``interval_seconds`` later (0: never; then
only closing the breaker clears them). Successes need to be told only while ``failing`` or ``ejected``: before the
first failure there is nothing that they could change, so a healthy node costs nothing per request, and the share is
that of the time since things began to go wrong. Refused: a window that always runs, which is a count per request for
ever; and its end by a task per failure, where a look at ``now`` will do.

**Open times** double with each failed trial and start anew after closing. Each is drawn from 20 % around its value,
after the cap: several processes in front of one node shall not try it in step.

**Late results** of requests sent before the last change of state change nothing: a half-broken node would otherwise be
in and out within a millisecond. ``sent_at`` tells them exactly. Without it they are known only while no trial is under
way; during one, taking one for the other costs one more request at worst. Where an ejected node serves because nothing
else is left, every success closes the breaker: the caller says so.

The words are TyrScale's (sony/gobreaker's), and so is what its settings do, but for this: its window runs from closing
and starts itself anew, ours with the first failure; its open time is always the same; it admits ``max_requests`` trials
and waits for ever for one that is lost; unproven failures count; a batch of failed connections is nothing special.
"""

from __future__ import annotations

import enum
from math import inf
from typing import Protocol

from evmlb.config.schema import BreakerConfig

UNREACHABLE_IN_A_ROW = 2
"""So many failed connections in a row open it, whatever ``max_consecutive_failures`` is."""
JITTER = 0.2
"""An open time is drawn from this part below to this part above its value."""


class BreakerState(enum.Enum):
    """Closed: serves. Open: is spared. Half-open: its trials decide."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Draws(Protocol):
    """What is needed of ``random.Random``."""

    def random(self) -> float:
        """Return a number of ``[0, 1)``."""
        ...


class Breaker:
    """The circuit breaker of one node. ``now`` is in seconds and must not run backwards.

    ``ejected``: open or half-open. ``reason``: of the failure that opened it or last failed a trial, else empty.
    ``opened_at``: when it left ``closed``; ``None`` while it is. These may be read; the rest by its methods.
    """

    __slots__ = (
        "_awaited",
        "_config",
        "_due_at",
        "_failures",
        "_in_a_row",
        "_most",
        "_open_seconds",
        "_patience",
        "_requests",
        "_rng",
        "_since",
        "_successes",
        "_unreachable_in_a_row",
        "_window_ends_at",
        "ejected",
        "opened_at",
        "reason",
    )

    ejected: bool
    reason: str
    opened_at: float | None
    _window_ends_at: float | None
    _requests: int
    _failures: int
    _in_a_row: int
    _unreachable_in_a_row: int
    _awaited: list[float]  # until when each trial's outcome is waited for, oldest first
    _successes: int  # of trials in a row
    _open_seconds: float
    _due_at: float
    _since: float  # the last change of state; what was sent before is late

    def __init__(self, config: BreakerConfig, patience_seconds: float, rng: Draws) -> None:
        """``patience_seconds``: how long the outcome of a trial is waited for before another takes its place."""
        self._config = config
        self._most = max(1, config.max_requests)
        self._patience = patience_seconds
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Forget everything and close: the operator says so, or the node was configured anew."""
        self._close(-inf)

    # questions

    @property
    def state(self) -> BreakerState:
        """The state. It stays open, though a trial is due, until one begins."""
        if not self.ejected:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._awaited or self._successes else BreakerState.OPEN

    @property
    def failing(self) -> bool:
        """Whether failures stand against the node, so that a success would change something."""
        return self._window_ends_at is not None

    def in_trial(self, now: float) -> bool:
        """Whether the outcome of a trial is awaited."""
        return any(now < until for until in self._awaited)

    def due(self, now: float) -> bool:
        """Whether the node should get a trial request."""
        if not self.ejected or now < self._due_at:
            return False
        return self._successes + sum(now < until for until in self._awaited) < self._most

    def due_in_seconds(self, now: float) -> float | None:
        """How long until a trial is due, if none under way ends before; ``None`` when the node is not ejected."""
        if not self.ejected:
            return None
        is_full = self._successes + len(self._awaited) >= self._most
        at = max(self._due_at, self._awaited[0]) if is_full else self._due_at
        return max(0.0, at - now)

    def overdue_seconds(self, now: float) -> float:
        """For how long a trial has been due that nobody began; 0 while none is."""
        return now - self._due_at if self.due(now) else 0.0

    # facts in

    def begin(self, now: float) -> None:
        """A trial request was sent. It takes the place of the oldest when there are too many."""
        if not self.ejected:
            return
        while self._successes + len(self._awaited) >= self._most:
            del self._awaited[0]
        self._awaited.append(now + self._patience)

    def record_failure(
        self,
        reason: str,
        now: float,
        *,
        proven: bool,
        unreachable: bool = False,
        in_a_row: bool = True,
        may_open: bool = True,
        sent_at: float | None = None,
    ) -> bool:
        """An attempt failed; say whether this opened the breaker.

        ``unreachable``: no connection could be made, which proves itself. ``in_a_row`` False: it counts towards the
        share only, as it may be about some requests only (an error that the node answered with). ``may_open`` False:
        too many nodes are out already (panic threshold), so it is counted and no more. ``sent_at``: when the attempt
        began, if known.
        """
        if self._is_late(sent_at):
            return False
        if self.ejected:
            if self._awaited:
                self._fail_trial(reason, now)
            return False
        if not self._config.enabled or not (proven or unreachable):
            return False
        self._count_failure(now, unreachable=unreachable, in_a_row=in_a_row)
        if not may_open or not self._is_too_much():
            return False
        self._open(reason, now)
        return True

    def record_success(self, now: float, *, last_resort: bool = False, sent_at: float | None = None) -> bool:
        """An attempt succeeded; say whether this closed the breaker. Only needed while ``failing`` or ``ejected``.

        ``last_resort``: the node serves in spite of its ejection, so any success is as good as a trial's.
        """
        if self._is_late(sent_at):
            return False
        if self.ejected:
            return self._pass_trial(now, last_resort=last_resort)
        self.expire(now)
        if self.failing:
            self._requests += 1
            self._in_a_row = self._unreachable_in_a_row = 0
        return False

    def expire(self, now: float) -> None:
        """Let time pass: the window of failures runs out."""
        if not self.ejected and self._window_ends_at is not None and now >= self._window_ends_at:
            self._clear_counts()

    # inside

    def _is_late(self, sent_at: float | None) -> bool:
        return sent_at is not None and sent_at < self._since

    def _count_failure(self, now: float, *, unreachable: bool, in_a_row: bool) -> None:
        self.expire(now)
        if self._window_ends_at is None:
            self._window_ends_at = now + (self._config.interval_seconds or inf)
        self._requests += 1
        self._failures += 1
        self._in_a_row += in_a_row
        self._unreachable_in_a_row = self._unreachable_in_a_row + 1 if unreachable else 0

    def _is_too_much(self) -> bool:
        config = self._config
        if self._in_a_row >= config.max_consecutive_failures or self._unreachable_in_a_row >= UNREACHABLE_IN_A_ROW:
            return True
        is_share = 100 * self._failures >= config.failure_percent * self._requests
        return is_share and self._requests >= config.min_requests

    def _open(self, reason: str, now: float) -> None:
        self.ejected, self.opened_at = True, now
        self._stay_open(self._config.timeout_seconds, reason, now)

    def _fail_trial(self, reason: str, now: float) -> None:
        longest = max(self._config.max_timeout_seconds, self._config.timeout_seconds)
        self._stay_open(min(2 * self._open_seconds, longest), reason, now)

    def _stay_open(self, seconds: float, reason: str, now: float) -> None:
        self.reason = reason
        self._since = now
        self._open_seconds = seconds
        self._due_at = now + seconds * (1 - JITTER + 2 * JITTER * self._rng.random())
        self._awaited.clear()
        self._successes = 0

    def _pass_trial(self, now: float, *, last_resort: bool) -> bool:
        if self._awaited:
            del self._awaited[0]
            self._successes += 1
        if not last_resort and self._successes < self._most:
            return False
        self._close(now)
        return True

    def _close(self, now: float) -> None:
        self.ejected, self.reason, self.opened_at = False, "", None
        self._since = now
        self._open_seconds = 0.0
        self._due_at = 0.0
        self._awaited = []
        self._successes = 0
        self._clear_counts()

    def _clear_counts(self) -> None:
        self._window_ends_at = None
        self._requests = self._failures = 0
        self._in_a_row = self._unreachable_in_a_row = 0
