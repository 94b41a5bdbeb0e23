"""What is under way: a client's request, its sendings to nodes, and the table that watches their deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead, Downstream, Flight
from evmlb.jsonrpc import Call
from evmlb.methods import FAST, UNSAFE

if TYPE_CHECKING:
    from evmlb.node import Node
    from evmlb.policy.budget import Budget
    from evmlb.policy.pace import Pace
    from evmlb.policy.verdicts import Verdict
    from evmlb.routing import Router
    from evmlb.routing.batches import Batch
    from evmlb.routing.waiting import Waiting
    from evmlb.trail import Trail

SWEEP_SECONDS = 0.01

EARLY, WAITING, SHORT, HELD, STREAMING, PAUSED = range(6)
"""How far an attempt is: no byte of an answer yet, and when its time is up another node is asked beside it; none yet;
the same, but with less than its full time, as the request's own ends before; held back; on its way to the client; the
same, but the client does not read."""
DRAIN_BYTES = 65536
DRAIN_SECONDS = 0.5
"""What an answer that nobody needs any more may cost to keep its connection: beyond either the connection is closed."""


QUICK_SECONDS = 0.5
"""A kept connection that ends so soon after a request most likely ended before the node received it: its end was on the
way. One that ends later had the request, and whatever became of that."""


class Session:
    """What one client connection has seen, so that it is not shown an older state of the chain.

    ``height``: the largest block number it was told. ``writer`` took its last transaction and is asked for its nonce
    and its pending state until ``writer_until``.
    """

    __slots__ = ("height", "writer", "writer_until")

    def __init__(self) -> None:
        self.height = 0
        self.writer: Node | None = None
        self.writer_until = 0.0


class Blamed(NamedTuple):
    """A node that failed an exchange: why, when it was asked, and whether it answered with an error."""

    node: Node
    reason: str
    sent_at: float
    by_error: bool


class Exchange:
    """One client request. ``call`` is None for what is not JSON-RPC: it is passed on as it came.

    While more than one node is asked at a time, ``attempt`` is the sending that came last and ``rivals`` the others.
    """

    __slots__ = (
        "attempt",
        "attempts",
        "batch",
        "blamed",
        "body",
        "call",
        "client_address",
        "committed",
        "deadline",
        "degraded",
        "downstream",
        "forwarded_for",
        "headers",
        "hedges",
        "http_method",
        "idempotent",
        "is_bound",
        "klass",
        "node",
        "paid_by",
        "paused",
        "pending",
        "priority",
        "queue_size",
        "queued",
        "queued_at",
        "resent",
        "retry_after_seconds",
        "rivals",
        "saved",
        "started",
        "target",
        "trail",
        "tried",
        "verdicts",
    )

    def __init__(self, downstream: Downstream, call: Call | None, body: bytes, client_address: str, now: float) -> None:
        self.downstream = downstream
        self.call = call
        self.klass = FAST if call is None else call.klass
        self.body = body
        self.client_address = client_address
        self.started = now
        self.deadline = 0.0
        self.attempts = 0
        self.attempt: Attempt | None = None
        self.node: Node | None = None
        self.tried: tuple[Node, ...] = ()
        self.committed = False
        self.http_method = b"POST"
        self.target = b""
        self.headers = b""  # lines for every node
        self.forwarded_for = b""  # a line for local nodes only
        self.degraded = False
        self.idempotent = False  # unsafe by its class, and yet no harm is done by sending it twice
        self.rivals: tuple[Attempt, ...] = ()
        self.batch: Batch | None = None  # what became of its members, once that is not the same for all
        self.trail: Trail | None = None
        # the uncommon rest: only read after a failure, a wait or a hedge
        self.hedges = 0
        self.resent = 0  # of the attempts, those that replaced a kept connection which had ended
        self.paid_by: Budget | None = None  # what the present retry is charged to, should it be in vain
        self.is_bound = False  # one node knows better than all others what is asked for
        self.paused = False  # waited once for data that was not there yet
        self.priority = 2  # PriorityClass.LOWPRIO
        self.queue_size = 1  # of its class when it came, itself included
        self.queued_at = 0.0
        self.queued: tuple[int, ...] | None = None  # times and sizes for the answer's headers, with priorities on
        self.saved: tuple[Attempt, Verdict, AnswerHead, list[bytes]] | None = None
        self.blamed: tuple[Blamed, ...] = ()
        self.verdicts: tuple[Verdict, ...] = ()  # of the attempts that ended badly
        self.retry_after_seconds: float | None = None  # the smallest that a node asked for
        self.pending: Any = None  # the timer of a pause before the same node is asked again

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent to a second node though the first may have carried it out."""
        return self.klass is not UNSAFE or self.idempotent

    @property
    def tries(self) -> int:
        """How many times a node was tried: to replace a connection is no other try."""
        return self.attempts - self.resent

    @property
    def under_way(self) -> tuple[Attempt, ...]:
        """The attempts whose end is awaited."""
        return self.rivals if self.attempt is None else (*self.rivals, self.attempt)

    def leave(self, attempt: Attempt) -> None:
        """One of several attempts is over."""
        left = tuple(other for other in self.under_way if other is not attempt)
        self.rivals, self.attempt = left[:-1], left[-1] if left else None


class Attempt:
    """One sending of one exchange to one node; the sink of what comes back."""

    __slots__ = (
        "_router",
        "deadline",
        "exchange",
        "flight",
        "node",
        "pace",
        "repeatable",
        "sent_at",
        "silent",
        "stage",
    )

    def __init__(self, router: Router, exchange: Exchange, node: Node, now: float) -> None:
        self._router = router
        self.exchange = exchange
        self.node = node
        self.sent_at = now
        self.pace: Pace | None = None  # by which it may be hedged, and what its answer is counted in
        self.deadline = 0.0
        self.flight: Flight | None = None
        self.repeatable = exchange.klass is not UNSAFE or exchange.idempotent
        self.stage = WAITING
        self.silent = False  # counted as a silence of its node

    def wait(self, first_byte_seconds: float) -> None:
        """No byte came yet: one must by then, and before the request's own time is up."""
        self.stage = WAITING
        self.deadline = self.sent_at + first_byte_seconds
        if self.deadline > self.exchange.deadline:
            self.deadline = self.exchange.deadline
            self.stage = SHORT

    def is_silent_at(self, router: Router, node: str) -> bool:
        """Whether it is that router's, at this node, without a byte of an answer, and may be made elsewhere."""
        return self._router is router and self.node.name == node and self.stage < HELD and self.repeatable

    def out_of_time(self) -> None:
        """Its deadline has passed."""
        self._router.timed_out(self)

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer is there."""
        self._router.answered(self, head, parts)

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The answer outgrew what is held."""
        self._router.began(self, head, parts)

    def streamed(self, data: bytes) -> None:
        """More of a large answer."""
        self.exchange.downstream.stream(data)

    def ended(self) -> None:
        """The end of a large answer."""
        self._router.ended(self)

    def progressed(self) -> None:
        """A piece came that is held."""
        self._router.progressed(self)

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer."""
        self._router.failed(self, fault, detail, sent)

    def is_sent_anew(self) -> bool:
        """Whether the end of its kept connection came too soon for the node to have the request; counted then."""
        return self._router.sent_anew(self)


class Drain:
    """Takes the answer of an attempt that lost to another one, so that its connection can be kept.

    ``over`` hears the end of it, once: with True when the node answered, within ``DRAIN_BYTES`` and before
    ``deadline``.
    """

    __slots__ = ("_cancel", "_over", "_table", "deadline", "flight")

    repeatable = False  # a kept connection that dies under it is not tried again: nobody waits

    def __init__(self, deadline: float, cancel: Callable[[Drain], None], over: Callable[[bool], None]) -> None:
        self._table: InFlight | None = None
        self._cancel = cancel
        self._over = over
        self.flight: Flight | None = None
        self.deadline = deadline

    def watch(self, table: InFlight) -> None:
        """From now on its deadline counts."""
        self._table = table
        table.attempts[self] = None
        table.watch()

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The answer came, too late to be of use."""
        self._end(answered=True)

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """It is a large one: too large."""
        self._stop(answered=True)

    def streamed(self, data: bytes) -> None:
        """More of it: nothing comes here, ``began`` ends it."""

    def ended(self) -> None:
        """The same."""

    def progressed(self) -> None:
        """A piece came."""
        if self.flight is not None and self.flight.held_bytes > DRAIN_BYTES:
            self._stop(answered=True)

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no answer."""
        self._end(answered=False)

    def is_sent_anew(self) -> bool:
        """Nobody waits for it."""
        return False

    def out_of_time(self) -> None:
        """It has been waited for long enough."""
        self._stop(answered=False)

    def _stop(self, *, answered: bool) -> None:
        self._cancel(self)
        self._end(answered=answered)

    def _end(self, *, answered: bool) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.attempts.pop(self, None)
            self._over(answered)


class InFlight:
    """Every attempt under way, of all networks, and the one timer that watches their deadlines."""

    def __init__(self, reactor: Any, now: Callable[[], float]) -> None:
        self.reactor = reactor
        self.now = now
        self.attempts: dict[Attempt | Drain, None] = {}
        self.queues: set[Waiting] = set()
        self.timer: Any = None

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something after a while; the result can be cancelled."""
        return self.reactor.callLater(seconds, function, *arguments)

    def watch(self) -> None:
        """Make sure that deadlines are looked at."""
        if self.timer is None:
            self.timer = self.reactor.callLater(SWEEP_SECONDS, self._tick)

    def _tick(self) -> None:
        self.timer = None
        try:
            self.sweep()
        finally:
            if self.attempts or self.queues:
                self.watch()

    def sweep(self) -> None:
        """End the attempts, and the waiting, whose time is up."""
        now = self.now()
        for attempt in [attempt for attempt in self.attempts if attempt.deadline <= now]:
            if attempt in self.attempts:
                attempt.out_of_time()
        for queue in tuple(self.queues):
            queue.sweep(now)

    def cancel_timer(self) -> None:
        """Stop watching, at the end of everything."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
