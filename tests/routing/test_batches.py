"""Batches: routed by all that their members need, judged member by member, asked again in part, answered as one."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from evmlb.config.schema import HedgeConfig
from evmlb.errors import Fault
from evmlb.exchange import Exchange
from evmlb.jsonrpc import parse_call
from evmlb.routing import admit
from tests.routing.support import Client, RoutingTestCase, World, call_body
from tests.support import Sent, run_property

FIRST, SECOND = call_body("eth_chainId"), call_body("eth_getBalance", request_id=b'"b"')
BODY = b"[%b,%b]" % (FIRST, SECOND)
GOOD = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}', b'{"jsonrpc":"2.0","id":"b","result":"0x2"}'


def error(code: int, message: str = "x", request_id: bytes = b"1") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":{"code":%d,"message":"%b"}}' % (request_id, code, message.encode())


def array(*members: bytes) -> bytes:
    return b"[" + b",".join(members) + b"]"


def numbered(*methods: str, params: bytes = b"[]") -> bytes:
    """A batch of these methods, with the ids 1, 2, 3, ..."""
    return array(*(call_body(method, params, b"%d" % i) for i, method in enumerate(methods, 1)))


class WholeTests(RoutingTestCase):
    """A batch that has one fate."""

    def ask(self, answer: bytes, status: int = 200, **config: Any) -> tuple[World, Client]:
        world = self.make("a b", **config)
        client = world.submit(body=BODY)
        world.last("a").answer(answer, status)
        return world, client

    def test_good(self) -> None:
        """A good answer passes as it came, in whichever order and spelling."""
        for answer in (
            array(*GOOD),
            array(*reversed(GOOD)),
            b"[ %b , %b ]\n" % GOOD,
            b'[{"id":1.0,"result":{}},{"id":"\\u0062","result":[]}]',
        ):
            world, client = self.ask(answer)
            self.assertEqual((client.body, world.sends, world.blames), (answer, "a", []))

    def test_array_failed(self) -> None:
        """A batch whose array failed is retried whole."""
        for answer, status in ((b"<html>", 502), (b"[]", 200), (b"", 200), (error(-32603, "x", b"null"), 200)):
            world, client = self.ask(answer, status)
            self.assertEqual((world.sends, world.last("b").body), ("ab", BODY), answer)
            world.last("b").answer(array(*GOOD))
            self.assertEqual(client.said, ["answer"])

    def test_wrong_ids(self) -> None:
        """An answer that lacks one id, or has one twice or another, is none: the next node is asked, however large."""
        long = b"x" * 20_000
        for answer in (
            array(GOOD[0], GOOD[0]),
            array(GOOD[0]),
            array(GOOD[0], b'{"id":"c","result":1}'),
            array(*GOOD, b'{"id":2,"result":1}'),
            array(b'{"id":1,"result":"%b"}' % long, b'{"id":2,"result":1}'),
            array(b'{"id":1,"result":"%b"}' % long),
            array(b'{"id":1,"result":1}', b'{"id":"b"}'),
            array(b'{"id":1,"result":1}', b'{"result":1}'),
            array(GOOD[0], error(-32603, "x", b'"c"')),
        ):
            world, _ = self.ask(answer)
            self.assertEqual((world.sends, world.blames), ("ab", [("a", False)]), answer[:100])

    def test_every_member_failed(self) -> None:
        """Of one of which every member failed the node is to blame if all members say so."""
        for code, blames in ((-32601, []), (-32603, [("a", False)])):
            world, _ = self.ask(array(error(-32603), error(code, "x", b'"b"')))
            self.assertEqual((world.sends, world.blames, world.last("b").body), ("ab", blames, BODY))

    def test_too_long(self) -> None:
        """A node that takes no batch so long says it in many ways; others are asked, nobody is blamed or held off."""
        for answer, status in (
            (array(error(-32600, "batch too large")), 200),
            (error(-32600, "batch limit 100 exceeded", b"null"), 200),
            (error(-32600, "batch limit 100 exceeded", b"1"), 200),
            (error(-32005, "Batch size limit exceeded", b"null"), 503),
            (error(-32005, "Batched requests are not supported by this server", b"null"), 200),
        ):
            world, client = self.ask(answer, status)
            self.assertEqual((world.sends, world.blames), ("ab", []), answer)
            self.assertEqual([node.limit.limited for node in world.nodes.values()], [False, False])
            world.last("b").answer(array(*GOOD))
            self.assertEqual(client.body, array(*GOOD))

    def test_too_long_for_all(self) -> None:
        """When all say so, each call is told it in the words of the node."""
        for answer in (array(error(-32600, "batch too large")), error(-32600, "batch too large", b"null")):
            world, client = self.ask(answer, rpc_retries=0)
            world.last("b").answer(answer)
            self.assertEqual(client.body, array(*(error(-32600, "batch too large", i) for i in (b"1", b'"b"'))))
            world.check_idle(self)

    def test_long_words_for_many(self) -> None:
        """An error that is told to each of very many calls is shortened."""
        world = self.make("a", rpc_retries=0)
        client = world.submit(body=numbered(*["eth_chainId"] * 5000))
        world.last("a").answer(error(-32600, "batch too large" + "x" * 5000, b"null"))
        answers = json.loads(client.body)
        self.assertEqual([answer["id"] for answer in answers], list(range(1, 5001)))
        self.assertLess(len(client.body), 1024 * 1024)
        self.assertTrue(answers[0]["error"]["message"].startswith("batch too large"))

    def test_large(self) -> None:
        """One that outgrows what is held is streamed, and not judged."""
        for status, said in ((200, ["begin"]), (502, [])):
            world = self.make("a b")
            client = world.submit(body=BODY)
            world.last("a").begin(b'[{"id":1,"result":"', status=status)
            self.assertEqual(client.said, said)

    def test_notifications(self) -> None:
        """An empty 200, 202 or 204 answers a batch of notifications, and a single one."""
        for status in (200, 202, 204):
            for body in (b'[{"method":"eth_chainId"},{"method":"eth_chainId"}]', b'{"method":"eth_chainId"}'):
                world = self.make("a b")
                client = world.submit(body=body)
                world.last("a").answer(b"", status)
                self.assertEqual((client.said, world.sends), (["answer"], "a"))


class MemberTests(RoutingTestCase):
    """Members with fates of their own."""

    def ask(self, *members: bytes, body: bytes = BODY, **config: Any) -> tuple[World, Client]:
        world = self.make("a b", **config)
        client = world.submit(body=body)
        world.last("a").answer(array(*members))
        return world, client

    def test_a_failed_member_is_asked_again(self) -> None:
        """What one node could not answer the next is asked for, and that alone; the good bytes stay."""
        for code, message in (
            (-32603, "boom"),
            (429, "too many requests"),
            (-32000, "header not found"),
            (-32000, "missing trie node"),
            (-32601, "the method does not exist"),
            (-32000, "in words that no rule knows"),
        ):
            world, client = self.ask(error(code, message), GOOD[1])
            self.assertEqual((world.sends, world.last("b").body), ("ab", array(FIRST)), message)
            world.last("b").answer(array(GOOD[0]))
            self.assertEqual((client.body, client.node), (array(*GOOD), "b"))
            world.check_idle(self)

    def test_what_the_node_said_counts(self) -> None:
        """A member that was limited holds its node off, one that lacks the method is remembered, one blames."""
        world, _ = self.ask(error(429, "too many requests"), GOOD[1])
        self.assertTrue(world.nodes["a"].limit.limited)
        world, _ = self.ask(error(-32601), GOOD[1])
        world.submit("eth_chainId")
        self.assertEqual(world.sends, "abb")
        world, _ = self.ask(error(-32603), GOOD[1])
        self.assertEqual(world.blames, [("a", False)])
        world.last("b").answer(array(GOOD[0]))
        self.assertEqual(world.blames, [("a", False), ("a", True)])

    def test_the_clients_own(self) -> None:
        """An error that is the client's own is not asked again, whatever the others are."""
        for mine, theirs in ((0, 1), (1, 0)):
            ids = b"1", b'"b"'
            members = [b"", b""]
            members[mine], members[theirs] = error(-32602, "mine", ids[mine]), error(-32603, "theirs", ids[theirs])
            world, client = self.ask(*members)
            self.assertEqual(world.last("b").body, array((FIRST, SECOND)[theirs]))
            world.last("b").answer(array(GOOD[theirs]))
            members[theirs] = GOOD[theirs]
            self.assertEqual(client.body, array(*members))
            world, client = self.ask(GOOD[theirs], members[mine])
            self.assertEqual(
                (world.sends, client.body),
                (
                    "a",
                    array(*sorted((GOOD[theirs], members[mine]), key=[*GOOD, *members].index))
                    if theirs == 0
                    else client.body,
                ),
            )

    def test_the_best_error_of_each(self) -> None:
        """When nobody can answer, each call gets the error that tells it most, whichever node gave it."""
        world, client = self.ask(error(-32603), error(-32000, "missing trie node", b'"b"'), rpc_retries=0)
        world.last("b").answer(array(error(-32000, "header not found"), error(-32603, "x", b'"b"')))
        world.pass_time(3, 0.1)
        while not client.ended:
            world.last(world.sends[-1]).fail(Fault.DISCONNECTED)
            world.pass_time(3, 0.1)
        self.assertEqual(
            client.body, array(error(-32000, "header not found"), error(-32000, "missing trie node", b'"b"'))
        )
        world.check_idle(self)

    def test_the_next_node_dies(self) -> None:
        """What is answered stays answered though the rest gets no answer any more."""
        world, client = self.ask(error(429, "too many requests"), GOOD[1], rpc_retries=0)
        world.last("b").fail(Fault.DISCONNECTED)
        first, second = json.loads(client.body)
        self.assertEqual((first["id"], first["error"]["code"], second), (1, -32013, json.loads(GOOD[1])))

    def test_a_null_is_doubted(self) -> None:
        """A null block that the chainhead has reached is asked for elsewhere once."""
        body = numbered("eth_getBlockByNumber", "eth_chainId", params=b'["0x64",false]')
        null, good = b'{"jsonrpc":"2.0","id":1,"result":null}', b'{"jsonrpc":"2.0","id":2,"result":"0x1"}'
        world, client = self.ask(null, good, body=body)
        self.assertEqual(world.sends, "ab")
        world.last("b").answer(array(b'{"jsonrpc":"2.0","id":1,"result":{}}'))
        self.assertEqual(client.body, array(b'{"jsonrpc":"2.0","id":1,"result":{}}', good))

    def test_a_null_that_all_say(self) -> None:
        """One that stays null, after the others had time for the block as well, is the answer."""
        body = numbered("eth_getBlockByNumber", "eth_chainId", params=b'["0x64",false]')
        null, good = b'{"jsonrpc":"2.0","id":1,"result":null}', b'{"jsonrpc":"2.0","id":2,"result":"0x1"}'
        world, client = self.ask(null, good, body=body)
        world.last("b").answer(array(null))
        world.pass_time(2, 0.1)
        world.last("a").answer(array(null))
        self.assertEqual((world.sends, client.body), ("aba", array(null, good)))

    def test_errors_without_an_id(self) -> None:
        """An error with null for an id answers the call that is left."""
        world, client = self.ask(GOOD[0], error(-32602, "bad", b"null"))
        self.assertEqual((world.sends, client.body), ("a", array(GOOD[0], error(-32602, "bad", b'"b"'))))

    def test_the_same_id_twice(self) -> None:
        """Calls with one id are answered each by its own answer, in their order."""
        body = array(call_body("eth_chainId"), call_body("eth_gasPrice"))
        first, second = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}', b'{"jsonrpc":"2.0","id":1,"result":"0x2"}'
        world, client = self.ask(first, error(-32603), body=body)
        self.assertEqual(world.last("b").body, array(call_body("eth_gasPrice")))
        world.last("b").answer(array(second))
        self.assertEqual(client.body, array(first, second))

    def test_streamed_rest(self) -> None:
        """When the rest is too large to be held, what is known already is written before it."""
        for length in (-1, 100_000):
            world, client = self.ask(GOOD[0], error(-32603, "x", b'"b"'))
            world.last("b").begin(b" [", b'{"jsonrpc":"2.0","id":"b","result":"', length=length)
            world.last("b").sink.streamed(b'x"}]')
            world.last("b").sink.ended()
            self.assertEqual([answer["id"] for answer in json.loads(client.body)], [1, "b"])
            self.assertEqual(client.head.length, length if length < 0 else length + len(GOOD[0]))

    def test_a_hedge_under_way(self) -> None:
        """While another node is asked for the whole batch its answer is waited for, and fills what is open."""
        for answers, body in (
            (array(*GOOD), array(*GOOD)),
            (array(error(-32603), GOOD[1]), array(*GOOD)),
        ):
            world = self.make("a b", hedge=HedgeConfig())
            client = world.submit(body=BODY)
            world.pass_time(1)
            self.assertEqual(world.sends, "ab")
            world.last("a").answer(array(GOOD[0], error(-32603, "x", b'"b"')))
            self.assertEqual((client.said, world.last("b").body), ([], BODY))
            world.last("b").answer(answers)
            self.assertEqual((client.body, world.sends), (body, "ab"))
            world.check_idle(self)


class UnsafeTests(RoutingTestCase):
    SENDING = call_body("eth_sendTransaction", request_id=b'"b"')
    BODY = array(FIRST, SENDING)

    def ask(self, *members: bytes) -> tuple[World, Client]:
        world = self.make("a b")
        client = world.submit(body=self.BODY)
        world.last("a").answer(array(*members))
        return world, client

    def test_failed_safe_member(self) -> None:
        """Only the safe member that failed is asked again."""
        world, client = self.ask(error(-32603), GOOD[1])
        self.assertEqual(world.last("b").body, array(FIRST))
        world.last("b").answer(array(GOOD[0]))
        self.assertEqual(client.body, array(*GOOD))

    def test_failed_unsafe_member(self) -> None:
        """One that may have been carried out is not sent again."""
        world, client = self.ask(GOOD[0], error(-32603, "x", b'"b"'))
        self.assertEqual((world.sends, client.body), ("a", array(GOOD[0], error(-32603, "x", b'"b"'))))
        world, client = self.ask(error(-32603), error(-32603, "y", b'"b"'))
        self.assertEqual(world.last("b").body, array(FIRST))
        world.last("b").answer(array(GOOD[0]))
        self.assertEqual(client.body, array(GOOD[0], error(-32603, "y", b'"b"')))

    def test_surely_not_carried_out(self) -> None:
        """One that surely was not may go on."""
        world, client = self.ask(error(-32603), error(429, "too many requests", b'"b"'))
        self.assertEqual(world.last("b").body, self.BODY)
        world.last("b").answer(array(*GOOD))
        self.assertEqual(client.body, array(*GOOD))
        world = self.make("a b")
        world.submit(body=self.BODY)
        world.last("a").fail(Fault.UNREACHABLE)
        self.assertEqual(world.last("b").body, self.BODY)

    def test_filters(self) -> None:
        """A filter that was made is asked for where it is, though the rest of its batch was asked elsewhere."""
        world = self.make("a b")
        world.submit(body=array(FIRST, call_body("eth_newFilter", b"[{}]", b'"b"')))
        world.last("a").answer(array(error(-32603), b'{"jsonrpc":"2.0","id":"b","result":"0xf1"}'))
        self.assertEqual(world.last("b").body, array(FIRST))
        world.last("b").answer(array(GOOD[0]))
        world.submit("eth_getFilterChanges", b'["0xf1"]')
        self.assertEqual(world.sends, "aba")


class NeedTests(RoutingTestCase):
    """Node a is first in the order and at 100, node b at 101."""

    def make_uneven(self) -> World:
        world = self.make("a b")
        world.poll("b", number=101)
        self.assertEqual(world.order[0], "a")
        return world

    def test_the_highest_block(self) -> None:
        """A batch goes to a node that has the highest block its members name."""
        logs = call_body("eth_getLogs", b'[{"fromBlock":"0x65","toBlock":"0x65"}]', b"2")
        for body, node in (
            (array(call_body("eth_getBlockByNumber", b'["0x65",false]'), logs), "b"),
            (array(FIRST, logs), "b"),
            (array(FIRST, call_body("eth_getBlockByNumber", b'["0x64",false]', b"2")), "a"),
            (array(call_body("eth_getBlockByNumber", b'["0x65",false]'), logs.replace(b"0x65", b"0x99")), "b"),
            (numbered(*["eth_chainId"] * 501), "b"),
        ):
            world = self.make_uneven()
            world.submit(body=body)
            self.assertEqual(world.sends, node, body[:200])

    def test_the_methods(self) -> None:
        """It goes to a node that has all its members' methods."""
        world = self.make("a b")
        world.submit("trace_block", b'["0x1"]')
        world.last("a").answer(error(-32601))
        world.last("b").result(b"[]")
        world.submit(body=numbered("eth_chainId", "trace_block"))
        self.assertEqual(world.sends, "abb")

    def test_own_writes(self) -> None:
        """After a transaction, a batch that reads the nonce goes to the node that took it."""
        world = self.make("a b")
        sender = world.submit("eth_sendTransaction")
        world.last("a").fail(Fault.UNREACHABLE)
        world.last("b").result(b'"0x%b"' % (b"ab" * 32))
        nonce = call_body("eth_getTransactionCount", b'["0x1","pending"]', b"2")
        world.submit(body=array(FIRST, nonce), session=sender.session)
        self.assertEqual(world.sends[-1], "b")


class RefusedMemberTests(RoutingTestCase):
    """Members that go to no node."""

    def submit(self, world: World, body: bytes) -> Client:
        """As a client's connection does it."""
        client = Client()
        exchange = client.exchange = Exchange(client, parse_call(body), body, "10.0.0.9", world.clock.seconds())
        refusal = admit(exchange, world.router.refusal)
        if refusal is None:
            world.router.submit(exchange)
        else:
            client.refuse(exchange, refusal)
        return client

    def test_the_good_one_is_answered(self) -> None:
        """Each bad member has its own error, with its id where it has one, and the good one is sent."""
        for bad, (bad_id, code) in (
            (b"1", (None, -32600)),
            (b"[]", (None, -32600)),
            (b"{}", (None, -32600)),
            (b'{"id":7,"method":null}', (7, -32600)),
            (b'{"id":{},"method":"eth_chainId"}', (None, -32600)),
            (b'{"id":"x","method":"a","METHOD":"b"}', ("x", -32600)),
            (call_body("engine_newPayloadV4", request_id=b"7"), (7, -32601)),
        ):
            world = self.make("a b")
            client = self.submit(world, array(bad, FIRST))
            self.assertEqual(world.last("a").body, array(FIRST))
            world.last("a").answer(array(GOOD[0]))
            refused, good = json.loads(client.body)
            self.assertEqual((refused["id"], refused["error"]["code"], good), (bad_id, code, json.loads(GOOD[0])))
            world.check_idle(self)

    def test_none_is_good(self) -> None:
        """Without a good member nothing is sent."""
        world = self.make("a b")
        self.submit(world, b"[1,2,3]")
        self.assertEqual(world.sends, "")

    def test_a_refused_notification(self) -> None:
        """What is refused and has no id is not answered; what is no call at all is."""
        world = self.make("a b")
        notification = b'{"jsonrpc":"2.0","method":"engine_x"}'
        client = self.submit(world, array(notification, FIRST))
        world.last("a").answer(array(GOOD[0]))
        self.assertEqual(client.body, array(GOOD[0]))
        client = self.submit(world, array(b"1", b'{"jsonrpc":"2.0","method":"eth_chainId"}'))
        world.last("a").answer(b"", 204)
        [answer] = json.loads(client.body)
        self.assertEqual((answer["id"], client.head.status, client.head.length), (None, 200, len(client.body)))

    def test_nobody_answers(self) -> None:
        """When no node answers, the bad ones have their errors all the same."""
        world = self.make("a", rpc_retries=0)
        client = self.submit(world, array(b"1", FIRST))
        world.last("a").fail(Fault.GARBAGE)
        self.assertRefused(client, 502, -32013)
        assert client.exchange is not None
        assert client.exchange.call is not None
        self.assertEqual([member.error is None for member in client.exchange.call.members or ()], [False, True])

    def test_a_node_that_fails_a_member(self) -> None:
        """The failed member alone is asked again, and everything is put together."""
        world = self.make("a b")
        client = self.submit(world, array(FIRST, b"1", SECOND))
        world.last("a").answer(array(GOOD[0], error(-32603, "x", b'"b"')))
        self.assertEqual(world.last("b").body, array(SECOND))
        world.last("b").answer(array(GOOD[1]))
        first, refused, second = json.loads(client.body)
        self.assertEqual((first, refused["id"], second), (json.loads(GOOD[0]), None, json.loads(GOOD[1])))


SAFE = ("eth_chainId", "eth_call", "eth_getBlockByNumber", "eth_gasPrice")
MEMBER_FAULTS = ("good", "good", "-32603", "429", "-32601", "missing", "unknown", "null id", "wrong")
NODE_FAULTS = ("answers", "answers", "answers", "disconnects", "page", "too long", "one short")


class PropertyTests(RoutingTestCase):
    """Random batches, and nodes that fail random members in random ways."""

    def answer(self, sent: Sent, rng: random.Random, is_well: bool) -> None:
        """Answer as a node does, one that is well or one that is not."""
        fault = "answers" if is_well else rng.choice(NODE_FAULTS)
        calls = json.loads(sent.body)
        answers = [self.member(call, "good" if is_well else rng.choice(MEMBER_FAULTS)) for call in calls]
        rng.shuffle(answers)
        if fault == "disconnects":
            sent.fail(Fault.DISCONNECTED)
        elif fault == "page":
            sent.answer(b"<html>", 503)
        elif fault == "too long":
            sent.answer(array(error(-32600, "batch too large", b"null")))
        else:
            sent.answer(json.dumps(answers[fault == "one short" :]).encode())

    def member(self, call: dict[str, Any], fault: str) -> dict[str, Any]:
        """One answer."""
        good = {"jsonrpc": "2.0", "id": call["id"], "result": f"{call['method']} of {call['params'][0]}"}
        code, message = {
            "-32603": (-32603, "boom"),
            "429": (429, "too many requests"),
            "-32601": (-32601, "no such method"),
            "missing": (-32000, "missing trie node"),
            "unknown": (-32000, "words"),
            "null id": (-32603, "boom"),
            "wrong": (-32000, "header not found"),
        }.get(fault, (0, ""))
        if not code:
            return good
        return {
            "jsonrpc": "2.0",
            "id": None if fault == "null id" else call["id"],
            "error": {"code": code, "message": message},
        }

    def check_one(self, seed: int) -> None:
        rng = random.Random(seed)
        world = World("a b c", fallback="f" * rng.randrange(2), hedge=HedgeConfig(enabled=rng.random() < 0.5))
        calls = [
            {"jsonrpc": "2.0", "id": rng.choice((i, i, f"{i}", i + 0.5)), "method": rng.choice(SAFE), "params": [i]}
            for i in range(rng.randrange(1, 8))
        ]
        well = rng.choice("abc")
        client = world.submit(body=json.dumps(calls).encode())
        for _ in range(200):
            under_way = [
                (name, sent)
                for name, spy in world.spies.items()
                for sent in spy.sent
                if sent.sink in world.deadlines.watched
            ]
            if under_way and rng.random() < 0.8:
                name, sent = rng.choice(under_way)
                self.answer(sent, rng, is_well=name == well)
            else:
                world.pass_time(0.1, 0.1)
        self.assertEqual(client.said, ["answer"], seed)
        good = [self.member(call, "good") for call in calls]
        self.assertEqual(
            sorted(json.loads(client.body), key=lambda answer: repr(answer["id"])),
            sorted(good, key=lambda answer: repr(answer["id"])),
            seed,
        )
        world.pass_time(2, 0.1)
        world.check_idle(self)

    def test_each_call_gets_its_one_good_answer(self) -> None:
        """Whatever the first nodes do, each id is answered once, as the node that is well answers it."""

        @settings(max_examples=300, deadline=None)
        @given(st.integers(0, 2**32))
        def check(seed: int) -> None:
            self.check_one(seed)

        run_property(check)
