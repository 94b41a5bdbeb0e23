"""Polling: what is asked when, what a failure means, and that a loop never ends by one."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.chain import Syncing
from evmlb.config.schema import Role
from evmlb.errors import Fault
from evmlb.network import Network
from evmlb.polling import MAX_ANSWER_BYTES, AskFailed, NodePoller, ask, spread
from tests.support import FakeHead, Sent, UpstreamSpy, network_config, node_config

NAMES = {
    "eth_blockNumber": "N",
    "eth_chainId": "C",
    "eth_syncing": "S",
    "eth_getBlockByNumber": "B",
    "web3_clientVersion": "v",
    "net_peerCount": "p",
}


class Upstream(UpstreamSpy):
    """A node that answers at once what ``answers`` says; None: it hangs; an exception's fault: it fails."""

    def __init__(self) -> None:
        super().__init__()
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
        method = json.loads(body)["method"]
        self.asked += NAMES[method]
        answer = hex(self.number) if method == "eth_blockNumber" else self.answers[method]
        answer = self.answers.get(method, answer)
        if self.hangs or answer is None:
            return
        if isinstance(answer, Fault):
            self.last.fail(answer)
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
        return asked


class World:
    """One poller on a clock."""

    def __init__(self, *, role: Role = Role.LOCAL, load: Any = None, start: bool = True, **config: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        check = config.pop("check_chain_id", True)
        self.network = Network(network_config(node_config(role=role, check_chain_id=check), **config), 1000.0)
        [self.node] = self.network.nodes
        self.upstream = Upstream()
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
            self.failures.append((reason, final))
            return fail(node, reason, now, final=final)

        def polled(node: Any, told: Any, now: float) -> Any:
            self.polls.append(told)
            return poll(node, told, now)

        self.network.observe_poll_failure = failing  # type: ignore[method-assign]
        self.network.observe_poll = polled  # type: ignore[method-assign]

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([1 / 16] * round(seconds * 16))  # a step without rounding errors


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
        """The block number is asked in every interval, syncing every 15 s, chain id and details every 300 s."""
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
        self.assertEqual((asked.count("N"), asked.count("C"), asked.count("v"), asked.count("p")), (300, 1, 1, 1))

    def test_interval_of_the_role(self) -> None:
        """Monitoring and fallback nodes have their own interval."""
        for role in (Role.MONITORING, Role.FALLBACK):
            world = World(role=role, monitoring_poll_interval_seconds=4.0)
            world.upstream.take()
            world.pass_time(9)
            self.assertEqual(world.upstream.take(), "NN")

    def test_chain_id_skipped(self) -> None:
        """A node may be excused from telling its chain id."""
        world = World(check_chain_id=False)
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
        world = World(rpc_retries=1)
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
            world.pass_time(1)
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


class AskTests(SynchronousTestCase):
    def ask(self) -> tuple[Deferred[object], Sent]:
        upstream = UpstreamSpy()
        self.events = upstream.events
        return ask(upstream, "eth_x"), upstream.last

    def test_result(self) -> None:
        """The result is what the Deferred fires with; an error beside it of null is none."""
        answer, sent = self.ask()
        sent.answer(b'{"id":1,"error":null,"result":[1]}')
        self.assertEqual(self.successResultOf(answer), [1])

    def test_large(self) -> None:
        """A large answer is put together; one that is too large is given up."""
        answer, sent = self.ask()
        sent.begin(b'{"id":1,"result":"')
        sent.sink.progressed()
        sent.sink.streamed(b"x" * 1_000_000)
        sent.sink.streamed(b'"}')
        sent.sink.ended()
        self.assertEqual(self.successResultOf(answer), "x" * 1_000_000)
        answer, sent = self.ask()
        sent.begin(b"x" * MAX_ANSWER_BYTES)
        sent.sink.streamed(b"x")
        sent.sink.streamed(b"x")
        self.failureResultOf(answer, AskFailed)
        self.assertEqual(self.events, [("a", "send"), ("a", "cancel")])

    def test_after_the_end(self) -> None:
        """What comes after a cancellation is ignored."""
        answer, sent = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        sent.result()
        sent.fail(Fault.GARBAGE)
        sent.sink.answered(FakeHead(), [b"x"])
