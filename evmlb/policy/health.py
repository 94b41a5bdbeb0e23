"""What a node's polls say about it, and mere suspicion.

Two facts, kept apart because they lead to different things:

*healthy* decides whether a node may serve at all. It flips only on repetition::

    new  --- one good poll -------------> up
    new  --- FALL bad polls in a row ---> down    (and the first good one still suffices)
    up   --- FALL bad polls in a row ---> down
    down --- RISE good polls in a row --> up      (RISE counts only for a node that has been up)

*suspect* only moves a node behind the others of its tier. One bad sign suffices (a failed try of a poll, a failed
request that may be the request's own doing), one good sign ends it. When the two apply together, health wins: a node
that is down is not asked, suspect or not.

A bad poll is one whose tries have all failed; a single failed try is a bad sign but counts nowhere.
"""

from __future__ import annotations

RISE = 2
"""Default of the good polls in a row that bring back a node that has been up before; its very first time takes one."""

FALL = 2
"""Default of the bad polls in a row that take a node out."""


class Health:
    """The checker's word on one node.

    ``fall`` and ``rise`` are the FALL and RISE of the theory, ``failure_threshold`` and ``success_threshold`` of the
    configuration; 0 acts as 1, since nothing flips before a first poll says so.

    ``up`` is ``None`` until the polls have said anything. ``reason`` is why the last bad poll was bad. ``suspicion``
    is why the node is asked last, or ``None``.
    """

    __slots__ = ("_agreeing", "_fall", "_has_been_up", "_rise", "reason", "suspicion", "up")

    up: bool | None
    reason: str
    suspicion: str | None

    def __init__(self, fall: int = FALL, rise: int = RISE) -> None:
        self._fall = fall
        self._rise = rise
        self.up = None
        self.reason = ""
        self.suspicion = None
        self._has_been_up = False
        self._agreeing = 0  # polls in a row that contradict `up`

    def observe_good(self) -> None:
        """A poll was answered."""
        self.suspicion = None
        if self.up:
            self._agreeing = 0
            return
        self._contradict(good=True)
        if self._agreeing >= (self._rise if self._has_been_up else 1):
            self._flip(up=True)

    def observe_bad(self, reason: str) -> None:
        """All tries of a poll have failed."""
        self.reason = reason
        self.suspect(reason)
        if self.up is False:
            self._agreeing = 0
            return
        self._contradict(good=False)
        if -self._agreeing >= self._fall:
            self._flip(up=False)

    def suspect(self, reason: str) -> None:
        """Something went wrong that need not be the node's fault. The first reason stays until a good sign."""
        if self.suspicion is None:
            self.suspicion = reason

    def trust(self) -> None:
        """A request was answered: a good sign, though no poll."""
        self.suspicion = None

    def _contradict(self, *, good: bool) -> None:
        step = 1 if good else -1
        self._agreeing = self._agreeing + step if self._agreeing * step > 0 else step

    def _flip(self, *, up: bool) -> None:
        self.up = up
        self._agreeing = 0
        self._has_been_up = self._has_been_up or up
