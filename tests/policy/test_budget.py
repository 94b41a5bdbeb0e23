"""How much may be sent beyond what was asked."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.budget import Budget
from tests.support import run_property


def spend_all(budget: Budget, total: int, now: float, most: int = 10_000) -> int:
    """Spend as long as it is allowed; how much that was."""
    spent = 0
    while spent < most and budget.may_spend(total, now):
        budget.spend(now)
        spent += 1
    return spent


def run(budget: Budget, per_second: int, seconds: int, start: int = 0, total: int = 0) -> int:
    """Ordinary requests for so many seconds, with a tick before each; how many requests there were in all."""
    for second in range(start, start + seconds):
        budget.tick(total, float(second))
        total += per_second
    return total


class BudgetTests(SynchronousTestCase):
    def test_floor(self) -> None:
        """Without requests ten a second are allowed: a hundred in ten seconds, all at once if need be."""
        budget = Budget(20.0, 10.0)
        self.assertEqual(spend_all(budget, 0, 0.0), 100)
        self.assertEqual(spend_all(budget, 0, 9.9), 0)
        self.assertEqual(spend_all(budget, 0, 10.2), 100)

    def test_share(self) -> None:
        """Of 1000 requests a second a fifth may be spent: 2000 in ten seconds."""
        budget = Budget(20.0, 10.0)
        total = run(budget, 1000, 60)
        self.assertEqual(spend_all(budget, total, 60.0), 2000)

    def test_requests_are_forgotten(self) -> None:
        """Ten seconds after the last request only the floor is left."""
        budget = Budget(20.0, 10.0)
        total = run(budget, 1000, 60)
        run(budget, 0, 11, start=60, total=total)
        self.assertEqual(spend_all(budget, total, 71.0), 100)

    def test_steady(self) -> None:
        """What is spent may be spent again ten seconds later, so in the long run it is the share."""
        budget, total, spent = Budget(10.0, 1.0), 0, 0
        for tenth in range(2000):
            budget.tick(total, tenth / 10)
            total += 50
            spent += spend_all(budget, total, tenth / 10)
        self.assertTrue(0.098 <= spent / total <= 0.102, spent / total)

    def test_edge_of_the_window(self) -> None:
        """What was spent in one tenth of a second is forgotten when all of it is older than ten seconds, not before."""
        budget = Budget(0.0, 1.0)
        budget.spend(0.0)
        for _ in range(9):
            budget.spend(0.09)
        self.assertEqual(spend_all(budget, 0, 10.05), 0)
        self.assertEqual(spend_all(budget, 0, 10.11), 10)

    def test_between_ticks(self) -> None:
        """The oldest mark may be a second too old: the requests since are taken in proportion."""
        budget = Budget(100.0, 0.0)
        total = run(budget, 100, 21)
        self.assertEqual(spend_all(budget, total, 20.999), 1000)

    def test_nothing_allowed(self) -> None:
        """With no share and no floor nothing is ever allowed; half a sending is none."""
        self.assertFalse(Budget(0.0, 0.0).may_spend(1000, 5.0))
        self.assertFalse(Budget(0.0, 0.05).may_spend(1000, 5.0))

    def test_refund(self) -> None:
        """What turned out well may be spent again."""
        budget = Budget(0.0, 1.0)
        self.assertEqual(spend_all(budget, 0, 0.0), 10)
        budget.refund(0.5)
        budget.refund(0.5)
        self.assertEqual(spend_all(budget, 0, 0.6), 2)

    def test_refund_too_late(self) -> None:
        """What is forgotten cannot be taken back: nothing below zero."""
        budget = Budget(0.0, 1.0)
        budget.spend(0.0)
        budget.refund(20.0)
        budget.refund(20.0)
        self.assertEqual(spend_all(budget, 0, 20.0), 10)

    def test_spent_beyond(self) -> None:
        """What was spent without leave is counted too."""
        budget = Budget(0.0, 1.0)
        for _ in range(25):
            budget.spend(0.0)
        for _ in range(15):
            budget.refund(0.0)
        self.assertFalse(budget.may_spend(0, 0.0))

    def test_long_silence(self) -> None:
        """Requests of an unknown time, after ticks that did not come, count by their rate and not by their number."""
        budget = Budget(100.0, 0.0)
        budget.tick(0, 0.0)
        self.assertEqual(spend_all(budget, 600, 60.0), 100)

    def test_counter_starts_high(self) -> None:
        """What was counted before the budget was made is not of the last ten seconds."""
        self.assertFalse(Budget(100.0, 0.0).may_spend(1_000_000, 5.0))

    def test_memory(self) -> None:
        """However often it is asked, it keeps a few numbers."""
        budget = Budget(10.0, 10.0)
        for step in range(20_000):
            budget.tick(step, step / 100)
            budget.spend(step / 100)
        self.assertLess(len(budget._marks), 25)
        self.assertLess(len(budget._spendings), 105)

    def test_machine(self) -> None:
        """Whatever happens, in no ten seconds more is spent than the floor, or the share of the requests in them."""
        bounds = settings(max_examples=80, stateful_step_count=60, deadline=None)
        run_property(lambda: run_state_machine_as_test(BudgetMachine, settings=bounds))


class BudgetMachine(RuleBasedStateMachine):
    """Requests come at any time, ticks each second; the model keeps the time of every request and spending."""

    @initialize(percent=st.integers(0, 100), floor=st.integers(0, 3))
    def configure(self, percent: int, floor: int) -> None:
        self.percent, self.floor = percent, floor
        self.budget = Budget(float(percent), float(floor))
        self.now = 0.0
        self.ticks = 0
        self.requests: list[float] = []
        self.spendings: list[float] = []
        self.budget.tick(0, 0.0)

    @rule(count=st.integers(1, 30))
    def request(self, count: int) -> None:
        self.requests += [self.now] * count

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.ticks + 1 <= until:
            self.ticks += 1
            self.budget.tick(len(self.requests), float(self.ticks))
        self.now = until

    @rule(count=st.integers(1, 20))
    def spend(self, count: int) -> None:
        for _ in range(count):
            if self.budget.may_spend(len(self.requests), self.now):
                self.budget.spend(self.now)
                self.spendings.append(self.now)

    @rule()
    def refund(self) -> None:
        if self.within(self.spendings, 10.0):
            self.budget.refund(self.now)
            self.spendings.pop()
        elif not self.within(self.spendings, 10.2):
            self.budget.refund(self.now)  # of nothing

    def within(self, times: list[float], seconds: float) -> int:
        return sum(self.now - seconds < at for at in times)

    @invariant()
    def is_within(self) -> None:
        if not hasattr(self, "budget"):
            return
        share = self.percent / 100
        if self.budget.may_spend(len(self.requests), self.now):
            allowed = max(10 * self.floor, share * self.within(self.requests, 11.6))
            assert self.within(self.spendings, 10.0) + 1 <= allowed + 1e-9

    @invariant()
    def is_not_mean(self) -> None:
        """What is surely free is allowed: the floor, less all that was spent in the last ten and a bit."""
        if not hasattr(self, "budget"):
            return
        if self.within(self.spendings, 10.2) + 1 <= 10 * self.floor:
            assert self.budget.may_spend(len(self.requests), self.now)
