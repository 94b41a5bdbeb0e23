"""A demo node's WebSocket: the same calls as over HTTP, and subscriptions, on the same port.

A node that is told to misbehave does so here as well, in a WebSocket's terms: a status takes the place of the
handshake, ``hang`` keeps silent from the handshake on, ``garbage`` sends what is no JSON. The faults of HTTP's framing
(``chunked``, ``gzip``, ``truncate`` and so on) have no counterpart, and change nothing.

autobahn's own timers are off: they run on the global reactor, not on the node's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import orjson
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evmlb.demo.chain import ChainView, DemoChain
from evmlb.demo.faults import Fault, Kind, Step, play
from evmlb.demo.received import ReceivedRequest
from evmlb.demo.subscriptions import Subscriptions

_REFUSING = frozenset(
    (
        Kind.HANG,
        Kind.STATUS,
        Kind.RATE_LIMIT,
        Kind.HTML,
        Kind.NOT_HTTP,
        Kind.CLOSE,
        Kind.RESET,
        Kind.REDIRECT,
        Kind.ENDLESS_HEADERS,
    )
)
"""A node with such a fault takes no WebSocket."""

_GARBAGE = b"}{" * 16


def is_upgrade(request: ReceivedRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.method == "GET" and (request.header("upgrade") or "").lower() == "websocket"


def refusal(node: Node) -> Iterator[Step] | None:
    """What the node answers in place of a handshake; None where it takes the WebSocket."""
    return play(node.fault, b"", False) if node.fault.kind in _REFUSING else None


def head_of(request: ReceivedRequest) -> bytes:
    """The request's head again, as bytes."""
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class Node(Protocol):
    """Whose WebSocket it is."""

    chain: DemoChain
    clock: IReactorTime
    fault: Fault

    def answer_message(self, message: bytes, subscriptions: Subscriptions) -> bytes:
        """The answer to a call, or a batch."""

    def new_subscription_id(self) -> str:
        """An id that no subscription has."""

    def view(self) -> ChainView:
        """The chain as this node sees it."""


class NodeWebSocket(WebSocketServerProtocol):
    """One client's WebSocket. Pushes what is new whenever the chain has changed."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.factory = _factory(node)
        self.log: Any = _Silence()
        self._node = node
        self._subscriptions = Subscriptions(node.new_subscription_id)
        self._late: set[IDelayedCall] = set()

    def onOpen(self) -> None:
        """Begin to listen to the chain."""
        self._node.chain.watchers.append(self.push)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer a call, or a batch."""
        kind, amount = self._node.fault.kind, self._node.fault.amount
        answer = self._node.answer_message(payload, self._subscriptions)
        if kind is Kind.CLOSE:
            self.sendClose(1000)
        elif kind is Kind.RESET:
            cast(Any, self.transport).abortConnection()
        elif kind is Kind.SLOW:
            self._late.add(self._node.clock.callLater(amount / 1000, self._say, answer))
        elif kind is not Kind.HANG:
            self._say(_GARBAGE if kind is Kind.GARBAGE else answer)

    def push(self) -> None:
        """Tell what is new. A node that hangs tells it when it is well again and the chain goes on."""
        if self._node.fault.kind is not Kind.HANG:
            for key, result in self._subscriptions.news(self._node.view()):
                params = {"subscription": key, "result": result}
                self._say(orjson.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}))

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        """Forget everything."""
        if self.push in self._node.chain.watchers:
            self._node.chain.watchers.remove(self.push)
        for call in self._late:
            if call.active():
                call.cancel()

    def _say(self, message: bytes) -> None:
        if message and self.state == self.STATE_OPEN:
            self.sendMessage(message)


def _factory(node: Node) -> WebSocketServerFactory:
    factory = WebSocketServerFactory(reactor=node.clock)
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, tcpNoDelay=True)
    return factory


class _Silence:
    """A logger that says nothing."""

    def debug(self, *words: Any, **fields: Any) -> None:
        """Nothing."""

    info = warn = error = failure = debug
