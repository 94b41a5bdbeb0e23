"""Headers as they are read, and as clients get them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.headers import MAX_SENT_BYTES, read_header
from tests.support import run_property

ZERO = "0x" + "00" * 32
BLOOM = "0x" + "00" * 255 + "10"

# A head as geth sends it since Prague: the names and their order are geth's, the values are made up.
GETH: dict[str, Any] = {
    "parentHash": "0x" + "ab" * 32,
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x95222290dd7278aa3ddd389cc1e1d165cc4bafe5",
    "stateRoot": "0x" + "01" * 32,
    "transactionsRoot": "0x" + "02" * 32,
    "receiptsRoot": "0x" + "03" * 32,
    "logsBloom": BLOOM,
    "difficulty": "0x0",
    "number": "0x14f1e2a",
    "gasLimit": "0x2243b3c",
    "gasUsed": "0xde3a5f",
    "timestamp": "0x67ee5b57",
    "extraData": "0x6265617665726275696c642e6f7267",
    "mixHash": "0x" + "04" * 32,
    "nonce": "0x0000000000000000",
    "baseFeePerGas": "0x2540be40",
    "withdrawalsRoot": "0x" + "05" * 32,
    "blobGasUsed": "0x60000",
    "excessBlobGas": "0x4b80000",
    "parentBeaconBlockRoot": "0x" + "06" * 32,
    "requestsHash": "0x" + "07" * 32,
    "hash": "0x" + "cd" * 32,
}
BODY: dict[str, Any] = {
    "size": "0x1234",
    "totalDifficulty": "0xc70d815d562d3cfa955",
    "transactions": [{"hash": ZERO}],
    "uncles": [],
    "withdrawals": [{"index": "0x1"}],
}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GETH.items() if name not in names}


class ReadTests(SynchronousTestCase):
    def test_facts(self) -> None:
        """Number, hashes, time and bloom are read."""
        header = read_header(GETH)
        assert header is not None
        self.assertEqual((header.number, header.timestamp), (0x14F1E2A, 0x67EE5B57))
        self.assertEqual((header.hash, header.parent_hash), (GETH["hash"], GETH["parentHash"]))
        self.assertEqual(header.bloom, bytes(255) + b"\x10")

    def test_case(self) -> None:
        """Hashes are compared in lower case, whatever a node writes."""
        header = read_header(GETH | {"hash": "0x" + "CD" * 32, "parentHash": "0x" + "AB" * 32})
        assert header is not None
        self.assertEqual((header.hash, header.parent_hash), (GETH["hash"], GETH["parentHash"]))

    def test_no_bloom(self) -> None:
        """A chain without blooms is read, too."""
        for block in (without("logsBloom"), GETH | {"logsBloom": None}, GETH | {"logsBloom": "0x"}):
            header = read_header(block)
            assert header is not None
            self.assertEqual(header.bloom, b"")

    def test_refused(self) -> None:
        """What lacks a fact, or has it in another form, is no header."""
        wrong: dict[str, tuple[Any, ...]] = {
            "number": (None, 5, "5", "0x", "0x-1", "0x" + "f" * 16, ["0x1"], True),
            "hash": (None, "0x", ZERO[:-1], ZERO + "0", "0x" + "zz" * 32, 7, GETH["parentHash"], ZERO + "\n"),
            "parentHash": (None, "0x", ZERO[2:], {}, GETH["hash"]),
            "timestamp": (None, 1.5, "now", "0xg"),
            "logsBloom": ("0x00", BLOOM + "00", BLOOM[:-1] + "g", 0, []),
        }
        for name, values in wrong.items():
            for value in values:
                self.assertIsNone(read_header(GETH | {name: value}), (name, value))
            if name != "logsBloom":
                self.assertIsNone(read_header(without(name)), name)

    def test_no_object(self) -> None:
        """Nor is anything but an object."""
        for value in (None, True, 1, "0x1", [], [GETH], {}):
            self.assertIsNone(read_header(value))

    def test_too_long(self) -> None:
        """A head longer than the limit is refused; the body does not count."""
        self.assertIsNone(read_header(GETH | {"extraData": "0x" + "00" * (MAX_SENT_BYTES // 2)}))
        self.assertIsNotNone(read_header(GETH | {"transactions": ["0x" + "00" * MAX_SENT_BYTES]}))

    def test_no_utf8(self) -> None:
        """Text that cannot be sent is refused."""
        self.assertIsNone(read_header(GETH | {"extraData": "\ud800"}))
        self.assertIsNone(read_header(GETH | {"other": object()}))

    def test_anything(self) -> None:
        """Whatever a node sends, it is read or refused, and what is sent to clients is JSON."""
        scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
        changes = st.dictionaries(st.sampled_from([*GETH, *BODY, "other"]), values, max_size=4)

        @given(changes)
        def check(changes: dict[str, Any]) -> None:
            header = read_header(GETH | changes)
            if header is not None:
                self.assertEqual(json.loads(header.sent)["hash"].lower(), header.hash)

        run_property(check)


class SentTests(SynchronousTestCase):
    def sent(self, block: dict[str, Any]) -> list[tuple[str, Any]]:
        header = read_header(block)
        assert header is not None
        pairs: list[tuple[str, Any]] = json.loads(header.sent, object_pairs_hook=list)
        return pairs

    def test_same(self) -> None:
        """A head from geth is sent as it came, without spaces."""
        header = read_header(GETH)
        assert header is not None
        self.assertEqual(header.sent, json.dumps(GETH, separators=(",", ":")).encode())

    def test_order(self) -> None:
        """A whole block, its members in any order, gives the same head."""
        block = dict(sorted((GETH | BODY).items()))
        self.assertEqual(self.sent(block), list(GETH.items()))

    def test_earlier_fork(self) -> None:
        """Fields of later forks are null, as geth sends them."""
        later = ("withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash")
        self.assertEqual(self.sent(without(*later)), list((GETH | dict.fromkeys(later)).items()))

    def test_later_fork(self) -> None:
        """Fields that only a newer geth has come where it has them, and only if they are there."""
        block = {"slotNumber": "0x1", "blockAccessListHash": ZERO} | GETH
        names = [name for name, _ in self.sent(block)]
        self.assertEqual(names[-4:], ["requestsHash", "blockAccessListHash", "slotNumber", "hash"])

    def test_other_chains(self) -> None:
        """What other chains add to their headers is kept."""
        block = {"l1BlockNumber": "0x1", "sendRoot": ZERO, "sendCount": "0x2"} | GETH | BODY
        self.assertEqual(
            self.sent(block)[-4:],
            [("l1BlockNumber", "0x1"), ("sendRoot", ZERO), ("sendCount", "0x2"), ("hash", GETH["hash"])],
        )

    def test_missing(self) -> None:
        """What a node leaves out of the oldest fields is not made up."""
        self.assertEqual(self.sent(without("nonce", "mixHash")), list(without("nonce", "mixHash").items()))
