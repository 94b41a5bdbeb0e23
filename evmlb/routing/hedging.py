"""Asking a second node when the first takes longer than it should, and what becomes of those that lose.

How long an answer should take is the 95th percentile of the method's own answers (:mod:`evmlb.policy.pace`); until
then a hedge costs nothing, as the same sweep that watches deadlines sees to it. Only fast calls are hedged: they are
safe to ask twice, and cheap. A budget keeps slow times from doubling the load, and a node in trouble is no rival.

The one that loses is not cut off at once: its answer is most likely on the way, and taking it keeps the connection.
It is given ``DRAIN_SECONDS`` and ``DRAIN_BYTES`` for that (:class:`evmlb.exchange.Drain`). What its slowness says:

* its latency counts, so that a node that became slow loses its place;
* three such losses without an answer between make it suspect;
* not to answer in the time of grace either, when another node did, counts against it like a failure.

A node asked *after* the winner lost nothing: it had less time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from evmlb.config.schema import HedgeConfig
from evmlb.events import Events
from evmlb.exchange import DRAIN_SECONDS, EARLY, Attempt, Drain, Exchange, InFlight
from evmlb.interfaces import Sink, Upstream
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.budget import Budget
from evmlb.policy.pace import Pace, Paces
from evmlb.routing.choosing import Choices
from evmlb.routing.recording import note
from evmlb.routing.transactions import is_raw
from evmlb.stats import NetworkStats

SILENT_SECONDS = 0.3
"""A node that owes an answer for so long, where nobody else may be asked, has been silent. As with lost hedges, only
several of these with no answer between say something of the node."""


class Ways(Protocol):
    """What a hedge leads to; the router's."""

    def send(self, exchange: Exchange, node: Node, now: float) -> None:
        """Ask a node."""
        ...

    def vacated(self, node: Node) -> None:
        """A node has room that an attempt which lost had taken."""
        ...


class Hedging:
    """The hedges of one network."""

    def __init__(
        self,
        network: Network,
        stats: NetworkStats,
        upstreams: Sequence[Upstream],
        in_flight: InFlight,
        choices: Choices,
        ways: Ways,
        publish: Callable[[Events], None],
    ) -> None:
        config: HedgeConfig = network.config.hedge
        self._config = config
        self._network = network
        self._stats = stats
        self._upstreams = upstreams
        self._table = in_flight
        self._choices = choices
        self._ways = ways
        self._publish = publish
        self._first_byte_seconds = min(network.config.rpc_timeout_seconds, network.config.request_timeout_seconds)
        self.budget = Budget(config.budget_percent, config.budget_min_per_second)
        self.paces = Paces(config)
        self.enabled = config.enabled and len(network.nodes) > 1

    def tick(self, total_requests: int, now: float) -> None:
        """About once a second."""
        self.budget.tick(total_requests, now)
        self.paces.tick()

    def pace_of(self, exchange: Exchange) -> Pace | None:
        """The pace by which to tell that an answer is late; None where none is asked for beside it."""
        call = exchange.call
        if call is None or call.members is not None or exchange.hedges >= self._config.max_hedges or exchange.is_bound:
            return None
        return self.paces.of(call.method)

    # an answer is late

    def look(self, attempt: Attempt) -> None:
        """An answer is late: ask another node as well.

        Where there is none to ask, look again later: the silent one may be known by then to be in trouble.
        """
        exchange, pace, now = attempt.exchange, attempt.pace, self._table.now()
        attempt.wait(self._first_byte_seconds)
        node = self._rival(exchange, now)
        if node is not None:
            note(exchange, self._network, now, "hedged", node.name)
            self._ways.send(exchange, node, now)
        elif pace is not None and now + pace.delay_seconds < attempt.deadline:
            attempt.stage, attempt.deadline = EARLY, now + pace.delay_seconds
            if now - attempt.sent_at >= SILENT_SECONDS > now - attempt.sent_at - pace.delay_seconds:
                self._publish(self._network.record_silence(attempt.node, now))

    def _rival(self, exchange: Exchange, now: float) -> Node | None:
        """The node to ask as well, if there is one and the budget has room for it; it is spent then.

        Nobody pays for a node behind the serving tier because another is slow, unless that is configured, or there is
        more against the one that was asked than this request's waiting.
        """
        across_tiers = self._config.across_tiers or all(attempt.node.suspect for attempt in exchange.under_way)
        node = self._choices.rival(exchange, now, across_tiers=across_tiers)
        if node is None:
            return None
        if not self.budget.may_spend(self._stats.requests + self._stats.in_flight, now):
            self._stats.hedges_denied += 1
            return None
        self.budget.spend(now)
        exchange.hedges += 1
        self._stats.hedges += 1
        return node

    # one has won

    def win(self, attempt: Attempt) -> None:
        """The first good answer is here: the other attempts are not needed any more."""
        exchange, now = attempt.exchange, self._table.now()
        others = [other for other in exchange.under_way if other is not attempt]
        exchange.attempt, exchange.rivals = attempt, ()
        note(exchange, self._network, now, "won", attempt.node.name)
        self._stats.hedges_won += any(other.sent_at < attempt.sent_at for other in others)
        # every node is to have a transaction that is broadcast
        grace = self._first_byte_seconds if is_raw(exchange) else DRAIN_SECONDS
        for other in others:
            self._lose(other, attempt, now, grace)

    def _lose(self, loser: Attempt, winner: Attempt, now: float, grace_seconds: float) -> None:
        """Take no more of an answer than keeps its connection."""
        node = loser.node
        self._table.attempts.pop(loser, None)
        asked_first = loser.sent_at < winner.sent_at
        self._stats.failed[node.index, loser.exchange.klass, "lost"] += 1
        if asked_first:
            self._publish(self._network.record_loss(node, now - loser.sent_at, now))

        def over(answered: bool) -> None:
            self._drained(loser, answered=answered, asked_first=asked_first)

        if not _drain(self._upstreams[node.index], loser, self._table, now + grace_seconds, over):
            self._ways.vacated(node)

    def _drained(self, loser: Attempt, *, answered: bool, asked_first: bool) -> None:
        node = loser.node
        self._ways.vacated(node)
        if answered:
            node.record_late_answer()
        elif asked_first:
            reason, now = "no answer long after another node had given one", self._table.now()
            self._publish(self._network.record_failure(node, reason, now, proven=True, sent_at=loser.sent_at))


def _drain(upstream: Upstream, loser: Attempt, table: InFlight, deadline: float, over: Callable[[bool], None]) -> bool:
    """Let an answer come and be dropped; False when nothing had been sent, so that nothing will come."""

    def cancel(sink: Sink) -> None:
        upstream.cancel(sink)

    drain = Drain(deadline, cancel, over)
    if not upstream.redirect(loser, drain):
        return False
    drain.watch(table)
    return True
