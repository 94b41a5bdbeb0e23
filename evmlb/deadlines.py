"""One timer for all that must be done by a certain time: a table that is swept every 10 ms while anything is in it.

A request that goes well makes no timer of its own, because its end comes before its deadline, and to put it into a
dictionary and to take it out costs a tenth of what a timer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

SWEEP_SECONDS = 0.01


class Timed(Protocol):
    """What has a deadline, in seconds."""

    deadline: float

    def out_of_time(self) -> None:
        """The deadline has passed."""
        ...


class Sweepable(Protocol):
    """What looks at many deadlines of its own."""

    def sweep(self, now: float) -> None:
        """End what took too long."""
        ...


class Deadlines:
    """All deadlines of a process. ``watched`` is for those under way, ``sweepers`` for who has several.

    After something was put into either, :meth:`watch` must be called unless ``timer`` is there.
    """

    def __init__(self, reactor: Any, now: Callable[[], float]) -> None:
        self.reactor = reactor
        self.now = now
        self.watched: dict[Timed, None] = {}
        self.sweepers: set[Sweepable] = set()
        self.timer: Any = None

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something after a while; the result can be cancelled."""
        return self.reactor.callLater(seconds, function, *arguments)

    def watch(self) -> None:
        """Make sure that deadlines are looked at."""
        if self.timer is None:
            self.timer = self.reactor.callLater(SWEEP_SECONDS, self._tick)

    def _tick(self) -> None:
        self.timer = None
        try:
            self.sweep()
        finally:
            if self.watched or self.sweepers:
                self.watch()

    def sweep(self) -> None:
        """End what is out of time."""
        now = self.now()
        for late in [each for each in self.watched if each.deadline <= now]:
            if late in self.watched:
                late.out_of_time()
        for sweeper in tuple(self.sweepers):
            sweeper.sweep(now)

    def cancel_timer(self) -> None:
        """Stop watching, at the end of everything."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
