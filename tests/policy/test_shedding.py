"""Early refusal in place of a collapse."""

from __future__ import annotations

import random
from collections import deque

from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.shedding import Shedding


class SheddingTests(SynchronousTestCase):
    def test_burst(self) -> None:
        """While the queue was empty within the timeout a request may wait for all of it."""
        shedding = Shedding(5.0)
        shedding.note_empty(10.0)
        self.assertEqual([shedding.max_wait(now) for now in (10.0, 12.5, 15.0)], [5.0, 5.0, 5.0])

    def test_standing(self) -> None:
        """In a queue that was not empty for so long it may wait for a tenth; once empty, for all of it again."""
        shedding = Shedding(5.0)
        shedding.note_empty(10.0)
        self.assertEqual(shedding.max_wait(15.01), 0.5)
        shedding.note_empty(16.0)
        self.assertEqual(shedding.max_wait(16.5), 5.0)

    def test_never_filled(self) -> None:
        """A queue in which nobody has waited yet is empty, however late the first one comes."""
        self.assertEqual(Shedding(5.0).max_wait(1e6), 5.0)

    def test_refuses(self) -> None:
        """A newcomer is refused when the head of the line has waited as long as one may."""
        shedding = Shedding(5.0)
        shedding.note_empty(0.0)
        self.assertEqual([shedding.refuses(wait, 5.0) for wait in (0.0, 0.9, 4.9, 5.0)], [False, False, False, True])
        self.assertEqual([shedding.refuses(wait, 5.1) for wait in (0.0, 0.49, 0.5)], [False, False, True])

    def test_no_waiting(self) -> None:
        """With a timeout of 0 nobody waits."""
        shedding = Shedding(0.0)
        shedding.note_empty(0.0)
        self.assertTrue(shedding.refuses(0.0, 0.0))

    def test_overload(self) -> None:
        """At three times the capacity nine tenths of it are served; after the first burst nobody waits above 0.5 s."""
        served, waits, _ = Queue(per_second=1200).run(20.0)
        self.assertGreaterEqual(served, 0.9 * 400 * 20)
        self.assertLessEqual(max(waits), 3.4)
        self.assertLessEqual(max(waits[len(waits) // 2 :]), 0.51)

    def test_within_capacity(self) -> None:
        """At nine tenths of the capacity nobody is refused."""
        served, _, refused = Queue(per_second=360).run(20.0)
        self.assertEqual(refused, 0)
        self.assertGreater(served, 0.98 * 360 * 20)

    def test_bursts(self) -> None:
        """A burst is served whole if it is less than the timeout's work; of a longer one so much is."""
        for count, expected in ((1900, 1900), (3000, 2000)):
            queue = Queue(per_second=0)
            for _ in range(count):
                queue.arrive()
            served, _, refused = queue.run(8.0)
            self.assertEqual(served + refused, count)
            self.assertTrue(expected * 0.95 <= served <= expected, served)

    def test_recovers(self) -> None:
        """After an overload the queue empties and a burst is welcome again."""
        queue = Queue(per_second=1200)
        queue.run(6.0)
        self.assertEqual(queue.shedding.max_wait(queue.now), 0.5)
        queue.per_second = 100
        queue.run(3.0)
        self.assertEqual(queue.shedding.max_wait(queue.now), 5.0)


class Queue:
    """A queue before eight workers that take 20 ms each, 400 a second: it refuses and ends waits as it is told.

    Virtual time, in steps of 1 ms.
    """

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.busy_until = [0.0] * 8
        self.line: deque[float] = deque()  # when they came
        self.shedding = Shedding(5.0)
        self.rng = random.Random(1)
        self.now = 0.0
        self.served = self.refused = 0
        self.waits: list[float] = []

    def run(self, seconds: float) -> tuple[int, list[float], int]:
        """Served, how long each of these waited, refused."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.001
            if self.rng.random() * 1000 < self.per_second % 1000:
                self.arrive()
            for _ in range(self.per_second // 1000):
                self.arrive()
            self.serve()
        return self.served, self.waits, self.refused

    def arrive(self) -> None:
        if not self.line:
            self.shedding.note_empty(self.now)
        elif self.shedding.refuses(self.now - self.line[0], self.now):
            self.refused += 1
            return
        self.line.append(self.now)

    def serve(self) -> None:
        while self.line and self.now - self.line[0] >= self.shedding.max_wait(self.now):
            self.line.popleft()
            self.refused += 1
        for worker, until in enumerate(self.busy_until):
            if self.line and until <= self.now:
                self.waits.append(self.now - self.line.popleft())
                self.busy_until[worker] = self.now + 0.02
                self.served += 1
        if not self.line:
            self.shedding.note_empty(self.now)
