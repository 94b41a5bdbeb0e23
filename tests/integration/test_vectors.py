"""A suite that no one here wrote: what real nodes said comes back through the balancer as they said it.

231 recordings of the Ethereum execution API's own tests: results and errors, alone, in batches, over WebSocket, and
while a second node fails in each of the ways that a demo node can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import treq
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import HTTPConnectionPool

from evmlb import examining
from evmlb.config.parse import parse_config
from evmlb.config.schema import LogLevel
from evmlb.demo.chain import DemoChain
from evmlb.demo.faults import fault
from evmlb.demo.world import demo_config
from evmlb.service import make_service
from tests.integration.replay import Pair, recorded, replaying

AT_A_TIME = 8
BATCH = 10
FAULTS = """
    refuse hang status/500 status/503 rate-limit internal-error html garbage not-http truncate wrong-length close reset
    gzip redirect endless-headers slow/2000 wrong-chain syncing lying-head chunked
"""
STATE = frozenset(("eth_getBalance", "eth_call", "eth_estimateGas", "eth_getCode", "eth_getStorageAt", "eth_getProof"))
BELIEFS = ("wrong-chain", "syncing", "lying-head")


class ReplayCase(TestCase):
    timeout = 120

    async def begin(self, *names: str) -> None:
        self.pairs = recorded()
        self.pool = HTTPConnectionPool(reactor)
        self.addCleanup(self.pool.closeCachedConnections)
        chain = DemoChain(1)
        self.nodes = {name: replaying(reactor, chain, name, self.pairs) for name in names}
        for node in self.nodes.values():
            node.listen(reactor)
            self.addCleanup(node.stop)
        text = demo_config(self.nodes.values(), 0, 0).replace("    use_load_tracker: true\n", "")
        text = text.replace("rpc_timeout: 2s", "rpc_timeout: 2s\n    chain_id: 3503995874084926")
        config = replace(parse_config(_without_push(text), {}), log_level=LogLevel.ERROR)
        self.service = make_service(config, reactor)
        self.service.privilegedStartService()
        self.service.startService()
        self.addCleanup(self.service.stopService)
        [port] = await self.service.listening
        self.port = port
        while len(self.service.balancer.networks["demo"].network.order.candidates) < len(names):
            await deferLater(reactor, 0.02)

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of an answer."""
        url = f"http://127.0.0.1:{self.port}/demo"
        response = await treq.post(url, body, headers={"content-type": "application/json"}, pool=self.pool)
        return response.code, await response.content()

    async def check(self, pairs: Sequence[Pair]) -> None:
        """Each pair alone."""
        wrong: list[str] = []

        async def one(number: int, pair: Pair) -> None:
            status, body = await self.ask(pair.asked(number))
            if (status, body) != (200, pair.answered(number)):
                wrong.append(f"{pair.name}: HTTP {status} {body[:200]!r} instead of {pair.answered(number)[:200]!r}")

        await self.several([lambda n=n, pair=pair: one(n, pair) for n, pair in enumerate(pairs, 1000)])
        self.assertEqual(wrong, [], "\n".join(wrong))

    async def several(self, jobs: Sequence[Any]) -> None:
        """Some at a time."""
        turns = defer.DeferredSemaphore(AT_A_TIME)
        await defer.gatherResults([turns.run(lambda job=job: Deferred.fromCoroutine(job())) for job in jobs])

    async def check_in_batches(self) -> None:
        """All of them, ten in a batch."""
        for start in range(0, len(self.pairs), BATCH):
            members = list(enumerate(self.pairs[start : start + BATCH], 1))
            status, body = await self.ask(b"[" + b",".join(pair.asked(n) for n, pair in members) + b"]")
            wanted = sorted((orjson.loads(pair.answered(n)) for n, pair in members), key=_id)
            self.assertEqual((status, sorted(orjson.loads(body), key=_id)), (200, wanted))

    async def check_all_ways(self) -> None:
        """Alone, in batches and over a WebSocket, at the same time."""
        ways = (self.check(self.pairs), self.check_in_batches(), self.check_websocket())
        await defer.gatherResults(map(Deferred.fromCoroutine, ways), consumeErrors=True)

    async def check_websocket(self) -> None:
        """All of them over one WebSocket."""
        client = await connect(self.port)
        for number, pair in enumerate(self.pairs, 1):
            client.sendMessage(pair.asked(number))
            self.assertEqual(await client.next(), pair.answered(number), pair.name)
        client.dropConnection(abort=True)
        await client.gone


class VectorsTests(ReplayCase):
    async def test_alone(self) -> None:
        """Every pair comes back as it was recorded, errors verbatim."""
        await self.begin("local-1")
        await self.check(self.pairs)

    async def test_in_batches(self) -> None:
        """So does every pair in a batch."""
        await self.begin("local-1")
        await self.check_in_batches()

    async def test_websocket(self) -> None:
        """So does every pair over a WebSocket."""
        await self.begin("local-1")
        await self.check_websocket()


class FailingNodeTests(ReplayCase):
    """The same, with a first node that fails, and a second one that is well."""

    async def check_beside(self, wrong: str) -> None:
        self.patch(examining, "CHAIN_ID_SECONDS", 0.5)
        self.patch(examining, "SYNCING_SECONDS", 0.5)
        await self.begin("local-1", "local-2")
        self.nodes["local-1"].become(fault(wrong))
        if wrong in BELIEFS:  # its answers look good: only polls can tell
            while self.service.balancer.networks["demo"].network.order.candidates[0].name == "local-1":
                await deferLater(reactor, 0.02)
        await self.check_all_ways()
        self.nodes["local-1"].become(fault("healthy"))

    async def check_beside_error(self, error: bytes, fails: Callable[[str], bool]) -> None:
        await self.begin("local-1", "local-2")
        replay: Any = self.nodes["local-1"].rpc
        replay.error, replay.fails = error, fails
        await self.check_all_ways()

    async def test_header_not_found(self) -> None:
        """A node that lacks the state changes nothing."""
        await self.check_beside_error(b'{"code":-32000,"message":"header not found"}', STATE.__contains__)

    async def test_vague_error(self) -> None:
        """Nor does one whose errors say nothing: the other node's words are what the client gets.

        But for a transaction in a batch, which may have been taken: it is not sent again.
        """
        error = b'{"code":-32000,"message":"something went wrong"}'
        await self.check_beside_error(error, lambda method: method != "eth_sendRawTransaction")


def _beside(wrong: str) -> Any:
    async def test(self: FailingNodeTests) -> None:
        await self.check_beside(wrong)

    test.__doc__ = f"A node that is {wrong!r} changes nothing."
    return test


for _fault in FAULTS.split():
    setattr(FailingNodeTests, f"test_{_fault.replace('-', '_').replace('/', '_')}", _beside(_fault.replace("/", " ")))


class Client(WebSocketClientProtocol):
    """One message after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: defer.DeferredQueue[bytes] = defer.DeferredQueue()
        self.gone: Deferred[None] = Deferred()

    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.put(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.gone.callback(None)

    async def next(self) -> bytes:
        message: bytes = await self.messages.get()
        return message


async def connect(port: int) -> Client:
    """A client whose WebSocket is open."""
    factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}/demo", reactor=reactor)
    factory.protocol = Client
    factory.noisy = False
    factory.opened = Deferred()
    reactor.connectTCP("127.0.0.1", port, factory)
    client: Client = await factory.opened
    return client


def _id(answer: dict[str, Any]) -> int:
    number: int = answer["id"]
    return number


def _without_push(text: str) -> str:
    """These nodes have no subscriptions."""
    return "".join(line for line in text.splitlines(True) if "ws_endpoint" not in line and "prometheus" not in line)
