"""A client of WebSockets that nobody here wrote, before the balancer and its demo nodes, on real sockets."""

from __future__ import annotations

import json
import socket
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

from evmlb.config.parse import parse_config
from evmlb.config.schema import LogLevel, WebSocketConfig
from evmlb.demo.faults import fault
from evmlb.demo.world import DemoWorld
from evmlb.service import make_service
from tests.bridge.support import HubSpy, frame, read_frames, request

CALLS = 200


def call(method: str, call_id: Any = 1, params: Any = ()) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)})


def ask(client: ClientConnection, text: str | bytes) -> Any:
    client.send(text)
    return json.loads(client.recv(timeout=10))


class WebSocketTests(TestCase):
    timeout = 60

    async def begin(self, **websocket: Any) -> None:
        """A quiet world, a balancer before it, and WebSockets at its front."""
        self.world = DemoWorld(reactor, schedules={}, block_seconds=0.25, reorg_every_blocks=0)
        self.world.open()
        text = self.world.config_text(0, 0)
        config = replace(
            parse_config(text, {}),
            log_level=LogLevel.ERROR,
            websocket=WebSocketConfig(**websocket),
            shutdown_grace_seconds=4.0,
        )
        self.service = make_service(config, reactor)
        balancer = self.service.balancer
        self.bridge = balancer.bridge
        self.service.privilegedStartService()
        self.world.startService()
        self.service.startService()
        self.addCleanup(self.end)
        [self.port] = await self.service.listening
        self.url = f"ws://127.0.0.1:{self.port}/demo"
        while len(balancer.networks["demo"].network.order.candidates) < 3:
            await deferLater(reactor, 0.05)

    async def end(self) -> None:
        """Stop everything; nothing may be left under way."""
        await self.service.stopService()
        await self.world.stopService()
        await deferLater(reactor, 0.05)  # what was closed is gone a turn of the loop later
        self.assertEqual(self.service.balancer.deadlines.watched, {})
        self.assertEqual((self.bridge.stats.open, len(self.service.balancer.front.lanes)), (0, 0))

    def talk(self, conversation: Callable[[ClientConnection], Any], path: str = "", **settings: Any) -> Deferred[Any]:
        """Hold a conversation in a thread, over a connection of its own."""

        def run() -> Any:
            with connect(self.url + path, **{"max_size": None, **settings}) as client:
                return conversation(client)

        return deferToThread(run)

    async def test_conversation(self) -> None:
        """Calls, batches, errors, pings, long messages in both directions, and a clean end."""
        await self.begin()

        def conversation(client: ClientConnection) -> None:
            self.assertEqual(ask(client, call("eth_chainId", "ü")), {"jsonrpc": "2.0", "id": "ü", "result": "0x539"})
            batch = f"[{call('eth_chainId', 1)},{call('web3_clientVersion', 2)}]"
            self.assertEqual(sorted(answer["id"] for answer in ask(client, batch)), [1, 2])
            self.assertEqual(ask(client, "nonsense")["error"]["code"], -32700)
            self.assertEqual(ask(client, call("eth_call", 3, ["x" * 200_000]).encode())["id"], 3)
            self.assertTrue(client.ping().wait(10))
            for number in range(CALLS):
                client.send(call("eth_getBalance", number, ["0x" + "00" * 20, "latest"]))
            answers = [json.loads(client.recv(timeout=10)) for _ in range(CALLS)]
            self.assertEqual(sorted(answer["id"] for answer in answers), list(range(CALLS)))
            self.assertTrue(all("result" in answer for answer in answers))
            client.send([call("eth_chainId", 4)[:20], call("eth_chainId", 4)[20:]])  # in fragments
            self.assertEqual(json.loads(client.recv(timeout=10))["id"], 4)

        await self.talk(conversation)
        await self.talk(conversation, "/ws")
        self.assertEqual(self.bridge.stats.accepted, 2)

    async def test_compressed(self) -> None:
        """With permessage-deflate."""
        await self.begin(compression=True)

        def conversation(client: ClientConnection) -> None:
            self.assertIn("permessage-deflate", client.response.headers["Sec-WebSocket-Extensions"])
            for number in range(20):
                self.assertEqual(ask(client, call("eth_chainId", number))["id"], number)

        await self.talk(conversation)

    async def test_node_dies(self) -> None:
        """A node that refuses its calls is not noticed."""
        await self.begin()
        self.world.befall("local-1", fault("status 503"))

        def conversation(client: ClientConnection) -> None:
            for number in range(20):
                self.assertIn("result", ask(client, call("eth_chainId", number)))

        await gatherResults([self.talk(conversation) for _ in range(3)])

    async def test_too_many(self) -> None:
        """A connection too many is refused before it is one."""
        await self.begin(max_connections=1)

        def conversation(client: ClientConnection) -> int:
            with self.assertRaises(InvalidStatus) as caught, connect(self.url):
                pass
            self.assertEqual(ask(client, call("eth_chainId"))["result"], "0x539")
            status: int = caught.exception.response.status_code
            return status

        self.assertEqual(await self.talk(conversation), 503)

    async def test_wrong(self) -> None:
        """Who breaks the protocol reads why, though it goes on sending, and others are not disturbed."""
        await self.begin(max_message_bytes=100_000)

        def too_large(client: ClientConnection) -> int | None:
            with self.assertRaises(ConnectionClosed):
                client.send("x" * 3_000_000)
                client.recv(timeout=10)
            return client.close_code

        def raw(data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), 10) as client:
                client.sendall(request(path=b"/demo") + data)
                received = b""
                while piece := client.recv(65536):
                    received += piece
            return received.partition(b"\r\n\r\n")[2]

        def patient(client: ClientConnection) -> None:
            for number in range(50):
                self.assertIn("result", ask(client, call("eth_chainId", number)))

        code, unmasked, garbage, _ = await gatherResults(
            [
                self.talk(too_large),
                deferToThread(raw, frame(b"x", key=None) + b"more" * 1000),
                deferToThread(raw, b"\xff" * 1000),
                self.talk(patient),
            ]
        )
        self.assertEqual(code, 1009)
        self.assertEqual((unmasked[:1], unmasked[2:4]), (b"\x88", (1002).to_bytes(2, "big")))
        self.assertEqual((garbage[:1], garbage[2:4]), (b"\x88", (1002).to_bytes(2, "big")))

    async def test_slow_client(self) -> None:
        """Who does not read is closed with 1013 once the queue is full, and reads all up to there when it does."""
        await self.begin(max_queue_bytes=1_000_000)
        hub = HubSpy()
        self.bridge.hubs = {"demo": hub}
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(client.close)
        client.sendall(request(path=b"/demo") + frame(call("eth_subscribe", 1, ["newHeads"]).encode()))
        while not hub.subscribers:
            await deferLater(reactor, 0.01)
        [subscriber] = hub.subscribers
        sent = 0
        while subscriber.is_open and sent < 200_000:
            for _ in range(100):
                subscriber.notify(b"x" * 900, b"0xabc", b"y" * 95)
            sent += 100
            await deferLater(reactor, 0)
        self.assertEqual((self.bridge.stats.slow_closed, subscriber.is_open), (1, False))
        self.assertLess(subscriber.queued_bytes, 1_010_000)

        def read_all() -> bytes:
            received = b""
            while b"try again later" not in received[-200:]:
                received += client.recv(1 << 20)
            return received.partition(b"\r\n\r\n")[2]

        frames = read_frames(await deferToThread(read_all))
        self.assertEqual((frames[-1][0], frames[-1][1][:2]), (0x88, (1013).to_bytes(2, "big")))
        self.assertEqual({len(payload) for _, payload in frames[1:-1]}, {1000})

    async def test_stopping(self) -> None:
        """When evmlb stops, clients are told 1001."""
        await self.begin()

        def conversation(client: ClientConnection) -> int | None:
            ask(client, call("eth_chainId"))
            with self.assertRaises(ConnectionClosed):
                client.recv(timeout=20)
            return client.close_code

        talks = [self.talk(conversation) for _ in range(3)]
        while self.bridge.stats.calls < len(talks):
            await deferLater(reactor, 0.05)
        stopped = self.service._front.stopService()
        self.assertEqual(await gatherResults(talks), [1001] * len(talks))
        await stopped
