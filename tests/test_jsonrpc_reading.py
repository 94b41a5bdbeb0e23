"""The door for JSON from outside: its bounds, its one error, and what the longest and oddest texts cost."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from evmlb.jsonrpc import (
    AnswerKind,
    InvalidCall,
    Unreadable,
    decoder,
    is_utf8,
    parse_call,
    read_answer,
    read_value,
    scan_members,
)
from evmlb.jsonrpc.reading import MAX_DEPTH, MAX_VALUES
from evmlb.jsonrpc.scan import MAX_WALKED_BYTES
from evmlb.upstream.messages import Garbage, cut_body, read_error, read_message, with_id
from tests.support import run_property

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 100_000 + b"]" * 100_000  # beyond any parser's limit, which differs between Pythons
HUGE_NUMBER = b"1e400"
UNITS = {  # what long texts are made of, and what stands between
    "lists": (b"[]", b","),
    "objects": (b'{"a":1}', b","),
    "numbers": (b"1", b","),
    "texts": (b'""', b","),
    "escapes": (b"\\n", b""),
    "half escapes": (b"\\ud800", b""),
    "blanks": (b" ", b""),
    "letters": (b"a", b""),
}


class _Shape(msgspec.Struct):
    id: Raw = Raw()
    result: Raw = Raw()


read_shape = decoder(_Shape)


def long_value(kind: str, size: int) -> bytes:
    """A list, or a text in one, of so many bytes."""
    unit, comma = UNITS[kind]
    inner = comma.join([unit] * (size // len(unit + comma)))
    if kind in ("escapes", "half escapes", "letters"):
        inner = b'"%b"' % inner
    return b"[%b]" % inner


class ReadValueTests(SynchronousTestCase):
    def test_any(self) -> None:
        """A short text is what another parser makes of it."""

        @given(VALUES, st.booleans())
        def check(value: object, ascii_only: bool) -> None:
            self.assertEqual(read_value(json.dumps(value, ensure_ascii=ascii_only).encode()), value)

        run_property(check)

    def test_noise(self) -> None:
        """Any bytes are a value or Unreadable, by both ways in."""

        @given(st.binary(max_size=40), st.sampled_from((b'"%b"', b"[%b]", b'{"id":%b}', b"%b")))
        def check(noise: bytes, form: bytes) -> None:
            for read in (read_value, read_shape):
                with contextlib.suppress(Unreadable):
                    read(form.replace(b"%b", noise))

        run_property(check)

    def test_depth(self) -> None:
        """The depth is bounded by us, whatever the parser can do; brackets in texts are none."""
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            inner = b"[]" if opening == b"[" else b"{}"
            self.assertTrue(read_value(opening * (MAX_DEPTH - 1) + inner + closing * (MAX_DEPTH - 1)))
            for depth in (MAX_DEPTH, 1000, 5000):
                text = opening * depth + inner + closing * depth
                self.assertRaises(Unreadable, read_value, text, max_bytes=len(text))
        self.assertEqual(read_value(b'"%b"' % (b"[" * 1000)), "[" * 1000)
        self.assertEqual(read_value(b'["\\"%b"]' % (b"[" * 1000)), ['"' + "[" * 1000])
        self.assertEqual(len(repr(read_value(b"[" + b"[]," * 1000 + b"[]]"))), 4004)

    def test_size(self) -> None:
        """So are the length and the number of values, before any is made."""
        self.assertRaises(Unreadable, read_value, b" " * 100, max_bytes=99)
        for unit in (b"[]", b"1", b'""'):
            text = b"[" + b",".join([unit] * (MAX_VALUES + 2)) + b"]"
            self.assertRaises(Unreadable, read_value, text, max_bytes=len(text))

    def test_numbers(self) -> None:
        """A number that is none to one of two parsers is none; a text of it is still passed over."""
        self.assertRaises(Unreadable, read_value, HUGE_NUMBER)
        self.assertEqual(bytes(read_shape(b'{"id":%b}' % HUGE_NUMBER).id), HUGE_NUMBER)

    def test_half_escapes(self) -> None:
        """Half a surrogate pair is U+FFFD (RFC 8259, 8.2); whole ones, and escaped backslashes, stay what they are."""
        for text, value in (
            (rb'"\ud800"', "\ufffd"),
            (rb'"\uDFFF"', "\ufffd"),
            (rb'"\ud83d\ude00\ud83d"', "\U0001f600\ufffd"),
            (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
            (rb'"\\\ud800x"', "\\\ufffdx"),
            (rb'"\\ud800"', r"\ud800"),
        ):
            self.assertEqual(read_value(text), value)
            self.assertTrue(read_shape(b'{"id":%b}' % text).id)

    def test_utf8(self) -> None:
        """Bytes that are no UTF-8 are found, wherever the pieces that are looked at meet."""
        for size in (0, 1, 65535, 65536, 65537, 200_000):
            for tail in ("é", "€", "\U0001f600"):
                text = b"a" * size + tail.encode()
                self.assertTrue(is_utf8(text * 2))
                self.assertFalse(is_utf8(text[:-1]))
                self.assertFalse(is_utf8(text[:-1] + b"a" * 70_000))
        self.assertFalse(is_utf8(b"a" * 65536 + b"\x80" * 70_000))


class HostileCase(SynchronousTestCase):
    """Texts at which one of the parsers fails in its own way."""

    def test_call(self) -> None:
        """A call with any of these is a call or is refused."""
        for odd in (DEEP, HUGE_NUMBER, rb'"\ud800"', DEEP * 20):
            for body in (b'{"id":1,"method":"m","params":[%b]}', b'{"id":%b,"method":"m"}', b"[%b]", b'{"method":%b}'):
                with contextlib.suppress(InvalidCall):
                    parse_call(body % odd)
        call = parse_call(rb'{"id":"\ud800","method":"eth_chainId","params":["\udc00"]}')
        self.assertEqual((call.method, call.id), ("eth_chainId", rb'"\ud800"'))

    def test_answer(self) -> None:
        """So is an answer: what can be told of an error is told, the rest is garbage."""
        for error, kind, message in (
            (DEEP, AnswerKind.GARBAGE, ""),
            (b"[" * 200 + b"]" * 200, AnswerKind.ERROR, "[" * 200 + "]" * 200),
            (HUGE_NUMBER, AnswerKind.ERROR, "1e400"),
            (rb'{"code":-32000,"message":"no \ud800"}', AnswerKind.ERROR, "no \ufffd"),
            (b'{"code":%b,"message":%b}' % (HUGE_NUMBER, HUGE_NUMBER), AnswerKind.ERROR, ""),
            (b'{"code":%b}' % (b"9" * 5000), AnswerKind.ERROR, ""),
            (b'{"code":1,"message":"%b"}' % (b"\\u00e9" * 50_000), AnswerKind.ERROR, "é" * 1000),
            (b'{"code":1,"message":"%b"}' % ("é" * 50_000).encode(), AnswerKind.ERROR, "é" * 1000),
            (b'{"code":1,"message":"","data":%b}' % (b"[" * 200 + b"]" * 200), AnswerKind.ERROR, ""),
        ):
            answer = read_answer(b'{"id":7,"error":%b}' % error, b"7")
            self.assertEqual((answer.kind, answer.message), (kind, message), error[:60])
            read_answer(b'{"id":7,"error":%b' % error, b"7", complete=False)
        good = rb'{"jsonrpc":"2.0","id":7,"result":"\ud800"}'
        self.assertEqual(read_answer(good, b"7").kind, AnswerKind.RESULT)
        self.assertEqual(read_answer(rb'{"id":"\udbff","result":1}', rb'"\uDBFF"').kind, AnswerKind.RESULT)

    def test_message(self) -> None:
        """And a message of a node's WebSocket."""
        self.assertRaises(Garbage, read_message, b'{"id":1,"error":%b}' % DEEP)
        self.assertEqual(read_error(read_message(b'{"id":1,"error":%b}' % HUGE_NUMBER)), (0, "1e400"))
        deep = b"[" * 200 + b"]" * 200
        self.assertEqual(read_error(read_message(b'{"id":1,"error":%b}' % deep)), (0, deep.decode()))
        self.assertEqual(read_error(read_message(rb'{"id":1,"error":{"code":1,"message":"\ud800"}}')), (1, "\ufffd"))
        self.assertIsNone(read_error(read_message(b'{"id":1,"result":1,"error":null}')))


class CostTests(SynchronousTestCase):
    """What Python does for a text does not grow with its length, and what is kept of it is no copy of all of it."""

    SIZE = 1024 * 1024
    STEPS = 100_000  # of calls and returns; a step for each value would be a million

    def check(self, work: Callable[[], Any], size: int, *, most: int = 0) -> None:
        """Both are bounded: calls are counted, and bytes, of which ``most`` do not depend on the size."""
        steps = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal steps
            steps += 1

        tracemalloc.start()
        sys.setprofile(count)
        try:
            work()
        except (InvalidCall, Unreadable, Garbage):
            pass
        finally:
            sys.setprofile(None)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        self.assertLess(steps, self.STEPS)
        self.assertLess(peak, 2.5 * size + most)

    def test_calls(self) -> None:
        """Of requests, wherever the long value stands."""
        for kind in UNITS:
            value = long_value(kind, self.SIZE)
            for form in (
                b'{"jsonrpc":"2.0","method":"eth_getFilterLogs","x":1,"params":%b,"id":1}',
                b'{"id":1,"method":"eth_call","params":[],"x":%b}',
                b'{"params":%b,"method":"eth_call","id":1}',
                b'{"method":"eth_call","params":%b}',
                b'{"id":%b,"method":"eth_call"}',
                b'{"id":1,"method":%b}',
                b'[{"id":1,"method":"eth_call","params":%b}]',
            ):
                body = form % value
                self.check(lambda body=body: parse_call(body), len(body))  # type: ignore[misc]
                self.check(lambda body=body: cut_body(body), len(body))  # type: ignore[misc]

    def test_batches(self) -> None:
        """Of arrays of anything: more than a bound is refused before it is taken apart."""
        for kind in UNITS:
            body = long_value(kind, self.SIZE)
            self.check(lambda body=body: parse_call(body), len(body), most=200_000 * 70)  # type: ignore[misc]

    def test_members(self) -> None:
        """Of very many members, whatever their names are."""
        for member in (b'"x":1,', b'"x":[],', b'"\\u0078":1,', b'"x" : {} , ', b'"id":1,', b'"params":[],'):
            body = b'{"method":"eth_call",%b"id":1}' % (member * (self.SIZE // len(member)))
            self.check(lambda body=body: parse_call(body), len(body))  # type: ignore[misc]
            self.check(lambda body=body: cut_body(body), len(body))  # type: ignore[misc]
        names = b",".join(b'"%x":1' % number for number in range(self.SIZE // 9))
        self.check(lambda: parse_call(b'{"method":"eth_call",%b}' % names), self.SIZE)

    def test_answers(self) -> None:
        """Of answers of nodes, whole or only begun."""
        for kind in UNITS:
            value = long_value(kind, self.SIZE)
            for form in (
                b'{"jsonrpc":"2.0","x":1,"result":%b,"id":5}',
                b'{"id":5,"error":%b}',
                b'{"id":5,"error":{"code":1,"message":%b}}',
                b'{"id":%b,"result":1}',
                b'{"x":%b,"id":5,"result":1}',
            ):
                body = form % value
                self.check(lambda body=body: read_answer(body, b"5"), len(body))  # type: ignore[misc]
                self.check(lambda body=body: read_answer(body[:-9], b"5", complete=False), len(body))  # type: ignore[misc]
                self.check(lambda body=body: self.relay(body), len(body))  # type: ignore[misc]

    def relay(self, body: bytes) -> None:
        """As a message of a node that goes to a client under the client's own id."""
        message = read_message(body)
        read_error(message)
        if len(message.id) < 20:  # else it is none of ours
            with_id(body + b" ", bytes(message.id), b'"theirs"', (message.result, message.error))


class FarIdTests(SynchronousTestCase):
    def test_long_members(self) -> None:
        """A long value that was read before is passed over in one stride, so the id behind it is found."""
        long = long_value("objects", 200_000)
        body = b'{"x":1,"params":%b, "method":"eth_call" , "id":"far"}' % long
        self.assertEqual(parse_call(body).id, b'"far"')
        cut = cut_body(body)
        assert not isinstance(cut, list)
        self.assertEqual((cut.id, cut.before + cut.id + cut.after), (b'"far"', body))
        answer = b'{"result":%b, "id":12 }' % long
        message = read_message(answer)
        self.assertEqual(with_id(answer, b"12", b"7", (message.result,)), b'{"result":%b, "id":7 }' % long)

    def test_too_much_beside(self) -> None:
        """What stands beside the parameters has its bound, and the refusal says it."""
        for extra in (b'"x":"%b",' % (b"a" * MAX_WALKED_BYTES), b'"x":1,' * (MAX_WALKED_BYTES // 6)):
            with self.assertRaises(InvalidCall) as caught:
                parse_call(b'{%b"id":1,"method":"eth_call","params":[]}' % extra)
            self.assertEqual((caught.exception.code, str(MAX_WALKED_BYTES) in caught.exception.message), (-32600, True))

    def test_equal_values(self) -> None:
        """A known value is passed over once, so that many equal ones are not many strides."""
        text = b'{"a":[1],"b":[1],"c":2}'
        found = [(key, text[start:end]) for key, start, end in scan_members(text, (Raw(b"[1]"),))]
        self.assertEqual(found, [(b'"a"', b"[1]"), (b'"b"', b"[1]"), (b'"c"', b"2")])

    def test_folded_names(self) -> None:
        """A name that Go would take for one of the envelope's is one that is given twice."""
        body = '{"id":1,"method":"eth_call","params":[],"param\u017f":[1]}'.encode()
        self.assertRaises(InvalidCall, parse_call, body)
