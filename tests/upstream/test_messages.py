"""Ids cut out of calls and put into answers: everything else byte for byte."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.jsonrpc import Unreadable, parse_call
from evmlb.upstream.messages import CutCall, Garbage, cut_body, number_of, read_message, with_id
from tests.support import run_property

IDS = st.one_of(st.integers(), st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), st.none())
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


class CutTests(SynchronousTestCase):
    def test_shapes(self) -> None:
        """The id is found wherever it stands, in spite of ids inside the parameters."""
        for body, theirs in (
            (b'{"jsonrpc":"2.0","id":1,"method":"m","params":[]}', b"1"),
            (b' { "params" : [{"id":7}], "id" : "a\\"b" , "method":"m" } \n', b'"a\\"b"'),
            (b'{"method":"m","params":["\\"id\\":9"],"id":null}', b"null"),
            (b'{"method":"m","\\u0069d":1e3}', b"1e3"),
        ):
            cut = cut_body(body)
            assert isinstance(cut, CutCall)
            self.assertEqual((cut.id, cut.before + cut.id + cut.after), (theirs, body))
            self.assertEqual(cut.size, len(body) - len(theirs))

    def test_notification(self) -> None:
        """A call without an id is left whole."""
        body = b'{"method":"m","params":[{"id":7}]}'
        self.assertEqual(cut_body(body), CutCall(body))

    def test_batch(self) -> None:
        """A batch is cut into its members."""
        cut = cut_body(b' [{"id":1,"method":"a"} , {"method":"b"}]')
        self.assertEqual(cut, [CutCall(b'{"id":', b"1", b',"method":"a"}'), CutCall(b'{"method":"b"}')])

    def test_unreadable(self) -> None:
        """What is no call is refused."""
        for body in (b"", b"x", b'"id"', b"[1]", b"[", b'{"id":', b'{"id":[1', b"[" * 100_000):
            self.assertRaises(Unreadable, cut_body, body)

    def test_any_call(self) -> None:
        """Of any call that is taken from clients, the id that was read is the one that is cut."""

        @given(IDS, VALUES, st.permutations(["jsonrpc", "id", "method", "params"]), st.booleans(), st.booleans())
        def check(call_id: object, params: object, order: list[str], spaced: bool, ascii_only: bool) -> None:
            values = {"jsonrpc": "2.0", "id": call_id, "method": "m", "params": [params]}
            text = json.dumps({name: values[name] for name in order}, indent=spaced or None, ensure_ascii=ascii_only)
            body = text.encode(errors="replace")
            cut = cut_body(body)
            assert isinstance(cut, CutCall)
            self.assertEqual(cut.id, parse_call(body).id)
            self.assertEqual(json.loads(cut.before + b"77" + cut.after), {**json.loads(body), "id": 77})

        run_property(check)


class AnswerTests(SynchronousTestCase):
    def test_shapes(self) -> None:
        """Ids come back in every dialect; nothing else is touched."""
        for answer, expected in (
            (b'{"jsonrpc":"2.0","id":5,"result":{"id":5}}\n', b'{"jsonrpc":"2.0","id":"x","result":{"id":5}}\n'),
            (b'{"jsonrpc":"2.0","result":[{"id":5}],"id":5}', b'{"jsonrpc":"2.0","result":[{"id":5}],"id":"x"}'),
            (
                b'{"result":",\\"id\\":5}","id": 5 , "jsonrpc":"2.0"}',
                b'{"result":",\\"id\\":5}","id": "x" , "jsonrpc":"2.0"}',
            ),
            (b'{"\\u0069d":5,"result":1}', b'{"\\u0069d":"x","result":1}'),
        ):
            self.assertEqual(with_id(answer, b"5", b'"x"'), expected)

    def test_any_answer(self) -> None:
        """Whatever the order and the result, the answer differs in its id alone."""

        @given(IDS, VALUES, st.permutations(["jsonrpc", "id", "result"]), st.booleans())
        def check(theirs: object, value: object, order: list[str], spaced: bool) -> None:
            values = {"jsonrpc": "2.0", "id": 5, "result": value}
            separators = (", ", ": ") if spaced else (",", ":")
            answer = json.dumps({name: values[name] for name in order}, separators=separators).encode()
            given_back = with_id(answer, bytes(read_message(answer).id), json.dumps(theirs).encode())
            self.assertEqual(json.loads(given_back), {**json.loads(answer), "id": theirs})

        run_property(check)

    def test_garbage(self) -> None:
        """Any bytes are a message or garbage, and any id a number of ours or none."""

        @given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
        def check(data: bytes) -> None:
            try:
                message = read_message(data)
            except Garbage:
                return
            self.assertIsInstance(json.loads(data), dict)
            self.assertGreaterEqual(number_of(message.id), -1)

        run_property(check)
