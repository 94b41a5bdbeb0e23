"""Which block a call names, and what follows from it."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from evmlb.methods import BLOCK_PARAM, TAKES_RANGE
from evmlb.policy.blocks import (
    LATEST,
    MAX_PARAMS_BYTES,
    BlockReference,
    block_reference,
    named_block,
    reads_own_writes,
    recent,
)
from tests.support import run_property

HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20
CALL = {"to": ADDRESS, "data": "0x70a08231"}
TAGS = ("earliest", "finalized", "safe", "latest", "pending")

CALLS: dict[str, list[Any]] = {  # parameters of each method as the specification has them, B being the block
    "eth_getBlockByHash": ["B", False],
    "eth_getBlockByNumber": ["B", False],
    "eth_getBlockReceipts": ["B"],
    "eth_getBlockTransactionCountByHash": ["B"],
    "eth_getBlockTransactionCountByNumber": ["B"],
    "eth_getHeaderByHash": ["B"],
    "eth_getHeaderByNumber": ["B"],
    "eth_getRawTransactionByBlockHashAndIndex": ["B", "0x0"],
    "eth_getRawTransactionByBlockNumberAndIndex": ["B", "0x0"],
    "eth_getTransactionByBlockHashAndIndex": ["B", "0x0"],
    "eth_getTransactionByBlockNumberAndIndex": ["B", "0x0"],
    "eth_getUncleByBlockHashAndIndex": ["B", "0x0"],
    "eth_getUncleByBlockNumberAndIndex": ["B", "0x0"],
    "eth_getUncleCountByBlockHash": ["B"],
    "eth_getUncleCountByBlockNumber": ["B"],
    "debug_getRawBlock": ["B"],
    "debug_getRawHeader": ["B"],
    "debug_getRawReceipts": ["B"],
    "debug_traceBlockByHash": ["B", {"tracer": "callTracer"}],
    "debug_traceBlockByNumber": ["B", {"tracer": "callTracer"}],
    "trace_block": ["B"],
    "trace_replayBlockTransactions": ["B", ["trace"]],
    "eth_call": [CALL, "B", {}],
    "eth_createAccessList": [CALL, "B"],
    "eth_estimateGas": [CALL, "B"],
    "eth_feeHistory": ["0x5", "B", [25, 75]],
    "eth_getBalance": [ADDRESS, "B"],
    "eth_getCode": [ADDRESS, "B"],
    "eth_getTransactionCount": [ADDRESS, "B"],
    "eth_simulateV1": [{"blockStateCalls": []}, "B"],
    "debug_traceCall": [CALL, "B", {}],
    "trace_callMany": [[[CALL, ["trace"]]], "B"],
    "eth_getProof": [ADDRESS, ["0x0"], "B"],
    "eth_getStorageAt": [ADDRESS, "0x0", "B"],
    "trace_call": [CALL, ["trace"], "B"],
}


def raw(params: object) -> Raw:
    return Raw(orjson.dumps(params))


def number(value: int) -> BlockReference:
    return BlockReference(number=value)


def tag(value: str) -> BlockReference:
    return BlockReference(tag=value)


class ReferenceTests(SynchronousTestCase):
    def test_every_method(self) -> None:
        """Each method of the table names its block at its place, in every form."""
        self.assertEqual(set(CALLS) | TAKES_RANGE, set(BLOCK_PARAM))
        for method, params in CALLS.items():
            at = params.index("B")
            for block, wanted in (
                ("0x0", number(0)),
                ("0x12f", number(303)),
                ("0xffffffffffffffff", number(2**64 - 1)),
                *((name, tag(name)) for name in TAGS),
                (HASH, BlockReference(hash=HASH)),
                ({"blockNumber": "0x12f"}, number(303)),
                ({"blockNumber": "pending"}, tag("pending")),
                ({"blockHash": HASH, "requireCanonical": True}, BlockReference(hash=HASH)),
                ({"blockHash": None, "blockNumber": "0x1"}, number(1)),
            ):
                asked = raw([*params[:at], block, *params[at + 1 :]])
                self.assertEqual(block_reference(method, asked), wanted, (method, block))

    def test_left_out(self) -> None:
        """A block that is left out is the latest, but for the first parameter, which cannot be."""
        for method, params in CALLS.items():
            at = params.index("B")
            wanted = LATEST if at else None
            for asked in (params[:at], [*params[:at], None]):
                self.assertEqual(block_reference(method, raw(asked)), wanted, (method, asked))
        self.assertEqual(LATEST, tag("latest"))

    def test_ranges(self) -> None:
        """A range is the end that asks more of a node; an end left out is the latest block."""
        for method in TAKES_RANGE:
            for criteria, wanted in (
                ({"fromBlock": "0x1", "toBlock": "0x5"}, number(5)),
                ({"fromBlock": "0x5", "toBlock": "0x1"}, number(5)),
                ({"fromBlock": "earliest", "toBlock": "0x5"}, number(5)),
                ({"toBlock": "0x5"}, number(5)),
                ({"fromBlock": "0x5", "toBlock": "latest"}, BlockReference(5, "latest")),
                ({"fromBlock": "0x5", "toBlock": "finalized"}, BlockReference(5, "finalized")),
                ({"fromBlock": "0x5"}, BlockReference(5, "latest")),
                ({"fromBlock": "0x5", "toBlock": None}, BlockReference(5, "latest")),
                ({"fromBlock": "0x5", "toBlock": "pending"}, BlockReference(5, "pending")),
                ({"fromBlock": "earliest", "toBlock": "safe"}, tag("safe")),
                ({"fromBlock": "pending"}, tag("pending")),
                ({"fromBlock": "pending", "toBlock": "latest"}, tag("pending")),
                ({"address": ADDRESS, "topics": [None, [HASH]]}, LATEST),
                ({}, LATEST),
                ({"blockHash": HASH, "address": ADDRESS}, BlockReference(hash=HASH)),
                ({"blockHash": None, "fromBlock": "0x1", "toBlock": "0x5"}, number(5)),
                ({"fromBlock": "0x1", "toBlock": "0xzz"}, None),
                ({"fromBlock": "soon", "toBlock": "0x5"}, None),
                ({"fromBlock": 1, "toBlock": 5}, None),
                ({"blockHash": "0xzz"}, None),
            ):
                self.assertEqual(block_reference(method, raw([criteria])), wanted, (method, criteria))

    def test_unreadable(self) -> None:
        """What names no block, or cannot be read, is None."""
        for block in (
            "",
            "0x",
            "0xzz",
            "0x1_0",
            "-0x1",
            "0x-1",
            "12",
            "Latest",
            "latest ",
            HASH[:-1],
            HASH + "0",
            "0x" + "zz" * 32,
            "0x10000000000000000",
            7,
            1.5,
            True,
            [],
            ["latest"],
            {},
            {"blockNumber": None},
            {"blockNumber": 7},
            {"blockHash": 7},
            {"blockNumber": {"blockNumber": "0x1"}},
        ):
            self.assertIsNone(block_reference("eth_getBalance", raw([ADDRESS, block])), block)
            self.assertIsNone(block_reference("eth_getBlockByNumber", raw([block, False])), block)
        for params in (
            b"",
            b"null",
            b"{}",
            b'"latest"',
            b'["latest"',
            b'["latest" false]',
            b'["latest",[}]',
            b'["\xff"]',
            b"[" * 1000,
            b"[" * 60_000,
            b'["latest",' + b"[" * 60_000,
        ):
            self.assertIsNone(block_reference("eth_getBlockByNumber", Raw(params)), params[:20])

    def test_other_methods(self) -> None:
        """A method that takes no block names none, whatever its parameters are."""
        for method in ("eth_blockNumber", "eth_getTransactionByHash", "eth_sendRawTransaction", "foo", ""):
            self.assertIsNone(block_reference(method, raw(["latest", "latest", "latest"])))

    def test_escapes(self) -> None:
        """JSON's other ways to write the same are understood."""
        params = Raw(b' [ "0x00" ,\n "l\\u0061test" ] ')
        self.assertEqual(block_reference("eth_getBalance", params), LATEST)
        params = Raw(b'[{"to\\u0042lock":"0x5"}]')
        self.assertEqual(block_reference("eth_getLogs", params), number(5))

    def test_size(self) -> None:
        """Parameters of up to 64 KiB are read."""
        for size, wanted in ((MAX_PARAMS_BYTES, number(5)), (MAX_PARAMS_BYTES + 1, None)):
            frame = b'[{"data":"0x%b"},"0x5"]'
            params = Raw(frame % (b"0" * (size - len(frame) + len("%b"))))
            self.assertEqual(len(params), size)
            self.assertEqual(block_reference("eth_call", params), wanted)

    def test_anything(self) -> None:
        """No method with any parameters raises, and each function says of a block what its reference says."""
        word = st.sampled_from((*TAGS, HASH, "0x0", "0x64", "")) | st.text(max_size=5)
        key = st.sampled_from(("blockNumber", "blockHash", "fromBlock", "toBlock", "address"))
        leaf = word | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        value = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key | word, inner))
        text = st.text('[]{}",:\\u0x1 ').map(lambda text: text.encode())
        params = st.lists(value, max_size=4).map(orjson_or_empty) | value.map(orjson_or_empty) | st.binary() | text

        @settings(max_examples=500, deadline=None)
        @given(st.sampled_from((*sorted(BLOCK_PARAM), "eth_getTransactionByHash", "foo")), params)
        def check(method: str, params: bytes) -> None:
            asked = Raw(params)
            reference = block_reference(method, asked)
            self.assertEqual(named_block(method, asked), reference and reference.number)
            self.assertIsInstance(reads_own_writes(method, asked), bool)
            self.assertIsInstance(recent(reference, 100), bool)
            if reference is not None:
                self.assertIn(reference.tag, ("", *TAGS))
                self.assertTrue(reference.tag or reference.hash or reference.number is not None)

        run_property(check)


def orjson_or_empty(value: object) -> bytes:
    """The JSON of a value; what orjson does not write (a number too large) becomes nothing."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return b""


class NumberTests(SynchronousTestCase):
    def test_named_block(self) -> None:
        """The number that a node's head must have reached: a block's, or the higher end's of a range."""
        for method, params, wanted in (
            ("eth_getBlockByNumber", ["0x64", False], 100),
            ("eth_getBlockByNumber", ["0x0", False], 0),
            ("eth_call", [CALL, {"blockNumber": "0x64"}], 100),
            ("eth_getLogs", [{"fromBlock": "0x1", "toBlock": "0x64"}], 100),
            ("eth_getLogs", [{"fromBlock": "0x64", "toBlock": "0x1"}], 100),
            ("eth_getLogs", [{"fromBlock": "0x64"}], 100),
            ("eth_getLogs", [{"toBlock": "latest"}], None),
            ("eth_call", [CALL, "latest"], None),
            ("eth_call", [CALL, HASH], None),
            ("eth_call", [CALL], None),
            ("eth_chainId", [], None),
        ):
            self.assertEqual(named_block(method, raw(params)), wanted, (method, params))

    def test_own_writes(self) -> None:
        """The nonce at the tip, what is pending, and transactions by hash may show what was just sent."""
        for method, params, wanted in (
            ("eth_getTransactionCount", [ADDRESS, "pending"], True),
            ("eth_getTransactionCount", [ADDRESS, "latest"], True),
            ("eth_getTransactionCount", [ADDRESS], True),
            ("eth_getTransactionCount", [ADDRESS, "safe"], False),
            ("eth_getTransactionCount", [ADDRESS, "0x64"], False),
            ("eth_getTransactionCount", [ADDRESS, "rubbish"], False),
            ("eth_getTransactionByHash", [HASH], True),
            ("eth_getTransactionReceipt", [HASH], True),
            ("eth_getRawTransactionByHash", [HASH], True),
            ("eth_getBlockByNumber", ["pending", True], True),
            ("eth_call", [CALL, "pending"], True),
            ("eth_estimateGas", [CALL, "pending"], True),
            ("eth_call", [CALL, "latest"], False),
            ("eth_call", [CALL], False),
            ("eth_getBlockByHash", [HASH, False], False),
            ("txpool_content", [], False),
            ("eth_sendRawTransaction", ["0x02"], False),
        ):
            self.assertEqual(reads_own_writes(method, raw(params)), wanted, (method, params))


class RecentTests(SynchronousTestCase):
    def test_tags(self) -> None:
        """Every tag moves but the earliest block's, whether or not a chainhead is known."""
        for name in TAGS:
            self.assertEqual(recent(tag(name), None), name != "earliest", name)
            self.assertEqual(recent(tag(name), 100), name != "earliest", name)

    def test_numbers(self) -> None:
        """Numbers from two below the chainhead to one above it."""
        found = [value for value in range(90, 110) if recent(number(value), 100)]
        self.assertEqual(found, [98, 99, 100, 101])
        self.assertEqual([value for value in range(5) if recent(number(value), 0)], [0, 1])
        self.assertFalse(recent(number(100), None))

    def test_hashes(self) -> None:
        """A block asked for by its hash may just have been made."""
        self.assertTrue(recent(BlockReference(hash=HASH), 100))
        self.assertTrue(recent(BlockReference(hash=HASH), None))

    def test_ranges(self) -> None:
        """A range up to a tag that moves is recent, wherever it begins."""
        self.assertTrue(recent(BlockReference(5, "latest"), 100))

    def test_nothing_named(self) -> None:
        """Where no block is named, nothing is to come."""
        self.assertFalse(recent(None, 100))
