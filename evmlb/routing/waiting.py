"""Requests that wait: for a node to have room, or for the first poll of a network that has just started.

There are two lines. Those in the first take any node; who of them is next is for :mod:`evmlb.policy.priority` to say:
first come first served, or by class where priorities are on. When the next one finds no room, nobody behind it would
either. Those in ``bound`` may only be asked of certain nodes (they were tried elsewhere, or use a filter that a node
holds), so each is looked at by itself, and before the others: its node may be the one that now has room.

A wait ends with room at a node, with nobody left to wait for, after ``queue_timeout``, at the request's deadline, or
when its client leaves. Under overload it ends sooner, and newcomers are refused at once (:mod:`evmlb.policy.shedding`).
In all, ``MAX_QUEUED`` wait.

Whoever is let go is taken out of its line before anything else happens: a node may answer before its ``send`` returns,
and the client's next request comes in meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from evmlb.errors import ALL_FULL, DEADLINE, QUEUED_TOO_LONG, Refusal
from evmlb.exchange import Exchange, InFlight
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.priority import Fifo, Line, PriorityClass, PriorityLine
from evmlb.policy.shedding import Shedding
from evmlb.routing.choosing import Choices, first_free
from evmlb.routing.learning import uses_filter
from evmlb.routing.recording import note
from evmlb.stats import NetworkStats

FIRST_POLL_SECONDS = 3.0
"""How long after the start a request waits for a node of the preferred role to answer its first poll."""
MAX_QUEUED = 10_000
"""So many requests of one network may wait for a node to have room; more are refused at once."""


class Ways(Protocol):
    """How a request that waited goes on; the router's."""

    def go_on(self, exchange: Exchange, node: Node | None, now: float) -> None:
        """Send it to a node; None when there is nobody to wait for any more."""
        ...

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """End it with an answer of our own."""
        ...


class Waiting:
    """Who waits for the nodes of one network."""

    def __init__(
        self, network: Network, stats: NetworkStats, in_flight: InFlight, choices: Choices, ways: Ways
    ) -> None:
        config = network.config
        self._network = network
        self._stats = stats
        self._table = in_flight
        self._now = in_flight.now
        self._choices = choices
        self._ways = ways
        self._waking = False
        self._until = in_flight.now() + FIRST_POLL_SECONDS
        self._shedding = Shedding(config.queue_timeout_seconds)
        self._timeout = config.queue_timeout_seconds
        priorities = config.priority_queue
        self.line: Line[Exchange] = PriorityLine(priorities) if priorities.enabled else Fifo()
        self.bound: OrderedDict[Exchange, None] = OrderedDict()

    def is_too_early(self, now: float) -> bool:
        """Whether the network has just started, and everyone waits for its first poll."""
        return not self._network.started and now < self._until

    def add(self, exchange: Exchange) -> None:
        """Let a request wait, or refuse it when too many do, or did for too long already."""
        now = self._now()
        if self._stats.queued >= MAX_QUEUED:
            self._shed(exchange, ALL_FULL)
            return
        exchange.queued_at = now
        if exchange.tried or uses_filter(exchange.call):
            self.bound[exchange] = None
        elif not self._admit(exchange, now):
            self._shed(exchange, QUEUED_TOO_LONG)
            return
        if exchange.trail is not None:
            note(exchange, self._network, now, "waits", detail="for a node to have room")
        self._count()
        exchange.queue_size = max(1, self._stats.queued_by_class[exchange.priority])
        self._table.queues.add(self)
        self._table.watch()

    def _admit(self, exchange: Exchange, now: float) -> bool:
        if not self.line:
            self._shedding.note_empty(now)
        oldest = self._oldest(exchange.priority)
        hopeless = oldest is not None and self._shedding.refuses(now - oldest.queued_at, now)
        if hopeless and not self.is_too_early(now):
            return False
        return self.line.add(exchange, PriorityClass(exchange.priority))

    def _oldest(self, priority: int) -> Exchange | None:
        """Who has waited longest in a class or a better one."""
        return min(
            (oldest for oldest in self.line.heads() if oldest.priority <= priority),
            key=lambda exchange: exchange.queued_at,
            default=None,
        )

    def _shed(self, exchange: Exchange, refusal: Refusal) -> None:
        self._stats.shed += 1
        self._ways.refuse(exchange, refusal)

    def told(self, exchange: Exchange, sent_at: float, now: float) -> tuple[int, ...]:
        """What prio-load-balancer's headers tell.

        Microseconds until it was sent, since then, and in all; how many of its class waited when it came, itself
        included, and how many wait now.
        """
        times = (sent_at - exchange.started, now - sent_at, now - exchange.started)
        return (*(int(seconds * 1e6) for seconds in times), exchange.queue_size, self.line.counts()[exchange.priority])

    def remove(self, exchange: Exchange) -> None:
        """Its client left. No matter if it did not wait."""
        if self._stats.queued:
            self.line.discard(exchange)
            self.bound.pop(exchange, None)
            self._count()

    def _count(self) -> None:
        stats = self._stats
        stats.queued_by_class = self.line.counts()
        stats.queued = sum(stats.queued_by_class) + len(self.bound)

    def wake_soon(self) -> None:
        """A node has room: serve those who wait, but not amid what is going on."""
        if not self._waking:
            self._waking = True
            self._table.later(0, self.wake)

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait."""
        self._waking = False
        now = self._now()
        if self._stats.queued and not self.is_too_early(now):
            for exchange in tuple(self.bound):
                if exchange in self.bound and self._may_go(exchange, now):
                    del self.bound[exchange]
                    self._let_go(exchange, now)
            self._serve_line(now)
        self._count()
        if not self._stats.queued:
            self._table.queues.discard(self)

    def _serve_line(self, now: float) -> None:
        while (exchange := self.line.peek()) is not None and self._may_go(exchange, now):
            self.line.pop()
            self._let_go(exchange, now)
        if not self.line:
            self._shedding.note_empty(now)

    def _may_go(self, exchange: Exchange, now: float) -> bool:
        """Whether one that waits has an end of it: room at a node, or nobody to wait for."""
        eligible = self._choices.eligible(exchange, now)
        return not eligible or first_free(eligible, now) is not None

    def _let_go(self, exchange: Exchange, now: float) -> None:
        if exchange.trail is not None:
            note(exchange, self._network, now, "waited", detail=f"{(now - exchange.queued_at) * 1000:.1f} ms")
        self._ways.go_on(exchange, self._choices.free(exchange, now), now)

    def sweep(self, now: float) -> None:
        """End the waits that are too long; let go on those who waited for the first poll long enough."""
        if self.is_too_early(now):
            self._shedding.note_empty(now)  # that all wait for the first poll is no sign of too many
        else:
            self._sweep_line(now)
        for exchange in [each for each in self.bound if now >= min(each.deadline, each.queued_at + self._timeout)]:
            if self.bound.pop(exchange, self) is None:
                self._end(exchange, now)
        self.wake()

    def _sweep_line(self, now: float) -> None:
        """Each class is in the order of arrival, so only the oldest need to be looked at."""
        limit = self._shedding.max_wait(now)
        for oldest in self.line.heads():
            exchange: Exchange | None = oldest
            while exchange is not None and now >= min(exchange.deadline, exchange.queued_at + limit):
                self.line.discard(exchange)
                self._end(exchange, now)
                exchange = next((head for head in self.line.heads() if head.priority == oldest.priority), None)

    def _end(self, exchange: Exchange, now: float) -> None:
        """The wait was in vain: the best of what there is, if a node said anything."""
        self._count()
        if exchange.saved is not None:
            self._ways.go_on(exchange, None, now)
        elif now >= exchange.deadline:
            self._ways.refuse(exchange, DEADLINE)
        else:
            self._shed(exchange, QUEUED_TOO_LONG)
