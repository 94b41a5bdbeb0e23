"""The simulation: runs that hold, runs that replay, and that every invariant can be violated."""

import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from evmlb import transactions
from evmlb.chaos.clock import VirtualClock
from evmlb.chaos.command import explore, main_chaos, report
from evmlb.chaos.faults import HARMLESS, draw_schedule
from evmlb.chaos.network import HIGH_WATER_BYTES, MemoryNetwork, Reach
from evmlb.chaos.scenario import Family, draw_scenario
from evmlb.chaos.simulation import Outcome, simulate
from evmlb.chaos.truth import Chain, RpcError, raw_transaction, transaction_hash
from evmlb.config.parse import parse_config
from evmlb.front.lane import Lane
from evmlb.metrics import LoopLag
from evmlb.node import Node
from evmlb.polling import NodePoller
from evmlb.routing.hedging import Hedging
from evmlb.routing.retrying import Retrying
from evmlb.routing.router import Router
from evmlb.upstream.http import HttpUpstream

ROOT = Path(__file__).resolve().parent.parent
SEEDS = range(200)


class RunsTests(SynchronousTestCase):
    def test_invariants(self) -> None:
        """Whatever befalls the nodes, every invariant holds."""
        failing: list[Outcome] = []
        explore(SEEDS, None, failing.append)
        seeds = [outcome.scenario.seed for outcome in failing]
        self.assertEqual(seeds, [], "\n".join(report(outcome, None) for outcome in failing[:3]))

    def test_replay(self) -> None:
        """A seed goes the same way each time, whatever ran before it."""
        once = [simulate(draw_scenario(seed)).digest for seed in (3, 4, 5)]
        again = [simulate(draw_scenario(seed)).digest for seed in (5, 4, 3)]
        self.assertEqual(once, again[::-1])
        self.assertEqual(len(set(once)), 3)

    def test_replay_elsewhere(self) -> None:
        """It does so in another process, where hashes of strings differ."""
        command = [sys.executable, "-m", "evmlb", "chaos", "--seed", "3", "--runs", "3"]
        outputs = {
            subprocess.run(
                command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, check=False
            ).stdout
            for hashes in ("1", "2")
        }
        self.assertEqual(len(outputs), 1)
        self.assertIn(b"3 runs", next(iter(outputs)))

    def test_configuration(self) -> None:
        """A user's configuration is simulated with its own nodes and settings, without connecting to them."""
        config = parse_config((ROOT / "config.yaml.example").read_text(), {})
        failing: list[Outcome] = []
        total = explore(range(5), config, failing.append)
        self.assertEqual([report(outcome, None) for outcome in failing], [])
        names = {node.name for node in config.networks[0].nodes}
        self.assertEqual({node.name for node in draw_scenario(1, config).network.nodes}, names)
        self.assertGreater(total.questions, 200)


class SabotageTests(SynchronousTestCase):
    """A balancer that breaks a promise is found out, each by its own invariant."""

    def assert_found(self, words: str, family: Family = Family.SOUND, seeds: int = 12) -> None:
        """Some of the first seeds of a family violate an invariant in these words."""
        for seed in range(seeds):
            violations = simulate(draw_scenario(seed, family=family)).violations
            if any(words in violation for violation in violations):
                return
        self.fail(f"nobody noticed: {words}")

    def test_no_retry(self) -> None:
        """A failure that another node would have mended reaches a client."""
        self.patch(Retrying, "untried", lambda self, exchange, eligible: ())
        self.assert_found("while a node is well")

    def test_slow(self) -> None:
        """A node that hangs is waited for."""
        self.patch(Hedging, "pace_of", lambda self, exchange: None)
        self.assert_found("more than", seeds=40)

    def test_sent_twice(self) -> None:
        """A call that changes something is sent to two nodes."""
        send = Router.send

        def send_twice(router: Router, exchange: Any, node: Any, now: float) -> None:
            send(router, exchange, node, now)
            send(router, exchange, node, now)

        self.patch(Router, "send", send_twice)
        self.assert_found("was carried out by", seeds=3)

    def test_answered_twice(self) -> None:
        """A client gets two answers."""
        answer = Lane.answer

        def answer_twice(lane: Any, exchange: Any, head: Any, parts: list[bytes]) -> None:
            answer(lane, exchange, head, parts)
            if not lane.closing and lane._exchange is None:
                answer(lane, exchange, head, parts)

        self.patch(Lane, "answer", answer_twice)
        self.assert_found("nobody asked for", seeds=3)

    def test_not_answered(self) -> None:
        """A client gets none."""

        def cut(lane: Any, exchange: Any, refusal: object) -> None:
            lane.abort(exchange)

        self.patch(Lane, "refuse", cut)
        self.assert_found("without an answer", Family.RUIN)

    def test_wrong_answer(self) -> None:
        """An answer is not the node's."""
        answer = Lane.answer

        def spoil(lane: Any, exchange: Any, head: Any, parts: list[bytes]) -> None:
            answer(lane, exchange, head, [part.replace(b'"result":"0x', b'"result":"0x1') for part in parts])

        self.patch(Lane, "answer", spoil)
        self.assert_found("the wrong result", seeds=3)

    def test_stale(self) -> None:
        """A node that fell behind is asked all the same."""
        self.patch(Node, "_lags", lambda self: (0, 0))
        self.assert_found("must be known not to serve", seeds=20)

    def test_budget(self) -> None:
        """Retries are not limited."""
        self.patch(Retrying, "affords", lambda self, exchange, now: True)
        self.assert_found("within the budgets", Family.VAIN)

    def test_leaks(self) -> None:
        """What belongs to a request stays when it is over."""
        leave = Router.leave

        def forget_to_count(router: Router, attempt: Any) -> None:
            leave(router, attempt)
            attempt.node.in_flight += 1

        self.patch(Router, "leave", forget_to_count)
        self.assert_found("requests in flight", Family.RUIN, seeds=1)

    def test_open(self) -> None:
        """Connections outlive the balancer."""
        self.patch(HttpUpstream, "close", lambda self: None)
        self.assert_found("open after the end", seeds=3)

    def test_timers(self) -> None:
        """Timers outlive it."""
        self.patch(LoopLag, "stop", lambda self: None)
        self.assert_found("due after the end", seeds=1)

    def test_exceptions(self) -> None:
        """Something raises what nobody expected."""

        def fail(router: Router, attempt: object) -> None:
            raise ZeroDivisionError

        self.patch(Router, "progressed", fail)
        self.assert_found("ZeroDivisionError", seeds=3)
        self.assertNotEqual(self.flushLoggedErrors(ZeroDivisionError), [])  # by the connection that it came through

    def test_logged_exceptions(self) -> None:
        """Something logs what nobody expected."""

        def fail(poller: NodePoller, coroutine: Any) -> None:
            coroutine.close()
            raise ZeroDivisionError

        self.patch(NodePoller, "_try", fail)
        self.assert_found("ZeroDivisionError", seeds=1)
        self.assertNotEqual(self.flushLoggedErrors(ZeroDivisionError), [])


class CommandTests(SynchronousTestCase):
    def test_report(self) -> None:
        """A failing run is told with its seed, what was violated, what happened before, and how to replay it."""
        self.patch(Retrying, "untried", lambda self, exchange, eligible: ())
        failing: list[Outcome] = []
        explore(range(12), None, failing.append)
        text = report(failing[0], "my config.yaml")
        seed = failing[0].scenario.seed
        self.assertIn(f"seed {seed}, ", text)
        self.assertIn(failing[0].violations[0], text)
        self.assertIn(f"evmlb chaos --seed {seed} --config 'my config.yaml'", text)
        self.assertEqual(len(failing[0].last), 40)
        self.assertIn("VIOLATED", failing[0].last[-1])

    def test_bad_configuration(self) -> None:
        """A configuration that is not good is told as everywhere."""
        out, err = io.StringIO(), io.StringIO()
        self.assertEqual(main_chaos(1, 1, "/nowhere/config.yaml", out, err), 1)
        self.assertEqual(out.getvalue(), "")
        self.assertIn("/nowhere/config.yaml", err.getvalue())


class ScenarioTests(SynchronousTestCase):
    def test_families(self) -> None:
        """All families are drawn, and a seed draws the same scenario each time."""
        scenarios = [draw_scenario(seed) for seed in range(100)]
        self.assertEqual({scenario.family for scenario in scenarios}, set(Family))
        self.assertEqual(scenarios, [draw_scenario(seed) for seed in range(100)])

    def test_sound_node(self) -> None:
        """The node that is well is never ill."""
        for seed in range(50):
            scenario = draw_scenario(seed, family=Family.SOUND)
            ailments = [change.ailment for change in scenario.changes if change.node == scenario.sound_node]
            self.assertTrue(all(each is not None and each.name in HARMLESS for each in ailments))

    def test_schedule_ends(self) -> None:
        """At the end of a schedule its node is well."""
        for seed in range(20):
            schedule = draw_schedule(random.Random(seed), 2, 9.0, may_lie=True)
            self.assertEqual((schedule[-1].at, schedule[-1].ailment), (9.0, None))
            self.assertLessEqual(max(change.at for change in schedule), 9.0)


class TruthTests(SynchronousTestCase):
    def test_raw_transactions(self) -> None:
        """Raw transactions are well formed: their hash, computed here by other means, is the product's."""
        for number in (0, 1, 127, 128, 70_000):
            raw = raw_transaction(number)
            self.assertEqual(transactions.transaction_hash(raw), transaction_hash(raw))

    def test_depends_on_head(self) -> None:
        """What a node says of the latest block is what it says of its head's number; it refuses later ones."""
        chain = Chain(1, 1337, 2.0, height=100)
        self.assertEqual(chain.head(10.0), 105)
        self.assertEqual(
            chain.answer("eth_getBalance", ["0x1", "latest"], 105), chain.answer("eth_getBalance", ["0x1", "0x69"], 110)
        )
        self.assertNotEqual(
            chain.answer("eth_getBalance", ["0x1", "latest"], 105),
            chain.answer("eth_getBalance", ["0x1", "latest"], 106),
        )
        with self.assertRaises(RpcError):
            chain.answer("eth_getBalance", ["0x1", "0x70"], 105)
        self.assertIsNone(chain.answer("eth_getBlockByNumber", ["0x70", False], 105))


class ClockTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Calls come when they are due, those of one moment in the order in which they were asked for."""
        clock = VirtualClock()
        seen: list[tuple[str, float]] = []
        for name, after in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
            clock.callLater(after, lambda name=name: seen.append((name, clock.seconds())))
        clock.run_until(5.0)
        self.assertEqual(seen, [("a", 1.0), ("b", 1.0), ("c", 2.0)])
        self.assertEqual(clock.seconds(), 5.0)

    def test_reset_and_cancel(self) -> None:
        """Calls can be put forward, put off and cancelled."""
        clock = VirtualClock()
        seen: list[str] = []
        early, late, never = (clock.callLater(2.0, seen.append, name) for name in ("early", "late", "never"))
        clock.callLater(3.0, seen.append, "three")
        early.reset(1.0)
        late.reset(4.0)
        never.cancel()
        clock.run_until(1.5)
        self.assertEqual(seen, ["early"])
        clock.run_until(5.0)
        self.assertEqual(seen, ["early", "three", "late"])


class Recorder:
    """A protocol that notes what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.events: list[str] = []
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:
        self.events.append(type(reason.value).__name__)


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """One that can be half closed."""

    def readConnectionLost(self) -> None:
        self.events.append("read end")

    def writeConnectionLost(self) -> None:
        self.events.append("write end")


class Producer:
    """Notes when it is told to pause and to go on."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = VirtualClock()
        self.network = MemoryNetwork(self.clock, 1, 0.01)
        self.far = Recorder()
        self.host = self.network.add_host("10.0.0.1", lambda: self.far)

    def connect(self, near: Recorder | None = None) -> Recorder:
        """A connection of ours to the host."""
        near = near or Recorder()
        self.dial(near)
        self.clock.run_until(self.clock.seconds() + 1.0)
        return near

    def dial(self, near: Recorder) -> Any:
        return self.network.connect(self.clock, "10.0.0.1", 8545, near, None, 2.0)

    def pass_time(self, seconds: float = 1.0) -> None:
        self.clock.run_until(self.clock.seconds() + seconds)

    def test_bytes_arrive(self) -> None:
        """What is written arrives, later, in order, however it was cut."""
        near = self.connect()
        for number in range(200):
            near.transport.write(b"%03d;" % number)
        near.transport.writeSequence([b"e", b"nd"])
        self.assertEqual(self.far.data, b"")
        self.pass_time()
        self.assertEqual(self.far.data, b"".join(b"%03d;" % number for number in range(200)) + b"end")

    def test_close(self) -> None:
        """Who closes sends what was written first, reads no more, and hears of the end later."""
        near = self.connect()
        near.transport.write(b"last words")
        near.transport.loseConnection()
        near.transport.write(b"ignored")
        self.assertEqual(near.events, [])
        self.pass_time()
        self.assertEqual(
            (self.far.data, self.far.events, near.events), (b"last words", ["ConnectionDone"], ["ConnectionDone"])
        )
        self.assertEqual(self.network.ours, {})

    def test_abort(self) -> None:
        """A reset is a loss to the other side."""
        near = self.connect()
        near.transport.abortConnection()
        self.pass_time()
        self.assertEqual((self.far.events, near.events), (["ConnectionLost"], ["ConnectionAborted"]))

    def test_data_to_the_closed(self) -> None:
        """Bytes that come when the other side has closed are answered by a reset."""
        near = self.connect(HalfCloser())
        self.far.transport.loseConnection()
        self.pass_time()
        self.assertEqual(near.events, ["read end"])
        near.transport.write(b"too late")
        self.pass_time()
        self.assertEqual(near.events, ["read end", "ConnectionLost"])
        self.assertEqual(self.far.data, b"")

    def test_half_close(self) -> None:
        """A side that ended still reads; the connection is over when both have ended."""
        near = self.connect(HalfCloser())
        near.transport.loseWriteConnection()
        self.far.transport.write(b"answer")
        self.pass_time()
        self.assertEqual(near.data, b"answer")
        self.assertEqual(near.events[-1], "ConnectionDone")

    def test_pause(self) -> None:
        """While reading is paused nothing comes, not even the end; then all of it does."""
        near = self.connect()
        near.transport.pauseProducing()
        self.far.transport.write(b"data")
        self.far.transport.loseConnection()
        self.pass_time()
        self.assertEqual((near.data, near.events), (b"", []))
        near.transport.resumeProducing()
        self.pass_time()
        self.assertEqual((near.data, near.events), (b"data", ["ConnectionDone"]))

    def test_back_pressure(self) -> None:
        """A writer is paused while the reader does not read."""
        near, producer = self.connect(), Producer()
        near.transport.registerProducer(producer, True)
        self.far.transport.pauseProducing()
        near.transport.write(b"x" * (HIGH_WATER_BYTES + 1))
        self.pass_time()
        self.assertEqual(producer.events, ["pause"])
        self.far.transport.resumeProducing()
        self.pass_time()
        self.assertEqual(producer.events, ["pause", "resume"])
        self.assertEqual(len(self.far.data), HIGH_WATER_BYTES + 1)

    def test_reader_that_never_reads(self) -> None:
        """Closing waits for a reader for a while, then cuts it off."""
        near = self.connect()
        self.far.transport.pauseProducing()
        near.transport.write(b"x" * (HIGH_WATER_BYTES + 1))
        near.transport.loseConnection()
        self.pass_time(5.0)
        self.assertEqual(near.events, [])
        self.pass_time(6.0)
        self.assertEqual(near.events, ["ConnectionAborted"])

    def test_one_way(self) -> None:
        """A mute host hears and is not heard, from then on and for ever on that connection; a deaf one the reverse."""
        near = self.connect()
        self.host.mute = True
        near.transport.write(b"hello?")
        self.far.transport.write(b"hello!")
        self.pass_time()
        self.host.mute, self.host.deaf = False, True
        self.far.transport.write(b"still there?")
        near.transport.write(b"anybody?")
        near.transport.abortConnection()
        self.pass_time()
        self.assertEqual((self.far.data, near.data, self.far.events), (b"hello?", b"", []))

    def test_refused(self) -> None:
        """A host can refuse connections."""
        self.host.reach = Reach.REFUSED
        connecting = self.dial(Recorder())
        self.pass_time()
        self.failureResultOf(connecting, ConnectionRefusedError)

    def test_silent(self) -> None:
        """Connecting to a silent host takes until the time is up, or until it is given up."""
        self.host.reach = Reach.SILENT
        waits, gives_up = self.dial(Recorder()), self.dial(Recorder())
        self.pass_time()
        self.assertNoResult(waits)
        gives_up.cancel()
        self.failureResultOf(gives_up)
        self.pass_time(1.5)
        self.failureResultOf(waits, TimeoutError)
        self.assertEqual(self.clock.calls, [])

    def test_given_up_late(self) -> None:
        """The protocol may be connected before whoever connects hears of it."""
        near = Recorder()
        connecting = self.dial(near)
        later = self.clock.callLater
        self.patch(self.clock, "callLater", lambda seconds, *rest: later(seconds or 0.5, *rest))
        self.pass_time(0.1)
        self.assertNoResult(connecting)
        connecting.cancel()
        self.failureResultOf(connecting)
        near.transport.abortConnection()
        self.pass_time(2.0)
        self.assertEqual((near.events, self.far.events), (["ConnectionAborted"], ["ConnectionLost"]))

    def test_client(self) -> None:
        """A client is connected to what a listening port builds, or refused by it."""
        ours, client = Recorder(), Recorder()
        heard: list[str] = []

        def build(address: Any) -> Recorder | None:
            heard.append(address.host)
            return ours if len(heard) == 1 else None

        transport = self.network.call(build, "192.0.2.1", client)
        assert transport is not None
        transport.write(b"hi")
        self.pass_time()
        self.assertEqual((heard, ours.data), (["192.0.2.1"], b"hi"))
        self.assertEqual(ours.transport.getPeer().host, "192.0.2.1")
        self.assertIsNone(self.network.call(build, "192.0.2.2", Recorder()))
