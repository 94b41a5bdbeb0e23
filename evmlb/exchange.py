"""One client request on its way through evmlb, and who hears of its end.

An edge makes an :class:`Exchange` of each request and hands it to a network's router. The exchange holds what all rooms
need to know of a request. What one room alone needs, that room keeps: routing has its own under ``state``
(:mod:`evmlb.routing.effort`).
"""

from __future__ import annotations

from typing import Protocol

from evmlb.errors import Refusal
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Call
from evmlb.methods import FAST
from evmlb.session import Session
from evmlb.trail import Trail


class Reply(Protocol):
    """Who hears of an exchange.

    Exactly one end comes: ``answer``, ``finish``, ``refuse`` or ``abort``, perhaps before the exchange's submission
    returns. ``begin`` comes at most once, then any number of ``stream``, then ``finish`` or ``abort``. After the
    exchange was cancelled nothing comes any more.

    ``session`` is routing's to make and to read: what this client has seen.
    """

    session: Session | None

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer."""
        ...

    def begin(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """The beginning of a large answer; from here on it cannot be taken back."""
        ...

    def stream(self, exchange: Exchange, data: bytes) -> None:
        """More of it."""
        ...

    def finish(self, exchange: Exchange) -> None:
        """That was all of it."""
        ...

    def abort(self, exchange: Exchange) -> None:
        """The answer cannot be finished. Its client must not take what it has for the whole."""
        ...

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """An answer of our own."""
        ...


class Exchange:
    """One client request.

    ``call`` is None for what is no JSON-RPC: it is passed on as it came. ``klass`` is the class of its method, or what
    an edge or routing made of it since.
    """

    __slots__ = (
        "attempts",
        "body",
        "call",
        "client_address",
        "committed",
        "deadline",
        "degraded",
        "forwarded_for",
        "headers",
        "http_method",
        "klass",
        "node",
        "priority",
        "queued",
        "reply",
        "started",
        "state",
        "target",
        "trail",
    )

    def __init__(self, reply: Reply, call: Call | None, body: bytes, client_address: str, now: float) -> None:
        self.reply = reply
        self.call = call
        self.klass = FAST if call is None else call.klass
        self.body = body
        self.client_address = client_address
        self.started = now
        self.deadline = 0.0
        # what goes to the node beside the body
        self.http_method = b"POST"
        self.target = b""
        self.headers = b""  # lines for every node
        self.forwarded_for = b""  # a line for local nodes only
        self.priority = 2  # PriorityClass.LOWPRIO
        # what is told of the answer
        self.node = ""  # the name of the one that was asked last, or that answered
        self.attempts = 0
        self.degraded = False
        self.committed = False  # the answer has begun
        self.queued: tuple[int, ...] | None = None  # times and sizes for the answer's headers, with priorities on
        self.trail: Trail | None = None
        self.state: object = None  # what whoever has the exchange keeps of it
