"""In which order requests that wait are served."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import PriorityQueueConfig
from evmlb.policy.priority import Fifo, Line, PriorityClass, PriorityLine, class_of
from tests.support import run_property

FAST, HIGH, LOW = PriorityClass
CLASSES = {"F": FAST, "B": FAST, "H": HIGH, "L": LOW}


def config(**settings: Any) -> PriorityQueueConfig:
    return PriorityQueueConfig(enabled=True, **settings)


def filled(letters: str, **settings: Any) -> PriorityLine[str]:
    """A line of items named by the letter of their class and their number in it: F1, F2, H1."""
    line: PriorityLine[str] = PriorityLine(config(**settings))
    fill(line, letters)
    return line


def fill(line: Line[str], letters: str) -> None:
    for number, letter in enumerate(letters):
        assert line.add(f"{letter}{number}", CLASSES[letter])


def emptied(line: Line[str]) -> str:
    """The letters of all who wait, as they are served."""
    order = ""
    while len(line):
        item = line.peek()
        assert line.pop() == item
        order += str(item)[0]
    return order


class OrderTests(SynchronousTestCase):
    def test_vector(self) -> None:
        """prio-load-balancer's own vector: six fast, one with both headers, seven high, five low."""
        self.assertEqual(emptied(filled("FFFFFFBHHHHHHHLLLLL")), "FFHFFHFFHBHHHHLLLLL")

    def test_ratios(self) -> None:
        """N fast ones go before each high one; with 0 or less all high ones go first."""
        for ratio, expected in ((1, "FHFHFHFH"), (3, "FFFHFHHH"), (9, "FFFFHHHH"), (0, "HHHHFFFF"), (-2, "HHHHFFFF")):
            self.assertEqual(emptied(filled("FFFFHHHH", fasttrack_per_highprio=ratio)), expected, ratio)

    def test_drain_first(self) -> None:
        """With drain-first no high one is served before all fast ones, and no low one before all high ones."""
        self.assertEqual(emptied(filled("LHFLHFLHF", fasttrack_drain_first=True)), "FFFHHHLLL")

    def test_first_come(self) -> None:
        """Within a class it is first come first served."""
        line = filled("LFHLFHLFH")
        self.assertEqual([line.pop() for _ in range(9)], ["F1", "F4", "H2", "F7", "H5", "H8", "L0", "L3", "L6"])

    def test_no_high_waits(self) -> None:
        """Where a high one has its turn and none waits, a fast one is served and the count starts again."""
        line = filled("FFF")
        self.assertEqual(emptied(line), "FFF")
        fill(line, "FFFHHH")
        self.assertEqual(emptied(line), "FFHFHH")

    def test_no_fast_waits(self) -> None:
        """A turn without a fast one starts the count again."""
        line = filled("FFL")
        self.assertEqual(emptied(line), "FFL")
        fill(line, "FFFH")
        self.assertEqual(emptied(line), "FFHF")

    def test_peek_changes_nothing(self) -> None:
        """However often the next one is looked at, it keeps its turn and so do those after it."""
        line = filled("FFFHH")
        order = ""
        while len(line):
            self.assertEqual({line.peek() for _ in range(5)}, {line.peek()})
            order += line.pop()[0]
        self.assertEqual(order, "FFHFH")

    def test_better_arrives_after_peek(self) -> None:
        """One who comes after the look and goes before is the next to be taken: look again."""
        line = filled("LL")
        self.assertEqual(line.peek(), "L0")
        line.add("F", FAST)
        self.assertEqual((line.peek(), line.pop(), line.pop()), ("F", "F", "L0"))


class LineTests(SynchronousTestCase):
    def test_empty(self) -> None:
        """Where nobody waits there is no next, and none to take."""
        for line in (PriorityLine[str](config()), Fifo[str]()):
            self.assertIsNone(line.peek())
            self.assertRaises(IndexError, line.pop)
            self.assertEqual((len(line), list(line), line.counts()), (0, [], (0, 0, 0)))
            self.assertEqual(line.heads(), ())

    def test_discard(self) -> None:
        """Who leaves is gone from wherever it was, and changes nobody's turn."""
        line = filled("FFFFHHL")
        self.assertEqual([line.discard(item) for item in ("F1", "H4", "L6", "L6", "X")], [True] * 3 + [False] * 2)
        self.assertEqual([line.pop() for _ in range(4)], ["F0", "F2", "H5", "F3"])

    def test_contents(self) -> None:
        """It says who waits, and how many of each class."""
        line = filled("LFHHL")
        self.assertEqual((len(line), line.counts(), list(line)), (5, (1, 2, 2), ["F1", "H2", "H3", "L0", "L4"]))
        self.assertEqual(line.heads(), ("F1", "H2", "L0"))
        line.discard("F1")
        self.assertEqual(line.heads(), ("H2", "L0"))
        self.assertIn("H3", line)
        self.assertNotIn("H4", line)

    def test_caps(self) -> None:
        """A class that is full takes no more and leaves the others alone: a full low line refuses no fast-track."""
        line: PriorityLine[str] = PriorityLine(config(max_fasttrack=2, max_highprio=0, max_lowprio=1))
        self.assertEqual([line.add(f"L{n}", LOW) for n in range(2)], [True, False])
        self.assertEqual([line.add(f"F{n}", FAST) for n in range(3)], [True, True, False])
        self.assertEqual({line.add(f"H{n}", HIGH) for n in range(100)}, {True})
        self.assertNotIn("F2", line)
        line.pop()
        self.assertTrue(line.add("F2", FAST))

    def test_fifo(self) -> None:
        """Without priorities the class does not matter."""
        line: Fifo[str] = Fifo()
        fill(line, "LFHLFHL")
        self.assertTrue(line.discard("H2"))
        self.assertFalse(line.discard("H2"))
        self.assertIn("L3", line)
        self.assertEqual((line.counts(), list(line)), ((0, 0, 6), ["L0", "F1", "L3", "F4", "H5", "L6"]))
        self.assertEqual(line.heads(), ("L0",))
        self.assertEqual(emptied(line), "LFLFHL")

    def test_leavers_at_the_front(self) -> None:
        """Many who leave from the front do not make looking for the next one slow: no step walks over them."""
        line: PriorityLine[int] = PriorityLine(config())
        count = 100_000
        for item in range(count):
            line.add(item, LOW)
        for item in range(count - 1):
            line.discard(item)
            assert line.peek() == item + 1
        self.assertEqual(len(line), 1)


class ClassTests(SynchronousTestCase):
    settings = config(fasttrack_methods=("eth_sendRawTransaction",), highprio_methods=("eth_call",))

    def class_of(self, headers: dict[bytes, bytes], method: str = "eth_getLogs") -> PriorityClass:
        return class_of(lambda name: headers.get(name, b""), method, self.settings)

    def test_headers(self) -> None:
        """Each header gives its class, fast-track before high."""
        for headers, expected in (
            ({}, LOW),
            ({b"x-fast-track": b"true"}, FAST),
            ({b"x-high-priority": b"true"}, HIGH),
            ({b"high_prio": b"true"}, HIGH),
            ({b"x-fast-track": b"true", b"x-high-priority": b"true"}, FAST),
        ):
            self.assertIs(self.class_of(headers), expected, headers)

    def test_other_values(self) -> None:
        """Nothing but exactly true counts."""
        for value in (b"True", b"1", b"yes", b" true", b"false", b""):
            headers = dict.fromkeys((b"x-fast-track", b"x-high-priority", b"high_prio"), value)
            self.assertIs(self.class_of(headers), LOW, value)

    def test_methods(self) -> None:
        """Without a header the method says it; a header wins over the method."""
        for headers, method, expected in (
            ({}, "eth_sendRawTransaction", FAST),
            ({}, "eth_call", HIGH),
            ({b"x-fast-track": b"true"}, "eth_call", FAST),
            ({b"high_prio": b"true"}, "eth_sendRawTransaction", HIGH),
        ):
            self.assertIs(self.class_of(headers, method), expected, (headers, method))


class MachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        """Whatever is added, taken and discarded, the order is that of a slow model written from their description."""
        bounds = settings(max_examples=120, stateful_step_count=50, deadline=None)
        run_property(lambda: run_state_machine_as_test(PriorityMachine, settings=bounds))


class PriorityMachine(RuleBasedStateMachine):
    """One plain list of (class, item), and the rules of the sheet in its own words."""

    @initialize(
        ratio=st.integers(-1, 4),
        drain_first=st.booleans(),
        caps=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    )
    def configure(self, ratio: int, drain_first: bool, caps: tuple[int, int, int]) -> None:
        self.ratio, self.drain_first, self.caps = ratio, drain_first, caps
        self.line: PriorityLine[int] = PriorityLine(
            config(
                fasttrack_per_highprio=ratio,
                fasttrack_drain_first=drain_first,
                max_fasttrack=caps[0],
                max_highprio=caps[1],
                max_lowprio=caps[2],
            )
        )
        self.waiting: list[tuple[PriorityClass, int]] = []
        self.k = 0
        self.next = 0

    def of(self, klass: PriorityClass) -> list[int]:
        return [item for its, item in self.waiting if its is klass]

    @rule(klass=st.sampled_from(PriorityClass), count=st.integers(1, 4))
    def add(self, klass: PriorityClass, count: int) -> None:
        for _ in range(count):
            self.next += 1
            has_room = not self.caps[klass] or len(self.of(klass)) < self.caps[klass]
            assert self.line.add(self.next, klass) == has_room
            if has_room:
                self.waiting.append((klass, self.next))

    @rule()
    def pop(self) -> None:
        if not self.waiting:
            assert self.line.peek() is None
            return
        klass = self.turn()
        item = self.of(klass)[0]
        assert self.line.peek() == item
        assert self.line.pop() == item
        self.waiting.remove((klass, item))

    def turn(self) -> PriorityClass:
        first, second = bool(self.of(FAST)), bool(self.of(HIGH))
        if self.drain_first:
            return FAST if first else HIGH if second else LOW
        if not first:
            self.k = 0
            return HIGH if second else LOW
        self.k += 1
        if self.k > self.ratio:
            self.k = 0
            if second:
                return HIGH
        return FAST

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.next))
        was = [entry for entry in self.waiting if entry[1] == item]
        assert self.line.discard(item) == bool(was)
        self.waiting = [entry for entry in self.waiting if entry not in was]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "line"):
            return
        assert self.line.counts() == tuple(len(self.of(klass)) for klass in PriorityClass)
        assert list(self.line) == [item for klass in PriorityClass for item in self.of(klass)]
        assert list(self.line.heads()) == [self.of(klass)[0] for klass in PriorityClass if self.of(klass)]
        assert len(self.line) == len(self.waiting)
        assert all(item in self.line for _, item in self.waiting)
