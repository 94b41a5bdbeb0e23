"""One request's way through the nodes: choose, send, judge, try the next, record.

A request is an :class:`.exchange.Exchange`; each sending of it to a node is an :class:`.exchange.Attempt`. An exchange
ends exactly once: answered, refused, or given up because its client left. What may happen in between:

* the node answers well: its bytes go to the client as they came;
* the attempt ends badly: the verdict (:mod:`evmlb.policy.verdicts`) says whether the next node is tried and whether
  the node's state hears of it, at once, so that the next request already avoids it;
* the answer outgrows what is held (the commit point): from then on it is streamed and cannot be taken back.

A failure that the request itself may have caused only makes its node suspect. It counts against the node once another
node has answered the same call well: so one client's odd request never takes a node from the others.

The common case (one node, one good answer) makes no Deferred, no coroutine, no timer and no closure, and does no more
than a few plain calls between two writes (``make bench``): what of it belongs to waiting, choosing and learning is a
look at whether there is anything to do. Deadlines are one table, swept every 10 ms while anything is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from evmlb.config.schema import Role
from evmlb.errors import NO_NODE, Fault, Refusal
from evmlb.events import Events
from evmlb.exchange import HELD, PAUSED, SHORT, STREAMING, Attempt, Exchange, InFlight
from evmlb.interfaces import AnswerHead, Upstream
from evmlb.jsonrpc import is_plain_result
from evmlb.methods import FAST, SLOW, UNSAFE, MethodClass
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.balancing import Chooser
from evmlb.policy.verdicts import NULL_ELSEWHERE, Verdict, judge_fault
from evmlb.routing.choosing import Choices, first_free
from evmlb.routing.judging import detail_of, judge, judge_beginning, judge_lateness, refusal_of, save
from evmlb.routing.learning import Learner
from evmlb.routing.waiting import Waiting
from evmlb.stats import ClientSeries, NetworkStats

AGAIN_SECONDS = 0.1
"""The pause before a node is asked again that failed already, when there is no other; doubles each time."""


class Router:
    """The requests of one network.

    ``upstreams`` are in the order of ``network.nodes``; ``publish`` takes the network's events to their sinks;
    ``debug``, where given, is told of each attempt that ends badly.
    """

    def __init__(
        self,
        network: Network,
        upstreams: Sequence[Upstream],
        in_flight: InFlight,
        publish: Callable[[Events], None],
        chooser: Chooser | None = None,
        later: Callable[..., Any] | None = None,
        client_series: ClientSeries | None = None,
        debug: Logger | None = None,
    ) -> None:
        config = network.config
        self.network = network
        self.stats = NetworkStats(len(network.nodes), client_series)
        self._debug = debug
        self._upstreams = tuple(upstreams)
        self._table = in_flight
        self._attempts = in_flight.attempts
        self._now = in_flight.now
        self._publish = publish
        self._chooser = chooser
        self._later = later or in_flight._reactor.callLater
        learner = Learner(network, self._now, publish)
        self.filters = learner.filters
        self._learn = learner.learn
        self._choices = Choices(network, learner, chooser)
        self._waiting = Waiting(network, self.stats, in_flight, self._choices, self, self._later)
        self._queue = self._waiting.free  # the lines themselves: each request looks whether somebody waits
        self._bound = self._waiting.bound
        self._whole = _by_class(config.request_timeout_seconds, config.slow_request_timeout_seconds)
        first_byte = _by_class(config.rpc_timeout_seconds, config.slow_timeout_seconds)
        self._first_byte = tuple(map(min, first_byte, self._whole))
        self._stream_idle = config.stream_idle_timeout_seconds
        self._tries = 1 + config.rpc_retries
        self._is_local = tuple(node.role is Role.LOCAL for node in network.nodes)

    # a request comes in

    def submit(self, exchange: Exchange) -> None:
        """Take a request. Its downstream hears the end of it, perhaps before this returns."""
        started = exchange.started
        klass = exchange.klass
        exchange.deadline = started + self._whole[klass]
        self.stats.in_flight += 1
        candidates = self.network.order.candidates
        if (
            (klass is not FAST and (klass is not SLOW or self.filters))
            or not candidates
            or self._queue
            or not self.network.started
        ):
            self._submit_with_care(exchange, started)
            return
        node = candidates[0] if self._chooser is None else self._chooser.first(self.network.order)
        if node.in_flight >= node.capacity or self.network.due_trial(started) is not None:
            self._submit_with_care(exchange, started)
        else:
            self._send(exchange, node, started)

    def _submit_with_care(self, exchange: Exchange, now: float) -> None:
        """Whatever does not simply go to a free node at hand."""
        if self._waiting.is_too_early(now):
            self._waiting.add(exchange)
            return
        node = self._choices.trial(exchange, now)
        if node is None and not self._queue:
            node = self._choices.free(exchange, now)
        if node is not None:
            self._send(exchange, node, now)
        elif self.network.order.candidates:
            self._waiting.add(exchange)
        else:
            self.refuse(exchange, _no_node(self.network))

    def _send(self, exchange: Exchange, node: Node, now: float) -> None:
        deadline = now + self._first_byte[exchange.klass]
        attempt = Attempt(self, exchange, node, deadline)
        if deadline > exchange.deadline:
            attempt.deadline = exchange.deadline
            attempt.stage = SHORT
        exchange.attempt = attempt
        exchange.node = node
        exchange.attempts += 1
        exchange.degraded = self.network.order.degraded
        exchange.tried = (*exchange.tried, node)
        node.in_flight += 1
        self._attempts[attempt] = None
        if self._table.timer is None:
            self._table.watch()
        headers = exchange.headers + exchange.forwarded_for if self._is_local[node.index] else exchange.headers
        if exchange.http_method != b"POST" or exchange.target:
            self._upstreams[node.index].send(
                attempt,
                exchange.body,
                method=exchange.http_method,
                target=exchange.target,
                headers=headers,
            )
        else:
            self._upstreams[node.index].send(attempt, exchange.body, headers=headers)

    # a node answers

    def answered(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer is there: nearly always a good one."""
        exchange = attempt.exchange
        call = exchange.call
        if (
            head.status != 200
            or not head.keep_alive
            or call is None
            or not is_plain_result(parts[0], parts[-1], call.id)
        ):
            verdict = judge(attempt, head, parts, self.network.chainhead)
            if verdict.fault is not None:
                self._ended_badly(attempt, verdict, detail_of(attempt, head, parts), (head, parts))
                return
        self._ended_well(attempt)
        if call is not None and (call.klass is UNSAFE or call.method == "eth_blockNumber"):
            self._learn(attempt.node, call, parts)
        exchange.downstream.answer(exchange, head, parts)

    def _ended_well(self, attempt: Attempt) -> None:
        exchange, node = attempt.exchange, attempt.node
        now = self._now()
        self._leave(attempt)
        self.stats.answered[node.index][exchange.klass] += 1
        self._done(exchange, now)
        if node.troubled:
            self._publish(self.network.record_success(node, now))
        if exchange.blamed:
            self._prove(exchange, node, now)

    def _prove(self, exchange: Exchange, by: Node, now: float) -> None:
        """Another node answered what these could not: it was their doing."""
        for node, reason in exchange.blamed:
            if node is not by:
                self._publish(self.network.record_failure(node, reason, now, proven=True))

    # a large answer

    def began(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The commit point: judge by the beginning; a good one cannot be taken back any more."""
        exchange = attempt.exchange
        verdict = judge_beginning(attempt, head, parts, self.network.chainhead)
        if verdict.fault is not None and not (verdict.informative and not self._has_next(exchange, verdict)):
            self._upstreams[attempt.node.index].cancel(attempt)
            self._ended_badly(attempt, verdict, detail_of(attempt, head, parts), None)
            return
        attempt.stage = STREAMING
        exchange.committed = True
        self.progressed(attempt)
        exchange.downstream.begin(exchange, head, parts)

    def _has_next(self, exchange: Exchange, verdict: Verdict) -> bool:
        """Whether after this verdict another node would be asked."""
        now = self._now()
        return (
            verdict.permits_retry(exchange.klass)
            and exchange.attempts < self._limit()
            and now < exchange.deadline
            and bool(self._choices.eligible(exchange, now))
        )

    def progressed(self, attempt: Attempt) -> None:
        """A piece came: the answer has begun, so from now on the pause between pieces counts."""
        if attempt.stage == PAUSED:
            return
        if attempt.stage < HELD:
            attempt.stage = HELD
        attempt.deadline = min(self._now() + self._stream_idle, attempt.exchange.deadline)

    def ended(self, attempt: Attempt) -> None:
        """A streamed answer is complete."""
        exchange = attempt.exchange
        self._ended_well(attempt)
        exchange.downstream.finish(exchange)

    def pause(self, exchange: Exchange) -> None:
        """The client does not keep up: read no more of the answer, and do not count the time."""
        attempt = exchange.attempt
        if attempt is not None and attempt.stage == STREAMING and attempt.flight is not None:
            attempt.stage = PAUSED
            attempt.deadline = exchange.deadline
            attempt.flight.pause()

    def resume(self, exchange: Exchange) -> None:
        """The client has room again."""
        attempt = exchange.attempt
        if attempt is not None and attempt.stage == PAUSED and attempt.flight is not None:
            attempt.stage = STREAMING
            self.progressed(attempt)
            attempt.flight.resume()

    # an attempt ends badly

    def failed(self, attempt: Attempt, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer. ``sent`` False: the node surely did not receive the request."""
        self._ended_badly(attempt, judge_fault(fault, attempt.exchange.klass, sent=sent), detail, None)

    def timed_out(self, attempt: Attempt) -> None:
        """Its time is up, or the whole request's, which is nobody's fault."""
        self._upstreams[attempt.node.index].cancel(attempt)
        verdict, detail = judge_lateness(attempt)
        self._ended_badly(attempt, verdict, detail, None)

    def _ended_badly(
        self, attempt: Attempt, verdict: Verdict, detail: str, answer: tuple[AnswerHead, list[bytes]] | None
    ) -> None:
        exchange, node, now = attempt.exchange, attempt.node, self._now()
        self._leave(attempt)
        outcome = verdict.fault.value if verdict.fault else "failed"
        self.stats.failed[node.index, exchange.klass, outcome] += 1
        if self._debug is not None:
            self._tell(exchange, node, outcome, detail)
        if verdict.blame:
            self._blame(exchange, node, verdict, detail, now)
        exchange.verdicts = (*exchange.verdicts, verdict)
        if answer is not None:
            save(attempt, verdict, *answer)
        if exchange.committed:
            self._done(exchange, now)
            exchange.downstream.abort()
        elif verdict.permits_retry(exchange.klass) and now < exchange.deadline:
            self._try_next(exchange, now)
        else:
            self._conclude(exchange)

    def _tell(self, exchange: Exchange, node: Node, outcome: str, detail: str) -> None:
        """Write it to the log: only where that was asked for, as a failing node may end thousands a second so."""
        if self._debug is not None:
            self._debug.debug(
                "{network}: {node} did not answer {method}: {outcome}: {detail}",
                network=self.network.name,
                node=node.name,
                method=exchange.call.method if exchange.call is not None else exchange.http_method.decode(),
                outcome=outcome,
                detail=detail,
            )

    def _blame(self, exchange: Exchange, node: Node, verdict: Verdict, detail: str, now: float) -> None:
        unreachable = verdict.fault is Fault.UNREACHABLE
        reason = f"{verdict.fault.value if verdict.fault else 'failed'}: {detail}"
        self._publish(self.network.record_failure(node, reason, now, proven=unreachable))
        if not unreachable and all(node is not known for known, _ in exchange.blamed):
            exchange.blamed = (*exchange.blamed, (node, reason))

    def _try_next(self, exchange: Exchange, now: float) -> None:
        limit = 2 if exchange.verdicts[-1] is NULL_ELSEWHERE else self._limit()
        left = self._choices.eligible(exchange, now) if exchange.attempts < limit else ()
        node = first_free(left)
        if node is not None:
            self.stats.failovers += 1
            self._send(exchange, node, now)
        elif left and exchange.saved is None:
            self._waiting.add(exchange)
        elif self._may_ask_again(exchange):
            self._ask_again(exchange)
        else:
            self._conclude(exchange)

    def _limit(self) -> int:
        """So many attempts: as configured, yet each node of the serving tier and one of the next."""
        return max(self._tries, len(self.network.order.serving) + 1)

    def _may_ask_again(self, exchange: Exchange) -> bool:
        """Nobody is untried. A node that could not be reached may be back in a moment."""
        return (
            exchange.attempts < self._tries
            and exchange.saved is None
            and exchange.verdicts[-1].fault in (Fault.UNREACHABLE, Fault.DISCONNECTED)
        )

    def _ask_again(self, exchange: Exchange) -> None:
        pause = AGAIN_SECONDS * 2 ** max(0, exchange.attempts - len(set(exchange.tried)))
        exchange.pending = self._later(pause, self._again, exchange)

    def _again(self, exchange: Exchange) -> None:
        exchange.pending = None
        exchange.tried = ()
        now = self._now()
        node = self._choices.free(exchange, now) if now < exchange.deadline else None
        if node is not None:
            self._send(exchange, node, now)
        elif now < exchange.deadline and self.network.order.candidates:
            self._waiting.add(exchange)
        else:
            self._conclude(exchange)

    def _conclude(self, exchange: Exchange) -> None:
        """No node is left to ask: the best of what there is."""
        now = self._now()
        if exchange.saved is not None:
            attempt, head, parts = exchange.saved
            self._done(exchange, now)
            exchange.node = attempt.node
            exchange.downstream.answer(exchange, head, parts)
        else:
            self.refuse(exchange, refusal_of(exchange, now))

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """End a request with an answer of our own."""
        self.stats.refusals[refusal.status] += 1
        self._done(exchange, self._now())
        exchange.downstream.refuse(exchange, refusal)

    # after a wait

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait, first come first served."""
        self._waiting.wake()

    def go_on(self, exchange: Exchange, node: Node | None, now: float) -> None:
        """The wait is over: a node has room, or (None) there is nobody to wait for any more."""
        if node is not None:
            self.stats.failovers += exchange.attempts > 0
            self._send(exchange, node, now)
        elif exchange.attempts:
            self._conclude(exchange)
        else:
            self.refuse(exchange, _no_node(self.network))

    # the end of attempts and exchanges

    def _leave(self, attempt: Attempt) -> None:
        """An attempt is over: its node has room for another."""
        self._attempts.pop(attempt, None)
        attempt.node.in_flight -= 1
        attempt.exchange.attempt = None
        if self._queue or self._bound:
            self._waiting.wake_soon()

    def _done(self, exchange: Exchange, now: float) -> None:
        """An exchange is over. Requests that no node was asked about are not counted, as the original did."""
        self.stats.in_flight -= 1
        if exchange.attempts:
            self.stats.record_request(exchange.client_address, now - exchange.started)

    def cancel(self, exchange: Exchange) -> None:
        """The client left: upstream work for it ends, and nobody is blamed."""
        attempt = exchange.attempt
        if attempt is not None:
            self.stats.failed[attempt.node.index, exchange.klass, "client_left"] += 1
            self._leave(attempt)
            self._upstreams[attempt.node.index].cancel(attempt)
        if exchange.pending is not None:
            exchange.pending.cancel()
            exchange.pending = None
        self._waiting.remove(exchange)
        self._done(exchange, self._now())


def _by_class(fast: float, slow: float) -> tuple[float, ...]:
    """A time per method class, indexed by it."""
    return tuple(slow if klass is SLOW else fast for klass in MethodClass)


def _no_node(network: Network) -> Refusal:
    return NO_NODE.saying(network.order.refusal or f"No valid endpoint available for network {network.name}")
