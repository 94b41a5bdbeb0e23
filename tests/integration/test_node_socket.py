"""A node's WebSocket over real sockets: anvil and demo nodes, killed, frozen, and talking nonsense."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from evmlb.config.schema import LimitsConfig
from evmlb.demo.chain import DemoChain
from evmlb.demo.faults import fault
from evmlb.demo.node import DemoNode
from evmlb.upstream.conversation import SocketLost
from evmlb.upstream.multiplexed import WebSocketUpstream
from evmlb.upstream.websocket import NodeSocket
from tests.integration.parts import Anvil
from tests.integration.test_tls import self_signed
from tests.support import SinkSpy, node_config

WAIT_SECONDS = 15.0
CALL = b'{"jsonrpc":"2.0","id":"mine","method":"eth_chainId","params":[]}'


class Heads:
    """Listens to a node's WebSocket, subscribes to newHeads whenever it can, and notes all."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.numbers: list[int] = []
        self.subscribed = 0

    def connected(self, socket: NodeSocket) -> None:
        self.events.append("connected")
        socket.subscribe(["newHeads"], self.take).addCallbacks(self.count, lambda failure: failure.trap(SocketLost))

    def count(self, subscription: object) -> None:
        self.subscribed += 1

    def take(self, raw: bytes) -> None:
        self.numbers.append(int(json.loads(raw)["number"], 16))

    def disconnected(self, socket: NodeSocket, reason: str) -> None:
        self.events.append(reason)


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the reactor run until the condition holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]


class SocketTestCase(TestCase):
    timeout = 60

    def begin(self, ws_endpoint: str | None = None, **node: Any) -> tuple[NodeSocket, Heads]:
        """The WebSocket of a node, started, and who listens to it."""
        listener = Heads()
        config = node_config(ws_endpoint=ws_endpoint, **node)
        socket = NodeSocket(reactor, config, time.monotonic, random.Random(1), listener)
        socket.start()

        async def end() -> None:
            socket.stop()
            await deferLater(reactor, 0.05)  # type: ignore[arg-type]

        self.addCleanup(end)
        return socket, listener

    def demo_node(self) -> DemoNode:
        """A demo node on a port, with a chain of its own."""
        chain = DemoChain()
        chain.mine_many(5, chain.genesis.timestamp + 5)
        node = DemoNode(reactor, chain)  # type: ignore[arg-type]
        node.listen(reactor)  # type: ignore[arg-type]
        self.addCleanup(node.stop)
        return node

    def raw_node(self, says: bytes) -> int:
        """The port of something that takes connections, and says this to whatever it gets."""

        class Saying(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                if says:
                    self.transport.write(says)

        port = reactor.listenTCP(0, Factory.forProtocol(Saying), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)


class AnvilTests(SocketTestCase):
    async def anvil(self) -> Anvil:
        anvil = Anvil()
        self.addCleanup(lambda: deferToThread(anvil.clean))
        await deferToThread(anvil.start)
        return anvil

    async def test_heads(self) -> None:
        """Heads are pushed as they are mined; calls are answered on the same connection."""
        anvil = await self.anvil()
        socket, heads = self.begin(anvil.ws_url)
        await until(lambda: heads.subscribed, "a subscription")
        await deferToThread(anvil.mine, 3)
        await until(lambda: heads.numbers == [1, 2, 3], "three heads")
        self.assertEqual(await socket.call("eth_blockNumber", []), b'"0x3"')

    async def test_killed(self) -> None:
        """A node that is killed and started again is connected to again, and its heads come."""
        anvil = await self.anvil()
        socket, heads = self.begin(None, url=anvil.url)  # anvil has its WebSocket beside its HTTP
        await until(lambda: heads.subscribed, "a subscription")
        await deferToThread(anvil.kill)
        await until(lambda: len(heads.events) == 2, "the loss")
        self.assertEqual((socket.is_connected, socket.stats.losses), (False, 1))
        await deferToThread(anvil.restart)
        await until(lambda: heads.subscribed == 2, "another subscription")
        await deferToThread(anvil.mine, 1)
        await until(lambda: heads.numbers == [1], "a head")

    async def test_upstream(self) -> None:
        """Requests and batches of clients are answered with their own ids; a killed node fails those under way."""
        anvil = await self.anvil()
        upstream = WebSocketUpstream(reactor, node_config(url=anvil.ws_url), LimitsConfig(), time.monotonic)
        self.addCleanup(upstream.close)
        single, batch = SinkSpy(), SinkSpy()
        upstream.send(single, CALL)
        upstream.send(batch, b"[%b,%b]" % (CALL, CALL.replace(b'"mine"', b"2")))
        await until(lambda: single.is_done and batch.is_done, "answers")
        self.assertEqual(json.loads(single.body), {"jsonrpc": "2.0", "id": "mine", "result": "0x7a69"})
        self.assertEqual([each["id"] for each in json.loads(batch.body)], ["mine", 2])
        await deferToThread(anvil.freeze)
        lost = SinkSpy()
        upstream.send(lost, CALL)
        await deferToThread(anvil.kill)
        await until(lambda: lost.is_done, "the loss")
        self.assertEqual(lost.events[0][0:3:2], ("failed", True))
        refused = SinkSpy()
        upstream.send(refused, CALL)
        await until(lambda: refused.is_done, "the refusal")
        self.assertEqual(refused.events[0][0:3:2], ("failed", False))


class DemoTests(SocketTestCase):
    async def test_heads(self) -> None:
        """A demo node pushes heads on the port where it serves HTTP, also after it was gone."""
        node = self.demo_node()
        _, heads = self.begin(None, url=node.url)
        await until(lambda: heads.subscribed, "a subscription")
        node.chain.mine(node.chain.head.timestamp + 1)
        await until(lambda: heads.numbers == [6], "a head")
        node.become(fault("refuse"))
        await until(lambda: len(heads.events) == 2, "the loss")
        node.become(fault("healthy"))
        await until(lambda: heads.subscribed == 2, "another subscription")
        node.chain.mine(node.chain.head.timestamp + 1)
        await until(lambda: heads.numbers == [6, 7], "another head")

    async def test_tls(self) -> None:
        """``wss`` is verified: with the node's ``ca_file`` it is connected to, without it is not."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        certificate, key = self_signed(folder, "localhost")
        node = DemoNode(reactor, DemoChain())  # type: ignore[arg-type]
        context = DefaultOpenSSLContextFactory(str(key), str(certificate))
        port = reactor.listenSSL(0, node.factory, context, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"wss://localhost:{port.getHost().port}"
        trusting, heads = self.begin(url, ca_file=str(certificate))
        await until(lambda: heads.subscribed, "a subscription")
        distrusting, nothing = self.begin(url)
        await until(lambda: distrusting.stats.failures, "a refusal")
        self.assertEqual((trusting.is_connected, nothing.events), (True, []))


class StrangeTests(SocketTestCase):
    async def test_never_answers(self) -> None:
        """What takes the connection and never answers the handshake is given up after five seconds."""
        socket, heads = self.begin(f"ws://127.0.0.1:{self.raw_node(b'')}")
        begun = time.monotonic()
        await until(lambda: socket.stats.failures, "the end of the attempt")
        self.assertTrue(4.9 < time.monotonic() - begun < 7, time.monotonic() - begun)
        self.assertEqual(heads.events, [])

    async def test_garbage(self) -> None:
        """What answers with other than HTTP, or another status, is left alone for longer each time."""
        for says in (b"SSH-2.0-nothing\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00" * 100_000):
            socket, heads = self.begin(f"ws://127.0.0.1:{self.raw_node(says)}")
            await until(lambda socket=socket: socket.stats.failures == 2, "two attempts")  # type: ignore[misc]
            self.assertEqual(heads.events, [])
            socket.stop()

    async def test_garbage_later(self) -> None:
        """A node that talks nonsense after the handshake loses its connection, and is connected to again."""
        node = self.demo_node()
        socket, heads = self.begin(node.ws_url)
        await until(lambda: heads.subscribed, "a subscription")
        node.become(fault("garbage"))
        with self.assertRaises(SocketLost):
            await socket.call("eth_chainId", [])
        self.assertEqual(socket.stats.garbage, 1)
        node.become(fault("healthy"))
        await until(lambda: heads.subscribed == 2, "another subscription")
