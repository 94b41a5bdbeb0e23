"""When a node that failed requests gets another one.

Polls ask for little; a node may answer them and still fail what clients ask. Such a node is *ejected* after
``fall`` proven failures in a row, and returns by what clients ask, not by polls::

    serving --- proven failure x FALL, no success between ---> ejected (trial due after 1 s)
    ejected --- begin, when due ----------------------------> in trial
    in trial --- success -----------------------------------> serving
    in trial --- failure -----------------------------------> ejected (delay doubled, 30 s at most)
    in trial --- no outcome in time ------------------------> ejected (due at once, delay kept)

Only *proven* failures count: another node answered the same call well, or nothing could be sent at all. Anything
else might be the request's own doing, and one client's odd request must not take a node from the others.

Late answers of requests sent before the ejection change nothing: a half-broken node would otherwise be in and out
within a millisecond. While a trial runs they cannot be told from its outcome; taking one for the other costs one
more request at worst. Where an ejected node serves because nothing else is left, every success readmits it:
the caller says so.
"""

from __future__ import annotations

from evmlb.policy.health import FALL

FIRST_DELAY_SECONDS = 1.0
LAST_DELAY_SECONDS = 30.0


class Trials:
    """The request-side record of one node. ``ejected`` and ``reason`` may be read; the rest by its methods."""

    __slots__ = ("_delay", "_due_at", "_failures", "_outcome_due_at", "_patience", "ejected", "reason")

    ejected: bool
    reason: str

    def __init__(self, patience_seconds: float) -> None:
        """``patience_seconds``: how long the outcome of a trial is waited for before another may begin."""
        self.ejected = False
        self.reason = ""
        self._patience = patience_seconds
        self._failures = 0
        self._delay = FIRST_DELAY_SECONDS
        self._due_at = 0.0
        self._outcome_due_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether proven failures stand against the node, so that a success would change something."""
        return self._failures > 0

    def in_trial(self, now: float) -> bool:
        """Whether the outcome of a trial is awaited."""
        return self._outcome_due_at is not None and now < self._outcome_due_at

    def due(self, now: float) -> bool:
        """Whether the node should get its one trial request."""
        return self.ejected and now >= self._due_at and not self.in_trial(now)

    def due_in_seconds(self, now: float) -> float | None:
        """How long until the next trial, or ``None`` when the node is not ejected."""
        if not self.ejected:
            return None
        at = self._due_at if self._outcome_due_at is None else max(self._due_at, self._outcome_due_at)
        return max(0.0, at - now)

    def begin(self, now: float) -> None:
        """The trial request was sent."""
        if self.ejected:
            self._outcome_due_at = now + self._patience

    def record_failure(self, reason: str, now: float, *, proven: bool) -> bool:
        """An attempt failed; say whether this ejected the node. An unproven failure counts only as a trial's end."""
        if self.ejected:
            if self._outcome_due_at is not None:
                self._fail_trial(reason, now)
            return False
        if not proven:
            return False
        self._failures += 1
        if self._failures < FALL:
            return False
        self.ejected, self.reason = True, reason
        self._delay = FIRST_DELAY_SECONDS
        self._due_at = now + self._delay
        return True

    def record_success(self, *, last_resort: bool = False) -> bool:
        """An attempt succeeded; say whether this readmitted the node.

        ``last_resort``: the node serves in spite of its ejection, so any success is as good as a trial's.
        """
        if self.ejected and self._outcome_due_at is None and not last_resort:
            return False
        readmitted = self.ejected
        self.ejected, self.reason = False, ""
        self._failures = 0
        self._outcome_due_at = None
        return readmitted

    def _fail_trial(self, reason: str, now: float) -> None:
        self.reason = reason
        self._delay = min(2 * self._delay, LAST_DELAY_SECONDS)
        self._due_at = now + self._delay
        self._outcome_due_at = None
