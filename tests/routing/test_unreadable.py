"""Answers that nobody foresaw: whatever a node says, its request goes on elsewhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.routing.support import RESULT, RoutingTestCase
from tests.support import FakeHead, run_property

DEEP = b"[" * 100_000 + b"]" * 100_000  # beyond any parser's limit, which differs between Pythons
OPENING = b'{"jsonrpc":"2.0","id":1,"result":'
LONG = b'"0x%b"' % (b"00" * 3000)


class UnreadableTests(RoutingTestCase):
    def test_hostile(self) -> None:
        """What a parser chokes on is garbage of that node: the next one is asked, and nothing is left behind."""
        for body in (
            b'{"jsonrpc":"2.0","id":1,"error":%b}' % DEEP,
            b'{"jsonrpc":"2.0","id":%b,"result":1}' % DEEP,
            b'{"jsonrpc":"2.0","id":1,"error":1e400}',
            b'{"jsonrpc":"2.0","id":1e400,"result":1}',
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":%b}}' % DEEP,
            DEEP,
            b'{"jsonrpc":"2.0","result":%b,"id":2}' % LONG,
            b'{"jsonrpc":"2.0","result":%b}' % LONG,
            b'{"jsonrpc":"2.0","result":%b,"id":1}}' % LONG,
        ):
            world = self.make("a b")
            client = world.submit("eth_call")
            world.last("a").answer(body)
            self.assertEqual((world.sends, client.said), ("ab", []), body[:60])
            world.last("b").result()
            self.assertEqual((client.said, client.body), (["answer"], RESULT))
            world.check_idle(self)

    def test_deep(self) -> None:
        """How deep a skipped value may be is the parser's affair: it is passed on, or another node is asked."""
        for member in (b'"result":%b', b'"error":%b', b'"error":{"code":1,"message":"m","data":%b}'):
            body = b'{"jsonrpc":"2.0","id":1,%b}' % (member % (b"[" * 1010 + b"]" * 1010))
            world = self.make("a b")
            client = world.submit("eth_call")
            world.last("a").answer(body)
            if client.said:
                self.assertEqual((client.said, client.body), (["answer"], body))
            else:
                self.assertEqual(world.sends, "ab")
                world.last("b").result()
                self.assertEqual((client.said, client.body), (["answer"], RESULT))
            world.check_idle(self)

    def test_noise(self) -> None:
        """The same for any bytes, whole, in two pieces or as a beginning, alone or in a batch."""
        bodies = st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=20).map(lambda noise: b'{"id":1,"error":' + noise + b"}"),
            st.binary(max_size=20).map(lambda noise: b'[{"id":' + noise + b',"error":{"code":1}}]'),
        )

        @given(bodies, st.sampled_from(("whole", "pieces", "begun")), st.booleans())
        def check(body: bytes, how: str, is_batch: bool) -> None:
            world = self.make("a b")
            asked = b'[{"id":1,"method":"eth_call"}]' if is_batch else b'{"id":1,"method":"eth_call"}'
            client = world.submit(body=asked)
            sink = world.last("a").sink
            if how == "begun":
                sink.began(FakeHead(), [body])
            else:
                sink.answered(FakeHead(), [body] if how == "whole" else [body[:9], body[9:]])
            self.assertTrue(client.said or world.sends == "ab", body)

        run_property(check)

    def test_two_pieces(self) -> None:
        """A null, or what is no JSON, is seen in two pieces as in one."""
        for method, params, last in (("eth_getBlockByNumber", b'["0x64",false]', b"null}"), ("eth_call", b"[]", b"x}")):
            world = self.make("a b")
            client = world.submit(method, params)
            world.last("a").sink.answered(FakeHead(), [OPENING, last])
            self.assertEqual((world.sends, client.said), ("ab", []))

    def test_batch_ids(self) -> None:
        """A long answer to a batch, too, has each id once."""
        world = self.make("a b")
        client = world.submit(body=b'[{"id":1,"method":"eth_call"},{"id":2,"method":"eth_call"}]')
        member = b'{"jsonrpc":"2.0","id":%d,"result":%b}'
        world.last("a").answer(b"[%b,%b]" % (member % (1, LONG * 1), member % (7, LONG)))
        self.assertEqual((world.sends, client.said), ("ab", []))
        good = b"[%b,%b]" % (member % (2, LONG), member % (1, LONG))
        world.last("b").answer(good)
        self.assertEqual((client.said, client.body), (["answer"], good))
