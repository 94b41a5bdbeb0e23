"""Raw transactions: what nodes mean by their errors, broadcast, and reads after a write."""

from __future__ import annotations

from typing import Any

from evmlb.config.schema import HedgeConfig
from evmlb.errors import Fault
from tests.routing.support import Client, RoutingTestCase, World

SEND = "eth_sendRawTransaction"
# EIP-155's own example, and its hash
RAW = (
    "0xf86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe"
    "537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
)
HASH = "0x33469b22e9f636356c4160a87eb19df52b7412e8eac32a4a55ffe88ea8350788"
TAKEN = b'{"jsonrpc":"2.0","id":1,"result":"%b"}' % HASH.encode()


class TransactionTestCase(RoutingTestCase):
    def send(self, world: World, **settings: Any) -> Client:
        return world.submit(SEND, b'["%b"]' % RAW.encode(), **settings)


class MeaningTests(TransactionTestCase):
    def test_known(self) -> None:
        """A node that has it already is as good as one that takes it: the client gets the hash."""
        for code, message in ((-32000, "already known"), (-32000, "known transaction"), (-32010, "AlreadyKnown")):
            client = self.send(self.make("a b"))
            self.world.last("a").error(code, message)
            self.assertEqual((client.said, client.body, self.world.sends), (["answer"], TAKEN, "a"), message)
            self.world.check_idle(self)

    def test_unreadable(self) -> None:
        """Of what no one can read there is no hash: the node's words are passed on."""
        client = self.make("a b").submit(SEND, b'["0xzz"]')
        self.world.last("a").error(-32000, "already known")
        self.assertIn(b"already known", client.body)

    def test_refused(self) -> None:
        """What a node says of a bad transaction is the client's to read."""
        client = self.send(self.make("a b"))
        self.world.last("a").error(-32000, "insufficient funds for gas * price + value")
        self.assertIn(b"insufficient funds", client.body)
        self.assertEqual((self.world.sends, self.world.blames), ("a", []))

    def test_sent_again(self) -> None:
        """It may be sent to another node though the first may have taken it."""
        client = self.send(self.make("a b"))
        self.world.last("a").fail(Fault.DISCONNECTED)
        self.world.last("b").error(-32000, "already known")
        self.assertEqual((client.body, client.node), (TAKEN, "b"))

    def test_nonce_too_low(self) -> None:
        """A nonce that is too low may be this transaction's own, mined meanwhile: the node is asked."""
        for known, expected in ((b'{"hash":"0x1"}', TAKEN), (b"null", b"nonce too low")):
            client = self.send(self.make("a b"))
            world = self.world
            world.last("a").error(-32000, "nonce too low: next nonce 5, tx nonce 4")
            self.assertEqual((client.said, world.sends), ([], "aa"))
            self.assertIn(b'"eth_getTransactionByHash","params":["%b"]' % HASH.encode(), world.last("a").body)
            world.last("a").result(known)
            self.assertEqual(client.said, ["answer"])
            self.assertIn(expected, client.body)
            world.check_idle(self)

    def test_look_up_fails(self) -> None:
        """When the node cannot be asked, or not in two seconds, its word is passed on."""
        client = self.send(self.make("a b"))
        self.world.last("a").error(-32000, "nonce too low")
        self.world.pass_time(2.1)
        self.assertIn(b"nonce too low", client.body)
        self.world.check_idle(self)

    def test_client_leaves(self) -> None:
        """A client that leaves while its transaction is looked up hears nothing."""
        client = self.send(self.make("a b"))
        self.world.last("a").error(-32000, "nonce too low")
        self.world.leave(client)
        self.world.pass_time(3.0)
        self.assertEqual(client.said, [])
        self.world.check_idle(self)


class BroadcastTests(TransactionTestCase):
    def test_first_acceptance(self) -> None:
        """The first that takes it answers; the others are let have it."""
        world = self.make("a b c", broadcast_transactions=2)
        client = self.send(world)
        self.assertEqual(world.sends, "ab")
        world.last("b").result(b'"%b"' % HASH.encode())
        self.assertEqual((client.said, client.node), (["answer"], "b"))
        world.pass_time(1.0)
        self.assertNotIn(("a", "cancel"), world.events)
        world.last("a").error(-32000, "already known")
        self.assertEqual((world.blames, world.nodes["a"].hedge_losses), ([], 0))
        world.check_idle(self)

    def test_too_low_then_lost(self) -> None:
        """A nonce that one node finds too low is looked into when the other node, asked as well, is lost."""
        for known, expected in ((b'{"hash":"0x1"}', TAKEN), (b"null", b"nonce too low")):
            world = self.make("a b", broadcast_transactions=2, rpc_retries=0)
            client = self.send(world)
            world.last("a").error(-32000, "nonce too low")
            self.assertEqual((client.said, world.sends), ([], "ab"))
            world.last("b").fail(Fault.DISCONNECTED)
            self.assertEqual((client.said, world.sends), ([], "aba"))
            world.last("a").result(known)
            self.assertEqual(client.said, ["answer"])
            self.assertIn(expected, client.body)
            world.check_idle(self)

    def test_one_refuses(self) -> None:
        """That one node refuses it is not the end while another may take it."""
        world = self.make("a b", broadcast_transactions=2)
        client = self.send(world)
        world.last("a").error(-32000, "transaction underpriced")
        self.assertEqual(client.said, [])
        world.last("b").result(b'"%b"' % HASH.encode())
        self.assertEqual((client.said, client.node), (["answer"], "b"))
        world.check_idle(self)

    def test_all_refuse(self) -> None:
        """When all refuse it, the last one's words are passed on."""
        world = self.make("a b", broadcast_transactions=2)
        client = self.send(world)
        world.last("b").error(-32000, "insufficient funds")
        self.assertEqual(client.said, [])
        world.last("a").error(-32000, "nonce too high")
        self.assertIn(b"nonce too high", client.body)
        world.check_idle(self)

    def test_other_calls(self) -> None:
        """Nothing else is sent twice."""
        world = self.make("a b", broadcast_transactions=2)
        world.submit("eth_sendTransaction")
        world.submit("eth_call")
        self.assertEqual(world.sends, "aa")


class OwnWritesTests(TransactionTestCase):
    def sent_by_b(self, **config: Any) -> Any:
        """A transaction that ``b`` took; the session of its connection."""
        world = self.make("a b", **config)
        world.nodes["a"].suspect_of("odd")
        client = self.send(world)
        world.last("a").fail()
        world.last("b").result(b'"%b"' % HASH.encode())
        world.poll()
        world.events.clear()
        self.assertEqual(world.order, "ab")
        return client.session

    def test_reads_follow(self) -> None:
        """For half a minute nonce and pending reads of the connection go to the node that took it."""
        session = self.sent_by_b()
        world = self.world
        for method, params, node in (
            ("eth_getTransactionCount", b'["0x1","pending"]', "b"),
            ("eth_getTransactionByHash", b'["%b"]' % HASH.encode(), "b"),
            ("eth_call", b'[{},"pending"]', "b"),
            ("eth_getBalance", b'["0x1","latest"]', "a"),
        ):
            world.events.clear()
            world.submit(method, params, session=session)
            self.assertEqual(world.sends, node, method)

    def test_only_there(self) -> None:
        """Such a read is neither hedged nor made a trial of: another node would answer wrongly."""
        session = self.sent_by_b(hedge=HedgeConfig())
        world = self.world
        client = world.submit("eth_getTransactionCount", b'["0x1","pending"]', session=session)
        world.pass_time(1.0)
        self.assertEqual(world.sends, "b")
        world.last("b").fail(Fault.DISCONNECTED)
        self.assertEqual(world.sends, "ba")
        world.last("a").result()
        self.assertEqual(client.said, ["answer"])

    def test_others_do_not(self) -> None:
        """Other connections are not bound by it, and nobody is after the time."""
        session = self.sent_by_b()
        world = self.world
        world.submit("eth_getTransactionCount", b'["0x1","pending"]')
        self.assertEqual(world.sends, "a")
        world.clock.advance(31.0)
        world.poll()
        world.router.tick(world.clock.seconds())
        world.events.clear()
        world.submit("eth_getTransactionCount", b'["0x1","pending"]', session=session)
        self.assertEqual(world.sends, "a")

    def test_off(self) -> None:
        """It can be switched off."""
        self.assertIsNone(self.sent_by_b(read_your_writes_seconds=0.0))
