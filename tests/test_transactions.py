"""The hash of a raw transaction, held to published ones, to eth-account's, and to another RLP reader."""

from __future__ import annotations

from typing import Any

import rlp
from eth_account import Account
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from evmlb.transactions import MAX_RAW_CHARACTERS, raw_transaction_of, transaction_hash
from tests.support import run_property

KEY = "0x" + "46" * 32
TO = "0x" + "11" * 20
SLOTS = [{"address": TO, "storageKeys": ["0x" + "22" * 32, "0x" + "33" * 32]}]
FEES = {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 10**8}

# The node's answers as they stand in execution-apis, tests/eth_sendRawTransaction; two of the public chains.
PUBLISHED = {
    "legacy": (
        "0xf86c808401a2084b8261a894aa000000000000000000000000000000000000000a8255448718e5bb3abd10a0a01f58022a8a818ebd"
        "02e2f10fec94d76830154e8d40115060bd1899d51158a732a0516a77d195fddef41adb8b3325bc3b976bb65537bee788349d738ccd7c"
        "67843d",
        "0x3522bfdee1a8db4fe11bf683767801266b0aeae640017148eed8c55148c24fb9",
    ),
    "type 1": (
        "0x01f8cc870c72dd9d5e883e0284044105e683015f90947dcd17433742f4c0ca53122ab541d0ba67fc27df8083010203f85bf859947d"
        "cd17433742f4c0ca53122ab541d0ba67fc27dff842a00000000000000000000000000000000000000000000000000000000000000000"
        "a0010000000000000000000000000000000000000000000000000000000000000001a0f80409b3b493d286ac64576ef565c1fea10f3d"
        "23257f13fb4e537bde396c8c6aa01b0d6f26f3ca4f0939bc65e5ec69249e308e03ce18104f44412427d7f4ee0737",
        "0x4a56863b8cd807a1ff7cd1dc6f8a24978f05f64e3c2da30fedc0faab9ad35e1d",
    ),
    "type 2, a contract": (
        "0x02f892870c72dd9d5e883e018201f484044105e682ea60802ab73d602d80600a3d3981f3363d3d373d3d3d363d734d11c446473105"
        "a02b5c1ab9ebe9b03f33902a295af43d82803e903d91602b57fd5bf3c001a018abc2e874f7e7d4bb3ee687a080a6599b55fa502b43bc"
        "102dc850d35769491fa06604215052fdd8af1256cfc7d645b1a83889d085ff939b1f0431db61f8036fe8",
        "0xe3f31d5aeeadc122865c5e666d6c540c93066d58e46761a71f5d1fb3ce6be93f",
    ),
    "type 2, mainnet": (
        "0x02f872018307910d808507204d2cb1827d0094388c818ca8b9251b393131c08a736a67ccb19297880320d04823e2701c80c001a0cf"
        "024f4815304df2867a1a74e9d2707b6abda0337d2d54a4438d453f4160f190a07ac0e6b3bc9395b5b9c8b9e6d77204a236577a5b1846"
        "7b9175c01de4faa208d9",
        "0x86718885c4b4218c6af87d3d0b0d83e3cc465df2a05c048aa4db9f1a6f9de91f",
    ),
    "type 3, Sepolia": (
        "0x03f9011d83aa36a7820fa28477359400852e90edd0008252089411e9ca82a3a762b4b5bd264d4173a242e7a770648080c08504a817"
        "c800f8a5a0012ec3d6f66766bedb002a190126b3549fce0047de0d4c25cffce0dc1c57921aa00152d8e24762ff22b1cfd9f8c0683786"
        "a7ca63ba49973818b3d1e9512cd2cec4a0013b98c6c83e066d5b14af2b85199e3d4fc7d1e778dd53130d180f5077e2d1c7a001148b49"
        "5d6e859114e670ca54fb6e2657f0cbae5b08063605093a4b3dc9f8f1a0011ac212f13c5dff2b2c6b600a79635103d6f580a422107995"
        "1181b25c7e654901a0c8de4cced43169f9aa3d36506363b2d2c44f6c49fc1fd91ea114c86f3757077ea01e11fdd0d1934eda0492606e"
        "e0bb80a7bf8f35cc5f86ec60fe5031ba48bfd544",
        "0x9a22ccb0029bc8b0ddd073be1a1d923b7ae2b2ea52100bae0db4424f9107e9c0",
    ),
    "type 3 with a blob of zeros": (
        "0x03fa0201a6f90137870c72dd9d5e883e808201f484044105e683013880947dcd17433742f4c0ca53122ab541d0ba67fc27df80b844"
        "a9059cbb000000000000000000000000cff33720980c026cc155dcb366861477e988fd87000000000000000000000000000000000000"
        "0000000000000000000002fd6892f85bf859947dcd17433742f4c0ca53122ab541d0ba67fc27dff842a0000000000000000000000000"
        "0000000000000000000000000000000000000000a0010000000000000000000000000000000000000000000000000000000000000083"
        "020000e1a0010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c44401401a04a0ab61dc19e0596d2445f4c8e7679"
        "703d6c9bea762355ab8d89957b420f3d8ca00f50ecf2cc11fc5990d69e9ac5fd2709116fca38dc08d16d279752fdf4b6bc32fa020004"
        "ba020000" + "00" * 131072 + 2 * ("f1b0c0" + "00" * 47),
        "0x3f1f6834e904b0062d403f0ab51aa5541fdc5c17b23f52351f0d6f9f9e525648",
    ),
}


def sign(**fields: Any) -> tuple[bytes, str]:
    """A signed transaction and its hash, both by eth-account."""
    base = {"chainId": 1, "nonce": 7, "gas": 21000, "to": TO, "value": 1, "data": "0x"}
    signed = Account.sign_transaction({**base, **fields}, KEY)
    return bytes(signed.raw_transaction), "0x" + signed.hash.hex()


def authorization() -> Any:
    return Account.from_key(KEY).sign_authorization({"chainId": 1, "address": TO, "nonce": 8})


BLOB = sign(type=3, **FEES, maxFeePerBlobGas=5, blobVersionedHashes=["0x01" + "22" * 31])
SIGNED = {
    "legacy": sign(gasPrice=10**9),
    "legacy without chain id": sign(gasPrice=10**9, chainId=None),
    "legacy creation": sign(gasPrice=10**9, to="", data="0x6001"),
    "type 1": sign(type=1, gasPrice=10**9, accessList=SLOTS),
    "type 2": sign(type=2, **FEES),
    "type 2 with slots": sign(type=2, **FEES, accessList=SLOTS),
    "type 3": BLOB,
    "type 4": sign(type=4, **FEES, authorizationList=[authorization()]),
}


def wrapped(encoded: bytes, *between: Any, blobs: int = 1) -> bytes:
    """A blob transaction in a network form; ``between`` is what comes before the blobs."""
    parts = [[size * b"\5"] * blobs for size in (131072, 48, 48)]
    sent: bytes = encoded[:1] + rlp.encode([rlp.decode(encoded[1:]), *between, *parts])
    return sent


NETWORK_FORMS = (wrapped(BLOB[0]), wrapped(BLOB[0], b"\1"))


def hash_of(encoded: bytes) -> str | None:
    return transaction_hash("0x" + encoded.hex())


def shape_of(fields: list[Any]) -> str:
    return "".join("[" if isinstance(field, list) else "." for field in fields)


def expected(encoded: bytes) -> str | None:
    """The hash by the rlp library, which reads all levels: None also for faults inside of fields."""
    is_typed = encoded[:1] < b"\xc0"
    try:
        fields = rlp.decode(encoded[1:] if is_typed else encoded)
    except (rlp.DecodingError, IndexError, RecursionError):
        return None
    if not isinstance(fields, list):
        return None
    kind = encoded[:1] if is_typed else b"legacy"
    if kind == b"\3" and shape_of(fields) in ("[[[[", "[.[[["):
        fields = fields[0]
        encoded = b"\3" + rlp.encode(fields)
    counts = {
        b"legacy": [9, []],
        b"\1": [11, [7]],
        b"\2": [12, [8]],
        b"\3": [14, [8, 10]],
        b"\4": [13, [8, 9]],
    }
    lists = [at for at, field in enumerate(fields) if isinstance(field, list)]
    return "0x" + keccak(encoded).hex() if [len(fields), lists] == counts.get(kind) else None


class HashTests(SynchronousTestCase):
    def test_published(self) -> None:
        """Transactions of every form have the hash that was published for them."""
        for name, (raw, wanted) in PUBLISHED.items():
            self.assertEqual(transaction_hash(raw), wanted, name)

    def test_signed(self) -> None:
        """Transactions of every type have the hash that the signer says."""
        for name, (encoded, wanted) in SIGNED.items():
            self.assertEqual(hash_of(encoded), wanted, name)

    def test_lengths(self) -> None:
        """Data of any length is fine: every width of a length is read."""
        for size in (1, 55, 56, 255, 256, 65535, 65536):
            encoded, wanted = sign(type=2, **FEES, gas=10**7, data=b"\1" * size)
            self.assertEqual(hash_of(encoded), wanted, size)

    def test_network_forms(self) -> None:
        """A blob transaction has one hash, with its blobs in either form and without."""
        for encoded in (*NETWORK_FORMS, wrapped(BLOB[0], blobs=6), wrapped(BLOB[0], b"\1", blobs=6)):
            self.assertEqual(hash_of(encoded), BLOB[1])

    def test_upper_case(self) -> None:
        """Digits and prefix may be in upper case, as geth takes them; the hash is in lower case."""
        encoded, wanted = SIGNED["type 2"]
        self.assertEqual(transaction_hash("0X" + encoded.hex().upper()), wanted)

    def test_not_hexadecimal(self) -> None:
        """Words, odd digits, blanks, and other alphabets are no transaction."""
        good = SIGNED["legacy"][0].hex()
        for raw in (
            "",
            "0",
            "0x",
            good,
            "0x" + good[:-1],
            "0x" + good + " ",
            " 0x" + good,
            "0x " + good,
            "0x" + good[:2] + " \t" + good[2:],
            "0x" + good[:-1] + "g",
            "0x" + good[:-1] + "\u0661",
            "0x" + good[:-1] + "\ud800",
            "0x" + good[:-2] + "\0\0",
        ):
            self.assertIsNone(transaction_hash(raw), raw)

    def test_other_shapes(self) -> None:
        """An unknown type, another number of fields, or a list for a string is no transaction."""
        for name, (encoded, _) in SIGNED.items():
            kind, at = (b"", 0) if "legacy" in name else (encoded[:1], 1)
            fields = rlp.decode(encoded[at:])
            for wrong in (
                kind,
                kind + rlp.encode([]),
                kind + rlp.encode(b"".join(field for field in fields if isinstance(field, bytes))),
                kind + bytes([encoded[at] - 0x40]) + encoded[at + 1 :],  # a string of the same fields
                kind + rlp.encode(fields[:-1]),
                kind + rlp.encode([*fields, b""]),
                kind + rlp.encode([fields[0], *fields]),
                kind + rlp.encode([*fields[:-1], []]),
                kind + rlp.encode([fields]),
                (kind or b"\2") + encoded,
                *(bytes([other]) + encoded[at:] for other in (0, 5, 0x7F, 0x80, 0xBF)),
            ):
                self.assertIsNone(hash_of(wrong), (name, wrong.hex()))

    def test_other_network_forms(self) -> None:
        """Only blob transactions are wrapped, once, around a whole body, in two forms."""
        body = rlp.decode(BLOB[0][1:])
        for fields in (
            [body],
            [body, [], []],
            [body, [], [], b""],
            [body, [], b"\1", [], []],
            [body, b"\1", [], []],
            [body, b"\1", b"", [], [], []],
            [b"\1", body, [], [], []],
            [body[:-1], [], [], []],
            [[], [], [], []],
            [[body, [], [], []], [], [], []],
        ):
            self.assertIsNone(hash_of(b"\3" + rlp.encode(fields)), shape_of(fields))
        for name in ("type 1", "type 2", "type 4"):
            encoded = SIGNED[name][0]
            self.assertIsNone(hash_of(encoded[:1] + NETWORK_FORMS[0][1:]))
            self.assertIsNone(hash_of(wrapped(encoded)))
        self.assertIsNone(hash_of(NETWORK_FORMS[0][1:]))

    def test_strict_lengths(self) -> None:
        """Each length has one right encoding, and lists end where they say."""
        encoded = SIGNED["legacy"][0]
        payload, size, to = encoded[2:], encoded[1], b"\x94" + b"\x11" * 20

        def framed(payload: bytes) -> bytes:
            return b"\xf8" + bytes([len(payload)]) + payload

        self.assertEqual(framed(payload), encoded)
        self.assertEqual(payload[:1], b"\7")
        for wrong in (
            encoded + b"\0",
            encoded[:-1],
            b"\xf8" + bytes([size - 1]) + payload,
            b"\xf8" + bytes([size + 1]) + payload,
            b"\xf9\0" + bytes([size]) + payload,
            b"\xfb\0\0\0" + bytes([size]) + payload,
            b"\xff" + b"\xff" * 8 + payload,
            b"\xff",
            b"\xf8",
            b"\xfb\0",
            framed(b"\x81" + payload),  # 0x07, a byte that stands for itself
            framed(payload.replace(to, b"\xb8\x14" + to[1:])),
            framed(payload.replace(to, b"\xb9\0\x14" + to[1:])),
            framed(payload.replace(to, b"\xbf" + to[1:])),
            framed(payload.replace(to, b"\xb7" + to[1:])),
            framed(payload[:-33] + b"\xa1" + payload[-32:]),
        ):
            self.assertIsNone(hash_of(wrong), wrong.hex())
        for last in (b"", b"\5" * 46):  # 55 bytes is the longest list with a short length
            small = rlp.encode([b""] * 8 + [last])
            self.assertIsNotNone(hash_of(small))
            self.assertIsNone(hash_of(b"\xf8" + bytes([small[0] - 0xC0]) + small[1:]))

    def test_hostile(self) -> None:
        """Depth, number and length do no harm."""
        nested = rlp.encode(b"")
        for _ in range(5000):
            nested = (b"\xf9" + len(nested).to_bytes(2, "big") if len(nested) > 255 else b"\xc1") + nested
            if len(nested) > 65000:
                break
        for kind in (b"", b"\1", b"\2", b"\3", b"\4"):
            self.assertIsNone(hash_of(kind + nested))
            self.assertIsNone(hash_of(kind + b"\xc1" * 100_000))
            self.assertIsNone(hash_of(kind + b"\xfa\x0f\xff\xff" + b"\1" * 0x0FFFFF))
        encoded = rlp.encode([b"\1"] * 5 + [b"\2" * (MAX_RAW_CHARACTERS // 2 - 12)] + [b"\1"] * 3)
        self.assertEqual(len(encoded), MAX_RAW_CHARACTERS // 2 + 4)
        self.assertIsNone(hash_of(encoded))
        self.assertIsNone(transaction_hash("0x" + "c0" * (16 * 1024 * 1024)))

    def test_longest(self) -> None:
        """What just fits is hashed."""
        encoded = rlp.encode([b"\1"] * 5 + [b"\2" * (MAX_RAW_CHARACTERS // 2 - 17)] + [b"\1"] * 3)
        self.assertEqual(2 + 2 * len(encoded), MAX_RAW_CHARACTERS)
        self.assertEqual(hash_of(encoded), "0x" + keccak(encoded).hex())

    def test_mutations(self) -> None:
        """Whatever is done to a transaction, there is no exception, and another reader's hash if it is well-formed."""
        seeds = [encoded for encoded, _ in SIGNED.values()]
        seeds += [
            BLOB[0][:1] + rlp.encode([rlp.decode(BLOB[0][1:]), *more]) for more in ([[]] * 3, [b"\1", [], [], []])
        ]

        @settings(max_examples=500, deadline=None)
        @given(
            st.sampled_from(seeds),
            st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.binary(max_size=3)), max_size=3),
        )
        def check(encoded: bytes, edits: list[tuple[float, int, bytes]]) -> None:
            for place, removed, added in edits:
                at = int(place**3 * len(encoded))  # near the beginning, where types and lengths are
                encoded = encoded[:at] + added + encoded[at + removed :]
            found, wanted = hash_of(encoded), expected(encoded)
            if wanted is not None:
                self.assertEqual(found, wanted)
            elif found is not None:  # a fault inside of a field, which is the node's to find
                self.assertRegex(found, "^0x[0-9a-f]{64}$")
                self.assertIn(encoded[0], (1, 2, 3, 4, *range(0xC0, 0x100)))

        run_property(check)

    def test_any_list(self) -> None:
        """Of lists in all shapes, those are hashed that the other reader takes for transactions."""
        field = st.binary(max_size=3) | st.lists(st.binary(max_size=3), max_size=2)
        shapes = ("." * 9, "." * 7 + "[...", "." * 8 + "[...", "." * 8 + "[.[...", "." * 8 + "[[...", "[[[[", "[.[[[")

        @settings(max_examples=500, deadline=None)
        @given(st.sampled_from((b"", b"\0", b"\1", b"\2", b"\3", b"\4", b"\5")), st.sampled_from(shapes), st.data())
        def check(kind: bytes, shape: str, data: st.DataObject) -> None:
            fields: list[Any] = [b"" if mark == "." else [] for mark in shape]
            if shape[0] == "[":
                fields[0] = rlp.decode(BLOB[0][1:])
            for _ in range(data.draw(st.integers(0, 2))):
                fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(field)
            encoded = kind + rlp.encode(fields)
            self.assertEqual(hash_of(encoded), expected(encoded))

        run_property(check)

    def test_any_text(self) -> None:
        """Any text has a hash or none."""

        @settings(max_examples=300, deadline=None)
        @given(st.text() | st.text("0123456789abcdefxX ").map("0x".__add__) | st.binary().map(lambda b: "0x" + b.hex()))
        def check(raw: str) -> None:
            found = transaction_hash(raw)
            self.assertTrue(found is None or (len(found) == 66 and raw[:2].lower() == "0x"))

        run_property(check)


class RawTransactionTests(SynchronousTestCase):
    def test_first_parameter(self) -> None:
        """The first parameter counts, if it is a string."""
        for params, wanted in (
            (b'["0x02f8"]', "0x02f8"),
            (b' [ "0x02f8" , {"knownAccounts":{}} ] ', "0x02f8"),
            (b'["\\u0030x02"]', "0x02"),
            (b'[""]', ""),
            (b"", None),
            (b"null", None),
            (b"[]", None),
            (b"{}", None),
            (b'{"raw":"0x02"}', None),
            (b'"0x02"', None),
            (b"[null]", None),
            (b"[2]", None),
            (b'[["0x02"]]', None),
            (b'["0x02"', None),
            (b'["0x\xff"]', None),
            (b"[" * 100_000, None),
            (b'["0x02",' + b"[" * 100_000, None),
        ):
            self.assertEqual(raw_transaction_of(params), wanted, params[:40])
            self.assertEqual(raw_transaction_of(Raw(params)), wanted, params[:40])

    def test_anything(self) -> None:
        """No bytes raise."""

        @settings(max_examples=300, deadline=None)
        @given(st.binary() | st.text('[]{}",:\\u0x12').map(str.encode))
        def check(params: bytes) -> None:
            self.assertIsInstance(raw_transaction_of(params), str | None)

        run_property(check)
