"""Which node of an order a request is sent to first.

=======================  ==========================================================================================
strategy                 the first node
=======================  ==========================================================================================
``best``                 the first of the order (no chooser: the caller takes ``order.candidates[0]``)
``shared``               of the leading nodes that tie, the one with the fewest requests in flight per weight; equal
                         ones take turns. From eight tying nodes on the better of two drawn at random: looking at
                         all of them costs more than it brings
``weight-round-robin``   TyrScale's (LVS's) sequence over the serving tier, as configured: 4/3/2 is AABABCABC
``least-load``           of the serving tier the one with the fewest in flight; equal ones take turns, the one chosen
                         longest ago first: sequential requests go round, as in TyrScale
``failover-priority``    the heaviest (no chooser: the order itself is sorted by weight)
=======================  ==========================================================================================

Suspect nodes get no first requests while others of the tier are clear. A node that is full is the caller's to skip:
it goes on with ``order.candidates``. A chooser keeps what it derives from an order as long as it is given the same
one, so an order costs once, not per request.
"""

from __future__ import annotations

from math import gcd, inf
from typing import Protocol, TypeVar

from evmlb.config.schema import Strategy

MANY = 8
"""From this many tying nodes on, two are drawn instead of looking at all."""


class Draws(Protocol):
    """What is needed of ``random.Random``."""

    def randrange(self, stop: int, /) -> int:
        """Return an integer of ``0 .. stop - 1``."""
        ...


class Choosable(Protocol):
    """What is needed of a node."""

    in_flight: int

    @property
    def weight(self) -> int:
        """Its share; not below 1."""
        ...

    @property
    def index(self) -> int:
        """Its position in the configuration."""
        ...

    @property
    def suspect(self) -> bool:
        """Whether it is last in its tier."""
        ...


NodeT = TypeVar("NodeT", bound=Choosable)
NodeT_co = TypeVar("NodeT_co", bound=Choosable, covariant=True)


class Choices(Protocol[NodeT_co]):
    """What is needed of an order: see :class:`evmlb.network.Order`. It never changes; a new one is a new object."""

    @property
    def serving(self) -> tuple[NodeT_co, ...]:
        """The serving tier, suspect nodes last."""
        ...

    @property
    def ties(self) -> int:
        """How many of its first nodes tie."""
        ...


class Chooser(Protocol):
    """Says which node is asked first."""

    def first(self, order: Choices[NodeT]) -> NodeT:
        """Choose; ``order.serving`` must not be empty."""
        ...


def chooser(strategy: Strategy, rng: Draws) -> Chooser | None:
    """The chooser of a strategy, or ``None`` where the first of the order is the first choice.

    One network needs one of its own: turns and sequences are its state.
    """
    if strategy is Strategy.SHARED:
        return SharedChooser(rng)
    if strategy is Strategy.WEIGHT_ROUND_ROBIN:
        return WeightRoundRobin()
    if strategy is Strategy.LEAST_LOAD:
        return LeastLoad()
    return None


def _load(node: Choosable) -> float:
    return node.in_flight / node.weight if node.weight > 0 else inf


class SharedChooser:
    """``shared``: those that tie share the requests."""

    __slots__ = ("_rng", "_turn")

    def __init__(self, rng: Draws) -> None:
        self._rng = rng
        self._turn = 0

    def first(self, order: Choices[NodeT]) -> NodeT:
        """Choose among the leading nodes that tie."""
        ties = order.ties
        if ties < 2:
            return order.serving[0]
        if ties >= MANY:
            return self._better_of_two(order.serving, ties)
        return self._least(order.serving, ties)

    def _better_of_two(self, serving: tuple[NodeT, ...], ties: int) -> NodeT:
        place = self._rng.randrange(ties)
        other = self._rng.randrange(ties - 1)
        one, two = serving[place], serving[other + (other >= place)]
        return two if _load(two) < _load(one) else one

    def _least(self, serving: tuple[NodeT, ...], ties: int) -> NodeT:
        """The least loaded, looked for from where the last one was found: equal ones take turns."""
        least, found = inf, self._turn % ties
        for step in range(ties):
            place = (self._turn + step) % ties
            load = _load(serving[place])
            if load < least:
                least, found = load, place
        self._turn = found + 1
        return serving[found]


class _Ring:
    """The clear nodes of a serving tier, by their places in it, as configured; kept while the order stays."""

    __slots__ = ("_order", "members", "places")

    def __init__(self) -> None:
        self._order: object = None
        self.places: list[int] = []
        self.members: dict[int, int] = {}  # index in the configuration -> weight

    def follow(self, order: Choices[Choosable]) -> bool:
        """Take up a new order; say whether its members or their weights differ from before."""
        if order is self._order:
            return False
        self._order = order
        serving = order.serving
        clear = [place for place, node in enumerate(serving) if not node.suspect] or list(range(len(serving)))
        self.places = sorted(clear, key=lambda place: serving[place].index)
        members = {serving[place].index: serving[place].weight for place in self.places}
        changed, self.members = members != self.members, members
        return changed


class WeightRoundRobin:
    """``weight-round-robin``: the sequence of LVS, one step per request.

    A node that joins or leaves changes divisor and maximum, and the sequence goes on from where it was; a tier of
    quite other nodes, or other weights of the same, begins it anew.
    """

    __slots__ = ("_divisor", "_index", "_maximum", "_ring", "_weight", "_weights")

    def __init__(self) -> None:
        self._ring = _Ring()
        self._weights: list[int] = []
        self._index, self._weight = -1, 0
        self._divisor = self._maximum = 1

    def first(self, order: Choices[NodeT]) -> NodeT:
        """Take the next of the sequence."""
        before = self._ring.members
        if self._ring.follow(order):
            self._take_up(before, self._ring.members)
        return order.serving[self._ring.places[self._step()]]

    def _take_up(self, before: dict[int, int], after: dict[int, int]) -> None:
        stayed = before.keys() & after.keys()
        if not stayed or any(before[index] != after[index] for index in stayed):
            self._index, self._weight = -1, 0
        self._weights = [max(1, weight) for weight in after.values()]
        self._divisor = gcd(*self._weights)
        self._maximum = max(self._weights)

    def _step(self) -> int:
        weights = self._weights
        while True:
            self._index = (self._index + 1) % len(weights)
            if self._index == 0:
                self._weight -= self._divisor
                if self._weight <= 0:
                    self._weight = self._maximum
            if weights[self._index] >= self._weight:
                return self._index


class LeastLoad:
    """``least-load``: fewest in flight; equal ones take turns, the one chosen longest ago first."""

    __slots__ = ("_clock", "_last", "_ring")

    def __init__(self) -> None:
        self._ring = _Ring()
        self._clock = 0
        self._last: dict[int, int] = {}  # index in the configuration -> when it was last chosen

    def first(self, order: Choices[NodeT]) -> NodeT:
        """Choose in the whole serving tier, whether its nodes tie or not."""
        ring = self._ring
        ring.follow(order)
        serving, last = order.serving, self._last
        best = min(ring.places, key=lambda place: (serving[place].in_flight, last.get(serving[place].index, 0)))
        self._clock += 1
        last[serving[best].index] = self._clock
        return serving[best]
