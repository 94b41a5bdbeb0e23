"""Events to many: in order, in slices, lane beside lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.subscribing.fanout import SLICE, FanOut, Subscription
from tests.subscribing.clients import Client
from tests.support import run_property


class Loop:
    """The turns of an event loop, one by one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[Callable[[], None]] = []

    def later(self, delay: float, work: Callable[[], None]) -> Loop:
        assert delay == 0
        self.waiting.append(work)
        return self

    def cancel(self) -> None:
        self.waiting.pop()

    def turn(self) -> None:
        self.now += 0.25
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class FanOutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.fanout = FanOut(self.loop.later, lambda: self.loop.now)
        self.told: list[tuple[int, bytes]] = []

    def subscriptions(self, count: int) -> list[Subscription]:
        """So many, of one client that notes who is told what."""
        return [Subscription(f"{n:034d}", self.noting(n)) for n in range(count)]

    def noting(self, n: int) -> Any:
        client = Client()
        client.notify = lambda prefix, own, suffix: self.told.append((n, suffix))  # type: ignore[method-assign]
        return client

    def test_message(self) -> None:
        """What is sent is the event that geth sends."""
        client = Client()
        client.events["0xab"] = []
        self.fanout.tell("x", [Subscription("0xab", client)], b'{"number":"0x1"}')
        self.assertEqual(client.events["0xab"], [{"number": "0x1"}])

    def test_slices(self) -> None:
        """Many subscribers are told over several turns of the loop, each event in whole before the next one."""
        subscriptions = self.subscriptions(SLICE + 100)
        self.fanout.tell("x", subscriptions, b"1", b"2")
        self.assertEqual(len(self.told), SLICE)
        self.loop.turn()
        self.assertEqual(len(self.told), 2 * SLICE)
        self.loop.turn()
        self.assertEqual(self.told, [(n, b'","result":%d}}' % event) for event in (1, 2) for n in range(SLICE + 100)])
        self.assertEqual((self.fanout.delivered, self.fanout.lag_seconds), (len(self.told), 0.5))
        self.assertEqual(self.loop.waiting, [])

    def test_lanes(self) -> None:
        """A lane with much to tell does not keep another one waiting."""
        subscriptions = self.subscriptions(SLICE)
        self.fanout.tell("logs", subscriptions, *[b"1"] * 50)
        self.fanout.tell("newHeads", subscriptions[:100], b"2")
        self.loop.turn()
        self.assertEqual(sum(suffix == b'","result":2}}' for _, suffix in self.told), 100)

    def test_ended_meanwhile(self) -> None:
        """Who is not active any more when it is its turn is told nothing."""
        subscriptions = self.subscriptions(SLICE + 1)
        self.fanout.tell("x", subscriptions, b"1")
        subscriptions[-1].is_active = False
        self.loop.turn()
        self.assertEqual(len(self.told), SLICE)

    def test_emptied(self) -> None:
        """It can be waited for that a lane is empty."""
        self.assertEqual(self.fanout.backlog("x"), 0)
        self.successResultOf(self.fanout.emptied("x"))
        self.fanout.tell("x", self.subscriptions(SLICE), b"1", b"2")
        self.assertEqual(self.fanout.backlog("x"), 1)
        waiting = self.fanout.emptied("x")
        self.assertNoResult(waiting)
        self.loop.turn()
        self.successResultOf(waiting)

    def test_stop(self) -> None:
        """After the end nothing is told."""
        self.fanout.tell("x", self.subscriptions(SLICE + 1), b"1")
        self.fanout.stop()
        self.assertEqual(self.loop.waiting, [])
        self.assertEqual(len(self.told), SLICE)

    def test_order(self) -> None:
        """Whatever is told to whom, each gets the events of a lane in order, none left out."""

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2)), max_size=12))
        def check(events: list[tuple[int, int, int]]) -> None:
            self.setUp()
            subscriptions = self.subscriptions(3 * SLICE)
            for number, (lane, thirds, turns) in enumerate(events):
                self.fanout.tell(f"lane {lane}", subscriptions[: thirds * SLICE], b"%d" % number)
                for _ in range(turns):
                    self.loop.turn()
            while self.loop.waiting:
                self.loop.turn()
            for lane in (0, 1):
                for n in (0, SLICE, 3 * SLICE - 1):
                    due = [
                        b'","result":%d}}' % number
                        for number, (its_lane, thirds, _) in enumerate(events)
                        if its_lane == lane and n < thirds * SLICE
                    ]
                    assert [suffix for who, suffix in self.told if who == n and suffix in due] == due

        run_property(check)
