"""Every misbehaviour of a node, before a balancer with a second, healthy one: no client sees any of it.

Nodes, balancer and client are in this process, on real sockets.
"""

import json
from dataclasses import replace
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from evmlb import examining
from evmlb.config.parse import parse_config
from evmlb.config.schema import LogLevel
from evmlb.demo.faults import fault
from evmlb.demo.world import DemoWorld
from evmlb.service import make_service

CALL = b'{"jsonrpc":"2.0","id":%d,"method":"eth_getBalance","params":["0x%040x","latest"]}'


class FaultsTests(TestCase):
    timeout = 60

    async def begin(self, **world_settings: Any) -> None:
        """A quiet world and a balancer before it."""
        self.world = DemoWorld(reactor, schedules={}, block_seconds=0.25, reorg_every_blocks=0, **world_settings)
        self.world.open()
        text = self.world.config_text(0, 0)
        self.config = replace(parse_config(text, {}), log_level=LogLevel.ERROR)
        self.service = make_service(self.config, reactor)
        self.service.privilegedStartService()
        self.world.startService()
        self.service.startService()
        self.addCleanup(self.end)
        [port] = await self.service.listening
        self.url = f"http://127.0.0.1:{port}/demo"
        while len(self.service.balancer.networks["demo"].network.order.candidates) < 3:
            await deferLater(reactor, 0.05)

    async def end(self) -> None:
        """Stop everything; nothing may be left under way."""
        await self.service.stopService()
        await self.world.stopService()
        await deferLater(reactor, 0.05)  # what was closed is gone a turn of the loop later
        self.assertEqual(self.service.balancer.deadlines.watched, {})
        for parts in self.service.balancer.networks.values():
            self.assertEqual([node.in_flight for node in parts.network.nodes], [0] * len(parts.network.nodes))
            self.assertEqual([len(upstream.open) for upstream in parts.upstreams], [0] * len(parts.upstreams))

    async def ask(self, number: int) -> tuple[str, Any]:
        """The name of the node that answered, and the answer."""
        body = CALL % (number, number)
        response = await treq.post(self.url, body, headers={"content-type": "application/json"}, persistent=False)
        answer = json.loads(await response.content())
        self.assertEqual((response.code, answer.get("id")), (200, number), answer)
        return response.headers.getRawHeaders("x-evmlb-node")[0], answer

    def coroutine(self, number: int) -> Deferred[tuple[str, Any]]:
        return Deferred.fromCoroutine(self.ask(number))

    async def check(self, wrong: str) -> None:
        """With ``local-1`` misbehaving, everything is answered well, soon by another node; then it comes back."""
        await self.begin()
        self.world.befall("local-1", fault(wrong))
        names = []
        for number in range(2, 12):
            name, answer = await self.ask(number)
            self.assertIn("result", answer)
            names.append(name)
        together = await gatherResults([self.coroutine(number) for number in range(20, 40)])
        self.assertEqual([answer for _, answer in together if "result" not in answer], [])
        await deferLater(reactor, 1.5)
        name, _ = await self.ask(50)
        self.assertEqual(name, "local-2", names)
        self.world.befall("local-1", fault("healthy"))

    async def test_refuse(self) -> None:
        """A node that refuses connections."""
        await self.check("refuse")

    async def test_hang(self) -> None:
        """A node that takes requests and never answers."""
        await self.check("hang")

    async def test_status_500(self) -> None:
        """A node that answers HTTP 500."""
        await self.check("status 500")

    async def test_rate_limit(self) -> None:
        """A node that answers HTTP 429."""
        await self.check("rate-limit")

    async def test_internal_error(self) -> None:
        """A node that answers every call with -32603."""
        await self.check("internal-error")

    async def test_html(self) -> None:
        """A node that answers with a web page."""
        await self.check("html")

    async def test_garbage(self) -> None:
        """A node that answers with garbage."""
        await self.check("garbage")

    async def test_not_http(self) -> None:
        """A node that does not speak HTTP."""
        await self.check("not-http")

    async def test_truncate(self) -> None:
        """A node that breaks off in the middle of every answer."""
        await self.check("truncate")

    async def test_wrong_length(self) -> None:
        """A node that announces another length than it sends."""
        await self.check("wrong-length 5")

    async def test_lag(self) -> None:
        """A node that is behind the chain."""
        await self.check("lag 20")

    async def test_wrong_chain(self) -> None:
        """A node that serves another chain."""
        self.patch(examining, "CHAIN_ID_SECONDS", 0.5)
        await self.check("wrong-chain")

    async def test_syncing(self) -> None:
        """A node that says that it is far from done."""
        self.patch(examining, "SYNCING_SECONDS", 0.5)
        await self.check("syncing")

    async def test_close(self) -> None:
        """A node that closes the connection instead of answering."""
        await self.check("close")

    async def test_reset(self) -> None:
        """A node that resets the connection instead of answering."""
        await self.check("reset")

    async def test_gzip(self) -> None:
        """A node that compresses unasked."""
        await self.check("gzip")

    async def test_redirect(self) -> None:
        """A node that redirects."""
        await self.check("redirect")

    async def test_endless_headers(self) -> None:
        """A node whose headers never end."""
        await self.check("endless-headers")

    async def test_lying_head(self) -> None:
        """A node that claims a head far in the future does not make the others look late."""
        await self.begin()
        self.world.befall("local-1", fault("lying-head"))
        await deferLater(reactor, 2)
        for number in range(2, 6):
            _, answer = await self.ask(number)
            self.assertIn("result", answer)
        self.assertEqual(self.service.balancer.networks["demo"].network.order.tier.value, "local")

    async def test_chunked(self) -> None:
        """Chunked answers are as good as others."""
        await self.begin()
        self.world.befall("local-1", fault("chunked"))
        self.world.befall("local-2", fault("chunked"))
        for number in range(2, 6):
            _, answer = await self.ask(number)
            self.assertIn("result", answer)
