"""Requests that wait: for a node to have room, or for the first poll of a network that has just started.

There are two lines. Those in ``free`` take any node, and are served first come first served: when the first of them
finds no room, nobody behind it would either. Those in ``bound`` may only be asked of certain nodes (they were tried
elsewhere, or use a filter that a node holds), so each is looked at by itself, and before the free ones: its node may be
the one that now has room.

A wait ends with room at a node, with nobody left to wait for, at the request's deadline, or when its client leaves. In
all, ``MAX_QUEUED`` wait; more are refused at once.

Whoever is let go is taken out of its line before anything else happens: a node may answer before its ``send`` returns,
and the client's next request comes in meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from evmlb.errors import ALL_FULL, DEADLINE, Refusal
from evmlb.exchange import Exchange, InFlight
from evmlb.network import Network
from evmlb.node import Node
from evmlb.routing.choosing import Choices, first_free
from evmlb.routing.learning import uses_filter
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
        self,
        network: Network,
        stats: NetworkStats,
        in_flight: InFlight,
        choices: Choices,
        ways: Ways,
        later: Callable[..., Any],
    ) -> None:
        self._network = network
        self._stats = stats
        self._table = in_flight
        self._now = in_flight.now
        self._choices = choices
        self._ways = ways
        self._later = later
        self._waking = False
        self._until = in_flight.now() + FIRST_POLL_SECONDS
        self.free: OrderedDict[Exchange, None] = OrderedDict()
        self.bound: OrderedDict[Exchange, None] = OrderedDict()

    def is_too_early(self, now: float) -> bool:
        """Whether the network has just started, and everyone waits for its first poll."""
        return not self._network.started and now < self._until

    def add(self, exchange: Exchange) -> None:
        """Let a request wait, or refuse it when too many do."""
        if self._stats.queued >= MAX_QUEUED:
            self._ways.refuse(exchange, ALL_FULL)
            return
        is_bound = bool(exchange.tried) or uses_filter(exchange.call)
        (self.bound if is_bound else self.free)[exchange] = None
        self._stats.queued += 1
        self._table.queues.add(self)
        self._table.watch()

    def remove(self, exchange: Exchange) -> None:
        """Its client left. No matter if it did not wait."""
        self.free.pop(exchange, None)
        self.bound.pop(exchange, None)
        self._count()

    def _count(self) -> None:
        self._stats.queued = len(self.free) + len(self.bound)

    def wake_soon(self) -> None:
        """A node has room: serve those who wait, but not amid what is going on."""
        if not self._waking:
            self._waking = True
            self._later(0, self.wake)

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait, first come first served."""
        self._waking = False
        if not self.is_too_early(self._now()):
            for exchange in tuple(self.bound):
                if exchange in self.bound:
                    self._offer(exchange, self.bound)
            while self.free and self._offer(next(iter(self.free)), self.free):
                pass
        self._count()
        if not self._stats.queued:
            self._table.queues.discard(self)

    def _offer(self, exchange: Exchange, line: OrderedDict[Exchange, None]) -> bool:
        """Let one that waits go on; False when it has to wait longer."""
        now = self._now()
        eligible = self._choices.eligible(exchange, now)
        node = first_free(eligible)
        if node is None and eligible:
            return False
        del line[exchange]
        self._ways.go_on(exchange, node, now)
        return True

    def sweep(self, now: float) -> None:
        """Refuse those who waited until their deadline; let go on those who waited for the first poll long enough."""
        for line in (self.free, self.bound):
            for exchange in [exchange for exchange in line if exchange.deadline <= now]:
                if line.pop(exchange, self) is None:
                    self._ways.refuse(exchange, DEADLINE)
        self.wake()
