"""Polling: what is asked when, what a failure means, and that a loop never ends by one.

What ``health_check`` demands is tested in ``test_examining``, which uses this module's World.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.chain import Syncing
from evmlb.config.schema import BreakerConfig, Check, HealthCheckConfig, HealthCheckType, RateLimitConfig, Role
from evmlb.errors import Fault
from evmlb.network import Network, Poll
from evmlb.polling import NodePoller, spread
from tests.support import Sent, UpstreamSpy, network_config, node_config

NAMES = {
    "eth_blockNumber": "N",
    "eth_chainId": "C",
    "eth_syncing": "S",
    "eth_getBlockByNumber": "B",
    "web3_clientVersion": "v",
    "net_peerCount": "p",
    "custom": "R",
}


class Upstream(UpstreamSpy):
    """A node that answers at once what ``answers`` says.

    None: it hangs. A fault: it fails with it. Bytes: they are the answer. A function: it is called with what was sent.
    The user's own request is asked for as ``custom``, and noted as ``R``.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.times: list[float] = []
        self.number = 100
        self.answers: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_syncing": False,
            "web3_clientVersion": "Geth/v1",
            "net_peerCount": "0x7",
            "eth_getBlockByNumber": None,
        }
        self.asked = ""
        self.cancelled = 0
        self.hangs = False

    def send(self, sink: Any, body: bytes, **rest: Any) -> None:
        super().send(sink, body, **rest)
        method = "custom" if rest else json.loads(body)["method"]
        self.asked += NAMES[method]
        self.times.append(self.clock.seconds() - 1000.0)
        answer = hex(self.number) if method == "eth_blockNumber" else self.answers[method]
        answer = self.answers.get(method, answer)
        if self.hangs or answer is None:
            return
        if isinstance(answer, Fault):
            self.last.fail(answer)
        elif callable(answer):
            answer(self.last)
        elif isinstance(answer, bytes):
            self.last.answer(answer)
        else:
            self.last.result(json.dumps(answer).encode())

    def cancel(self, sink: Any) -> None:
        super().cancel(sink)
        self.cancelled += 1

    def take(self) -> str:
        """The questions since the last call, a letter each."""
        asked, self.asked = self.asked, ""
        self.times = []
        return asked

    def take_times(self, letter: str = "N") -> list[float]:
        """When a question was asked since the last call, in seconds since the start."""
        times = [time for time, asked in zip(self.times, self.asked, strict=True) if asked == letter]
        self.times, self.asked = [], ""
        return times


class World:
    """One poller on a clock. ``node``: settings of its node, the first of ``network.nodes``.

    With ``rival`` there is a local node ``b`` too, which nobody polls: see :meth:`keep_rival`.
    """

    def __init__(
        self,
        *,
        role: Role = Role.LOCAL,
        load: Any = None,
        start: bool = True,
        rival: bool = False,
        node: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        nodes = [node_config(role=role, **(node or {}))] + [node_config("b")] * rival
        self.network = Network(network_config(*nodes, **config), 1000.0, random.Random(1))
        self.node = self.network.nodes[0]
        self.upstream = Upstream(self.clock)
        self.events: list[Any] = []
        self.failures: list[tuple[str, bool]] = []
        self.polls: list[Any] = []
        self._spy()
        self.poller = NodePoller(
            self.clock,
            self.network,
            self.node,
            self.upstream,
            self.events.extend,
            self.clock.seconds,
            lambda: 1_700_000_000.0,
            load,
        )
        if start:
            self.poller.start(0.0)
            self.clock.advance(0.0)

    def _spy(self) -> None:
        fail, poll = self.network.observe_poll_failure, self.network.observe_poll

        def failing(node: Any, reason: str, now: float, *, final: bool) -> Any:
            if node is self.node:
                self.failures.append((reason, final))
            return fail(node, reason, now, final=final)

        def polled(node: Any, told: Any, now: float) -> Any:
            if node is self.node:
                self.polls.append(told)
            return poll(node, told, now)

        self.network.observe_poll_failure = failing  # type: ignore[method-assign]
        self.network.observe_poll = polled  # type: ignore[method-assign]

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([1 / 16] * round(seconds * 16))  # a step without rounding errors

    def keep_rival(self, number: int = 100) -> None:
        """The other node was just polled and is well."""
        now = self.clock.seconds()
        poll = Poll(number=number, latency_seconds=0.01, started_at=now, chain_id=1)
        self.network.observe_poll(self.network.nodes[1], poll, now)

    def lose_rival(self) -> None:
        """The other node is down."""
        for _ in range(2):
            self.network.observe_poll_failure(self.network.nodes[1], "x", self.clock.seconds(), final=True)


class RoundTests(SynchronousTestCase):
    def test_first_round(self) -> None:
        """The chain id is asked before any head, syncing too, and what is for people last."""
        world = World()
        self.assertEqual(world.upstream.take(), "CSNvp")
        self.assertEqual((world.node.head, world.node.chain_id), (100, 1))
        self.assertEqual((world.node.client_version, world.node.peer_count), ("Geth/v1", 7))
        self.assertTrue(world.network.started)
        self.assertEqual(world.poller.outcomes, {"ok": 1})

    def test_cadence(self) -> None:
        """The block number is asked in every interval, syncing every 15 s, chain id each minute, details every 300."""
        world = World()
        world.upstream.take()
        world.pass_time(14.5)
        self.assertEqual(world.upstream.take(), "N" * 14)
        world.pass_time(1)
        self.assertEqual(world.upstream.take(), "SN")
        world.pass_time(285)
        self.assertEqual(world.upstream.take().replace("N", "").count("S"), 19)
        world.upstream.asked = ""
        world.pass_time(300)
        asked = world.upstream.take()
        self.assertEqual((asked.count("N"), asked.count("C"), asked.count("v"), asked.count("p")), (300, 5, 1, 1))

    def test_out_for_its_chain(self) -> None:
        """A node that is out for its chain id is asked for it every 15 s, as it may have been repaired."""
        world = World(chain_id=5)
        world.upstream.take()
        world.pass_time(60)
        self.assertEqual(world.upstream.take().count("C"), 4)
        world.upstream.answers["eth_chainId"] = "0x5"
        world.pass_time(15)
        self.assertTrue(world.node.reachable)

    def test_checkpoint(self) -> None:
        """Every 15 s the hash of a block is asked for, beside the loop, where there is another node to compare with."""
        block = {"hash": "0x" + "7" * 64, "number": "0x54"}
        for rival, skips, asked in ((True, set(), 4), (False, set(), 0), (True, {Check.BLOCK_HASH}, 0)):
            world = World(rival=rival, start=False, node={"skip_checks": frozenset(skips)})
            world.upstream.answers["eth_getBlockByNumber"] = block
            compared: list[Any] = []
            world.network.observe_checkpoint = lambda *told, to=compared: to.append(told[1:3]) or ()  # type: ignore
            world.poller.start(0.0)
            world.pass_time(55)
            self.assertEqual(compared, [(84, block["hash"])] * asked)

    def test_no_such_block(self) -> None:
        """A node that does not have the block, or answers nonsense, is not compared; one that hangs delays no poll."""
        for answer in (None, Fault.RPC_ERROR, b"null", {}, {"hash": 5}, {"hash": "0x1"}, "0x1", []):
            world = World(rival=True, start=False)
            world.upstream.answers["eth_getBlockByNumber"] = answer
            world.network.observe_checkpoint = self.fail  # type: ignore[method-assign, assignment]
            world.poller.start(0.0)
            world.pass_time(10.5)
            self.assertEqual(world.poller.outcomes["ok"], 11, answer)

    def test_interval_of_the_role(self) -> None:
        """Monitoring and fallback nodes have their own interval."""
        for role in (Role.MONITORING, Role.FALLBACK):
            world = World(role=role, monitoring_poll_interval_seconds=4.0)
            world.upstream.take()
            world.pass_time(9)
            self.assertEqual(world.upstream.take(), "NN")

    def test_chain_id_skipped(self) -> None:
        """A node may be excused from telling its chain id."""
        world = World(node={"check_chain_id": False})
        world.pass_time(301)
        self.assertNotIn("C", world.upstream.take())
        self.assertEqual(world.node.head, 100)

    def test_chain_id_after_an_outage(self) -> None:
        """After an outage it is asked again: another node may have come back."""
        world = World(rpc_retries=1)
        world.upstream.answers["eth_blockNumber"] = Fault.UNREACHABLE
        world.pass_time(3)
        self.assertFalse(world.node.healthy)
        del world.upstream.answers["eth_blockNumber"]
        world.upstream.answers["eth_chainId"] = "0x5"
        world.upstream.take()
        world.pass_time(1)
        self.assertEqual((world.upstream.take()[:1], world.node.chain_id), ("C", 5))

    def test_chain_id_after_a_restart(self) -> None:
        """A lost connection or a head that falls may be a restart on another chain: it is asked before it counts."""
        world = World()
        world.upstream.answers["eth_chainId"] = "0x5"
        world.upstream.take()
        world.pass_time(1)
        self.assertNotIn("C", world.upstream.take())
        world.upstream.losses += 1
        world.pass_time(1)
        self.assertEqual((world.upstream.take()[:1], world.node.chain_id), ("C", 5))
        world.upstream.number -= 1
        world.pass_time(2)
        self.assertEqual(world.upstream.take().count("C"), 1)

    def test_latency(self) -> None:
        """Latency is that of the block number alone, on a connection that is warm by then."""
        world = World(start=False)
        world.upstream.hangs = True
        world.poller.start(0.0)
        world.clock.advance(0)
        for _ in range(3):
            world.clock.advance(0.25)
            sent = world.upstream.last
            method = json.loads(sent.body)["method"]
            sent.result(b'"0x1"' if method != "eth_syncing" else b"false")
        self.assertEqual((world.polls[0].latency_seconds, world.polls[0].started_at), (0.25, 1000.5))

    def test_syncing(self) -> None:
        """While a node says that it is syncing it is asked every time."""
        world = World()
        world.upstream.answers["eth_syncing"] = {"currentBlock": "0x1", "highestBlock": "0x11"}
        world.pass_time(15.5)
        self.assertEqual(world.node.syncing, Syncing(16))
        world.upstream.take()
        world.pass_time(3)
        self.assertEqual(world.upstream.take(), "SNSNSN")
        world.upstream.answers["eth_syncing"] = False
        world.pass_time(3)
        self.assertEqual((world.node.syncing, world.upstream.take()), (None, "SNNN"))

    def test_syncing_unsupported(self) -> None:
        """A node that does not answer ``eth_syncing`` counts as done."""
        world = World(start=False)
        world.upstream.answers["eth_syncing"] = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}'
        world.poller.start(0.0)
        world.clock.advance(0)
        self.assertEqual((world.node.syncing, world.node.head), (None, 100))

    def test_syncing_told_in_a_try_that_fails(self) -> None:
        """What a node said of its syncing in a try that then failed is not forgotten."""
        world = World(start=False, rpc_retries=2)
        world.upstream.answers["eth_syncing"] = {"currentBlock": "0x1", "highestBlock": "0x1001"}
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.poller.start(0.0)
        world.clock.advance(0)
        del world.upstream.answers["eth_blockNumber"]
        world.upstream.answers["eth_syncing"] = Fault.DISCONNECTED
        world.pass_time(0.3)
        self.assertEqual(world.polls, [])
        world.upstream.answers["eth_syncing"] = {"currentBlock": "0x1", "highestBlock": "0x1001"}
        world.pass_time(1)
        self.assertEqual(world.node.syncing, Syncing(4096))

    def test_far_node(self) -> None:
        """A node too far away for all questions in one try gets through in the next: nothing is asked twice."""
        world = World(start=False, rpc_retries=2)
        world.upstream.hangs = True
        world.poller.start(0.0)
        world.clock.advance(0.0)
        for result in (b'"0x1"', b"false"):
            world.clock.advance(0.45)
            world.upstream.last.result(result)
        world.pass_time(0.5)
        self.assertEqual((world.upstream.take(), [final for _, final in world.failures]), ("CSNN", [False]))
        world.clock.advance(0.45)
        world.upstream.last.result(b'"0x64"')
        self.assertEqual((world.node.head, world.node.chain_id), (100, 1))

    def test_confirmation(self) -> None:
        """A doubted head is asked for by number, and its hash and time are told with the poll."""
        world = World()
        self.patch(world.network, "wants_confirmation", lambda node: 0x500)
        world.upstream.answers["eth_getBlockByNumber"] = {"hash": "0xab", "timestamp": "0x10", "transactions": []}
        world.upstream.take()
        world.pass_time(1)
        self.assertEqual(world.upstream.take(), "NB")
        asked = [json.loads(sent.body) for sent in world.upstream.sent]
        self.assertIn(["0x500", False], [call["params"] for call in asked])
        poll = world.polls[-1]
        self.assertEqual((poll.block_hash, poll.block_timestamp, poll.unix_time), ("0xab", 16, 1_700_000_000.0))

    def test_confirmation_hangs(self) -> None:
        """A node that does not answer about the block has been polled all the same: the head is not lost for it."""
        world = World()
        self.patch(world.network, "wants_confirmation", lambda node: 0x500)
        world.upstream.answers["eth_getBlockByNumber"] = None
        world.pass_time(2)
        self.assertEqual((world.failures, world.polls[-1].number), ([], 100))

    def test_no_confirmation(self) -> None:
        """A node that cannot show the block has been polled all the same."""
        for answer in (b'{"id":1,"result":null}', b'{"id":1,"result":{"hash":1}}', Fault.DISCONNECTED, b"<html>"):
            world = World()
            self.patch(world.network, "wants_confirmation", lambda node: 0x500)
            world.upstream.answers["eth_getBlockByNumber"] = answer
            world.pass_time(1)
            poll = world.polls[-1]
            self.assertEqual((len(world.polls), poll.block_hash, poll.unix_time), (2, None, None))


class FailureTests(SynchronousTestCase):
    def test_loop_survives(self) -> None:
        """Polls that fail, in whatever way, are followed by the next one."""
        world = World(rpc_retries=1, local_poll_interval_seconds=0.25)
        for answer in (
            Fault.UNREACHABLE,
            Fault.GARBAGE,
            b"<html>",
            b"[]",
            b"{}",
            b'{"id":1,"result":null}',
            b'{"id":1,"result":"0x"}',
            b'{"id":1,"result":5}',
            b'{"id":2,"result":"0x64"}',
            b'{"id":1,"error":{"code":-32000,"message":"x"}}',
            b'{"id":1,"error":"text"}',
            b"\xff",
            b"[" * 5000,
        ):
            world.upstream.answers["eth_blockNumber"] = answer
            before = len(world.failures)
            world.pass_time(0.25)
            self.assertEqual(len(world.failures), before + 1, answer)
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(2)
        self.assertTrue(world.node.healthy)

    def test_loop_survives_our_own_mistakes(self) -> None:
        """So is one in which we went wrong ourselves, which is logged."""
        world = World()
        observe = world.network.observe_poll
        self.patch(world.network, "observe_poll", lambda *args: 1 / 0)
        world.pass_time(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        world.network.observe_poll = observe  # type: ignore[method-assign]
        polls = len(world.polls)
        world.pass_time(1)
        self.assertEqual(len(world.polls), polls + 1)

    def test_first_failed_try(self) -> None:
        """The first failed try makes the node suspect; only when all have failed does it count."""
        world = World(rpc_retries=3)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.pass_time(1)
        self.assertEqual([final for _, final in world.failures], [False])
        self.assertTrue(world.node.suspect)
        self.assertTrue(world.node.healthy)
        world.pass_time(0.55)
        self.assertEqual([final for _, final in world.failures], [False, False, True])
        world.pass_time(2)
        self.assertFalse(world.node.healthy)

    def test_second_try(self) -> None:
        """A second try that succeeds ends the suspicion."""
        world = World(rpc_retries=2)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.pass_time(1)
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(0.3)
        self.assertEqual((world.node.suspect, [final for _, final in world.failures]), (False, [False]))
        self.assertEqual(world.poller.outcomes, {"ok": 2, "disconnected": 1})

    def test_time_out(self) -> None:
        """A try ends after a second, or after the interval or ``rpc_timeout``, and is cancelled."""
        for config, seconds in (
            ({}, 1.0),
            ({"local_poll_interval_seconds": 0.25}, 1.0),
            ({"local_poll_interval_seconds": 3.0}, 3.0),
            ({"local_poll_interval_seconds": 30.0, "rpc_timeout_seconds": 2.0}, 2.0),
        ):
            world = World(start=False, **config)
            world.upstream.hangs = True
            world.poller.start(0.0)
            world.pass_time(seconds - 0.1)
            self.assertEqual((world.failures, world.upstream.cancelled), ([], 0))
            world.pass_time(0.2)
            self.assertEqual((len(world.failures), world.upstream.cancelled), (1, 1), config)
            self.assertEqual(world.poller.outcomes["timed_out"], 1)

    def test_no_overlap(self) -> None:
        """Rounds do not overlap, however long they take."""
        world = World(local_poll_interval_seconds=0.25, rpc_retries=1)
        world.upstream.hangs = True
        world.upstream.take()
        world.pass_time(5)
        self.assertLessEqual(len(world.upstream.take()), 6)
        self.assertLessEqual(len(world.upstream.sent) - world.upstream.cancelled, 6)

    def test_details_that_hang(self) -> None:
        """What is asked for people holds up no poll."""
        world = World(start=False)
        world.upstream.answers["web3_clientVersion"] = None
        world.upstream.answers["net_peerCount"] = None
        world.poller.start(0.0)
        world.pass_time(4.1)
        self.assertEqual(world.upstream.take().count("N"), 5)
        self.assertEqual((world.node.healthy, world.node.client_version), (True, None))


class LoadTests(SynchronousTestCase):
    def make(self, fetch: Any) -> World:
        class Source:
            def fetch(self) -> Deferred[float]:
                result: Deferred[float] = fetch()
                return result

        return World(load=Source())

    def test_load(self) -> None:
        """The load is fetched every 5 s."""
        fetched: list[int] = []

        def fetch() -> Deferred[float]:
            fetched.append(1)
            return succeed(0.5)

        world = self.make(fetch)
        self.assertEqual(world.node.load, 0.5)
        world.pass_time(11)
        self.assertEqual(len(fetched), 3)

    def test_hanging_exporter(self) -> None:
        """An exporter that hangs stops no poll; its fetch is cancelled, and the load is unknown."""
        cancelled: list[Any] = []
        world = self.make(lambda: Deferred(cancelled.append))
        world.pass_time(4.5)
        self.assertEqual(world.upstream.take().count("N"), 5)
        self.assertEqual((world.node.load, len(cancelled), world.poller.outcomes["load_error"]), (None, 1, 1))

    def test_failing_exporter(self) -> None:
        """One that fails, at once or later, is asked again."""
        world = self.make(lambda: 1 / 0)
        world.pass_time(5.1)
        self.assertEqual(world.poller.outcomes["load_error"], 2)
        self.assertTrue(world.node.healthy)


class StopTests(SynchronousTestCase):
    def test_stop(self) -> None:
        """Stopping cancels what is under way, and nothing ticks any more."""
        cancelled: list[Any] = []

        class Source:
            def fetch(self) -> Deferred[float]:
                return Deferred(cancelled.append)

        world = World(load=Source(), start=False)
        world.upstream.answers["web3_clientVersion"] = None
        world.poller.start(0.0)
        world.clock.advance(0.0)
        world.upstream.hangs = True
        world.clock.advance(1.0)
        events = len(world.events)
        world.poller.stop()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(world.clock.getDelayedCalls(), [])
        self.assertEqual((len(world.events), world.failures), (events, []))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stop_during_a_fetch(self) -> None:
        """A fetch of the load that is under way is given up, and tells nothing."""
        cancelled: list[Any] = []

        class Source:
            def fetch(self) -> Deferred[float]:
                return Deferred(cancelled.append)

        world = World(load=Source())
        world.node.load = 0.5
        world.poller.stop()
        self.assertEqual((len(cancelled), world.clock.getDelayedCalls(), world.node.load), (1, [], 0.5))
        self.assertEqual(world.poller.outcomes["load_error"], 0)

    def test_stop_before_the_start(self) -> None:
        """One that has not begun does not begin."""
        world = World(start=False)
        world.poller.start(0.5)
        world.poller.stop()
        world.pass_time(2)
        self.assertEqual((world.upstream.take(), world.clock.getDelayedCalls()), ("", []))

    def test_spread(self) -> None:
        """The first node of a network is polled at once, the others spread over the interval, at most a second."""
        worlds = [World(start=False) for _ in range(4)]
        spread([world.poller for world in worlds])
        for world in worlds:
            world.clock.advance(0.0)
        self.assertEqual([bool(world.upstream.sent) for world in worlds], [True, False, False, False])
        started = []
        for world in worlds[1:]:
            [call] = world.clock.getDelayedCalls()
            started.append(call.getTime() - 1000.0)
        self.assertEqual(started, [0.25, 0.5, 0.75])


class CadenceTests(SynchronousTestCase):
    def test_fast_after_a_failure(self) -> None:
        """After a round that failed the next comes after a quarter of the interval, until one is good."""
        world = World(rpc_retries=1)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.upstream.take()
        world.pass_time(1.8)
        self.assertEqual(world.upstream.take_times(), [1.0, 1.25, 1.5, 1.75])
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(2.2)
        self.assertEqual(world.upstream.take_times(), [2.0, 3.0, 4.0])

    def test_fast_although_requests_succeed(self) -> None:
        """That requests still succeed changes nothing in it."""
        world = World(rpc_retries=1)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.pass_time(1)
        world.network.record_success(world.node, 1001.0)
        self.assertFalse(world.node.suspect)
        world.upstream.take()
        world.pass_time(0.25)
        self.assertEqual(world.upstream.take_times(), [1.25])

    def test_fast_when_requests_fail(self) -> None:
        """A node that became suspect by a request is asked soon: a good answer, and all is as before."""
        world = World(node={"poll_interval_seconds": 4.0})
        world.upstream.take()
        world.pass_time(0.5)
        world.network.record_failure(world.node, "x", 1000.5, proven=False)
        world.pass_time(9)
        self.assertEqual(world.upstream.take_times(), [1.0, 5.0, 9.0])

    def test_fast_while_ejected(self) -> None:
        """So is one that requests ejected, as long as it is."""
        world = World(rival=True)
        world.keep_rival()
        for _ in range(2):
            world.network.record_failure(world.node, "x", 1000.0, proven=True)
        self.assertTrue(world.node.ejected)
        world.upstream.take()
        world.pass_time(1)
        self.assertEqual(world.upstream.take_times(), [0.25, 0.5, 0.75, 1.0])

    def test_fastest(self) -> None:
        """Fast is a quarter of the interval, or as small a part as gives 0.25 s, or the whole where that is shorter."""
        for interval, gap in ((0.125, 0.125), (0.25, 0.25), (0.75, 0.25), (1.5, 0.375), (5.0, 1.25), (60.0, 15.0)):
            world = World(rpc_retries=1, node={"poll_interval_seconds": interval}, start=False)
            world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
            world.poller.start(0.0)
            world.clock.advance(0.0)
            world.pass_time(2 * gap)
            self.assertEqual(world.upstream.take_times(), [0.0, gap, 2 * gap], interval)

    def test_own_interval(self) -> None:
        """A node's own interval overrides its role's."""
        world = World(node={"poll_interval_seconds": 3.0})
        self.assertEqual(world.poller.interval_seconds, 3.0)
        world.upstream.take()
        world.pass_time(9)
        self.assertEqual(world.upstream.take_times(), [3.0, 6.0, 9.0])

    def test_no_drift(self) -> None:
        """Rounds stay on their grid, however long each takes; none is left out."""
        world = World(start=False)
        late = world.clock.callLater
        world.upstream.answers["eth_blockNumber"] = lambda sent: late(0.625, sent.result, b'"0x64"')
        world.poller.start(0.0)
        world.clock.advance(0.0)
        world.pass_time(3.5)
        self.assertEqual(world.upstream.take_times(), [0.0, 1.0, 2.0, 3.0])

    def test_late_timers(self) -> None:
        """A timer that was late once delays no round but that one."""
        world = World()
        world.upstream.take()
        for step in (1.05, 0.95, 1.0):
            world.clock.advance(step)
        self.assertEqual([round(time, 2) for time in world.upstream.take_times()], [1.05, 2.0, 3.0])

    def test_stall(self) -> None:
        """A process that stood still makes up for no rounds."""
        world = World()
        world.upstream.take()
        world.clock.advance(20.3)
        self.assertEqual(len(world.upstream.take_times()), 1)
        world.pass_time(1)
        self.assertEqual(len(world.upstream.take_times()), 1)

    def test_pushing(self) -> None:
        """A node that pushes its heads is polled half as often, and as before when it stops pushing."""
        world = World(block_time_seconds=2.0)
        world.upstream.take()
        for _ in range(8):
            world.network.observe_push(world.node, 100, world.clock.seconds())
            world.pass_time(1)
        self.assertLessEqual(len(world.upstream.take_times()), 5)
        self.assertTrue(world.node.healthy)
        world.pass_time(6)
        world.upstream.take()
        world.pass_time(4)
        self.assertEqual(len(world.upstream.take_times()), 4)

    def test_metered(self) -> None:
        """A metered node that is not needed is asked ever more seldom, at last once in 12 intervals."""
        world = self.metered()
        self.assertEqual(self.rounds(world, 200.0), [0.0, 10.0, 30.0, 70.0, 130.0, 190.0])
        self.assertEqual(world.node.poll_gap_seconds, 60.0)

    def test_metered_keeps_its_standing(self) -> None:
        """The pause makes it neither stale nor less usable."""
        world = self.metered()
        self.rounds(world, 129.0)
        self.assertEqual((world.node.healthy, world.node.reachable), (True, True))
        world.lose_rival()
        self.assertEqual(world.network.order.serving, (world.node,))

    def test_metered_and_needed(self) -> None:
        """As soon as it is needed it is asked at its interval, at once if the last round is so long ago."""
        world = self.metered()
        self.rounds(world, 100.0)
        world.lose_rival()
        self.assertIn(world.node, world.network.order.serving)
        world.pass_time(15)
        self.assertEqual(world.upstream.take_times(), [100.625, 105.625, 110.625])
        self.assertEqual(world.node.poll_gap_seconds, 5.0)

    def test_metered_and_no_longer_needed(self) -> None:
        """Its pauses grow from the beginning again."""
        world = self.metered()
        self.rounds(world, 100.0)
        world.lose_rival()
        world.pass_time(2)
        world.keep_rival()
        world.keep_rival()
        self.assertNotIn(world.node, world.network.order.serving)
        self.assertEqual(self.rounds(world, 40.0), [100.625, 105.625, 115.625, 135.625])

    def test_metered_and_suspect(self) -> None:
        """A suspicion ends the pause as well."""
        world = self.metered()
        self.rounds(world, 100.0)
        world.network.record_failure(world.node, "x", 1100.0, proven=False)
        self.assertEqual(self.rounds(world, 20.0), [100.625, 110.625])

    def test_metered_and_failing(self) -> None:
        """One that fails is asked fast; its observation lasts as long as was promised until the polls decide."""
        world = self.metered(rpc_retries=1)
        self.rounds(world, 129.0)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        self.assertEqual(self.rounds(world, 1.5), [130.0])
        self.assertTrue(world.node.healthy)
        self.assertEqual(self.rounds(world, 2.5), [131.25, 132.5])
        self.assertFalse(world.node.healthy)
        del world.upstream.answers["eth_blockNumber"]
        self.assertEqual(self.rounds(world, 10.0), [133.75, 138.75])
        self.assertTrue(world.node.healthy)

    def test_metered_alone(self) -> None:
        """A metered node that serves is asked like any other."""
        world = World(node={"metered": True})
        world.upstream.take()
        world.pass_time(3)
        self.assertEqual(world.upstream.take_times(), [1.0, 2.0, 3.0])

    def metered(self, **config: Any) -> World:
        """A metered fallback node, polled every 5 s, and a local one that serves."""
        world = World(role=Role.FALLBACK, rival=True, start=False, node={"metered": True}, **config)
        world.keep_rival()
        world.poller.start(0.0)
        world.clock.advance(0.0)
        return world

    def rounds(self, world: World, seconds: float) -> list[float]:
        """When the node was asked within the next seconds, while the other one stays well."""
        for _ in range(round(seconds * 2)):
            world.keep_rival()
            world.network.expire(world.clock.seconds())
            world.pass_time(0.5)
        return world.upstream.take_times()


LIMITED = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"daily request count exceeded"}}'


def refusing(retry_after: bytes = b"", status: int = 429) -> Callable[[Sent], None]:
    """A node that is asked too often, and may say for how long."""
    headers = ((b"retry-after", retry_after),) if retry_after else ()
    return lambda sent: sent.answer(b"slow down", status, headers)


class RateLimitTests(SynchronousTestCase):
    def limited(self, answer: Any, **config: Any) -> World:
        """A healthy node that answers its second poll by a rate limit."""
        world = World(**config)
        world.upstream.answers["eth_blockNumber"] = answer
        world.pass_time(1)
        world.upstream.take()
        return world

    def test_limited_is_not_unhealthy(self) -> None:
        """A rate limit, in a status or in JSON-RPC, is no failure, and is not tried again in the same round."""
        for answer in (refusing(), LIMITED, LIMITED.replace(b"-32005", b"429")):
            world = self.limited(answer, rpc_retries=3)
            self.assertTrue(world.node.limit.limited)
            self.assertEqual((world.node.suspect, world.node.healthy, world.failures), (False, True, []))
            self.assertEqual(world.poller.outcomes, {"ok": 1, "rate_limited": 1})
            world.pass_time(0.9)
            self.assertEqual(world.upstream.take(), "")

    def test_limited_from_the_first(self) -> None:
        """So it is where the first question is answered that way, whichever it is."""
        world = World(start=False)
        world.upstream.answers["eth_chainId"] = refusing(b"9")
        world.poller.start(0.0)
        world.pass_time(8.9)
        self.assertEqual((world.upstream.take(), world.node.limit.limited), ("C", True))

    def test_chain_id_of_a_round_that_was_limited(self) -> None:
        """What was said before the limit may be long ago: it is not said again with the probe."""
        world = World(start=False)
        world.upstream.answers["eth_blockNumber"] = refusing()
        world.poller.start(0.0)
        world.clock.advance(0.0)
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.polls[-1].chain_id), ("CSNN", None))
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.polls[-1].chain_id), ("CNvp", 1))

    def test_limited_by_requests(self) -> None:
        """A node that clients' requests found limited is not polled either."""
        world = World()
        world.network.record_limited(world.node, 30.0, 1000.0)
        world.upstream.take()
        world.pass_time(29)
        self.assertEqual(world.upstream.take(), "")

    def test_probe(self) -> None:
        """What is asked then is the block number alone; with a good answer everything goes on."""
        world = self.limited(refusing())
        world.upstream.answers["eth_chainId"] = "0x5"
        world.node.chain_id_wanted = True
        del world.upstream.answers["eth_blockNumber"]
        world.upstream.number = 107
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.node.limit.limited), ("N", False))
        self.assertEqual((world.node.head, world.node.chain_id), (107, 1))
        world.pass_time(1)
        self.assertEqual(world.upstream.take(), "CN")

    def test_head_before_the_limit_is_lifted(self) -> None:
        """A node is never let in with the head that it had when it was held off."""
        world = self.limited(refusing())
        order: list[str] = []
        for name in ("observe_poll", "observe_probe"):
            self.patch(world.network, name, self.noting(order, name, getattr(world.network, name)))
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(1)
        self.assertEqual(order, ["observe_poll", "observe_probe"])

    def noting(self, order: list[str], name: str, function: Any) -> Any:
        def noted(*args: Any) -> Any:
            order.append(name)
            return function(*args)

        return noted

    def test_several_probes(self) -> None:
        """Where several good probes are demanded, nothing else is asked until the last of them."""
        world = World(start=False, rate_limit=RateLimitConfig(required_successes=3))
        world.network.record_limited(world.node, None, 1000.0)
        world.poller.start(0.0)
        world.pass_time(2.5)
        self.assertEqual((world.upstream.take(), world.node.limit.limited), ("NN", True))
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.node.limit.limited), ("N", False))

    def test_probe_in_vain(self) -> None:
        """Each probe in vain waits longer; it is not polled in between, nor is its health touched."""
        world = self.limited(LIMITED)
        world.pass_time(20)
        times = world.upstream.take_times()
        gaps = [later - earlier for earlier, later in zip([1.0, *times], times, strict=False)]
        self.assertEqual(gaps, [1.0, 1.0, 2.0, 4.0, 8.0])
        self.assertEqual((world.node.healthy, world.failures), (True, []))

    def test_retry_after(self) -> None:
        """The node's own Retry-After, in seconds or as a date, says when it is asked again."""
        for value, seconds in ((b"7", 7.0), (b"Tue, 14 Nov 2023 22:13:25 GMT", 5.0), (b"0", 0.25)):
            world = self.limited(refusing(value))
            world.pass_time(seconds)
            self.assertEqual(world.upstream.take_times(), [1.0 + seconds], value)

    def test_retry_after_of_a_probe(self) -> None:
        """So does that of a refused probe."""
        world = self.limited(refusing(b"2"))
        world.upstream.answers["eth_blockNumber"] = refusing(b"6")
        world.pass_time(9)
        self.assertEqual(world.upstream.take_times(), [3.0, 9.0])

    def test_retry_after_of_a_year(self) -> None:
        """A year is as long as is allowed at most."""
        for value in (b"31536000", b"Wed, 13 Nov 2024 22:13:20 GMT"):
            world = self.limited(refusing(value), rate_limit=RateLimitConfig(max_retry_after_seconds=5.0))
            world.pass_time(5)
            self.assertEqual(world.upstream.take_times(), [6.0], value)

    def test_retry_after_of_rubbish(self) -> None:
        """Rubbish is as good as nothing: the first wait is the configured one."""
        config = RateLimitConfig(initial_backoff_seconds=3.0)
        for value in (b"soon", b"-5", b"1e9", b"nan", b"\xff\x00", b"9" * 5000, b"Tue, 99 Nov 2023", b"0x10"):
            world = self.limited(refusing(value), rate_limit=config)
            world.pass_time(3)
            self.assertEqual(world.upstream.take_times(), [4.0], value)
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_probe_that_fails(self) -> None:
        """A probe that ends in another way is in vain too, and a bad poll besides."""
        world = self.limited(refusing())
        world.upstream.answers["eth_blockNumber"] = Fault.UNREACHABLE
        world.pass_time(2.5)
        self.assertEqual((world.node.limit.limited, world.node.healthy), (True, False))
        self.assertEqual([final for _, final in world.failures], [True, True])

    def test_probe_that_hangs(self) -> None:
        """One that hangs ends by its time-out, and another follows."""
        world = self.limited(refusing())
        world.upstream.hangs = True
        world.pass_time(2.25)
        self.assertEqual((world.upstream.cancelled, len(world.failures)), (1, 1))
        world.upstream.hangs = False
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(2)
        self.assertFalse(world.node.limit.limited)

    def test_stop_during_a_probe(self) -> None:
        """A probe that is under way when polling stops is given up, and tells nothing."""
        world = self.limited(refusing())
        world.upstream.hangs = True
        world.pass_time(1)
        self.assertEqual((world.upstream.take(), world.upstream.cancelled), ("N", 0))
        events, outcomes = len(world.events), dict(world.poller.outcomes)
        world.poller.stop()
        world.upstream.last.result()
        self.assertEqual((world.upstream.cancelled, world.clock.getDelayedCalls()), (1, []))
        self.assertEqual((len(world.events), world.poller.outcomes, world.failures), (events, outcomes, []))
        self.assertTrue(world.node.limit.limited)
        self.assertEqual(self.flushLoggedErrors(), [])


class BreakerTests(SynchronousTestCase):
    def combined(self, answer: Any, **check: Any) -> World:
        """A node beside another one, whose polls count for the breaker, and that answers so from now on."""
        demands = HealthCheckConfig(combined_with_circuit_breaker=True, failure_threshold=100, **check)
        breaker = BreakerConfig(max_consecutive_failures=3, timeout_seconds=4.0)
        world = World(rival=True, rpc_retries=2, health_check=demands, circuit_breaker=breaker)
        world.keep_rival()
        world.upstream.answers["eth_blockNumber"] = answer
        return world

    def test_failed_rounds_open_it(self) -> None:
        """Failed rounds, not failed tries, count like failed requests."""
        world = self.combined(Fault.DISCONNECTED)
        world.pass_time(1.25)
        self.assertEqual((len(world.failures), world.node.breaker.failing), (2, True))
        world.pass_time(0.5)
        self.assertFalse(world.node.ejected)
        world.pass_time(0.5)
        self.assertTrue(world.node.ejected)

    def test_a_good_poll_resets_it(self) -> None:
        """A good poll is a success."""
        world = self.combined(Fault.DISCONNECTED)
        world.pass_time(1.8)
        self.assertTrue(world.node.breaker.failing)
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(0.7)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.pass_time(1.4)
        self.assertEqual((sum(final for _, final in world.failures), world.node.ejected), (4, False))

    def test_polls_are_its_trials(self) -> None:
        """While it is open polls change nothing; when it is due, the next one is its trial."""
        world = self.combined(Fault.DISCONNECTED)
        world.pass_time(2.5)
        self.assertTrue(world.node.ejected)
        del world.upstream.answers["eth_blockNumber"]
        world.pass_time(2.5)
        self.assertTrue(world.node.ejected)
        world.pass_time(2.5)
        self.assertFalse(world.node.ejected)

    def test_a_failed_trial(self) -> None:
        """A trial that fails leaves it open for longer."""
        world = self.combined(Fault.DISCONNECTED)
        world.pass_time(2.5)
        opened = world.node.breaker.due_in_seconds(world.clock.seconds())
        world.pass_time(5)
        longer = world.node.breaker.due_in_seconds(world.clock.seconds())
        self.assertLess(opened or 0.0, 4.8)
        self.assertGreater(longer or 0.0, 4.8)

    def test_not_as_demanded(self) -> None:
        """An answer that is not as demanded is bad for the health, and a success for the breaker."""
        world = self.combined(Fault.DISCONNECTED, type=HealthCheckType.SYNCING)
        world.pass_time(1.8)
        self.assertTrue(world.node.breaker.failing)
        del world.upstream.answers["eth_blockNumber"]
        world.upstream.answers["eth_syncing"] = True
        world.pass_time(0.5)
        self.assertEqual((world.poller.outcomes["check_failed"], world.node.suspect), (2, True))
        world.upstream.answers["eth_syncing"] = Fault.DISCONNECTED
        world.pass_time(1)
        self.assertEqual((sum(final for _, final in world.failures), world.node.ejected), (5, False))

    def test_a_limit(self) -> None:
        """A rate limit is neither."""
        world = self.combined(refusing())
        world.pass_time(3)
        self.assertEqual((world.node.limit.limited, world.node.breaker.failing), (True, False))

    def test_not_combined(self) -> None:
        """Otherwise polls leave the breaker alone, whether they fail or not."""
        world = World(rival=True, rpc_retries=1)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        world.pass_time(5)
        self.assertEqual((world.node.healthy, world.node.breaker.failing), (False, False))
        world = World(rival=True)
        world.network.record_failure(world.node, "x", 1000.0, proven=True)
        world.pass_time(1)
        world.network.record_failure(world.node, "x", 1001.0, proven=True)
        self.assertTrue(world.node.ejected)


class ThresholdTests(SynchronousTestCase):
    def test_thresholds(self) -> None:
        """So many bad polls in a row take a node out, so many good ones bring it back."""
        demands = HealthCheckConfig(failure_threshold=3, success_threshold=4)
        world = World(rpc_retries=1, local_poll_interval_seconds=0.25, health_check=demands)
        world.upstream.answers["eth_blockNumber"] = Fault.DISCONNECTED
        healthy = []
        for _ in range(4):
            world.pass_time(0.25)
            healthy.append(world.node.healthy)
        del world.upstream.answers["eth_blockNumber"]
        for _ in range(4):
            world.pass_time(0.25)
            healthy.append(world.node.healthy)
        self.assertEqual(healthy, [True, True, False, False, False, False, False, True])
