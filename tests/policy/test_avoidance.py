"""Which methods a node is not asked for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.avoidance import FIRST_SECONDS, LONGEST_SECONDS, MAX_METHODS, UNSUPPORTED_SECONDS, Avoidance


class UnsupportedTests(SynchronousTestCase):
    def test_for_a_while(self) -> None:
        """A method that is not there is asked elsewhere for ten minutes, and no other method."""
        avoidance = Avoidance()
        self.assertFalse(avoidance)
        avoidance.record_unsupported("trace_block", 1.0)
        self.assertTrue(avoidance.covers("trace_block", UNSUPPORTED_SECONDS))
        self.assertFalse(avoidance.covers("trace_block", 1.0 + UNSUPPORTED_SECONDS))
        self.assertFalse(avoidance.covers("eth_call", 1.0))
        self.assertFalse(avoidance.watches)
        avoidance.expire(1.0 + UNSUPPORTED_SECONDS)
        self.assertFalse(avoidance)

    def test_bounded(self) -> None:
        """Beyond the most that are remembered the oldest is forgotten."""
        avoidance = Avoidance()
        for number in range(MAX_METHODS + 1):
            avoidance.record_unsupported(f"m{number}", 0.0)
        self.assertEqual((len(avoidance.unsupported), "m0" in avoidance.unsupported), (MAX_METHODS, False))


class SilenceTests(SynchronousTestCase):
    def lost(self, avoidance: Avoidance, now: float, times: int = 1) -> list[bool]:
        return [avoidance.record_loss("eth_call", now) for _ in range(times)]

    def test_three_in_a_row(self) -> None:
        """The third loss makes the method avoided, for five seconds, and no other."""
        avoidance = Avoidance()
        self.assertEqual(self.lost(avoidance, 0.0, 3), [False, False, True])
        self.assertTrue(avoidance.covers("eth_call", FIRST_SECONDS - 0.1))
        self.assertFalse(avoidance.covers("eth_call", FIRST_SECONDS))
        self.assertFalse(avoidance.covers("eth_getBalance", 0.0))
        self.assertEqual(avoidance.silent_methods(0.0), ["eth_call"])

    def test_answer_between(self) -> None:
        """An answer to the method ends the row; answers to others, which nobody reports here, do not."""
        avoidance = Avoidance()
        self.lost(avoidance, 0.0, 2)
        self.assertTrue(avoidance.watches)
        avoidance.record_answer("eth_call")
        self.assertFalse(avoidance.watches)
        self.assertEqual(self.lost(avoidance, 0.0, 2), [False, False])

    def test_again(self) -> None:
        """Where it stays silent one loss is enough, and the time doubles up to a minute."""
        avoidance = Avoidance()
        self.lost(avoidance, 0.0, 3)
        now = 0.0
        for seconds in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            self.assertTrue(avoidance.is_silent("eth_call", now + seconds - 0.1))
            self.assertFalse(avoidance.is_silent("eth_call", now + seconds))
            now += seconds
            self.assertEqual(self.lost(avoidance, now), [True])

    def test_late_losses(self) -> None:
        """Losses of what was asked before count for nothing while the method is avoided."""
        avoidance = Avoidance()
        self.lost(avoidance, 0.0, 3)
        self.assertEqual(self.lost(avoidance, 1.0, 50), [False] * 50)
        self.assertFalse(avoidance.is_silent("eth_call", FIRST_SECONDS))

    def test_forgotten(self) -> None:
        """What was not seen again for a minute is forgotten, so that a node well again costs nothing per request."""
        avoidance = Avoidance()
        self.lost(avoidance, 0.0, 3)
        avoidance.expire(FIRST_SECONDS + LONGEST_SECONDS)
        self.assertTrue(avoidance)
        avoidance.expire(FIRST_SECONDS + LONGEST_SECONDS + 0.1)
        self.assertFalse(avoidance)

    def test_single_loss_forgotten(self) -> None:
        """Also a loss that never led to anything, of a method that nobody asks for again."""
        avoidance = Avoidance()
        avoidance.record_loss("debug_traceBlockByNumber", 10.0)
        avoidance.expire(10.0 + LONGEST_SECONDS)
        self.assertTrue(avoidance.watches)
        avoidance.expire(10.1 + LONGEST_SECONDS)
        self.assertFalse(avoidance.watches)

    def test_doubted(self) -> None:
        """A method that was avoided is doubted until it is answered; one loss may count as several."""
        avoidance = Avoidance()
        self.lost(avoidance, 0.0, 2)
        self.assertFalse(avoidance.is_doubted("eth_call"))
        self.assertTrue(avoidance.record_loss("eth_getLogs", 0.0, times=3))
        self.assertTrue(avoidance.is_doubted("eth_getLogs"))
        avoidance.record_answer("eth_getLogs")
        self.assertFalse(avoidance.is_doubted("eth_getLogs"))

    def test_bounded(self) -> None:
        """Not more methods are remembered than of the other kind."""
        avoidance = Avoidance()
        for number in range(MAX_METHODS + 1):
            for _ in range(3):
                avoidance.record_loss(f"m{number}", 0.0)
        self.assertEqual((len(avoidance.silent_methods(0.0)), avoidance.is_silent("m0", 0.0)), (MAX_METHODS, False))
