"""What is under way: a client's request, its sendings to nodes, and the table that watches their deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead, Downstream, Flight
from evmlb.jsonrpc import Call
from evmlb.methods import FAST, UNSAFE

if TYPE_CHECKING:
    from evmlb.node import Node
    from evmlb.policy.verdicts import Verdict
    from evmlb.routing import Router
    from evmlb.routing.waiting import Waiting

SWEEP_SECONDS = 0.01

WAITING, SHORT, HELD, STREAMING, PAUSED = range(5)
"""How far an attempt is: no byte of an answer yet; the same, but with less than its full time, as the request's own
ends before; held back; on its way to the client; the same, but the client does not read."""


class Exchange:
    """One client request. ``call`` is None for what is not JSON-RPC: it is passed on as it came."""

    __slots__ = (
        "attempt",
        "attempts",
        "blamed",
        "body",
        "call",
        "client",
        "client_address",
        "committed",
        "deadline",
        "degraded",
        "downstream",
        "forwarded_for",
        "headers",
        "http_method",
        "klass",
        "node",
        "pending",
        "retry_after_seconds",
        "saved",
        "started",
        "target",
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
        # the uncommon rest: only read after a failure
        self.saved: tuple[Attempt, AnswerHead, list[bytes]] | None = None
        self.blamed: tuple[tuple[Node, str], ...] = ()
        self.verdicts: tuple[Verdict, ...] = ()  # of the attempts that ended badly
        self.retry_after_seconds: int | None = None
        self.pending: Any = None  # the timer of a pause before the same node is asked again


class Attempt:
    """One sending of one exchange to one node; the sink of what comes back."""

    __slots__ = ("_router", "deadline", "exchange", "flight", "node", "repeatable", "stage")

    def __init__(self, router: Router, exchange: Exchange, node: Node, deadline: float) -> None:
        self._router = router
        self.exchange = exchange
        self.node = node
        self.deadline = deadline
        self.flight: Flight | None = None
        self.repeatable = exchange.klass is not UNSAFE
        self.stage = WAITING

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


class InFlight:
    """Every attempt under way, of all networks, and the one timer that watches their deadlines."""

    def __init__(self, reactor: Any, now: Callable[[], float]) -> None:
        self._reactor = reactor
        self.now = now
        self.attempts: dict[Attempt, None] = {}
        self.queues: set[Waiting] = set()
        self.timer: Any = None

    def watch(self) -> None:
        """Make sure that deadlines are looked at."""
        if self.timer is None:
            self.timer = self._reactor.callLater(SWEEP_SECONDS, self._tick)

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
                attempt._router.timed_out(attempt)
        for queue in tuple(self.queues):
            queue.sweep(now)

    def cancel_timer(self) -> None:
        """Stop watching, at the end of everything."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
