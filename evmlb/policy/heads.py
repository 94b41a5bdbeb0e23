"""How far the chain is: the highest head that can be believed.

Theory. Every node that is on the right chain has one *voice*: the head of its last good poll, or a higher one that
an answer passing by has shown since. The chainhead is the highest voice that is *credible*.

The *anchor* is what credibility is measured from: the highest number that two voices support, or that one has proven
(its hash, and a timestamp that is not in the future). From the anchor the chain may have moved on by what time
allows::

    ceiling = anchor + elapsed since the anchor was reached / block time + slack     block time known
    ceiling = anchor + block diff                                                    not known yet

Voices up to the ceiling are credible, those beyond are *doubted*. What wins when two rules apply:

1. A lone voice is believed whatever it says: there is nothing better. It moves the anchor only as time strictly
   allows (no slack, or slack would add up, poll by poll), and sets a first one only after 20 advances.
2. A doubted voice is credible as soon as a second one supports it, its own next poll proves it, or time has come
   round to it.
3. A doubted voice whose own next poll (asked after the doubt arose) proves nothing is *refuted*: the first doubt
   costs the node nothing (a burst of blocks is no lie), the second takes it out.
4. The anchor stays while some voice reaches it; when none does, it comes down to the highest that is left.
5. The chainhead does not come down because the voice that carried it rose beyond belief: not below the anchor, nor
   below what it was while an unrefuted voice reaches that. Else a node that is far behind would be the one in step.
6. Block 0 is the chainhead of a chain that stands there. Where any voice is higher, it is what nodes say that have
   just begun: such voices support nothing, or two of them would make a liar of the only node that is in step.

Only the anchor is trusted, and one voice alone cannot move it faster than time: so one lying node lifts the chainhead
by the slack at most, which leaves the others within their block diff. The slack is half the diff, and one at least.

What two voices support was true when the first of them said it, if time allowed it then; so the anchor is not older
than need be, although nodes are polled at different moments.

The block time is configured, or the median of the last 20 advances of the anchor: a median, because one halt of the
chain would spoil a mean for 20 blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise
from math import inf
from operator import attrgetter
from statistics import median

LEARNING_ADVANCES = 20
"""Advances of the anchor after which its pace is believed."""

CLOCK_SKEW_SECONDS = 15.0
"""How far ahead of our clock a block's timestamp may be before it lies in the future."""

LATEST_SECONDS = 10**11
"""No time in seconds since 1970 is later: the year 5138."""

_NOBODY: frozenset[int] = frozenset()


def is_proof(block_hash: str | None, timestamp: int | None, unix_time: float | None) -> bool:
    """Whether a block shown for a doubted number proves it: it has a hash, and its time has come.

    ``timestamp`` is the block's, ``unix_time`` our wall clock when it was shown (``now`` may be monotonic, so it
    cannot serve). Without any of the three nothing is proven.
    """
    if not block_hash or timestamp is None or unix_time is None:
        return False
    return seconds_ahead(timestamp, unix_time) <= CLOCK_SKEW_SECONDS


def seconds_ahead(timestamp: int, unix_time: float) -> float:
    """How far a block's time is ahead of our clock, negative for one that has come.

    Some chains count in milliseconds or nanoseconds. A number that is no time in seconds for the next millennia is
    taken for the largest unit in which it is one.
    """
    while timestamp > LATEST_SECONDS:
        timestamp //= 1000
    return timestamp - unix_time


@dataclass(frozen=True, slots=True)
class _Voice:
    number: int
    since: float  # when this number was first said


_by_number = attrgetter("number")


@dataclass(slots=True)
class _Doubt:
    since: float
    refuted: bool = False


@dataclass(frozen=True, slots=True)
class _Anchor:
    number: int
    since: float
    supported: bool


class Heads:
    """The voices of one network, and what they add up to.

    ``number`` is the chainhead, ``None`` without a voice; ``since`` is when it took its present value. Reporters are
    named by any integer, such as the node's index. Time must not run backwards.
    """

    __slots__ = (
        "_anchor",
        "_block_time",
        "_diff",
        "_doubts",
        "_heard",
        "_history",
        "_horizon",
        "_learns",
        "_polled",
        "_slack",
        "_steps",
        "number",
        "since",
    )

    number: int | None
    since: float

    def __init__(
        self, block_diff: int, block_time_seconds: float | None, now: float, *, horizon_seconds: float = 60.0
    ) -> None:
        """``horizon_seconds``: how far back :meth:`known_at` is asked."""
        self.number = None
        self.since = now
        self._diff = block_diff
        self._slack = max(1, block_diff // 2)
        self._block_time = block_time_seconds
        self._learns = block_time_seconds is None
        self._horizon = horizon_seconds
        self._polled: dict[int, _Voice] = {}
        self._heard: dict[int, _Voice] = {}
        self._doubts: dict[int, _Doubt] = {}
        self._anchor: _Anchor | None = None
        self._steps: deque[tuple[float, int]] = deque(maxlen=LEARNING_ADVANCES + 1)
        self._history: deque[tuple[float, int | None]] = deque()

    # facts in

    def report(self, reporter: int, number: int, now: float, *, started_at: float, proven: bool = False) -> None:
        """A poll that was begun at ``started_at`` said ``number``.

        ``proven``: the same poll has proven the number that :meth:`doubted` gave when it was begun.
        """
        doubt = self._doubts.get(reporter)
        if doubt is not None and proven:
            self._prove(self._polled[reporter], now)
            doubt = None
        heard = self._heard.get(reporter)
        if heard is not None and (heard.number <= number or heard.since <= started_at):
            del self._heard[reporter]
        polled = self._polled.get(reporter)
        if polled is None or polled.number != number:
            self._polled[reporter] = _Voice(number, now)
        self._settle(now)
        if doubt is not None and reporter in self._doubts and started_at >= doubt.since:
            self._doubts[reporter].refuted = True

    def hear(self, reporter: int, number: int, now: float) -> None:
        """An answer passing by showed that this reporter has block ``number``.

        It can raise the chainhead, if it is credible now; it never lowers a voice and is never held against anyone.
        """
        voice = self._voice(reporter)
        if voice is None or number <= voice.number or not self._is_credible(number, now):
            return
        self._heard[reporter] = _Voice(number, now)
        self._settle(now)

    def forget(self, reporter: int, now: float) -> None:
        """The reporter's word does not count any more: down, too old, on another chain."""
        if self._polled.pop(reporter, None) is None:
            return
        self._heard.pop(reporter, None)
        self._settle(now)

    def expire(self, now: float) -> None:
        """Let time pass: a doubted voice may have become credible."""
        if self._doubts:
            self._settle(now)

    # decisions out

    @property
    def block_time_seconds(self) -> float | None:
        """The configured or learnt time between blocks."""
        return self._block_time

    def reports(self, reporter: int) -> bool:
        """Whether this reporter has a voice."""
        return reporter in self._polled

    def doubted(self, reporter: int) -> int | None:
        """The number that the reporter's next poll should prove, or ``None``."""
        return self._polled[reporter].number if reporter in self._doubts else None

    @property
    def doubts(self) -> frozenset[int]:
        """The reporters whose heads are doubted, refuted ones included."""
        return frozenset(self._doubts) if self._doubts else _NOBODY

    @property
    def refutations(self) -> frozenset[int]:
        """The reporters that are refuted."""
        return frozenset(r for r in self._doubts if self.refuted(r)) if self._doubts else _NOBODY

    def refuted(self, reporter: int) -> bool:
        """Whether the reporter was doubted, had the chance to prove its head, and did not."""
        doubt = self._doubts.get(reporter)
        return doubt is not None and doubt.refuted

    def known_at(self, time: float) -> int | None:
        """The chainhead as it was known at a past time within the horizon; ``None`` if there was none yet."""
        known: int | None = None
        for since, number in self._history:
            if since > time:
                return known
            known = number
        return known

    # inside

    def _voice(self, reporter: int) -> _Voice | None:
        return self._heard.get(reporter) or self._polled.get(reporter)

    def _is_credible(self, number: int, now: float) -> bool:
        return len(self._polled) < 2 or number <= self._ceiling(now)

    def _ceiling(self, now: float) -> float:
        if self._anchor is None:
            return inf
        return self._time_line(self._anchor, now) + (self._slack if self._block_time else self._diff)

    def _time_line(self, anchor: _Anchor, now: float) -> int:
        """Where the chain may be now, going by the anchor and the clock."""
        elapsed = max(0.0, now - anchor.since)
        return anchor.number + (int(elapsed / self._block_time) if self._block_time else 0)

    def _settle(self, now: float) -> None:
        """Recompute everything that follows from the voices; linear in their number."""
        heard = self._heard
        voices = [heard.get(r, v) for r, v in self._polled.items()] if heard else list(self._polled.values())
        voices = [voice for voice in voices if voice.number] or voices
        if not voices:
            self._anchor = None
            self._doubts.clear()
            self._set_number(None, now)
            return
        top = max(voice.number for voice in voices)
        if len(voices) == 1:
            self._follow_lone_voice(top, now)
            self._doubts.clear()
            self._set_number(top, now)
            return
        self._move_anchor(voices, top, now)
        ceiling = self._ceiling(now)
        self._set_doubts(ceiling, now)
        self._set_number(top if top <= ceiling else self._number_amid_doubts(voices, ceiling), now)

    def _number_amid_doubts(self, voices: list[_Voice], ceiling: float) -> int:
        """The highest of the voices up to the ceiling; for why it may be more see rule 5."""
        credible = max((voice.number for voice in voices if voice.number <= ceiling), default=0)
        if self._anchor is not None:
            credible = max(credible, self._anchor.number)
        known = self.number
        if known is None or not credible < known <= ceiling:
            return credible
        reached = any(voice.number >= known and not self.refuted(r) for r, voice in self._polled.items())
        return known if reached else credible

    def _set_doubts(self, ceiling: float, now: float) -> None:
        doubted = [r for r, v in self._polled.items() if v.number > ceiling]
        if doubted or self._doubts:
            self._doubts = {r: self._doubts.get(r) or _Doubt(now) for r in doubted}

    def _move_anchor(self, voices: list[_Voice], top: int, now: float) -> None:
        second = nlargest(2, voices, key=_by_number)[1].number
        anchor = self._anchor
        if anchor is None or not anchor.supported or second > anchor.number:
            since = min(voice.since for voice in voices if voice.number == second)
            self._set_anchor(second, self._not_before_its_time(second, since, now))
        elif top < anchor.number:
            self._set_anchor(top, now)

    def _prove(self, voice: _Voice, now: float) -> None:
        anchor = self._anchor
        if anchor is None or not anchor.supported or voice.number > anchor.number:
            self._set_anchor(voice.number, self._not_before_its_time(voice.number, voice.since, now))

    def _not_before_its_time(self, number: int, said_at: float, now: float) -> float:
        """When the chain reached a number that is now supported: when it was said, unless time did not allow it then,
        or there is nothing to measure that by.

        To take the time of the support instead would make every anchor as old as the time between two polls, and on
        a fast chain that is many blocks.
        """
        anchor = self._anchor
        if anchor is None or not anchor.supported or not self._block_time:
            return now
        return min(now, max(said_at, anchor.since + (number - anchor.number) * self._block_time))

    def _follow_lone_voice(self, top: int, now: float) -> None:
        anchor = self._anchor
        if anchor is None or not anchor.supported:
            self._set_anchor(top, now, supported=len(self._steps) > LEARNING_ADVANCES)
        elif top < anchor.number or (self._block_time and anchor.number < top <= self._time_line(anchor, now)):
            self._set_anchor(top, now)

    def _set_anchor(self, number: int, since: float, *, supported: bool = True) -> None:
        anchor = self._anchor
        if anchor is not None and number == anchor.number and anchor.supported >= supported:
            return
        self._anchor = _Anchor(number, since, supported)
        self._learn(number, since)

    def _learn(self, number: int, since: float) -> None:
        steps = self._steps
        while steps and (steps[-1][1] >= number or steps[-1][0] > since):
            steps.pop()
        steps.append((since, number))
        if self._learns and len(steps) > LEARNING_ADVANCES:
            self._learn_block_time()

    def _learn_block_time(self) -> None:
        points = list(self._steps)
        paces = ((t1 - t0) / (n1 - n0) for (t0, n0), (t1, n1) in pairwise(points))
        learnt = median(paces)
        if learnt > 0:
            self._block_time = learnt

    def _set_number(self, number: int | None, now: float) -> None:
        if number == self.number and self._history:
            return
        self.number = number
        self.since = now
        history = self._history
        history.append((now, number))
        while len(history) > 1 and history[1][0] <= now - self._horizon:
            history.popleft()
