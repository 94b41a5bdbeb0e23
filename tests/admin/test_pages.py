"""Pages in slices: driven by a clock, shared, and given up when nobody waits."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from evmlb.admin.pages import PageWorks, make_cooperator
from tests.admin.support import TurningClock


class PageWorksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = TurningClock()
        self.works = PageWorks(make_cooperator(self.clock))
        self.made: list[str] = []

    def slices(self, name: str = "x", count: int = 3) -> Iterator[bytes]:
        for number in range(count):
            self.made.append(f"{name}{number}")
            yield b"%d" % number

    def test_one_slice_per_turn(self) -> None:
        """Everything else that waits for the loop goes between two slices."""
        page = self.works.page("k", self.slices)
        for number in range(3):
            self.assertNoResult(page)
            self.clock.callLater(0, self.made.append, "else")
            self.clock.turn()
            self.assertEqual(self.made.count(f"x{number}"), 1)
        self.clock.turn()
        self.assertEqual(self.successResultOf(page), b"012")
        self.assertEqual(self.made, ["x0", "else", "x1", "else", "x2", "else"])

    def test_shared(self) -> None:
        """Who asks while a page is being made gets that page; who asks later, a new one."""
        first = self.works.page("k", self.slices)
        self.clock.turn()
        second = self.works.page("k", self.slices)
        self.clock.turn(4)
        self.assertEqual(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(self.made, ["x0", "x1", "x2"])
        third = self.works.page("k", self.slices)
        self.clock.turn(5)
        self.assertEqual(self.successResultOf(third), b"012")
        self.assertEqual(len(self.made), 6)

    def test_not_shared_with_another(self) -> None:
        """Pages of different kinds are made side by side."""
        one = self.works.page("one", lambda: self.slices("a"))
        two = self.works.page("two", lambda: self.slices("b"))
        self.clock.turn(8)
        self.successResultOf(one)
        self.successResultOf(two)
        self.assertEqual(sorted(self.made), ["a0", "a1", "a2", "b0", "b1", "b2"])

    def test_nobody_waits(self) -> None:
        """When the last who waits leaves, the work ends; it begins anew for the next."""
        page = self.works.page("k", self.slices)
        self.clock.turn()
        page.cancel()
        self.failureResultOf(page, CancelledError)
        self.clock.turn(5)
        self.assertEqual(self.made, ["x0"])
        again = self.works.page("k", self.slices)
        self.clock.turn(5)
        self.assertEqual(self.successResultOf(again), b"012")

    def test_one_leaves(self) -> None:
        """The others still get their page."""
        leaving, staying = self.works.page("k", self.slices), self.works.page("k", self.slices)
        self.clock.turn()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.clock.turn(5)
        self.assertEqual(self.successResultOf(staying), b"012")

    def test_it_goes_wrong(self) -> None:
        """A page that cannot be made fails for all who wait, and does not stand in the way of the next."""

        def broken() -> Iterator[bytes]:
            yield b"0"
            raise ValueError("broken")

        pages = [self.works.page("k", broken) for _ in range(2)]
        self.clock.turn(3)
        for page in pages:
            self.failureResultOf(page, ValueError)
        again = self.works.page("k", self.slices)
        self.clock.turn(5)
        self.assertEqual(self.successResultOf(again), b"012")

    def test_default_clock(self) -> None:
        """Without a clock the reactor's is used."""
        self.assertIsNotNone(make_cooperator())
