"""The hub among nodes in memory: each head once and in order, each log once, whatever befalls the nodes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.subscribing.chain import ADDRESSES, TOPICS
from tests.subscribing.world import World

LOG = (0, (0,))


class Case(SynchronousTestCase):
    """Ends every world."""

    def world(self, *args: object, **settings: object) -> World:
        world = World(*args, **settings)  # type: ignore[arg-type]
        self.addCleanup(world.close)
        return world


class HeadsTests(Case):
    def test_pushed(self) -> None:
        """What any node pushes is told once, at once, and nobody is asked for it."""
        world = self.world("a b")
        heads = world.heads()
        world["a"].asked.clear()
        for _ in range(3):
            world.chain.mine()
            world.all_see()
        heads.check(world.chain.tip)
        self.assertEqual(len(heads.events), 3)
        self.assertEqual(world["a"].count("eth_getBlockByHash"), 0)

    def test_no_fetch_of_what_is_pushed(self) -> None:
        """Heads of nodes that push are not asked for, though polls tell of them."""
        world = self.world("a b")
        heads = world.heads()
        world.wait(1)
        world["a"].asked.clear()
        for _ in range(5):
            world.chain.mine()
            world["a"].head = world.chain.tip
            world.tick()  # the poll is first
            world.all_see()
            world.wait(1)
        heads.check(world.chain.tip)
        self.assertEqual(world["a"].asked, [])

    def test_skipped_numbers(self) -> None:
        """Chains that skip numbers (1001, 1002, 1004) are told like others, pushed or polled, and nobody is closed."""
        for push in (True, False):
            world = self.world("a b", push=push)
            heads, logs = world.heads(), world.logs({})
            for skip in (0, 1, 0, 5, 2):
                world.chain.mine(LOG, skip=skip)
                world.all_see()
                world.wait(1)
            for skip in (1, 0, 3):  # these are missed
                world.chain.mine(LOG, skip=skip)
            world.chain.mine(LOG, skip=2, on=world.chain.tip.ancestor(1))  # and one of them abandoned
            world.all_see()
            world.wait(2)
            heads.check(world.chain.tip)
            logs.check(world.chain.tip)
            self.assertEqual((world.hub.cuts, len(heads.events)), (0, 8))
            came_back = world.heads(resume=heads.events[2].hash)
            world.wait(1)
            came_back.check(world.chain.tip)

    def test_polled(self) -> None:
        """A network without WebSocket has heads as well."""
        world = self.world("a b", push=False)
        heads = world.heads()
        for count in (1, 1, 3):
            world.chain.mine_many(count)
            world.all_see()
            world.wait(1)
        heads.check(world.chain.tip)
        self.assertEqual(len(heads.events), 5)

    def test_push_fails_silently(self) -> None:
        """A node whose push has died is polled."""
        world = self.world("a")
        heads = world.heads()
        world["a"].handles.clear()
        world.chain.mine()
        world.all_see()
        world.wait(1)
        self.assertEqual(heads.events, [])
        world.wait(3)
        heads.check(world.chain.tip)

    def test_feeding_node_dies(self) -> None:
        """The node whose heads were first is lost; blocks that nobody announced are fetched."""
        world = self.world("a b")
        heads = world.heads()
        world.chain.mine()
        world["a"].see(world.chain.tip)
        world["a"].die()
        world.chain.mine_many(4)
        world["b"].see(world.chain.tip)
        world.wait(2)
        heads.check(world.chain.tip)
        self.assertEqual(world.hub.blocks.backfilled, 3)

    def test_stalled_node(self) -> None:
        """A node that hangs keeps nobody waiting: the next one is asked."""
        world = self.world("a b c")
        heads = world.heads()
        for node in world.nodes.values():
            node.delay_seconds = 0.01
        world["a"].is_frozen = True
        world.chain.mine_many(3)
        world["b"].see(world.chain.tip)
        world.tick()
        world.tick()  # the head is a leap: it is believed when a second poll has proven it
        world.clock.pump([0.1] * 20)
        heads.check(world.chain.tip)

    def test_leap(self) -> None:
        """A head that cannot be believed yet is told as soon as it can."""
        world = self.world("a b")
        heads = world.heads()
        world.chain.mine_many(8)
        world["a"].see(world.chain.tip)
        self.assertEqual(heads.events, [])
        world.wait(2)
        heads.check(world.chain.tip)
        self.assertNotIn(("eth_getBlockByNumber", [world.chain.tip.value["number"], False]), world["a"].asked)

    def test_reorg(self) -> None:
        """After a reorg the heads of the new branch are told."""
        world = self.world("a b")
        heads = world.heads()
        world.chain.mine_many(3)
        world.all_see()
        world.wait(1)
        world.chain.reorg(2, 3)
        world.all_see()
        world.wait(1)
        heads.check(world.chain.tip)
        self.assertEqual(len(heads.events), 6)
        self.assertEqual(world.hub.blocks.deepest_reorg, 2)

    def test_subscribed_before_the_view_began(self) -> None:
        """The answer waits for a head: no block after it is missed."""
        world = self.world("a", push=False)
        world["a"].delay_seconds = 0.2
        client = world.client()
        heads = world.heads(client)
        self.assertEqual(client.replies, {})
        self.assertEqual(client.subscriptions, 1)
        world.chain.mine()
        world["a"].see(world.chain.tip)
        world.wait(1)
        self.assertEqual(len(client.replies), 1)
        world.chain.mine()
        world["a"].see(world.chain.tip)
        world.wait(2)
        heads.check(world.chain.tip)

    def test_no_node(self) -> None:
        """While no node tells a head, there are no subscriptions to it."""
        world = self.world("a", push=False)
        world["a"].is_dead = True
        world.wait(3)
        client = world.client()
        call = world.call(client, "newHeads")
        world.wait(6)
        self.assertEqual(client.refusals[call], (-32000, "no node of this network tells the head of the chain"))
        self.assertEqual(client.subscriptions, 0)

    def test_too_far(self) -> None:
        """Where more was missed than can be made up for, clients are closed with the reason, and hear nothing more."""
        world = self.world("a", backfill_blocks=10)
        client = world.client()
        world.heads(client)
        world.logs(client=client)
        world.chain.mine_many(30, LOG)
        world.all_see()
        world.wait(1)
        self.assertEqual(client.closed, (1012, "more than 10 blocks were missed; subscribe again"))
        self.assertEqual(client.order, [])
        self.assertEqual(world.hub.cuts, 1)
        heads = world.heads()
        world.chain.mine()
        world.all_see()
        heads.check(world.chain.tip)


class LogsTests(Case):
    def test_told(self) -> None:
        """Each log that the filter means is told, once, in order."""
        world = self.world("a b")
        mine = world.logs({"address": ADDRESSES[0]})
        everything = world.logs()
        world.chain.mine((0, (0,)), (1, (1,)), (0, ()))
        world.chain.mine((1, ()))
        world.all_see()
        world.wait(1)
        mine.check(world.chain.tip)
        everything.check(world.chain.tip)
        self.assertEqual((len(mine.events), len(everything.events)), (2, 4))

    def test_skipped_numbers(self) -> None:
        """Chains that skip numbers (1001, 1002, 1004) are told like others, pushed or polled, and nobody is closed."""
        for push in (True, False):
            world = self.world("a b", push=push)
            heads, logs = world.heads(), world.logs({})
            for skip in (0, 1, 0, 5, 2):
                world.chain.mine(LOG, skip=skip)
                world.all_see()
                world.wait(1)
            for skip in (1, 0, 3):  # these are missed
                world.chain.mine(LOG, skip=skip)
            world.chain.mine(LOG, skip=2, on=world.chain.tip.ancestor(1))  # and one of them abandoned
            world.all_see()
            world.wait(2)
            heads.check(world.chain.tip)
            logs.check(world.chain.tip)
            self.assertEqual((world.hub.cuts, len(heads.events)), (0, 8))
            came_back = world.heads(resume=heads.events[2].hash)
            world.wait(1)
            came_back.check(world.chain.tip)

    def test_polled(self) -> None:
        """A network without WebSocket has logs as well."""
        world = self.world("a b", push=False)
        logs = world.logs({"topics": [TOPICS[0]]})
        world.chain.mine_many(3, LOG)
        world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 3)

    def test_bloom(self) -> None:
        """Logs are asked for only where the bloom has some that somebody wants."""
        world = self.world("a")
        logs = world.logs({"address": ADDRESSES[0]})
        for emitted in (((1, ()),), (), ((0, ()),)):
            world.chain.mine(*emitted)
            world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual(world["a"].count("eth_getLogs"), 1)

    def test_one_question_for_all(self) -> None:
        """All filters of a block are in one question; equal ones are one."""
        world = self.world("a")
        several = [world.logs({"address": ADDRESSES[n % 2]}) for n in range(10)]
        world.chain.mine((0, ()), (1, ()), (2, ()))
        world.all_see()
        world.wait(1)
        for logs in several:
            logs.check(world.chain.tip)
        asked = [params for method, params in world["a"].asked if method == "eth_getLogs"]
        self.assertEqual(asked, [[{"blockHash": world.chain.tip.hash, "address": list(ADDRESSES[:2])}]])

    def test_reorg(self) -> None:
        """The abandoned blocks' logs are taken back, the last one first, before those of the new branch come."""
        world = self.world("a b")
        logs = world.logs()
        first = world.chain.mine(LOG, LOG)
        second = world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        new = world.chain.reorg(2, 3, LOG)
        world.all_see()
        world.wait(1)
        logs.check(new)
        told = [((first.hash, 0), False), ((first.hash, 1), False), ((second.hash, 0), False)]
        self.assertEqual(logs.events[:3], told)
        self.assertEqual(logs.events[3:6], [(place, True) for place, _ in reversed(told)])
        self.assertEqual(len(logs.events), 9)

    def test_not_told_not_taken_back(self) -> None:
        """Who subscribed after a block is not told that its logs are gone."""
        world = self.world("a")
        world.chain.mine(LOG)
        world.all_see()
        before = world.logs()
        world.chain.mine(LOG)
        world.all_see()
        after = world.logs()
        world.chain.reorg(2, 3, LOG)
        world.all_see()
        world.wait(1)
        before.check(world.chain.tip)
        after.check(world.chain.tip)
        self.assertEqual([removed for _, removed in after.events], [False] * 3)
        self.assertEqual([removed for _, removed in before.events], [False, True, False, False, False])

    def test_heads_before_logs(self) -> None:
        """A node that has the head but not its logs yet is asked again."""
        world = self.world("a")
        world["a"].logs_after_seconds = 0.3
        world["a"].delay_seconds = 0.01
        world.logs({"address": ADDRESSES[3]})  # not only from this block on is the bloom believed
        logs = world.logs({"address": ADDRESSES[0]})
        world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 1)
        self.assertEqual(world.hub.logs.unproven, 0)

    def test_elsewhere(self) -> None:
        """Where one node has no logs, another one is asked."""
        world = self.world("a b")
        world["a"].logs_after_seconds = 1e9
        logs = world.logs({"address": ADDRESSES[0]})
        world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 1)

    def test_unproven(self) -> None:
        """When no node has the promised logs for a block time, the block is counted, and what follows is told."""
        world = self.world("a")
        world["a"].spoil = lambda method, params, result: [] if method == "eth_getLogs" else result
        logs = world.logs({"address": ADDRESSES[0]})
        world.chain.mine(LOG)
        world.all_see()
        world.wait(3)
        self.assertEqual(world.hub.logs.unproven, 1)
        world["a"].spoil = lambda method, params, result: result
        world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        self.assertEqual(len(logs.events), 1)

    def test_slow_logs_do_not_delay_heads(self) -> None:
        """Heads are told while logs are still asked for."""
        world = self.world("a")
        heads, logs = world.heads(), world.logs()
        world["a"].delay_seconds = 3.0
        for _ in range(3):
            world.chain.mine(LOG)
            world.all_see()
        self.assertEqual(len(heads.events), 3)
        self.assertEqual(logs.events, [])
        world.wait(4)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 3)

    def test_abandoned_before_told(self) -> None:
        """A block that is abandoned before its logs were there is passed over."""
        world = self.world("a")
        logs = world.logs()
        lost = [{"blockHash": world.chain.mine(LOG).hash}]
        world["a"].spoil = lambda method, params, result: 5 if params == lost else result
        world.all_see()
        world.wait(1)
        world.chain.reorg(1, 2, LOG)
        world.all_see()
        self.assertEqual(len(logs.events), 2)
        logs.check(world.chain.tip)
        self.assertEqual([removed for _, removed in logs.events], [False, False])

    def test_no_node_gives_them(self) -> None:
        """When no node answers for a minute, those concerned are closed: no log is left out in silence."""
        world = self.world("a")
        concerned, other, heads = world.client(), world.client(), world.client()
        world.logs({"address": ADDRESSES[0]}, concerned)
        world.logs({"address": ADDRESSES[1]}, other)
        world.heads(heads)
        world["a"].spoil = lambda method, params, result: 5 if method == "eth_getLogs" else result
        world.chain.mine(LOG)
        world.all_see()
        world.wait(59)
        self.assertIs(concerned.closed, None)
        world.wait(6)
        self.assertEqual(concerned.closed, (1012, f"no node gives the logs of block {world.chain.tip.number}"))
        self.assertEqual((other.closed, heads.closed), (None, None))

    def test_wrong_bloom(self) -> None:
        """Where a log is found that is missing in the bloom, the bloom is believed no more."""
        world = self.world("a")
        logs = world.logs()
        block = world.chain.mine(LOG, (1, (1,)))
        block.value["logsBloom"] = "0x" + "00" * 255 + "01"
        world.all_see()
        world.wait(3)
        rare = world.logs({"address": ADDRESSES[2]})
        block = world.chain.mine((2, ()))
        block.value["logsBloom"] = "0x" + "00" * 255 + "01"
        world.all_see()
        world.wait(3)
        rare.check(world.chain.tip)
        logs.check(world.chain.tip)


class ResumeTests(Case):
    def test_heads(self) -> None:
        """A client is told what it missed, first."""
        world = self.world("a")
        world.heads()
        seen = world.chain.tip
        world.chain.mine_many(3)
        world.all_see()
        by_hash, by_number = world.heads(resume=seen.hash), world.heads(resume=seen.number)
        world.chain.mine()
        world.all_see()
        for heads in (by_hash, by_number):
            heads.check(world.chain.tip)
            self.assertEqual(len(heads.events), 4)

    def test_logs(self) -> None:
        """It is told each log that it missed once, then those of new blocks, though they came while it caught up."""
        world = self.world("a")
        world.logs()
        seen = world.chain.tip
        world.chain.mine_many(3, LOG)
        world.all_see()
        world["a"].delay_seconds = 0.1
        logs = world.logs({"address": ADDRESSES[0]}, resume=seen.hash)
        world.chain.mine(LOG)
        world.all_see()
        self.assertEqual(logs.events, [])
        world.wait(2)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 4)

    def test_announced_but_not_told(self) -> None:
        """Blocks that the others wait for are missed ones for who resumes."""
        world = self.world("a")
        old = world.logs()
        seen = world.chain.tip
        world["a"].delay_seconds = 0.2
        world.chain.mine_many(2, LOG)
        world.all_see()
        logs = world.logs(resume=seen.number)
        world.wait(2)
        logs.check(world.chain.tip)
        old.check(world.chain.tip)
        self.assertEqual((len(logs.events), len(old.events)), (2, 2))

    def test_abandoned(self) -> None:
        """With the hash of an abandoned block, its logs are taken back first."""
        world = self.world("a")
        world.heads()
        seen = world.chain.mine_many(2, LOG)
        world.all_see()
        world.chain.reorg(2, 3, LOG)
        world.all_see()
        world.wait(1)
        logs, heads = world.logs(resume=seen.hash), world.heads(resume=seen.hash)
        world.wait(1)
        logs.check(world.chain.tip)
        heads.check(world.chain.tip)
        self.assertEqual([removed for _, removed in logs.events], [True] * 2 + [False] * 3)

    def test_reorg_below(self) -> None:
        """What a client has seen before it resumed is taken back, too."""
        world = self.world("a")
        world.heads()
        world.chain.mine_many(4, LOG)
        world.all_see()
        logs = world.logs({"address": ADDRESSES[0]}, resume=world.chain.tip.number)
        world.chain.reorg(3, 4, LOG)
        world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual([removed for _, removed in logs.events], [True] * 3 + [False] * 4)

    def test_first_of_all(self) -> None:
        """The first subscription of all may resume: the blocks before are fetched."""
        for push in (True, False):
            world = self.world("a", push=push)
            world["a"].delay_seconds = 0.05
            heads = world.heads(resume=world.chain.tip.ancestor(15).hash)
            world.wait(3)
            heads.check(world.chain.tip)
            self.assertEqual(len(heads.events), 15)

    def test_refused(self) -> None:
        """A block that is unknown or too far back is refused, after a while."""
        world = self.world("a")
        client = world.client()
        calls = [
            world.call(client, "newHeads", {"resume": block})
            for block in ("0x" + "ab" * 32, world.chain.tip.number - 21, world.chain.tip.number + 1, -5)
        ]
        self.assertEqual(client.subscriptions, 4)
        world.wait(6)
        for call in calls:
            code, words = client.refusals[call]
            self.assertEqual((code, "resume_blocks" in words), (-32602, True))
        self.assertEqual(client.subscriptions, 0)

    def test_it_comes(self) -> None:
        """A client that has seen more than our nodes have waits for them."""
        world = self.world("a")
        client = world.client()
        heads = world.heads(client, resume=world.chain.mine().hash)
        self.assertEqual(client.replies, {})
        world.chain.mine()
        world.all_see()
        world.wait(1)
        heads.check(world.chain.tip)
        self.assertEqual(len(heads.events), 1)

    def test_lingering(self) -> None:
        """Who was alone and comes back soon can resume; later nothing is asked of nodes any more."""
        world = self.world("a", push=False)
        client = world.client()
        world.heads(client)
        seen = world.chain.tip
        client.is_open = False
        world.hub.gone(client)
        world.chain.mine_many(2)
        world.all_see()
        world.wait(30)
        heads = world.heads(resume=seen.hash)
        heads.check(world.chain.tip)
        world.hub.gone(world.clients[-1])
        world.wait(62)
        self.assertIs(world.hub.blocks.view, None)
        world["a"].asked.clear()
        world.chain.mine_many(2)
        world.all_see()
        world.wait(2)
        self.assertEqual(world["a"].asked, [])

    def test_catching_up_shares(self) -> None:
        """Many who come back with the same filter share what is asked."""
        world = self.world("a")
        world.heads()
        seen = world.chain.tip
        world.chain.mine_many(5, LOG)
        world.all_see()
        world["a"].delay_seconds = 0.05
        several = [world.logs({"address": ADDRESSES[0]}, resume=seen.hash) for _ in range(50)]
        world.wait(3)
        for logs in several:
            logs.check(world.chain.tip)
        self.assertEqual(world["a"].count("eth_getLogs"), 5)


class ClientsTests(Case):
    def test_bad_input(self) -> None:
        """What is no subscription is refused, with words."""
        world = self.world("a")
        client = world.client()
        for params in (
            [],
            [5],
            ["logs", 5],
            ["logs", {"address": "0x1"}],
            ["newHeads", {"resume": True}],
            ["newHeads", {"resume": None}],
            ["newHeads", {"resume": "latest"}],
            ["logs", {"address": ADDRESSES[0], "resume": 5}],
            ["newPendingTransactions", 5],
            ["nonsense", "x" * 20_000],
        ):
            call = world.call(client, *params)
            self.assertEqual(client.refusals[call][0], -32602, params)
        self.assertEqual(client.subscriptions, 0)

    def test_limit(self) -> None:
        """One connection has so many, those counted that are being made."""
        world = self.world("a", push=False)
        world["a"].delay_seconds = 0.5
        client = world.client(max_subscriptions=3)
        calls = [world.call(client, topic) for topic in ("newHeads", "logs", "newHeads", "newHeads", "logs")]
        world.wait(1)
        self.assertEqual([call in client.replies for call in calls], [True] * 3 + [False] * 2)
        self.assertEqual(client.refusals[calls[-1]][0], -32005)
        self.assertEqual(client.subscriptions, 3)

    def test_unsubscribe(self) -> None:
        """Its own subscriptions a client can end, once; others not."""
        world = self.world("a")
        one, other = world.client(), world.client()
        world.heads(one)
        world.logs(None, one)
        ids = list(one.replies.values())
        self.assertFalse(world.hub.unsubscribe(other, ids[0]))
        self.assertFalse(world.hub.unsubscribe(one, "0x1"))
        for subscription_id in ids:
            self.assertTrue(world.hub.unsubscribe(one, subscription_id))
            self.assertFalse(world.hub.unsubscribe(one, subscription_id))
        self.assertEqual(one.subscriptions, 0)
        world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        self.assertEqual(one.order, [])

    def test_gone_while_being_made(self) -> None:
        """Who leaves before its subscription stands gets none, and no answer."""
        for params in (["newHeads"], ["logs", {}], ["newHeads", {"resume": "0x" + "ab" * 32}]):
            world = self.world("a", push=False)
            world["a"].delay_seconds = 0.5
            client = world.client()
            world.call(client, *params)
            client.is_open = False
            world.hub.gone(client)
            world.wait(1)
            self.assertEqual(client.replies, {})
            self.assertEqual(set(world.hub.counts.values()), {0})

    def test_closed_amid_an_event(self) -> None:
        """A client that is closed while it is told something keeps nobody else from it."""
        world = self.world("a")
        slow, other = world.client(), world.client()
        world.heads(slow)
        world.heads(slow)
        heads = world.heads(other)

        def notify(*parts: bytes) -> None:
            slow.is_open = False
            world.hub.gone(slow)
            raise RuntimeError("and a fault in addition")

        slow.notify = notify  # type: ignore[method-assign]
        world.chain.mine()
        world.all_see()
        heads.check(world.chain.tip)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_ids(self) -> None:
        """An id has 128 bits and is nobody else's."""
        world = self.world("a")
        client = world.client()
        for _ in range(20):
            world.heads(client)
        ids = list(client.replies.values())
        self.assertEqual(len(set(ids)), 20)
        self.assertEqual({len(each) for each in ids}, {34})

    def test_counts(self) -> None:
        """Subscriptions are counted by kind."""
        world = self.world("a")
        world.heads()
        world.heads()
        world.logs()
        world.call(world.client(), "syncing")
        self.assertEqual(world.hub.counts, {"newHeads": 2, "logs": 1, "other": 1})
