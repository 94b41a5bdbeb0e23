"""Pipes on real sockets: clients and a node that nobody here wrote, and the balancer between them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from evmlb.config.parse import parse_config
from evmlb.config.schema import Config, LogLevel, WebSocketMode
from evmlb.demo.faults import fault
from evmlb.demo.world import DemoWorld
from evmlb.service import make_service
from evmlb.urls import parse_endpoint
from tests.support import free_port

MIB = 1024 * 1024
FLOOD = 64
"""So many messages of one MiB does the node send to who asks for a flood."""
HELD_BYTES = 4 * MIB
"""More than this may not be held by the balancer for a client that does not read."""


def call(method: str, *params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def ask(client: ClientConnection, text: str) -> Any:
    client.send(text)
    return json.loads(client.recv(timeout=10))


def closing(client: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the end; its code and reason."""
    try:
        while True:
            client.recv(timeout=20)
    except ConnectionClosed:
        return client.close_code, client.close_reason


class EchoNode:
    """The WebSocket of a node, by the library ``websockets``: echoes, or sends a flood; its path is remembered."""

    def __init__(self) -> None:
        self.port = free_port()
        self.paths: list[str] = []
        self.sent = 0
        self.codes: list[int | None] = []
        self._server: Server = serve(
            self.talk,
            "127.0.0.1",
            self.port,
            max_size=None,
            select_subprotocol=lambda _, offered: next(iter(offered), None),
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        self.paths.append(client.request.path)
        for message in client:
            if message == "flood":
                self.flood(client)
            else:
                client.send(message)
        self.codes.append(client.close_code)

    def flood(self, client: ServerConnection) -> None:
        for number in range(FLOOD):
            client.send(bytes([number]) * MIB)
            self.sent += 1

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


class PipeTests(TestCase):
    timeout = 60

    async def begin(
        self, change: Callable[[Config], Config] = lambda config: config, mode: Any = WebSocketMode.PASSTHROUGH
    ) -> None:
        """A quiet world, and a balancer before it that passes WebSockets on."""
        self.world = DemoWorld(reactor, schedules={}, block_seconds=0.25, reorg_every_blocks=0)
        self.world.open()
        config = replace(
            parse_config(self.world.config_text(0, 0), {}), log_level=LogLevel.ERROR, shutdown_grace_seconds=4.0
        )
        [network] = config.networks
        config = change(replace(config, networks=(replace(network, websocket=mode),)))
        self.service = make_service(config, reactor)
        self.balancer = self.service.balancer
        self.bridge = self.balancer.bridge
        self.service.privilegedStartService()
        self.world.startService()
        self.service.startService()
        self.addCleanup(self.end)
        [self.port] = await self.service.listening
        self.network = self.balancer.networks["demo"].network
        while len(self.network.order.candidates) < 3:
            await deferLater(reactor, 0.05)

    async def end(self) -> None:
        """Stop everything; nothing may be left under way."""
        await self.service.stopService()
        await self.world.stopService()
        await deferLater(reactor, 0.05)  # what was closed is gone a turn of the loop later
        self.assertEqual((self.bridge.stats.open, len(self.balancer.front.lanes)), (0, 0))

    def talk(
        self, conversation: Callable[[ClientConnection], Any], path: str = "/demo", **settings: Any
    ) -> Deferred[Any]:
        """Hold a conversation in a thread, over a connection of its own."""

        def run() -> Any:
            url = f"ws://127.0.0.1:{self.port}{path}"
            with connect(url, **{"max_size": None, "compression": None, **settings}) as client:
                return conversation(client)

        return deferToThread(run)

    def echo(self) -> Callable[[Config], Config]:
        """A node of another make; the change to a configuration by which all WebSockets go there."""
        self.node = EchoNode()
        self.addCleanup(deferToThread, self.node.stop)
        endpoint = parse_endpoint(f"ws://127.0.0.1:{self.node.port}/own?key=1")

        def change(config: Config) -> Config:
            [network] = config.networks
            nodes = tuple(replace(node, ws_endpoint=endpoint) for node in network.nodes)
            return replace(config, networks=(replace(network, nodes=nodes),))

        return change

    def befall_first(self, what: str) -> str:
        """The node that is asked first falls ill; its name."""
        first = self.network.order.candidates[0].name
        self.world.befall(first, fault(what))
        return first

    async def test_subscribe(self) -> None:
        """Subscriptions and calls of one connection are the node's own; its death is told by 1001."""
        await self.begin()
        opened = threading.Event()

        def conversation(client: ClientConnection) -> Any:
            subscription = ask(client, call("eth_subscribe", "newHeads"))["result"]
            numbers = []
            while len(numbers) < 3:
                event = json.loads(client.recv(timeout=10))
                self.assertEqual(event["params"]["subscription"], subscription)
                numbers.append(int(event["params"]["result"]["number"], 16))
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 3)))
            opened.set()
            return closing(client)

        talks = [self.talk(conversation, path) for path in ("/demo", "/demo/ws", "/demo/deeper?a=1")]
        await deferToThread(opened.wait, 20)
        pipes = [node for node in self.world.nodes.values() if node.subscription_count]
        self.assertEqual([node.name for node in pipes], [self.network.order.candidates[0].name])
        while pipes[0].subscription_count < len(talks):
            await deferLater(reactor, 0.05)
        await deferLater(reactor, 1.0)
        self.befall_first("refuse")
        self.assertEqual(await gatherResults(talks), [(1001, "unexpected EOF")] * len(talks))

    async def test_beside_subscriptions(self) -> None:
        """In a network with subscriptions of our own, a deeper path is no way to a node."""
        await self.begin(mode=WebSocketMode.SUBSCRIPTIONS)
        with self.assertRaises(InvalidStatus) as caught:
            await self.talk(lambda client: None, "/demo/deeper")
        self.assertEqual(caught.exception.response.status_code, 501)

    async def test_refused_methods(self) -> None:
        """What clients may not call is answered by an error, and the conversation goes on."""
        await self.begin()

        def conversation(client: ClientConnection) -> Any:
            for method in ("engine_exchangeCapabilities", "admin_peers", "personal_sendTransaction"):
                self.assertEqual(ask(client, call(method))["error"]["code"], -32601)
            return ask(client, call("eth_chainId"))["result"]

        self.assertEqual(await self.talk(conversation), "0x539")

    async def test_failover(self) -> None:
        """Nodes that do not take the handshake are passed over, unseen by the client."""
        await self.begin()
        for what in ("status 503", "refuse", "reset", "not-http", "rate-limit"):
            name = self.befall_first(what)
            result = await self.talk(lambda client: ask(client, call("eth_chainId"))["result"])
            self.assertEqual(result, "0x539", what)
            self.world.befall(name, fault("healthy"))

    async def test_nobody(self) -> None:
        """When none takes it, the client reads why, in HTTP."""
        await self.begin()
        for name in self.world.nodes:
            self.world.befall(name, fault("status 500"))
        with self.assertRaises(InvalidStatus) as caught:
            await self.talk(lambda client: None)
        response = caught.exception.response
        self.assertEqual(response.status_code, 502)
        self.assertIn("all endpoints unavailable", json.loads(response.body)["error"]["message"])

    async def test_off(self) -> None:
        """A network without WebSocket is served over HTTP all the same."""
        await self.begin(mode=WebSocketMode.OFF)
        for path in ("/demo", "/demo/deeper"):
            with self.assertRaises(InvalidStatus) as caught:
                await self.talk(lambda client: None, path)
            self.assertEqual(caught.exception.response.status_code, 501)

    async def test_negotiated(self) -> None:
        """The subprotocol is between client and node, nothing is compressed; a client's path goes behind the node's."""
        await self.begin(self.echo())

        def conversation(client: ClientConnection) -> Any:
            self.assertNotIn("Sec-WebSocket-Extensions", client.response.headers)
            self.assertEqual(client.subprotocol, "eth")
            for message in ("ü" * 1000, b"\x00\xff" * 1000, "", "x" * MIB, bytes(range(256)) * 4096):
                client.send(message)
                self.assertEqual(client.recv(timeout=10), message)
            client.send([("ab" * 500), "cd"])
            self.assertEqual(client.recv(timeout=10), "ab" * 500 + "cd")
            self.assertTrue(client.ping().wait(10))

        await self.talk(conversation, "/demo/more?a=1", compression="deflate", subprotocols=[Subprotocol("eth")])
        self.assertEqual(self.node.paths, ["/own/more?key=1&a=1"])
        while not self.node.codes:
            await deferLater(reactor, 0.05)
        self.assertEqual(self.node.codes, [1000])

    async def test_slow_reader(self) -> None:
        """A client that reads slowly slows the node down: what waits is in the sockets, not in the balancer."""
        await self.begin(self.echo())
        started = threading.Event()

        def conversation(client: ClientConnection) -> None:
            client.send("flood")
            started.set()
            time.sleep(1.5)
            for number in range(FLOOD):
                self.assertEqual(client.recv(timeout=20), bytes([number]) * MIB)

        talking = self.talk(conversation, max_queue=1)
        await deferToThread(started.wait, 10)
        await deferLater(reactor, 1.0)
        [pipe] = self.bridge._sockets
        self.assertLess(self.node.sent, FLOOD - 10)
        queued = getattr(pipe.transport, "queued_bytes", 1)  # only the loop's own transports tell
        self.assertGreater(queued, 0)
        self.assertLess(queued, HELD_BYTES)
        await talking
        self.assertEqual(self.node.sent, FLOOD)

    async def test_client_goes(self) -> None:
        """A client that drops its connection: the node is told, and nobody is blamed."""
        await self.begin(self.echo())
        await self.talk(lambda client: (client.send("x"), client.recv(), client.socket.close())[0])
        while not self.node.codes:
            await deferLater(reactor, 0.05)
        self.assertEqual(self.node.codes, [1001])
        self.assertFalse(any(node.suspect for node in self.network.nodes))

    async def test_stopping(self) -> None:
        """When evmlb stops, clients and nodes are told 1001."""
        await self.begin(self.echo())
        talks = [self.talk(closing) for _ in range(3)]
        while self.bridge.stats.open < len(talks):
            await deferLater(reactor, 0.05)
        stopped = self.service._front.stopService()
        self.assertEqual(await gatherResults(talks), [(1001, "evmlb is stopping")] * len(talks))
        await stopped
        while len(self.node.codes) < len(talks):
            await deferLater(reactor, 0.05)
        self.assertEqual(self.node.codes, [1001] * len(talks))
