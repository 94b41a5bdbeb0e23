"""The blocks that a :class:`~evmlb.policy.chainview.ChainView` knows, and where each of them stands.

The *chain* is the run of blocks from the oldest that is kept to the *tip*, linked by parent hashes. Whatever else is
known is off the chain: blocks announced or fetched whose ancestors are not all known, branches, abandoned blocks. An
off-chain block is placed by going down its ancestors, so its place is never stored and never stale.

A link is one by hash. Numbers have to fall at each step down, nearly always by one; there are chains that skip some
(Filecoin has no block where nobody made one). So no walk is endless, whatever nodes say is whose parent.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from evmlb.policy.changes import Missed
from evmlb.policy.headers import Header


class At(enum.Enum):
    """Where a block stands."""

    CHAIN = "on the chain"
    JOINED = "its ancestors are known down to a block of the chain"
    MISSING = "an ancestor is unknown"
    BEYOND = "its ancestors pass below the oldest block of the chain"
    AGAINST = "it contradicts the chain: its own number there is another, or an ancestor's"
    BROKEN = "it, or an ancestor, has a number that is not above its parent's; neither is on the chain"


class Place(NamedTuple):
    """Where a block stands; ``lowest`` is its lowest known ancestor that is off the chain, or the block itself."""

    at: At
    lowest: Header
    fork: int = -1  # JOINED: the number of the highest block that it shares with the chain, or one below the oldest


class BlockTree:
    """Blocks by hash, and the chain by number. ``tip`` is the chain's last block.

    ``keep`` blocks below the tip are kept, and as many that were abandoned.
    """

    __slots__ = ("_abandoned", "_chain", "_keep", "_known", "_numbers", "tip")

    def __init__(self, tip: Header, keep: int) -> None:
        self.tip = tip
        self._keep = keep
        self._chain = {tip.number: tip}
        self._numbers = [tip.number]  # those of the chain, the oldest block's first
        self._known = {tip.hash: tip}  # by hash, on the chain or not
        self._abandoned: deque[Header] = deque(maxlen=keep)

    def __len__(self) -> int:
        """How many blocks are known."""
        return len(self._known)

    def __contains__(self, block_hash: str) -> bool:
        return block_hash in self._known

    @property
    def low(self) -> int:
        """The number of the oldest block of the chain."""
        return self._numbers[0]

    @property
    def oldest(self) -> Header:
        """The oldest block of the chain."""
        return self._chain[self.low]

    def is_on_chain(self, header: Header) -> bool:
        """Whether a block of this number and hash is on the chain."""
        there = self._chain.get(header.number)
        return there is not None and there.hash == header.hash

    def has_on_chain(self, block_hash: str) -> bool:
        """Whether the block known under this hash is on the chain."""
        known = self._known.get(block_hash)
        return known is not None and self.is_on_chain(known)

    def place(self, head: Header) -> Place:
        """Where a block stands; linear in the length of its path off the chain."""
        if self.is_on_chain(head):
            return Place(At.CHAIN, head)
        if self._contradicts(head):
            return Place(At.AGAINST, head)
        lowest = head
        while (parent := self._known.get(lowest.parent_hash)) is not None:
            on_chain = self.is_on_chain(parent)
            if parent.number >= lowest.number:
                return Place(At.AGAINST if on_chain else At.BROKEN, lowest)
            if on_chain:
                return Place(At.JOINED, lowest, parent.number)
            lowest = parent
        if lowest.parent_hash == self.oldest.parent_hash:
            return Place(At.JOINED, lowest, min(self.low, lowest.number) - 1)
        return Place(At.BEYOND if lowest.number <= self.low else At.MISSING, lowest)

    def _contradicts(self, head: Header) -> bool:
        there = self._known.get(head.hash)
        return there is not None and there.number != head.number

    def descends(self, head: Header, ancestor: Header) -> bool:
        """Whether a block is known to descend from a lower one."""
        while head.number > ancestor.number and head.parent_hash != ancestor.hash:
            parent = self._known.get(head.parent_hash)
            if parent is None or parent.number >= head.number:
                return False
            head = parent
        return head.number > ancestor.number

    def resume(self, last_seen: str | int, limit: int) -> Missed | None:
        """See :meth:`ChainView.resume`."""
        fork, removed = self._fork(last_seen)
        added = self._numbers if fork is None else self._numbers[bisect_right(self._numbers, fork) :]
        if fork is None or len(added) > limit or len(removed) > limit:
            return None
        return Missed(removed, tuple(self._chain[number] for number in added))

    def _fork(self, last_seen: str | int) -> tuple[int | None, tuple[Header, ...]]:
        """The number of a block, or of the highest of the chain below it, and those above that one down to there."""
        if isinstance(last_seen, int):
            return (last_seen if self.low - 1 <= last_seen <= self.tip.number else None), ()
        block_hash = last_seen.lower()
        if block_hash == self.oldest.parent_hash:
            return self.low - 1, ()
        seen = self._known.get(block_hash)
        if seen is None:
            return None, ()
        place = self.place(seen)
        if place.at is At.CHAIN:
            return seen.number, ()
        return (place.fork, tuple(self._down_to(seen, place.fork))) if place.at is At.JOINED else (None, ())

    def _down_to(self, head: Header, fork: int) -> Iterator[Header]:
        """A joined block and its ancestors, newest first, as far as they are above number ``fork``."""
        step: Header | None = head
        while step is not None and step.number > fork:
            yield step
            step = self._known.get(step.parent_hash)

    # changes

    def remember(self, header: Header) -> Header | None:
        """The block known under this one's hash, from now or before; ``None`` if that is another one."""
        known = self._known.setdefault(header.hash, header)
        is_same = known.parent_hash == header.parent_hash and known.number == header.number
        return known if is_same else None

    def move(self, head: Header, fork: int) -> tuple[list[Header], list[Header]]:
        """Make a joined block the tip: what leaves the chain, newest first, and what joins it, oldest first."""
        added = list(self._down_to(head, fork))
        added.reverse()
        kept = bisect_right(self._numbers, fork)
        removed = [self._chain.pop(number) for number in reversed(self._numbers[kept:])]
        self._abandoned.extend(reversed(removed))
        self._numbers[kept:] = [header.number for header in added]
        self._chain.update((header.number, header) for header in added)
        self._known.update((header.hash, header) for header in added)  # a head may have been dropped meanwhile
        self.tip = head
        surplus = max(0, len(self._numbers) - self._keep - 1)
        for number in self._numbers[:surplus]:
            self._known.pop(self._chain.pop(number).hash, None)
        del self._numbers[:surplus]
        return removed, added

    def lengthen(self) -> bool:
        """Take the parent of the oldest block into the chain; whether it was known, and is its parent."""
        parent = self._known.get(self.oldest.parent_hash)
        if parent is None or parent.number >= self.low:
            return False
        self._numbers.insert(0, parent.number)
        self._chain[parent.number] = parent
        return True

    def drop(self, *hashes: str) -> None:
        """Forget these blocks, but for what is on the chain."""
        for block_hash in hashes:
            header = self._known.get(block_hash)
            if header is not None and not self.is_on_chain(header):
                del self._known[block_hash]

    def sweep(self, heads: Iterable[Header]) -> None:
        """Forget what is neither on the chain, nor lately abandoned, nor on the path of one of these heads."""
        kept = {header.hash: header for header in (*self._chain.values(), *self._abandoned)}
        for head in heads:
            on_path: Header | None = head
            while on_path is not None and on_path.hash not in kept:
                kept[on_path.hash] = on_path
                on_path = self._known.get(on_path.parent_hash)
        self._known = kept
