"""What ``health_check`` demands of a node, and what it is spared."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Check, CustomCheck, HealthCheckConfig, HealthCheckType
from evmlb.errors import Fault
from tests.test_polling import World, refusing


def demanding(*, start: bool = True, answers: dict[str, Any] | None = None, **demands: Any) -> World:
    """A world whose network demands something, and whose node answers so from the first."""
    settings = {key: demands.pop(key) for key in ("rival", "node", "rpc_retries") if key in demands}
    world = World(start=False, **{"rpc_retries": 1, **settings}, health_check=HealthCheckConfig(**demands))
    world.upstream.answers.update(answers or {})
    if start:
        begin(world)
    return world


def begin(world: World) -> None:
    """The first round."""
    world.poller.start(0.0)
    world.clock.advance(0.0)


def reason(world: World) -> str:
    """What was wrong with the last bad poll."""
    return world.failures[-1][0] if world.failures else ""


class ToleranceTests(SynchronousTestCase):
    def behind(self, tolerance: int | None, chainhead: int = 103) -> World:
        """A node at 100, and another one that has been at the chainhead for two intervals."""
        world = demanding(rival=True, tolerance_blocks=tolerance, start=False)
        world.keep_rival(chainhead)
        world.clock.advance(2.0)
        self.assertEqual(world.network.chainhead, chainhead)
        begin(world)
        return world

    def test_tolerance(self) -> None:
        """More blocks behind than are tolerated: a bad poll. As many: a good one."""
        self.assertEqual(self.behind(3).failures, [])
        self.assertEqual(self.behind(2).failures, [("it is 3 blocks behind, and 2 are tolerated", True)])
        self.assertEqual(self.behind(0).failures, [("it is 3 blocks behind, and 0 are tolerated", True)])

    def test_none(self) -> None:
        """Without a tolerance the block diff has the word, and polls are good."""
        self.assertEqual(self.behind(None).failures, [])

    def test_down_and_up(self) -> None:
        """So it is taken out, and comes back once it has caught up."""
        world = self.behind(2)
        world.pass_time(0.5)
        self.assertEqual((world.node.healthy, world.poller.outcomes["check_failed"]), (False, 3))
        world.upstream.number = 101
        world.pass_time(1)
        self.assertTrue(world.node.healthy)

    def test_a_young_block(self) -> None:
        """A block that the others got within the last interval is not missed yet, so that good nodes do not flap."""
        world = demanding(rival=True, tolerance_blocks=0, start=False)
        world.keep_rival(100)
        begin(world)
        world.pass_time(0.95)
        world.keep_rival(101)
        world.pass_time(0.9)
        self.assertEqual((world.failures, len(world.polls)), ([], 2))
        world.pass_time(0.2)
        self.assertEqual(reason(world), "it is 1 blocks behind, and 0 are tolerated")

    def test_alone(self) -> None:
        """A node that is alone, or left alone, is never behind, nor is one ahead of all."""
        world = demanding(tolerance_blocks=0)
        world.upstream.number = 90
        world.pass_time(3)
        self.assertEqual((len(world.polls), world.failures), (4, []))
        world = self.behind(20)
        world.lose_rival()
        world.upstream.number = 50
        world.pass_time(1)
        self.assertEqual((world.node.head, world.failures), (50, []))
        world = self.behind(0, chainhead=99)
        self.assertEqual(world.failures, [])


class SyncingTests(SynchronousTestCase):
    def test_every_poll(self) -> None:
        """It is asked in every round."""
        world = demanding(type=HealthCheckType.SYNCING)
        world.upstream.take()
        world.pass_time(3)
        self.assertEqual(world.upstream.take(), "SNSNSN")
        self.assertTrue(world.node.healthy)

    def test_anything_but_false(self) -> None:
        """Anything but false is bad."""
        for answer in (
            True,
            {},
            {"currentBlock": "0x64", "highestBlock": "0x64"},
            0,
            "false",
            [],
            b'{"id":1,"result":null}',
        ):
            world = demanding(type=HealthCheckType.SYNCING, answers={"eth_syncing": answer})
            self.assertIn("eth_syncing does not say false", reason(world), answer)

    def test_how_far(self) -> None:
        """The words say how far it is; and it comes back when it is done."""
        syncing = {"currentBlock": "0x1", "highestBlock": "0x11"}
        world = demanding(type=HealthCheckType.SYNCING, answers={"eth_syncing": syncing})
        self.assertEqual(reason(world), "eth_syncing does not say false: 16 blocks to go")
        world.pass_time(1)
        self.assertFalse(world.node.healthy)
        world.upstream.answers["eth_syncing"] = False
        world.pass_time(0.5)
        self.assertTrue(world.node.healthy)

    def test_unsupported(self) -> None:
        """A node that does not have the method counts as synced; any other error does not."""
        for code, message, good in (
            (-32601, "x", True),
            (-32000, "The method eth_syncing does not exist/is not available", True),
            (-32000, "Method not found", True),
            (-32000, "unknown method eth_syncing", True),
            (-32600, "this is NOT SUPPORTED", True),
            (-32603, "internal error", False),
            (-32000, "", False),
        ):
            answer = json.dumps({"id": 1, "error": {"code": code, "message": message}}).encode()
            world = demanding(type=HealthCheckType.SYNCING, answers={"eth_syncing": answer})
            self.assertEqual(world.node.healthy, good, message)

    def test_failure(self) -> None:
        """No answer is no answer."""
        for answer in (Fault.DISCONNECTED, b"<html>"):
            world = demanding(type=HealthCheckType.SYNCING, answers={"eth_syncing": answer})
            self.assertEqual((world.node.healthy, len(world.failures)), (False, 1))


class CustomTests(SynchronousTestCase):
    def asking(self, answer: Any, **check: Any) -> World:
        """A network with a check of the user's."""
        request = CustomCheck(**check)
        return demanding(type=HealthCheckType.CUSTOM, request=request, answers={"custom": answer})

    def test_what_is_sent(self) -> None:
        """Method, body and headers are the user's, but for the headers that belong to the connection."""
        headers = (("X-Key", "secret"), ("content-type", "text/plain"), ("HOST", "evil"), ("Content-Length", "9"))
        world = self.asking(lambda sent: sent.answer(b""), method="PUT", body="{\u00e9}", headers=headers)
        [sent] = [sent for sent in world.upstream.sent if sent.target]
        self.assertEqual((sent.method, sent.body), (b"PUT", "{\u00e9}".encode()))
        self.assertEqual(sent.headers, b"X-Key: secret\r\ncontent-type: text/plain\r\n")

    def test_every_poll(self) -> None:
        """It is asked in every round, and the block number too."""
        world = self.asking(lambda sent: sent.answer(b""))
        self.assertEqual((world.upstream.take(), world.node.head), ("CSRNvp", 100))
        world.pass_time(2)
        self.assertEqual(world.upstream.take(), "RNRN")

    def test_status(self) -> None:
        """The status decides, and nothing else does."""
        for status, wanted, good in (
            (200, 200, True),
            (204, 204, True),
            (503, 503, True),
            (500, 200, False),
            (200, 204, False),
        ):
            for body in (b"", b"<html>", b"\xff\x00", b'{"id":1,"error":{"code":-32005,"message":"x"}}'):
                world = self.asking(self.answering(status, body), status_code=wanted)
                self.assertEqual(world.node.healthy, good, (status, wanted, body))

    def answering(self, status: int, body: bytes) -> Any:
        return lambda sent: sent.answer(body, status)

    def test_wrong_status(self) -> None:
        """A wrong one takes the node out like any bad poll, and the block number is not asked in vain."""
        world = self.asking(self.answering(500, b""))
        self.assertEqual(reason(world), "HTTP 500 to the custom check, which demands 200")
        world.upstream.take()
        world.pass_time(0.25)
        self.assertEqual((world.upstream.take(), world.node.health.up), ("CR", False))

    def test_huge_body(self) -> None:
        """Of a huge body nothing is read but its beginning."""
        world = self.asking(lambda sent: sent.begin(b"x" * 300_000))
        self.assertEqual((world.node.healthy, world.upstream.cancelled), (True, 1))
        world = self.asking(lambda sent: sent.begin(b"x" * 300_000, status=500))
        self.assertEqual((world.node.healthy, world.upstream.cancelled), (False, 1))

    def test_no_http(self) -> None:
        """Garbage instead of HTTP, or no connection, fails the try."""
        for fault in (Fault.GARBAGE, Fault.UNREACHABLE, Fault.DISCONNECTED):
            world = self.asking(fault)
            self.assertEqual((world.node.healthy, world.poller.outcomes[fault.value]), (False, 1))

    def test_never(self) -> None:
        """One that never answers ends with the try, and the next round comes."""
        world = self.asking(None)
        world.pass_time(1.5)
        self.assertEqual((len(world.failures), world.poller.outcomes["timed_out"]), (1, 1))
        self.assertEqual((world.upstream.take().count("R"), world.upstream.cancelled), (2, 1))

    def test_rate_limit(self) -> None:
        """A 429 that was not asked for is a rate limit."""
        world = self.asking(refusing(b"9"))
        self.assertEqual((world.node.limit.limited, world.failures), (True, []))
        self.assertGreater(world.node.limit.seconds_left(1000.0), 8)
        world = self.asking(refusing(), status_code=429)
        self.assertEqual((world.node.limit.limited, world.node.healthy), (False, True))


class PeersTests(SynchronousTestCase):
    def test_too_few(self) -> None:
        """Too few peers are bad, and asked for every time, until there are enough."""
        world = demanding(min_peers=3, answers={"net_peerCount": "0x2"})
        self.assertEqual(reason(world), "it has 2 peers, and 3 are demanded")
        self.assertEqual(world.node.peer_count, 2)
        world.pass_time(0.25)
        self.assertIs(world.node.health.up, False)
        world.upstream.answers["net_peerCount"] = "0x3"
        world.upstream.take()
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.node.healthy), ("CpNv", True))

    def test_cadence(self) -> None:
        """Otherwise they are asked every 15 s, and not once more among what is for people."""
        world = demanding(min_peers=3)
        self.assertEqual(world.upstream.take(), "CSpNv")
        world.pass_time(31)
        self.assertEqual(world.upstream.take_times("p"), [15.0, 30.0])

    def test_a_node_that_does_not_tell(self) -> None:
        """A node that does not say how many it has passes."""
        for answer in (Fault.DISCONNECTED, b'{"id":1,"error":{"code":-32601,"message":"x"}}', b"<html>", 5, refusing()):
            world = demanding(min_peers=3, answers={"net_peerCount": answer})
            self.assertEqual((world.node.healthy, world.failures), (True, []), answer)

    def test_a_node_that_keeps_silent(self) -> None:
        """One that keeps silent is waited for half of the try, once in 15 s: time is left for the head."""
        world = demanding(min_peers=3, answers={"net_peerCount": None}, start=False)
        late = world.clock.callLater
        world.upstream.answers["eth_blockNumber"] = lambda sent: late(0.25, sent.result, b'"0x64"')
        begin(world)
        world.pass_time(10)
        self.assertEqual((world.node.healthy, world.failures, world.upstream.take().count("p")), (True, [], 1))


class SpareTests(SynchronousTestCase):
    def asked(self, *checks: Check, **demands: Any) -> set[str]:
        """What is asked of a node within ten minutes."""
        demands["node"] = {"skip_checks": frozenset(checks), "check_chain_id": Check.CHAIN_ID not in checks}
        world = demanding(**demands)
        world.pass_time(600)
        self.assertTrue(world.node.healthy)
        return set(world.upstream.take())

    def test_spared(self) -> None:
        """What a node is spared is never asked, whatever else is demanded."""
        self.assertEqual(self.asked(), set("CSNvp"))
        self.assertEqual(self.asked(Check.CHAIN_ID), set("SNvp"))
        self.assertEqual(self.asked(Check.SYNCING, type=HealthCheckType.SYNCING), set("CNvp"))
        self.assertEqual(self.asked(Check.PEER_COUNT, min_peers=99), set("CSNv"))
        self.assertEqual(self.asked(Check.CLIENT_VERSION), set("CSNp"))
        self.assertEqual(self.asked(*Check), set("N"))


class TimeOutTests(SynchronousTestCase):
    def test_own_time_out(self) -> None:
        """A time-out of the health check's own bounds each try."""
        world = demanding(timeout_seconds=2.5, start=False)
        world.upstream.hangs = True
        begin(world)
        world.pass_time(2.4)
        self.assertEqual(world.failures, [])
        world.pass_time(0.2)
        self.assertEqual(reason(world), "no answer to a poll within 2.5 s")

    def test_tries(self) -> None:
        """A check that fails is tried again like any other: only the last try counts."""
        world = demanding(rpc_retries=2, min_peers=3, answers={"net_peerCount": "0x2"})
        self.assertEqual([final for _, final in world.failures], [False])
        world.upstream.answers["net_peerCount"] = "0x3"
        world.pass_time(0.25)
        self.assertEqual(([final for _, final in world.failures], world.node.suspect), ([False], False))
