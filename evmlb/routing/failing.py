"""What becomes of a request when an attempt ended badly: who is told, whom it goes to next, and how it ends.

The verdict (:mod:`evmlb.policy.verdicts`) has said what the end means. What follows from it for the node is told to the
network at once, so that the next request already avoids it. A failure that the request itself may have caused only
makes its node suspect, and counts against it once another node has answered the same call well: so one client's odd
request never takes a node from the others.

For the request: while another node is being asked, its answer is waited for; else the next one is tried, as far as
:mod:`.retrying` allows; when nobody is left the client gets the best of what there is.

Nothing here is on the way of a plain good answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from evmlb.deadlines import Deadlines
from evmlb.errors import Fault, Refusal
from evmlb.events import Events
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.verdicts import Blame, Verdict
from evmlb.routing.attempts import EARLY, WAITING, Attempt
from evmlb.routing.choosing import Choices, first_free
from evmlb.routing.effort import Blamed, Effort, batch_of, effort_of, is_repeatable
from evmlb.routing.judging import refusal_of, retry_after_of, save
from evmlb.routing.recording import note
from evmlb.routing.retrying import Retrying, outward
from evmlb.routing.waiting import Waiting
from evmlb.stats import NetworkStats

LEFT = Verdict(Fault.DISCONNECTED, retry=True)
"""The verdict on an attempt that is given up because its node went down meanwhile: it goes on elsewhere, at no cost."""
_OF_THE_CONNECTION = frozenset((Fault.DISCONNECTED, Fault.TIMED_OUT, Fault.STALLED))


class Ways(Protocol):
    """What a failed request may be led back to; the router's."""

    def send(self, exchange: Exchange, node: Node, now: float) -> None:
        """Ask a node."""
        ...

    def leave(self, attempt: Attempt) -> None:
        """An attempt is over: its node has room for another."""
        ...

    def done(self, exchange: Exchange, now: float, outcome: str) -> None:
        """An exchange is over; ``outcome`` in a word or two."""
        ...

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """End it with an answer of our own."""
        ...


class Failing:
    """The failed attempts of one network. ``debug``, where given, is told of each."""

    def __init__(
        self,
        network: Network,
        stats: NetworkStats,
        deadlines: Deadlines,
        choices: Choices,
        retrying: Retrying,
        waiting: Waiting,
        ways: Ways,
        publish: Callable[[Events], None],
        unix_time: Callable[[], float],
        debug: Logger | None,
    ) -> None:
        self._network = network
        self._stats = stats
        self._now = deadlines.now
        self._later = deadlines.later
        self._choices = choices
        self._retrying = retrying
        self._waiting = waiting
        self._ways = ways
        self._publish = publish
        self._unix_time = unix_time
        self.debug = debug
        self.verify: Callable[[Exchange], bool] = lambda exchange: False
        """Looks into a saved error that may be untrue, and answers then; False: there is nothing to look into."""

    def ended_badly(
        self, attempt: Attempt, verdict: Verdict, detail: str, answer: tuple[AnswerHead, list[bytes]] | None
    ) -> None:
        """An attempt ended so. ``answer``: what came, if anything did."""
        exchange, node, now = attempt.exchange, attempt.node, self._now()
        effort = effort_of(exchange)
        outcome = verdict.fault.value if verdict.fault else "failed"
        said = detail
        if verdict.rule:
            said = f"{detail} [{verdict.rule}]"
            self._stats.verdicts[verdict.rule] += 1
        note(exchange, self._network, now, outcome, node.name, said)
        self._ways.leave(attempt)
        self._stats.failed[node.index, exchange.klass, outcome] += 1
        if self.debug is not None:
            self._tell(exchange, node, outcome, detail)
        self._tell_network(attempt, effort, verdict, detail, answer, now)
        self._retrying.charge(effort, now)
        effort.verdicts = (*effort.verdicts, verdict)
        if answer is not None:
            save(attempt, verdict, *answer)
        if exchange.committed:
            self._ways.done(exchange, now, "cut")
            exchange.reply.abort(exchange)
        elif effort.attempt is not None:
            other = effort.attempt  # it may still answer; but if it is late, one more node takes this one's place
            if verdict.permits_retry(is_repeatable(exchange)) and other.pace is not None and other.stage == WAITING:
                other.stage, other.deadline = EARLY, now
        elif now < exchange.deadline and _may_go_on(exchange, verdict):
            self._try_next(exchange, effort, now)
        else:
            self.conclude(exchange)

    def _tell(self, exchange: Exchange, node: Node, outcome: str, detail: str) -> None:
        """Write it to the log: only where that was asked for, as a failing node may end thousands a second so."""
        if self.debug is not None:
            self.debug.debug(
                "{network}: {node} did not answer {method}: {outcome}: {detail}",
                network=self._network.name,
                node=node.name,
                method=exchange.call.method if exchange.call is not None else exchange.http_method.decode(),
                outcome=outcome,
                detail=detail,
            )

    def _tell_network(
        self,
        attempt: Attempt,
        effort: Effort,
        verdict: Verdict,
        detail: str,
        answer: tuple[AnswerHead, list[bytes]] | None,
        now: float,
    ) -> None:
        """What the end of an attempt means for its node: blamed, held off, or known to lack a method."""
        exchange, node = attempt.exchange, attempt.node
        if verdict.blame:
            self._blame(attempt, effort, verdict, detail, now)
        if verdict.limited:
            seconds = None if answer is None else retry_after_of(answer[0], self._unix_time())
            self._publish(self._network.record_limited(node, seconds, now, detail))
            if seconds is not None:
                left, known = node.limit.seconds_left(now), effort.retry_after_seconds
                effort.retry_after_seconds = left if known is None else min(known, left)
        if effort.batch is not None:
            for method in effort.batch.lacking:
                self._publish(self._network.record_unsupported(node, method, now))
        elif verdict.unsupported and exchange.call is not None and exchange.call.members is None:
            self._publish(self._network.record_unsupported(node, exchange.call.method, now))

    def _blame(self, attempt: Attempt, effort: Effort, verdict: Verdict, detail: str, now: float) -> None:
        node, sent_at = attempt.node, attempt.sent_at
        unreachable = verdict.fault is Fault.UNREACHABLE
        reason = f"{verdict.fault.value if verdict.fault else 'failed'}: {detail}"
        if verdict.blame is Blame.SUSPECT:
            self._publish(self._network.suspect(node, reason, now))
            return
        events = self._network.record_failure(
            node,
            reason,
            now,
            proven=unreachable,
            unreachable=unreachable,
            unsafe=not is_repeatable(attempt.exchange) and verdict.fault in _OF_THE_CONNECTION,
            sent_at=sent_at,
        )
        self._publish(events)
        if not unreachable and all(node is not each.node for each in effort.blamed):
            effort.blamed = (*effort.blamed, Blamed(node, reason, sent_at, verdict.fault is Fault.RPC_ERROR))

    def _try_next(self, exchange: Exchange, effort: Effort, now: float) -> None:
        if effort.batch is not None:
            exchange.klass = effort.batch.narrow(exchange.klass)
        left = self._retrying.untried(exchange, self._choices.eligible(exchange, now))
        node = first_free(left, now)
        pause = None if left else self._retrying.pause_seconds(exchange)
        if (not left and pause is None) or not self._retrying.affords(effort, now):
            self.conclude(exchange)
        elif node is not None:
            self._stats.failovers += 1
            if node.ejected:
                self._network.begin_trial(node, now)
            self._ways.send(exchange, node, now)
        elif pause is not None:
            note(exchange, self._network, now, "pauses", detail=f"{pause * 1000:.0f} ms")
            effort.pending = self._later(pause, self._again, exchange)
        elif effort.saved is None:
            self._waiting.add(exchange)
        else:
            self.conclude(exchange)

    def _again(self, exchange: Exchange) -> None:
        """A pause is over: all nodes may be asked anew."""
        effort, now = effort_of(exchange), self._now()
        effort.pending = None
        effort.tried = ()
        node = self._choices.free(exchange, now) if now < exchange.deadline else None
        if node is not None:
            self._ways.send(exchange, node, now)
        elif now < exchange.deadline and self._network.order.candidates:
            self._waiting.add(exchange)
        else:
            self.conclude(exchange)

    def conclude(self, exchange: Exchange) -> None:
        """No node is left to ask: the best of what there is."""
        effort, now = effort_of(exchange), self._now()
        if effort.saved is None:
            self._ways.refuse(exchange, refusal_of(exchange, now))
            return
        attempt, verdict, head, parts = effort.saved
        if verdict.verify and self.verify(exchange):
            return
        exchange.node = attempt.node.name
        self._ways.done(exchange, now, "error answered")
        if effort.batch is None:
            exchange.reply.answer(exchange, head, outward(exchange, verdict, parts))
        else:
            exchange.reply.answer(exchange, *effort.batch.answer(head, refusal_of(exchange, now)))


def _may_go_on(exchange: Exchange, verdict: Verdict) -> bool:
    """Whether the request, or what of it does no harm when it is sent twice, may go to another node."""
    if verdict.permits_retry(is_repeatable(exchange)):
        return True
    batch = batch_of(exchange) if verdict.retry else None
    return batch is not None and batch.give_up_unsafe()
