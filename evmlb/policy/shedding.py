"""Early refusal in place of a collapse.

Theory. A queue is there for bursts: it empties again. A queue that stays (a *standing* queue) serves nobody: all who
are in it come out after the same wait, only later, and once that wait is as long as they are prepared to wait,
everything that is served has been given up by who asked. So what matters is not how long the queue is but how long ago
it was last empty (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012). Of this we take the form that
Facebook uses for requests (Maurer, "Fail at Scale", ACM Queue 2015): who waits may wait

* ``timeout_seconds`` while the queue was empty within the last ``timeout_seconds``: a burst;
* a tenth of it when it was not: overload. What is served then has waited no longer than that, the queue still holds
  enough to keep every node busy, and the rest is told at once to come back later.

A newcomer is refused when the head of its line has waited as long as that already: it would not fare better itself.

Facebook fixes the wait when a request joins. Here it is asked anew as time passes, so who is in a queue when it becomes
a standing one is ended by the same rule. Fixed at joining, the backlog of the burst would be served to its end, and one
would form again after each emptying: at three times the capacity that is a p99 of 5 s where this has 0.5 s. The price:
of a burst of more than ``timeout_seconds`` of work nothing is served after that time, even if nobody comes after it.

The figures are ours; theirs are 100 ms and 5 ms, for services that answer within a millisecond. Nodes take tens of
milliseconds and clients wait seconds, and a tenth of the default 5 s is what a request is allowed to wait while a node
fails. Refused: CoDel's own dropping schedule (one after the other at a growing rate), which is made for TCP, where each
drop slows its sender down; and last in first out under overload (Facebook's other half), because whoever waits in a
class is promised its order.
"""

from __future__ import annotations

from math import inf

SHARE = 0.1
"""The part of the timeout that may be waited in a standing queue."""


class Shedding:
    """How long requests may wait in one queue. ``now`` is in seconds and must not run backwards.

    :meth:`note_empty` must be called when the last one leaves and when one joins an empty queue; until it is called
    for the first time the queue counts as empty.
    """

    __slots__ = ("_empty_at", "_timeout")

    def __init__(self, timeout_seconds: float) -> None:
        """``timeout_seconds``: how long a request may wait at most; 0: nobody waits."""
        self._timeout = timeout_seconds
        self._empty_at = inf

    def note_empty(self, now: float) -> None:
        """Nobody waits."""
        self._empty_at = now

    def max_wait(self, now: float) -> float:
        """How many seconds a request may have waited by now; who has waited as long is to be refused."""
        is_standing = now - self._empty_at > self._timeout
        return SHARE * self._timeout if is_standing else self._timeout

    def refuses(self, oldest_wait_seconds: float, now: float) -> bool:
        """Whether a newcomer is refused, given how long the head of its line has waited.

        With classes that means: the oldest of its own class or a better one. That low ones starve says nothing of how
        long a fast-track one will wait.
        """
        return oldest_wait_seconds >= self.max_wait(now)
