"""Numbers of blocks by their hashes, of the blocks that clients were told of lately.

Who was told of a block may ask for it by its hash a moment later. A node that does not have it yet says "not found", or
worse: an empty list of logs. The number behind the hash says which nodes have it.

Only what was told is kept, so nobody can fill this with hashes of his own. The oldest of ``MAX_BLOCKS`` goes first.
"""

from __future__ import annotations

MAX_BLOCKS = 256
"""Blocks further back are had by every node that may serve."""


class RecentBlocks:
    """Of one network."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def record(self, block_hash: str, number: int) -> None:
        """A client is told of this block."""
        numbers = self._numbers
        if block_hash not in numbers and len(numbers) >= MAX_BLOCKS:
            del numbers[next(iter(numbers))]
        numbers[block_hash] = number

    def number(self, block_hash: str) -> int | None:
        """The number of a block; ``None`` where it was not told lately."""
        return self._numbers.get(block_hash.lower())
