"""One request's way through the nodes: choose, send, judge, try the next, record.

A request is an :class:`evmlb.exchange.Exchange`. Each sending of it to a node is an :class:`.attempts.Attempt`, and
what is more than one of these makes an :class:`.effort.Effort`. An exchange ends exactly once: answered, refused, or
given up because its client left. What may happen in between:

* the node answers well: its bytes go to the client as they came;
* the node takes longer than usual: another one is asked beside it, and the first good answer wins (:mod:`.hedging`);
* the attempt ends badly: the verdict (:mod:`evmlb.policy.verdicts`) says whether the next node is tried and whether
  the node's state hears of it, at once, so that the next request already avoids it;
* the answer outgrows what is held (the commit point): from then on it is streamed and cannot be taken back.

A failure that the request itself may have caused only makes its node suspect. It counts against the node once another
node has answered the same call well: so one client's odd request never takes a node from the others.

The common case (one node, one good answer) makes no Deferred, no coroutine, no timer and no closure, and does no more
than a few plain calls between two writes (``make bench``): what of it belongs to waiting, choosing, hedging and
learning is a look at whether there is anything to do. Deadlines are one table, swept every 10 ms while anything is in
flight; that an answer is late enough for a hedge is one of these deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from evmlb.config.schema import Role
from evmlb.deadlines import Deadlines
from evmlb.errors import NO_NODE, RATE_LIMITED, Fault, Refusal, refused_method
from evmlb.events import Events
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead, Upstream
from evmlb.jsonrpc import Call, is_plain_result
from evmlb.methods import FAST, REFUSED, SLOW, UNSAFE, Allowed, MethodClass
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.balancing import Chooser
from evmlb.policy.verdicts import Verdict, Verdicts, judge_fault
from evmlb.routing.attempts import EARLY, HELD, PAUSED, QUICK_SECONDS, STREAMING, Attempt
from evmlb.routing.batches import Batch, begun
from evmlb.routing.choosing import Choices
from evmlb.routing.effort import Effort, attempt_of, effort_of, has_rivals, is_repeatable, made_effort
from evmlb.routing.failing import LEFT, Failing
from evmlb.routing.hedging import Hedging
from evmlb.routing.judging import Judge, detail_of, judge_lateness, refusal_of
from evmlb.routing.learning import TEACHING, Learner, may_use_filter
from evmlb.routing.recording import keep, note, note_sent, tell_so_far, trail_of
from evmlb.routing.retrying import Retrying, outward
from evmlb.routing.transactions import Transactions, is_raw
from evmlb.routing.waiting import Waiting
from evmlb.stats import ClientSeries, NetworkStats
from evmlb.trail import Ring


class Router:
    """The requests of one network.

    ``upstreams`` are in the order of ``network.nodes``; ``publish`` takes the network's events to their sinks;
    ``debug``, where given, is told of each attempt that ends badly; ``ring`` keeps the requests worth a look.
    """

    def __init__(
        self,
        network: Network,
        upstreams: Sequence[Upstream],
        deadlines: Deadlines,
        publish: Callable[[Events], None],
        chooser: Chooser | None = None,
        *,
        client_series: ClientSeries | None = None,
        debug: Logger | None = None,
        verdicts: Verdicts | None = None,
        ring: Ring | None = None,
        unix_time: Callable[[], float] = lambda: 0.0,
    ) -> None:
        config = network.config
        self.network = network
        self.stats = NetworkStats(len(network.nodes), client_series)
        self._upstreams = tuple(upstreams)
        self._deadlines = deadlines
        self._watched = deadlines.watched
        self._now = deadlines.now
        self._publish = publish
        self._chooser = chooser
        self._ring = ring or Ring(0, deadlines.now)
        self._judge = Judge(network, verdicts or Verdicts())
        learner = Learner(network, self._now, publish)
        self.filters = learner.filters
        self._learner = learner
        self._choices = Choices(network, learner, chooser)
        self._waiting = Waiting(network, self.stats, deadlines, self._choices, self)
        self._whole = _by_class(config.request_timeout_seconds, config.slow_request_timeout_seconds)
        first_byte = _by_class(config.rpc_timeout_seconds, config.slow_timeout_seconds)
        self._first_byte = tuple(map(min, first_byte, self._whole))
        self._hedging = Hedging(
            network, self.stats, upstreams, deadlines, self._choices, self._first_byte, self, publish
        )
        self._hedges = self._hedging.enabled
        self.paces = self._hedging.paces
        self._allowed = Allowed(config.allow_methods)
        self.prioritises = config.priority_queue.enabled
        self._retrying = Retrying(network, self.stats)
        self._failing = Failing(
            network,
            self.stats,
            deadlines,
            self._choices,
            self._retrying,
            self._waiting,
            self,
            publish,
            unix_time,
            debug,
        )
        self._transactions = Transactions(deadlines, upstreams, learner, self._failing, self)
        self._stream_idle = config.stream_idle_timeout_seconds
        self._is_local = tuple(node.role is Role.LOCAL for node in network.nodes)

    # a request comes in

    def refusal(self, call: Call) -> Refusal | None:
        """Why a call by itself, or a member of a batch, is not for the nodes of this network; None when it is."""
        if call.klass is not REFUSED or self._allowed.permits(call.method):
            return None
        return refused_method(call.method)

    def submit(self, exchange: Exchange) -> None:
        """Take a request. Its reply hears the end of it, perhaps before this returns."""
        started = exchange.started
        klass = exchange.klass
        network = self.network
        exchange.deadline = started + self._whole[klass]
        self.stats.in_flight += 1
        candidates = network.order.candidates
        if (
            (klass is not FAST and (klass is not SLOW or (self.filters and may_use_filter(exchange.call))))
            or not candidates
            or self.stats.queued
            or not network.started
            or exchange.trail is not None
        ):
            self._submit_with_care(exchange, started)
            return
        node = candidates[0] if self._chooser is None else self._chooser.first(network.order)
        if (
            node.in_flight >= node.capacity
            or node.is_particular
            or node.reached < network.top
            or self._learner.writers_until
            or network.due_trial(started) is not None
        ):
            self._submit_with_care(exchange, started)
        else:
            self.send(exchange, node, started)

    def _submit_with_care(self, exchange: Exchange, now: float) -> None:
        """Whatever does not simply go to a free node at hand."""
        if exchange.trail is not None:
            trail_of(exchange, self.network)
        if is_raw(exchange):
            effort_of(exchange).idempotent = True
        if self._waiting.is_too_early(now):
            self._waiting.add(exchange)
            return
        if self._choices.writer(exchange, now) is not None:
            effort_of(exchange).is_bound = True
        node = self._choices.trial(exchange, now)
        if node is None and not (self._waiting.line and not self._choices.is_narrow(exchange, now)):
            node = self._choices.free(exchange, now)
        if node is not None:
            self.send(exchange, node, now)
            if self.network.config.broadcast_transactions > 1 and is_raw(exchange):
                self._broadcast(exchange, now)
        elif self.network.order.candidates:
            self._waiting.add(exchange)
        else:
            self.refuse(exchange, self._nobody(now))

    def _broadcast(self, exchange: Exchange, now: float) -> None:
        """Give a raw transaction to more nodes at once: the first that takes it answers."""
        for _ in range(self.network.config.broadcast_transactions - 1):
            node = self._choices.free(exchange, now) if attempt_of(exchange) is not None else None
            if node is not None:
                self.send(exchange, node, now)

    def send(self, exchange: Exchange, node: Node, now: float) -> None:
        """Ask a node."""
        attempt = Attempt(self, exchange, node, now)
        effort = None
        if exchange.state is not None:
            effort = effort_of(exchange)
            attempt.repeatable = attempt.repeatable or effort.idempotent
        if self._hedges:
            attempt.pace = self._hedging.pace_of(exchange)
        if attempt.pace is not None:
            attempt.stage = EARLY
            attempt.deadline = now + attempt.pace.delay_seconds
        else:
            attempt.wait(self._first_byte[exchange.klass])
        if effort is None:
            exchange.state = attempt
        else:
            effort.add(attempt)
        exchange.node = node.name
        exchange.attempts += 1
        exchange.degraded = self.network.order.degraded
        node.in_flight += 1
        if node.bucket is not None:
            node.bucket.take(now)
        self._watched[attempt] = None
        if self._deadlines.timer is None:
            self._deadlines.watch()
        if exchange.trail is not None:
            note_sent(exchange, attempt)
        body = exchange.body if effort is None or effort.batch is None else effort.batch.body
        headers = exchange.headers + exchange.forwarded_for if self._is_local[node.index] else exchange.headers
        if exchange.http_method != b"POST" or exchange.target:
            self._upstreams[node.index].send(
                attempt,
                body,
                method=exchange.http_method,
                target=exchange.target,
                headers=headers,
            )
        else:
            self._upstreams[node.index].send(attempt, body, headers=headers)

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
            verdict = self._judge.whole(attempt, head, parts)
            effort = made_effort(exchange)
            batch = None if effort is None else effort.batch
            if verdict.fault is not None:
                if batch is not None and exchange.klass is UNSAFE and call is not None:
                    self._learner.learn(exchange, attempt.node, call, parts)  # some of it may have been done
                self._failing.ended_badly(attempt, verdict, detail_of(attempt, head, parts), (head, parts))
                return
            if verdict.rule:
                self.stats.verdicts[verdict.rule] += 1
                if effort is not None:
                    effort.blamed = ()  # an error, even the client's own, does not prove that others should do better
            if verdict.rule and is_raw(exchange):
                self._transactions.answered_with_error(attempt, verdict, head, parts)
                return
            if batch is not None:
                self._answered_members(attempt, batch, head, parts)
                return
            parts = outward(exchange, verdict, parts)
        self._ended_well(attempt)
        if call is not None and (call.klass is UNSAFE or call.members is not None or call.method in TEACHING):
            parts = self._learner.learn(exchange, attempt.node, call, parts)
        exchange.reply.answer(exchange, head, parts)

    def _answered_members(self, attempt: Attempt, batch: Batch, head: AnswerHead, parts: list[bytes]) -> None:
        """The last members of a batch are answered: put all answers together."""
        exchange = attempt.exchange
        self._ended_well(attempt)
        self._learner.learn(exchange, attempt.node, batch.call, parts)
        exchange.reply.answer(exchange, *batch.answer(head, refusal_of(exchange, self._now())))

    def _ended_well(self, attempt: Attempt) -> None:
        self.win(attempt)
        self.leave(attempt)
        self.finish(attempt)

    def win(self, attempt: Attempt) -> None:
        """This one has the answer: others that are under way are not needed any more."""
        exchange = attempt.exchange
        if exchange.state is not attempt and has_rivals(exchange):
            self._hedging.win(attempt)

    def finish(self, attempt: Attempt) -> None:
        """An attempt that is over has ended the exchange well; the answer is the caller's to pass on."""
        exchange, node = attempt.exchange, attempt.node
        now = self._now()
        exchange.node = node.name
        self.stats.answered[node.index][exchange.klass] += 1
        if self.prioritises:
            exchange.queued = self._waiting.told(exchange, attempt.sent_at, now)
        if attempt.pace is not None:
            attempt.pace.observe(now - attempt.sent_at)
        self.done(exchange, now, "answered")
        if node.troubled:
            method = None if exchange.call is None else exchange.call.method
            self._publish(self.network.record_success(node, now, sent_at=attempt.sent_at, method=method))
        effort = exchange.state
        if isinstance(effort, Effort):
            self._conclude_well(effort, node, now)

    def _conclude_well(self, effort: Effort, by: Node, now: float) -> None:
        """Another node answered what these could not: it was their doing."""
        for blamed in effort.blamed:
            if blamed.node is not by:
                events = self.network.record_failure(
                    blamed.node,
                    blamed.reason,
                    now,
                    proven=True,
                    by_error=blamed.by_error,
                    sent_at=blamed.sent_at,
                )
                self._publish(events)

    # a large answer

    def began(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The commit point: judge by the beginning; a good one cannot be taken back any more."""
        exchange = attempt.exchange
        verdict = self._judge.beginning(attempt, head, parts)
        if verdict.fault is not None and not (verdict.informative and not self._has_next(exchange, verdict)):
            self._upstreams[attempt.node.index].cancel(attempt)
            self._failing.ended_badly(attempt, verdict, detail_of(attempt, head, parts), None)
            return
        self.win(attempt)
        exchange.node = attempt.node.name
        attempt.stage = STREAMING
        exchange.committed = True
        self.progressed(attempt)
        if exchange.trail is not None:
            tell_so_far(exchange, self.network, self._now(), "streamed")
        effort = made_effort(exchange)
        if effort is not None and effort.batch is not None:
            head, parts = begun(effort.batch, head, parts, refusal_of(exchange, self._now()))
        exchange.reply.begin(exchange, head, parts)

    def _has_next(self, exchange: Exchange, verdict: Verdict) -> bool:
        """Whether after this verdict another node would be asked, or is being asked."""
        now = self._now()
        return has_rivals(exchange) or (
            verdict.permits_retry(is_repeatable(exchange))
            and now < exchange.deadline
            and bool(self._retrying.untried(exchange, self._choices.eligible(exchange, now)))
        )

    def progressed(self, attempt: Attempt) -> None:
        """A piece came: the answer has begun, so from now on the pause between pieces counts.

        While it is held another node can still take over, so a pause is no longer than the wait for a first byte; and
        an answer that began and then stands still is as late as one that did not begin.
        """
        if attempt.stage in (EARLY, PAUSED):
            return
        if attempt.stage < HELD:
            attempt.stage = HELD
        pause = self._stream_idle
        if attempt.stage == HELD:
            pause = min(pause, self._first_byte[attempt.exchange.klass])
        attempt.deadline = min(self._now() + pause, attempt.exchange.deadline)

    def ended(self, attempt: Attempt) -> None:
        """A streamed answer is complete."""
        exchange = attempt.exchange
        attempt.pace = None  # its time is the client's as well
        self._ended_well(attempt)
        exchange.reply.finish(exchange)

    def pause(self, exchange: Exchange) -> None:
        """The client does not keep up: read no more of the answer, and do not count the time."""
        attempt = attempt_of(exchange)
        if attempt is not None and attempt.stage == STREAMING and attempt.flight is not None:
            attempt.stage = PAUSED
            attempt.deadline = exchange.deadline
            attempt.flight.pause()

    def resume(self, exchange: Exchange) -> None:
        """The client has room again."""
        attempt = attempt_of(exchange)
        if attempt is not None and attempt.stage == PAUSED and attempt.flight is not None:
            attempt.stage = STREAMING
            self.progressed(attempt)
            attempt.flight.resume()

    # an attempt takes too long, or ends badly

    def timed_out(self, attempt: Attempt) -> None:
        """Its time is up: that for asking another node as well, its own, or the whole request's."""
        if attempt.stage == EARLY:
            self._hedging.look(attempt)
            return
        self._upstreams[attempt.node.index].cancel(attempt)
        verdict, detail = judge_lateness(attempt)
        self._failing.ended_badly(attempt, verdict, detail, None)

    def failed(self, attempt: Attempt, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer. ``sent`` False: the node surely did not receive the request.

        An attempt that is over already fails once more only where something broke while its answer was passed on. How
        much of it the client has, nobody knows then: its connection is cut.
        """
        if attempt in self._watched:
            self._failing.ended_badly(attempt, judge_fault(fault, attempt.exchange.klass, sent=sent), detail, None)
        else:
            attempt.exchange.reply.abort(attempt.exchange)

    def sent_anew(self, attempt: Attempt) -> bool:
        """A kept connection ended without a byte: whether the request goes out once more, to the same node."""
        exchange, node, now = attempt.exchange, attempt.node, self._now()
        if now - attempt.sent_at >= QUICK_SECONDS:
            return False
        exchange.attempts += 1
        effort_of(exchange).resent += 1
        self.stats.failed[node.index, exchange.klass, "sent_anew"] += 1
        note(exchange, self.network, now, "sent anew", node.name, "its kept connection had ended")
        return True

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """End a request with an answer of our own."""
        self.stats.refusals[refusal.status] += 1
        now = self._now()
        if exchange.attempts or exchange.trail is not None or self._ring.takes_refusal():
            note(exchange, self.network, now, "refused", detail=refusal.message)
        self.done(exchange, now, "refused")
        exchange.reply.refuse(exchange, refusal)

    def _nobody(self, now: float) -> Refusal:
        """The refusal when there is nobody to ask."""
        order = self.network.order
        if order.rate_limited:
            return RATE_LIMITED.after(self.network.rate_limited_for_seconds(now))
        return NO_NODE.saying(order.refusal or f"No valid endpoint available for network {self.network.name}")

    # after a wait

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait, first come first served."""
        self._waiting.wake()

    def go_on(self, exchange: Exchange, node: Node | None, now: float) -> None:
        """The wait is over: a node has room, or (None) there is nobody to wait for any more."""
        if node is not None:
            self.stats.failovers += exchange.attempts > 0
            self.send(exchange, node, now)
        elif exchange.attempts:
            self._failing.conclude(exchange)
        else:
            self.refuse(exchange, self._nobody(now))

    def leave_node(self, name: str) -> None:
        """A node went down: what it owes and may be asked elsewhere is, when what is going on has ended."""
        self._deadlines.later(0, self._leave_node, name)

    def _leave_node(self, name: str) -> None:
        candidates = self.network.order.candidates
        if not candidates or any(node.name == name for node in candidates):
            return
        for attempt in [each for each in self._watched if isinstance(each, Attempt) and each.is_silent_at(self, name)]:
            if attempt in self._watched:
                self.stats.handed_over += 1
                self._upstreams[attempt.node.index].cancel(attempt)
                self._failing.ended_badly(attempt, LEFT, "the node went down meanwhile", None)

    # the end of attempts and exchanges

    def leave(self, attempt: Attempt) -> None:
        """An attempt is over: its node has room for another."""
        self._watched.pop(attempt, None)
        exchange = attempt.exchange
        if exchange.state is attempt:
            exchange.state = None
        else:
            effort_of(exchange).leave(attempt)
        attempt.node.in_flight -= 1
        if self.stats.queued:
            self._waiting.wake_soon()

    def vacated(self, node: Node) -> None:
        """What an attempt that lost had of its node is free again."""
        node.in_flight -= 1
        if self.stats.queued:
            self._waiting.wake_soon()

    def done(self, exchange: Exchange, now: float, outcome: str) -> None:
        """An exchange is over; ``outcome`` in a word or two."""
        seconds = self._count_done(exchange, now)
        if exchange.trail is not None or seconds > self._ring.bar_seconds:
            keep(exchange, self.network, seconds, outcome, self._ring)

    def _count_done(self, exchange: Exchange, now: float) -> float:
        """Requests that no node was asked about are not counted, as the original did."""
        self.stats.in_flight -= 1
        seconds = now - exchange.started
        if exchange.attempts:
            self.stats.record_request(exchange.client_address, seconds)
        return seconds

    def cancel(self, exchange: Exchange) -> None:
        """The client left: upstream work for it ends, and nobody is blamed."""
        while (attempt := attempt_of(exchange)) is not None:
            self.stats.failed[attempt.node.index, exchange.klass, "client_left"] += 1
            self.leave(attempt)
            self._upstreams[attempt.node.index].cancel(attempt)
        effort = made_effort(exchange)
        if effort is not None and effort.pending is not None:
            pending, effort.pending = effort.pending, None
            pending.cancel()
        self._waiting.remove(exchange)
        self._count_done(exchange, self._now())

    def tick(self, now: float) -> None:
        """About once a second: what is figured out from counters, not per request."""
        total = self.stats.requests + self.stats.in_flight
        self._hedging.tick(total, now)
        self._retrying.tick(total, now)
        self._learner.expire(now)


def _by_class(fast: float, slow: float) -> tuple[float, ...]:
    """A time per method class, indexed by it."""
    return tuple(slow if klass is SLOW else fast for klass in MethodClass)
