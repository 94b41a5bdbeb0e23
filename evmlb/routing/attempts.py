"""One sending of a request to a node, and what takes an answer that nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from evmlb.deadlines import Deadlines
from evmlb.errors import Fault
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead, Flight
from evmlb.methods import UNSAFE
from evmlb.node import Node

if TYPE_CHECKING:
    from evmlb.policy.pace import Pace

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


class AttemptOwner(Protocol):
    """Who acts on what becomes of an attempt: the router."""

    def timed_out(self, attempt: Attempt) -> None:
        """Its deadline has passed."""
        ...

    def answered(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer is there."""
        ...

    def began(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        """The answer outgrew what is held."""
        ...

    def ended(self, attempt: Attempt) -> None:
        """A large answer is complete."""
        ...

    def progressed(self, attempt: Attempt) -> None:
        """A piece came."""
        ...

    def failed(self, attempt: Attempt, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer."""
        ...

    def sent_anew(self, attempt: Attempt) -> bool:
        """A kept connection ended without a byte: whether the request goes out once more, to the same node."""
        ...


class Attempt:
    """One sending of one exchange to one node; the sink of what comes back."""

    __slots__ = (
        "_owner",
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

    def __init__(self, owner: AttemptOwner, exchange: Exchange, node: Node, now: float) -> None:
        self._owner = owner
        self.exchange = exchange
        self.node = node
        self.sent_at = now
        self.pace: Pace | None = None  # by which it may be hedged, and what its answer is counted in
        self.deadline = 0.0
        self.flight: Flight | None = None
        self.repeatable = exchange.klass is not UNSAFE
        self.stage = WAITING
        self.silent = False  # counted as a silence of its node

    def wait(self, first_byte_seconds: float) -> None:
        """No byte came yet: one must by then, and before the request's own time is up."""
        self.stage = WAITING
        self.deadline = self.sent_at + first_byte_seconds
        if self.deadline > self.exchange.deadline:
            self.deadline = self.exchange.deadline
            self.stage = SHORT

    def is_silent_at(self, owner: AttemptOwner, node: str) -> bool:
        """Whether it is that owner's, at this node, without a byte of an answer, and may be made elsewhere."""
        return self._owner is owner and self.node.name == node and self.stage < HELD and self.repeatable

    def out_of_time(self) -> None:
        """Its deadline has passed."""
        self._owner.timed_out(self)

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer is there."""
        self._owner.answered(self, head, parts)

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The answer outgrew what is held."""
        self._owner.began(self, head, parts)

    def streamed(self, data: bytes) -> None:
        """More of a large answer."""
        self.exchange.reply.stream(self.exchange, data)

    def ended(self) -> None:
        """The end of a large answer."""
        self._owner.ended(self)

    def progressed(self) -> None:
        """A piece came that is held."""
        self._owner.progressed(self)

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer."""
        self._owner.failed(self, fault, detail, sent)

    def is_sent_anew(self) -> bool:
        """Whether the end of its kept connection came too soon for the node to have the request; counted then."""
        return self._owner.sent_anew(self)


class Drain:
    """Takes the answer of an attempt that lost to another one, so that its connection can be kept.

    ``over`` hears the end of it, once: with True when the node answered, within ``DRAIN_BYTES`` and before
    ``deadline``.
    """

    __slots__ = ("_cancel", "_over", "_table", "deadline", "flight")

    repeatable = False  # a kept connection that dies under it is not tried again: nobody waits

    def __init__(self, deadline: float, cancel: Callable[[Drain], None], over: Callable[[bool], None]) -> None:
        self._table: Deadlines | None = None
        self._cancel = cancel
        self._over = over
        self.flight: Flight | None = None
        self.deadline = deadline

    def watch(self, table: Deadlines) -> None:
        """From now on its deadline counts."""
        self._table = table
        table.watched[self] = None
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
            table.watched.pop(self, None)
            self._over(answered)
