"""What clients ask, and what an answer is worth.

Every question has ids, and where it changes something a marker, that no other question of the run has. So an answer
that belongs to another question is seen, and so is a call that was carried out twice.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from evmlb.chaos.truth import SEND_RAW, Chain, Json, raw_transaction

FIRST_NUMBER = 100
"""Questions are numbered from here on, and their ids with them: the balancer's own have the id 1."""
OLD_BLOCKS = 150
"""Blocks as old as this when the run begins are known to every node, even to one that fell back. A batch asks for no
younger ones: what is in it is not looked at, so a null in it is not doubted.
"""


class Kind(enum.Enum):
    """What may be demanded of the answer; see :mod:`evmlb.chaos.invariants`."""

    FAST = "fast"  # a read, or a batch of them
    SLOW = "slow"  # a read that may take long
    UNSAFE = "unsafe"
    RAW = "raw transaction"
    NOTE = "notification"
    BAD = "bad input"
    REFUSED = "refused method"


@dataclass(slots=True)
class Asked:
    """One call of a question. ``pinned``: the answer does not depend on which node gives it."""

    id: Json
    method: str
    params: list[Json]

    @property
    def pinned(self) -> bool:
        """Whether it names its block, so that only one answer is right whoever gives it."""
        return self.method != "eth_blockNumber" and "latest" not in self.params


@dataclass(slots=True)
class Question:
    """One HTTP request of a client. ``due_since``: when nothing else kept its answer; of several requests sent at once
    each is answered behind the one before.
    """

    number: int
    kind: Kind
    body: bytes
    calls: list[Asked] = field(default_factory=list)
    is_batch: bool = False
    asked_at: float = 0.0
    due_since: float = 0.0
    connection: int = 0  # of its client's, counted from 1

    def __str__(self) -> str:
        methods = " ".join(call.method for call in self.calls) or repr(self.body[:40])
        return f"#{self.number} {methods}"


_BAD_BODIES = (
    b"",
    b"not JSON",
    b'{"jsonrpc":"2.0","id":1',
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}',
    b'{"id":1,"method":"eth_chainId","METHOD":"eth_call"}',
    b"[]",
    b"[1,2]",
    b'"eth_chainId"',
)


class Questions:
    """Draws questions. ``count``: how many so far."""

    def __init__(self, chain: Chain, seed: int) -> None:
        self._chain = chain
        self._rng = random.Random(seed)
        self._old = chain.head(0) - OLD_BLOCKS
        self.count = 0

    def draw(self, known: int | None, *, large: bool) -> Question:
        """A question. ``known``: a block that the balancer surely knows of; ``large``: also ask for answers of many
        kilobytes.
        """
        rng = self._rng
        newest = self._old if known is None else known
        number = FIRST_NUMBER + self.count
        self.count += 1
        chance = rng.random()
        if chance < 0.60:
            return self._of_calls(number, Kind.FAST, [self._fast(number, newest)])
        if chance < 0.75:
            return self._of_calls(number, Kind.SLOW, [self._slow(number, newest, large)])
        if chance < 0.85:
            call = self._unsafe(number)
            return self._of_calls(number, Kind.RAW if call.method == SEND_RAW else Kind.UNSAFE, [call])
        if chance < 0.93:
            calls = [self._fast(f"{number}.{place}", self._old) for place in range(rng.randrange(1, 6))]
            return self._of_calls(number, Kind.FAST, calls, is_batch=True)
        if chance < 0.96:
            return Question(number, Kind.NOTE, _body("eth_blockNumber", []))
        if chance < 0.985:
            return Question(number, Kind.BAD, rng.choice(_BAD_BODIES))
        return self._of_calls(number, Kind.REFUSED, [Asked(number, "engine_newPayloadV4", [])])

    def _of_calls(self, number: int, kind: Kind, calls: list[Asked], *, is_batch: bool = False) -> Question:
        bodies = [_body(call.method, call.params, call.id) for call in calls]
        return Question(number, kind, b"[%b]" % b",".join(bodies) if is_batch else bodies[0], calls, is_batch)

    def _id(self, number: object) -> Json:
        return number if self._rng.random() < 0.7 and isinstance(number, int) else f"q-{number}"

    def _block(self, newest: int) -> str:
        rng = self._rng
        if rng.random() < 0.5:
            return "latest"
        return hex(newest if rng.random() < 0.3 else rng.randrange(self._old - 100, newest + 1))

    def _fast(self, number: object, newest: int) -> Asked:
        rng = self._rng
        address = f"0x{rng.randrange(2**32):040x}"
        method, params = rng.choice(
            (
                ("eth_blockNumber", []),
                ("eth_chainId", []),
                ("eth_getBlockByNumber", [self._block(newest), False]),
                ("eth_getBalance", [address, self._block(newest)]),
            )
        )
        return Asked(self._id(number), method, params)

    def _slow(self, number: int, newest: int, large: bool) -> Asked:
        rng = self._rng
        address = f"0x{rng.randrange(2**32):040x}"
        if rng.random() < 0.6:
            params: list[Json] = [{"to": address, "data": hex(rng.randrange(2**32))}, self._block(newest)]
            return Asked(self._id(number), "eth_call", params)
        first = rng.randrange(self._old - 200, self._old - 20)
        wanted = {"fromBlock": hex(first), "toBlock": hex(first + rng.randrange(20))}
        last = "f" if large and rng.random() < 0.5 else "0"
        return Asked(self._id(number), "eth_getLogs", [{"address": address[:-1] + last, **wanted}])

    def _unsafe(self, number: int) -> Asked:
        method = self._rng.choice(("eth_sendTransaction", SEND_RAW, "evm_mine"))
        marker = raw_transaction(number) if method == SEND_RAW else f"0x{number:08x}"
        params: list[Json] = (
            [{"from": "0x" + "1" * 40, "data": marker}] if method == "eth_sendTransaction" else [marker]
        )
        return Asked(self._id(number), method, params)


def _body(method: str, params: list[Json], call_id: Json = None) -> bytes:
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
    if call_id is None:
        del call["id"]
    return orjson.dumps(call)
