"""Schedules, and the words for faults."""

from twisted.trial.unittest import SynchronousTestCase

from evmlb.demo.faults import HEALTHY, Fault, Kind, fault
from evmlb.demo.schedule import Schedule

HANG, LAG = fault("hang"), fault("lag 3")


class ScheduleTests(SynchronousTestCase):
    def test_steps(self) -> None:
        """A fault holds from its second until the next step; before the first the node is well."""
        schedule = Schedule(((10, HANG), (18, HEALTHY), (20, LAG)))
        faults = [schedule.fault_at(t) for t in (0, 9.9, 10, 17, 18, 99)]
        self.assertEqual(faults, [HEALTHY, HEALTHY, HANG, HANG, HEALTHY, LAG])

    def test_repeats(self) -> None:
        """A repeating schedule begins again."""
        schedule = Schedule(((5, HANG),), repeat_seconds=10)
        faults = [schedule.fault_at(t) for t in (4, 5, 10, 14, 15, 1004, 1005)]
        self.assertEqual(faults, [HEALTHY, HANG, HEALTHY, HEALTHY, HANG, HEALTHY, HANG])

    def test_nothing(self) -> None:
        """An empty schedule is a healthy node."""
        self.assertEqual(Schedule().fault_at(5), HEALTHY)

    def test_refused(self) -> None:
        """Steps out of order, before the start, or after the repetition are refused."""
        self.assertRaises(ValueError, Schedule, ((5, HANG), (4, LAG)))
        self.assertRaises(ValueError, Schedule, ((-1, HANG),))
        self.assertRaises(ValueError, Schedule, ((5, HANG),), 5)


class FaultTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A fault is written in words, with an amount where it has one."""
        self.assertEqual(fault("lag"), Fault(Kind.LAG, 10))
        self.assertEqual(fault(" status 503 "), Fault(Kind.STATUS, 503))
        self.assertEqual([fault(str(f)) for f in (HEALTHY, HANG, LAG)], [HEALTHY, HANG, LAG])

    def test_wrong_words(self) -> None:
        """Unknown words, wrong amounts and amounts where none belongs are refused."""
        for text in ("", "sleepy", "lag x", "hang 3"):
            self.assertRaises(ValueError, fault, text)

    def test_every_kind_is_described(self) -> None:
        """Every kind can be written and told in words."""
        for kind in Kind:
            self.assertTrue(fault(kind.value).description)
