"""Whether the nodes of a network have the same blocks.

Two chains can have one chain id and one height: a test network that was begun anew, a node that stayed on the other
side of a split, two development nodes that were never one chain. Numbers tell nothing there; hashes do. So each node
is asked now and then for the hash of one block, and those that have another one there are *strays*.

* The block is ``depth`` blocks below the chainhead, or the first one of a shorter chain. So deep no race of tips
  reaches; a node that was on the losing side of a deeper reorg agrees again at the next question.
* All nodes are asked for the same block within a *period*, so that their answers can be compared. A node that does not
  have it (it lags) does not vote, and stays what it was.
* What the block should be is what most local nodes say, else most of all nodes, as with chain ids. Where that ties,
  those that were strays before lose, then those that are listed later: one chain is served, and not both in turns.
* A stray stays one until it agrees with others at a later block. It does not become right because the others died:
  answers from another chain are worse than none.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from evmlb.config.schema import Role

LEAST_DEPTH = 16
"""Reorgs that go deeper are news, and end."""
PERIOD_SECONDS = 15.0
"""For so long the same block is asked for."""
KEPT_HEIGHTS = 4
"""Answers that come late are compared as well."""


class _Vote(NamedTuple):
    node: int
    role: Role
    block_hash: str


class Forks:
    """The votes of one network's nodes. Reporters are named by their index, in the order of configuration."""

    __slots__ = ("_depth", "_height", "_since", "_votes", "strays")

    def __init__(self, block_diff: int) -> None:
        """``block_diff``: how far a node may lag and still serve; it must be able to answer."""
        self._depth = max(LEAST_DEPTH, block_diff)
        self._height: int | None = None
        self._since = 0.0
        self._votes: dict[int, dict[int, _Vote]] = {}  # by height and index, the newest height last
        self.strays: dict[int, int] = {}
        """The height at which a node, by its index, has another block than the network."""

    def height(self, chainhead: int | None, now: float) -> int | None:
        """The number of the block to ask for now; ``None`` while there is no chainhead."""
        if chainhead is None:
            return None
        if self._height is None or now - self._since >= PERIOD_SECONDS or self._height > chainhead:
            self._height, self._since = max(0, chainhead - self._depth), now
        return self._height

    def report(self, index: int, role: Role, height: int, block_hash: str) -> bool:
        """A node has this block at this height. Whether the strays changed by that."""
        votes = self._votes.setdefault(height, {})
        votes[index] = _Vote(index, role, block_hash.lower())
        while len(self._votes) > KEPT_HEIGHTS:
            del self._votes[next(iter(self._votes))]
        before = dict(self.strays)
        if len(votes) > 1:
            self._judge(height, votes)
        return self.strays != before

    def _judge(self, height: int, votes: dict[int, _Vote]) -> None:
        agreed = self._agreed(list(votes.values()))
        for index, vote in votes.items():
            if self._voted_later(index, height):
                continue
            if vote.block_hash == agreed:
                self.strays.pop(index, None)
            else:
                self.strays[index] = height

    def _voted_later(self, index: int, height: int) -> bool:
        heights = list(self._votes)
        return any(index in self._votes[later] for later in heights[heights.index(height) + 1 :])

    def _agreed(self, votes: list[_Vote]) -> str:
        for electorate in ([vote for vote in votes if vote.role is Role.LOCAL], votes):
            leaders = _leaders(electorate)
            if len(leaders) == 1:
                return leaders[0]
        first = min(
            (vote for vote in votes if vote.block_hash in leaders),
            key=lambda vote: (vote.node in self.strays, vote.node),
        )
        return first.block_hash


def _leaders(votes: list[_Vote]) -> list[str]:
    counted = Counter(vote.block_hash for vote in votes)
    most = max(counted.values(), default=0)
    return [block_hash for block_hash, count in counted.items() if count == most]
