"""Rise, fall and suspicion."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.health import Health
from tests.support import run_property


def after(word: str, fall: int = 2, rise: int = 2) -> Health:
    """The health after good (``g``) and bad (``b``) polls, single failed tries (``t``) and good requests (``r``)."""
    health = Health(fall, rise)
    for letter in word:
        if letter == "g":
            health.observe_good()
        elif letter == "b":
            health.observe_bad("refused")
        elif letter == "t":
            health.suspect("slow")
        else:
            health.trust()
    return health


def reference(word: str, fall: int, rise: int) -> bool | None:
    """The theory, read off the whole history of polls."""
    up: bool | None = None
    ever = False
    polls = [letter for letter in word if letter in "gb"]
    for end in range(1, len(polls) + 1):
        last, past = polls[end - 1], "".join(polls[:end])
        run = len(past) - len(past.rstrip(last))
        if last == "g" and up is not True and run >= (max(1, rise) if ever else 1):
            up = ever = True
        elif last == "b" and run >= max(1, fall):
            up = False
    return up


class HealthTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """Nothing is said before a poll, nor after one bad one."""
        self.assertIsNone(after("").up)
        self.assertIsNone(after("b").up)

    def test_start(self) -> None:
        """One good poll suffices at the start, whatever failed before."""
        self.assertTrue(after("g").up)
        self.assertTrue(after("bbbg").up)

    def test_fall(self) -> None:
        """Two bad polls in a row take a node out, one does not."""
        self.assertTrue(after("gb").up)
        self.assertTrue(after("gbgb").up)
        self.assertFalse(after("gbb").up)

    def test_rise(self) -> None:
        """A node that was up before needs two good polls in a row to come back."""
        self.assertFalse(after("gbbg").up)
        self.assertFalse(after("gbbgbg").up)
        self.assertTrue(after("gbbgg").up)

    def test_thresholds(self) -> None:
        """Both numbers can be chosen; 0 acts as 1, and they are 2 unless chosen."""
        self.assertEqual([after("g" + "b" * n, fall=3).up for n in (2, 3)], [True, False])
        self.assertEqual([after("gbb" + "g" * n, rise=3).up for n in (2, 3)], [False, True])
        self.assertEqual((after("gb", fall=0).up, after("gbbg", rise=0).up), (False, True))
        health = Health()
        health.observe_good()
        health.observe_bad("x")
        self.assertTrue(health.up)
        health.observe_bad("x")
        self.assertFalse(health.up)
        health.observe_good()
        self.assertFalse(health.up)
        health.observe_good()
        self.assertTrue(health.up)

    def test_suspicion(self) -> None:
        """A single failed try makes suspect but is no bad poll; a good poll or request clears it."""
        self.assertEqual(after("gttt").suspicion, "slow")
        self.assertTrue(after("gttt").up)
        self.assertIsNone(after("gtg").suspicion)
        self.assertIsNone(after("gtr").suspicion)

    def test_first_reason(self) -> None:
        """The first reason of a suspicion stays until it is cleared."""
        self.assertEqual(after("gtb").suspicion, "slow")
        self.assertEqual(after("gtb").reason, "refused")

    def test_against_reference(self) -> None:
        """Whatever the history, up follows rise and fall, and suspect is whose last sign was bad."""

        @settings(max_examples=300, deadline=None)
        @given(st.text("gbtr", max_size=30), st.integers(0, 4), st.integers(0, 4))
        def check(word: str, fall: int, rise: int) -> None:
            health = after(word, fall, rise)
            assert health.up is reference(word, fall, rise)
            assert (health.suspicion is not None) == (word[-1:] in ("b", "t"))

        run_property(check)
