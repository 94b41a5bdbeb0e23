"""A node that is asked too often: how long it is left alone, and how it comes back."""

from __future__ import annotations

from math import nan
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import RateLimitConfig
from evmlb.policy.ratelimit import PROBE_PATIENCE_SECONDS, RateLimit, parse_retry_after
from tests.support import run_property

AETHERLAY = RateLimitConfig(
    initial_backoff_seconds=300.0, max_backoff_seconds=7200.0, max_retries=10, required_successes=2
)


def limit(**settings: Any) -> RateLimit:
    return RateLimit(RateLimitConfig(**settings))


def limited(at: float = 0.0, retry_after: float | None = None, **settings: Any) -> RateLimit:
    made = limit(**settings)
    made.record_limited(at, retry_after)
    return made


def probe(made: RateLimit, now: float, good: bool, retry_after: float | None = None) -> bool:
    assert made.probe_due(now)
    made.begin_probe(now)
    return made.record_probe(now, good, retry_after)


def probe_times(made: RateLimit, count: int, now: float = 0.0) -> list[float]:
    """When so many probes in vain are due."""
    times = []
    for _ in range(count):
        now += made.seconds_left(now)
        times.append(now)
        probe(made, now, good=False)
    return times


class LimitedTests(SynchronousTestCase):
    def test_becomes_limited(self) -> None:
        """A refusal limits the node until the initial backoff is over."""
        made = limit()
        self.assertEqual((made.limited, made.probe_due(0.0), made.seconds_left(0.0)), (False, False, 0.0))
        self.assertTrue(made.record_limited(10.0))
        self.assertEqual((made.limited, made.explicit, made.seconds_left(10.25)), (True, False, 0.75))
        self.assertFalse(made.probe_due(10.9))
        self.assertTrue(made.probe_due(11.0))

    def test_retry_after(self) -> None:
        """What the node says takes the place of the backoff, be it shorter or longer."""
        for seconds in (0.0, 0.1, 90.0):
            made = limited(retry_after=seconds)
            self.assertEqual((made.explicit, made.seconds_left(0.0)), (True, seconds))

    def test_retry_after_odd(self) -> None:
        """A year counts as an hour; a negative or no number as not said."""
        self.assertEqual(limited(retry_after=365 * 86400.0).seconds_left(0.0), 3600.0)
        self.assertEqual(limited(retry_after=float("inf")).seconds_left(0.0), 3600.0)
        for odd in (-1.0, nan, None):
            made = limited(retry_after=odd)
            self.assertEqual((made.explicit, made.seconds_left(0.0)), (False, 1.0))

    def test_burst(self) -> None:
        """Many refusals of one burst are one: neither the wait nor the next backoff grows."""
        made = limited()
        self.assertNotIn(True, [made.record_limited(0.01 * number) for number in range(50)])
        self.assertEqual(probe_times(made, 3), [1.0, 2.0, 4.0])

    def test_burst_explicit(self) -> None:
        """A later refusal moves the end if the node says a later one, never to an earlier one."""
        made = limited()
        self.assertFalse(made.record_limited(0.5, 10.0))
        self.assertEqual((made.explicit, made.seconds_left(0.5)), (True, 10.0))
        made.record_limited(1.0, 2.0)
        made.record_limited(1.0)
        self.assertEqual((made.explicit, made.seconds_left(1.0)), (True, 9.5))


class RecoveryTests(SynchronousTestCase):
    def test_recovers(self) -> None:
        """One good probe suffices by default."""
        made = limited()
        self.assertTrue(probe(made, 1.0, good=True))
        self.assertEqual((made.limited, made.explicit, made.probe_due(99.0)), (False, False, False))

    def test_backoff(self) -> None:
        """The initial backoff before the first two probes, then twice as long each time, a minute at most."""
        times = probe_times(limited(), 9)
        self.assertEqual(times, [1, 2, 4, 8, 16, 32, 64, 124, 184])

    def test_probe_refused(self) -> None:
        """A probe that is refused with a time is repeated after that time; the backoff grows all the same."""
        made = limited()
        probe(made, 1.0, False, 7.0)
        self.assertEqual((made.explicit, made.seconds_left(1.0)), (True, 7.0))
        probe(made, 8.0, False)
        self.assertEqual((made.explicit, made.seconds_left(8.0)), (False, 2.0))

    def test_several_successes(self) -> None:
        """Of three required, the first good probe sets the wait back to the initial, and the third ends it."""
        made = limited(required_successes=3)
        now = probe_times(made, 5)[-1]
        for expected in (False, False, True):
            now += made.seconds_left(now)
            self.assertEqual(probe(made, now, good=True), expected)
            self.assertEqual(made.seconds_left(now), 0.0 if expected else 1.0)

    def test_success_then_failure(self) -> None:
        """A probe in vain between good ones starts their count again, and the backoff goes on from the initial."""
        made = limited(required_successes=2)
        now = probe_times(made, 5)[-1]
        now += made.seconds_left(now)
        probe(made, now, good=True)
        self.assertFalse(probe(made, now + 1, good=False))
        self.assertEqual(made.seconds_left(now + 1), 2.0)
        self.assertFalse(probe(made, now + 3, good=True))
        self.assertTrue(probe(made, now + 4, good=True))

    def test_one_probe_at_a_time(self) -> None:
        """While a probe is under way none is due; one that is lost is followed by another after 30 s."""
        made = limited()
        made.begin_probe(1.0)
        self.assertFalse(made.probe_due(1.0 + PROBE_PATIENCE_SECONDS - 0.1))
        self.assertTrue(made.probe_due(1.0 + PROBE_PATIENCE_SECONDS))
        self.assertTrue(made.record_probe(40.0, True), "late, but the one that is waited for")

    def test_unwanted_outcomes(self) -> None:
        """An outcome that nobody waits for changes nothing; nor does a probe of a node that is not limited."""
        made = limited()
        self.assertFalse(made.record_probe(0.5, True))
        self.assertEqual((made.limited, made.seconds_left(0.5)), (True, 0.5))
        made = limit()
        made.begin_probe(0.0)
        self.assertFalse(made.record_probe(0.0, False))
        self.assertFalse(made.record_probe(0.0, True))
        self.assertFalse(made.limited)

    def test_relapse(self) -> None:
        """Limited again sooner than its last backoff was long, the backoff goes on growing; later, it starts anew."""
        for pause, expected in ((7.9, 16.0), (8.0, 1.0)):
            made = limited()
            now = probe_times(made, 4)[-1] + 8.0
            self.assertTrue(probe(made, now, good=True))
            self.assertTrue(made.record_limited(now + pause))
            self.assertEqual(made.seconds_left(now + pause), expected)

    def test_relapse_each_time(self) -> None:
        """A node whose probes pass but not its traffic is spared for longer and longer."""
        made, now, waits = limit(), 0.0, []
        for _ in range(9):
            made.record_limited(now)
            waits.append(round(made.seconds_left(now), 6))
            now += made.seconds_left(now)
            probe(made, now, good=True)
            now += 0.1
        self.assertEqual(waits, [1, 1, 2, 4, 8, 16, 32, 60, 60])


class GivenUpTests(SynchronousTestCase):
    def test_aetherlay(self) -> None:
        """With aetherlay's settings the probes come when its own do, and the tenth in vain is the last of the day."""
        made = RateLimit(AETHERLAY)
        made.record_limited(0.0)
        times = probe_times(made, 10)
        self.assertEqual(times, [300, 600, 1200, 2400, 4800, 9600, 16800, 24000, 31200, 38400])
        self.assertFalse(made.probe_due(86399.0))
        self.assertTrue(made.probe_due(86400.0))

    def test_aetherlay_fastest(self) -> None:
        """Its fastest recovery takes 600 s."""
        made = RateLimit(AETHERLAY)
        made.record_limited(0.0)
        self.assertFalse(probe(made, 300.0, good=True))
        self.assertTrue(probe(made, 600.0, good=True))

    def test_reset_acts(self) -> None:
        """Given up, a node is asked again after reset_after, with all its attempts, as often as it takes."""
        made = limited(max_retries=2, reset_after_seconds=100.0)
        self.assertEqual(probe_times(made, 7), [1, 2, 100, 101, 200, 201, 300])
        self.assertTrue(probe(made, 301.0, good=True))

    def test_reset_ungiven(self) -> None:
        """After reset_after the backoff starts anew for a node that was never given up as well."""
        times = probe_times(limited(reset_after_seconds=30.0), 8)
        self.assertEqual(times, [1, 2, 4, 8, 16, 32, 33, 35])

    def test_given_up_explicit(self) -> None:
        """A node that is given up is left alone for longer if it said so itself."""
        made = limited(max_retries=1, reset_after_seconds=50.0)
        probe(made, 1.0, False, 80.0)
        self.assertEqual((made.explicit, made.seconds_left(1.0)), (True, 80.0))
        made = limited(max_retries=1, reset_after_seconds=50.0)
        probe(made, 1.0, False, 10.0)
        self.assertEqual((made.explicit, made.seconds_left(1.0)), (False, 49.0))

    def test_nothing_left_over(self) -> None:
        """Neither the attempts nor the successes nor the time of an earlier limitation count in a later one."""
        made = limited(max_retries=2, required_successes=2, reset_after_seconds=100.0)
        probe(made, 1.0, good=False)
        for now in (2.0, 3.0):
            probe(made, now, good=True)
        made.record_limited(90.0)
        self.assertFalse(probe(made, 91.0, good=False))
        self.assertEqual(made.seconds_left(91.0), 1.0, "not given up yet")
        self.assertFalse(probe(made, 92.0, good=False))
        self.assertEqual(made.seconds_left(92.0), 98.0, "given up, until 100 s after it was limited")
        self.assertFalse(probe(made, 190.0, good=True))
        self.assertTrue(probe(made, 191.0, good=True))
        made.record_limited(300.0)
        self.assertFalse(probe(made, 301.0, good=True), "the first of two")

    def test_good_probes_are_not_in_vain(self) -> None:
        """Good probes that do not suffice yet use up no attempts."""
        made = limited(max_retries=2, required_successes=5)
        self.assertEqual([probe(made, 1.0 + n, good=True) for n in range(5)], [False] * 4 + [True])


class MachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        """Whatever happens, the next probe is due when a model says that counts it up from the list of what was."""
        bounds = settings(max_examples=120, stateful_step_count=50, deadline=None)
        run_property(lambda: run_state_machine_as_test(RateLimitMachine, settings=bounds))


class RateLimitMachine(RuleBasedStateMachine):
    """Any sequence of refusals, probes and pauses; the model keeps the outcomes and counts them anew each time."""

    @initialize(retries=st.integers(0, 3), required=st.integers(1, 3), reset=st.sampled_from((20.0, 86400.0)))
    def configure(self, retries: int, required: int, reset: float) -> None:
        self.config = RateLimitConfig(
            max_retries=retries, required_successes=required, reset_after_seconds=reset, max_backoff_seconds=10.0
        )
        self.limit = RateLimit(self.config)
        self.now = 0.0
        self.limited = False
        self.until = 0.0
        self.first_at = 0.0
        self.outcomes: list[bool] = []  # of probes, since first_at
        self.backoffs = [0.0]  # all there ever were; 0 for a start anew
        self.recovered_at = -1e9
        self.probe_until: float | None = None
        self.explicit = False
        self.asked_at = 0.0

    @rule(seconds=st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 50)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(said=st.one_of(st.none(), st.floats(0, 20), st.just(1e9), st.just(-1.0)))
    def refuse(self, said: float | None) -> None:
        flips = not self.limited
        told = None if said is None or said < 0 else min(said, 3600.0)
        if flips:
            relapsed = self.now - self.recovered_at < max(self.backoffs[-1], 1.0)
            self.backoffs.append(self.grown() if relapsed else 0.0)
            self.limited, self.first_at, self.outcomes = True, self.now, []
            self.until = self.now + (max(1.0, self.backoffs[-1]) if told is None else told)
            self.explicit, self.asked_at = told is not None, self.now
        elif told is not None and self.now + told > self.until:
            self.until, self.explicit = self.now + told, True
        assert self.limit.record_limited(self.now, said) == flips

    def grown(self) -> float:
        return min(10.0, 2 * self.backoffs[-1]) if self.backoffs[-1] else 1.0

    @rule()
    def begin_when_due(self) -> None:
        if self.limit.probe_due(self.now):
            self.limit.begin_probe(self.now)
            self.probe_until = self.now + PROBE_PATIENCE_SECONDS
            self.asked_at = self.now

    @rule(good=st.booleans(), said=st.one_of(st.none(), st.floats(0, 20)))
    def end_probe(self, good: bool, said: float | None) -> None:
        recovers = False
        if self.limited and self.probe_until is not None:
            self.probe_until = None
            recovers = self.passed() if good else self.failed(said)
        assert self.limit.record_probe(self.now, good, None if good else said) == recovers

    def passed(self) -> bool:
        self.outcomes.append(True)
        required = self.config.required_successes
        if self.outcomes[-required:] == [True] * required:
            self.limited, self.recovered_at = False, self.now
            return True
        self.backoffs.append(1.0)
        self.until, self.explicit = self.now + 1.0, False
        return False

    def failed(self, said: float | None) -> bool:
        if self.now - self.first_at >= self.config.reset_after_seconds:
            self.first_at, self.outcomes = self.now, []
            self.backoffs.append(0.0)
        self.outcomes.append(False)
        self.backoffs.append(self.grown())
        self.until, self.explicit = self.now + (self.backoffs[-1] if said is None else said), said is not None
        reset_at = self.first_at + self.config.reset_after_seconds
        if 0 < self.config.max_retries <= self.outcomes.count(False) and reset_at > self.until:
            self.until, self.explicit = reset_at, False
        return False

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "limit"):
            return
        assert self.limit.limited == self.limited
        left = self.limit.seconds_left(self.now)
        assert abs(left - (max(0.0, self.until - self.now) if self.limited else 0.0)) < 1e-6
        probing = self.probe_until is not None and self.now < self.probe_until
        due_at = min(self.until, self.asked_at + 10.0) if self.explicit else self.until
        assert self.limit.probe_due(self.now) == (self.limited and self.now >= due_at and not probing)

    @invariant()
    def never_orphaned(self) -> None:
        """A limited node gets its probe in the end, whatever was lost."""
        if hasattr(self, "limit") and self.limit.limited:
            longest = max(self.config.reset_after_seconds, self.config.max_retry_after_seconds)
            assert self.limit.probe_due(self.now + longest + PROBE_PATIENCE_SECONDS)


NOW = 784_111_770.0
"""Seven seconds before the date that RFC 9110 gives in its three forms."""


class RetryAfterTests(SynchronousTestCase):
    def test_seconds(self) -> None:
        """A whole number is seconds."""
        for value, expected in ((b"0", 0.0), (b" 120 ", 120.0), (b"9999999999", 9999999999.0)):
            self.assertEqual(parse_retry_after(value, NOW), expected)

    def test_dates(self) -> None:
        """A date in any of the three forms of HTTP is what is left until then, or nothing when it has passed."""
        for value in (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"):
            self.assertEqual(parse_retry_after(value, NOW), 7.0, value)
            self.assertEqual(parse_retry_after(value, NOW + 100), 0.0, value)

    def test_rubbish(self) -> None:
        """Anything else is not said at all."""
        for value in (
            b"",
            b"-5",
            b"+5",
            b"1.5",
            b"1e3",
            b"5 s",
            b"12345678901",
            b"120, 120",
            b"soon",
            b"nan",
            b"Sun, 99 Nov 1994 08:49:37 GMT",
            b"Sun, 06 Nov 99999 08:49:37 GMT",
            b"Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            b"\xff\xfe",
            "١٢".encode(),
            b"Sun, 06 Nov 1994 08:49:37 GMT" + b" " * 10 + b"(" * 1000,
        ):
            self.assertIsNone(parse_retry_after(value, NOW), value)

    def test_anything(self) -> None:
        """Whatever a node sends, the result is a number that is not negative, or nothing."""

        @given(
            st.one_of(
                st.binary(max_size=80), st.from_regex(r"\w{3}, \d{1,4} Nov \d{1,6} [0-9:.]{1,9}.{0,8}").map(str.encode)
            )
        )
        def check(value: bytes) -> None:
            seconds = parse_retry_after(value, NOW)
            assert seconds is None or seconds >= 0

        run_property(settings(max_examples=300, deadline=None)(check))
