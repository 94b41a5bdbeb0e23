"""How long each kind of call usually takes."""

from __future__ import annotations

import random
from math import nextafter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import HedgeConfig
from evmlb.jsonrpc import Call, parse_call
from evmlb.policy.pace import FEWEST_ANSWERS, HALVING_TICKS, MAX_METHODS, Pace, Paces, Scale, is_heavy, pace_name
from tests.support import run_property

RATIO = (2.0 / 0.05) ** (1 / 32)
"""One bucket of the default span: its width is how far a percentile may be off."""


def paces(**settings: Any) -> Paces:
    return Paces(HedgeConfig(**settings))


def told(made: Paces, *seconds: float, method: str = "eth_call") -> Pace:
    """The pace of a method after these answers and a tick."""
    pace = made.of(method)
    for one in seconds:
        pace.observe(one)
    made.tick()
    return pace


class PaceTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """Until twenty answers are known the first delay holds."""
        made = paces()
        self.assertEqual(told(made, *[0.001] * (FEWEST_ANSWERS - 1)).delay_seconds, 0.3)
        self.assertEqual(told(made, 0.001).delay_seconds, 0.05)

    def test_first_slow_answer(self) -> None:
        """The first slow answer counts at once: of the calls that follow it none is asked twice too soon."""
        pace = paces().of("debug_traceTransaction", heavy=True)
        pace.observe(5.0)
        self.assertEqual(pace.delay_seconds, 7.5)

    def test_fast(self) -> None:
        """A method whose answers take less than the shortest delay has that: an instant answer cannot be overtaken."""
        self.assertEqual(told(paces(), *[0.002] * 98, *[1.5] * 2).delay_seconds, 0.05)

    def test_few_slow_ones(self) -> None:
        """While few are known, half as much again as the longest of them holds, where that is more than the first."""
        made = paces()
        for seconds, delay in ((0.1, 0.3), (0.4, 0.6), (0.2, 0.6), (9.0, 2.0)):
            pace = told(made, seconds)
            self.assertAlmostEqual(pace.delay_seconds, delay)
        self.assertFalse(pace.is_known)

    def test_slow(self) -> None:
        """A method whose answers take longer than the longest delay has that."""
        self.assertEqual(told(paces(), *[60.0] * 100).delay_seconds, 2.0)

    def test_just_below_the_end(self) -> None:
        """An answer a rounding error shorter than the longest delay has a bucket too, whatever the span."""
        rng = random.Random(1)
        for _ in range(300):
            longest = rng.uniform(0.06, 30.0)
            pace = told(paces(max_delay_seconds=longest), *[nextafter(longest, 0.0)] * 20)
            self.assertEqual(pace.delay_seconds, longest)

    def test_percentile(self) -> None:
        """The delay is the time within which 98 % of the answers came, at most a bucket longer."""
        delay = told(paces(), *[0.1] * 98, *[1.0] * 2).delay_seconds
        self.assertTrue(0.1 <= delay <= 0.1 * RATIO, delay)
        delay = told(paces(), *[0.1] * 97, *[1.0] * 3).delay_seconds
        self.assertTrue(1.0 <= delay <= 1.0 * RATIO, delay)

    def test_ends_of_the_span(self) -> None:
        """Answers at the very ends of the span, and beyond, are counted."""
        for seconds, expected in ((0.05, 0.05 * RATIO), (1.999, 2.0), (2.0, 2.0), (float("inf"), 2.0), (-1.0, 0.05)):
            self.assertAlmostEqual(told(paces(), *[seconds] * 20).delay_seconds, expected)

    def test_per_tick(self) -> None:
        """The delay changes at a tick, not at an answer."""
        made = paces()
        pace = told(made, *[0.001] * 50)
        for _ in range(1000):
            pace.observe(1.0)
        self.assertEqual(pace.delay_seconds, 0.05)
        made.tick()
        self.assertGreater(pace.delay_seconds, 0.9)

    def test_forgets(self) -> None:
        """A node that was slow for ten minutes and is fast now has the fast delay within a few minutes."""
        made = paces()
        for _ in range(600):
            told(made, *[1.0] * 10)
        for _ in range(6 * HALVING_TICKS):
            pace = told(made, *[0.001] * 10)
        self.assertEqual(pace.delay_seconds, 0.05)

    def test_forgets_the_good(self) -> None:
        """The reverse as well: what was fast for ten minutes and is slow now is soon known to be slow."""
        made = paces()
        for _ in range(600):
            told(made, *[0.001] * 10)
        for _ in range(20):
            pace = told(made, *[1.0] * 10)
        self.assertGreater(pace.delay_seconds, 0.9)

    def test_thinly_spread(self) -> None:
        """Halving keeps slow answers that are few in each bucket: the delay stays what it was."""
        spread = [0.05 * RATIO ** (bucket + 0.5) for bucket in range(32)]
        made = paces()
        before = told(made, *spread, *spread).delay_seconds
        for _ in range(HALVING_TICKS - 1):
            made.tick()
        after = told(made, *[0.001]).delay_seconds
        self.assertEqual(after, before)

    def test_rare(self) -> None:
        """A method that is hardly called any more keeps its figure."""
        made = paces()
        pace = told(made, *[1.0] * 100)
        before = pace.delay_seconds
        for _ in range(100 * HALVING_TICKS):
            made.tick()
        self.assertEqual(pace.delay_seconds, before)
        self.assertEqual(told(made, 0.001).delay_seconds, before)

    def test_odd_spans(self) -> None:
        """A span of nothing, and one from zero, are spans too."""
        same = {"min_delay_seconds": 0.2, "max_delay_seconds": 0.2}
        for seconds in (0.001, 0.2, 5.0):
            self.assertEqual(told(paces(**same), *[seconds] * 20).delay_seconds, 0.2)
        zero = {"min_delay_seconds": 0.0, "max_delay_seconds": 0.0, "first_delay_seconds": 0.0}
        for seconds in (0.0, 0.1):
            self.assertEqual(told(paces(**zero), *[seconds] * 20).delay_seconds, 0.001)

    def test_methods_apart(self) -> None:
        """Each method has its own."""
        made = paces()
        slow = told(made, *[1.0] * 20, method="eth_getLogs")
        fast = told(made, *[0.001] * 20, method="eth_chainId")
        self.assertIs(made.of("eth_chainId"), fast)
        self.assertGreater(slow.delay_seconds, fast.delay_seconds)

    def test_bounded(self) -> None:
        """From the 257th method on they share one, which works as the others do."""
        made = paces()
        own = {made.of(f"m{number}") for number in range(MAX_METHODS)}
        rest = made.of("one more")
        self.assertEqual(len(own), MAX_METHODS)
        self.assertNotIn(rest, own)
        self.assertIs(made.of("yet another"), rest)
        self.assertIs(made.of("heavy", heavy=True), made.of("heavy as well", heavy=True))
        self.assertIsNot(made.of("heavy", heavy=True), rest)
        self.assertIs(made.of("m0"), made.of("m0"))
        self.assertEqual(told(made, *[0.001] * 20, method="one more").delay_seconds, 0.05)

    def test_invented_names(self) -> None:
        """Names of methods that nobody answers do not keep the others from a pace of their own."""
        made = paces()
        known = told(made, *[0.2] * FEWEST_ANSWERS, method="eth_getCode")
        for number in range(MAX_METHODS):
            made.of(f"x_{number}", heavy=True)
        shared = made.of("eth_call")
        made.tick()
        self.assertIsNot(made.of("eth_call"), shared)
        self.assertIs(made.of("eth_getCode"), known)

    def test_known(self) -> None:
        """The delays that come from answers, and none that is the first delay or shared; they stay known."""
        made = paces()
        told(made, *[1.0] * (FEWEST_ANSWERS - 1), method="eth_getCode")
        self.assertEqual(made.known(), [])
        told(made, *[0.001] * FEWEST_ANSWERS, method="eth_chainId")
        self.assertEqual(made.known(), [("eth_chainId", 0.05)])
        for _ in range(100 * HALVING_TICKS):
            made.tick()
        self.assertEqual(made.known(), [("eth_chainId", 0.05)])
        slow = told(made, 1.0, *[1.0] * FEWEST_ANSWERS, method="eth_getCode").delay_seconds
        self.assertEqual(made.known(), [("eth_getCode", slow), ("eth_chainId", 0.05)])
        for number in range(MAX_METHODS):
            told(made, *[1.0] * FEWEST_ANSWERS, method=f"m{number}")
        self.assertEqual(len(made.known()), MAX_METHODS)

    def test_any_answers(self) -> None:
        """For any answers the delay is their 98th percentile, clamped, and at most a bucket longer."""

        @given(st.lists(st.floats(0, 4), min_size=FEWEST_ANSWERS, max_size=200))
        def check(answers: list[float]) -> None:
            delay = told(paces(), *answers).delay_seconds
            needed = -(-98 * len(answers) // 100)
            exact = min(2.0, max(0.05, sorted(answers)[needed - 1]))
            assert exact * (1 - 1e-9) <= delay <= exact * RATIO * (1 + 1e-9)

        run_property(settings(max_examples=200, deadline=None)(check))

    def test_scale(self) -> None:
        """Every length of the span is in a bucket that ends behind it and begins before it."""
        scale, rng = Scale(0.05, 0.3, 2.0), random.Random(1)
        for _ in range(2000):
            seconds = 0.05 * 40 ** rng.random()
            bucket = scale.bucket(seconds)
            self.assertLessEqual(seconds, scale.upper_seconds(bucket) * (1 + 1e-9))
            self.assertGreaterEqual(seconds * RATIO * (1 + 1e-9), scale.upper_seconds(bucket))


def call(method: str, params: str = "[]") -> Call:
    return parse_call(b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (method.encode(), params.encode()))


def batch(*methods: str) -> Call:
    return parse_call(b"[" + b",".join(b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % m.encode() for m in methods) + b"]")


class KindTests(SynchronousTestCase):
    def test_heavy(self) -> None:
        """Logs, traces and methods that are not known are given longer than calls and what nodes have at hand."""
        for method in ("eth_getBalance", "eth_call", "eth_estimateGas", "eth_sendRawTransaction"):
            self.assertFalse(is_heavy(call(method)), method)
        for method in ("eth_getLogs", "debug_traceTransaction", "trace_block", "vendor_report"):
            self.assertTrue(is_heavy(call(method)), method)
        self.assertFalse(is_heavy(batch("eth_call", "eth_getBalance")))
        self.assertTrue(is_heavy(batch("eth_call", "eth_getLogs")))

    def test_heavy_delays(self) -> None:
        """Their first delay and their longest are others."""
        made = paces()
        pace = made.of("eth_getLogs", heavy=True)
        self.assertEqual(pace.delay_seconds, 0.5)
        self.assertEqual(told(made, *[60.0] * 20, method="eth_getLogs").delay_seconds, 20.0)

    def test_of_a_method(self) -> None:
        """A call has the pace of its method, whatever it asks."""
        self.assertEqual(pace_name(call("eth_call", '[{"to":"0x0"},"latest"]'), 100), "eth_call")

    def test_of_a_range(self) -> None:
        """A range of blocks has a pace by its width, in steps of eight."""
        for first, last, name in (
            ("0x64", "0x64", "up to 1 blocks"),
            ("0x64", "0x6b", "up to 8 blocks"),
            ("0x64", "0x6c", "up to 64 blocks"),
            ("earliest", "latest", "up to 512 blocks"),
            ("0x1", "latest", "up to 64 blocks"),
            ("0x64", "0x1", "up to 1 blocks"),
            ("0x0", "0xffffff", "up to 16777216 blocks"),
        ):
            params = f'[{{"fromBlock":"{first}","toBlock":"{last}"}}]'
            head = 64 if first == "0x1" else 99
            self.assertEqual(pace_name(call("eth_getLogs", params), head), f"eth_getLogs {name}", params)
        self.assertEqual(pace_name(call("eth_getLogs", "[{}]"), 9), "eth_getLogs up to 1 blocks")
        block_hash = '[{"blockHash":"0x%s"}]' % ("ab" * 32)
        self.assertEqual(pace_name(call("trace_filter", block_hash), None), "trace_filter up to 1 blocks")

    def test_of_an_unknown_range(self) -> None:
        """So has one that cannot be told, all of them the same."""
        for params in ("[]", "[1]", '[{"fromBlock":"0x1"}]', '[{"fromBlock":"x"}]', "{}", '["latest"]'):
            self.assertEqual(pace_name(call("eth_getLogs", params), None), "eth_getLogs of any width", params)

    def test_of_a_batch(self) -> None:
        """A batch has a pace by its length and its heaviest member."""
        self.assertEqual(pace_name(batch(*["eth_getBalance"] * 8), 9), "batch up to 8 calls")
        self.assertEqual(pace_name(batch("eth_getBalance", "eth_call"), 9), "slow batch up to 8 calls")
        self.assertEqual(pace_name(batch(*["eth_getLogs"] * 9), 9), "heavy batch up to 64 calls")
