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
than a few plain calls between two writes (``make bench``). Deadlines are one table, swept every
10 ms while anything is in flight.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from evmlb.chain import parse_quantity
from evmlb.config.schema import Role
from evmlb.errors import ALL_FULL, BAD_UPSTREAM, DEADLINE, NO_NODE, RATE_LIMITED, Fault, Refusal
from evmlb.events import Events
from evmlb.exchange import HELD, PAUSED, SHORT, STREAMING, WAITING, Attempt, Exchange, InFlight
from evmlb.interfaces import AnswerHead, Upstream
from evmlb.jsonrpc import (
    Answer,
    AnswerKind,
    Call,
    begins_plain_result,
    is_plain_result,
    read_answer,
    read_batch_answer,
)
from evmlb.methods import FAST, FILTER_CREATION, FILTER_USE, SLOW, UNSAFE, MethodClass
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.affinity import Filters
from evmlb.policy.balancing import Chooser
from evmlb.policy.nulls import is_doubtful
from evmlb.policy.verdicts import (
    ANSWER,
    NULL_ELSEWHERE,
    OUT_OF_TIME,
    Verdict,
    judge_answer,
    judge_fault,
    judge_status,
)
from evmlb.stats import NetworkStats

FIRST_POLL_SECONDS = 3.0
"""How long after the start a request waits for a node of the preferred role to answer its first poll."""
AGAIN_SECONDS = 0.1
"""The pause before a node is asked again that failed already, when there is no other; doubles each time."""
MAX_QUEUED = 10_000
"""So many requests of one network may wait for a node to have room; more are refused at once."""
_WHOLE_BATCH_BYTES = 16_384
_OF_THE_TARGET = frozenset((Fault.HTTP_ERROR, Fault.GARBAGE, Fault.UNAUTHORIZED))
"""What a path, a query or a header of the client's can bring about at a node that is well."""


class Router:
    """The requests of one network.

    ``upstreams`` are in the order of ``network.nodes``; ``publish`` takes the network's events to their sinks.
    """

    def __init__(
        self,
        network: Network,
        upstreams: Sequence[Upstream],
        in_flight: InFlight,
        publish: Callable[[Events], None],
        chooser: Chooser | None = None,
        later: Callable[..., Any] | None = None,
    ) -> None:
        config = network.config
        self.network = network
        self.stats = NetworkStats(len(network.nodes))
        self.filters: Filters[Node] = Filters()
        self._upstreams = tuple(upstreams)
        self._table = in_flight
        self._attempts = in_flight.attempts
        self._now = in_flight.now
        self._publish = publish
        self._chooser = chooser
        self._later = later or in_flight._reactor.callLater
        self._queue: OrderedDict[Exchange, None] = OrderedDict()  # for any node, first come first served
        self._bound: OrderedDict[Exchange, None] = OrderedDict()  # for certain nodes that are full
        self._waking = False
        self._waits_until = in_flight.now() + FIRST_POLL_SECONDS
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
        if not self.network.started and now < self._waits_until:
            self._enqueue(exchange)
            return
        node = self._trial(exchange, now)
        if node is None and not self._queue:
            node = self._next_node(exchange, now)
        if node is not None:
            self._send(exchange, node, now)
        elif self.network.order.candidates:
            self._enqueue(exchange)
        else:
            self._refuse(exchange, _no_node(self.network))

    def _trial(self, exchange: Exchange, now: float) -> Node | None:
        """The ejected node that is due to be tried again, if this call is one to try it with."""
        if exchange.klass is not FAST or exchange.call is None or exchange.call.members is not None:
            return None
        node = self.network.due_trial(now)
        if node is None or node.in_flight >= node.capacity:
            return None
        self.network.begin_trial(node, now)
        return node

    def _next_node(self, exchange: Exchange, now: float) -> Node | None:
        """The node to try next: untried and with room."""
        for node in self._eligible(exchange, now):
            if node.in_flight < node.capacity:
                return node
        return None

    def _eligible(self, exchange: Exchange, now: float) -> Sequence[Node]:
        """The untried nodes that may be asked, full ones too, in the order in which they should be."""
        order = self.network.order
        nodes = order.candidates
        holder = self._holder(exchange.call, now)
        if holder is not None and holder in nodes:
            # while it may serve, nobody else knows the filter; another one with the same id may be another client's
            nodes = (holder,) if _uses_filter(exchange.call) else (holder, *nodes)
        elif self._chooser is not None and order.serving and not exchange.tried:
            nodes = (self._chooser.first(order), *nodes)
        tried = exchange.tried
        return [node for node in nodes if node not in tried] if tried else nodes

    def _holder(self, call: Call | None, now: float) -> Node | None:
        """The node that holds the filter which a call uses, or where a new one should be made."""
        if call is None or not self.filters:
            return None
        members = (call,) if call.members is None else call.members
        for member in members:
            if member.method in FILTER_USE:
                filter_id = _first_param(member)
                holder = self.filters.holder(filter_id, now) if filter_id else None
                if holder is not None:
                    return holder
        creates = any(member.method in FILTER_CREATION for member in members)
        return self.filters.latest_holder(now) if creates else None

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
        if head.status != 200 or call is None or not is_plain_result(parts[0], parts[-1], call.id):
            verdict = self._judge(attempt, head, parts)
            if verdict.fault is not None:
                self._ended_badly(attempt, verdict, verdict.fault.value, (head, parts))
                return
        self._ended_well(attempt)
        if call is not None and call.klass is not UNSAFE and call.method != "eth_blockNumber":
            exchange.downstream.answer(exchange, head, parts)
            return
        if call is not None:
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

    def _learn(self, node: Node, call: Call, parts: list[bytes]) -> None:
        """What an answer passing by tells of the chain and of filters."""
        if call.method == "eth_blockNumber":
            number = parse_quantity(_result(parts))
            if number is not None and number > (self.network.chainhead or 0):
                self._publish(self.network.observe_head(node, number, self._now()))
        elif call.members is not None:
            if any(member.method in _FILTER_CHANGES for member in call.members):
                results = _results(parts)
                for member in call.members:
                    self._learn_filter(node, member, results.get(member.id))
        elif call.method in _FILTER_CHANGES:
            self._learn_filter(node, call, _result(parts))

    def _learn_filter(self, node: Node, call: Call, result: object) -> None:
        if call.method in FILTER_CREATION and isinstance(result, str):
            self.filters.record_created(result.encode(), node, self._now())
        elif call.method == "eth_uninstallFilter" and result is True:
            self.filters.record_removed(_first_param(call))

    def _judge(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        verdict = self._judge_answer(attempt, head, parts)
        exchange = attempt.exchange
        if verdict.blame and (exchange.target or exchange.headers) and verdict.fault in _OF_THE_TARGET:
            return replace(verdict, blame=False)
        return verdict

    def _judge_answer(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        call = attempt.exchange.call
        if call is None:
            return judge_status(head.status) if attempt.repeatable else ANSWER
        if head.is_encoded:
            return judge_answer(200, Answer(AnswerKind.GARBAGE))
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if not call.expects_answer and head.status in (200, 202, 204) and not body.strip():
            return ANSWER
        if call.members is not None:
            return self._judge_batch(call, head, body)
        answer = read_answer(body, call.id or b"null")
        if answer.kind is AnswerKind.NULL:
            return self._judge_null(attempt, call)
        return judge_answer(head.status, answer)

    def _judge_batch(self, call: Call, head: AnswerHead, body: bytes) -> Verdict:
        """A batch is one unit: it failed when its array did, or when every member of it did."""
        plain = head.status == 200 and body[:1] == b"[" and b'"error"' not in body and body.rstrip().endswith(b"]")
        if plain and len(body) > _WHOLE_BATCH_BYTES:
            return ANSWER
        return judge_answer(head.status, read_batch_answer(body, call))

    def _judge_null(self, attempt: Attempt, call: Call) -> Verdict:
        doubtful = attempt.exchange.attempts == 1 and is_doubtful(
            call.method, call.params, self.network.chainhead, attempt.node.head
        )
        return NULL_ELSEWHERE if doubtful else ANSWER

    # a large answer

    def began(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The commit point: judge by the beginning; a good one cannot be taken back any more."""
        exchange = attempt.exchange
        verdict = self._judge_beginning(attempt, head, parts)
        if verdict.fault is not None and not (verdict.informative and not self._has_next(exchange, verdict)):
            self._upstreams[attempt.node.index].cancel(attempt)
            self._ended_badly(attempt, verdict, verdict.fault.value, None)
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
            and bool(self._eligible(exchange, now))
        )

    def _judge_beginning(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        call = attempt.exchange.call
        if call is None or head.is_encoded:
            return self._judge(attempt, head, parts)
        if head.status == 200 and begins_plain_result(parts[0], call.id):
            return ANSWER
        beginning = b"".join(parts)
        if call.members is not None and beginning.lstrip(b" \t\r\n")[:1] == b"[":
            return ANSWER if head.status == 200 else judge_answer(head.status, Answer(AnswerKind.GARBAGE))
        return judge_answer(head.status, read_answer(beginning, call.id or b"null", complete=False))

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
        exchange = attempt.exchange
        if attempt.stage == WAITING:
            verdict, detail = judge_fault(Fault.TIMED_OUT, exchange.klass), "no answer in time"
        elif attempt.stage == SHORT or attempt.deadline >= exchange.deadline:
            verdict, detail = OUT_OF_TIME, "the request's time was up"
        else:
            verdict, detail = judge_fault(Fault.STALLED, exchange.klass), "the answer stood still"
        self._ended_badly(attempt, verdict, detail, None)

    def _ended_badly(
        self, attempt: Attempt, verdict: Verdict, detail: str, answer: tuple[AnswerHead, list[bytes]] | None
    ) -> None:
        exchange, node, now = attempt.exchange, attempt.node, self._now()
        self._leave(attempt)
        outcome = verdict.fault.value if verdict.fault else "failed"
        self.stats.failed[node.index, exchange.klass, outcome] += 1
        if verdict.blame:
            self._blame(exchange, node, verdict, detail, now)
        exchange.verdicts = (*exchange.verdicts, verdict)
        if answer is not None:
            self._save(exchange, attempt, verdict, *answer)
        if exchange.committed:
            self._done(exchange, now)
            exchange.downstream.abort()
        elif verdict.permits_retry(exchange.klass) and now < exchange.deadline:
            self._try_next(exchange, now)
        else:
            self._conclude(exchange)

    def _blame(self, exchange: Exchange, node: Node, verdict: Verdict, detail: str, now: float) -> None:
        unreachable = verdict.fault is Fault.UNREACHABLE
        reason = f"{verdict.fault.value if verdict.fault else 'failed'}: {detail}"
        self._publish(self.network.record_failure(node, reason, now, proven=unreachable))
        if not unreachable and all(node is not known for known, _ in exchange.blamed):
            exchange.blamed = (*exchange.blamed, (node, reason))

    def _save(
        self, exchange: Exchange, attempt: Attempt, verdict: Verdict, head: AnswerHead, parts: list[bytes]
    ) -> None:
        """Keep the first answer that tells the client something, and what a limit says of when to come back."""
        if verdict.informative and exchange.saved is None and exchange.call is not None and b"".join(parts).strip():
            is_body = parts[0].lstrip(b" \t\r\n")[:1] in (b"{", b"[")
            if is_body:
                exchange.saved = (attempt, head, parts)
        if verdict.fault is Fault.RATE_LIMITED:
            seconds = _seconds(head.value(b"retry-after"))
            if seconds is not None:
                known = exchange.retry_after_seconds
                exchange.retry_after_seconds = seconds if known is None else min(known, seconds)

    def _try_next(self, exchange: Exchange, now: float) -> None:
        limit = 2 if exchange.verdicts[-1] is NULL_ELSEWHERE else self._limit()
        left = self._eligible(exchange, now) if exchange.attempts < limit else ()
        node = next((node for node in left if node.in_flight < node.capacity), None)
        if node is not None:
            self.stats.failovers += 1
            self._send(exchange, node, now)
        elif left and exchange.saved is None:
            self._enqueue(exchange)
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
        node = self._next_node(exchange, now) if now < exchange.deadline else None
        if node is not None:
            self._send(exchange, node, now)
        elif now < exchange.deadline and self.network.order.candidates:
            self._enqueue(exchange)
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
            self._refuse(exchange, self._refusal(exchange, now))

    def _refusal(self, exchange: Exchange, now: float) -> Refusal:
        faults = {verdict.fault for verdict in exchange.verdicts}
        if faults == {Fault.RATE_LIMITED}:
            return Refusal(429, RATE_LIMITED.code, RATE_LIMITED.message, exchange.retry_after_seconds or 1)
        if now >= exchange.deadline or faults & {Fault.TIMED_OUT, Fault.STALLED}:
            return DEADLINE
        return BAD_UPSTREAM

    def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        self.stats.refusals[refusal.status] += 1
        self._done(exchange, self._now())
        exchange.downstream.refuse(exchange, refusal)

    # the end of attempts and exchanges

    def _leave(self, attempt: Attempt) -> None:
        """An attempt is over: its node has room for another."""
        self._attempts.pop(attempt, None)
        attempt.node.in_flight -= 1
        attempt.exchange.attempt = None
        if (self._queue or self._bound) and not self._waking:
            self._waking = True
            self._later(0, self.wake)

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
        self._queue.pop(exchange, None)
        self._bound.pop(exchange, None)
        self.stats.queued = len(self._queue) + len(self._bound)
        self._done(exchange, self._now())

    # waiting

    def _enqueue(self, exchange: Exchange) -> None:
        if self.stats.queued >= MAX_QUEUED:
            self._refuse(exchange, ALL_FULL)
            return
        is_bound = bool(exchange.tried) or _uses_filter(exchange.call)
        (self._bound if is_bound else self._queue)[exchange] = None
        self.stats.queued += 1
        self._table.queues.add(self)
        self._table.watch()

    def wake(self) -> None:
        """A node may have room, or the order changed: serve those who wait, first come first served."""
        self._waking = False
        if self.network.started or self._now() >= self._waits_until:
            for exchange in tuple(self._bound):
                if exchange in self._bound:
                    self._offer(exchange, self._bound)
            while self._queue and self._offer(next(iter(self._queue)), self._queue):
                pass
        self.stats.queued = len(self._queue) + len(self._bound)
        if not self.stats.queued:
            self._table.queues.discard(self)

    def _offer(self, exchange: Exchange, waiting: OrderedDict[Exchange, None]) -> bool:
        """Let one that waits go on; False when it has to wait longer."""
        now = self._now()
        eligible = self._eligible(exchange, now)
        node = next((node for node in eligible if node.in_flight < node.capacity), None)
        if node is None and eligible:
            return False
        del waiting[exchange]
        if node is not None:
            self.stats.failovers += exchange.attempts > 0
            self._send(exchange, node, now)
        elif exchange.attempts:
            self._conclude(exchange)
        else:
            self._refuse(exchange, _no_node(self.network))
        return True

    def sweep_queue(self, now: float) -> None:
        """Refuse those who waited until their deadline; let go on those who waited for the first poll long enough."""
        for waiting in (self._queue, self._bound):
            for exchange in [exchange for exchange in waiting if exchange.deadline <= now]:
                if waiting.pop(exchange, self) is None:
                    self._refuse(exchange, DEADLINE)
        self.wake()


def _by_class(fast: float, slow: float) -> tuple[float, ...]:
    """A time per method class, indexed by it."""
    return tuple(slow if klass is SLOW else fast for klass in MethodClass)


def _no_node(network: Network) -> Refusal:
    return NO_NODE.saying(network.order.refusal or f"No valid endpoint available for network {network.name}")


_FILTER_CHANGES = FILTER_CREATION | {"eth_uninstallFilter"}


def _uses_filter(call: Call | None) -> bool:
    if call is None:
        return False
    if call.members is not None:
        return any(member.method in FILTER_USE for member in call.members)
    return call.method in FILTER_USE


def _result(parts: list[bytes]) -> object:
    """The result of a small answer."""
    try:
        return orjson.loads(b"".join(parts)).get("result")
    except (ValueError, AttributeError):
        return None


def _results(parts: list[bytes]) -> dict[bytes, object]:
    """The results of a small answer to a batch, by the bytes of their ids."""
    try:
        return {orjson.dumps(answer.get("id")): answer.get("result") for answer in orjson.loads(b"".join(parts))}
    except (ValueError, AttributeError, TypeError):
        return {}


def _first_param(call: Call) -> bytes:
    """The first parameter of a call if it is a string, as bytes; empty otherwise."""
    try:
        first = orjson.loads(bytes(call.params))[0]
    except (ValueError, IndexError, KeyError, TypeError):
        return b""
    return first.encode() if isinstance(first, str) else b""


def _seconds(value: bytes) -> int | None:
    """A Retry-After in seconds; a date is not understood and counts as none."""
    return int(value) if value.isdigit() and len(value) < 6 else None
