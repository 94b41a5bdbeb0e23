"""A pipe in memory: a front and a bridge, and handshakes with nodes that the test answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure

from evmlb.bridge.search import Nodes
from evmlb.config.schema import Strategy, WebSocketMode
from evmlb.errors import Fault
from evmlb.policy.balancing import Chooser
from tests.bridge.support import BridgeWorld, Guest, WebTransport, read_frames, request
from tests.support import FakeHead

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nX-Node: yes\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class DialSpy:
    """One handshake that was begun; the test says what becomes of it."""

    def __init__(self, world: PipeWorld, node: str, asked: tuple[Any, ...], caller: Any) -> None:
        self.node = node
        self.extra, self.headers, self.key = asked
        self.state = "made"
        self._world = world
        self._caller = caller

    def begin(self) -> None:
        self.state = "begun"
        self._world.dials.append(self)
        if self._world.script:
            self._world.script.pop(0)(self)

    def cancel(self) -> None:
        self.state = "cancelled"

    def open(self, rest: bytes = b"", room: int | None = None) -> NodeEnd:
        """The node takes it; ``rest`` comes right behind its answer."""
        assert self.state == "begun", self.state
        self.state = "open"
        transport = WebTransport(room)
        transport.protocol = self._caller.opened(transport, ANSWER)
        end = NodeEnd(transport)
        if rest:
            end.send(rest)
        return end

    def fail(
        self, fault: Fault, status: int = 0, *headers: tuple[bytes, bytes], words: str = "it does not answer"
    ) -> None:
        """It comes to nothing."""
        assert self.state == "begun", self.state
        self.state = "failed"
        self._caller.failed(fault, words, FakeHead(status=status, headers=headers) if status else None)


class NodeEnd:
    """The node's end of a pipe."""

    def __init__(self, transport: WebTransport) -> None:
        self.transport = transport

    @property
    def state(self) -> str:
        return self.transport.state

    def send(self, data: bytes) -> None:
        """Bytes come from the node, as far as they are read."""
        self.transport.inbox.append(data)
        self.transport.flush()

    def fin(self) -> None:
        """The node sends no more."""
        self.transport.inbox.append(None)
        self.transport.flush()

    def lose(self, reason: type[Exception] = error.ConnectionDone) -> None:
        """The connection is gone."""
        self.transport.state = "gone"
        self.transport.protocol.connectionLost(Failure(reason()))

    def take(self) -> bytes:
        """The bytes that came to the node since the last call."""
        data, self.transport.out = self.transport.out, b""
        return data


class DiallerSpy:
    """The way to one node."""

    def __init__(self, world: PipeWorld, node: str) -> None:
        self.is_guess = False
        self.shares_port = True
        self._world = world
        self._node = node

    def dial(self, extra: bytes, headers: Any, key: bytes, caller: Any) -> DialSpy:
        return DialSpy(self._world, self._node, (extra, headers, key), caller)


class PipeWorld(BridgeWorld):
    """A bridge whose network passes WebSockets on. ``script`` answers handshakes as they are begun."""

    def __init__(
        self,
        *names: str,
        mode: WebSocketMode = WebSocketMode.PASSTHROUGH,
        chooser: Chooser | None = None,
        strategy: Strategy = Strategy.BEST,
        **settings: Any,
    ) -> None:
        super().__init__(*(names or ("a b c",)), **settings)
        self.network.config = replace(self.network.config, websocket=mode, strategy=strategy)
        self.dials: list[DialSpy] = []
        self.script: list[Callable[[DialSpy], Any]] = []
        self.diallers = {name: DiallerSpy(self, name) for name in self.nodes}
        nodes = Nodes(
            self.network, tuple(self.diallers.values()), chooser, self.publish, self.clock.seconds, lambda: 0.0
        )
        self.bridge.nodes = {"net": nodes}

    def ask(self, *lines: bytes, path: bytes = b"/net", room: int | None = None, host: str = "192.0.2.1") -> Guest:
        """A client that asks for a WebSocket."""
        guest = self.visit(room, host)
        guest.send(request(*lines, path=path))
        return guest

    def join(self, room: int | None = None, node_room: int | None = None) -> tuple[Guest, NodeEnd]:
        """A client and a node that are joined; both have read what came so far."""
        guest = self.ask(room=room)
        node = self.dials[-1].open(room=node_room)
        assert guest.take() == ANSWER
        guest.transport.read()
        return guest, node

    @property
    def asked(self) -> str:
        """The nodes that were asked for a handshake, in order."""
        return "".join(dial.node for dial in self.dials)

    @property
    def stats(self) -> tuple[int, int, int, dict[int, int]]:
        stats = self.bridge.stats
        return stats.open, stats.accepted, stats.rejected, dict(stats.closes)


def unmasked(data: bytes) -> bytes:
    """One frame of ours to a node, as one to a client would be."""
    assert data[1] & 0x80, "a client masks"
    assert len(data) < 2 + 4 + 126
    key, payload = data[2:6], data[6:]
    return bytes((data[0], data[1] & 0x7F)) + bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


def goodbye(data: bytes) -> tuple[int, str]:
    """Code and reason of the one close frame that these bytes are, masked or not."""
    [(first, payload)] = read_frames(unmasked(data) if data[1] & 0x80 else data)
    assert first == 0x88, first
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
