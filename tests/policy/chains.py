"""Chains of headers for tests: a tree of blocks that only knows who is whose parent, and a subscriber."""

from __future__ import annotations

from evmlb.policy.changes import Change
from evmlb.policy.headers import Header


def block_hash(seed: int | str) -> str:
    """A hash that is as long as one, and another for each seed."""
    return "0x" + str(seed).encode().hex().rjust(64, "0")


def header(number: int, own: int | str, parent: int | str) -> Header:
    return Header(number, block_hash(own), block_hash(parent), 1_700_000_000 + number, b"", b"{}")


class Tree:
    """Blocks by hash; each new one has a hash of its own, also when it takes the place of another."""

    def __init__(self, first: int = 100) -> None:
        self.blocks: dict[str, Header] = {}
        self._made = 0
        self.root = self._add(header(first, "root", "before"))

    def _add(self, block: Header) -> Header:
        self.blocks[block.hash] = block
        return block

    def mine(self, parent: Header, count: int = 1, skip: int = 0) -> Header:
        """The last of ``count`` new blocks on top of another; the first of them skips so many numbers."""
        for place in range(count):
            self._made += 1
            number = parent.number + 1 + (0 if place else skip)
            block = header(number, f"{number}.{self._made}", "")
            parent = self._add(Header(block.number, block.hash, parent.hash, block.timestamp, b"", b"{}"))
        return parent

    def ancestor(self, block: Header, depth: int) -> Header:
        """The block so far below, or the root."""
        for _ in range(depth):
            block = self.blocks.get(block.parent_hash, block)
        return block

    def line(self, block: Header) -> list[Header]:
        """The block and its ancestors, oldest first."""
        line = [block]
        while line[-1].parent_hash in self.blocks:
            line.append(self.blocks[line[-1].parent_hash])
        return line[::-1]


class Subscriber:
    """One that holds on to what it was told. What cannot be applied is an AssertionError."""

    def __init__(self, start: Header) -> None:
        self.start = start
        self.chain = [start]
        self.cuts = 0

    def apply(self, change: Change, tip: Header | None) -> None:
        assert tip is not None
        if change.too_far:
            assert not change.removed
            assert not change.added
            self.cuts += 1
            self.chain = [tip]
            return
        for block in change.removed:
            assert self.chain, "a block was taken back that was not told"
            assert self.chain.pop().hash == block.hash
        for block in change.added:
            last = self.chain[-1] if self.chain else None
            assert last is None or (block.parent_hash == last.hash and block.number > last.number), "a gap"
            self.chain.append(block)
        assert self.chain[-1].hash == tip.hash
