"""A hub among nodes in memory, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from evmlb.errors import Fault
from evmlb.events import Events
from evmlb.jsonrpc import parse_call
from evmlb.network import Network, Poll
from evmlb.policy.changes import Change
from evmlb.policy.shares import Shares
from evmlb.subscribing import Hub
from evmlb.subscribing.feeds import Feed
from tests.subscribing.chain import Block, Chain, is_meant
from tests.subscribing.clients import Client, Heads, LogsSeen
from tests.support import FakeHead, Still, network_config, nodes_of

Spoil = Callable[[str, list[Any], Any], Any]


class NodeRefused(Exception):
    """A node's JSON-RPC error, as a node's socket tells it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Handle:
    """A subscription at a node."""

    def __init__(self, node: FakeNode, params: list[Any], told: Callable[[bytes], None]) -> None:
        self.node = node
        self.params = params
        self.told = told

    def unsubscribe(self) -> None:
        self.node.handles.remove(self)


class FakeNode:
    """An ``Upstream`` and a node's WebSocket in one, which knows a part of the chain.

    ``head`` is its head; it has the blocks of ``head``'s line, and all others where ``has_all``. ``delay_seconds``:
    None answers at once. ``logs_after_seconds``: so long after the head the block's logs are empty. ``spoil`` may
    change any result. ``refuses`` maps topics of subscriptions to errors.
    """

    losses = 0

    def __init__(self, clock: Clock, chain: Chain) -> None:
        self.clock = clock
        self.chain = chain
        self.head = chain.tip
        self.has_all = True
        self.is_dead = False
        self.is_frozen = False
        self.is_mute = False  # it does not answer subscriptions
        self.mute: list[Deferred[Any]] = []
        self.delay_seconds: float | None = None
        self.logs_after_seconds = 0.0
        self.spoil: Spoil = lambda method, params, result: result
        self.refuses: dict[str, NodeRefused] = {}
        self.handles: list[Handle] = []
        self.asked: list[tuple[str, list[Any]]] = []
        self.feed: Any = None
        self._heads_at: dict[str, float] = {}
        self._under_way: dict[Any, Any] = {}

    # Upstream

    def send(self, sink: Any, body: bytes, **_: Any) -> None:
        call = orjson.loads(body)
        self.asked.append((call["method"], call["params"]))
        if self.delay_seconds is None:
            self._answer(sink, call)
        elif not self.is_frozen:
            self._under_way[sink] = self.clock.callLater(self.delay_seconds, self._answer, sink, call)

    def cancel(self, sink: Any) -> None:
        late = self._under_way.pop(sink, None)
        if late is not None and late.active():
            late.cancel()

    def _answer(self, sink: Any, call: dict[str, Any]) -> None:
        self._under_way.pop(sink, None)
        if self.is_frozen:
            return
        if self.is_dead:
            sink.failed(Fault.UNREACHABLE, "refused", False)
            return
        try:
            result = self.spoil(call["method"], call["params"], self._result(call["method"], call["params"]))
            answer = {"jsonrpc": "2.0", "id": call["id"], "result": result}
        except NodeRefused as refused:
            answer = {"jsonrpc": "2.0", "id": call["id"], "error": {"code": refused.code, "message": refused.message}}
        body = orjson.dumps(answer)
        sink.answered(FakeHead(length=len(body)), [body])

    def _result(self, method: str, params: list[Any]) -> Any:
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)
            return next((block.value for block in self.head.line() if block.number == number), None)
        if method == "eth_getBlockByHash":
            found = self._known(params[0])
            return found.value if found is not None else None
        return self._logs(params[0])

    def _known(self, block_hash: str) -> Block | None:
        block = self.chain.blocks.get(block_hash)
        if block is not None and block.is_lie:
            return None
        return block if block is not None and (self.has_all or block in self.head.line()) else None

    def _logs(self, wanted: dict[str, Any]) -> list[Any]:
        block = self._known(wanted["blockHash"])
        if block is None:
            raise NodeRefused(-32000, "unknown block")
        if self.clock.seconds() < self._heads_at.get(block.hash, 0) + self.logs_after_seconds:
            return []
        return [log for log in block.logs if is_meant(log, wanted)]

    # its WebSocket

    def subscribe(self, params: list[Any], told: Callable[[bytes], None]) -> Deferred[Any]:
        if self.is_mute:
            self.mute.append(Deferred())
            return self.mute[-1]
        if params[0] in self.refuses:
            return defer.fail(self.refuses[params[0]])
        handle = Handle(self, params, told)
        self.handles.append(handle)
        return defer.succeed(handle)

    def connect(self) -> None:
        """Its WebSocket comes to stand."""
        if not self.feed.is_up:
            self.feed.connected(self)

    def disconnect(self) -> None:
        """It is lost."""
        if self.feed.is_up:
            self.handles.clear()
            self.feed.disconnected(self, "lost")

    def push(self, topic: str, result: Any) -> None:
        """Tell who is subscribed to a topic."""
        for handle in tuple(self.handles):
            if handle.params[0] == topic:
                handle.told(orjson.dumps(result))

    def see(self, block: Block) -> None:
        """The node's head is another one; it tells so, if it can."""
        self.head = block
        for each in block.line()[-20:]:
            self._heads_at.setdefault(each.hash, self.clock.seconds())
        if not (self.is_dead or self.is_frozen):
            self.push("newHeads", block.value)

    def die(self) -> None:
        """Like kill -9."""
        self.is_dead = True
        self.disconnect()

    def count(self, method: str) -> int:
        """How many times it was asked this."""
        return sum(asked == method for asked, _ in self.asked)


class World:
    """Nodes, their network, a hub, clients. Nodes are named by a letter."""

    def __init__(
        self, local: str = "a b", *, push: bool = True, blocks: int = 30, memory: int = 2**27, **config: Any
    ) -> None:
        self.clock = Clock()
        self.chain = Chain()
        self.chain.mine_many(blocks)
        self.rng = random.Random(7)
        settings = {"backfill_blocks": 64, "resume_blocks": 20, "block_time_seconds": 1.0, **config}
        self.network = Network(network_config(*nodes_of(local), **settings), 0.0, Still())
        self.nodes = {node.name: FakeNode(self.clock, self.chain) for node in self.network.nodes}
        upstreams = list(self.nodes.values())
        self.memory = Shares(memory)
        self.hub = Hub(self.network, upstreams, self.clock, self.clock.seconds, self.rng, self.publish, self.memory)
        for node, fake in zip(self.network.nodes, upstreams, strict=True):
            fake.feed = Feed(node, self.hub)
            fake.feed.socket = fake
            self.hub.feeds.append(fake.feed)
        self.tick()
        if push:
            for fake in upstreams:
                fake.connect()
                fake.see(fake.head)
        self.clients: list[Client] = []
        self._observe = self.hub.logs.observe
        self.hub.logs.observe = self._note_abandoned  # type: ignore[method-assign]
        self._calls = 0

    def __getitem__(self, name: str) -> FakeNode:
        return self.nodes[name]

    # time

    def publish(self, events: Events) -> None:
        if events:
            self.hub.look()

    def tick(self) -> None:
        """Polls, and what is done once a second."""
        now = self.clock.seconds()
        for node in self.network.nodes:
            fake = self.nodes[node.name]
            if fake.is_dead or fake.is_frozen:
                self.publish(self.network.observe_poll_failure(node, "refused", now, final=True))
            else:
                proof: dict[str, Any] = {"block_hash": fake.head.hash, "block_timestamp": 1, "unix_time": 2.0}
                poll = Poll(number=fake.head.number, latency_seconds=0.001, started_at=now, chain_id=1, **proof)
                self.publish(self.network.observe_poll(node, poll, now))
        self.publish(self.network.expire(now))
        self.hub.look()

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(200):
            self.clock.advance(0)
            if not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return

    def wait(self, seconds: int = 1) -> None:
        """Let seconds pass, with polls."""
        for _ in range(seconds):
            for _ in range(20):
                self.clock.advance(0.05)
                self.settle()
            self.tick()
            self.settle()

    def all_see(self, block: Block | None = None) -> None:
        """All nodes have a block as their head."""
        for fake in self.nodes.values():
            fake.see(block or self.chain.tip)

    # clients

    def client(self, **settings: Any) -> Client:
        self.clients.append(Client(**settings))
        return self.clients[-1]

    def call(self, client: Client, *params: Any, begins: Callable[[str], None] | None = None) -> bytes:
        """Subscribe; the id of the call. ``begins`` is called with the subscription's id when it is there."""
        self._calls += 1
        call_id = b"%d" % self._calls
        if begins is not None:
            client.expected[call_id] = begins
        call = {"jsonrpc": "2.0", "id": self._calls, "method": "eth_subscribe", "params": params}
        self.hub.subscribe(client, parse_call(orjson.dumps(call)))
        return call_id

    def heads(self, client: Client | None = None, resume: Any = None) -> Heads:
        """Subscribe to heads: what the client makes of them."""
        mirror = Heads(self.chain)
        self._mirror(client or self.client(), mirror, "newHeads", resume=resume)
        return mirror

    def logs(self, wanted: Any = None, client: Client | None = None, resume: Any = None) -> LogsSeen:
        """Subscribe to logs: what the client makes of them."""
        mirror = LogsSeen(self.chain, wanted or {}, resumed=resume is not None)
        self._mirror(client or self.client(), mirror, "logs", wanted or {}, resume=resume)
        return mirror

    def _note_abandoned(self, change: Change) -> None:
        for client in self.clients:
            for mirror in client.mirrors.values():
                for header in change.removed:
                    if isinstance(mirror, LogsSeen) and header.hash in self.chain.blocks:
                        mirror.note_abandoned(self.chain.blocks[header.hash])
        self._observe(change)

    def _mirror(self, client: Client, mirror: Heads | LogsSeen, *params: Any, resume: Any) -> None:
        def begin(subscription_id: str) -> None:
            client.mirrors[subscription_id] = mirror
            mirror.begin(self._seen(resume))

        own = [] if resume is None else [{"resume": resume}]
        self.call(client, *params, *own, begins=begin)

    def _seen(self, resume: Any) -> Block:
        """The block that a client has seen last."""
        view = self.hub.blocks.view
        assert view is not None
        assert view.tip is not None
        tip = self.chain.blocks[view.tip.hash]
        if resume is None:
            return tip
        return self.chain.blocks[resume] if isinstance(resume, str) else tip.ancestor(tip.number - resume)

    def check(self) -> None:
        """Whether each client could make sense of what it was told."""
        for client in self.clients:
            if client.fault is not None:
                raise client.fault

    def close(self) -> None:
        """Everybody leaves, and the hub ends; nothing may be left."""
        self.check()
        for client in self.clients:
            client.is_open = False
            self.hub.gone(client)
            assert client.subscriptions == 0
        self.hub.stop()
        assert not self.clock.getDelayedCalls(), [str(call)[:200] for call in self.clock.getDelayedCalls()[:3]]
        assert not any(self.hub.counts.values())
        assert self.memory.left == self.memory.total
        assert not any(fake._under_way for fake in self.nodes.values())
        assert all(handle.params == ["newHeads"] for fake in self.nodes.values() for handle in fake.handles)
