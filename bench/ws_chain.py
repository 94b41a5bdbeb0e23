"""The chain of the WebSocket benchmark: its heads look like mainnet's, its blocks have 1,000 logs where logs are asked.

Two shapes, each with 2,000 filters that all differ:

========  ==========================================================  =================
shape     filters                                                     a log is for
========  ==========================================================  =================
one       transfers of one of 2,000 tokens each                       one filter
twenty    events of one of 100 tokens, twenty pairs of events each    twenty filters
========  ==========================================================  =================

Who sends and who gets a token is new in every log, as it is in life, so that nothing can be remembered of it.
"""

from __future__ import annotations

import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evmlb.policy.bloom import bloom_of

FIRST = 20_000_000
CHAIN_ID = "0x1e240"
LOGS = 1000
FILTERS = 2000
SHAPES = {"one": 2000, "twenty": 100}
"""How many tokens there are."""
_TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_BEGAN = int(time.time())


def filters(shape: str) -> list[dict[str, Any]]:
    """What is subscribed to."""
    tokens = SHAPES[shape]
    events = FILTERS // tokens
    return [
        {"address": _address(token), "topics": [[_TRANSFER, _word(f"event {event}")]]}
        for token in range(tokens)
        for event in range(events)
    ]


def deliveries(shape: str) -> int:
    """How many logs a block makes for all filters together."""
    return LOGS * FILTERS // SHAPES[shape]


class Chain:
    """Blocks, made when somebody asks for them. ``shape`` empty: they have no logs."""

    def __init__(self, shape: str) -> None:
        self.head = FIRST
        self._shape = shape
        self._blocks: dict[int, dict[str, Any]] = {}
        self._logs: dict[str, bytes] = {}
        self._blooms: dict[int, str] = {}

    def block(self, number: int) -> dict[str, Any] | None:
        """The block of this number, None beyond the head."""
        if number > self.head:
            return None
        if number not in self._blocks:
            self._blocks[number] = self._make(number)
        return self._blocks[number]

    def block_of(self, block_hash: str) -> dict[str, Any] | None:
        """The block of this hash, as far as it was made or is one of the last of those before."""
        for number in range(self.head, FIRST - 2000, -1):
            if _hash(number) == block_hash:
                return self.block(number)
        return None

    def advance(self) -> dict[str, Any]:
        """Make the next block, all of it."""
        self.head += 1
        block = self.block(self.head)
        assert block is not None
        return block

    def logs(self, block_hash: str) -> bytes:
        """A block's logs as JSON, whatever the filter: a node that is asked for a thousand addresses says as much."""
        return self._logs.get(block_hash, b"[]")

    def prepare(self, count: int) -> None:
        """Make the logs of the next blocks, and their blooms, which takes a while."""
        for number in range(self.head + 1, self.head + 1 + count):
            self._prepare(number)

    def _prepare(self, number: int) -> None:
        logs = list(_logs(number, SHAPES[self._shape])) if self._shape and number > FIRST else []
        self._logs[_hash(number)] = orjson.dumps(logs)
        items = (bytes.fromhex(item[2:]) for log in logs for item in (log["address"], *log["topics"]))
        self._blooms[number] = "0x" + bloom_of(items).hex()

    def _make(self, number: int) -> dict[str, Any]:
        if number not in self._blooms:
            self._prepare(number)
        return _head(number, self._blooms[number])


def _logs(number: int, tokens: int) -> Any:
    for place in range(LOGS):
        yield {
            "address": _address(place * max(1, tokens // LOGS) % tokens),
            "topics": [_TRANSFER, *(_word(f"{who} {number} {place}") for who in ("from", "to"))],
            "data": _word(f"amount {place}"),
            "blockNumber": hex(number),
            "transactionHash": _word(f"transaction {number} {place}"),
            "transactionIndex": hex(place),
            "blockHash": _hash(number),
            "logIndex": hex(place),
            "removed": False,
        }


def _head(number: int, bloom: str) -> dict[str, Any]:
    return {
        "parentHash": _hash(number - 1),
        "sha3Uncles": _word("uncles"),
        "miner": _address(number),
        "stateRoot": _word(f"state {number}"),
        "transactionsRoot": _word(f"transactions {number}"),
        "receiptsRoot": _word(f"receipts {number}"),
        "logsBloom": bloom,
        "difficulty": "0x0",
        "number": hex(number),
        "gasLimit": "0x1c9c380",
        "gasUsed": "0xe4e1c0",
        "timestamp": hex(int(time.time()) if number > FIRST else _BEGAN - (FIRST - number)),
        "extraData": "0x6265617665726275696c642e6f7267",
        "mixHash": _word(f"mix {number}"),
        "nonce": "0x0000000000000000",
        "baseFeePerGas": "0x3b9aca00",
        "withdrawalsRoot": _word(f"withdrawals {number}"),
        "blobGasUsed": "0x20000",
        "excessBlobGas": "0x0",
        "parentBeaconBlockRoot": _word(f"beacon {number}"),
        "requestsHash": _word("requests"),
        "hash": _hash(number),
    }


def _hash(number: int) -> str:
    return _word(f"block {number}")


def _address(number: int) -> str:
    return "0x" + blake2b(f"token {number}".encode(), digest_size=20).hexdigest()


def _word(text: str) -> str:
    return "0x" + blake2b(text.encode(), digest_size=32).hexdigest()
