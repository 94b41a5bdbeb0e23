"""How fast a node is said to be."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.latency import Latency
from evmlb.policy.ranking import LATENCY_FRACTION, LATENCY_SECONDS


class LatencyTests(SynchronousTestCase):
    def test_first_sample(self) -> None:
        """The first poll's latency is the average."""
        latency = Latency()
        self.assertTrue(latency.observe(0.010))
        self.assertEqual((latency.average_seconds, latency.settled_seconds), (0.010, 0.010))

    def test_unknown(self) -> None:
        """Before a poll there is no figure."""
        self.assertIsNone(Latency().settled_seconds)

    def test_one_slow_poll(self) -> None:
        """One poll ten times as slow moves the average by a fifth of the way."""
        latency = Latency()
        latency.observe(0.010)
        latency.observe(0.110)
        self.assertAlmostEqual(latency.average_seconds or 0, 0.030)

    def test_follows(self) -> None:
        """A lasting change has moved the average two thirds of the way after five polls, nine tenths after eleven."""
        latency = Latency()
        latency.observe(0.010)
        for _ in range(5):
            latency.observe(0.020)
        self.assertGreater(latency.average_seconds or 0, 0.0166)
        for _ in range(6):
            latency.observe(0.020)
        self.assertGreater(latency.average_seconds or 0, 0.019)

    def test_noise_settles(self) -> None:
        """Noise of 3 % around a steady latency never changes the settled figure."""
        latency, rng = Latency(), random.Random(1)
        latency.observe(0.010)
        changes = [latency.observe(0.010 * rng.uniform(0.97, 1.03)) for _ in range(500)]
        self.assertNotIn(True, changes)

    def test_settled_is_near(self) -> None:
        """The settled figure is never further from the average than a small part of the tolerance of ranking."""
        latency, rng = Latency(), random.Random(2)
        for _ in range(2000):
            latency.observe(rng.expovariate(100))
            average, settled = latency.average_seconds or 0, latency.settled_seconds or 0
            self.assertLessEqual(abs(average - settled), max(LATENCY_SECONDS, LATENCY_FRACTION * average) / 3)

    def test_clock_steps_back(self) -> None:
        """A negative sample, from a clock that was set, counts as none at all."""
        latency = Latency()
        latency.observe(-5.0)
        self.assertEqual(latency.average_seconds, 0.0)

    def test_forget(self) -> None:
        """After forgetting, the next sample is the average again."""
        latency = Latency()
        latency.observe(5.0)
        latency.forget()
        latency.observe(0.001)
        self.assertEqual(latency.average_seconds, 0.001)
