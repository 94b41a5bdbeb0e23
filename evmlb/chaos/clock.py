"""A clock that jumps from one thing due to the next: a virtual minute takes what its events take."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

_time = attrgetter("time")


class VirtualClock(Clock):
    """Twisted's ``Clock``, driven by what is due instead of by amounts of time.

    Calls due at the same moment happen in the order in which they were asked for.
    """

    calls: list[DelayedCall]
    rightNow: float

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        """See ``IReactorTime``."""
        call = DelayedCall(self.rightNow + delay, callable, args, kw, self.calls.remove, self._move, self.seconds)
        insort(self.calls, call, key=_time)
        return call

    def _move(self, call: DelayedCall) -> None:
        """A call was put forward. One that is put off is only moved when its first time has come."""
        self.calls.remove(call)
        insort(self.calls, call, key=_time)

    def run_until(self, time: float) -> None:
        """Let time pass, with everything that happens meanwhile. Whatever a call raises comes out here."""
        calls = self.calls
        while calls and calls[0].time <= time:
            call = calls[0]
            if call.delayed_time:
                call.activate_delay()
                self._move(call)
                continue
            self.rightNow = max(self.rightNow, call.time)
            del calls[0]
            call.called = 1
            call.func(*call.args, **call.kw)
        self.rightNow = max(self.rightNow, time)
