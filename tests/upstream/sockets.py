"""Nodes' WebSockets in memory: what a client protocol is connected to in place of a socket."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.test import iosim

from evmlb.upstream.link import Client


class ScriptedNode(WebSocketServerProtocol):
    """The node's end of a WebSocket: what came as text, and a way to say anything."""

    def __init__(self) -> None:
        super().__init__()
        self.factory = WebSocketServerFactory(reactor=Clock())
        self.factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
        self.got: list[str] = []
        self.pings = 0
        self.answers_pings = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.got.append(payload.decode())

    def onPing(self, payload: bytes) -> None:
        self.pings += 1
        if self.answers_pings:
            self.sendPong(payload)

    def take(self) -> list[Any]:
        """The messages that came since the last call, read."""
        got, self.got = self.got, []
        return [json.loads(each) for each in got]


class RawNode(Protocol):
    """The node's end of a plain connection: the bytes that came, and a way to say any."""

    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data


class Wire:
    """Connects in memory to what ``make`` gives: a node's protocol, or an exception.

    ``addresses`` are those that were tried. Bytes move when :meth:`flush` is called.
    """

    def __init__(self, make: Callable[[], Any] = ScriptedNode) -> None:
        self.make = make
        self.nodes: list[Any] = []
        self.addresses: list[str] = []
        self.clients: list[Client] = []
        self._pumps: list[Any] = []

    def connect(self, reactor: Any, address: str, port: int, protocol: Any, tls: Any, timeout: float) -> Deferred[Any]:
        """What ``evmlb.wire.sockets.connect`` is called with, and does."""
        self.addresses.append(address)
        node = self.make()
        if isinstance(node, Exception):
            return fail(node)
        if isinstance(node, Deferred):
            return node
        self.nodes.append(node)
        self.clients.append(protocol)
        ends = iosim.FakeTransport(node, isServer=True), iosim.FakeTransport(protocol, isServer=False)
        self._pumps.append(iosim.connect(node, ends[0], protocol, ends[1]))
        return succeed(protocol)

    def flush(self) -> None:
        """Let bytes flow both ways until there are no more."""
        for pump in tuple(self._pumps):
            pump.flush()

    @property
    def node(self) -> Any:
        """The newest connection's other end."""
        return self.nodes[-1]

    def say(self, *messages: Any) -> None:
        """The node sends messages: bytes as they are, anything else as JSON."""
        for message in messages:
            self.node.sendMessage(message if isinstance(message, bytes) else json.dumps(message).encode())
        self.flush()

    def take(self) -> list[Any]:
        """What the node got since the last call."""
        self.flush()
        got: list[Any] = self.node.take()
        return got

    def cut(self) -> None:
        """The node ends the connection without a word."""
        self.node.transport.abortConnection()
        self.flush()


def refused() -> Exception:
    """Nobody listens."""
    return ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def result(call_id: int, value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "result": value}


def event(subscription: str, value: Any) -> dict[str, Any]:
    params = {"subscription": subscription, "result": value}
    return {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
