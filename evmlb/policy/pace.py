"""How long each kind of call usually takes: when a hedge is due.

A second node is asked when the first takes longer than 98 % of such calls did: then at most one request in fifty is
sent twice, and only the slow ones (Dean and Barroso, "The Tail at Scale", CACM 2013). The delay is that percentile,
never below ``min_delay_seconds`` (so fast an answer cannot be overtaken) nor above a longest one. There are two of
these, because a call that usually takes seconds must not be asked twice each time:

* ``max_delay_seconds`` for what nodes answer at once, and for calls, estimates and proofs;
* ``heavy_max_delay_seconds`` for logs, traces and every method that is not known.

What a call takes depends on its method, and where it matters on its size: so a range of blocks has a pace by its
width, and a batch by its length, in steps of eight (:func:`pace_name`).

Only the span between the shortest and the longest delay need be known exactly. Answers below it are one counter; the
others go into ``BUCKETS`` buckets, each as many times as wide as the one before, where a percentile is right to the
width of its bucket (12 % and 21 % with the default spans), and always on the side of waiting. What took longer than
the longest delay is in the last, as it means that delay too. The percentiles are taken once a second, not per request.
Counts are halved every ``HALVING_TICKS``, so what was a few minutes ago no longer matters, and a method that is hardly
ever called keeps the figure that it had. Until there are ``FEWEST_ANSWERS``, half as much again as the longest so far
has to do, if that is more than the first delay; the first slow answer counts at once, as many calls may follow it.

Refused: samples in a ring (sorting them costs, and 98 % of what?), and streaming estimators such as P2 (several
floating-point steps per answer, slow to follow a change).
"""

from __future__ import annotations

from math import exp, log

from evmlb.config.schema import HedgeConfig
from evmlb.jsonrpc import Call
from evmlb.methods import FAST, SLOW, TAKES_RANGE
from evmlb.policy.blocks import range_width

BUCKETS = 32
"""Buckets between the shortest and the longest delay; the last is for all above as well."""
SHARE = 0.98
"""The share of the answers that should come before a second node is asked."""
FEWEST_ANSWERS = 20
"""Fewer say nothing of a percentile."""
DOUBT = 1.5
"""While fewer are known, the longest of them times this is what an answer may take."""
HALVING_TICKS = 60
MAX_METHODS = 256
"""So many kinds of calls have a pace of their own; the rest share one, until those nobody knows more of are let go."""
SHORTEST_SECONDS = 0.001
"""Below this, delays are not told apart: ``min_delay_seconds`` of 0 acts as this."""
_SIZE_STEP_BITS = 3

_CALLS = frozenset(["eth_call", "eth_createAccessList", "eth_estimateGas", "eth_getProof", "eth_simulateV1"])
"""Methods of the slow class that nodes answer within seconds nevertheless."""


class Scale:
    """The buckets between two delays, for all paces of a network that share them."""

    __slots__ = ("factor", "first_delay_seconds", "least_seconds", "most_seconds")

    def __init__(self, least_seconds: float, first_seconds: float, most_seconds: float) -> None:
        self.least_seconds = max(SHORTEST_SECONDS, least_seconds)
        self.most_seconds = max(self.least_seconds, most_seconds)
        span = log(self.most_seconds / self.least_seconds)
        self.factor = BUCKETS / span if span > 0 else 0.0
        self.first_delay_seconds = first_seconds

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
    """How long one kind of call takes. ``delay_seconds``: ask a second node after this; read per request.

    ``is_known``: the delay is the calls' own percentile, and not the first delay any more.
    """

    __slots__ = ("_counts", "_fast", "_known", "_least", "_longest", "_scale", "_slow", "delay_seconds", "is_known")

    delay_seconds: float

    def __init__(self, scale: Scale) -> None:
        self.delay_seconds = scale.first_delay_seconds
        self.is_known = False
        self._scale = scale
        self._least = scale.least_seconds
        self._fast = 0  # answers below the shortest delay
        self._slow = 0.0  # the others, and where they are: halved exactly, as few in each would be rounded away
        self._counts = [0.0] * BUCKETS
        self._longest = 0.0
        self._known = 0.0  # how many answers the present delay comes from

    def observe(self, seconds: float) -> None:
        """An answer came, after so long. Takes 0.07 us below the shortest delay, 0.4 us above it."""
        if seconds < self._least:
            self._fast += 1
        else:
            self._slow += 1
            self._counts[self._scale.bucket(seconds)] += 1
            if seconds > self._longest:
                self._longest = seconds
                if not self.is_known:
                    self._guess()

    @property
    def most_seconds(self) -> float:
        """The longest delay of such calls."""
        return self._scale.most_seconds

    def update(self) -> None:
        """Take the percentile anew, if answers have come."""
        answers = self._fast + self._slow
        if answers == self._known:
            return
        if answers >= FEWEST_ANSWERS:
            self._known = answers
            self.is_known = True
            self.delay_seconds = self._percentile(SHARE * answers)

    def halve(self) -> None:
        """Let every answer so far count half."""
        self._fast //= 2
        self._slow /= 2
        self._counts = [count / 2 for count in self._counts]
        self._known = self._fast + self._slow

    def _guess(self) -> None:
        guess = min(DOUBT * self._longest, self._scale.most_seconds)
        self.delay_seconds = max(self._scale.first_delay_seconds, guess)

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
    """The paces of one network's calls."""

    __slots__ = ("_heavy", "_light", "_paces", "_rests", "_ticks")

    def __init__(self, config: HedgeConfig) -> None:
        least = config.min_delay_seconds
        self._light = Scale(least, config.first_delay_seconds, config.max_delay_seconds)
        self._heavy = Scale(least, config.heavy_first_delay_seconds, config.heavy_max_delay_seconds)
        self._paces: dict[str, Pace] = {}
        self._rests = (Pace(self._light), Pace(self._heavy))
        self._ticks = 0

    def of(self, name: str, *, heavy: bool = False) -> Pace:
        """The pace of a method, or of what :func:`pace_name` calls a kind of calls."""
        pace = self._paces.get(name)
        if pace is not None:
            return pace
        if len(self._paces) >= MAX_METHODS:
            return self._rests[heavy]
        pace = self._paces[name] = Pace(self._heavy if heavy else self._light)
        return pace

    def known(self) -> list[tuple[str, float]]:
        """The kinds of calls whose delay is their own percentile, each with that delay in seconds; first called, first.

        Not the paces that the rest shares.
        """
        return [(method, pace.delay_seconds) for method, pace in self._paces.items() if pace.is_known]

    def tick(self) -> None:
        """Bring the delays up to date. Called about once a second."""
        self._ticks += 1
        for pace in (*self._paces.values(), *self._rests):
            pace.update()
            if self._ticks % HALVING_TICKS == 0:
                pace.halve()
        if len(self._paces) >= MAX_METHODS:  # names that no node knows, most likely: they shall not keep others out
            self._paces = {name: pace for name, pace in self._paces.items() if pace.is_known}


def is_heavy(call: Call) -> bool:
    """Whether a call, or one of a batch, may take long by its nature: logs, traces, and what is not known."""
    if call.members is not None:
        return any(map(is_heavy, call.members))
    return call.klass is SLOW and call.method not in _CALLS


def pace_name(call: Call, chainhead: int | None) -> str:
    """Which calls take as long as this: those of its method, and of a like size where that matters.

    ``eth_getLogs up to 64 blocks``, ``batch up to 8 calls``: a label of metrics, so there are few of each.
    """
    if call.members is not None:
        kind = "heavy batch" if is_heavy(call) else "batch" if call.klass is FAST else "slow batch"
        return f"{kind} up to {_step(len(call.members))} calls"
    if call.method in TAKES_RANGE:
        width = range_width(call.method, call.params, chainhead)
        return f"{call.method} of any width" if width is None else f"{call.method} up to {_step(width)} blocks"
    return call.method


def _step(size: int) -> int:
    """The next power of eight."""
    return 1 << -(-max(0, size - 1).bit_length() // _SIZE_STEP_BITS) * _SIZE_STEP_BITS
