"""A reference chain in memory: a tree of blocks with logs, and blooms made from them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from evmlb.policy.bloom import bloom_of

ADDRESSES = tuple("0x" + f"{n:02x}" * 20 for n in range(1, 5))
TOPICS = tuple("0x" + f"{n:02x}" * 32 for n in range(0xA1, 0xA6))
Emitted = tuple[int, tuple[int, ...]]  # which address, which topics


class Block:
    """One block; ``value`` is what ``eth_getBlockBy*`` gives, ``logs`` what ``eth_getLogs`` does."""

    def __init__(self, number: int, seed: str, parent: Block | None, emitted: tuple[Emitted, ...]) -> None:
        self.is_lie = False
        self.number = number
        self.parent = parent
        self.hash = "0x" + sha256(seed.encode()).hexdigest()
        self.logs = [self._log(index, *each) for index, each in enumerate(emitted)]
        items = [bytes.fromhex(item[2:]) for log in self.logs for item in (log["address"], *log["topics"])]
        self.value: dict[str, Any] = {
            "number": hex(number),
            "hash": self.hash,
            "parentHash": parent.hash if parent is not None else "0x" + "00" * 32,
            "timestamp": hex(1_700_000_000 + number),
            "logsBloom": "0x" + bloom_of(items).hex(),
            "transactions": ["0x" + "11" * 32],
        }

    def _log(self, index: int, address: int, topics: tuple[int, ...]) -> dict[str, Any]:
        return {
            "address": ADDRESSES[address],
            "topics": [TOPICS[topic] for topic in topics],
            "data": "0x" + f"{index:064x}",
            "blockNumber": hex(self.number),
            "blockHash": self.hash,
            "logIndex": hex(index),
            "removed": False,
        }

    def line(self) -> list[Block]:
        """The block and its ancestors, oldest first."""
        line: list[Block] = [self]
        while (parent := line[-1].parent) is not None:
            line.append(parent)
        return line[::-1]

    def ancestor(self, depth: int) -> Block:
        """The block so far below, or the first one."""
        block = self
        for _ in range(depth):
            block = block.parent or block
        return block

    def above(self, other: Block) -> list[Block]:
        """The blocks of its line that are not in the other's, oldest first."""
        known = set(other.line())
        return [block for block in self.line() if block not in known]


class Chain:
    """All blocks there are. ``tip`` is the last of the chain that counts."""

    def __init__(self, first: int = 100) -> None:
        self.blocks: dict[str, Block] = {}
        self.tip = self._add(Block(first, "first", None, ()))

    def _add(self, block: Block) -> Block:
        self.blocks[block.hash] = block
        return block

    def mine(self, *emitted: Emitted, on: Block | None = None, skip: int = 0) -> Block:
        """A new block on the tip, or on another, which makes it the tip; it leaves out ``skip`` numbers."""
        parent, number = on or self.tip, (on or self.tip).number + 1 + skip
        self.tip = self._add(Block(number, f"{parent.hash} {len(self.blocks)}", parent, emitted))
        return self.tip

    def invent(self, parent: Block) -> Block:
        """A block that no node has, though one speaks of it."""
        block = Block(parent.number + 1, f"{parent.hash} lie {len(self.blocks)}", parent, ((0, (0,)),))
        block.is_lie = True
        return self._add(block)

    def mine_many(self, count: int, *emitted: Emitted) -> Block:
        """So many new blocks on the tip."""
        for _ in range(count):
            self.mine(*emitted)
        return self.tip

    def reorg(self, depth: int, length: int, *emitted: Emitted) -> Block:
        """Replace so many blocks by so many others."""
        parent = self.tip.ancestor(depth)
        for _ in range(length):
            parent = self.mine(*emitted, on=parent)
        return parent


def is_meant(log: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a filter means a log; ``wanted`` as in ``eth_getLogs``, strings in lower case."""
    address, topics = wanted.get("address") or [], wanted.get("topics") or []
    if address and log["address"] not in ([address] if isinstance(address, str) else address):
        return False
    if len(topics) > len(log["topics"]):
        return False
    pairs = zip(topics, log["topics"], strict=False)
    return all(not choice or has in ([choice] if isinstance(choice, str) else choice) for choice, has in pairs)
