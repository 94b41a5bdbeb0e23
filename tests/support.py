"""The test kit: builders with defaults, nodes in memory, and spies for both sides of routing.

Nothing here opens a socket but :func:`free_port`.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from evmlb.config.schema import Config, NetworkConfig, NodeConfig, Role
from evmlb.demo.chain import DemoChain
from evmlb.demo.faults import fault as fault_of
from evmlb.demo.node import DemoNode, NodeProtocol
from evmlb.errors import Fault
from evmlb.urls import Endpoint, parse_endpoint

# -- configuration


def endpoint(url: str = "http://127.0.0.1:8545") -> Endpoint:
    """The endpoint of a URL."""
    return parse_endpoint(url)


def node_config(name: str = "a", role: Role = Role.LOCAL, url: str | None = None, **settings: Any) -> NodeConfig:
    """A node; its URL follows from its name unless given. URLs may be strings wherever an endpoint is wanted."""
    for key in ("prometheus_endpoint", "ws_endpoint"):
        if isinstance(settings.get(key), str):
            settings[key] = endpoint(settings[key])
    return NodeConfig(name=name, role=role, endpoint=endpoint(url or f"http://{name}.test:8545"), **settings)


def nodes_of(local: str = "", monitoring: str = "", fallback: str = "") -> tuple[NodeConfig, ...]:
    """Nodes by their names, separated by spaces: ``nodes_of(local="a b", fallback="f")``."""
    roles = ((Role.LOCAL, local), (Role.MONITORING, monitoring), (Role.FALLBACK, fallback))
    return tuple(node_config(name, role) for role, names in roles for name in names.split())


def network_config(*nodes: NodeConfig, name: str = "net", **settings: Any) -> NetworkConfig:
    """A network of these nodes; of one local node ``a`` when there are none."""
    return NetworkConfig(name=name, nodes=nodes or (node_config(),), **settings)


def config(*networks: NetworkConfig, **settings: Any) -> Config:
    """A whole configuration on free ports; of one network ``net`` when there are none."""
    return Config(networks=networks or (network_config(),), **{"port": 0, "metrics_port": 0, **settings})


# -- properties


def run_property(check: Callable[[], Any]) -> None:
    """Run a hypothesis property (a function that ``@given`` made).

    trial drops an exception's notes, where hypothesis writes the falsifying example: a failure is raised again with
    its notes as part of the message.
    """
    try:
        check()
    except Exception as error:
        notes = getattr(error, "__notes__", None)
        if not notes:
            raise
        raise AssertionError("\n".join((f"{type(error).__name__}: {error}", *notes))) from error


class Still(random.Random):
    """Randomness that is none: the open times of breakers are as configured."""

    def random(self) -> float:
        return 0.5


# -- nodes in memory


class FakeNode:
    """A demo node in memory: a chain, a clock, and answers without a socket.

    ``fault`` is written as in :mod:`evmlb.demo.faults`: ``"lag 12"``. Several fake nodes may share chain and clock.
    """

    def __init__(self, name: str = "a", fault: str = "healthy", *, chain: DemoChain | None = None, blocks: int = 20):
        if chain is None:
            chain = DemoChain()
            chain.mine_many(blocks, chain.genesis.timestamp + blocks)
        self.chain = chain
        self.clock = Clock()
        self.node = DemoNode(self.clock, chain, name)
        self.become(fault)

    def become(self, fault: str) -> None:
        """Take on another fault."""
        self.node.become(fault_of(fault))

    def answer(self, body: bytes) -> bytes:
        """The body that answers a body."""
        return self.node.answer(body)

    def connect(self) -> FakeConnection:
        """A client connection to the node."""
        return FakeConnection(self)


class FakeConnection:
    """A client's connection to a fake node: write bytes, read bytes."""

    def __init__(self, fake: FakeNode) -> None:
        self.fake = fake
        self.protocol: NodeProtocol = fake.node.factory.buildProtocol(None)
        self.transport = AbortableTransport()
        self.protocol.makeConnection(self.transport)

    def write(self, data: bytes) -> None:
        """Send bytes to the node."""
        self.protocol.dataReceived(data)

    def post(self, body: bytes, headers: bytes = b"") -> bytes:
        """POST a body; the bytes that came at once."""
        length = b"Content-Length: %d\r\n" % len(body)
        self.write(b"POST / HTTP/1.1\r\nHost: node\r\n" + length + headers + b"\r\n" + body)
        return self.read()

    def read(self) -> bytes:
        """The bytes that came since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    @property
    def state(self) -> str:
        """``open``, ``closed``, or ``reset``."""
        if self.transport.was_aborted:
            return "reset"
        return "closed" if self.transport.disconnecting else "open"


class AbortableTransport(StringTransport):
    """A StringTransport that knows whether it was aborted."""

    was_aborted = False

    def abortConnection(self) -> None:
        self.was_aborted = True
        super().abortConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


# -- both sides of routing


@dataclass(frozen=True, slots=True)
class FakeHead:
    """The outside of a node's answer: an ``AnswerHead``."""

    status: int = 200
    length: int = -1
    content_type: bytes = b"application/json"
    is_encoded: bool = False
    keep_alive: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def value(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key == name), b"")


class FakeFlight:
    """A request that is under way: says on the spy's list what is done to it."""

    def __init__(self, events: list[Any], name: str) -> None:
        self._events = events
        self._name = name
        self.held_bytes = 0

    def abort(self) -> None:
        self._events.append((self._name, "abort"))

    def pause(self) -> None:
        self._events.append((self._name, "pause"))

    def resume(self) -> None:
        self._events.append((self._name, "resume"))


@dataclass(slots=True)
class Sent:
    """One request that a spy was given; answer it by its methods."""

    sink: Any
    body: bytes
    method: bytes
    target: bytes
    headers: bytes

    def answer(self, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """The whole answer comes."""
        self.sink.answered(FakeHead(status=status, length=len(body), headers=headers), [body])

    def result(self, result: bytes = b'"0x1"', request_id: bytes = b"1") -> None:
        """A JSON-RPC success comes."""
        self.answer(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result))

    def error(self, code: int, message: str = "wrong", request_id: bytes = b"1") -> None:
        """A JSON-RPC error comes."""
        text = b'{"jsonrpc":"2.0","id":%b,"error":{"code":%d,"message":"%b"}}'
        self.answer(text % (request_id, code, message.encode()))

    def begin(self, *parts: bytes, status: int = 200, length: int = -1) -> None:
        """The beginning of a large answer comes."""
        self.sink.began(FakeHead(status=status, length=length), list(parts))

    def fail(self, fault: Fault = Fault.UNREACHABLE, detail: str = "refused", sent: bool | None = None) -> None:
        """It fails; ``sent`` is what the fault implies unless given."""
        self.sink.failed(fault, detail, fault is not Fault.UNREACHABLE if sent is None else sent)


@dataclass
class UpstreamSpy:
    """An ``Upstream`` that sends nothing: it notes each request, and the test answers it.

    ``script`` answers instead, in the order of the requests, before :meth:`send` returns: each entry is called with
    the :class:`Sent`. ``events`` may be shared by several spies, so that the order among them is seen.
    """

    name: str = "a"
    events: list[Any] = field(default_factory=list)
    script: list[Callable[[Sent], None]] = field(default_factory=list)
    losses: int = 0
    sent: list[Sent] = field(default_factory=list)

    def send(
        self, sink: Any, body: bytes, *, method: bytes = b"POST", target: bytes = b"", headers: bytes = b""
    ) -> None:
        self.events.append((self.name, "send"))
        request = Sent(sink, body, method, target, headers)
        sink.flight = FakeFlight(self.events, self.name)
        self.sent.append(request)
        if self.script:
            self.script.pop(0)(request)

    def cancel(self, sink: Any) -> None:
        self.events.append((self.name, "cancel"))

    def redirect(self, sink: Any, to: Any) -> bool:
        self.events.append((self.name, "redirect"))
        request = next((request for request in self.sent if request.sink is sink), None)
        if request is None or sink.flight is None:
            return False
        to.flight, sink.flight = sink.flight, None
        request.sink = to
        return True

    @property
    def last(self) -> Sent:
        """The newest request."""
        return self.sent[-1]


def answered_by(fake: FakeNode) -> Callable[[Sent], None]:
    """A script entry that answers as the fake node does."""
    return lambda request: request.answer(fake.answer(request.body))


@dataclass
class SinkSpy:
    """A ``Sink`` that notes what it hears as tuples in ``events``."""

    flight: Any = None
    repeatable: bool = True
    anew: bool = True  # whether it may be sent once more when a kept connection ends
    events: list[tuple[Any, ...]] = field(default_factory=list)
    body: bytes = b""
    head: Any = None

    def answered(self, head: Any, parts: list[bytes]) -> None:
        self.head, self.body = head, b"".join(parts)
        self.events.append(("answered", head.status, self.body))

    def began(self, head: Any, parts: list[bytes]) -> None:
        self.head, self.body = head, b"".join(parts)
        self.events.append(("began", head.status, self.body))

    def streamed(self, data: bytes) -> None:
        self.body += data
        self.events.append(("streamed", len(data)))

    def ended(self) -> None:
        self.events.append(("ended",))

    def progressed(self) -> None:
        self.events.append(("progressed",))

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        self.events.append(("failed", fault, sent))

    def is_sent_anew(self) -> bool:
        return self.anew

    @property
    def is_done(self) -> bool:
        """Whether an end was heard of."""
        return any(event[0] in ("answered", "ended", "failed") for event in self.events)


# -- integration


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
