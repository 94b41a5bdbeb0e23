"""What clients get of nodes' errors: whom a limit concerns, which of several errors wins, who need not be asked."""

from typing import Any

from tests.routing.support import Client, RoutingTestCase, World, call_body

LOGS = b'[{"fromBlock":"0x1","toBlock":"%b"}]'
TRANSACTION = b'["0x' + b"ab" * 32 + b'"]'


def error(code: int, message: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"%b"}}' % (code, message.encode())


class LimitTests(RoutingTestCase):
    def ask(self, world: World, code: int, message: str, status: int = 200, **head: Any) -> Client:
        """Both local nodes, and then the fallback node, say so."""
        client = world.submit("eth_getLogs", LOGS % b"0x60")
        for _ in range(3):
            if not client.ended:
                world.last(world.sends[-1]).answer(error(code, message), status, **head)
        return client

    def test_a_limit_of_the_call(self) -> None:
        """A call that is more than a limit is asked elsewhere; nobody is held off, and the node's words are told."""
        for status, message in ((200, "Too many logs requested. Max logs per response is 1."), (503, "limit exceeded")):
            world = self.make("a b", fallback="f")
            client = self.ask(world, -32005, message, status)
            self.assertEqual((client.said, client.body), (["answer"], error(-32005, message)))
            self.assertEqual([node.limit.limited for node in world.nodes.values()], [False] * 3)
            self.assertEqual((world.blames, world.order), ([], "ab"))
            world.submit()
            self.assertEqual(world.sends[-1], "a")

    def test_a_rate(self) -> None:
        """The same code with words of a rate, status 429 or a Retry-After holds off."""
        for message, status, headers in (
            ("rate limit", 200, ()),
            ("limit exceeded", 429, ()),
            ("limit exceeded", 200, ((b"retry-after", b"7"),)),
        ):
            world = self.make("a b")
            world.submit("eth_getLogs", LOGS % b"0x60")
            world.last("a").answer(error(-32005, message), status, headers)
            self.assertEqual([node.limit.limited for node in world.nodes.values()], [True, False], message)


class WinnerTests(RoutingTestCase):
    VAGUE = ((-32603, "Internal error"), (-32000, "vague"), (-32601, "the method eth_getLogs does not exist"))
    TELLING = ((-32000, "missing trie node"), (-32005, "Too many logs requested."), (-32000, "header not found"))

    def test_the_more_informative_error_wins(self) -> None:
        """Whichever node comes first, the client gets the error that says what is wrong."""
        for vague in self.VAGUE:
            for telling in self.TELLING:
                for errors in ((vague, telling), (telling, vague)):
                    world = self.make("a b", rpc_retries=0)
                    client = world.submit("eth_getLogs", LOGS % b"0x10")
                    for code, message in errors:
                        world.last(world.sends[-1]).answer(error(code, message))
                    self.assertEqual(client.body, error(*telling), errors)

    def test_the_clients_own_wins(self) -> None:
        """An error that every node would give is told though another node failed before."""
        for vague in self.VAGUE:
            world = self.make("a b")
            client = world.submit("eth_simulateV1", b'[{"blockStateCalls":[]},"latest"]')
            world.last("a").answer(error(*vague))
            world.last("b").answer(error(-38020, "block numbers must be in order: 5 <= 6"))
            self.assertEqual(client.body, error(-38020, "block numbers must be in order: 5 <= 6"))

    def test_blame_loses(self) -> None:
        """Of two vague errors the one that blames its node loses, and of equal ones the first is told."""
        for errors, told in (
            (((-32603, "Internal error"), (-32000, "vague")), (-32000, "vague")),
            (((-32000, "first"), (-32000, "second")), (-32000, "first")),
        ):
            world = self.make("a b", rpc_retries=0)
            client = world.submit("eth_chainId")
            for code, message in errors:
                world.last(world.sends[-1]).answer(error(code, message))
            self.assertEqual(client.body, error(*told))


class NowhereTests(RoutingTestCase):
    """All nodes are at block 100 unless said otherwise."""

    def assertAsked(self, nodes: str, world: World, method: str, params: bytes, code: int, message: str) -> None:
        client = world.submit(method, params)
        for _ in nodes:
            world.last(world.sends[-1]).answer(error(code, message))
        self.assertEqual((world.sends, client.body), (nodes, error(code, message)))

    def test_genesis(self) -> None:
        """No node can trace the genesis block."""
        self.assertAsked("a", self.make(), "debug_traceBlockByNumber", b'["0x0"]', -32000, "genesis is not traceable")

    def test_a_range_beyond_the_chain(self) -> None:
        """A range that ends above all that the chain has is asked of one node."""
        message = "block range extends beyond current head block"
        self.assertAsked("a", self.make(), "eth_getLogs", LOGS % b"0x66", -32602, message)

    def test_a_range_beyond_one_node(self) -> None:
        """A range that the chain has reached is asked of the node that has it."""
        world = self.make()
        client = world.submit("eth_getLogs", LOGS % b"0x64")
        world.last("a").answer(error(-32602, "block range extends beyond current head block"))
        world.last("b").result(b"[]")
        self.assertEqual((world.sends, client.node), ("ab", "b"))

    def test_a_fast_chain(self) -> None:
        """On a chain with several blocks between two polls, other nodes may be further than was told."""
        world = self.make(block_time_seconds=0.25)
        client = world.submit("eth_getLogs", LOGS % b"0x68")
        world.last("a").answer(error(-32602, "block range extends beyond current head block"))
        world.last("b").result(b"[]")
        self.assertEqual((world.sends, client.node), ("ab", "b"))

    def test_a_block_beyond_the_chain(self) -> None:
        """So is a call at such a block."""
        self.assertAsked("a", self.make(), "eth_call", b'[{},"0x200"]', -32000, "header not found")

    def test_a_transaction(self) -> None:
        """A node at the chainhead that does not find a transaction is believed; one that is behind is not."""
        for method in ("debug_traceTransaction", "trace_transaction", "debug_getRawTransaction"):
            self.assertAsked("a", self.make(), method, TRANSACTION, -32000, "transaction not found")
        world = self.make(network_block_diff=5)
        world.poll("b", number=101)
        self.assertEqual(world.sends, "")
        client = world.submit("debug_traceTransaction", TRANSACTION)
        world.last("a").answer(error(-32000, "transaction not found"))
        world.last("b").result(b"{}")
        self.assertEqual((world.sends, client.node), ("ab", "b"))

    def test_a_block_by_its_hash(self) -> None:
        """A block by its hash may be new: every node is asked."""
        world = self.make()
        world.submit(body=call_body("debug_traceBlockByHash", TRANSACTION))
        world.last("a").answer(error(-32000, "block 0xab not found"))
        self.assertEqual(world.sends, "ab")
