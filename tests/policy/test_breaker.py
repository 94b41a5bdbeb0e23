"""When failing requests take a node out, and the way back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import BreakerConfig
from evmlb.policy.breaker import Breaker, BreakerState
from tests.support import run_property

PATIENCE = 5.0


@dataclass
class Drawn:
    """A random source that draws always the same; 0.5 is no jitter."""

    value: float = 0.5

    def random(self) -> float:
        return self.value


def breaker(**settings: Any) -> Breaker:
    return Breaker(BreakerConfig(**settings), PATIENCE, Drawn())


def opened(at: float = 0.0, **settings: Any) -> Breaker:
    made = breaker(**settings)
    while not made.record_failure("reset", at, proven=True):
        pass
    return made


class OpeningTests(SynchronousTestCase):
    def test_consecutive(self) -> None:
        """Two proven failures in a row open it; one leaves a node that wants to hear of successes."""
        made = breaker()
        self.assertFalse(made.record_failure("reset", 3.0, proven=True))
        self.assertEqual((made.failing, made.state, made.opened_at), (True, BreakerState.CLOSED, None))
        self.assertTrue(made.record_failure("refused", 4.0, proven=True))
        self.assertEqual((made.ejected, made.reason, made.opened_at), (True, "refused", 4.0))
        self.assertIs(made.state, BreakerState.OPEN)

    def test_success_between(self) -> None:
        """A success between two proven failures starts the count in a row again."""
        made = breaker()
        made.record_failure("reset", 0.0, proven=True)
        self.assertFalse(made.record_success(0.0))
        self.assertFalse(made.record_failure("reset", 0.0, proven=True))
        self.assertTrue(made.record_failure("reset", 0.0, proven=True))

    def test_unproven(self) -> None:
        """Unproven failures never open it, however many."""
        made = breaker()
        for _ in range(100):
            self.assertFalse(made.record_failure("garbage", 0.0, proven=False))
        self.assertFalse(made.ejected or made.failing)

    def test_unreachable(self) -> None:
        """Two failed connections in a row open it where other failures need five; they prove themselves."""
        made = breaker(max_consecutive_failures=5)
        self.assertFalse(made.record_failure("refused", 0.0, proven=False, unreachable=True))
        self.assertTrue(made.record_failure("refused", 0.0, proven=False, unreachable=True))

    def test_unreachable_between(self) -> None:
        """A failure with a connection, or a success, between two failed connections starts their count again."""
        made = breaker(max_consecutive_failures=5)
        made.record_failure("refused", 0.0, proven=True, unreachable=True)
        made.record_failure("reset", 0.0, proven=True)
        self.assertFalse(made.record_failure("refused", 0.0, proven=True, unreachable=True))
        made.record_success(0.0)
        self.assertFalse(made.record_failure("refused", 0.0, proven=True, unreachable=True))
        self.assertTrue(made.record_failure("refused", 0.0, proven=True, unreachable=True))

    def test_share(self) -> None:
        """Half of the requests of the window open it, once they are ten, though never two failures in a row."""
        made = breaker()
        for number in range(4):
            self.assertFalse(made.record_failure("reset", 1.0 + number, proven=True))
            made.record_success(1.0 + number)
        self.assertFalse(made.record_failure("reset", 5.0, proven=True), "five of nine: too few requests")
        made.record_success(5.0)
        self.assertTrue(made.record_failure("reset", 5.0, proven=True), "six of eleven")

    def test_share_below(self) -> None:
        """Less than the share never opens it."""
        made = breaker()
        for _ in range(50):
            self.assertFalse(made.record_failure("reset", 0.0, proven=True))
            made.record_success(0.0)
            made.record_success(0.0)

    def test_window_ends(self) -> None:
        """Ten seconds after the first failure all counts are cleared, and the next failure opens a new window."""
        for expire in (True, False):
            made = breaker()
            made.record_failure("reset", 100.0, proven=True)
            made.expire(109.9)
            self.assertTrue(made.failing)
            if expire:
                made.expire(110.0)
                self.assertFalse(made.failing)
            self.assertFalse(made.record_failure("reset", 110.0, proven=True))
            self.assertTrue(made.record_failure("reset", 119.9, proven=True))

    def test_success_after_window(self) -> None:
        """A success after the window's end ends the failing, should nobody have let time pass."""
        made = breaker()
        made.record_failure("reset", 0.0, proven=True)
        made.record_success(10.0)
        self.assertFalse(made.failing)

    def test_window_without_end(self) -> None:
        """An interval of 0 never clears the counts: two failures in a row open it, whenever they come."""
        made = breaker(interval_seconds=0.0)
        made.record_failure("reset", 0.0, proven=True)
        made.expire(1e9)
        self.assertTrue(made.failing)
        self.assertTrue(made.record_failure("reset", 1e9, proven=True))

    def test_success_unfailing(self) -> None:
        """A success told without need is not counted: the share is that of the time since the first failure."""
        made = breaker(max_consecutive_failures=99, min_requests=2)
        for _ in range(100):
            made.record_success(0.0)
        self.assertFalse(made.record_failure("reset", 0.0, proven=True))
        self.assertTrue(made.record_failure("reset", 0.0, proven=True))

    def test_panic_threshold(self) -> None:
        """Where it may not open, failures are counted, and the next one that may opens it."""
        made = breaker()
        for _ in range(5):
            self.assertFalse(made.record_failure("reset", 0.0, proven=True, may_open=False))
        self.assertEqual((made.ejected, made.failing), (False, True))
        self.assertTrue(made.record_failure("reset", 0.0, proven=True))

    def test_disabled(self) -> None:
        """Disabled it never opens, and wants to hear of nothing."""
        made = breaker(enabled=False)
        for _ in range(20):
            self.assertFalse(made.record_failure("refused", 0.0, proven=True, unreachable=True))
        self.assertFalse(made.ejected or made.failing)

    def test_late_after_closing(self) -> None:
        """Failures of requests sent before it closed do not count; later ones do."""
        made = opened()
        made.begin(1.0)
        made.record_success(1.5)
        for _ in range(5):
            self.assertFalse(made.record_failure("timed out", 2.0, proven=True, sent_at=-3.0))
        self.assertFalse(made.failing)
        made.record_failure("reset", 2.0, proven=True, sent_at=1.6)
        self.assertTrue(made.record_failure("reset", 2.0, proven=True, sent_at=1.5))


class ReturningTests(SynchronousTestCase):
    def test_open_times(self) -> None:
        """The first trial comes after 1 s, then the open time doubles to 30 s."""
        made, now, times = opened(), 0.0, []
        for _ in range(8):
            times.append(made.due_in_seconds(now))
            now += times[-1] or 0
            self.assertTrue(made.due(now))
            self.assertFalse(made.due(now - 0.001))
            made.begin(now)
            self.assertFalse(made.due(now))
            made.record_failure("refused", now, proven=False)
            self.assertEqual((made.state, made.reason, made.opened_at), (BreakerState.OPEN, "refused", 0.0))
        self.assertEqual(times, [1, 2, 4, 8, 16, 30, 30, 30])

    def test_long_timeout(self) -> None:
        """An open time above max_timeout_seconds stays as it is."""
        made = opened(timeout_seconds=60.0)
        made.begin(60.0)
        made.record_failure("reset", 60.0, proven=True)
        self.assertEqual(made.due_in_seconds(60.0), 60.0)

    def test_jitter(self) -> None:
        """The open time is drawn from 20 % below to 20 % above its value, after the cap."""
        for drawn, expected in ((0.0, 24.0), (0.5, 30.0), (1.0, 36.0)):
            made = Breaker(BreakerConfig(timeout_seconds=30.0), PATIENCE, Drawn(drawn))
            made.record_failure("reset", 0.0, proven=True)
            made.record_failure("reset", 0.0, proven=True)
            self.assertAlmostEqual(made.due_in_seconds(0.0) or 0.0, expected)

    def test_closing(self) -> None:
        """A successful trial closes it, and a later opening begins with 1 s again."""
        made = opened()
        for now in (1.0, 3.0):
            made.begin(now)
            made.record_failure("reset", now, proven=True)
        made.begin(7.0)
        self.assertIs(made.state, BreakerState.HALF_OPEN)
        self.assertTrue(made.record_success(7.0))
        self.assertFalse(made.ejected or made.failing)
        self.assertEqual((made.state, made.reason, made.opened_at), (BreakerState.CLOSED, "", None))
        made.record_failure("reset", 8.0, proven=True)
        made.record_failure("reset", 8.0, proven=True)
        self.assertEqual(made.due_in_seconds(8.0), 1.0)

    def test_late_results(self) -> None:
        """What was sent before the opening neither closes it nor lengthens the open time."""
        made = opened()
        self.assertFalse(made.record_success(0.0))
        made.record_failure("late", 0.5, proven=True)
        self.assertEqual((made.due_in_seconds(0.5), made.ejected, made.reason), (0.5, True, "reset"))

    def test_late_results_in_trial(self) -> None:
        """When it is known to be late, a result is not taken for the trial's either."""
        made = opened(at=10.0)
        made.begin(11.0)
        self.assertFalse(made.record_success(11.5, sent_at=9.9))
        self.assertFalse(made.record_failure("late", 11.5, proven=True, sent_at=9.9))
        self.assertEqual((made.state, made.reason), (BreakerState.HALF_OPEN, "reset"))
        self.assertTrue(made.record_success(12.0, sent_at=11.0))

    def test_lost_outcome(self) -> None:
        """A trial whose outcome never comes is followed by another after five seconds."""
        made = opened()
        made.begin(1.0)
        self.assertTrue(made.in_trial(5.9))
        self.assertFalse(made.due(5.9))
        self.assertEqual(made.due_in_seconds(2.0), 4.0)
        self.assertFalse(made.in_trial(6.0))
        self.assertTrue(made.due(6.0))
        self.assertIs(made.state, BreakerState.HALF_OPEN)

    def test_late_outcome(self) -> None:
        """A trial that is answered after all, later than it was waited for, still closes it."""
        made = opened()
        made.begin(1.0)
        self.assertTrue(made.record_success(30.0))

    def test_last_resort(self) -> None:
        """A node that serves in spite of its ejection is readmitted by any one success."""
        made = opened(max_requests=3)
        self.assertTrue(made.record_success(0.0, last_resort=True))
        self.assertFalse(made.ejected)

    def test_begin_closed(self) -> None:
        """A trial of a node that is not ejected is no trial."""
        made = breaker()
        made.begin(0.0)
        self.assertFalse(made.in_trial(0.0) or made.due(0.0))
        self.assertIsNone(made.due_in_seconds(0.0))

    def test_several_trials(self) -> None:
        """Three trials are sent at most at one time, and three successes in a row close it."""
        made = opened(max_requests=3)
        for now in (1.0, 1.1, 1.2):
            self.assertTrue(made.due(now))
            made.begin(now)
        self.assertFalse(made.due(2.0))
        self.assertEqual(made.due_in_seconds(2.0), 4.0)
        self.assertEqual([made.record_success(2.0) for _ in range(3)], [False, False, True])

    def test_several_trials_one_fails(self) -> None:
        """Any failure opens it again, and what comes of the other trials then is late."""
        made = opened(max_requests=3)
        for _ in range(3):
            made.begin(1.0)
        self.assertFalse(made.record_success(1.1))
        made.record_failure("reset", 1.2, proven=False)
        self.assertFalse(made.record_success(1.3))
        self.assertEqual((made.state, made.due_in_seconds(1.2)), (BreakerState.OPEN, 2.0))
        for now in (3.2, 3.3):
            made.begin(now)
            made.record_success(now)
        self.assertTrue(made.ejected, "successes in a row: the one before the failure is forgotten")

    def test_several_trials_one_lost(self) -> None:
        """The place of a trial that is lost is given to another, and the successes before it stay."""
        made = opened(max_requests=2)
        made.begin(1.0)
        made.record_success(1.0)
        made.begin(1.1)
        self.assertFalse(made.due(6.0))
        self.assertTrue(made.due(6.1))
        made.begin(6.1)
        self.assertTrue(made.record_success(6.2))

    def test_too_many_begun(self) -> None:
        """Trials that were begun undue do not pile up: the newest counts."""
        made = opened()
        for number in range(1000):
            made.begin(number / 100)
        self.assertEqual(made.due_in_seconds(10.0), 4.99)
        made.record_failure("reset", 10.0, proven=True)
        self.assertEqual(made.due_in_seconds(10.0), 2.0)

    def test_reset(self) -> None:
        """After a reset it is as new, whatever it was."""
        made = opened()
        made.begin(1.0)
        made.record_failure("reset", 1.0, proven=True)
        made.reset()
        self.assertFalse(made.ejected or made.failing or made.in_trial(1.0))
        self.assertFalse(made.record_failure("reset", 0.5, proven=True, sent_at=0.5))
        self.assertTrue(made.record_failure("reset", 0.5, proven=True, sent_at=0.5))
        self.assertEqual(made.due_in_seconds(0.5), 1.0)


class TyrScaleTests(SynchronousTestCase):
    """Its settings give its sequence: 1 request, 3 failures, 120 s, 60 s."""

    config = BreakerConfig(
        max_consecutive_failures=3,
        max_requests=1,
        interval_seconds=120.0,
        timeout_seconds=60.0,
        max_timeout_seconds=60.0,
    )

    def test_sequence(self) -> None:
        """Closed to three failures in a row, open for 60 s, one trial, open for 60 s again, one trial, closed."""
        made, states = Breaker(self.config, PATIENCE, Drawn()), []
        for now, good in ((0, False), (1, True), (2, False), (3, False), (4, False), (64, False), (124, True)):
            if made.due(now):
                made.begin(now)
                states.append(made.state.value)
            if good:
                made.record_success(now)
            else:
                made.record_failure("reset", now, proven=True)
            states.append(made.state.value)
        self.assertEqual(states, ["closed"] * 4 + ["open", "half-open", "open", "half-open", "closed"])

    def test_interval(self) -> None:
        """Counts are cleared by time: two failures before the end of the interval and one after do not open it."""
        made = Breaker(self.config, PATIENCE, Drawn())
        for now in (0.0, 119.0, 120.0, 121.0):
            self.assertFalse(made.record_failure("reset", now, proven=True))
        self.assertTrue(made.record_failure("reset", 122.0, proven=True))

    def test_admits(self) -> None:
        """Half-open it admits max_requests in all, if none is lost."""
        made = opened(max_requests=3)
        admitted = 0
        for now in (1.0, 1.1, 1.2, 1.3, 1.4):
            if made.due(now):
                made.begin(now)
                admitted += 1
                if admitted < 3:
                    made.record_success(now)
        self.assertEqual((admitted, made.state), (3, BreakerState.HALF_OPEN))
        self.assertTrue(made.record_success(2.0))


class MachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        """Whatever happens, the breaker does what a model does that keeps all of its history."""
        bounds = settings(max_examples=200, stateful_step_count=50, deadline=None)
        run_property(lambda: run_state_machine_as_test(BreakerMachine, settings=bounds))


class BreakerMachine(RuleBasedStateMachine):
    """Any sequence of outcomes and pauses against a model that looks through its whole history each time."""

    @initialize(
        consecutive=st.integers(1, 4),
        most=st.integers(1, 3),
        interval=st.sampled_from((0.0, 10.0, 25.0)),
        requests=st.integers(1, 8),
        seed=st.integers(0, 9),
    )
    def configure(self, consecutive: int, most: int, interval: float, requests: int, seed: int) -> None:
        self.config = BreakerConfig(
            max_consecutive_failures=consecutive, max_requests=most, interval_seconds=interval, min_requests=requests
        )
        self.breaker = Breaker(self.config, PATIENCE, random.Random(seed))
        self.now = 0.0
        self.history: list[tuple[float, str]] = []  # since the first failure: when, and success, failure, unreachable
        self.ejected = False
        self.changed_at = 0.0
        self.may_be_late = False  # something was sent before the last change of state
        self.trials: list[float] = []  # begun and unanswered
        self.good = 0
        self.doublings = 0

    @rule(seconds=st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 60)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.breaker.expire(self.now)
        self.forget()

    def forget(self) -> None:
        if self.history and not self.ejected and 0 < self.config.interval_seconds <= self.now - self.history[0][0]:
            self.history = []

    @rule(proven=st.booleans(), unreachable=st.booleans(), may_open=st.booleans(), late=st.booleans())
    def fail(self, proven: bool, unreachable: bool, may_open: bool, late: bool) -> None:
        opens, late = False, late and self.may_be_late
        if not late and self.ejected:
            if self.trials:
                self.begin_open(self.doublings + 1)
        elif not late and (proven or unreachable):
            self.forget()
            self.history.append((self.now, "unreachable" if unreachable else "failure"))
            opens = may_open and self.is_too_much()
            if opens:
                self.ejected = True
                self.begin_open(0)
        said = self.breaker.record_failure(
            "reset",
            self.now,
            proven=proven,
            unreachable=unreachable,
            may_open=may_open,
            sent_at=self.changed_at - 0.5 if late else None,
        )
        assert said == opens

    def is_too_much(self) -> bool:
        kinds = [kind for _, kind in self.history]
        tail = kinds[-self.config.max_consecutive_failures :]
        if len(tail) == self.config.max_consecutive_failures and "success" not in tail:
            return True
        if kinds[-2:] == ["unreachable"] * 2:
            return True
        failed = sum(kind != "success" for kind in kinds)
        return len(kinds) >= self.config.min_requests and failed / len(kinds) >= 0.5

    def begin_open(self, doublings: int) -> None:
        self.changed_at, self.may_be_late = self.now, True
        self.doublings = doublings
        self.trials, self.good = [], 0

    @rule(last_resort=st.booleans(), late=st.booleans())
    def succeed(self, last_resort: bool, late: bool) -> None:
        closes, late = False, late and self.may_be_late
        if late:
            pass
        elif self.ejected:
            if self.trials:
                self.trials.pop(0)
                self.good += 1
            closes = last_resort or self.good == self.config.max_requests
        elif self.history:
            self.forget()
            self.history += [(self.now, "success")] * bool(self.history)
        if closes:
            self.ejected, self.history, self.changed_at = False, [], self.now
            self.trials, self.good = [], 0
        sent_at = self.changed_at - 0.5 if late else None
        assert self.breaker.record_success(self.now, last_resort=last_resort, sent_at=sent_at) == closes

    @rule()
    def begin_when_due(self) -> None:
        if self.breaker.due(self.now):
            assert self.ejected
            awaited = [at for at in self.trials if self.now < at + PATIENCE]
            assert len(awaited) + self.good < self.config.max_requests
            self.breaker.begin(self.now)
            self.trials = [*self.trials, self.now][-(self.config.max_requests - self.good) :]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "breaker"):
            return
        assert self.breaker.ejected == self.ejected
        assert self.breaker.failing == bool(self.history)
        half = bool(self.trials or self.good)
        state = "closed" if not self.ejected else "half-open" if half else "open"
        assert self.breaker.state.value == state
        assert self.breaker.in_trial(self.now) == any(self.now < at + PATIENCE for at in self.trials)

    @invariant()
    def never_forgotten(self) -> None:
        """An ejected node is due by its open time and its patience, and not before 80 % of that time."""
        if not hasattr(self, "breaker"):
            return
        wait = self.breaker.due_in_seconds(self.now)
        assert (wait is not None) == self.ejected
        if wait is None:
            return
        open_seconds = min(2.0**self.doublings, 30.0)
        assert self.breaker.due(self.now + wait + 1e-6)
        assert wait == 0 or not self.breaker.due(self.now + wait - 1e-6)
        assert self.now + wait >= self.changed_at + 0.8 * open_seconds - 1e-6
        assert wait <= max(self.changed_at + 1.2 * open_seconds - self.now, PATIENCE) + 1e-6
