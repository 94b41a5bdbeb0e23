"""Asking a second node when the first takes longer than it should, and what becomes of those that lose.

How long an answer should take is the 98th percentile of such calls (:mod:`evmlb.policy.pace`); until then a hedge
costs nothing, as the same sweep that watches deadlines sees to it. Every call that may be repeated is hedged, batches
and raw transactions too, because a node can hang on any of them; what is left out is bound to one node: filters, and
what a client reads of its own writes. Three things keep slow times from doubling the load: a budget of all hedges, a
limit of slow calls that are under way twice, and that a node in trouble is no rival.

A node that is known to be silent on a method (:mod:`evmlb.policy.avoidance`) most likely owes many answers. Those are
asked elsewhere without a charge to the budget, but as few at a time as slow calls are; when one of these is answered,
the next goes at once, so that all are through as soon as the other node allows.

Nodes behind the serving tier are asked when there is something against those that were, or when a call has waited for
longer than calls like it ever should: no lonely request waits for ``slow_timeout``.

The one that loses is not cut off at once: its answer is most likely on the way, and taking it keeps the connection.
It is given ``DRAIN_SECONDS`` and ``DRAIN_BYTES`` for that (:class:`.attempts.Drain`). What its slowness says:

* of a light call (fast by its class, and by itself): its latency counts, so that a node that became slow loses its
  place, and not to answer in the time of grace either, when another node did, counts against it like a failure;
* of any call: three such losses without an answer between make it suspect, and three of one method make that method
  avoided there. How long a slow call takes depends on what it asks, so it proves no more than that.

A node asked *after* the winner lost nothing: it had less time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from evmlb.config.schema import HedgeConfig
from evmlb.deadlines import Deadlines
from evmlb.events import Events
from evmlb.exchange import Exchange
from evmlb.interfaces import Sink, Upstream
from evmlb.methods import FAST, SLOW
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.budget import Budget
from evmlb.policy.pace import Pace, Paces, is_heavy, pace_name
from evmlb.routing.attempts import DRAIN_SECONDS, EARLY, Attempt, Drain
from evmlb.routing.choosing import Choices
from evmlb.routing.effort import effort_of, has_rivals, is_repeatable
from evmlb.routing.learning import uses_filter
from evmlb.routing.recording import note
from evmlb.routing.transactions import is_raw
from evmlb.stats import NetworkStats

SILENT_SECONDS = 0.3
"""A node that owes an answer for so long, where nobody else may be asked, has been silent. As with lost hedges, only
several of these with no answer between say something of the node. A slow call is late when it is by its own pace."""
LOOK_AGAIN_SECONDS = 0.1
"""While nobody else can be asked for a late answer, it is looked for somebody as often as this."""


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
        deadlines: Deadlines,
        choices: Choices,
        first_byte_seconds: Sequence[float],
        ways: Ways,
        publish: Callable[[Events], None],
    ) -> None:
        config: HedgeConfig = network.config.hedge
        self._config = config
        self._network = network
        self._stats = stats
        self._upstreams = upstreams
        self._deadlines = deadlines
        self._choices = choices
        self._ways = ways
        self._publish = publish
        self._first_byte_seconds = first_byte_seconds  # by class
        self._twice: set[Exchange] = set()  # slow ones, and those of silent nodes, that more than one node is asked for
        self._next: dict[Attempt, None] = {}  # late ones for which there was no place among these; first come first
        self._next_is_due = False
        self.budget = Budget(config.budget_percent, config.budget_min_per_second)
        self.paces = Paces(config)
        self.enabled = config.enabled and len(network.nodes) > 1

    def tick(self, total_requests: int, now: float) -> None:
        """About once a second."""
        self.budget.tick(total_requests, now)
        self.paces.tick()
        self._forget_ended()
        self._next = {attempt: None for attempt in self._next if attempt in self._deadlines.watched}

    def pace_of(self, exchange: Exchange) -> Pace | None:
        """The pace by which to tell that an answer is late; None where none is asked for beside it."""
        call = exchange.call
        if call is None or (exchange.state is not None and not self._may_hedge(exchange)):
            return None
        if exchange.klass is FAST and call.members is None:
            return self.paces.of(call.method)
        if not is_repeatable(exchange) or uses_filter(call):
            return None
        return self.paces.of(pace_name(call, self._network.chainhead), heavy=is_heavy(call))

    def _may_hedge(self, exchange: Exchange) -> bool:
        effort = effort_of(exchange)
        return effort.hedges < self._config.max_hedges and not effort.is_bound

    # an answer is late

    def look(self, attempt: Attempt) -> None:
        """An answer is late: ask another node as well.

        Where there is none to ask, look again later: the silent one may be known by then to be in trouble.
        """
        exchange, pace, now = attempt.exchange, attempt.pace, self._deadlines.now()
        self._next.pop(attempt, None)
        attempt.wait(self._first_byte_seconds[exchange.klass])
        node = self._rival(attempt, now)
        if node is not None:
            note(exchange, self._network, now, "hedged", node.name)
            self._ways.send(exchange, node, now)
        elif pace is not None and now + pace.delay_seconds < attempt.deadline:
            self._look_again(attempt, pace, now)

    def _look_again(self, attempt: Attempt, pace: Pace, now: float) -> None:
        """Nobody else can be asked now: look later, and count the silence once."""
        pause = min(pace.delay_seconds, LOOK_AGAIN_SECONDS)
        attempt.stage, attempt.deadline = EARLY, now + pause
        waited = now - attempt.sent_at
        if not attempt.silent and waited >= max(
            SILENT_SECONDS, 0 if _is_light(attempt.exchange) else pace.delay_seconds
        ):
            attempt.silent = True
            self._publish(self._network.record_silence(attempt.node, now))

    def _rival(self, late: Attempt, now: float) -> Node | None:
        """The node to ask as well, if there is one and the budget has room for it; it is spent then.

        Nobody pays for a node behind the serving tier because another is slow, unless that is configured, or there is
        more against those that were asked than this request's waiting, or that is too long.
        """
        exchange = late.exchange
        effort = effort_of(exchange)
        across_tiers = self._config.across_tiers or all(
            attempt.node.suspect
            or attempt.node.avoidance.is_doubted(_method(exchange))
            or self._is_hopeless(attempt, now)
            for attempt in effort.under_way
        )
        node = self._choices.rival(exchange, now, across_tiers=across_tiers)
        if node is None:
            return None
        if not self._affords(late, now):
            self._stats.hedges_denied += 1
            return None
        effort.hedges += 1
        self._stats.hedges += 1
        return node

    def _is_hopeless(self, attempt: Attempt, now: float) -> bool:
        """Whether an answer is later than any such call should be: 5 s by default, 20 s for logs and traces.

        Not where they take that long as a rule.
        """
        pace = attempt.pace
        if pace is None or pace.delay_seconds >= pace.most_seconds:
            return False
        return now - attempt.sent_at >= max(self._first_byte_seconds[FAST], pace.most_seconds)

    def _affords(self, late: Attempt, now: float) -> bool:
        """Whether one node more may be asked for this; it is charged then."""
        exchange = late.exchange
        method, is_light = _method(exchange), _is_light(exchange)
        owed = all(attempt.node.avoidance.is_silent(method, now) for attempt in effort_of(exchange).under_way)
        was_double = exchange in self._twice
        has_place = (owed or not is_light) and self._may_double(late)
        if not has_place and not is_light:
            return False
        if has_place and owed:
            return True
        if not self.budget.may_spend(self._stats.requests + self._stats.in_flight, now):
            if not was_double:
                self._twice.discard(exchange)
            return False
        self.budget.spend(now)
        return True

    def _may_double(self, late: Attempt) -> bool:
        """Whether so few of these are under way twice that one more may be: it is counted then, else it is next."""
        exchange = late.exchange
        if len(self._twice) >= self._config.max_slow:
            self._forget_ended()
        if exchange not in self._twice and len(self._twice) >= self._config.max_slow:
            self._next[late] = None
            return False
        self._twice.add(exchange)
        return True

    def _forget_ended(self) -> None:
        self._twice = {exchange for exchange in self._twice if has_rivals(exchange)}

    def _make_place(self, exchange: Exchange) -> None:
        """One of those that were under way twice is answered: another may be, when what is going on has ended."""
        self._twice.discard(exchange)
        if self._next and not self._next_is_due:
            self._next_is_due = True
            self._deadlines.later(0, self._fill_place)

    def _fill_place(self) -> None:
        self._next_is_due = False
        while self._next and len(self._twice) < self._config.max_slow:
            attempt = next(iter(self._next))
            del self._next[attempt]
            if attempt in self._deadlines.watched and attempt.stage == EARLY:
                self.look(attempt)
                if attempt.stage == EARLY:
                    break  # nobody has room, or the budget is spent: all others look again by themselves

    # one has won

    def win(self, attempt: Attempt) -> None:
        """The first good answer is here: the other attempts are not needed any more."""
        exchange, now = attempt.exchange, self._deadlines.now()
        effort = effort_of(exchange)
        others = [other for other in effort.under_way if other is not attempt]
        effort.attempt, effort.rivals = attempt, ()
        if exchange in self._twice:
            self._make_place(exchange)
        note(exchange, self._network, now, "won", attempt.node.name)
        self._stats.hedges_won += any(other.sent_at < attempt.sent_at for other in others)
        # every node is to have a transaction that is broadcast
        grace = self._first_byte_seconds[exchange.klass] if is_raw(exchange) else DRAIN_SECONDS
        for other in others:
            self._lose(other, attempt, now, grace)

    def _lose(self, loser: Attempt, winner: Attempt, now: float, grace_seconds: float) -> None:
        """Take no more of an answer than keeps its connection."""
        node = loser.node
        self._deadlines.watched.pop(loser, None)
        asked_first = loser.sent_at < winner.sent_at
        self._stats.failed[node.index, loser.exchange.klass, "lost"] += 1
        if asked_first:
            elapsed, is_light = now - loser.sent_at, _is_light(loser.exchange)
            is_hopeless = self._is_hopeless(loser, now) and now - winner.sent_at < elapsed / 2
            self._publish(
                self._network.record_loss(
                    node, _method(loser.exchange), elapsed, now, is_light=is_light, is_hopeless=is_hopeless
                )
            )

        def over(answered: bool) -> None:
            self._drained(loser, answered=answered, asked_first=asked_first)

        if not _drain(self._upstreams[node.index], loser, self._deadlines, now + grace_seconds, over):
            self._ways.vacated(node)

    def _drained(self, loser: Attempt, *, answered: bool, asked_first: bool) -> None:
        node = loser.node
        self._ways.vacated(node)
        if answered:
            node.record_late_answer(_method(loser.exchange))
        elif asked_first and _is_light(loser.exchange):
            reason, now = "no answer long after another node had given one", self._deadlines.now()
            self._publish(self._network.record_failure(node, reason, now, proven=True, sent_at=loser.sent_at))


def _method(exchange: Exchange) -> str:
    return "" if exchange.call is None else exchange.call.method


def _is_light(exchange: Exchange) -> bool:
    """Whether every node in good standing answers this at once; raw transactions as well."""
    call = exchange.call
    return call is not None and exchange.klass is not SLOW and call.members is None


def _drain(upstream: Upstream, loser: Attempt, table: Deadlines, deadline: float, over: Callable[[bool], None]) -> bool:
    """Let an answer come and be dropped; False when nothing had been sent, so that nothing will come."""

    def cancel(sink: Sink) -> None:
        upstream.cancel(sink)

    drain = Drain(deadline, cancel, over)
    if not upstream.redirect(loser, drain):
        return False
    drain.watch(table)
    return True
