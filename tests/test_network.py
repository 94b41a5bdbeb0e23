"""One network's nodes together: facts in, order and events out."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from evmlb.chain import Syncing
from evmlb.config.schema import BreakerConfig, Criterion, WhenNoneInRange
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    Event,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeOnWrongChain,
    NodeStaysDown,
    NodeTimeAhead,
    NodeWentDown,
    OrderChanged,
)
from evmlb.network import Network, Node, Poll
from tests.support import Still, network_config, nodes_of, run_property


class World:
    """A network with a clock; nodes are named by a letter, and all events are kept."""

    def __init__(self, local: str = "a b", monitoring: str = "", fallback: str = "", **config: Any) -> None:
        self.now = 0.0
        self.network = Network(
            network_config(*nodes_of(local, monitoring, fallback), **{"name": "eth", **config}), self.now, Still()
        )
        self.nodes = {node.name: node for node in self.network.nodes}
        self.events: list[Event] = []

    def take(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        self.events += events
        return events

    def poll(self, name: str, number: int = 100, ms: float = 3.0, **facts: Any) -> tuple[Event, ...]:
        self.now += 0.01
        told = {"number": number, "latency_seconds": ms / 1000, "started_at": self.now - 0.005, "chain_id": 1, **facts}
        return self.take(self.network.observe_poll(self.nodes[name], Poll(**told), self.now))

    def poll_all(self, number: int = 100) -> None:
        for name in self.nodes:
            self.poll(name, number)

    def fail_poll(self, name: str, *, final: bool = True) -> tuple[Event, ...]:
        self.now += 0.01
        return self.take(self.network.observe_poll_failure(self.nodes[name], "refused", self.now, final=final))

    def fail(self, name: str, *, proven: bool = True) -> tuple[Event, ...]:
        return self.take(self.network.record_failure(self.nodes[name], "reset", self.now, proven=proven))

    def succeed(self, name: str) -> tuple[Event, ...]:
        return self.take(self.network.record_success(self.nodes[name], self.now))

    def wait(self, seconds: float) -> tuple[Event, ...]:
        self.now += seconds
        return self.take(self.network.expire(self.now))

    def told(self, kind: type) -> list[Any]:
        """The events of this kind so far; they are forgotten."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    @property
    def order(self) -> str:
        """Names: serving tier, bar, reserve."""
        order = self.network.order
        return "".join(n.name for n in order.serving) + "|" + "".join(n.name for n in order.reserve)

    def reason(self, name: str) -> str:
        return self.network.order.places[self.nodes[name].index].reason


class StartTests(SynchronousTestCase):
    def test_nobody_from_the_start(self) -> None:
        """That nobody serves is told, once, when every node has been asked for the first time."""
        world = World("a b")
        world.fail_poll("a")
        self.assertEqual(world.told(OrderChanged), [])
        world.fail_poll("b")
        [told] = world.told(OrderChanged)
        self.assertEqual((told.tier, told.nodes), (None, ()))
        self.assertEqual(told.reason, "a its first poll failed: refused; b its first poll failed: refused")
        world.fail_poll("a")
        world.fail_poll("b")
        self.assertEqual(world.told(OrderChanged), [])

    def test_before(self) -> None:
        """Before a poll nobody serves, and the refusal says why."""
        world = World()
        self.assertEqual(world.order, "|")
        self.assertEqual(
            world.network.order.refusal,
            "No valid endpoint available for network eth: no local node is reachable (not polled yet)",
        )
        self.assertFalse(world.network.started)

    def test_first_poll(self) -> None:
        """The first good poll of a preferred node starts the network."""
        world = World()
        world.poll("b")
        self.assertEqual(world.order, "b|")
        self.assertTrue(world.network.started)
        self.assertFalse(world.network.rounds_complete)
        self.assertEqual([type(e) for e in world.events], [ChainheadMoved, NodeCameUp, OrderChanged])

    def test_other_role(self) -> None:
        """A node of another role does not start it, though it may serve."""
        world = World("a", monitoring="m")
        world.poll("m")
        self.assertEqual(world.order, "m|")
        self.assertFalse(world.network.started)

    def test_wrong_chain(self) -> None:
        """A node on the wrong chain does not start it."""
        world = World("a", chain_id=1)
        world.poll("a", chain_id=5)
        self.assertFalse(world.network.started)

    def test_best_role_there_is(self) -> None:
        """Where there are only fallback nodes, one of these starts it."""
        world = World("", fallback="f")
        world.poll("f")
        self.assertTrue(world.network.started)

    def test_rounds(self) -> None:
        """The first round is over when each node's first poll is, good or bad."""
        world = World()
        world.fail_poll("a", final=False)
        world.poll("b")
        self.assertFalse(world.network.rounds_complete)
        world.fail_poll("a")
        self.assertTrue(world.network.rounds_complete)

    def test_places(self) -> None:
        """Every node has its place, as configured, with rank and reason."""
        world = World("a b", monitoring="m")
        world.poll("b")
        world.poll("m")
        self.assertEqual([(p.node.name, p.rank) for p in world.network.order.places], [("a", None), ("b", 0), ("m", 1)])
        self.assertEqual(world.reason("a"), "not polled yet")


class PollTests(SynchronousTestCase):
    def test_same_again(self) -> None:
        """A poll that brings nothing new keeps the very order, and tells nothing."""
        world = World()
        world.poll_all()
        before = world.network.order
        self.assertEqual(world.poll("a", 100, 3.05), ())
        self.assertIs(world.network.order, before)

    def test_new_block(self) -> None:
        """A new block that all follow moves the chainhead and nothing else."""
        world = World()
        world.poll_all(100)
        before, world.events = world.network.order, []
        world.poll_all(101)
        self.assertIs(world.network.order, before)
        self.assertEqual(world.events, [ChainheadMoved(network="eth", number=101, previous=100)])

    def test_latency(self) -> None:
        """Among nodes in step the faster one is first."""
        world = World(load_balance_priority=(Criterion.LATENCY,))
        world.poll("a", ms=40)
        world.poll("b", ms=3)
        self.assertEqual(world.order, "ba|")
        self.assertEqual(world.reason("b"), "best: latency 3 ms")

    def test_behind(self) -> None:
        """A node that falls behind is told of once and leaves, and once more when it caught up."""
        world = World()
        world.poll_all(100)
        world.poll("b", 105)
        self.assertEqual(world.order, "ab|")
        world.poll("a", 99)
        world.poll("a", 99)
        self.assertEqual((world.order, world.reason("a")), ("b|", "6 blocks behind (limit 5)"))
        self.assertEqual(
            world.told(NodeFellBehind), [NodeFellBehind(network="eth", node="a", lag_blocks=6, limit_blocks=5)]
        )
        world.poll("a", 105)
        self.assertEqual(world.order, "ab|")
        self.assertEqual(world.told(NodeCaughtUp), [NodeCaughtUp(network="eth", node="a", lag_blocks=0)])

    def test_fast_chain(self) -> None:
        """On a chain of 250 ms, equal nodes polled at different moments stay equal, and none falls behind."""
        world = World("a b c", block_time_seconds=0.25, network_block_diff=2)
        world.poll_all(0)
        world.events = []
        for turn in range(1, 60):
            for third, name in enumerate("abc"):
                world.now = turn + third / 3
                world.poll(name, int(world.now * 4))
        self.assertEqual({type(e) for e in world.events}, {ChainheadMoved})
        self.assertEqual(world.network.order.ties, 3)

    def test_halted_chain(self) -> None:
        """A head is not stale because the chain stands still, and 0x0 is a head."""
        world = World("a")
        for _ in range(1000):
            world.poll("a", 0)
            world.wait(1.0)
        self.assertEqual(world.order, "a|")
        self.assertEqual(world.network.chainhead, 0)

    def test_failures(self) -> None:
        """A failed try makes suspect, two failed polls take out, two good ones bring back."""
        world = World()
        world.poll_all()
        world.fail_poll("a", final=False)
        self.assertEqual(world.order, "ba|")
        self.assertEqual(world.told(NodeBecameSuspect), [NodeBecameSuspect(network="eth", node="a", reason="refused")])
        world.fail_poll("a")
        self.assertEqual(world.order, "ba|")
        world.fail_poll("a")
        self.assertEqual(world.order, "b|")
        self.assertEqual(
            world.told(NodeWentDown), [NodeWentDown(network="eth", node="a", reason="polls fail: refused")]
        )
        world.told(NodeCameUp)
        world.poll("a")
        self.assertEqual(world.order, "b|")
        world.poll("a")
        self.assertEqual(world.order, "ab|")
        self.assertEqual(world.told(NodeCameUp), [NodeCameUp(network="eth", node="a", reason="answers polls again")])

    def test_expiry(self) -> None:
        """An observation that ran out takes its node out and its head with it; one good poll brings it back."""
        world = World()
        world.poll("a", 104)
        world.poll("b", 100)
        for _ in range(3):
            world.wait(1.0)
            world.poll("b", 100)
        self.assertEqual(world.network.chainhead, 100)
        self.assertEqual(world.order, "b|")
        self.assertEqual([e.node for e in world.told(NodeWentDown)], ["a"])
        world.poll("a", 101)
        self.assertEqual(world.order, "ab|")

    def test_syncing(self) -> None:
        """A syncing node is down and comes up when it is done."""
        world = World()
        world.poll_all()
        world.told(NodeCameUp)
        world.poll("a", syncing=Syncing(300))
        self.assertEqual(world.reason("a"), "syncing, 300 blocks to go (limit 5)")
        self.assertEqual([e.node for e in world.told(NodeWentDown)], ["a"])
        world.poll("a")
        self.assertEqual([e.reason for e in world.told(NodeCameUp)], ["has done syncing"])

    def test_load(self) -> None:
        """A load that was read reorders, where load is a criterion."""
        world = World(load_balance_priority=(Criterion.LOAD,))
        world.poll_all()
        world.network.observe_load(world.nodes["a"], 2.0, world.now)
        self.assertEqual(world.order, "ab|")
        world.network.observe_load(world.nodes["b"], 1.0, world.now)
        self.assertEqual(world.order, "ba|")
        world.network.observe_load(world.nodes["b"], None, world.now)
        self.assertEqual(world.order, "ab|")

    def test_details(self) -> None:
        """Version and peers are kept; what is not known this time stays."""
        world = World()
        node = world.nodes["a"]
        world.network.observe_details(node, "Geth/v1", 12, world.now)
        world.network.observe_details(node, None, 13, world.now)
        self.assertEqual((node.client_version, node.peer_count), ("Geth/v1", 13))


class ChainheadTests(SynchronousTestCase):
    def test_liar(self) -> None:
        """A node that claims too much is doubted, then out, and the others serve on undisturbed."""
        world = World("a b", monitoring="m")
        world.poll_all(100)
        world.events = []
        world.poll("b", 10**6)
        self.assertEqual(world.network.wants_confirmation(world.nodes["b"]), 10**6)
        self.assertEqual(world.order, "ab|m")
        world.poll("b", 10**6)
        self.assertEqual((world.order, world.network.chainhead), ("a|m", 100))
        self.assertEqual([type(e) for e in world.events], [NodeHeadDoubted, NodeWentDown, OrderChanged], world.events)
        world.poll("b", 101)
        self.assertEqual(world.order, "ab|m")
        self.assertEqual([e.reason for e in world.told(NodeCameUp)], ["its head is confirmed"])

    def test_confirmation(self) -> None:
        """A node that proves its head moves the chainhead, and the others fall behind at their next polls."""
        world = World("a b")
        world.poll_all(100)
        world.poll("b", 200)
        world.poll("b", 201, block_hash="0xab", block_timestamp=1_700_000_000, unix_time=1_700_000_001.0)
        self.assertEqual((world.network.chainhead, world.order), (201, "ab|"))
        world.poll("a", 101)
        self.assertEqual(world.order, "b|")

    def test_future(self) -> None:
        """A block from the future proves nothing."""
        world = World("a b")
        world.poll_all(100)
        world.poll("b", 200)
        world.poll("b", 201, block_hash="0xab", block_timestamp=1_700_000_100, unix_time=1_700_000_001.0)
        self.assertEqual((world.network.chainhead, world.order), (100, "a|"))

    def test_liar_first(self) -> None:
        """Nodes that a liar made look behind are in step again as soon as it is doubted."""
        world = World("a b c")
        world.poll("a", 10**6)
        world.poll("b", 100)
        self.assertEqual(world.network.chainhead, 100)
        world.poll("c", 100)
        self.assertEqual(world.order, "abc|")
        world.poll("a", 10**6)
        self.assertEqual(world.order, "bc|")

    def test_comes_down(self) -> None:
        """When the nodes that carried the chainhead are gone it comes down, with an event, and lags with it."""
        world = World("a b", monitoring="m", network_block_diff=2)
        for name, number in (("a", 100), ("m", 102), ("b", 102)):
            world.poll(name, number)
        world.poll("b", 104)
        world.poll("a", 100)
        self.assertEqual(world.order, "b|m")
        world.events = []
        for _ in range(3):
            world.wait(1.0)
            world.poll("a", 100)
            world.poll("m", 101)
        self.assertEqual(world.network.chainhead, 101)
        self.assertIn(ChainheadMoved(network="eth", number=101, previous=104), world.events)
        self.assertEqual(world.order, "a|m")

    def test_heard(self) -> None:
        """A head learnt from an answer passing by raises the chainhead, and no node's lag."""
        world = World()
        world.poll_all(100)
        events = world.network.observe_head(world.nodes["a"], 105, world.now)
        self.assertEqual(events, (ChainheadMoved(network="eth", number=105, previous=100),))
        self.assertEqual([world.nodes[n].lag_blocks for n in "ab"], [0, 0])
        self.assertEqual(world.network.observe_head(world.nodes["a"], 10**6, world.now), ())
        world.poll("b", 100)
        self.assertEqual(world.nodes["b"].lag_blocks, 5)

    def test_since(self) -> None:
        """The time of the present chainhead is known."""
        world = World()
        world.poll_all(100)
        at = world.network.chainhead_since
        world.wait(1.0)
        world.poll("a", 100)
        self.assertEqual(world.network.chainhead_since, at)
        self.assertEqual(at, 0.01)


def block_hash(letter: str) -> str:
    return "0x" + letter * 64


class OtherBlocksTests(SynchronousTestCase):
    """Chains of one id and one height are told apart by the hash of a block."""

    def compare(self, world: World, **hashes: str) -> None:
        height = world.network.checkpoint(world.now)
        assert height is not None
        for name, letter in hashes.items():
            world.take(world.network.observe_checkpoint(world.nodes[name], height, block_hash(letter), world.now))

    def test_out(self) -> None:
        """A node with another block is out, with the height as the reason, told once; its head does not count."""
        world = World("a b c")
        world.poll_all()
        world.poll("c", 104)
        self.compare(world, a="1", b="1", c="2")
        self.assertEqual((world.order, world.network.chainhead), ("ab|", 100))
        self.assertEqual(world.reason("c"), "other block at height 88")
        world.poll("c", 104)
        self.assertEqual((world.order, world.network.chainhead), ("ab|", 100))
        [told] = world.told(NodeWentDown)
        self.assertEqual((told.node, told.reason), ("c", "other block at height 88"))

    def test_comes_back(self) -> None:
        """It is in again when it has the same block, and not before."""
        world = World("a b c")
        world.poll_all()
        self.compare(world, a="1", b="1", c="2")
        world.told(NodeCameUp)
        world.now += 15
        world.poll_all(110)
        self.compare(world, a="3", b="3")
        self.assertEqual(world.order, "ab|")
        self.compare(world, c="3")
        self.assertEqual(world.order, "abc|")
        self.assertEqual([event.reason for event in world.told(NodeCameUp)], ["has the same blocks again"])

    def test_alone(self) -> None:
        """A network of one node has nobody to compare with."""
        world = World("a")
        world.poll_all()
        self.assertIsNone(world.network.checkpoint(world.now))

    def test_others_die(self) -> None:
        """It does not become right because the others die."""
        world = World("a b c")
        world.poll_all()
        self.compare(world, a="1", b="1", c="2")
        for name in "ab":
            for _ in range(2):
                world.fail_poll(name)
        world.now += 15
        world.poll("c", 120)
        self.assertEqual(world.order, "|")


class ReasonTests(SynchronousTestCase):
    """What is told of nodes that are out, and of nobody serving."""

    def test_another_reason(self) -> None:
        """While a node is out, another reason is told, and the same with other figures is not."""
        world = World("a b")
        world.poll_all()
        for reason in ("refused", "refused", "HTTP 500 after 3 ms", "HTTP 502 after 4 ms", "refused"):
            world.now += 1
            world.take(world.network.observe_poll_failure(world.nodes["a"], reason, world.now, final=True))
        told = [event.reason for event in world.told(NodeStaysDown)]
        self.assertEqual(told, ["polls fail: HTTP 500 after 3 ms", "polls fail: refused"])

    def test_from_the_start(self) -> None:
        """A node that is out from its first poll on is told of once, until the reason changes."""
        world = World("a b")
        for reason in ("refused", "refused", "refused", "HTTP 500"):
            world.now += 1
            world.take(world.network.observe_poll_failure(world.nodes["a"], reason, world.now, final=True))
        told = [event.reason for event in world.told(NodeWentDown) + world.told(NodeStaysDown)]
        self.assertEqual(told, ["its first poll failed: refused", "polls fail: HTTP 500"])

    def test_nobody(self) -> None:
        """Where nobody serves, each node has its own reason, with its figures."""
        world = World("a b c")
        world.poll_all()
        for _ in range(2):
            world.fail_poll("a")
        world.poll("b", chain_id=7)
        world.take(world.network.record_limited(world.nodes["c"], 9.0, world.now, "HTTP 429"))
        told = world.told(OrderChanged)[-1]
        self.assertEqual(told.nodes, ())
        wanted = "a polls fail: refused; b serves chain 7 instead of 1; c limited, 9 s left (HTTP 429)"
        self.assertEqual(told.reason, wanted)
        self.assertIn(
            "the only node that could serve is rate limited; 2 others cannot", world.network.order.refusal or ""
        )

    def test_sequence(self) -> None:
        """Another sequence of the same nodes is told apart from other nodes."""
        world = World("a b", load_balance_priority=(Criterion.LATENCY,))
        world.poll_all()
        world.told(OrderChanged)
        for _ in range(20):
            world.poll("a", ms=50)
            world.poll("b", ms=1)
        self.assertEqual([(event.nodes, event.reordered) for event in world.told(OrderChanged)], [(("b", "a"), True)])
        for _ in range(2):
            world.fail_poll("a")
        self.assertEqual([event.reordered for event in world.told(OrderChanged)][-1:], [False])


class ClockTests(SynchronousTestCase):
    def test_said_once(self) -> None:
        """A block from the future of our clock is told once, until one is not."""
        world = World()
        world.poll_all()
        for timestamp in (1060, 1061, 1000, 1060):
            world.poll("a", block_hash=block_hash("1"), block_timestamp=timestamp, unix_time=1000.0)
        self.assertEqual([event.seconds for event in world.told(NodeTimeAhead)], [60.0, 60.0])


class ChainIdTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """A node on another chain than the configured one is out, told of once, and its head does not count."""
        world = World(chain_id=1)
        world.poll("a", 100)
        world.poll("b", 999, chain_id=5)
        world.poll("b", 999, chain_id=None)
        self.assertEqual((world.order, world.network.chainhead), ("a|", 100))
        self.assertEqual(
            world.told(NodeOnWrongChain), [NodeOnWrongChain(network="eth", node="b", chain_id=5, expected=1)]
        )
        self.assertEqual(world.told(NodeWentDown), [])
        self.assertEqual(world.reason("b"), "serves chain 5 instead of 1")
        world.told(NodeCameUp)
        world.poll("b", 100)
        self.assertEqual(world.told(NodeCameUp), [NodeCameUp(network="eth", node="b", reason="serves the right chain")])

    def test_changes(self) -> None:
        """A node that changes its chain while it serves is out at once."""
        world = World(chain_id=1)
        world.poll_all()
        world.poll("a", chain_id=5)
        self.assertEqual(world.order, "b|")

    def test_majority(self) -> None:
        """Without a configured id the majority of local nodes says which chain it is."""
        world = World("a b c", fallback="f g h")
        for name, chain_id in zip("abcfgh", (5, 1, 1, 5, 5, 5), strict=True):
            world.poll(name, chain_id=chain_id)
        self.assertEqual(world.network.chain_id, 1)
        self.assertEqual(world.order, "bc|")
        self.assertEqual(world.told(ChainIdDisputed), [])

    def test_tie(self) -> None:
        """A tie refuses the network, loudly and once, and a further vote ends it."""
        world = World("a b")
        world.poll("a", 100, chain_id=5)
        world.poll("b", 100, chain_id=1)
        world.poll("b", 100, chain_id=1)
        self.assertEqual(world.order, "|")
        self.assertEqual(world.told(ChainIdDisputed), [ChainIdDisputed(network="eth", chain_ids=(1, 5))])
        self.assertEqual(
            world.network.order.refusal,
            "No valid endpoint available for network eth: its nodes do not agree on the chain id (1, 5), and chain_id "
            "is not configured",
        )
        self.assertIsNone(world.network.chainhead)
        world.poll("a", 101, chain_id=1)
        self.assertEqual((world.order, world.network.chainhead), ("ab|", 101))

    def test_tie_while_starting(self) -> None:
        """While nodes have not had their say, a tie refuses without an alarm."""
        world = World("a b c")
        world.poll("a", chain_id=5)
        world.poll("b", chain_id=1)
        self.assertEqual((world.order, world.told(ChainIdDisputed)), ("|", []))
        world.poll("c", chain_id=1)
        self.assertEqual(world.order, "bc|")

    def test_unchecked(self) -> None:
        """The head of a node whose chain id is not checked counts."""
        world = World("a")
        node = Network(network_config(*nodes_of("u")), 0.0).nodes[0]
        self.assertFalse(node.stands_on(None))
        unchecked = Network(network_config(_unchecked("u")), 0.0)
        unchecked.observe_poll(unchecked.nodes[0], Poll(number=7, latency_seconds=0.1, started_at=0.0), 1.0)
        self.assertEqual(unchecked.chainhead, 7)
        self.assertTrue(unchecked.started)
        self.assertIsNone(world.network.chainhead)


def _unchecked(name: str) -> Any:
    from tests.support import node_config

    return node_config(name, check_chain_id=False)


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World("a b", monitoring="m")
        self.world.poll_all()
        self.world.events = []

    def test_unproven(self) -> None:
        """An unproven failure moves the node behind the others of its tier, told of once; a success brings it back."""
        world = self.world
        for _ in range(50):
            world.fail("a", proven=False)
        self.assertEqual(world.order, "ba|m")
        self.assertEqual(len(world.told(NodeBecameSuspect)), 1)
        world.succeed("a")
        self.assertEqual(world.order, "ab|m")

    def test_all_suspect(self) -> None:
        """When all of a tier are suspect their order is as if none were."""
        for name in "ba":
            self.world.fail(name, proven=False)
        self.assertEqual(self.world.order, "ab|m")

    def test_ejection(self) -> None:
        """Two proven failures eject; a trial request is due after a second and brings the node back."""
        world, a = self.world, self.world.nodes["a"]
        world.fail("a")
        world.fail("a")
        self.assertEqual(world.order, "b|m")
        self.assertEqual([e.reason for e in world.told(NodeWentDown)], ["ejected, requests fail: reset"])
        self.assertIsNone(world.network.due_trial(world.now + 0.9))
        world.now += 1.0
        world.poll("a")
        self.assertEqual(world.order, "b|m")
        self.assertIs(world.network.due_trial(world.now), a)
        world.network.begin_trial(a, world.now)
        self.assertIsNone(world.network.due_trial(world.now))
        world.succeed("a")
        self.assertEqual(world.order, "ab|m")
        self.assertEqual([e.reason for e in world.told(NodeCameUp)], ["a trial request was answered"])
        self.assertFalse(a.troubled)

    def test_success_between(self) -> None:
        """A few proven failures with a success between them do not eject; when half of ten requests fail, they do."""
        for _ in range(4):
            self.world.fail("a")
            self.world.succeed("a")
        self.assertIn("a", self.world.order)
        self.world.fail("a")
        self.world.succeed("a")
        self.world.fail("a")
        self.assertNotIn("a", self.world.order)

    def test_failed_trial(self) -> None:
        """A failed trial, proven or not, is followed by the next after twice the time."""
        world, a = self.world, self.world.nodes["a"]
        world.fail("a")
        world.fail("a")
        world.now += 1.0
        world.network.begin_trial(a, world.now)
        world.fail("a", proven=False)
        self.assertIsNone(world.network.due_trial(world.now + 1.9))
        self.assertIs(world.network.due_trial(world.now + 2.0), a)

    def test_lost_trial(self) -> None:
        """A trial without an outcome does not keep the next one from coming."""
        world, a = self.world, self.world.nodes["a"]
        world.fail("a")
        world.fail("a")
        world.now += 1.0
        world.network.begin_trial(a, world.now)
        self.assertIs(world.network.due_trial(world.now + 5.0), a)

    def test_dead_node(self) -> None:
        """An ejected node whose polls fail gets no trial."""
        world = self.world
        world.fail("a")
        world.fail("a")
        world.fail_poll("a")
        world.fail_poll("a")
        self.assertIsNone(world.network.due_trial(world.now + 60))

    def test_tier_by_tier(self) -> None:
        """When a whole tier is ejected the next serves; when all are, all serve again, and a success readmits."""
        world = World("a b", "m", circuit_breaker=BreakerConfig(max_ejected_percent=100.0))
        world.poll("a", 100)
        world.poll("b", 100)
        world.poll("m", 100)
        for name in "ab":
            world.fail(name)
            world.fail(name)
        self.assertEqual(world.order, "m|")
        world.fail("m")
        world.fail("m")
        self.assertEqual(world.order, "ab|m")
        self.assertTrue(world.network.order.panic)
        self.assertEqual(world.reason("a"), "ejected (reset), asked because nothing else is left")
        world.succeed("b")
        self.assertEqual(world.order, "b|")
        self.assertFalse(world.network.order.panic)

    def test_degraded(self) -> None:
        """With nearest, the order is marked degraded, and so is its event."""
        world = World("a", monitoring="m", when_none_in_range=WhenNoneInRange.NEAREST, monitoring_nodes_serve=False)
        world.poll("m", 200)
        world.poll("a", 100)
        world.poll("m", 200, block_hash="0xab", block_timestamp=1, unix_time=2.0)
        world.poll("a", 100)
        self.assertEqual(world.order, "a|")
        self.assertTrue(world.network.order.degraded)
        self.assertTrue(world.told(OrderChanged)[-1].degraded)


OUTCOME = st.tuples(st.sampled_from("abcd"), st.sampled_from(["unproven", "proven", "success", "poll", "try"]))


class PropertyTests(SynchronousTestCase):
    def test_odd_requests(self) -> None:
        """No number of odd requests, whose failures nothing proves, takes any node from anybody."""

        @settings(max_examples=150, deadline=None)
        @given(st.lists(OUTCOME, max_size=40))
        def check(outcomes: list[tuple[str, str]]) -> None:
            world = World("a b", monitoring="c", fallback="d", switch_to_fallback_enabled=True)
            world.poll_all()
            for name, outcome in outcomes:
                if outcome in ("unproven", "proven"):
                    world.fail(name, proven=False)
                elif outcome == "success":
                    world.succeed(name)
                elif outcome == "poll":
                    world.poll(name)
                else:
                    world.fail_poll(name, final=False)
                order = world.network.order
                assert {n.name for n in order.serving} == {"a", "b"}
                assert [n.name for n in order.reserve] == ["c", "d"]
                suspects = [n.suspect for n in order.serving]
                assert suspects == sorted(suspects)

        run_property(check)

    def test_single_node(self) -> None:
        """A network of one node never refuses because of failing requests, proven or not."""

        @settings(max_examples=100, deadline=None)
        @given(st.lists(st.sampled_from(["unproven", "proven", "success", "poll", "trial"]), max_size=40))
        def check(outcomes: list[str]) -> None:
            world = World("a")
            world.poll("a")
            for outcome in outcomes:
                if outcome == "success":
                    world.succeed("a")
                elif outcome == "poll":
                    world.poll("a")
                elif outcome == "trial":
                    world.network.begin_trial(world.nodes["a"], world.now)
                else:
                    world.fail("a", proven=outcome == "proven")
                assert world.order == "a|"

        run_property(check)

    def test_machine(self) -> None:
        """Whatever happens, the order is consistent, its events are flips, and recovery brings every node back."""
        run_state_machine_as_test(
            NetworkMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
        )


class NetworkMachine(RuleBasedStateMachine):
    """Anything that can happen to a network of two local, a monitoring and a fallback node."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World("a b", monitoring="c", fallback="d", switch_to_fallback_enabled=True)
        self.head = 100
        self.usable: dict[str, bool | None] = dict.fromkeys("abcd")
        self.announced: tuple[str, ...] = ()

    @rule(name=st.sampled_from("abcd"), lag=st.sampled_from([0, 0, 0, 1, 6, 60, -50]), ms=st.sampled_from([3, 4, 50]))
    def poll(self, name: str, lag: int, ms: float) -> None:
        self.world.poll(name, self.head - lag, ms)

    @rule(name=st.sampled_from("abcd"), chain_id=st.sampled_from([None, 1, 1, 5]), distance=st.sampled_from([0, 9]))
    def odd_poll(self, name: str, chain_id: int | None, distance: int) -> None:
        self.world.poll(name, self.head, chain_id=chain_id, syncing=Syncing(distance))

    @rule(name=st.sampled_from("abcd"), final=st.booleans())
    def fail_poll(self, name: str, final: bool) -> None:
        self.world.fail_poll(name, final=final)

    @rule(name=st.sampled_from("abcd"), proven=st.booleans())
    def fail(self, name: str, proven: bool) -> None:
        self.world.fail(name, proven=proven)

    @rule(name=st.sampled_from("abcd"))
    def succeed(self, name: str) -> None:
        if self.world.nodes[name].troubled:
            self.world.succeed(name)

    @rule(name=st.sampled_from("abcd"), ahead=st.integers(-3, 20))
    def hear(self, name: str, ahead: int) -> None:
        node = self.world.nodes[name]
        self.world.take(self.world.network.observe_head(node, self.head + ahead, self.world.now))

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.head += int(seconds)

    @rule()
    def take_trial(self) -> None:
        node = self.world.network.due_trial(self.world.now)
        if node is not None:
            assert node.ejected
            assert node.reachable
            self.world.network.begin_trial(node, self.world.now)

    @rule()
    def recover(self) -> None:
        """All answer well for a while, requests too: all serve again."""
        for _ in range(3):
            self.world.wait(20.0)
            for name in "abcd":
                self.world.poll(name, self.head)
            while (node := self.world.network.due_trial(self.world.now)) is not None:
                self.world.network.begin_trial(node, self.world.now)
                self.world.succeed(node.name)
        assert {n.name for n in self.world.network.order.candidates} == set("abcd"), self.world.network.order.places
        assert {n.name for n in self.world.network.order.serving} == {"a", "b"}

    @invariant()
    def consistent(self) -> None:
        order = self.world.network.order
        assert order.candidates == order.serving + order.reserve
        assert (order.refusal is None) == bool(order.candidates)
        assert [p.node for p in order.places] == list(self.world.network.nodes)
        ranked = sorted((p for p in order.places if p.rank is not None), key=lambda p: p.rank or 0)
        assert [p.node for p in ranked] == list(order.candidates)
        assert all(node.reachable for node in order.candidates)
        assert order.panic or not any(node.ejected for node in order.candidates)
        for node in self.world.network.nodes:
            assert node.troubled == (node.suspect or node.ejected or node.breaker.failing or node.hedge_losses > 0)
            self.unseen_needs_no_settling(node)

    def unseen_needs_no_settling(self, node: Node) -> None:
        """What the network believes of a node is what it would find by looking again."""
        network = self.world.network
        fresh = node.candidate_for(network.chainhead, network.chain_id, refuted=network._heads.refuted(node.index))
        assert fresh == node.candidate

    @invariant()
    def told(self) -> None:
        """Events alternate, and the last one told of the order is true."""
        for event in self.world.told(object):
            if isinstance(event, NodeCameUp):
                assert self.usable[event.node] is not True
                self.usable[event.node] = True
            elif isinstance(event, NodeWentDown):
                assert self.usable[event.node] is not False
                self.usable[event.node] = False
            elif isinstance(event, NodeOnWrongChain):
                self.usable[event.node] = False
            elif isinstance(event, OrderChanged):
                assert event.nodes != self.announced or event.tier is None
                self.announced = event.nodes
        assert self.announced == tuple(n.name for n in self.world.network.order.candidates)
