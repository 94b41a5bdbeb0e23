"""A router on a real network with spies for its nodes: the world in which the tests of routing play."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import HedgeConfig, NodeConfig
from evmlb.deadlines import Deadlines
from evmlb.events import Events, NodeWentDown
from evmlb.exchange import Exchange
from evmlb.jsonrpc import parse_call
from evmlb.methods import MethodClass
from evmlb.network import Network, Poll
from evmlb.policy.balancing import chooser
from evmlb.routing import Router
from evmlb.trail import Ring, Trail
from tests.support import Sent, Still, UpstreamSpy, network_config, nodes_of

RESULT = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'
JSON_500 = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"boom"}}'


def call_body(method: str, params: bytes = b"[]", request_id: bytes = b"1") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (request_id, method.encode(), params)


NO_HEDGES = HedgeConfig(enabled=False)


class Client:
    """A ``Reply`` that notes what one exchange hears; an exchange may end only once."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.session: Any = None
        self.said: list[Any] = []
        self.body = b""
        self.ended = 0
        self.head: Any = None

    def _end(self) -> None:
        self.ended += 1
        assert self.ended == 1, f"ended twice: {self.said}"

    def answer(self, exchange: Any, head: Any, parts: list[bytes]) -> None:
        self._end()
        self.head, self.body = head, b"".join(parts)
        self.said.append("answer")

    def begin(self, exchange: Any, head: Any, parts: list[bytes]) -> None:
        self.head, self.body = head, b"".join(parts)
        self.said.append("begin")

    def stream(self, exchange: Any, data: bytes) -> None:
        self.body += data

    def finish(self, exchange: Any) -> None:
        self._end()
        self.said.append("finish")

    def abort(self, exchange: Any) -> None:
        self._end()
        self.said.append("abort")

    def refuse(self, exchange: Any, refusal: Any) -> None:
        self._end()
        self.said.append((refusal.status, refusal.code, refusal.message))
        self.refusal = refusal

    @property
    def node(self) -> str:
        assert self.exchange is not None
        return self.exchange.node


class World:
    """A router on a real network, with spies for upstreams and a clock; all nodes have answered a poll at 100.

    Nothing is hedged unless asked for: ``hedge=HedgeConfig()``.
    """

    def __init__(
        self,
        local: str = "a b",
        monitoring: str = "",
        fallback: str = "",
        *,
        nodes: tuple[NodeConfig, ...] = (),
        ready: bool = True,
        **config: Any,
    ) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        self.told: list[Any] = []
        self.network = Network(
            network_config(
                *(nodes or nodes_of(local, monitoring, fallback)),
                **{"load_balance_priority": (), "hedge": NO_HEDGES, **config},
            ),
            self.clock.seconds(),
            Still(),
        )
        self.nodes = {node.name: node for node in self.network.nodes}
        self.spies = {node.name: UpstreamSpy(node.name, self.events) for node in self.network.nodes}
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.blames: list[tuple[str, bool]] = []
        self._spy_on_blame()
        self.router = Router(
            self.network,
            list(self.spies.values()),
            self.deadlines,
            self.publish,
            chooser(self.network.config.strategy, random.Random(1)),
            ring=Ring(10, self.clock.seconds),
        )
        if ready:
            self.poll()

    def _spy_on_blame(self) -> None:
        record = self.network.record_failure

        def noting(node: Any, reason: str, now: float, *, proven: bool, **more: Any) -> Events:
            self.blames.append((node.name, proven))
            return record(node, reason, now, proven=proven, **more)

        self.network.record_failure = noting  # type: ignore[method-assign]

    def publish(self, events: Events) -> None:
        """As the service does."""
        self.told += events
        for event in events:
            if isinstance(event, NodeWentDown):
                self.router.leave_node(event.node)
        if events:
            self.router.wake()

    def poll(self, *names: str, number: int = 100) -> None:
        for name in names or tuple(self.nodes):
            now = self.clock.seconds()
            poll = Poll(number=number, latency_seconds=0.01, started_at=now, chain_id=1)
            self.publish(self.network.observe_poll(self.nodes[name], poll, now))

    def submit(
        self,
        method: str = "eth_getBalance",
        params: bytes = b"[]",
        *,
        body: bytes | None = None,
        opaque: bytes = b"",
        target: bytes = b"",
        session: Any = None,
        explain: bool = False,
        priority: int = 2,
    ) -> Client:
        """Send a request; ``session``: of an earlier client whose connection this one uses."""
        client = Client()
        client.session = session
        body = call_body(method, params) if body is None else body
        call = None if opaque else parse_call(body)
        exchange = client.exchange = Exchange(client, call, body, "10.0.0.9", self.clock.seconds())
        exchange.target = target
        exchange.forwarded_for = b"X-Forwarded-For: 10.0.0.9\r\n"
        if opaque:
            exchange.http_method = opaque
            exchange.klass = MethodClass.UNSAFE if opaque == b"POST" else MethodClass.FAST
        exchange.priority = priority
        if explain:
            exchange.trail = Trail(asked=True)
        self.router.submit(exchange)
        return client

    def leave(self, client: Client) -> None:
        """The client goes away."""
        assert client.exchange is not None
        self.router.cancel(client.exchange)

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        self.clock.pump([step] * round(seconds / step))

    def last(self, name: str) -> Sent:
        return self.spies[name].last

    @property
    def sends(self) -> str:
        """The nodes that were sent something, in order."""
        return "".join(name for name, what in self.events if what == "send")

    @property
    def order(self) -> str:
        return "".join(node.name for node in self.network.order.candidates)

    def check_idle(self, test: SynchronousTestCase) -> None:
        """Nothing is left behind."""
        test.assertEqual({name: node.in_flight for name, node in self.nodes.items() if node.in_flight}, {})
        test.assertEqual((len(self.deadlines.watched), self.router.stats.in_flight), (0, 0))
        test.assertEqual(self.router.stats.queued, 0)


class RoutingTestCase(SynchronousTestCase):
    world: World

    def make(self, *args: Any, **kwargs: Any) -> World:
        self.world = World(*args, **kwargs)
        return self.world

    def assertRefused(self, client: Client, status: int, code: int) -> None:
        self.assertEqual(len(client.said), 1, client.said)
        self.assertEqual(client.said[0][:2], (status, code))
