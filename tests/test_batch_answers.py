"""Arrays of calls and answers: what answers which call, whatever its spelling and order."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.jsonrpc import AnswerKind, InvalidCall, array_of, error_body, members_of, parse_call, read_batch_answer
from evmlb.jsonrpc.batches import MAX_ERRORS_READ
from evmlb.jsonrpc.calls import MAX_INVALID_MEMBERS
from evmlb.methods import FAST, REFUSED
from tests.support import run_property

IDS = (b"1", b'"b"')
ids = st.one_of(st.integers(-5, 5), st.text(max_size=2), st.just(None), st.sampled_from([0.5, 1.5]))


class ReadingTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """What the answer to a batch is as one."""
        for body, kind in (
            (b'[{"id":1,"result":1},{"id":"b","result":2}]', AnswerKind.RESULT),
            (b'[{"id":"b","result":1},{"id":1,"result":2}]', AnswerKind.RESULT),
            (b'[{"id":1.0,"result":1},{"id":"\\u0062","result":2}]', AnswerKind.RESULT),
            (b'[{"id":1,"result":1},{"id":"b","error":{"code":1,"message":""}}]', AnswerKind.RESULT),
            (b'[{"id":1,"result":1,"error":null},{"id":"b","result":null}]', AnswerKind.RESULT),
            (b'{"id":null,"error":{"code":-32600,"message":"batch too large"}}', AnswerKind.ERROR),
            (b'[{"id":1,"error":{"code":-32600,"message":"batch too large"}}]', AnswerKind.ERROR),
            (b'[{"error":[[[]]]}]', AnswerKind.ERROR),
            (b'[{"id":1,"result":1}]', AnswerKind.GARBAGE),
            (b'[{"id":8,"result":1},{"id":9,"result":1}]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":1,"result":1}]', AnswerKind.GARBAGE),
            (b'[{"result":1},{"id":"b","result":1}]', AnswerKind.GARBAGE),
            (b'[{"id":true,"result":1},{"id":"b","result":1}]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":"b"}]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":"c","error":{}}]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},3]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":"b","result":"\xff"}]', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":"b","result":1}] x', AnswerKind.GARBAGE),
            (b'[{"id":1,"result":1},{"id":"b","result":1', AnswerKind.GARBAGE),
            (b'{"id":1,"result":1}', AnswerKind.GARBAGE),
            (b"[" * 100_000, AnswerKind.GARBAGE),
            (b"nonsense", AnswerKind.GARBAGE),
            (b"", AnswerKind.GARBAGE),
        ):
            self.assertEqual(read_batch_answer(body, IDS).whole.kind, kind, body[:80])

    def test_members(self) -> None:
        """Each member that is not plainly good is told, with the call that it answers."""
        read = read_batch_answer(b'[{"id":"b","result":null}, {"id":1,"error":{"code":3,"message":"x"}}]', IDS)
        self.assertEqual(
            [(m.place, m.answer.kind) for m in read.members], [(1, AnswerKind.NULL), (0, AnswerKind.ERROR)]
        )
        self.assertEqual((read.members[1].answer.code, read.members[1].answer.message), (3, "x"))
        self.assertEqual((read.members[0].raw, read.is_mended), (b'{"id":"b","result":null}', False))
        self.assertEqual(read_batch_answer(b'[{"id":1,"result":1},{"id":"b","result":1}]', IDS).members, ())

    def test_errors_without_an_id(self) -> None:
        """Errors without an id answer the calls that are left, and are given their ids."""
        read = read_batch_answer(b'[{"id":null,"error":{"code":1}},{"id":1,"result":1}]', IDS)
        self.assertEqual([m.place for m in read.members], [1, 0])
        self.assertEqual(read.members[0].raw, b'{"jsonrpc":"2.0","id":"b","error":{"code":1}}')
        self.assertTrue(read.is_mended)

    def test_null_ids(self) -> None:
        """Null is an id when it was asked with."""
        read = read_batch_answer(b'[{"id":null,"result":1},{"id":1,"result":1}]', (b"1", b"null"))
        self.assertEqual([m.place for m in read.members], [1, 0])

    def test_as_a_multiset(self) -> None:
        """Whatever the ids, their order and spelling, each answer finds its call; one too many or too few is told."""

        @settings(max_examples=300, deadline=None)
        @given(st.lists(ids, min_size=1, max_size=6), st.randoms(use_true_random=False), st.booleans())
        def check(asked: list[Any], rng: Any, escaped: bool) -> None:
            raws = [json.dumps(each).encode() for each in asked]
            answers = [{"id": each, "result": place} for place, each in enumerate(asked)]
            rng.shuffle(answers)
            body = json.dumps(answers).encode()
            if escaped:
                body = body.replace(b'"id": "a', b'"id": "\\u0061').replace(b".5,", b".50,")
            read = read_batch_answer(body, raws)
            self.assertEqual(read.whole.kind, AnswerKind.RESULT, body)
            for member, answer in zip(read.members, answers, strict=bool(read.members)):
                self.assertEqual((asked[member.place], type(asked[member.place])), (answer["id"], type(answer["id"])))
            self.assertEqual(sorted(m.place for m in read.members), list(range(len(read.members))))
            for wrong in (answers[1:], [*answers, {"id": 77, "result": 1}], [*answers[1:], {"id": 77, "result": 1}]):
                self.assertEqual(read_batch_answer(json.dumps(wrong).encode(), raws).whole.kind, AnswerKind.GARBAGE)

        run_property(check)

    def test_any_bytes(self) -> None:
        """Whatever a node sends is of some kind."""

        @settings(max_examples=300, deadline=None)
        @given(st.binary(max_size=60))
        def check(noise: bytes) -> None:
            for body in (noise, b"[" + noise + b"]", b'[{"id":1,"result":' + noise + b'},{"id":"b","result":1}]'):
                read_batch_answer(body, IDS)

        run_property(check)

    def test_linear(self) -> None:
        """Ids spelt otherwise are looked at once, not each beside each other."""

        def seconds(count: int) -> float:
            asked = [b'"\\u0061%d"' % i for i in range(count)]
            body = array_of(b'{"id":"a%d","error":{"code":1,"message":""}}' % i for i in range(count))
            started = time.process_time()
            self.assertEqual(len(read_batch_answer(body, asked).members), count)
            return time.process_time() - started

        few, many = (min(seconds(count) for _ in range(3)) for count in (500, 4000))
        self.assertLess(many, 30 * few)  # eight times as many; beside each other they would take 64 times as long

    def test_many_different_errors(self) -> None:
        """Of very many different errors the first are read; the others are errors all the same."""
        count = MAX_ERRORS_READ + 50
        asked = [b"%d" % i for i in range(count)]
        body = array_of(b'{"id":%d,"error":{"code":1,"message":"%d"}}' % (i, i) for i in range(count))
        read = read_batch_answer(body, asked).members
        self.assertEqual({member.answer.kind for member in read}, {AnswerKind.ERROR})
        self.assertEqual([member.answer.message for member in read[:3]], ["0", "1", "2"])
        self.assertEqual(
            (read[-1].answer.code, read[-1].raw),
            (0, b'{"id":%d,"error":{"code":1,"message":"%d"}}' % (count - 1, count - 1)),
        )

    def test_take_apart_and_join(self) -> None:
        """Members stay the bytes that they are."""
        members = [b'{"a": 1}', b'[ "\\u0061" ]', '"ü"'.encode(), b"1.50"]
        self.assertEqual(members_of(b" [ " + b" , ".join(members) + b" ]\n"), members)
        self.assertEqual(members_of(array_of(members)), members)


class CallTests(SynchronousTestCase):
    def test_bad_members(self) -> None:
        """A member that is no call has an error of its own, and its id where it has one; the others are calls."""
        call = parse_call(b'[{"id":1,"method":"eth_chainId"},1,{"id":"x","method":5},{"id":{},"method":"a"},[],{}]')
        good, *bad = call.members or ()
        self.assertEqual((good.klass, good.error, call.klass), (FAST, None, REFUSED))
        self.assertEqual([member.id for member in bad], [b"null", b'"x"', b"null", b"null", b"null"])
        self.assertEqual({(member.klass, (member.error or (0,))[0]) for member in bad}, {(REFUSED, -32600)})

    def test_their_errors(self) -> None:
        """Whatever becomes of a batch, they are told what is wrong with them."""
        call = parse_call(b'[{"id":1,"method":"eth_chainId"},1,{"method":"eth_chainId"}]')
        answers = json.loads(error_body(call, -32015, "no node answered in time"))
        self.assertEqual([(a["id"], a["error"]["code"]) for a in answers], [(1, -32015), (None, -32600)])

    def test_too_many(self) -> None:
        """So many that their errors were much larger than the batch are refused as one."""
        parse_call(array_of([b"1"] * MAX_INVALID_MEMBERS))
        self.assertRaises(InvalidCall, parse_call, array_of([b"1"] * (MAX_INVALID_MEMBERS + 1)))
