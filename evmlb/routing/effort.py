"""What routing keeps of a request, once it is more than one attempt that is awaited.

Of a common request that is its one :class:`.attempts.Attempt`: nothing else is made for it. At the first thing that is
not common (a second attempt, a failure, a wait, a batch that is not asked whole) an :class:`Effort` takes its place,
with what the attempt already tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from evmlb.exchange import Exchange
from evmlb.methods import UNSAFE
from evmlb.routing.attempts import Attempt
from evmlb.routing.batches import Batch

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall

    from evmlb.interfaces import AnswerHead
    from evmlb.node import Node
    from evmlb.policy.budget import Budget
    from evmlb.policy.verdicts import Verdict


class Blamed(NamedTuple):
    """A node that failed an exchange: why, when it was asked, and whether it answered with an error."""

    node: Node
    reason: str
    sent_at: float
    by_error: bool


class Effort:
    """All that is done for one exchange, and what came of it so far.

    While more than one node is asked at a time, ``attempt`` is the sending that came last and ``rivals`` the others.
    """

    __slots__ = (
        "attempt",
        "batch",
        "blamed",
        "hedges",
        "idempotent",
        "is_bound",
        "paid_by",
        "paused",
        "pending",
        "queue_size",
        "queued_at",
        "resent",
        "retry_after_seconds",
        "rivals",
        "saved",
        "tried",
        "verdicts",
    )

    def __init__(self, attempt: Attempt | None) -> None:
        self.attempt = attempt
        self.rivals: tuple[Attempt, ...] = ()
        self.tried: tuple[Node, ...] = () if attempt is None else (attempt.node,)
        self.batch: Batch | None = None  # what became of its members, once that is not the same for all
        self.idempotent = False  # unsafe by its class, and yet no harm is done by sending it twice
        self.is_bound = False  # one node knows better than all others what is asked for
        self.hedges = 0
        self.resent = 0  # of the attempts, those that replaced a kept connection which had ended
        self.blamed: tuple[Blamed, ...] = ()
        self.verdicts: tuple[Verdict, ...] = ()  # of the attempts that ended badly
        self.saved: tuple[Attempt, Verdict, AnswerHead, list[bytes]] | None = None  # the best answer of those
        self.paid_by: Budget | None = None  # what the present retry is charged to, should it be in vain
        self.retry_after_seconds: float | None = None  # the smallest that a node asked for
        self.paused = False  # waited once for data that was not there yet
        self.pending: Deferred[object] | IDelayedCall | None = None  # a pause, or a question of ours, under way
        self.queued_at = 0.0
        self.queue_size = 1  # of its class when it came, itself included

    @property
    def under_way(self) -> tuple[Attempt, ...]:
        """The attempts whose end is awaited."""
        return self.rivals if self.attempt is None else (*self.rivals, self.attempt)

    def add(self, attempt: Attempt) -> None:
        """A node is asked, perhaps beside others."""
        if self.attempt is not None:
            self.rivals = (*self.rivals, self.attempt)
        self.attempt = attempt
        self.tried = (*self.tried, attempt.node)

    def leave(self, attempt: Attempt) -> None:
        """An attempt is over."""
        left = tuple(other for other in self.under_way if other is not attempt)
        self.rivals, self.attempt = left[:-1], left[-1] if left else None


def effort_of(exchange: Exchange) -> Effort:
    """The effort for an exchange, made now if there was none."""
    state = exchange.state
    if isinstance(state, Effort):
        return state
    effort = exchange.state = Effort(state if isinstance(state, Attempt) else None)
    return effort


def made_effort(exchange: Exchange) -> Effort | None:
    """The effort for an exchange if it is more than an attempt."""
    return exchange.state if isinstance(exchange.state, Effort) else None


def attempt_of(exchange: Exchange) -> Attempt | None:
    """The attempt that is awaited, the last one if there are several."""
    state = exchange.state
    return state.attempt if isinstance(state, Effort) else state if isinstance(state, Attempt) else None


def tried_by(exchange: Exchange) -> tuple[Node, ...]:
    """The nodes that were asked."""
    state = exchange.state
    return state.tried if isinstance(state, Effort) else (state.node,) if isinstance(state, Attempt) else ()


def has_rivals(exchange: Exchange) -> bool:
    """Whether more than one node is being asked."""
    return isinstance(exchange.state, Effort) and bool(exchange.state.rivals)


def batch_in(exchange: Exchange) -> Batch | None:
    """What is known of the members of a batch that is not asked whole any more."""
    return exchange.state.batch if isinstance(exchange.state, Effort) else None


def batch_of(exchange: Exchange) -> Batch | None:
    """The same, made when it is first needed; None for a call by itself."""
    call = exchange.call
    if call is None or call.members is None:
        return None
    effort = effort_of(exchange)
    if effort.batch is None:
        effort.batch = Batch(call, exchange.body)
    return effort.batch


def tries_of(exchange: Exchange) -> int:
    """How many times a node was tried: to replace a connection is no other try."""
    return exchange.attempts - (exchange.state.resent if isinstance(exchange.state, Effort) else 0)


def is_repeatable(exchange: Exchange) -> bool:
    """Whether it may be sent to a second node though the first may have carried it out."""
    return exchange.klass is not UNSAFE or (isinstance(exchange.state, Effort) and exchange.state.idempotent)
