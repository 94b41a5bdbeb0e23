"""Large pages without holding the loop: made a slice at a time, once for all who ask meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import CooperativeTask, Cooperator
from twisted.python.failure import Failure


def make_cooperator(clock: Any = None) -> Cooperator:
    """Make a cooperator that takes one step per turn of the loop, so that everything else goes in between."""
    settings: dict[str, Any] = {} if clock is None else {"scheduler": lambda step: clock.callLater(0, step)}
    return Cooperator(terminationPredicateFactory=lambda: lambda: True, **settings)


class PageWorks:
    """Makes pages from slices. Whoever asks for one that is being made gets the same, when it is done."""

    def __init__(self, cooperator: Cooperator) -> None:
        self._cooperator = cooperator
        self._works: dict[Hashable, _Work] = {}

    def page(self, key: Hashable, slices: Callable[[], Iterator[bytes]]) -> Deferred[bytes]:
        """Fire with the whole page. Cancelling it stops the work, unless others wait for it too."""
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = _Work(lambda: self._works.pop(key, None))
            work.begin(self._cooperator, slices())
        return work.wait()


class _Work:
    """One page in the making."""

    def __init__(self, done: Callable[[], Any]) -> None:
        self._done = done
        self._parts: list[bytes] = []
        self._waiting: list[Deferred[bytes]] = []
        self._task: CooperativeTask[Iterator[None]] | None = None

    def begin(self, cooperator: Cooperator, slices: Iterator[bytes]) -> None:
        self._task = cooperator.cooperate(self._steps(slices))
        self._task.whenDone().addCallbacks(self._finish, self._fail)

    def _steps(self, slices: Iterator[bytes]) -> Iterator[None]:
        for part in slices:
            self._parts.append(part)
            yield

    def wait(self) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def _leave(self, waiting: Deferred[bytes]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and self._task is not None:
            self._done()
            self._task.stop()

    def _finish(self, _result: object) -> None:
        self._done()
        page = b"".join(self._parts)
        for waiting in self._waiting:
            waiting.callback(page)

    def _fail(self, failure: Failure) -> None:
        """The work went wrong, or was stopped because nobody waits any more."""
        self._done()
        for waiting in self._waiting:
            waiting.errback(failure)
