"""Threads: work is done in them, and its end is told in the loop. Real ones; ``stop`` waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.wire.threads import Threads


class Reactor:
    """A loop that runs when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], Any]] = []

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append((function, arguments))

    def run(self) -> None:
        for function, arguments in self.calls:
            function(*arguments)


class ThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.threads = Threads(self.reactor, 2, "test")
        self.results: list[object] = []

    def end(self) -> None:
        """All is done, and told."""
        self.threads.stop()
        self.assertEqual(self.results, [])
        self.reactor.run()

    def test_result(self) -> None:
        """Work is done in another thread, and its result comes in the loop."""
        self.threads.start()
        for _ in range(5):
            self.threads.run(threading.get_ident, self.results.append)
        self.end()
        self.assertEqual(len(self.results), 5)
        self.assertNotIn(threading.get_ident(), self.results)
        self.assertLessEqual(len(set(self.results)), 2)

    def test_exception(self) -> None:
        """Work that fails is logged, and has no result."""
        self.threads.start()
        self.threads.run(lambda: 1 // 0, self.results.append)
        self.end()
        self.assertEqual(self.results, [None])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_before_the_start(self) -> None:
        """What is wanted before the start is done then."""
        self.threads.run(lambda: 1, self.results.append)
        self.assertEqual(self.reactor.calls, [])
        self.threads.start()
        self.end()
        self.assertEqual(self.results, [1])

    def test_no_thread_without_work(self) -> None:
        """Nothing is made for nothing, and to stop what was not started does no harm."""
        self.threads.stop()
        before = threading.active_count()
        self.threads.start()
        self.assertEqual(threading.active_count(), before)
        self.threads.stop()
