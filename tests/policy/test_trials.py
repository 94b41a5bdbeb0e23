"""Ejection by failing requests, and the way back."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.trials import Trials


def ejected(at: float = 0.0) -> Trials:
    trials = Trials(5.0)
    trials.record_failure("reset", at, proven=True)
    trials.record_failure("reset", at, proven=True)
    return trials


class TrialsTests(SynchronousTestCase):
    def test_two_proven(self) -> None:
        """Two proven failures in a row eject; one leaves a node that wants to hear of successes."""
        trials = Trials(5.0)
        self.assertFalse(trials.record_failure("reset", 0.0, proven=True))
        self.assertTrue(trials.failing)
        self.assertTrue(trials.record_failure("refused", 0.0, proven=True))
        self.assertEqual((trials.ejected, trials.reason), (True, "refused"))

    def test_success_between(self) -> None:
        """A success between two proven failures starts the count again."""
        trials = Trials(5.0)
        trials.record_failure("reset", 0.0, proven=True)
        self.assertFalse(trials.record_success())
        self.assertFalse(trials.record_failure("reset", 0.0, proven=True))

    def test_unproven(self) -> None:
        """Unproven failures never eject, however many."""
        trials = Trials(5.0)
        for _ in range(100):
            trials.record_failure("garbage", 0.0, proven=False)
        self.assertFalse(trials.ejected or trials.failing)

    def test_delays(self) -> None:
        """The first trial comes after 1 s, then the delay doubles to 30 s."""
        trials, now, delays = ejected(), 0.0, []
        for _ in range(8):
            delays.append(trials.due_in_seconds(now))
            now += delays[-1] or 0
            self.assertTrue(trials.due(now))
            self.assertFalse(trials.due(now - 0.001))
            trials.begin(now)
            self.assertFalse(trials.due(now))
            trials.record_failure("reset", now, proven=False)
        self.assertEqual(delays, [1, 2, 4, 8, 16, 30, 30, 30])

    def test_readmission(self) -> None:
        """A successful trial readmits, and a later ejection begins with 1 s again."""
        trials = ejected()
        for now in (1.0, 3.0):
            trials.begin(now)
            trials.record_failure("reset", now, proven=True)
        trials.begin(7.0)
        self.assertTrue(trials.record_success())
        self.assertFalse(trials.ejected or trials.failing)
        trials.record_failure("reset", 8.0, proven=True)
        trials.record_failure("reset", 8.0, proven=True)
        self.assertEqual(trials.due_in_seconds(8.0), 1.0)

    def test_late_answers(self) -> None:
        """What was sent before the ejection neither readmits nor lengthens the delay."""
        trials = ejected()
        self.assertFalse(trials.record_success())
        trials.record_failure("reset", 0.5, proven=True)
        self.assertEqual(trials.due_in_seconds(0.5), 0.5)
        self.assertTrue(trials.ejected)

    def test_lost_outcome(self) -> None:
        """A trial whose outcome never comes is followed by another after five seconds."""
        trials = ejected()
        trials.begin(1.0)
        self.assertFalse(trials.due(5.9))
        self.assertEqual(trials.due_in_seconds(2.0), 4.0)
        self.assertTrue(trials.due(6.0))

    def test_late_outcome(self) -> None:
        """A trial that is answered after all, later than it was waited for, still readmits."""
        trials = ejected()
        trials.begin(1.0)
        self.assertTrue(trials.record_success())

    def test_last_resort(self) -> None:
        """A node that serves in spite of its ejection is readmitted by any success."""
        trials = ejected()
        self.assertTrue(trials.record_success(last_resort=True))
        self.assertFalse(trials.ejected)

    def test_begin_unejected(self) -> None:
        """A trial of a node that is not ejected is no trial."""
        trials = Trials(5.0)
        trials.begin(0.0)
        self.assertFalse(trials.in_trial(0.0))
        self.assertIsNone(trials.due_in_seconds(0.0))

    def test_machine(self) -> None:
        """Whatever happens, an ejected node is due within half a minute, and only a due trial or success ends it."""
        run_state_machine_as_test(TrialsMachine, settings=settings(max_examples=60, deadline=None))


class TrialsMachine(RuleBasedStateMachine):
    """Any sequence of outcomes and pauses; the model counts proven failures since the last success."""

    def __init__(self) -> None:
        super().__init__()
        self.trials = Trials(5.0)
        self.now = 0.0
        self.proven = 0
        self.tried = False  # a trial was begun since the last outcome

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(proven=st.booleans())
    def fail(self, proven: bool) -> None:
        was = self.trials.ejected
        self.trials.record_failure("reset", self.now, proven=proven)
        if not was:
            self.proven += proven
            assert self.trials.ejected == (self.proven >= 2)
        else:
            assert self.trials.ejected
            self.tried = False

    @rule()
    def succeed(self) -> None:
        was = self.trials.ejected
        assert self.trials.record_success() == (was and self.tried)
        if not was or self.tried:
            self.proven, self.tried = 0, False

    @rule()
    def begin_when_due(self) -> None:
        if self.trials.due(self.now):
            self.trials.begin(self.now)
            self.tried = True
            assert not self.trials.due(self.now)

    @invariant()
    def never_forgotten(self) -> None:
        wait = self.trials.due_in_seconds(self.now)
        assert (wait is not None) == self.trials.ejected
        assert wait is None or (wait <= 30 and self.trials.due(self.now + wait))
