"""How a node that says it is asked too often comes back.

Limited is not unhealthy: the node gets no requests and no polls until a probe of our own (``eth_blockNumber``) was
answered well, ``required_successes`` times::

    clear --- 429 or its like ---------------------> limited (probe due after Retry-After, else after the backoff)
    limited - begin_probe, when due ---------------> probing
    probing - good, and it is the last required ---> clear
    probing - good --------------------------------> limited (probe due after the initial backoff)
    probing - bad ---------------------------------> limited (probe due after Retry-After, else the grown backoff)
    probing - no outcome in time: another is due

The backoff is aetherlay's (``rate_limit_recovery``): ``initial_backoff_seconds`` before the first probe and before the
second, from there on ``backoff_multiplier`` times the one before, ``max_backoff_seconds`` at most. With aetherlay's own
defaults (300 s, 2, 2 h, 10 probes) it asks at 300, 600, 1200, 2400, 4800, 9600, then every 7200 s.

After ``max_retries`` probes in vain (0: no end) the node is given up until ``reset_after_seconds`` have passed since it
became limited. Then everything starts anew, with a probe at once; so it does after that time in any case. Nobody is
given up for good.

Three rules against mistakes of others:

* A burst brings many refusals at once. Only the first counts; a later one moves the end only if the node itself says
  "later than that". Counting each would multiply the backoff by the number of requests that were under way.
* A probe whose outcome is lost does not end the recovery: after ``PROBE_PATIENCE_SECONDS`` another is due.
* A single probe passes where the traffic does not: recovered, the node may be limited again at once. If that comes
  sooner than its last backoff was long, the backoff goes on growing as after a failed probe; starting over each time
  would let through a burst per initial backoff, for ever. So a node that carries the traffic for less time than it
  was spared is spared for longer.

What the node says counts as much as ``max_retry_after_seconds`` allows: nobody is locked out for a year by a typing
error.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from math import inf, isnan

from evmlb.config.schema import RateLimitConfig

PROBE_PATIENCE_SECONDS = 30.0
"""How long the outcome of a probe is waited for: longer than any poll may take."""
MAX_DIGITS = 10
MAX_VALUE_BYTES = 64


class RateLimit:
    """Whether one node wants to be left alone, and until when. ``now`` is in seconds and must not run backwards.

    ``limited``: no requests, no polls. ``explicit``: the node itself said until when. These may be read; the rest by
    its methods.
    """

    __slots__ = (
        "_attempts",
        "_backoff",
        "_config",
        "_first_at",
        "_probe_ends_at",
        "_probed_at",
        "_recovered_at",
        "_successes",
        "_until",
        "explicit",
        "limited",
    )

    limited: bool
    explicit: bool

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self.limited = False
        self.explicit = False
        self._until = 0.0
        self._first_at = 0.0  # since when the attempts are counted
        self._attempts = 0  # probes in vain
        self._successes = 0  # good probes in a row
        self._backoff = 0.0  # the last one, or 0 before the first
        self._probe_ends_at: float | None = None
        self._probed_at = -inf  # or refused a request
        self._recovered_at = -inf

    # questions

    def seconds_left(self, now: float) -> float:
        """How long until the next probe; 0 when it is due, or the node not limited."""
        return max(0.0, self._until - now) if self.limited else 0.0

    @property
    def pause_seconds(self) -> float:
        """How long the present pause is in all."""
        return max(0.0, self._until - self._probed_at) if self.limited else 0.0

    def probe_due(self, now: float) -> bool:
        """Whether the node should get a probe.

        One that wants to be left alone for long is asked a small thing once in a while all the same: a Retry-After may
        be a mistake, and a node that is well must not be left out for it.
        """
        due_at = self._until
        if self.explicit:
            due_at = min(due_at, self._probed_at + self._config.max_backoff_seconds)
        if not self.limited or now < due_at:
            return False
        return self._probe_ends_at is None or now >= self._probe_ends_at

    # facts in

    def record_limited(self, now: float, retry_after_seconds: float | None = None) -> bool:
        """The node refused a request for its rate; say whether it became limited by this.

        ``retry_after_seconds``: how long it wants to be left alone, if it said so; negative or NaN: it did not.
        """
        told = self._bounded(retry_after_seconds)
        if self.limited:
            if told is not None and now + told > self._until:
                self._until, self.explicit = now + told, True
            return False
        if now - self._recovered_at < max(self._backoff, self._config.initial_backoff_seconds):
            self._grow()
        else:
            self._backoff = 0.0
        self.limited = True
        self._probed_at = now
        self._start_over(now)
        self._wait(now, told)
        return True

    def begin_probe(self, now: float) -> None:
        """The probe was sent."""
        self._probed_at = now
        if self.limited:
            self._probe_ends_at = now + PROBE_PATIENCE_SECONDS

    def record_probe(self, now: float, good: bool, retry_after_seconds: float | None = None) -> bool:
        """A probe ended; say whether the node recovered by this.

        ``retry_after_seconds``: as in :meth:`record_limited`, of a probe that was refused. An outcome that nobody waits
        for changes nothing.
        """
        if not self.limited or self._probe_ends_at is None:
            return False
        self._probe_ends_at = None
        if not good:
            self._fail(now, self._bounded(retry_after_seconds))
            return False
        self._successes += 1
        if self._successes >= self._config.required_successes:
            self._recover(now)
            return True
        self._backoff = self._config.initial_backoff_seconds
        self._wait(now, None)
        return False

    # inside

    def _bounded(self, retry_after_seconds: float | None) -> float | None:
        if retry_after_seconds is None or isnan(retry_after_seconds) or retry_after_seconds < 0:
            return None
        return min(retry_after_seconds, self._config.max_retry_after_seconds)

    def _grow(self) -> None:
        config = self._config
        grown = self._backoff * config.backoff_multiplier if self._backoff else config.initial_backoff_seconds
        self._backoff = min(grown, config.max_backoff_seconds)

    def _wait(self, now: float, told: float | None) -> None:
        """Set when the next probe is due."""
        self.explicit = told is not None
        self._until = now + (self._backoff or self._config.initial_backoff_seconds if told is None else told)

    def _start_over(self, now: float) -> None:
        self._first_at = now
        self._attempts = self._successes = 0

    def _fail(self, now: float, told: float | None) -> None:
        config = self._config
        if now >= self._first_at + config.reset_after_seconds:
            self._start_over(now)
            self._backoff = 0.0
        self._attempts += 1
        self._successes = 0
        self._grow()
        self._wait(now, told)
        if config.max_retries and self._attempts >= config.max_retries:
            self._give_up()

    def _give_up(self) -> None:
        ends_at = self._first_at + self._config.reset_after_seconds
        if ends_at > self._until:
            self._until, self.explicit = ends_at, False

    def _recover(self, now: float) -> None:
        self.limited = self.explicit = False
        self._recovered_at = now


def parse_retry_after(value: bytes, unix_time: float) -> float | None:
    """The seconds of a ``Retry-After`` (RFC 9110, 10.2.3): a whole number, or a date to count from ``unix_time``.

    ``None`` for rubbish, a negative number, one of more than ten digits; 0 for a date that has passed.
    """
    text = value.strip()
    if text.isdigit():
        return float(text) if len(text) <= MAX_DIGITS else None
    if len(text) > MAX_VALUE_BYTES:
        return None
    try:
        moment = parsedate_to_datetime(text.decode("latin-1"))
        if moment.tzinfo is None:  # the asctime form; HTTP knows no zone but GMT
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - unix_time)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
