"""What the hub's parts are bound to: how nodes are asked, what is remembered, who waits for whom."""

from __future__ import annotations

from evmlb.subscribing import blocklogs, flow
from evmlb.subscribing.blocklogs import Turns
from evmlb.subscribing.fanout import SLICE
from evmlb.subscribing.nodes import Nodes
from tests.subscribing.chain import ADDRESSES
from tests.subscribing.test_hub import LOG, Case
from tests.subscribing.world import NodeRefused, World


def ask(world: World, block: int = 0, within: float | None = None) -> list[object]:
    """Ask for a block; the list has the answer when there is one."""
    nodes = Nodes(world.network, list(world.nodes.values()), world.clock)
    params = [world.chain.tip.value["number"], False]
    found: list[object] = []
    nodes.ask_any(block, "eth_getBlockByNumber", params, lambda value: value, within=within).addCallback(found.append)
    return found


class NodesTests(Case):
    def world(self, *args: object, **settings: object) -> World:
        world = super().world(*args, push=False, **settings)
        for node in world.nodes.values():
            node.asked.clear()
            node.delay_seconds = 0.05
        return world

    def asked(self, world: World) -> str:
        """Who was asked, and how many times."""
        return " ".join(f"{name}{len(node.asked)}" for name, node in world.nodes.items())

    def test_first_good_one(self) -> None:
        """One answer is enough."""
        world = self.world("a b")
        found = ask(world)
        world.clock.advance(0.05)
        self.assertEqual(found, [world.chain.tip.value])
        self.assertEqual(self.asked(world), "a1 b0")

    def test_those_who_have_it(self) -> None:
        """Nodes that have reached the block are asked first."""
        world = self.world("a b")
        world.chain.mine()
        world["b"].see(world.chain.tip)
        world.tick()
        world["a"].asked.clear()
        found = ask(world, world.chain.tip.number)
        world.clock.advance(0.05)
        self.assertEqual(found, [world.chain.tip.value])
        self.assertEqual(self.asked(world), "a0 b1")

    def test_failing(self) -> None:
        """Where one fails, or has nothing, the next is asked at once."""
        world = self.world("a b c")
        world["a"].is_dead = True
        world["b"].spoil = lambda method, params, result: None
        found = ask(world)
        world.clock.pump([0.05] * 3)
        self.assertEqual(found, [world.chain.tip.value])

    def test_hedged(self) -> None:
        """Where one does not answer, the next is asked too; the late answer counts as well."""
        world = self.world("a b")
        world["a"].delay_seconds = 0.6
        world["b"].is_frozen = True
        found = ask(world)
        world.clock.pump([0.1] * 5)
        self.assertEqual(self.asked(world), "a1 b1")
        world.clock.advance(0.1)
        self.assertEqual(found, [world.chain.tip.value])

    def test_nobody(self) -> None:
        """When nobody has anything, that is the answer."""
        world = self.world("a b")
        for node in world.nodes.values():
            node.spoil = lambda method, params, result: None
        found = ask(world)
        world.clock.pump([0.05] * 3)
        self.assertEqual(found, [None])

    def test_again(self) -> None:
        """Within a time they are asked again, with growing pauses, until one has it."""
        world = self.world("a b")
        for node in world.nodes.values():
            node.spoil = lambda method, params, result: None
        found = ask(world, within=60)
        world.clock.pump([0.05] * 200)
        self.assertEqual((found, len(world["a"].asked) in range(8, 16)), ([], True), self.asked(world))
        world["b"].spoil = lambda method, params, result: result
        world.clock.pump([0.05] * 30)
        self.assertEqual(found, [world.chain.tip.value])

    def test_again_in_vain(self) -> None:
        """When the time is over there is no answer."""
        world = self.world("a")
        world["a"].is_frozen = True
        found = ask(world, within=10)
        world.clock.pump([0.5] * 20)
        self.assertEqual(found, [None])


class MemoryTests(Case):
    def test_bytes(self) -> None:
        """What is remembered of logs is bounded by bytes; what is needed later is asked for again."""
        self.patch(blocklogs, "REMEMBERED_BYTES", 20_000)
        world = self.world("a")
        logs = world.logs()
        for _ in range(30):
            world.chain.mine(LOG, LOG)
            world.all_see()
            world.wait(1)
        memory = world.hub.logs.blocks
        self.assertTrue(10_000 < memory.remembered_bytes <= 20_000, memory.remembered_bytes)
        world.chain.reorg(25, 26, LOG)
        world.all_see()
        world.wait(3)
        logs.check(world.chain.tip)
        self.assertTrue(memory.remembered_bytes <= 20_000, memory.remembered_bytes)

    def test_blocks(self) -> None:
        """And by blocks."""
        world = self.world("a", backfill_blocks=400)
        world.logs()
        for _ in range(300):
            world.chain.mine(LOG)
            world.clock.advance(1)
            world.all_see()
        world.settle()
        self.assertEqual(len(world.hub.logs.blocks._known), 128)

    def test_taken_back_from_memory(self) -> None:
        """What was told can be taken back though no node knows the block any more."""
        world = self.world("a")
        logs = world.logs({"address": ADDRESSES[0]})
        world.chain.mine_many(2, LOG)
        world.all_see()
        world.wait(1)
        world["a"].has_all = False
        world.chain.reorg(2, 3, LOG)
        world.all_see()
        world.wait(1)
        logs.check(world.chain.tip)
        self.assertEqual(len(logs.events), 7)

    def test_not_known_any_more(self) -> None:
        """Who resumes at a block whose logs nobody knows is closed, with the reason; the others are not."""
        world = self.world("a")
        other = world.client()
        world.logs({"address": ADDRESSES[1]}, other)
        seen = world.chain.mine(LOG)
        world.all_see()
        world["a"].has_all = False
        world.chain.reorg(1, 2, LOG)
        world.all_see()
        client = world.client()
        world.logs({"address": ADDRESSES[0]}, client, resume=seen.hash)
        world.wait(4)
        words = f"no node gives the logs of block {seen.number}, which was abandoned"
        self.assertEqual(client.closed, (1012, words))
        self.assertIs(other.closed, None)

    def test_catching_up_delays_nobody(self) -> None:
        """Who catches up slowly keeps no other waiting."""
        world = self.world("a")
        world.heads()
        seen = world.chain.tip
        world.chain.mine_many(3, LOG)
        world.all_see()
        world.wait(2)
        lost = world.chain.tip.hash

        def spoil(method: str, params: list[object], result: object) -> object:
            if method == "eth_getLogs" and params[0]["blockHash"] == lost:  # type: ignore[index]
                raise NodeRefused(-32000, "not now")
            return result

        world["a"].spoil = spoil
        late, logs = world.logs(resume=seen.hash), world.logs()
        world.chain.mine_many(2, LOG)
        world.all_see()
        world.wait(1)
        self.assertEqual((len(late.events), len(logs.events)), (2, 2))
        world["a"].spoil = lambda method, params, result: result
        world.wait(3)
        logs.check(world.chain.tip)
        late.check(world.chain.tip)


class BacklogTests(Case):
    def test_logs(self) -> None:
        """While much waits to be written no further block is told; nothing is lost by it."""
        self.patch(flow, "MOST_EVENTS", 2)
        world = self.world("a")
        client = world.client()
        several = [world.logs(client=client) for _ in range(SLICE + 1)]
        world.chain.mine_many(2, LOG, LOG, LOG, LOG)
        world.all_see()
        world.tick()
        world.tick()
        self.assertEqual(world.hub.fanout.backlog("logs"), 4)  # those of the first block
        world.settle()
        for logs in several:
            logs.check(world.chain.tip)
        self.assertEqual(len(several[0].events), 8)

    def test_left_while_waiting(self) -> None:
        """When all have left, nobody waits any more."""
        self.patch(flow, "MOST_EVENTS", 0)
        world = self.world("a")
        client = world.client()
        for _ in range(SLICE + 1):
            world.logs(client=client)
        world.chain.mine_many(2, LOG)
        world.all_see()
        world.tick()
        world.tick()
        client.is_open = False
        world.hub.gone(client)
        world.settle()
        again = world.logs()
        world.clock.advance(5)
        world.chain.mine(LOG)
        world.all_see()
        world.wait(1)
        again.check(world.chain.tip)
        self.assertEqual(len(again.events), 1)

    def test_too_many_blocks(self) -> None:
        """When the logs of too many blocks are missing, those who wait for them are closed."""
        world = self.world("a", backfill_blocks=5, resume_blocks=5)
        client, other = world.client(), world.client()
        world.logs(client=client)
        world.heads(other)
        world["a"].spoil = lambda method, params, result: 5 if method == "eth_getLogs" else result
        for _ in range(11):
            world.chain.mine(LOG)
            world.clock.advance(1)
            world.all_see()
        self.assertEqual(client.closed, (1012, "the logs of too many blocks are missing"))
        self.assertIs(other.closed, None)


class TurnsTests(Case):
    def test_deep(self) -> None:
        """Thousands in turn, each done at once, are no deeper than one."""
        turns, done = Turns(2), []
        held = [turns.take(), turns.take()]
        for n in range(5000):
            turns.take().addCallback(lambda _, n=n: (done.append(n), turns.give_back()))
        self.assertEqual(done, [])
        turns.give_back()
        self.assertEqual(done, list(range(5000)))
        self.assertEqual(len(held), 2)

    def test_left(self) -> None:
        """Who leaves the queue is passed over."""
        turns = Turns(1)
        turns.take()
        leaving, next_one = turns.take(), turns.take()
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        self.assertNoResult(next_one)
        turns.give_back()
        self.successResultOf(next_one)
