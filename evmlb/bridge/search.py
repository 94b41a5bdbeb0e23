"""Which node a pipe goes to: one after another is asked for the handshake, until one takes it.

The nodes are asked in the network's order, the first by its strategy; those that are at a limit of theirs come behind
others, those whose WebSocket could not be had a moment ago behind these, and ejected ones last. The client was not
answered yet, so whatever goes wrong here costs it nothing but time, and what it is told in the end is an answer in
HTTP.

=============================  ================================  ==========================================
how a handshake fails          who is blamed                     what else
=============================  ================================  ==========================================
no connection                  the node, proven, if HTTP is      passed over for ``PASS_OVER_SECONDS``
                               answered behind the same port
no answer, none in HTTP, cut   the node, unproven: suspect       passed over
5xx                            the node, unproven: suspect       passed over
429                            the node holds off (Retry-After)
4xx                            nobody: it may be the request's   the second one is the client's answer
other statuses                 nobody: there is no WebSocket     passed over
=============================  ================================  ==========================================

A node whose WebSocket nobody configured, and that may well have none, is never blamed for anything but a port that is
closed. A handshake that succeeds says nothing of how calls are answered, so it clears no node of suspicion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from evmlb.bridge.load import Load, Vacated
from evmlb.config.schema import Role
from evmlb.errors import NO_NODE, RATE_LIMITED, Fault, Refusal
from evmlb.events import Events
from evmlb.interfaces import AnswerHead
from evmlb.network import Network, Node
from evmlb.policy.balancing import Chooser
from evmlb.policy.ratelimit import parse_retry_after

SEARCH_SECONDS = 15.0
"""No further node is asked once a client has waited for so long."""
PASS_OVER_SECONDS = 60.0

_NONE = NO_NODE.saying("No available WebSocket endpoints")
_ALL_LIMITED = RATE_LIMITED.saying("All WebSocket endpoints rate limited")
_FAILED = Refusal(502, -32013, "Failed to proxy WebSocket, all endpoints unavailable")
_TOO_LONG = _FAILED.saying("WebSocket max retries reached, all endpoints unavailable")
_TOO_LONG_LIMITED = _FAILED.saying("WebSocket max retries reached after rate limits, all endpoints unavailable")
_BLAMED = frozenset((Fault.TIMED_OUT, Fault.DISCONNECTED, Fault.GARBAGE, Fault.HTTP_ERROR))
_NOT_PASSED_OVER = frozenset((Fault.RATE_LIMITED, Fault.REJECTED, Fault.UNAUTHORIZED))

Headers = tuple[tuple[bytes, bytes], ...]


class Dial(Protocol):
    """One handshake."""

    def begin(self) -> None:
        """Begin; the end may be told before this returns."""
        ...

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        ...


class Dialler(Protocol):
    """The way to one node's WebSocket."""

    is_guess: bool
    shares_port: bool

    def dial(self, extra: bytes, headers: Headers, key: bytes, caller: Asked) -> Dial:
        """A handshake, to be begun; ``caller`` hears once how it ended."""
        ...


class Seeker(Protocol):
    """Who looks for a node."""

    def found(self, node: Node, transport: Any, head: bytes) -> Any:
        """A node took the handshake; return the protocol of its connection. ``head`` is the client's answer."""
        ...

    def not_found(self, refusal: Refusal) -> None:
        """No node did."""
        ...


class Nodes:
    """The nodes of one network, as pipes see them. ``diallers`` go with ``network.nodes``.

    ``chooser``: the strategy's, for pipes alone; None: the first of the order. ``vacated`` takes a call's place at a
    node back, and lets others have it.
    """

    def __init__(
        self,
        network: Network,
        diallers: Sequence[Dialler],
        chooser: Chooser | None,
        publish: Callable[[Events], None],
        now: Callable[[], float],
        unix_time: Callable[[], float],
        vacated: Vacated | None = None,
    ) -> None:
        self._vacated = vacated or _vacate
        self.network = network
        self.diallers = tuple(diallers)
        self.now = now
        self._chooser = chooser
        self._publish = publish
        self._unix_time = unix_time
        self._passed_over: dict[int, float] = {}  # until when, by node

    def in_order(self) -> list[Node]:
        """Whom to ask, first first."""
        order, now = self.network.order, self.now()
        nodes = list(order.candidates)
        if self._chooser is not None and order.serving:
            nodes.insert(0, self._chooser.first(order))
        nodes.sort(key=lambda node: (self._passed_over.get(node.index, 0.0) > now, not node.has_room(now)))
        return list(dict.fromkeys((*nodes, *order.last_resort)))

    def load(self, node: Node) -> Load:
        """What a pipe to a node will take of its limits."""
        return Load(node, self.network.config.slow_request_timeout_seconds, self._vacated)

    def nobody(self) -> Refusal:
        """What is said where nobody could be asked."""
        return self.all_limited() if self.network.order.rate_limited else _NONE

    def all_limited(self) -> Refusal:
        """What is said where the last one asked said that it is asked too often."""
        return _ALL_LIMITED.after(self.network.rate_limited_for_seconds(self.now()))

    def record(self, node: Node, fault: Fault, words: str, answer: AnswerHead | None, *, is_plain: bool) -> None:
        """A handshake failed. ``is_plain``: the client asked for nothing but the node's own path."""
        network, dialler, now = self.network, self.diallers[node.index], self.now()
        if fault is Fault.RATE_LIMITED:
            said = answer.value(b"retry-after") if answer is not None else b""
            seconds = parse_retry_after(said, self._unix_time()) if said else None
            self._publish(network.record_limited(node, seconds, now))
        elif fault is Fault.UNREACHABLE and dialler.shares_port:
            self._publish(network.record_failure(node, words, now, proven=True, unreachable=True))
        elif fault in _BLAMED and not dialler.is_guess and not _says_none(fault, answer):
            self.blame(node, words)
        if fault not in _NOT_PASSED_OVER or (dialler.is_guess and is_plain and fault is not Fault.RATE_LIMITED):
            self._passed_over[node.index] = now + PASS_OVER_SECONDS

    def blame(self, node: Node, words: str) -> None:
        """Something went wrong that a client may have caused: the node is suspect, and no more than that."""
        self._publish(self.network.record_failure(node, words, self.now(), proven=False))


def _vacate(node: Node) -> None:
    node.in_flight -= 1


def _says_none(fault: Fault, answer: AnswerHead | None) -> bool:
    """Whether an answer is that of a server without WebSocket, rather than of one in trouble."""
    return fault is Fault.HTTP_ERROR and answer is not None and answer.status < 500


class Search:
    """The search of one client. ``extra`` and ``headers`` are its, see :meth:`Dialler.dial`.

    ``forwarded``: headers for local nodes only.
    """

    def __init__(
        self, nodes: Nodes, seeker: Seeker, extra: bytes, headers: Headers, forwarded: Headers, key: bytes
    ) -> None:
        self.nodes = nodes
        self.seeker = seeker
        self._extra = extra
        self._headers = headers
        self._forwarded = forwarded
        self._key = key
        self._left: list[Node] = []
        self._dial: Dial | None = None
        self._until = nodes.now() + SEARCH_SECONDS
        self._rejected: AnswerHead | None = None
        self._last: Fault | None = None

    def begin(self) -> None:
        """Ask the first. The seeker may hear of the end before this returns."""
        self._left = self.nodes.in_order()
        self._next()

    def cancel(self) -> None:
        """The client is gone; the seeker hears nothing."""
        if self._dial is not None:
            self._dial.cancel()

    def _next(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self.seeker.not_found(refusal)
            return
        node = self._left.pop(0)
        headers = self._headers + (self._forwarded if node.role is Role.LOCAL else ())
        dial = self._dial = self.nodes.diallers[node.index].dial(self._extra, headers, self._key, Asked(self, node))
        dial.begin()

    def _refusal(self) -> Refusal | None:
        """The end of the search, if this is it."""
        limited = self._last is Fault.RATE_LIMITED
        if self._left:
            if self.nodes.now() < self._until:
                return None
            return _TOO_LONG_LIMITED if limited else _TOO_LONG
        if self._last is None:
            return self.nodes.nobody()
        if self._rejected is not None:
            return _rejection(self._rejected.status)
        return self.nodes.all_limited() if limited else _FAILED

    def failed(self, node: Node, fault: Fault, words: str, answer: AnswerHead | None) -> None:
        """A node did not take it."""
        self._dial = None
        self._last = fault
        self.nodes.record(node, fault, words, answer, is_plain=not self._extra)
        if fault is Fault.REJECTED and answer is not None:
            if self._rejected is not None:
                self.seeker.not_found(_rejection(self._rejected.status))
                return
            self._rejected = answer
        self._next()


def _rejection(status: int) -> Refusal:
    """What two nodes, or the only one, think of the client's request."""
    return Refusal(status, -32600, f"the node answers {status} to this WebSocket handshake")


class Asked:
    """One node that is being asked."""

    def __init__(self, search: Search, node: Node) -> None:
        self._search = search
        self._node = node

    def opened(self, transport: Any, head: bytes) -> Any:
        """It took the handshake."""
        return self._search.seeker.found(self._node, transport, head)

    def failed(self, fault: Fault, words: str, answer: AnswerHead | None) -> None:
        """It did not."""
        self._search.failed(self._node, fault, words, answer)
