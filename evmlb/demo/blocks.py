"""Blocks, transactions and logs of the demo chain as values, with their hashes and their JSON.

Hashes are SHA3-256 over a canonical form, not keccak over RLP: the standard library has the one and not the other,
and no client of a demo recomputes them. What clients do rely on holds: ``parentHash`` is the parent's ``hash``, a
changed block has another hash, and a raw transaction's hash is that of its bytes.

The bloom of a block with logs has every bit set, that of a block without logs none. A bloom filter may answer
"perhaps" too often, never "no" wrongly, so this one is right under any hash function.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

Json = dict[str, Any]
"""A JSON object, ready for orjson."""

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""The first topic of an ERC-20 ``Transfer(address,address,uint256)``."""

ZERO_HASH = "0x" + "00" * 32
ZERO_ADDRESS = "0x" + "00" * 20
GAS_LIMIT = 30_000_000
BASE_FEE_WEI = 1_000_000_000

_NO_BLOOM = "0x" + "00" * 256
_FULL_BLOOM = "0x" + "ff" * 256
_NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


def digest(*parts: bytes | str) -> str:
    """``0x`` and the SHA3-256 of the parts in order, each preceded by its length."""
    state = hashlib.sha3_256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big") + data)
    return "0x" + state.hexdigest()


def address_of(seed: str) -> str:
    """An address that follows from the text, and from nothing else."""
    return "0x" + digest("address", seed)[-40:]


def word(number: int) -> str:
    """The number as a 32-byte word in hex, without ``0x``."""
    return f"{number:064x}"


def address_topic(address: str) -> str:
    """The address as an indexed event argument: left-padded to 32 bytes."""
    return "0x" + address[2:].rjust(64, "0")


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a log says: a token moved."""

    token: str
    sender: str
    recipient: str
    amount: int

    @property
    def topics(self) -> list[str]:
        """The log's topics: the event, sender and recipient."""
        return [TRANSFER_TOPIC, address_topic(self.sender), address_topic(self.recipient)]

    @property
    def data(self) -> str:
        """The log's data: the amount as a word."""
        return "0x" + word(self.amount)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction, before it is in a block.

    ``raw`` holds the bytes of one that a client sent and is empty for those the chain makes up; a raw one moves no
    balance, since its sender cannot be told without recovering a signature.
    """

    hash: str
    sender: str
    recipient: str
    value: int
    nonce: int
    input: str = "0x"
    raw: bytes = b""
    transfers: tuple[Transfer, ...] = ()

    @property
    def gas_used(self) -> int:
        """Gas spent: a plain transfer's, and some for every log."""
        return 21_000 + 30_000 * len(self.transfers)

    def to_json(self, block: Block | None = None, index: int = 0) -> Json:
        """The transaction as a node shows it, pending when there is no block."""
        return {
            "blockHash": block.hash if block else None,
            "blockNumber": hex(block.number) if block else None,
            "from": self.sender,
            "gas": hex(self.gas_used),
            "gasPrice": hex(BASE_FEE_WEI),
            "maxFeePerGas": hex(2 * BASE_FEE_WEI),
            "maxPriorityFeePerGas": "0x0",
            "hash": self.hash,
            "input": self.input,
            "nonce": hex(self.nonce),
            "to": self.recipient,
            "transactionIndex": hex(index) if block else None,
            "value": hex(self.value),
            "type": "0x2",
            "accessList": [],
            "v": "0x1",
            "r": digest("r", self.hash),
            "s": digest("s", self.hash),
            "yParity": "0x1",
        }


def raw_transaction(raw: bytes) -> Transaction:
    """The transaction that a client's bytes stand for: its hash and input follow from them alone."""
    return Transaction(
        hash="0x" + hashlib.sha3_256(raw).hexdigest(),
        sender=address_of(raw.hex()),
        recipient=ZERO_ADDRESS,
        value=0,
        nonce=0,
        input="0x" + raw.hex(),
        raw=raw,
    )


@dataclass(frozen=True, eq=False)
class Block:
    """One block and the state after it. Compared by identity: a chain makes each block once.

    ``salt`` makes siblings differ; it shows as ``extraData``.
    """

    chain_id: int
    number: int
    parent_hash: str
    timestamp: int
    salt: int
    transactions: tuple[Transaction, ...]
    balances: dict[str, int] = field(repr=False)
    nonces: dict[str, int] = field(repr=False)

    @cached_property
    def hash(self) -> str:
        """The digest of the header, so of everything in the block and of its parent's hash."""
        return digest(orjson.dumps(self.header))

    @cached_property
    def header(self) -> Json:
        """The header as a node shows it, without its own hash."""
        return {
            "parentHash": self.parent_hash,
            "sha3Uncles": _NO_UNCLES,
            "miner": ZERO_ADDRESS,
            "stateRoot": digest(repr((sorted(self.balances.items()), sorted(self.nonces.items())))),
            "transactionsRoot": digest(*(t.hash for t in self.transactions)),
            "receiptsRoot": digest("receipts", *(t.hash for t in self.transactions)),
            "logsBloom": self.bloom,
            "difficulty": "0x0",
            "number": hex(self.number),
            "gasLimit": hex(GAS_LIMIT),
            "gasUsed": hex(sum(t.gas_used for t in self.transactions)),
            "timestamp": hex(self.timestamp),
            "extraData": f"0x{self.chain_id:016x}{self.salt:016x}",
            "mixHash": ZERO_HASH,
            "nonce": "0x0000000000000000",
            "baseFeePerGas": hex(BASE_FEE_WEI),
        }

    @property
    def bloom(self) -> str:
        """Every bit when there are logs, none otherwise (see the head of this module)."""
        return _FULL_BLOOM if any(t.transfers for t in self.transactions) else _NO_BLOOM

    def to_json(self, full: bool = False) -> Json:
        """The block as a node shows it, with whole transactions or their hashes."""
        transactions: list[Any] = [t.to_json(self, i) if full else t.hash for i, t in enumerate(self.transactions)]
        return {"hash": self.hash, **self.header, "size": "0x400", "uncles": [], "transactions": transactions}

    def logs(self, removed: bool = False) -> list[Json]:
        """The block's logs in order; ``removed`` marks them as of a block that was replaced."""
        logs: list[Json] = []
        for index, transaction in enumerate(self.transactions):
            for transfer in transaction.transfers:
                logs.append(self._log(transfer, transaction, index, len(logs), removed))
        return logs

    def _log(self, transfer: Transfer, transaction: Transaction, index: int, log_index: int, removed: bool) -> Json:
        return {
            "address": transfer.token,
            "topics": transfer.topics,
            "data": transfer.data,
            "blockNumber": hex(self.number),
            "transactionHash": transaction.hash,
            "transactionIndex": hex(index),
            "blockHash": self.hash,
            "blockTimestamp": hex(self.timestamp),
            "logIndex": hex(log_index),
            "removed": removed,
        }

    def receipt(self, index: int) -> Json:
        """The receipt of the transaction at this index."""
        transaction = self.transactions[index]
        logs = [log for log in self.logs() if log["transactionHash"] == transaction.hash]
        return {
            "blockHash": self.hash,
            "blockNumber": hex(self.number),
            "contractAddress": None,
            "cumulativeGasUsed": hex(sum(t.gas_used for t in self.transactions[: index + 1])),
            "effectiveGasPrice": hex(BASE_FEE_WEI),
            "from": transaction.sender,
            "gasUsed": hex(transaction.gas_used),
            "logs": logs,
            "logsBloom": _FULL_BLOOM if logs else _NO_BLOOM,
            "status": "0x1",
            "to": transaction.recipient,
            "transactionHash": transaction.hash,
            "transactionIndex": hex(index),
            "type": "0x2",
        }
