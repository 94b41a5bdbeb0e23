"""What is known of nodes decides who is asked: heads, methods, limits, rates."""

from __future__ import annotations

from evmlb.config.schema import RetryBudgetConfig, Strategy
from evmlb.errors import Fault
from tests.routing.support import Client, RoutingTestCase, World
from tests.support import node_config


class HeightTests(RoutingTestCase):
    def test_not_back(self) -> None:
        """A connection's block number does not fall: it is raised to what the connection has seen."""
        world = self.make("a b")
        first = world.submit("eth_blockNumber")
        world.last("a").result(b'"0x66"')
        world.nodes["a"].suspect_of("odd")
        world.poll("a", number=102)
        second = world.submit("eth_blockNumber", session=first.session)
        world.last("a").result(b'"0x65"')
        self.assertIn(b'"result":"0x66"', second.body)
        self.assertIn(b'"id":1', second.body)

    def test_other_connections(self) -> None:
        """What another connection saw does not matter."""
        world = self.make("a b")
        world.submit("eth_blockNumber")
        world.last("a").result(b'"0x66"')
        client = world.submit("eth_blockNumber")
        world.last("a").result(b'"0x64"')
        self.assertIn(b"0x64", client.body)

    def test_chainhead_fell(self) -> None:
        """When the chainhead itself came down, so does the number."""
        world = self.make("a")
        first = world.submit("eth_blockNumber")
        world.last("a").result(b'"0x64"')
        world.poll("a", number=90)
        self.assertEqual(world.network.chainhead, 90)
        second = world.submit("eth_blockNumber", session=first.session)
        world.last("a").result(b'"0x5a"')
        self.assertIn(b"0x5a", second.body)
        third = world.submit("eth_blockNumber", session=first.session)
        world.last("a").result(b'"0x5b"')
        self.assertIn(b"0x5b", third.body)


class ToldTests(RoutingTestCase):
    """What a connection was told of the chain, it is not shown an older state than that."""

    BLOCK = b'{"baseFeePerGas":"0x1","hash":"0x%b","number":"%#x","parentHash":"0x%b","transactions":[]}'

    def block(self, number: int) -> bytes:
        return self.BLOCK % (b"%064X" % number, number, b"0" * 64)

    def told(self, world: World, number: int) -> Client:
        """A client that was given a block by b, whose poll has not shown it yet."""
        world.publish(world.network.suspect(world.nodes["a"], "odd", world.clock.seconds()))
        client = world.submit("eth_getBlockByNumber", b'["latest",false]')
        world.last("b").result(self.block(number))
        world.poll("a")
        world.events.clear()
        return client

    def test_latest(self) -> None:
        """After a block was told, what is asked of the tip goes to a node that has it; other clients are free."""
        world = self.make("a b")
        client = self.told(world, 101)
        self.assertEqual(world.network.chainhead, 101)
        for params in (b'["0x1","latest"]', b'["0x1","pending"]', b'["0x1"]'):
            world.events.clear()
            world.submit(params=params, session=client.session)
            self.assertEqual(world.sends, "b", params)
            world.submit(params=params)
            self.assertEqual(world.sends, "ba", params)

    def test_by_hash(self) -> None:
        """A hash that was told names its block: whoever asks for it is sent to a node that has it."""
        world = self.make("a b")
        self.told(world, 101)
        params = b'[{"blockHash":"0x%064x"}]' % 101
        world.submit("eth_getLogs", params)
        world.submit("eth_getLogs", b'[{"blockHash":"0x%064x"}]' % 102)
        self.assertEqual(world.sends, "ba")

    def test_range_to_the_tip(self) -> None:
        """A range up to the tip counts as the tip."""
        world = self.make("a b")
        client = self.told(world, 101)
        world.submit("eth_getLogs", b'[{"fromBlock":"0x1","toBlock":"latest"}]', session=client.session)
        self.assertEqual(world.sends, "b")

    def test_shared(self) -> None:
        """With strategies that share, the tip does not go back on a connection either."""
        for strategy in (Strategy.SHARED, Strategy.LEAST_LOAD):
            world = self.make("a b c", strategy=strategy)
            heads = {"a": 100, "b": 101, "c": 102}
            session, seen = None, []
            for _ in range(48):
                client = world.submit("eth_getBlockByNumber", b'["latest",false]', session=session)
                name = world.sends[-1]
                world.last(name).result(self.block(heads[name]))
                session = client.session
                seen.append(heads[name])
            self.assertEqual(seen, sorted(seen), strategy)

    def test_batches(self) -> None:
        """What was told in a batch counts as well, and batches are asked where what was told is known."""
        for method, results in (
            ("eth_blockNumber", {"a": b'"0x64"', "b": b'"0x65"', "c": b'"0x66"'}),
            ("eth_getBlockByNumber", {name: self.block(100 + n) for n, name in enumerate("abc")}),
        ):
            world = self.make("a b c", strategy=Strategy.SHARED)
            params = b"[]" if method == "eth_blockNumber" else b'["latest",false]'
            member = b'{"jsonrpc":"2.0","id":%%d,"method":"%b","params":%b}' % (method.encode(), params)
            session, seen = None, ""
            for _ in range(48):
                client = world.submit(body=b"[" + member % 1 + b"," + member % 2 + b"]", session=session)
                seen += world.sends[-1]
                answers = (b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (n, results[seen[-1]]) for n in (2, 1))
                world.last(seen[-1]).answer(b"[" + b",".join(answers) + b"]")
                self.assertEqual(client.said, ["answer"])
                session = client.session
            self.assertEqual(list(seen), sorted(seen), method)
            self.assertEqual(world.network.chainhead, 100 + "abc".index(seen[-1]), method)
            single = world.submit(params=b'["0x1","latest"]', session=session)
            self.assertEqual(world.sends[-1], seen[-1])
            world.leave(single)

    def test_hash_told_in_a_batch(self) -> None:
        """A hash that was told in a batch names its block."""
        world = self.make("a b")
        world.publish(world.network.suspect(world.nodes["a"], "odd", world.clock.seconds()))
        world.submit(body=b'[{"jsonrpc":"2.0","id":7,"method":"eth_getBlockByNumber","params":["latest",false]}]')
        world.last("b").answer(b'[{"jsonrpc":"2.0","id":7,"result":%b}]' % self.block(101))
        world.poll("a")
        world.events.clear()
        world.submit("eth_getLogs", b'[{"blockHash":"0x%064x"}]' % 101)
        self.assertEqual(world.sends, "b")

    def test_odd_blocks(self) -> None:
        """A block that cannot be read teaches nothing, and is passed on."""
        world = self.make("a b")
        for result in (b"{}", b'{"number":"0xzz"}', b'{"transactions":[' + b'"0x1",' * 2000 + b'"0x1"]}'):
            client = world.submit("eth_getBlockByNumber", b'["0x1",false]')
            world.last("a").result(result)
            self.assertIn(result, client.body)
        self.assertEqual(world.network.chainhead, 100)


class NamedBlockTests(RoutingTestCase):
    def test_has_it(self) -> None:
        """A call that names a block goes to a node which is known to have it."""
        world = self.make("a b")
        world.poll("b", number=101)
        for params, sends in ((b'["0x1","0x65"]', "b"), (b'["0x1","0x64"]', "a"), (b'["0x1","latest"]', "a")):
            world.events.clear()
            world.submit(params=params)
            self.assertEqual(world.sends, sends, params)

    def test_nobody_has_it(self) -> None:
        """One that is beyond the chainhead is asked of the first."""
        world = self.make("a b")
        world.poll("b", number=101)
        world.submit(params=b'["0x1","0x66"]')
        self.assertEqual(world.sends, "a")

    def test_only_in_the_tier(self) -> None:
        """A node behind the serving tier is not preferred for it."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        world.poll("f", number=101)
        world.submit(params=b'["0x1","0x65"]')
        self.assertEqual(world.sends, "a")


class UnsupportedTests(RoutingTestCase):
    def test_remembered(self) -> None:
        """A method that a node lacks is asked elsewhere the next time; others still go there."""
        world = self.make("a b")
        world.submit("trace_block")
        world.last("a").error(-32601, "the method trace_block does not exist/is not available")
        world.last("b").result()
        world.events.clear()
        world.submit("trace_block")
        world.submit()
        self.assertEqual((world.sends, world.blames), ("ba", []))
        self.assertEqual(sum(world.router.stats.verdicts.values()), 1)

    def test_forgotten(self) -> None:
        """After ten minutes it is tried again."""
        world = self.make("a b")
        world.submit("trace_block")
        world.last("a").error(-32601, "no such method")
        world.last("b").result()
        world.clock.advance(601)
        world.poll()
        world.network.expire(world.clock.seconds())
        world.events.clear()
        world.submit("trace_block")
        self.assertEqual(world.sends, "a")
        self.assertFalse(world.nodes["a"].is_particular)

    def test_all_lack_it(self) -> None:
        """When all do, the first is asked, and its words are told."""
        world = self.make("a b")
        for _ in range(2):
            client = world.submit("trace_block")
            while not client.said:
                world.last(world.sends[-1]).error(-32601, "no such method")
            self.assertIn(b"no such method", client.body)
        self.assertEqual(world.sends, "abab")


class LimitTests(RoutingTestCase):
    def limit(self, *names: str, after: bytes = b"") -> None:
        headers = ((b"retry-after", after),) if after else ()
        for name in names:
            self.world.submit()
            while self.world.sends[-1] != name:
                self.world.last(self.world.sends[-1]).result()
                self.world.submit()
            self.world.last(name).answer(b"", 429, headers)

    def test_held_off(self) -> None:
        """A node that says it is asked too often gets nothing for a while, and no blame."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").answer(b"", 429)
        world.last("b").result()
        self.assertEqual((client.said, world.order, world.blames), (["answer"], "b", []))
        self.assertTrue(world.nodes["a"].healthy)

    def test_comes_back(self) -> None:
        """A good probe brings it back."""
        world = self.make("a b")
        world.submit()
        world.last("a").answer(b"", 429)
        world.last("b").result()
        now = world.clock.seconds() + 1.1
        world.nodes["a"].limit.begin_probe(now)
        world.publish(world.network.observe_probe(world.nodes["a"], True, None, now))
        self.assertEqual(world.order, "ab")

    def test_all_told_us(self) -> None:
        """When each node said until when, clients are told the smallest, and no node is asked before."""
        world = self.make("a b")
        world.submit()
        world.last("a").answer(b"", 429, ((b"retry-after", b"30"),))
        world.last("b").answer(b"", 429, ((b"retry-after", b"9"),))
        world.events.clear()
        world.clock.advance(2)
        client = world.submit()
        self.assertRefused(client, 429, -32005)
        self.assertEqual((client.refusal.retry_after_seconds, world.sends), (7, ""))

    def test_all_guessed(self) -> None:
        """Where the times are our own guess, nodes are asked when nobody else is left."""
        world = self.make("a b")
        world.submit()
        world.last("a").answer(b"", 429)
        world.last("b").answer(b"", 429)
        client = world.submit()
        world.last("a").result()
        self.assertEqual(client.said, ["answer"])

    def test_last_resort(self) -> None:
        """One that our own guess holds off is asked by a request that all others have failed."""
        world = self.make("a b")
        world.submit()
        world.last("a").answer(b"", 429)
        world.last("b").result()
        client = world.submit()
        world.last("b").answer(b"", 500)
        self.assertEqual(world.sends, "abba")
        world.last("a").result()
        self.assertEqual((client.said, client.node), (["answer"], "a"))

    def test_long_retry_after(self) -> None:
        """A Retry-After of a year is no reason never to look again."""
        world = self.make("a")
        world.submit()
        world.last("a").answer(b"", 429, ((b"retry-after", b"31536000"),))
        now = world.clock.seconds()
        self.assertEqual([world.nodes["a"].limit.probe_due(now + after) for after in (59.0, 60.0)], [False, True])


class RateTests(RoutingTestCase):
    def test_waits_a_little(self) -> None:
        """A node with a rate of its own gets no more; the next takes the rest, or it waits."""
        world = self.make(nodes=(node_config("a", requests_per_second=10.0),))
        clients = [world.submit() for _ in range(12)]
        self.assertEqual(world.sends, "a" * 10)
        world.pass_time(0.12)
        self.assertEqual(world.sends, "a" * 11)
        world.pass_time(0.1)
        self.assertEqual(world.sends, "a" * 12)
        for sent in world.spies["a"].sent:
            sent.result()
        self.assertEqual([client.said for client in clients], [["answer"]] * 12)
        world.check_idle(self)

    def test_next_node(self) -> None:
        """Another node that may be asked is."""
        world = self.make(nodes=(node_config("a", requests_per_second=2.0), node_config("b")))
        for _ in range(4):
            world.submit()
        self.assertEqual(world.sends, "aabb")


class BudgetTests(RoutingTestCase):
    def test_in_vain(self) -> None:
        """In a network that is broken retries stop when the budget is spent: it is not asked twice as much."""
        world = self.make("a b", retry_budget=RetryBudgetConfig(budget_min_per_second=1.0), rpc_retries=1)
        for _ in range(40):
            client = world.submit()
            while not client.said:
                world.last(world.sends[-1]).fail(Fault.DISCONNECTED)
        self.assertEqual(len(world.sends), 40 + 10)
        self.assertEqual(world.router.stats.retries_denied, 30)

    def test_many_at_a_time(self) -> None:
        """A thousand requests are under way on a quiet network when their node dies: all are answered by the other."""
        for fault in (Fault.DISCONNECTED, Fault.GARBAGE):
            world = self.make(nodes=(node_config("a", max_concurrency=2000), node_config("b", max_concurrency=2000)))
            clients = [world.submit() for _ in range(1000)]
            for sent in list(world.spies["a"].sent):
                sent.fail(fault)
            for sent in list(world.spies["b"].sent):
                sent.result()
            self.assertEqual({str(client.said) for client in clients}, {"['answer']"})
            world.check_idle(self)

    def test_errors_apart(self) -> None:
        """Errors that a client provokes everywhere do not spend what broken connections need."""
        world = self.make("a b", retry_budget=RetryBudgetConfig(budget_min_per_second=1.0), rpc_retries=1)
        for _ in range(40):
            client = world.submit()
            while not client.said:
                world.last(world.sends[-1]).error(-32603, "boom")
            world.poll()
        self.assertGreater(world.router.stats.retries_denied, 0)
        world.events.clear()
        client = world.submit()
        world.last(world.sends[-1]).fail(Fault.DISCONNECTED)
        world.last(world.sends[-1]).result()
        self.assertEqual((client.said, len(world.sends)), (["answer"], 2))

    def test_of_use(self) -> None:
        """Retries that help are not charged, however many."""
        world = self.make("a b", retry_budget=RetryBudgetConfig(budget_percent=0.0, budget_min_per_second=0.1))
        for _ in range(40):
            client = world.submit()
            world.last("a").fail(Fault.GARBAGE) if world.sends[-1] == "a" else None
            if not client.said:
                world.last("b").result()
            self.assertEqual(client.said, ["answer"])
            world.poll()
            world.nodes["a"].breaker.reset()
            world.network.expire(world.clock.seconds())

    def test_blameless(self) -> None:
        """Nor are retries that blame nobody, or whose request was surely not carried out."""
        world = self.make("a b", retry_budget=RetryBudgetConfig(budget_percent=0.0, budget_min_per_second=0.0))
        for fail in (
            lambda sent: sent.error(-32000, "missing trie node"),
            lambda sent: sent.fail(Fault.UNREACHABLE),
        ):
            world.events.clear()
            client = world.submit()
            fail(world.last(world.sends[0]))
            self.assertEqual(len(world.sends), 2)
            world.last(world.sends[1]).result()
            self.assertEqual(client.said, ["answer"])


class LastResortTests(RoutingTestCase):
    def test_ejected_nodes(self) -> None:
        """A request that all others failed goes to the ejected ones too: they may be well again."""
        world = self.make("a b")
        for _ in range(2):
            world.poll("a")
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
        self.assertEqual(world.order, "b")
        world.events.clear()
        client = world.submit()
        world.last("b").fail(Fault.DISCONNECTED)
        self.assertEqual(world.sends, "ba")
        world.last("a").result()
        self.assertEqual((client.said, client.node), (["answer"], "a"))
        self.assertFalse(world.nodes["a"].ejected)


class OddRequestTests(RoutingTestCase):
    def test_errors_in_a_row(self) -> None:
        """A few requests that one node answers with an error, and another well, do not take the node from others."""
        world = self.make("a b")
        for _ in range(4):
            world.submit()
            world.last("a").error(-32603, "boom")
            world.last("b").result()
            world.poll()
        self.assertFalse(world.nodes["a"].ejected)

    def test_an_error_proves_nothing(self) -> None:
        """That another node calls the request bad does not prove that the first should have done better."""
        world = self.make("a b")
        for _ in range(4):
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").error(-32602, "invalid params")
            world.poll()
        self.assertEqual(world.blames, [("a", False)] * 4)

    def test_unsafe_errors(self) -> None:
        """Unsafe calls that no node likes take none out."""
        world = self.make("a b")
        for _ in range(10):
            world.submit("eth_sendTransaction")
            world.last(world.sends[-1]).error(-32603, "boom")
            world.poll()
        self.assertFalse(world.nodes["a"].ejected)


class LostNodeTests(RoutingTestCase):
    def test_slow_calls_go_on(self) -> None:
        """What a node owes when it goes down is asked elsewhere, slow calls as well; unsafe ones are left alone."""
        world = self.make("a b")
        slow, unsafe = world.submit("eth_call"), world.submit("eth_sendTransaction")
        for _ in range(2):
            world.publish(world.network.observe_poll_failure(world.nodes["a"], "no answer", 1.0, final=True))
        self.assertEqual((world.order, world.sends), ("b", "aa"))
        world.pass_time(0.01)
        self.assertEqual(world.sends, "aab")
        world.last("b").result()
        self.assertEqual((slow.said, slow.node, unsafe.said), (["answer"], "b", []))
        self.assertEqual((world.router.stats.retries_denied, world.router.stats.handed_over), (0, 1))

    def test_nobody_else(self) -> None:
        """Where there is nobody else, it is waited for."""
        world = self.make("a")
        client = world.submit("eth_call")
        for _ in range(2):
            world.publish(world.network.observe_poll_failure(world.nodes["a"], "no answer", 1.0, final=True))
        world.pass_time(0.05)
        world.last("a").result()
        self.assertEqual(client.said, ["answer"])

    def test_comes_back_by_polls(self) -> None:
        """An ejected node comes back by good polls where clients send nothing that a trial is made with."""
        world = self.make("a b")
        for _ in range(2):
            world.submit("eth_call")
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
            world.poll()
        self.assertEqual(world.order, "b")
        for _ in range(5):
            world.clock.advance(1.0)
            world.poll()
        self.assertEqual(world.order, "b")
        for _ in range(2):
            world.clock.advance(1.0)
            world.poll()
        self.assertEqual(world.order, "ab")
