"""In which order requests that wait for a node are served.

Three classes, as prio-load-balancer (Flashbots) has them, each served first come first served. Whose turn it is, where
N is ``fasttrack_per_highprio`` and k counts the fast-track requests served in a row:

===========================  ========================================================================================
``fasttrack_drain_first``    fast-track, else high, else low
no fast-track waits          k = 0; high, else low
fast-track waits, k < N      k = k + 1; fast-track
fast-track waits, k >= N     k = 0; high if any waits, else fast-track
===========================  ========================================================================================

So N = 1 gives fast, high, fast, high; with N of 0 or less all high ones go before the fast. Low ones are served only
when no other waits: that they may starve is the meaning of the class. The cap of a class counts its own waiting
requests and no others (theirs chained them: a full low line refused fast-track too).

``peek`` says who is next and changes nothing: what is next may find no node with room, and must not lose its turn by
having been looked at.

With priorities off :class:`Fifo` stands in: one class, no caps.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

from evmlb.config.schema import PriorityQueueConfig

ItemT = TypeVar("ItemT", bound=Hashable)


class PriorityClass(enum.IntEnum):
    """How urgent a request is; smaller is sooner."""

    FASTTRACK = 0
    HIGHPRIO = 1
    LOWPRIO = 2


def class_of(value: Callable[[bytes], bytes], method: str, config: PriorityQueueConfig) -> PriorityClass:
    """The class of a request; ``value`` gives a header's value by its name in lower case, empty when there is none.

    A header must say exactly ``true``, as with prio-load-balancer; it wins over the lists of methods, and fast-track
    over high.
    """
    if value(b"x-fast-track") == b"true":
        return PriorityClass.FASTTRACK
    if value(b"x-high-priority") == b"true" or value(b"high_prio") == b"true":
        return PriorityClass.HIGHPRIO
    if method in config.fasttrack_methods:
        return PriorityClass.FASTTRACK
    return PriorityClass.HIGHPRIO if method in config.highprio_methods else PriorityClass.LOWPRIO


class Line(Protocol[ItemT]):
    """Who waits. An item waits once: one that is in the line must not be added again."""

    def add(self, item: ItemT, klass: PriorityClass) -> bool:
        """Let it wait behind its class; False: as many of its class wait as may, and it was not added."""
        ...

    def peek(self) -> ItemT | None:
        """Who is next; ``None`` when nobody waits. Nothing changes."""
        ...

    def pop(self) -> ItemT:
        """Take who is next.

        Raises:
            IndexError: nobody waits.
        """
        ...

    def discard(self, item: ItemT) -> bool:
        """Take it out, wherever it is; whether it was there. Nobody's turn changes."""
        ...

    def counts(self) -> tuple[int, int, int]:
        """How many wait: fast-track, high, low."""
        ...

    def heads(self) -> tuple[ItemT, ...]:
        """The oldest of each class in which any wait."""
        ...

    def __len__(self) -> int:
        """How many wait in all."""
        ...

    def __iter__(self) -> Iterator[ItemT]:
        """All who wait, class by class, oldest first. Copy it before the line changes."""
        ...

    def __contains__(self, item: object) -> bool: ...


class PriorityLine(Generic[ItemT]):
    """Three classes with their caps and their turns: see the head of this module. All steps are O(1)."""

    __slots__ = ("_caps", "_drain_first", "_fast_in_a_row", "_fast_per_high", "_lines")

    def __init__(self, config: PriorityQueueConfig) -> None:
        self._caps = (config.max_fasttrack, config.max_highprio, config.max_lowprio)
        self._drain_first = config.fasttrack_drain_first
        self._fast_per_high = config.fasttrack_per_highprio
        self._fast_in_a_row = 0
        # not dict, which walks over all who left from its front to find the first that is there
        self._lines: tuple[OrderedDict[ItemT, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    def add(self, item: ItemT, klass: PriorityClass) -> bool:
        """Let it wait behind its class; False: its cap is reached, and it was not added."""
        line, cap = self._lines[klass], self._caps[klass]
        if 0 < cap <= len(line):
            return False
        line[item] = None
        return True

    def peek(self) -> ItemT | None:
        """Who is next; ``None`` when nobody waits. Nothing changes."""
        line, _ = self._turn()
        return next(iter(line), None)

    def pop(self) -> ItemT:
        """Take who is next, and count the turn.

        Raises:
            IndexError: nobody waits.
        """
        line, fast_in_a_row = self._turn()
        if not line:
            raise IndexError("nobody waits")
        self._fast_in_a_row = fast_in_a_row
        return line.popitem(last=False)[0]

    def _turn(self) -> tuple[OrderedDict[ItemT, None], int]:
        """The line whose turn it is, and how many fast-track ones will have been served in a row then."""
        fast, high, low = self._lines
        if self._drain_first:
            return fast or high or low, 0
        if not fast:
            return high or low, 0
        if self._fast_in_a_row >= self._fast_per_high:
            return high or fast, 0
        return fast, self._fast_in_a_row + 1

    def discard(self, item: ItemT) -> bool:
        """Take it out, wherever it is; whether it was there. Nobody's turn changes."""
        for line in self._lines:
            if item in line:
                del line[item]
                return True
        return False

    def counts(self) -> tuple[int, int, int]:
        """How many wait: fast-track, high, low."""
        fast, high, low = self._lines
        return len(fast), len(high), len(low)

    def heads(self) -> tuple[ItemT, ...]:
        """The oldest of each class in which any wait, best class first."""
        return tuple(next(iter(line)) for line in self._lines if line)

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def __iter__(self) -> Iterator[ItemT]:
        return chain.from_iterable(self._lines)

    def __contains__(self, item: object) -> bool:
        return any(item in line for line in self._lines)


class Fifo(Generic[ItemT]):
    """One class, first come first served: what a :class:`PriorityLine` is without priorities. All count as low."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line: OrderedDict[ItemT, None] = OrderedDict()

    def add(self, item: ItemT, klass: PriorityClass = PriorityClass.LOWPRIO) -> bool:
        """Let it wait behind all others. Its class does not matter, and there is always room."""
        self._line[item] = None
        return True

    def peek(self) -> ItemT | None:
        """Who is next; ``None`` when nobody waits. Nothing changes."""
        return next(iter(self._line), None)

    def pop(self) -> ItemT:
        """Take who is next.

        Raises:
            IndexError: nobody waits.
        """
        if not self._line:
            raise IndexError("nobody waits")
        return self._line.popitem(last=False)[0]

    def discard(self, item: ItemT) -> bool:
        """Take it out, wherever it is; whether it was there."""
        if item not in self._line:
            return False
        del self._line[item]
        return True

    def counts(self) -> tuple[int, int, int]:
        """How many wait: fast-track, high, low."""
        return 0, 0, len(self._line)

    def heads(self) -> tuple[ItemT, ...]:
        """The oldest, if any wait."""
        return tuple(next(iter(line)) for line in (self._line,) if line)

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[ItemT]:
        return iter(self._line)

    def __contains__(self, item: object) -> bool:
        return item in self._line
