"""Which methods a node is not to be asked for now, though it is well for all others.

Two things lead here:

* it **said** that it does not have a method. Then the method is asked elsewhere for ``UNSUPPORTED_SECONDS``, as the
  node may be upgraded or reconfigured;
* it was **silent** on a method: ``SILENCES`` times in a row another node, asked later, answered first, and no answer to
  this method came between. Polls and all other calls may go well meanwhile (a node can hang in its EVM alone), so
  nothing else would tell. The method is asked elsewhere for 5 s; then one more loss doubles that, up to a minute, and
  an answer ends it.

A method that all nodes lack, or are silent on, is asked of all of them: who chooses sees to that. All of it costs
nothing while there is nothing to avoid.
"""

from __future__ import annotations

UNSUPPORTED_SECONDS = 600.0
"""So long a method that the node said it does not have is asked elsewhere."""
SILENCES = 3
"""So many losses in a row of one method make it avoided."""
FIRST_SECONDS = 5.0
LONGEST_SECONDS = 60.0
MAX_METHODS = 256
"""Of each kind so many are remembered; beyond that the oldest is forgotten."""


class _Silence:
    """How a node does at one method that it did not answer in time."""

    __slots__ = ("last_loss_at", "losses", "seconds", "until")

    def __init__(self) -> None:
        self.losses = 0
        self.last_loss_at = 0.0
        self.seconds = 0.0  # how long it was avoided last
        self.until = 0.0


class Avoidance:
    """The methods that one node is not asked for. ``now`` is in seconds and must not run backwards."""

    __slots__ = ("_silences", "unsupported")

    def __init__(self) -> None:
        self.unsupported: dict[str, float] = {}  # until when, by method
        self._silences: dict[str, _Silence] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to look at before a request is sent."""
        return bool(self.unsupported or self._silences)

    @property
    def watches(self) -> bool:
        """Whether an answer may change something."""
        return bool(self._silences)

    def record_unsupported(self, method: str, now: float) -> None:
        """The node said that it does not have the method."""
        self.unsupported.pop(method, None)
        _make_room(self.unsupported)
        self.unsupported[method] = now + UNSUPPORTED_SECONDS

    def record_loss(self, method: str, now: float, *, times: int = 1) -> bool:
        """Another node, asked later, answered first. True when the method is avoided from now on.

        ``times``: as how many losses it counts, because this one was far too late.
        """
        silence = self._silences.get(method)
        if silence is None:
            _make_room(self._silences)
            silence = self._silences[method] = _Silence()
        silence.losses += times
        silence.last_loss_at = now
        if silence.losses < SILENCES or now < silence.until:
            return False
        silence.seconds = min(max(FIRST_SECONDS, 2 * silence.seconds), LONGEST_SECONDS)
        silence.until = now + silence.seconds
        return True

    def record_answer(self, method: str) -> None:
        """The node answered such a call."""
        self._silences.pop(method, None)

    def is_silent(self, method: str, now: float) -> bool:
        """Whether the node is known to be silent on the method."""
        silence = self._silences.get(method)
        return silence is not None and silence.until > now

    def is_doubted(self, method: str) -> bool:
        """Whether the node was silent on the method as often as it takes, and has not answered it since."""
        silence = self._silences.get(method)
        return silence is not None and silence.losses >= SILENCES

    def covers(self, method: str, now: float) -> bool:
        """Whether another node should be asked for the method."""
        return self.unsupported.get(method, 0.0) > now or self.is_silent(method, now)

    def silent_methods(self, now: float) -> list[str]:
        """The methods that the node is not asked for because it was silent on them."""
        return sorted(method for method in self._silences if self.is_silent(method, now))

    def expire(self, now: float) -> None:
        """Forget what is over: also losses, few or many, that were the last for as long as the longest is avoided."""
        if self.unsupported:
            self.unsupported = {method: until for method, until in self.unsupported.items() if until > now}
        for method, silence in list(self._silences.items()):
            if max(silence.until, silence.last_loss_at) < now - LONGEST_SECONDS:
                del self._silences[method]


def _make_room(remembered: dict[str, float] | dict[str, _Silence]) -> None:
    if len(remembered) >= MAX_METHODS:
        del remembered[next(iter(remembered))]
