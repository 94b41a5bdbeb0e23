"""Threads for work that would hold up the loop, and that C does without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

_log = Logger(namespace="evmlb")


class Threads:
    """At most so many threads, of their own: those of the reactor look up names, which must not wait behind this.

    A thread is made when it is needed for the first time. Between :meth:`start` and :meth:`stop` work is done.
    """

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=most, name=name)

    def start(self) -> None:
        """From now on work is done."""
        self._pool.start()

    def stop(self) -> None:
        """End the threads, and wait for what they are at. No-op where none was started."""
        if self._pool.started:
            self._pool.stop()

    def run(self, work: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Do the work in a thread, then call ``done`` in the loop: with its result, None after an exception."""

        def ended(success: bool, result: Any) -> None:
            self._reactor.callFromThread(_tell, done, success, result)

        self._pool.callInThreadWithCallback(ended, work)


def _tell(done: Callable[[Any], None], success: bool, result: Any) -> None:
    if isinstance(result, Failure) and not success:
        _log.failure("while a thread was working", result)
    done(result if success else None)
