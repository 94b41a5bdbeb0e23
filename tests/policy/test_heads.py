"""How far the chain is said to be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.heads import Heads, is_proof
from tests.support import run_property

A, B, C = 0, 1, 2


def heads(diff: int = 5, block_time: float | None = None) -> Heads:
    return Heads(diff, block_time, 0.0)


def report(told: Heads, reporter: int, number: int, now: float, *, proven: bool = False) -> int | None:
    told.report(reporter, number, now, started_at=now - 0.01, proven=proven)
    return told.number


class ProofTests(SynchronousTestCase):
    def test_past(self) -> None:
        """A block with a hash and a past timestamp proves its number."""
        self.assertTrue(is_proof("0xab", 1_700_000_000, 1_700_000_012.5))

    def test_future(self) -> None:
        """A timestamp in the future proves nothing; clocks may differ by a quarter of a minute."""
        self.assertTrue(is_proof("0xab", 1_700_000_015, 1_700_000_000.0))
        self.assertFalse(is_proof("0xab", 1_700_000_016, 1_700_000_000.0))

    def test_other_units(self) -> None:
        """A chain that counts in milliseconds, or finer, is not taken for one in the future."""
        for unit in (1000, 10**6, 10**9):
            self.assertTrue(is_proof("0xab", 1_700_000_015 * unit, 1_700_000_000.0), unit)
            self.assertFalse(is_proof("0xab", 1_700_000_016 * unit, 1_700_000_000.0), unit)

    def test_missing(self) -> None:
        """Without hash, timestamp or clock nothing is proven."""
        self.assertFalse(is_proof(None, 1, 2.0))
        self.assertFalse(is_proof("", 1, 2.0))
        self.assertFalse(is_proof("0xab", None, 2.0))
        self.assertFalse(is_proof("0xab", 1, None))


class BeliefTests(SynchronousTestCase):
    def test_none(self) -> None:
        """Without a report there is no chainhead."""
        self.assertIsNone(heads().number)

    def test_zero(self) -> None:
        """0x0 is a head, for as long as the chain stands there."""
        told = heads()
        for now in range(1, 1000):
            self.assertEqual(report(told, A, 0, now), 0)
        self.assertEqual(told.since, 1)

    def test_fresh_nodes(self) -> None:
        """Nodes that stand at block 0 support nothing against one that is further, whenever it comes."""
        for order in ((A, B, C), (C, A, B), (A, C, B)):
            told = heads()
            for now in range(1, 5):
                for reporter in order:
                    report(told, reporter, 1_000_000 + now if reporter == C else 0, now)
            self.assertEqual((told.number, told.refuted(C)), (1_000_004, False))

    def test_lone(self) -> None:
        """A lone reporter is believed whatever it says, up or down."""
        told = heads(block_time=12.0)
        self.assertEqual([report(told, A, n, n % 7) for n in (5, 10**9, 3)], [5, 10**9, 3])

    def test_second_highest(self) -> None:
        """Before the block time is known, up to the block diff beyond the second highest is believed."""
        told = heads(diff=5)
        report(told, A, 100, 1)
        self.assertEqual(report(told, B, 105, 1), 105)
        self.assertEqual(report(told, B, 106, 1), 105)
        self.assertEqual(told.doubted(B), 106)

    def test_not_down_by_a_doubt(self) -> None:
        """A node far behind does not become the chainhead when the leading one rises beyond belief."""
        told = heads(diff=5)
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        self.assertEqual(report(told, A, 20, 2), 100)
        self.assertEqual(report(told, B, 109, 3), 100)
        self.assertEqual(told.doubted(B), 109)

    def test_liar_first(self) -> None:
        """A liar that was alone loses its say as soon as a second node reports."""
        told = heads()
        report(told, A, 10**6, 1)
        self.assertEqual(report(told, B, 100, 2), 100)
        self.assertEqual(told.doubted(A), 10**6)

    def test_time_allows(self) -> None:
        """With a block time, elapsed time and half the block diff is believed."""
        told = heads(diff=5, block_time=12.0)
        report(told, A, 100, 0)
        report(told, B, 100, 0)
        self.assertEqual(report(told, A, 102, 1), 102)
        self.assertEqual(report(told, A, 103, 1), 102)
        self.assertEqual(report(told, A, 104, 24), 104)
        self.assertEqual(report(told, A, 105, 24), 104)

    def test_time_comes_round(self) -> None:
        """A doubted head counts once time has come round to it, without a report."""
        told = heads(diff=4, block_time=10.0)
        report(told, A, 100, 0)
        report(told, B, 100, 0)
        report(told, A, 105, 1)
        told.expire(29.9)
        self.assertEqual(told.number, 100)
        told.expire(30.0)
        self.assertEqual((told.number, told.doubted(A)), (105, None))

    def test_second_node_confirms(self) -> None:
        """A doubted head counts as soon as a second node has it."""
        told = heads()
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        report(told, A, 1000, 2)
        self.assertEqual(report(told, B, 999, 3), 1000)
        self.assertEqual(told.doubts, frozenset())

    def test_own_proof(self) -> None:
        """A doubted head counts once the same node's next poll proves it."""
        told = heads()
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        report(told, A, 1000, 2)
        self.assertEqual(report(told, A, 1002, 3, proven=True), 1002)
        self.assertFalse(told.refuted(A))

    def test_proof_unasked(self) -> None:
        """A proof that nobody asked for proves nothing."""
        told = heads()
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        self.assertEqual(report(told, A, 1000, 2, proven=True), 100)

    def test_refuted(self) -> None:
        """The first doubt costs nothing; the next poll without a proof refutes."""
        told = heads()
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        report(told, A, 1000, 2)
        self.assertFalse(told.refuted(A))
        report(told, A, 1000, 3)
        self.assertTrue(told.refuted(A))
        self.assertEqual(told.refutations, {A})

    def test_not_asked_yet(self) -> None:
        """A poll that was begun before the doubt arose does not refute."""
        told = heads()
        report(told, A, 1000, 1)
        report(told, B, 100, 2)
        told.report(A, 1000, 2.5, started_at=1.9)
        self.assertFalse(told.refuted(A))
        told.report(A, 1000, 3.5, started_at=2.9)
        self.assertTrue(told.refuted(A))

    def test_refutation_ends(self) -> None:
        """A refuted node that reports a believable head is believed again."""
        told = heads()
        report(told, A, 100, 1)
        report(told, B, 100, 1)
        report(told, A, 1000, 2)
        report(told, A, 1000, 3)
        report(told, A, 101, 4)
        self.assertEqual((told.number, told.refuted(A)), (101, False))

    def test_comes_down(self) -> None:
        """When the reports that carried it are gone the chainhead comes down to what is left."""
        told = heads()
        report(told, A, 104, 1)
        report(told, B, 104, 1)
        report(told, C, 100, 1)
        told.forget(A, 2)
        self.assertEqual(told.number, 104)
        told.forget(B, 3)
        self.assertEqual((told.number, told.since), (100, 3))
        told.forget(C, 4)
        self.assertIsNone(told.number)

    def test_reset_chain(self) -> None:
        """A development chain that begins again is followed when its nodes are."""
        told = heads()
        report(told, A, 1000, 1)
        report(told, B, 1000, 1)
        report(told, A, 0, 2)
        self.assertEqual(told.number, 1000)
        self.assertEqual(report(told, B, 1, 3), 1)

    def test_stays_credible(self) -> None:
        """A head that two nodes had stays the chainhead when one of them goes and a third is far behind."""
        told = heads()
        report(told, A, 1000, 1)
        report(told, B, 1000, 1)
        report(told, C, 900, 1)
        told.forget(B, 2)
        self.assertEqual(told.number, 1000)

    def test_liar_outlives_the_others(self) -> None:
        """A liar that was the last to report is doubted again when another node comes back."""
        told = heads(block_time=12.0)
        for reporter in (A, B):
            report(told, reporter, 100, 1)
        report(told, C, 10**6, 2)
        told.forget(A, 3)
        told.forget(B, 3)
        self.assertEqual(told.number, 10**6)
        self.assertEqual(report(told, A, 101, 12), 101)

    def test_unknown_reporter(self) -> None:
        """Forgetting who never reported changes nothing."""
        told = heads()
        report(told, A, 1, 1)
        told.forget(B, 2)
        self.assertEqual(told.number, 1)


class HearingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told = heads(diff=5)
        report(self.told, A, 100, 1)
        report(self.told, B, 100, 1)

    def test_raises(self) -> None:
        """An answer passing by raises the chainhead."""
        self.told.hear(A, 103, 1.5)
        self.assertEqual(self.told.number, 103)

    def test_same_rule(self) -> None:
        """An incredible one is not heard, and nobody is doubted for it."""
        self.told.hear(A, 106, 1.5)
        self.assertEqual((self.told.number, self.told.doubts), (100, frozenset()))

    def test_lower(self) -> None:
        """A lower one says nothing."""
        self.told.hear(A, 90, 1.5)
        self.assertEqual(self.told.number, 100)

    def test_silent_node(self) -> None:
        """A node whose polls do not count is not heard either."""
        self.told.hear(C, 103, 1.5)
        self.assertEqual(self.told.number, 100)

    def test_next_poll(self) -> None:
        """The next poll begun after it takes its place; one begun before does not."""
        self.told.hear(A, 103, 1.5)
        self.told.report(A, 100, 1.6, started_at=1.4)
        self.assertEqual(self.told.number, 103)
        self.told.report(A, 101, 2.6, started_at=2.4)
        self.assertEqual(self.told.number, 101)

    def test_supports(self) -> None:
        """What two nodes were heard to have is the chain's head, like what two polls said."""
        self.told.hear(A, 105, 1.5)
        self.told.hear(B, 105, 1.6)
        self.told.hear(A, 110, 1.7)
        self.assertEqual(self.told.number, 110)


class BlockTimeTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """A configured block time is never learnt over."""
        told = heads(block_time=12.0)
        for number in range(100):
            report(told, A, number, number)
        self.assertEqual(told.block_time_seconds, 12.0)

    def test_learnt(self) -> None:
        """After 20 advances the block time is known, a halt among them notwithstanding."""
        told, now = heads(), 0.0
        for number in range(21):
            self.assertIsNone(told.block_time_seconds)
            now += 600 if number == 10 else 2
            report(told, A, number, now)
            report(told, B, number, now)
        self.assertEqual(told.block_time_seconds, 2.0)

    def test_several_blocks_per_poll(self) -> None:
        """Blocks faster than polls are learnt just as well."""
        told = heads()
        for now in range(30):
            report(told, A, 4 * now, now)
        self.assertEqual(told.block_time_seconds, 0.25)

    def test_experience(self) -> None:
        """A lone reporter with 20 advances behind it is believed against a newcomer far behind."""
        told = heads()
        for now in range(0, 300, 12):
            report(told, A, 1000 + now // 12, now)
        self.assertEqual(report(told, B, 900, 290), 1024)
        self.assertEqual(report(told, A, 1025, 300), 1025)

    def test_history(self) -> None:
        """The chainhead of a past time is remembered as far back as the horizon."""
        told = Heads(5, None, 0.0, horizon_seconds=5.0)
        for now in range(1, 10):
            report(told, A, 100 + now, now)
        self.assertEqual([told.known_at(t) for t in (9.5, 9.0, 8.5, 5.0)], [109, 109, 108, 105])


class WorldTests(SynchronousTestCase):
    """A chain that advances in its time, honest nodes around it, and one that says anything."""

    def test_one_liar(self) -> None:
        """With two honest nodes or more, no lies of another move any of them out of range."""

        @settings(max_examples=150, deadline=None)
        @given(
            block_time=st.sampled_from([0.25, 1.0, 2.0, 12.0]),
            configured=st.booleans(),
            honest=st.integers(2, 4),
            diff=st.sampled_from([5, 10, 40]),
            lies=st.lists(
                st.one_of(st.integers(-50, 50), st.integers(-(10**9), 10**9), st.just(3)), min_size=40, max_size=80
            ),
        )
        def check(block_time: float, configured: bool, honest: int, diff: int, lies: list[int]) -> None:
            told = Heads(diff, block_time if configured else None, 0.0)
            liar, true = honest, 1000
            for turn, lie in enumerate(lies):
                for reporter in range(honest):
                    now = turn + reporter / (honest + 1)
                    true = 1000 + int(now / block_time)
                    report(told, reporter, true, now)
                    assert told.number is not None
                    assert turn == 0 or told.number - true <= diff, (now, told.number, true)
                    assert turn == 0 or told.number >= true - 1 - int(1 / block_time)
                told.report(liar, max(0, true + lie), turn + 0.99, started_at=turn + 0.9)

        run_property(check)

    def test_fast_chain(self) -> None:
        """On a chain of 250 ms, polls a second apart never refute an honest node that can prove its heads."""
        told = heads()
        doubted: dict[int, int | None] = {A: None, B: None}
        for turn in range(200):
            for reporter in (A, B):
                now = turn + 0.5 * reporter
                told.report(
                    reporter, int(now * 4) + turn % 3, now, started_at=now - 0.1, proven=doubted[reporter] is not None
                )
                doubted[reporter] = told.doubted(reporter)
                self.assertFalse(told.refuted(reporter))
        self.assertAlmostEqual(told.block_time_seconds or 0, 0.25, delta=0.1)


class HeadsMachine(RuleBasedStateMachine):
    """Any reports at all, against the theory read off the voices."""

    def __init__(self) -> None:
        super().__init__()
        self.told = Heads(5, 10.0, 0.0)
        self.now = 0.0
        self.voices: dict[int, int] = {}
        self.said: dict[int, float] = {}  # when each voice first said what it says
        self.before: int | None = None  # the chainhead before the last step
        self.anchor: tuple[int, float] | None = None  # what two voices, or a proof, have supported; and since when

    def raise_anchor(self, supported: int) -> None:
        """Two voices, or a proof, support a number: it counts since it was said, or since time allowed it."""
        if self.anchor is not None and supported <= self.anchor[0]:
            return
        since = self.now
        if self.anchor is not None:
            since = min(self.said[r] for r, n in self.voices.items() if n == supported)
            since = min(self.now, max(since, self.anchor[1] + (supported - self.anchor[0]) * 10.0))
        self.anchor = (supported, since)

    def further(self) -> list[int]:
        """What counts: zeros only where there is nothing else."""
        return [n for n in self.voices.values() if n] or list(self.voices.values())

    def learn(self) -> None:
        """Draw the model's conclusions; linear, naive, from all voices."""
        voices = sorted(self.further())
        if not voices:
            self.anchor = None
            return
        if len(voices) >= 2:
            self.raise_anchor(voices[-2])
        if self.anchor is not None and voices[-1] < self.anchor[0]:
            self.anchor = (voices[-1], self.now)
        if len(voices) == 1 and self.anchor is not None:
            time_line = self.anchor[0] + int((self.now - self.anchor[1]) / 10.0)
            if self.anchor[0] < voices[0] <= time_line:
                self.anchor = (voices[0], self.now)

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.told.expire(self.now)

    @rule(reporter=st.integers(0, 3), number=st.one_of(st.integers(0, 20), st.integers(0, 10**6)), proven=st.booleans())
    def report(self, reporter: int, number: int, proven: bool) -> None:
        self.now += 0.25
        if proven and self.told.doubted(reporter) is not None:
            self.raise_anchor(self.voices[reporter])
        self.told.report(reporter, number, self.now, started_at=self.now - 0.1, proven=proven)
        if self.voices.get(reporter) != number:
            self.said[reporter] = self.now
        self.voices[reporter] = number
        self.learn()

    @precondition(lambda self: self.voices)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        reporter = data.draw(st.sampled_from(sorted(self.voices)))
        del self.voices[reporter], self.said[reporter]
        self.told.forget(reporter, self.now)
        self.learn()

    @invariant()
    def highest_credible(self) -> None:
        before, self.before = self.before, self.told.number
        voices = self.further()
        if len(voices) < 2:
            assert self.told.number == (voices[0] if voices else None)
            assert self.told.doubts == frozenset()
            return
        assert self.anchor is not None
        ceiling = self.anchor[0] + int((self.now - self.anchor[1]) / 10.0) + 2
        doubted = {r for r, n in self.voices.items() if n > ceiling}
        credible = max((n for n in voices if n <= ceiling), default=0)
        least = credible if max(voices) <= ceiling else max(credible, self.anchor[0])
        assert self.told.number is not None
        assert self.told.number == least or (doubted and self.told.number == before and least < before <= ceiling)
        assert self.told.doubts == doubted
        assert self.told.refutations <= doubted


class MachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        """Whatever is reported, the chainhead is the highest voice within the ceiling, and those beyond are doubted.

        Amid doubts it may stay what it was.
        """
        run_state_machine_as_test(
            HeadsMachine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
        )
