"""Block headers: what links a chain together, and how a head looks when it is sent to a client.

Heads come from ``newHeads`` events, where nodes differ in what they send, and from ``eth_getBlockBy*`` results, which
are whole blocks. Clients are given one form, that of geth's ``newHeads`` (its ``core/types.Header`` as JSON), whatever
a head was made from:

* geth's fields first, in geth's order, and ``hash`` last;
* fields of a later fork are there as ``null`` before it, as geth has them;
* what other chains add to their headers (``l1BlockNumber``, ``sendRoot``) is kept, before ``hash``;
* what belongs to the block and not to its header (transactions, withdrawals, size) is left out.

Values are passed on as the node wrote them.
"""

from __future__ import annotations

import re
from binascii import unhexlify

import msgspec
import orjson

from evmlb.chain import parse_quantity

MAX_SENT_BYTES = 64 * 1024
"""A head that would be longer when sent is refused. One of mainnet has 1.5 KB; the longest known, with the signatures
of many validators in ``extraData``, a few KB."""

BLOOM_BYTES = 256

_MAX_NUMBER = 2**63 - 1
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_BLOOM = re.compile(r"0x[0-9a-fA-F]{512}")

_FIELDS = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
)
_FORK_FIELDS = (
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
_LATER_FIELDS = ("blockAccessListHash", "slotNumber")  # no null: not every geth in use knows them
_BODY_FIELDS = ("transactions", "uncles", "size", "totalDifficulty", "withdrawals", "requests", "transactionCount")

_NOT_OTHERS = frozenset((*_FIELDS, *_FORK_FIELDS, *_LATER_FIELDS, *_BODY_FIELDS, "hash"))


class Header(msgspec.Struct, frozen=True, gc=False):
    """One block's header.

    Hashes are ``0x`` and 64 lower-case digits, ``timestamp`` is in Unix seconds. ``bloom`` has 256 bytes, or none
    where the node gave no bloom. ``sent`` is the head's JSON as clients get it.
    """

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    bloom: bytes
    sent: bytes


def read_header(value: object) -> Header | None:
    """The header in a ``newHeads`` event's ``result`` or in an ``eth_getBlockBy*`` result, decoded from JSON.

    ``None`` for anything else: no object; no hash (a pending block); a number, hash, parent's hash or timestamp that
    is none; a bloom of another length than 256 bytes (null, ``"0x"`` and none at all count as no bloom); a block that
    is its own parent; more than ``MAX_SENT_BYTES``. Never raises.
    """
    if not isinstance(value, dict):
        return None
    number, timestamp = parse_quantity(value.get("number")), parse_quantity(value.get("timestamp"))
    block_hash, parent_hash = _hash(value.get("hash")), _hash(value.get("parentHash"))
    bloom = _bloom(value.get("logsBloom"))
    if number is None or timestamp is None or block_hash is None or parent_hash is None or bloom is None:
        return None
    if number > _MAX_NUMBER or block_hash == parent_hash:
        return None
    sent = _as_sent(value)
    return None if sent is None else Header(number, block_hash, parent_hash, timestamp, bloom, sent)


def _hash(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _HASH.fullmatch(value) else None


def _bloom(value: object) -> bytes | None:
    if value is None or value == "0x":
        return b""
    return unhexlify(value[2:]) if isinstance(value, str) and _BLOOM.fullmatch(value) else None


def _as_sent(block: dict[str, object]) -> bytes | None:
    """The head's JSON as geth sends it; ``None`` if it is too long or not made of JSON values."""
    head = {name: block[name] for name in _FIELDS if name in block}
    head |= {name: block.get(name) for name in _FORK_FIELDS}
    head |= {name: block[name] for name in _LATER_FIELDS if name in block}
    head |= {name: other for name, other in block.items() if name not in _NOT_OTHERS}
    head["hash"] = block["hash"]
    try:
        sent = orjson.dumps(head)
    except TypeError:  # orjson's own error is one; also for text that is no UTF-8, and for what is nested too deeply
        return None
    return sent if len(sent) <= MAX_SENT_BYTES else None
