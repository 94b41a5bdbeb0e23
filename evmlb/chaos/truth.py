"""The chain that every node of a run serves, and the only right answer to a question about it.

Nothing is stored: what is in block ``n`` is a function of the chain's seed and ``n``, and how many blocks there are is
one of time. So whether an answer is right can be computed from the question, the answer and the blocks that a good
node may have had as its head meanwhile.
"""

from __future__ import annotations

import hashlib
from typing import Any
from zlib import crc32

from Crypto.Hash import keccak

UNIX_TIME = 1_700_000_000
"""The wall clock when the virtual one shows 0."""
LOGS_OF_HUGE_ADDRESS = 40
"""Log entries per block of an address whose last digit is ``f``; of others one."""

Json = Any


class RpcError(Exception):
    """A node's own word that it cannot answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Chain:
    """A chain without reorganisations. ``height`` is the number of blocks at time 0."""

    def __init__(self, seed: int, chain_id: int, block_seconds: float, height: int = 10_000) -> None:
        self.chain_id = chain_id
        self.block_seconds = block_seconds
        self._seed = seed
        self._height = height

    def head(self, now: float) -> int:
        """The number of the newest block."""
        return self._height + int(now / self.block_seconds)

    def hash_of(self, number: int) -> str:
        """A block's hash."""
        return "0x" + hashlib.blake2b(f"{self._seed}:{number}".encode(), digest_size=32).hexdigest()

    def block(self, number: int) -> Json:
        """A block as ``eth_getBlockByNumber`` shows it."""
        age_seconds = (number - self._height) * self.block_seconds
        return {
            "number": hex(number),
            "hash": self.hash_of(number),
            "parentHash": self.hash_of(number - 1),
            "timestamp": hex(int(UNIX_TIME + age_seconds)),
            "transactions": [],
        }

    def answer(self, method: str, params: list[Json], head: int) -> Json:
        """What a node with this head says; raises :class:`RpcError` where it has to refuse."""
        answer = _ANSWERS.get(method)
        if answer is None:
            raise RpcError(-32601, f"the method {method} does not exist/is not available")
        return answer(self, params, head)

    def answer_or_none(self, method: str, params: list[Json], head: int) -> Json:
        """The same, None where it has to refuse."""
        try:
            return self.answer(method, params, head)
        except RpcError:
            return None

    def _number(self, tag: str, head: int) -> int:
        if tag == "latest":
            return head
        number = int(tag, 16)
        if number > head:
            raise RpcError(-32000, "header not found")
        return number

    def _digest(self, *of: object) -> int:
        return crc32(repr((self._seed, *of)).encode())

    def _block_by_number(self, params: list[Json], head: int) -> Json:
        number = head if params[0] == "latest" else int(params[0], 16)
        return self.block(number) if number <= head else None

    def _balance(self, params: list[Json], head: int) -> Json:
        return hex(self._digest("balance", params[0], self._number(params[1], head)))

    def _call(self, params: list[Json], head: int) -> Json:
        return f"0x{self._digest('call', params[0]['data'], self._number(params[1], head)):064x}"

    def _logs(self, params: list[Json], head: int) -> Json:
        wanted = params[0]
        first, last = self._number(wanted["fromBlock"], head), self._number(wanted["toBlock"], head)
        count = LOGS_OF_HUGE_ADDRESS if wanted["address"].endswith("f") else 1
        return [
            {"blockNumber": hex(number), "logIndex": hex(index), "data": hex(self._digest("log", number, index))}
            for number in range(first, last + 1)
            for index in range(count)
        ]


def marker_hash(marker: str) -> str:
    """What a node says when it has carried out the call with this marker: a transaction's hash."""
    return "0x" + hashlib.blake2b(marker.encode(), digest_size=32).hexdigest()


def raw_transaction(number: int) -> str:
    """A transaction of type 0 as ``eth_sendRawTransaction`` takes it; no two numbers have the same.

    Nobody checks its signature: the nodes here take what is well formed.
    """
    signature = hashlib.blake2b(b"%d" % number, digest_size=32).digest()
    numbers = (number, 10**9, 21_000, None, 1, None, 2 * 1337 + 35, None, None)
    texts = (b"\x11" * 20, b"", b"\x7f" + signature[1:], b"\x7f" + signature[:31])
    others = iter(texts)
    items = [next(others) if each is None else each.to_bytes(8, "big").lstrip(b"\0") for each in numbers]
    payload = b"".join(map(_rlp_string, items))
    return "0x" + (bytes((0xF8, len(payload))) + payload).hex()  # more than 55 bytes, and less than 256


def _rlp_string(data: bytes) -> bytes:
    """A string of up to 55 bytes in recursive length prefix coding (Ethereum yellow paper, appendix B)."""
    return data if len(data) == 1 and data[0] < 0x80 else bytes((0x80 + len(data),)) + data


def transaction_hash(raw: str) -> str:
    """The hash of a raw transaction."""
    return "0x" + keccak.new(data=bytes.fromhex(raw[2:]), digest_bits=256).hexdigest()


_ANSWERS = {
    "eth_chainId": lambda chain, params, head: hex(chain.chain_id),
    "net_version": lambda chain, params, head: str(chain.chain_id),
    "eth_blockNumber": lambda chain, params, head: hex(head),
    "eth_syncing": lambda chain, params, head: False,
    "net_peerCount": lambda chain, params, head: "0x8",
    "web3_clientVersion": lambda chain, params, head: "Geth/v1.16.7-chaos/linux",
    "eth_getBlockByNumber": Chain._block_by_number,
    "eth_getBalance": Chain._balance,
    "eth_call": Chain._call,
    "eth_getLogs": Chain._logs,
    "eth_sendTransaction": lambda chain, params, head: marker_hash(params[0]["data"]),
    "eth_sendRawTransaction": lambda chain, params, head: transaction_hash(params[0]),
    "evm_mine": lambda chain, params, head: "0x0",
}
SEND_RAW = "eth_sendRawTransaction"
EXECUTING = frozenset(("eth_sendTransaction", "eth_sendRawTransaction", "evm_mine"))
"""The methods that change something: a node notes their markers."""


def marker_of(method: str, params: list[Json]) -> str:
    """By what an executing call can be told from every other."""
    first = params[0]
    return str(first["data"] if method == "eth_sendTransaction" else first)
