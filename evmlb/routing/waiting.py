"""Requests that wait: for a node to have room, or for the first poll of a network that has just started.

Those in the main line take any node; who of them is next is for :mod:`evmlb.policy.priority` to say: first come first
served, or by class where priorities are on. When the next one finds no room, nobody behind it would either.

Others may only be asked of certain nodes: they were tried elsewhere, use a filter that a node holds, ask for what some
nodes lack. They are *bound*, and stand in lines of their own, one for each set of nodes, so that they neither hold up
those who could go elsewhere nor are held up by them. When a node has room, the most urgent and then the oldest of the
heads that may go is next.

A wait ends with room at a node, with nobody left to wait for, after ``queue_timeout``, at the request's deadline, or
when its client leaves. Under overload it ends sooner, and newcomers are refused at once (:mod:`evmlb.policy.shedding`).
In all, ``MAX_QUEUED`` wait.

Whoever is let go is taken out of its line before anything else happens: a node may answer before its ``send`` returns,
and the client's next request comes in meanwhile.
"""

from __future__ import annotations

from typing import Protocol

from evmlb.deadlines import Deadlines
from evmlb.errors import ALL_FULL, DEADLINE, QUEUED_TOO_LONG, Refusal
from evmlb.exchange import Exchange
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.priority import Fifo, Line, PriorityClass, PriorityLine
from evmlb.policy.shedding import Shedding
from evmlb.routing.choosing import Choices, first_free
from evmlb.routing.effort import effort_of, made_effort, tried_by
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
        self, network: Network, stats: NetworkStats, deadlines: Deadlines, choices: Choices, ways: Ways
    ) -> None:
        config = network.config
        self._network = network
        self._stats = stats
        self._deadlines = deadlines
        self._now = deadlines.now
        self._choices = choices
        self._ways = ways
        self._waking = False
        self._until = deadlines.now() + FIRST_POLL_SECONDS
        self._timeout = config.queue_timeout_seconds
        self._shedding = Shedding(self._timeout)
        priorities = config.priority_queue
        self.line: Line[Exchange] = PriorityLine(priorities) if priorities.enabled else Fifo()
        self._bound: dict[frozenset[int], Fifo[Exchange]] = {}  # by the nodes that may be asked

    def is_too_early(self, now: float) -> bool:
        """Whether the network has just started, and everyone waits for its first poll."""
        return not self._network.started and now < self._until

    # coming

    def add(self, exchange: Exchange) -> None:
        """Let a request wait, or refuse it when too many do, or did for too long already."""
        now = self._now()
        if self._stats.queued >= MAX_QUEUED:
            self._shed(exchange, ALL_FULL)
            return
        effort = effort_of(exchange)
        effort.queued_at = now
        if not self._admit(exchange, now):
            self._shed(exchange, QUEUED_TOO_LONG)
            return
        if exchange.trail is not None:
            note(exchange, self._network, now, "waits", detail="for a node to have room")
        self._count()
        effort.queue_size = max(1, self._stats.queued_by_class[exchange.priority])
        self._deadlines.sweepers.add(self)
        self._deadlines.watch()

    def _admit(self, exchange: Exchange, now: float) -> bool:
        """Put it in its line; False when those before it have waited as long as one may."""
        too_early = self.is_too_early(now)
        if not too_early and (tried_by(exchange) or self._choices.is_narrow(exchange, now)):
            nodes = frozenset(node.index for node in self._choices.eligible(exchange, now))
            line: Line[Exchange] = self._bound.setdefault(nodes, Fifo())
        else:
            line = self.line
        if not self._stats.queued:
            self._shedding.note_empty(now)
        oldest = _oldest(line, exchange.priority)
        if oldest is not None and not too_early and self._shedding.refuses(now - _since(oldest), now):
            return False
        return line.add(exchange, PriorityClass(exchange.priority))

    def _shed(self, exchange: Exchange, refusal: Refusal) -> None:
        self._stats.shed += 1
        if effort_of(exchange).saved is not None:
            self._ways.go_on(exchange, None, self._now())
        else:
            self._ways.refuse(exchange, refusal)

    def told(self, exchange: Exchange, sent_at: float, now: float) -> tuple[int, ...]:
        """What prio-load-balancer's headers tell.

        Microseconds until it was sent, since then, and in all; how many of its class waited when it came, itself
        included, and how many wait now.
        """
        effort = made_effort(exchange)
        queue_size = 1 if effort is None else effort.queue_size
        times = (sent_at - exchange.started, now - sent_at, now - exchange.started)
        return (*(int(seconds * 1e6) for seconds in times), queue_size, self.line.counts()[exchange.priority])

    # leaving

    def remove(self, exchange: Exchange) -> None:
        """Its client left. No matter if it did not wait."""
        if self._stats.queued and any(line.discard(exchange) for line in self._lines()):
            self._count()
            if not self._stats.queued:
                self._deadlines.sweepers.discard(self)

    def _lines(self) -> list[Line[Exchange]]:
        return [self.line, *self._bound.values()]

    def _count(self) -> None:
        stats = self._stats
        self._bound = {nodes: line for nodes, line in self._bound.items() if line}
        stats.queued_by_class = self.line.counts()
        stats.queued = sum(map(len, self._lines()))

    def wake_soon(self) -> None:
        """A node has room: serve those who wait, but not amid what is going on."""
        if not self._waking:
            self._waking = True
            self._deadlines.later(0, self.wake)

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait."""
        self._waking = False
        now = self._now()
        if self._stats.queued and not self.is_too_early(now):
            while (line := self._next_line(now)) is not None:
                self._let_go(line.pop(), now)
            if not self.line:
                self._shedding.note_empty(now)
        self._count()
        if not self._stats.queued:
            self._deadlines.sweepers.discard(self)

    def _next_line(self, now: float) -> Line[Exchange] | None:
        """The line whose head is next, of those whose head may go."""
        heads = [(line, head) for line in self._lines() if (head := line.peek()) is not None]
        ready = [
            (head.priority, _since(head), place) for place, (_, head) in enumerate(heads) if self._may_go(head, now)
        ]
        return heads[min(ready)[2]][0] if ready else None

    def _may_go(self, exchange: Exchange, now: float) -> bool:
        """Whether one that waits has an end of it: room at a node, or nobody to wait for."""
        eligible = self._choices.eligible(exchange, now)
        return not eligible or first_free(eligible, now) is not None

    def _let_go(self, exchange: Exchange, now: float) -> None:
        if exchange.trail is not None:
            milliseconds = (now - _since(exchange)) * 1000
            note(exchange, self._network, now, "waited", detail=f"{milliseconds:.1f} ms")
        self._ways.go_on(exchange, self._choices.free(exchange, now), now)

    # time

    def sweep(self, now: float) -> None:
        """End the waits that are too long; let go on those who waited for the first poll long enough."""
        if self.is_too_early(now):
            self._shedding.note_empty(now)  # that all wait for the first poll is no sign of too many
        else:
            for line in self._lines():
                self._sweep_line(line, now)
        self.wake()

    def _sweep_line(self, line: Line[Exchange], now: float) -> None:
        """Each class of a line is in the order of arrival, so only the oldest need to be looked at."""
        limit = self._shedding.max_wait(now)
        for oldest in line.heads():
            exchange: Exchange | None = oldest
            while exchange is not None and now >= min(exchange.deadline, _since(exchange) + limit):
                line.discard(exchange)
                self._end(exchange, now)
                exchange = next((head for head in line.heads() if head.priority == oldest.priority), None)

    def _end(self, exchange: Exchange, now: float) -> None:
        """The wait was in vain: the best of what there is, if a node said anything."""
        self._count()
        if now >= exchange.deadline and effort_of(exchange).saved is None:
            self._ways.refuse(exchange, DEADLINE)
        else:
            self._shed(exchange, QUEUED_TOO_LONG)


def _since(exchange: Exchange) -> float:
    """When it began to wait."""
    return effort_of(exchange).queued_at


def _oldest(line: Line[Exchange], priority: int) -> Exchange | None:
    """Who has waited longest in a class of a line, or a better one."""
    return min(
        (oldest for oldest in line.heads() if oldest.priority <= priority),
        key=_since,
        default=None,
    )
