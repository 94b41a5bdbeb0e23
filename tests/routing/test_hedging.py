"""Asking a second node when the first takes too long."""

from __future__ import annotations

from typing import Any

from evmlb.config.schema import HedgeConfig
from evmlb.errors import Fault
from evmlb.routing.attempts import DRAIN_BYTES
from tests.routing.support import RESULT, RoutingTestCase, World
from tests.support import node_config


class HedgingTestCase(RoutingTestCase):
    def make(self, *args: Any, **config: Any) -> World:
        return super().make(*args, **{"hedge": HedgeConfig(), **config})

    def teach(self, world: World, seconds: float = 0.0, answers: int = 30) -> None:
        """Let the method's pace be known."""
        for _ in range(answers):
            world.submit()
            world.clock.advance(seconds)
            world.last("a").result()
        world.router.tick(world.clock.seconds())
        world.poll()
        world.events.clear()


class DelayTests(HedgingTestCase):
    def test_unknown(self) -> None:
        """Before the method is known a second node is asked after 300 ms."""
        world = self.make("a b")
        client = world.submit()
        world.pass_time(0.29)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.03)
        self.assertEqual(world.sends, "ab")
        world.last("b").result()
        self.assertEqual((client.said, client.body, client.node), (["answer"], RESULT, "b"))
        self.assertEqual((world.router.stats.hedges, world.router.stats.hedges_won), (1, 1))

    def test_known(self) -> None:
        """Once the method is known, after its 98th percentile, 50 ms at least."""
        world = self.make("a b")
        self.teach(world)
        world.submit()
        world.pass_time(0.04)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.03)
        self.assertEqual(world.sends, "ab")

    def test_of_a_slower_method(self) -> None:
        """A method that takes 200 ms is given that."""
        world = self.make("a b")
        self.teach(world, 0.2)
        world.submit()
        world.pass_time(0.17)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.08)
        self.assertEqual(world.sends, "ab")

    def test_third_node(self) -> None:
        """When the second does not answer either, a third is asked, and no fourth."""
        world = self.make("a b c d")
        client = world.submit()
        world.pass_time(2.0)
        self.assertEqual(world.sends, "abc")
        world.last("c").result()
        self.assertEqual((client.said, client.node), (["answer"], "c"))

    def test_answer_begun(self) -> None:
        """An answer that began and then stands still is as late as one that did not begin."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").sink.progressed()
        world.pass_time(0.29)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.05)
        self.assertEqual(world.sends, "ab")
        world.last("b").result()
        self.assertEqual((client.said, client.node), (["answer"], "b"))

    def test_failed_hedge(self) -> None:
        """When the hedge fails at once, one more node takes its place."""
        world = self.make("a b c")
        client = world.submit()
        world.pass_time(0.32)
        world.last("b").fail(Fault.GARBAGE)
        world.pass_time(0.02)
        self.assertEqual(world.sends, "abc")
        world.last("c").result()
        self.assertEqual((client.said, client.node), (["answer"], "c"))

    def test_full_time_after_the_hedge(self) -> None:
        """A hedge does not shorten the time that each node has."""
        world = self.make("a b")
        client = world.submit()
        world.pass_time(4.9)
        world.last("a").result()
        self.assertEqual((client.said, client.node), (["answer"], "a"))


class WhetherTests(HedgingTestCase):
    def test_never(self) -> None:
        """Unsafe calls, alone or in a batch, what uses a filter and what is no call are asked of one node."""
        for submit in (
            {"method": "eth_sendTransaction"},
            {"method": "eth_getFilterLogs", "params": b'["0x1"]'},
            {"body": b'[{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction"}]'},
            {"body": b'[{"jsonrpc":"2.0","id":1,"method":"eth_getFilterLogs","params":["0x1"]}]'},
            {"opaque": b"GET", "body": b""},
        ):
            world = self.make("a b")
            world.submit(**submit)  # type: ignore[arg-type]
            world.pass_time(3.0)
            self.assertEqual(world.sends, "a", submit)

    def test_all_that_may_be_repeated(self) -> None:
        """Slow calls, batches and raw transactions are hedged as well; logs and traces a little later."""
        for seconds, submit in (
            (0.3, {"method": "eth_call"}),
            (0.3, {"method": "eth_estimateGas"}),
            (0.3, {"method": "eth_sendRawTransaction"}),
            (0.3, {"body": b'[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}]'}),
            (0.3, {"body": b'[{"jsonrpc":"2.0","id":1,"method":"eth_call"}]'}),
            (0.5, {"method": "eth_getLogs", "params": b'[{"fromBlock":"0x1","toBlock":"0x9"}]'}),
            (0.5, {"method": "debug_traceTransaction"}),
        ):
            world = self.make("a b")
            client = world.submit(**submit)  # type: ignore[arg-type]
            world.pass_time(seconds - 0.01)
            self.assertEqual(world.sends, "a", submit)
            world.pass_time(0.03)
            self.assertEqual(world.sends, "ab", submit)
            for name in "ba":
                world.last(name).answer(b"[%b]" % RESULT if submit.get("body") else RESULT)
            self.assertEqual((client.said, client.node), (["answer"], "b"), submit)
            world.check_idle(self)

    def test_slow_ones_at_a_time(self) -> None:
        """So many slow calls are under way twice at one time, and others follow when these end."""
        world = self.make("a b", hedge=HedgeConfig(max_slow=2))
        clients = [world.submit("eth_call") for _ in range(5)]
        world.pass_time(0.32)
        self.assertEqual(world.sends.count("b"), 2)
        world.pass_time(1.0)
        self.assertEqual(world.sends.count("b"), 2)
        for _ in range(3):
            for sent in world.spies["b"].sent[sum(client.ended for client in clients) :]:
                sent.result()
            world.pass_time(0.12)
        self.assertEqual([client.said for client in clients], [["answer"]] * 5)

    def test_next_one_at_once(self) -> None:
        """The next one follows as soon as one is answered, and not when it is looked at again."""
        world = self.make("a b", hedge=HedgeConfig(max_slow=2))
        clients = [world.submit("eth_call") for _ in range(9)]
        world.pass_time(0.32)
        answered = 0
        while answered < len(world.spies["b"].sent):
            world.spies["b"].sent[answered].result()
            answered += 1
            world.clock.advance(0)
            self.assertLessEqual(world.sends.count("b") - answered, 2)
        self.assertEqual([client.said for client in clients], [["answer"]] * 9)
        self.assertLess(world.clock.seconds(), 100.34)

    def test_light_ones_of_a_silent_node(self) -> None:
        """Where no place is left for what a silent node owes, light calls are hedged within the budget."""
        world = self.make("a b", hedge=HedgeConfig(max_slow=0))
        for _ in range(3):
            world.nodes["a"].avoidance.record_loss("eth_getBalance", -5.0)
        world.nodes["a"].is_particular = True
        client = world.submit("eth_getBalance")
        world.nodes["a"].avoidance.record_loss("eth_getBalance", world.clock.seconds())
        self.assertEqual(world.sends, "a")
        world.pass_time(0.32)
        world.last("b").result()
        self.assertEqual((client.said, client.node), (["answer"], "b"))

    def test_no_slow_ones(self) -> None:
        """They can be left out, and light calls are hedged all the same."""
        world = self.make("a b", hedge=HedgeConfig(max_slow=0))
        world.submit("eth_call")
        world.pass_time(3.0)
        self.assertEqual(world.sends, "a")
        world.submit()
        world.pass_time(0.32)
        self.assertEqual(world.sends, "aab")

    def test_memory(self) -> None:
        """What is over is not kept for the count of slow calls."""
        world = self.make("a b")
        world.submit("eth_call")
        world.pass_time(0.32)
        world.last("b").result()
        world.router.tick(world.clock.seconds())
        self.assertEqual(world.router._hedging._twice, set())

    def test_memory_of_the_next(self) -> None:
        """What waits for its place and ends is not kept either."""
        world = self.make("a b", hedge=HedgeConfig(max_slow=1))
        clients = [world.submit("eth_call") for _ in range(3)]
        world.pass_time(0.32)
        self.assertEqual(len(world.router._hedging._next), 2)
        for client in clients:
            world.leave(client)
        world.router.tick(world.clock.seconds())
        self.assertEqual((world.router._hedging._next, world.router._hedging._twice), ({}, set()))
        world.check_idle(self)

    def test_disabled(self) -> None:
        """It can be switched off."""
        world = self.make("a b", hedge=HedgeConfig(enabled=False))
        world.submit()
        world.pass_time(3.0)
        self.assertEqual(world.sends, "a")

    def test_across_tiers(self) -> None:
        """Nobody pays for a fallback node unasked, unless ``across_tiers`` says so."""
        for across, sends in ((False, "a"), (True, "af")):
            world = self.make(
                "a", fallback="f", switch_to_fallback_enabled=True, hedge=HedgeConfig(across_tiers=across)
            )
            world.submit()
            world.pass_time(1.0)
            self.assertEqual(world.sends, sends)

    def test_in_trouble(self) -> None:
        """A suspect node is no rival."""
        world = self.make("a b")
        world.nodes["b"].suspect_of("odd")
        world.submit()
        world.pass_time(1.0)
        self.assertEqual(world.sends, "a")

    def test_full(self) -> None:
        """Nor is one that is full."""
        world = self.make(nodes=(node_config("a"), node_config("b", max_concurrency=1)))
        world.nodes["b"].in_flight = 1
        world.submit()
        world.pass_time(1.0)
        self.assertEqual(world.sends, "a")

    def test_budget(self) -> None:
        """A hundred hedges in ten seconds, with few requests, and no more; those beyond wait for their node."""
        world = self.make("a b", hedge=HedgeConfig(budget_min_per_second=1.0))
        for _ in range(20):
            world.submit()
        world.pass_time(0.35)
        self.assertEqual((world.sends.count("b"), world.router.stats.hedges_denied), (10, 10))
        world.pass_time(3.0)
        self.assertEqual(world.sends.count("b"), 10)


class OutcomeTests(HedgingTestCase):
    def hedged(self, **config: Any) -> Any:
        world = self.make("a b", **config)
        client = world.submit()
        world.pass_time(0.31)
        self.assertEqual(world.sends, "ab")
        return client

    def test_first_wins(self) -> None:
        """The first may still win; the second lost nothing by that."""
        client = self.hedged()
        world = self.world
        world.last("a").result()
        self.assertEqual((client.said, client.node), (["answer"], "a"))
        self.assertEqual((world.nodes["b"].hedge_losses, world.router.stats.hedges_won), (0, 0))

    def test_one_fails(self) -> None:
        """A failure of one waits for the other; nobody else is asked meanwhile."""
        for first, second in ("ab", "ba"):
            client = self.hedged()
            self.world.last(first).fail(Fault.DISCONNECTED)
            self.assertEqual((client.said, self.world.sends), ([], "ab"))
            self.world.last(second).result()
            self.assertEqual((client.said, client.node), (["answer"], second))
            self.world.check_idle(self)

    def test_both_fail(self) -> None:
        """When both fail, what the first said is told."""
        client = self.hedged(rpc_retries=0)
        self.world.last("b").error(-32000, "missing trie node")
        self.world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual((client.said, client.node), (["answer"], "b"))
        self.world.check_idle(self)

    def test_large_answer(self) -> None:
        """The one whose answer outgrows what is held has won."""
        client = self.hedged()
        self.world.last("b").begin(b'{"jsonrpc":"2.0","id":1,"result":"')
        self.assertEqual((client.said, client.node), (["begin"], "b"))
        self.world.last("a").result()
        self.world.last("b").sink.ended()
        self.assertEqual(client.said, ["begin", "finish"])
        self.world.check_idle(self)

    def test_client_leaves(self) -> None:
        """Both are given up when the client leaves."""
        client = self.hedged()
        self.world.leave(client)
        self.assertEqual(
            [event for event in self.world.events if event[1] == "cancel"], [("b", "cancel"), ("a", "cancel")]
        )
        self.world.check_idle(self)

    def test_both_time_out(self) -> None:
        """Two nodes that hang: 504, after both had their time."""
        client = self.hedged(rpc_retries=0)
        self.world.pass_time(6.0)
        self.assertRefused(client, 504, -32015)
        self.world.check_idle(self)


class LoserTests(HedgingTestCase):
    def lose(self, world: World) -> None:
        world.submit()
        world.pass_time(0.31)
        world.last("b").result()

    def test_answer_is_dropped(self) -> None:
        """The loser's answer within half a second is taken and dropped, so that its connection can be kept."""
        world = self.make("a b")
        self.lose(world)
        self.assertEqual((world.nodes["a"].in_flight, len(world.deadlines.watched)), (1, 1))
        self.assertIn(("a", "redirect"), world.events)
        world.last("a").result()
        self.assertNotIn(("a", "cancel"), world.events)
        self.assertEqual(world.nodes["a"].hedge_losses, 0)
        world.check_idle(self)

    def test_cut_off(self) -> None:
        """After that its connection is closed, and not to have answered counts like a failure."""
        world = self.make("a b")
        self.lose(world)
        world.pass_time(0.52)
        self.assertIn(("a", "cancel"), world.events)
        self.assertEqual(world.blames, [("a", True)])
        world.check_idle(self)

    def test_too_large(self) -> None:
        """So is one whose answer is large."""
        for large in ("began", "held"):
            world = self.make("a b")
            self.lose(world)
            loser = world.last("a")
            if large == "began":
                loser.begin(b"x")
            else:
                loser.sink.flight.held_bytes = DRAIN_BYTES + 1
                loser.sink.progressed()
            self.assertIn(("a", "cancel"), world.events, large)
            self.assertEqual(world.blames, [])
            world.check_idle(self)

    def test_fails(self) -> None:
        """A loser that fails is over, and nobody hears of it twice."""
        world = self.make("a b")
        self.lose(world)
        sink = world.last("a").sink
        world.last("a").fail(Fault.DISCONNECTED)
        sink.out_of_time()
        self.assertEqual(world.blames, [("a", True)])
        world.check_idle(self)

    def test_not_sent(self) -> None:
        """A loser that waits for a connection is forgotten at once."""
        world = self.make("a b")
        world.submit()
        world.last("a").sink.flight = None
        world.pass_time(0.31)
        world.last("b").result()
        world.check_idle(self)

    def test_latency(self) -> None:
        """The loser's time counts into its latency."""
        world = self.make("a b")
        before = world.nodes["a"].latency_seconds or 0.0
        self.lose(world)
        self.assertAlmostEqual(world.nodes["a"].latency_seconds or 0.0, before + 0.2 * (0.31 - before), places=3)

    def test_suspect(self) -> None:
        """Three losses without an answer between make suspect, for a while also in spite of good polls."""
        world = self.make("a b")
        clients = [world.submit() for _ in range(4)]
        world.pass_time(0.31)
        for sent in world.spies["b"].sent[:2]:
            sent.result()
        self.assertEqual(world.order, "ab")
        world.spies["a"].sent[2].result()
        world.spies["b"].sent[3].result()
        self.assertEqual((world.order, world.nodes["a"].hedge_losses), ("ab", 1))
        self.assertEqual([client.said for client in clients], [["answer"]] * 4)

        for _ in range(2):
            world.submit()
        world.pass_time(0.48)  # half as much again as the answer that was late
        for sent in world.spies["b"].sent[4:]:
            sent.result()
        self.assertEqual(world.order, "ba")
        self.assertIn("3 times in a row", world.nodes["a"].health.suspicion or "")
        for sent in (*world.spies["a"].sent[:2], *world.spies["a"].sent[3:]):
            sent.result()
        world.poll()
        self.assertEqual(world.order, "ba")
        world.clock.advance(5.0)
        world.poll()
        self.assertEqual(world.order, "ab")

    def test_hanging_node(self) -> None:
        """A node that hangs on requests, though it answers polls, is out after two of them."""
        world = self.make("a b")
        for _ in range(2):
            world.poll()
            self.lose(world)
            world.pass_time(0.52)
        self.assertEqual((world.nodes["a"].ejected, world.order), (True, "b"))


class SilentOnAMethodTests(HedgingTestCase):
    """A node that answers all but one method: nothing but the clients' own calls tells."""

    def silence(self, world: World, calls: int = 3) -> None:
        """So many calls that node a does not answer, and b does; balances are answered between."""
        for _ in range(calls):
            world.submit("eth_call")
        world.pass_time(0.32)
        for sent in world.spies["b"].sent[-calls:]:
            sent.result()
            world.submit()
            world.last("a").result()

    def test_avoided(self) -> None:
        """The method goes elsewhere from the third on, at once, and all other calls stay."""
        world = self.make("a b")
        self.silence(world)
        world.events.clear()
        world.submit("eth_call")
        world.submit()
        self.assertEqual((world.sends, world.order), ("ba", "ab"))
        self.assertEqual(world.blames, [])

    def test_not_a_failure(self) -> None:
        """A slow call proves nothing against its node, even if it is never answered."""
        world = self.make("a b")
        self.silence(world, 8)
        world.pass_time(1.0)
        self.assertEqual((world.blames, world.nodes["a"].ejected), ([], False))

    def test_tried_again(self) -> None:
        """After five seconds one call is sent there again: its answer ends it."""
        world = self.make("a b")
        self.silence(world)
        world.pass_time(5.1, step=0.1)
        world.poll()
        world.events.clear()
        world.submit("eth_call")
        self.assertEqual(world.sends, "a")
        world.last("a").result()
        self.assertEqual(world.nodes["a"].avoidance.silent_methods(world.clock.seconds()), [])
        self.assertFalse(world.nodes["a"].is_particular)

    def test_late_answer(self) -> None:
        """An answer that comes too late shows that it does not hang."""
        world = self.make("a b")
        for _ in range(2):
            world.submit("eth_call")
        world.pass_time(0.32)
        for sent in world.spies["b"].sent:
            sent.result()
        world.last("a").result()
        self.assertFalse(world.nodes["a"].avoidance)

    def test_what_it_owes(self) -> None:
        """What it owes is asked elsewhere in spite of a budget that is spent, a few at a time."""
        world = self.make("a b", hedge=HedgeConfig(budget_min_per_second=0.5, max_slow=10))
        clients = [world.submit("eth_call") for _ in range(40)]
        world.pass_time(0.32)
        self.assertEqual(world.sends.count("b"), 5)
        for _ in range(9):
            for sent in world.spies["b"].sent[sum(client.ended for client in clients) :]:
                sent.result()
            world.pass_time(0.12)
        self.assertEqual([client.said for client in clients], [["answer"]] * 40)

    def test_everybody_is(self) -> None:
        """Where all nodes are silent on a method, all are asked for it."""
        world = self.make("a b")
        for node in world.nodes.values():
            for _ in range(3):
                node.avoidance.record_loss("eth_call", 0.0)
            node.is_particular = True
        world.submit("eth_call")
        self.assertEqual(world.sends, "a")


class SilentTierTests(HedgingTestCase):
    def test_in_trouble_by_polls(self) -> None:
        """When the whole serving tier is silent and polls say so too, the next tier is asked."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        client = world.submit()
        world.pass_time(1.0)
        self.assertEqual(world.sends, "a")
        world.publish(world.network.observe_poll_failure(world.nodes["a"], "no answer", 1.0, final=False))
        world.pass_time(0.31)
        self.assertEqual(world.sends, "af")
        world.last("f").result()
        self.assertEqual((client.said, client.node), (["answer"], "f"))

    def test_silent(self) -> None:
        """So it is when three requests have waited long, and no answer came between."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        self.teach(world)
        clients = [world.submit() for _ in range(3)]
        world.pass_time(0.29)
        self.assertEqual(world.sends, "aaa")
        world.pass_time(0.15)
        self.assertEqual(world.sends, "aaafff")
        for sent in world.spies["f"].sent:
            sent.result()
        self.assertEqual([client.said for client in clients], [["answer"]] * 3)

    def test_one_is_not_enough(self) -> None:
        """Two silent requests, or three with an answer between, are not enough to pay for."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        self.teach(world)
        for _ in range(2):
            world.submit()
        world.pass_time(0.6)
        world.submit()
        world.last("a").result()
        world.submit()
        world.pass_time(0.6)
        self.assertNotIn("f", world.sends)

    def test_lonely(self) -> None:
        """A single slow call of a tier that hangs goes to the next one after ``rpc_timeout``; the second one sooner."""
        for method, seconds in (("eth_call", 5.0), ("debug_traceTransaction", 20.0)):
            world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
            client = world.submit(method)
            world.pass_time(seconds - 0.2, step=0.1)
            self.assertEqual(world.sends, "a", method)
            world.pass_time(0.4, step=0.1)
            self.assertEqual(world.sends, "af", method)
            world.last("f").result()
            self.assertEqual((client.said, client.node), (["answer"], "f"), method)
            self.assertIn("another node answered", world.nodes["a"].health.suspicion or "")
            world.submit(method)
            self.assertEqual(world.sends, "aff", method)
            world.last("f").result()
            self.assertEqual(world.blames, [], method)
            world.pass_time(5.5, step=0.1)
            world.poll()
            world.submit(method)
            self.assertEqual(world.sends, "affa", method)
            world.pass_time(0.6)
            self.assertEqual(world.sends, "affaf", method)

    def test_lonely_and_slow_everywhere(self) -> None:
        """A call that takes long at the next tier as well says nothing of the first node."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        world.submit("eth_call")
        world.pass_time(5.2, step=0.1)
        world.pass_time(6.0, step=0.1)
        world.last("f").result()
        self.assertEqual((world.nodes["a"].suspect, world.nodes["a"].avoidance.is_doubted("eth_call")), (False, False))

    def test_usually_long(self) -> None:
        """Nobody pays for calls that take that long as a rule."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        world.submit("eth_call")
        world.pass_time(4.0, step=0.1)
        world.last("a").result()
        world.submit("eth_call")
        world.pass_time(9.0, step=0.1)
        self.assertEqual(world.sends, "aa")
