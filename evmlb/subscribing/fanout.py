"""An event to all who wait for it.

An event is made once; what differs between subscribers is the subscription's id, whose length is the same for all. It
is written in slices, so that thousands of subscribers do not hold the loop, and event after event, so that each
subscriber gets them in order. Each kind of event has a lane of its own, and the lanes take turns: a block with a
thousand logs does not keep the next head waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evmlb.interfaces import Subscriber

PREFIX = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"'
SLICE = 512
"""So many subscribers are written to in one turn of the loop: some 4 ms."""

_log = Logger(namespace="evmlb.subscribing")


class Subscription:
    """One subscription of one client. Once it is not active any more, it is told nothing."""

    __slots__ = ("id", "is_active", "subscriber")

    def __init__(self, subscription_id: str, subscriber: Subscriber) -> None:
        self.id = subscription_id.encode()
        self.subscriber = subscriber
        self.is_active = True


class _Lane:
    """Events of one kind on their way, and who waits for all of them to be told."""

    def __init__(self) -> None:
        self.events: deque[tuple[Sequence[Subscription], bytes, float]] = deque()
        self.told = 0  # subscribers of the first event
        self.waiting: list[Deferred[None]] = []


class FanOut:
    """Events on their way to subscribers. ``later`` is the reactor's ``callLater``.

    ``lag_seconds``: how long the last event took from coming in to its last subscriber. ``delivered``: how many times
    a subscriber was told something.
    """

    def __init__(self, later: Callable[..., Any], now: Callable[[], float]) -> None:
        self._later = later
        self._now = now
        self._lanes: dict[str, _Lane] = {}
        self._next_turn: Any = None
        self._is_writing = False
        self.lag_seconds = 0.0
        self.delivered = 0

    def tell(self, lane: str, subscriptions: Sequence[Subscription], *results: bytes) -> None:
        """Tell events to these subscriptions, after all events of the lane before. Each result is JSON."""
        self.tell_each(lane, ((subscriptions, results),))

    def tell_each(self, lane: str, events: Iterable[tuple[Sequence[Subscription], Sequence[bytes]]]) -> None:
        """The same for several groups of subscriptions, with the events of each."""
        now = self._now()
        waiting = self._lane(lane).events
        for subscriptions, results in events:
            if subscriptions:
                waiting.extend((subscriptions, b'","result":%b}}' % result, now) for result in results)
        if waiting and self._next_turn is None and not self._is_writing:
            self._take_turn()

    def backlog(self, lane: str) -> int:
        """How many events of a lane are on their way."""
        return len(self._lane(lane).events)

    def emptied(self, lane: str) -> Deferred[None]:
        """Fires when all events of the lane have been told."""
        done: Deferred[None] = Deferred()
        if self.backlog(lane):
            self._lane(lane).waiting.append(done)
        else:
            done.callback(None)
        return done

    def stop(self) -> None:
        """Tell nothing more."""
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._lanes.clear()

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane())

    def _take_turn(self) -> None:
        self._next_turn = None
        self._is_writing = True
        busy = [lane for lane in self._lanes.values() if lane.events]
        for lane in busy:
            self._write(lane, SLICE // len(busy))
        self._is_writing = False
        if any(lane.events for lane in self._lanes.values()):
            self._next_turn = self._later(0, self._take_turn)
        for lane in busy:
            if not lane.events:
                waiting, lane.waiting = lane.waiting, []
                for done in waiting:
                    done.callback(None)

    def _write(self, lane: _Lane, left: int) -> None:
        """Write to so many subscribers."""
        while lane.events and left > 0:
            subscriptions, suffix, came_at = lane.events[0]
            part = subscriptions[lane.told : lane.told + left]
            lane.told += len(part)
            left -= len(part)
            self._write_to(part, suffix)
            if lane.told == len(subscriptions):
                lane.events.popleft()
                lane.told = 0
                self.lag_seconds = self._now() - came_at

    def _write_to(self, subscriptions: Sequence[Subscription], suffix: bytes) -> None:
        for subscription in subscriptions:
            if subscription.is_active:
                try:
                    subscription.subscriber.notify(PREFIX, subscription.id, suffix)
                except Exception:  # the others are to be told nevertheless
                    _log.failure("a subscriber could not be told")
                self.delivered += 1
