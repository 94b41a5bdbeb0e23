"""The envelope of requests and the kinds of answers, against a full parser."""

import json

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.jsonrpc import (
    AnswerKind,
    Call,
    InvalidCall,
    Unreadable,
    begins_plain_result,
    error_body,
    is_plain_result,
    parse_call,
    read_answer,
    scan_members,
)
from evmlb.methods import MethodClass

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


class ParseCallTests(SynchronousTestCase):
    def test_common(self) -> None:
        """A common call gives its method, class and the id's own bytes."""
        call = parse_call(b'{"jsonrpc":"2.0","id":7,"method":"eth_getBalance","params":["0x0","latest"]}')
        self.assertEqual((call.method, call.klass, call.id), ("eth_getBalance", MethodClass.FAST, b"7"))
        self.assertEqual(bytes(call.params), b'["0x0","latest"]')

    def test_classes(self) -> None:
        """Each method has its class; what is unknown is slow."""
        for method, klass in (
            ("eth_call", MethodClass.SLOW),
            ("eth_getLogs", MethodClass.SLOW),
            ("debug_traceTransaction", MethodClass.SLOW),
            ("who_knows", MethodClass.SLOW),
            ("eth_sendRawTransaction", MethodClass.UNSAFE),
            ("anvil_mine", MethodClass.UNSAFE),
            ("personal_sign", MethodClass.REFUSED),
            ("eth_newFilter", MethodClass.UNSAFE),
            ("engine_newPayloadV4", MethodClass.REFUSED),
        ):
            self.assertEqual(parse_call(orjson.dumps({"id": 1, "method": method})).klass, klass, method)

    def test_ids_are_exact(self) -> None:
        """Ids keep their bytes: large integers, floats, escapes, strings, null; no id is a notification."""
        for raw in (b"12345678901234567890123", b"1.50", b'"a\\u00e9"', b'"x"', b"null", b"-3", b'""'):
            call = parse_call(b'{"id":%b,"method":"eth_chainId"}' % raw)
            self.assertEqual(call.id, raw)
            self.assertTrue(call.expects_answer)
        self.assertFalse(parse_call(b'{"method":"eth_chainId"}').expects_answer)

    def test_odd_but_right(self) -> None:
        """White space, member order, other members, escapes in the method and words in parameters do no harm."""
        for body in (
            b' \n{"params":[],"method":"eth_chainId","id":1}',
            b'{"id":1,"method":"eth_chainId","params":[],"trace":"x"}',
            b'{"id":1,"method":"eth\\u005fchainId","params":[]}',
            b'{"id":1,"method":"eth_chainId","params":[{"method":"x","id":2,"params":[]}]}',
            '{"id":1,"method":"eth_chainId","params":["é"]}'.encode(),
        ):
            call = parse_call(body)
            self.assertEqual((call.method, call.id), ("eth_chainId", b"1"), body)

    def test_refused(self) -> None:
        """What is no call is refused with the specification's code."""
        for code, body in (
            (-32700, b""),
            (-32700, b"hello"),
            (-32700, b'{"id":1'),
            (-32700, b'{"id":1,"method":"a","params":["\xff"]}'),
            (-32700, b'{"id":1,"method":"a","params":[NaN]}'),
            (-32700, b"\xef\xbb\xbf{}"),
            (-32700, b'[{"id":1,"method":"a"}'),
            (-32600, b"5"),
            (-32600, b'"x"'),
            (-32600, b"{}"),
            (-32600, b"[]"),
            (-32600, b'{"id":1}'),
            (-32600, b'{"id":1,"method":5}'),
            (-32600, b'{"id":1,"method":""}'),
            (-32600, b'{"id":1,"method":"a\\u0000b"}'),
            (-32600, b'{"id":{},"method":"a"}'),
            (-32600, b'{"id":[1],"method":"a"}'),
            (-32600, b'{"id":true,"method":"a"}'),
            (-32600, b'{"id":1,"method":"a","METHOD":"b"}'),
            (-32600, b'{"id":1,"method":"a","method":"b"}'),
            (-32600, b'{"id":1,"Method":"a"}'),
            (-32600, b'{"id":1,"method":"a","meth\\u006fd":"b"}'),
            (-32600, b'{"id":1,"ID":2,"method":"a"}'),
            (-32600, b'{"id":1,"id":2,"method":"a"}'),
            (-32600, b'{"id":1,"method":"a","params":[],"params":[1]}'),
            (-32600, b'{"id":1,"method":"a","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
            (-32600, b"[" * 100_000 + b"]" * 100_000),
        ):
            with self.assertRaises(InvalidCall, msg=body[:80]) as caught:
                parse_call(body)
            self.assertEqual(caught.exception.code, code, (body[:80], caught.exception.message))

    def test_refused_with_the_id(self) -> None:
        """A refusal knows the id wherever there is a single one that is an id (specification, section 5)."""
        for call_id, body in (
            (b"1", b'{"id":1,"method":null}'),
            (b'"a\\"b"', b'{"id":"a\\"b","method":""}'),
            (b"null", b'{"id":null}'),
            (b"7", b'{"id":7,"method":"m","params":3,"x":1}'),
            (b"7", b'{"id":7,"method":"m","METHOD":"n"}'),
            (b"7", b'{"id":7,"method":"%b"}' % (b"m" * 300)),
            (b"", b'{"id":7,"ID":8,"method":"m"}'),
            (b"", b'{"id":[],"method":"m"}'),
            (b"", b'{"id":1'),
            (b"", b"5"),
        ):
            with self.assertRaises(InvalidCall) as caught:
                parse_call(body)
            self.assertEqual(caught.exception.id, call_id, body)

    def test_no_room_for_another_member(self) -> None:
        """No envelope with a member too many passes for a compact one, whatever the lengths are made to be."""
        for extra in (
            b'"id":1,',
            b'"id":22,',
            b'"params":[],',
            b'"method":"eth_call",',
            b'"i\\u0064":1,',
            b'"method":"",',
        ):
            for member in (b'"jsonrpc":"2.0",', b""):
                body = b"{%b%b" % (member, extra) + b'"id":7,"method":"eth_chainId","params":[]}'
                self.assertRaises(InvalidCall, parse_call, body)

    def test_batch(self) -> None:
        """A batch is one call of the strictest class of its members."""
        call = parse_call(b' [{"id":1,"method":"eth_chainId"},{"method":"eth_call"},{"id":"x","method":"eth_sign"}]')
        self.assertEqual(call.klass, MethodClass.UNSAFE)
        self.assertEqual([member.id for member in call.members or ()], [b"1", b"", b'"x"'])
        self.assertFalse(parse_call(b'[{"method":"eth_call"}]').expects_answer)

    @settings(max_examples=400)
    @given(st.dictionaries(st.sampled_from(["id", "method", "params", "jsonrpc", "x"]), json_values), st.booleans())
    def test_against_a_full_parser(self, members: dict[str, object], batched: bool) -> None:
        """Any object is a call with exactly the method and id that a full parser sees, or is refused."""
        body = json.dumps([members] if batched else members).encode()
        try:
            call = parse_call(body)
        except InvalidCall:
            self.check_refused(members, body)
            return
        if batched:
            (call,) = call.members or ()
        if call.error is not None:
            self.check_refused(members, body)
            return
        self.assertEqual(call.method, members["method"])
        self.assertEqual(json.loads(call.id) if call.id else None, members.get("id"))

    def check_refused(self, members: dict[str, object], body: bytes) -> None:
        """That an object is no call."""
        method, call_id = members.get("method"), members.get("id")
        is_call = isinstance(method, str) and method.isprintable() and method
        good_id = call_id is None or (isinstance(call_id, (int, str)) and not isinstance(call_id, bool))
        good_params = isinstance(members.get("params"), (list, dict, type(None)))
        self.assertFalse(is_call and good_id and good_params, body)

    @settings(max_examples=500)
    @given(st.binary(max_size=80))
    def test_fuzz(self, noise: bytes) -> None:
        """Any bytes are a call or are refused."""
        for body in (noise, b'{"id":1,"method":"eth_call","params":' + noise + b"}", b"[" + noise + b"]"):
            try:
                call = parse_call(body)
            except InvalidCall:
                continue
            orjson.loads(body)
            self.assertIsInstance(call, Call)


class ScanTests(SynchronousTestCase):
    @settings(max_examples=400)
    @given(st.dictionaries(st.text(max_size=8), json_values, max_size=5), st.integers(0, 4))
    def test_against_a_full_parser(self, members: dict[str, object], indent: int) -> None:
        """The members are those of a full parser, each value exactly cut out."""
        text = json.dumps(members, indent=indent or None).encode()
        found = {json.loads(key): json.loads(text[start:end]) for key, start, end in scan_members(text)}
        self.assertEqual(found, members)

    @settings(max_examples=300)
    @given(st.dictionaries(st.text(max_size=8), json_values, min_size=1, max_size=5), st.integers(0, 500))
    def test_beginnings(self, members: dict[str, object], size: int) -> None:
        """Of a text that is cut off, whole members are given and then Unreadable; never anything wrong."""
        text = json.dumps(members).encode()
        beginning = text[: size % len(text)]
        found: dict[str, object] = {}
        try:
            for key, start, end in scan_members(beginning):
                if end >= 0:
                    found[json.loads(key)] = json.loads(beginning[start:end])
        except Unreadable:
            pass
        for key, value in found.items():
            self.assertEqual(members[key], value)


class AnswerTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """The usual orders of members are recognised by their ends; null, other ids and errors are not."""
        for body, expected in (
            (b'{"jsonrpc":"2.0","id":7,"result":"0x1"}', True),
            (b'{"jsonrpc":"2.0","id":7,"result":{"a":[]}}\n', True),
            (b'{"jsonrpc":"2.0","result":false,"id":7}', True),
            (b'{"jsonrpc":"2.0","id":7,"result":null}', False),
            (b'{"jsonrpc":"2.0","result":null,"id":7}', False),
            (b'{"jsonrpc":"2.0","id":77,"result":"0x1"}', False),
            (b'{"jsonrpc":"2.0","id":7,"result":"0x1"', False),
            (b'{"jsonrpc":"2.0","result":"0x1","id":17}', False),
            (b'{"jsonrpc":"2.0","id":7,"error":{}}', False),
            (b"<html>", False),
            (b"", False),
        ):
            self.assertEqual(is_plain_result(body, body, b"7"), expected, body)

    def test_cut_off(self) -> None:
        """No small answer that was cut off, or spoilt, passes as plain, wherever that happened."""
        whole = b'{"jsonrpc":"2.0","id":7,"result":{"a":[{"b":"0x1"}],"c":{"d":"\xc3\xa9"}}}'
        self.assertTrue(is_plain_result(whole, whole, b"7"))
        for end in range(len(whole)):
            cut = whole[:end]
            self.assertFalse(is_plain_result(cut, cut, b"7"), cut)
            self.assertEqual(read_answer(cut, b"7").kind, AnswerKind.GARBAGE)
        for spoilt in (whole.replace(b"0x1", b"0\xff1"), whole[:-1] + b"x}", whole + b"}"):
            self.assertFalse(is_plain_result(spoilt, spoilt, b"7"), spoilt)
            self.assertEqual(read_answer(spoilt, b"7").kind, AnswerKind.GARBAGE)

    def test_large_to_the_end(self) -> None:
        """A large answer is read to its end: an id there that is wrong, missing or followed by rubbish is noticed."""
        result = b"[" + b'{"a":"1"},' * 1000 + b'{"a":"1"}]'
        for form, kind in (
            (b'{"jsonrpc":"2.0","result":%b,"id":7}', AnswerKind.RESULT),
            (b'{"id":7,"result":%b}', AnswerKind.RESULT),
            (b'{"jsonrpc":"2.0","result":%b,"id":8}', AnswerKind.GARBAGE),
            (b'{"jsonrpc":"2.0","result":%b,"id":null}', AnswerKind.GARBAGE),
            (b'{"jsonrpc":"2.0","result":%b}', AnswerKind.GARBAGE),
            (b'{"jsonrpc":"2.0","result":%b,"id":7}}', AnswerKind.GARBAGE),
            (b'{"jsonrpc":"2.0","result":%b,"id":7', AnswerKind.GARBAGE),
            (b'{"id":7,"result":%b, ...}', AnswerKind.GARBAGE),
            (b'{"result":%b,"id":7,"error":{"code":1,"message":""}}', AnswerKind.ERROR),
        ):
            body = form % result
            self.assertEqual(read_answer(body, b"7").kind, kind, form)
            if kind is not AnswerKind.RESULT:
                self.assertFalse(is_plain_result(body, body, b"7"), form)

    def test_pieces(self) -> None:
        """Of what comes in pieces nothing is plain until there is enough in the first: a null may be in the second."""
        opening = b'{"jsonrpc":"2.0","id":7,"result":'
        for first, last in ((opening, b"null}"), (opening, b"x}"), (opening + b'"0', b'x"}'), (opening[:9], b"}")):
            self.assertFalse(is_plain_result(first, last, b"7"), (first, last))
        self.assertFalse(begins_plain_result(opening, b"7"))
        self.assertTrue(is_plain_result(opening + b'"%b' % (b"a" * 4096), b'"}', b"7"))

    def test_null_id(self) -> None:
        """A null id is one that only errors may have."""
        self.assertEqual(read_answer(b'{"id":null,"result":1}', b"7").kind, AnswerKind.GARBAGE)
        self.assertEqual(read_answer(b'{"id":null,"result":1}', b"null").kind, AnswerKind.RESULT)

    def test_plain_agrees_with_reading(self) -> None:
        """What is plain is a result by the full reading too."""
        for body in (b'{"jsonrpc":"2.0","id":7,"result":"0x1"}', b'{"jsonrpc":"2.0","result":{},"id":7}'):
            self.assertEqual(read_answer(body, b"7").kind, AnswerKind.RESULT)
        self.assertTrue(begins_plain_result(b'{"jsonrpc":"2.0","id":7,"result":[{"a', b"7"))
        self.assertFalse(begins_plain_result(b'{"jsonrpc":"2.0","id":7,"result":n', b"7"))

    def test_kinds(self) -> None:
        """Every answer is a result, a null, an error or garbage."""
        for body, kind in (
            (b'{"id":7,"jsonrpc":"2.0","result":"0x1"}', AnswerKind.RESULT),
            (b'{"result":null,"id":7}', AnswerKind.NULL),
            (b'{"id":7,"result":"x","error":null}', AnswerKind.RESULT),
            (b'{"id":7,"result":null,"error":{"code":-32000,"message":"no"}}', AnswerKind.ERROR),
            (b'{"id":7,"error":{"code":3,"message":"execution reverted","data":"0x"}}', AnswerKind.ERROR),
            (b'{"id":null,"error":{"code":-32700,"message":"parse error"}}', AnswerKind.ERROR),
            (b'{"error":{"code":-32700,"message":"parse error"}}', AnswerKind.ERROR),
            (b'{"id":7.0,"result":1}', AnswerKind.RESULT),
            (b'{"id":8,"result":1}', AnswerKind.GARBAGE),
            (b'{"result":1}', AnswerKind.GARBAGE),
            (b'{"id":7}', AnswerKind.GARBAGE),
            (b'{"id":7,"result":1', AnswerKind.GARBAGE),
            (b'{"id":7,"result":1}}', AnswerKind.GARBAGE),
            (b"[]", AnswerKind.GARBAGE),
            (b"", AnswerKind.GARBAGE),
            (b"<html>502</html>", AnswerKind.GARBAGE),
            (b'{"error":"rate limited"}', AnswerKind.ERROR),
        ):
            self.assertEqual(read_answer(body, b"7").kind, kind, body)

    def test_error_is_read(self) -> None:
        """Code and message of an error are given, whatever shape it has."""
        answer = read_answer(b'{"id":7,"error":{"code":-32005,"message":"limit"}}', b"7")
        self.assertEqual((answer.code, answer.message), (-32005, "limit"))
        answer = read_answer(b'{"id":7,"error":{"code":"x"}}', b"7")
        self.assertEqual((answer.code, answer.message), (0, ""))
        self.assertEqual(read_answer(b'{"id":7,"error":"boo"}', b"7").message, "boo")

    def test_large(self) -> None:
        """A large answer is read until what decides, a beginning of one too."""
        body = b'{"id":7,"result":[' + b'"x",' * 5000 + b'"y"]}'
        self.assertEqual(read_answer(body, b"7").kind, AnswerKind.RESULT)
        self.assertEqual(read_answer(body[:9000], b"7", complete=False).kind, AnswerKind.RESULT)
        self.assertEqual(read_answer(b"<html>" + b"x" * 9000, b"7", complete=False).kind, AnswerKind.GARBAGE)
        self.assertEqual(read_answer(body.replace(b'"id":7', b'"id":8'), b"7").kind, AnswerKind.GARBAGE)

    @settings(max_examples=300)
    @given(st.binary(max_size=60))
    def test_fuzz(self, noise: bytes) -> None:
        """Any bytes are of some kind, and a plain result is never garbage to a full parser."""
        for body in (noise, b'{"jsonrpc":"2.0","id":7,"result":' + noise + b"}"):
            read_answer(body, b"7")
            read_answer(body, b"7", complete=False)
            self.assertIsInstance(is_plain_result(body, body, b"7"), bool)


class ErrorBodyTests(SynchronousTestCase):
    def test_shapes(self) -> None:
        """Our errors carry the id they answer, an array of them for a batch, null where it is not known."""
        self.assertEqual(
            orjson.loads(error_body(parse_call(b'{"id":"a","method":"x"}'), -1, 'say "no"')),
            {"jsonrpc": "2.0", "id": "a", "error": {"code": -1, "message": 'say "no"'}},
        )
        for unknown in (None, b""):
            self.assertIsNone(orjson.loads(error_body(unknown, -1, "no"))["id"])
        self.assertEqual(orjson.loads(error_body(b'"x"', -1, "no"))["id"], "x")
        batch = parse_call(b'[{"id":1,"method":"x"},{"method":"x"},{"id":2,"method":"x"}]')
        self.assertEqual([answer["id"] for answer in orjson.loads(error_body(batch, -1, "no"))], [1, 2])
