"""One network's chain of blocks as its subscribers are told of it, put together from what all its nodes announce.

Theory. Every node (a *source*) has one *voice*: the head it announced last. The *chain* is the run of blocks that was
told to subscribers, linked by parent hashes; its last block is the *tip*. A voice stands in one of four places:

=========  ========================================================================================
on chain   the tip (it *supports* it), or an ancestor of it: then the node lags, and says nothing
joined     its ancestors are known down to a block of the chain
missing    an ancestor is unknown, and is asked for by its hash; nothing is told before it is there;
           also a head below the oldest block while the history is being fetched
beyond     it can't be joined: more than ``backfill_blocks`` ahead, or its ancestors pass below the
           oldest block that is kept, or it contradicts the chain
=========  ========================================================================================

What wins:

1. The highest joined voice, if it is higher than the tip. The missing ancestors of higher voices are fetched.
2. A joined voice at the tip's height or lower wins only when nobody supports the tip any more: no voice is the tip, a
   descendant of it, or higher with its ancestors not yet known. So two nodes that disagree for a moment do not make
   the chain swing, and the reorg of a lone node is followed at once. Where the rivals are equally high, more voices
   win, and then the chain as it is.
3. An ancestor of the tip is never gone back to. A node that lags and a chain that was rolled back look the same; what
   was rolled back is taken back with the first block that takes its place. So when the leading node dies and one that
   lags by two blocks is left, subscribers notice nothing.
4. If every voice is beyond, the view starts anew at the median of them, and says so (``too_far``): subscribers have to
   be told that there is a gap. As long as one voice is in reach those beyond it wait: nonsense far ahead costs nobody
   his subscription. A node that stands still has to be forgotten by the caller, who knows how far one may lag.

The view does not verify hashes: of two blocks under one hash the first stands. What does not fit is dropped together
with the voice that needs it, and both are asked for anew when that node speaks again; so a false block that is not on
the chain is not in the way for long. One that was told stays as long as a node supports it. Which nodes are to be
believed is decided elsewhere (:mod:`evmlb.policy.heads`): the view is told only of credible heads, from eligible nodes.

The first head starts the view and is told to nobody: a subscription gives the blocks after it. ``history_blocks``
before the first are asked for as well, not to be told, but so that an early reorg and an early resumption find them.
Where no node gives one, it is asked for again at the next announcement, ``HISTORY_TRIES`` times in all: the only node
in step may have answered nonsense, or the others may still have to catch up.

Memory: ``keep`` blocks of the chain, as many abandoned ones, one path of at most ``keep + backfill_blocks`` for each
source, and as much again until it is swept. A header is about 2 KB. An announcement takes 30 us with ten sources; the
1,024 blocks of a path that is fetched one by one 0.25 s, all together.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from evmlb.policy.blocktree import At, BlockTree, Place
from evmlb.policy.changes import NOTHING, Change, Missed, Refuted, Wanted, Why
from evmlb.policy.headers import Header

MAX_ASKED = 4
"""So many ancestors are asked for at the same time, and one more of the history."""
HISTORY_TRIES = 3
"""After so many failures in a row the blocks before the first are taken to be nowhere."""

_OUT_OF_REACH = (At.BEYOND, At.AGAINST)


class _Rival(NamedTuple):
    """A head that some voices say."""

    head: Header
    place: Place
    voices: int


class ChainView:
    """One network's chain of blocks. Facts in, a :class:`Change` out; it never fetches anything itself.

    Sources are named by anything hashable.
    """

    __slots__ = (
        "_asked",
        "_backfill",
        "_floor",
        "_history",
        "_history_failures",
        "_history_rests",
        "_keep",
        "_refuted",
        "_sweep_at",
        "_told_from",
        "_tree",
        "_voices",
    )

    def __init__(self, backfill_blocks: int, *, keep: int = 256, history_blocks: int = 64) -> None:
        """``keep``: so many blocks below the tip are kept, and so deep may a reorg be and a client resume."""
        self._backfill = backfill_blocks
        self._keep = keep
        self._history = min(history_blocks, keep)
        self._tree: BlockTree | None = None  # before the first head
        self._told_from = 0  # the lowest block that was told has it; those below are history, of which nobody was told
        self._floor = 0  # history is fetched down to this number
        self._history_failures = 0  # in a row
        self._history_rests = False  # until the next announcement
        self._voices: dict[Hashable, Header] = {}
        self._asked: dict[str, Wanted] = {}
        self._refuted: list[Refuted] = []  # since the last change
        self._sweep_at = 2 * (keep + backfill_blocks) + 64

    def __len__(self) -> int:
        """How many headers are held."""
        return 0 if self._tree is None else len(self._tree)

    @property
    def tip(self) -> Header | None:
        """The newest block that was told, ``None`` before the first head."""
        return None if self._tree is None else self._tree.tip

    # facts in

    def observe(self, source: Hashable, header: Header) -> Change:
        """A node announced this head, or was found to have it."""
        tree = self._tree
        if tree is None:
            self._voices[source] = header
            return self._start(header)
        voice = self._voices.get(source)
        if voice is not None and (voice.hash, voice.number) == (header.hash, header.number):
            return NOTHING
        self._history_rests = False
        known = tree.remember(header)
        if known is None and not tree.has_on_chain(header.hash):
            self._silence(source, header, Why.CONFLICT)
            return self._settle(tree)
        head = known or header
        if known is None or tree.place(head).at is At.AGAINST:
            self._refuted.append(Refuted(source, head, Why.NUMBER if known else Why.CONFLICT))
        if voice is None or not tree.descends(voice, head):  # if it does, it comes late, or the node goes back
            self._voices[source] = head
        return self._settle(tree)

    def forget(self, source: Hashable) -> Change:
        """The node's word does not count any more: it is gone, lags too far, is on another chain."""
        gone = self._voices.pop(source, None)
        return NOTHING if gone is None or self._tree is None else self._settle(self._tree)

    def fetched(self, header: Header, *others: Header) -> Change:
        """A block that was wanted, and others below it that came along, in any order.

        The caller has checked that its hash is the one asked for; if not, it is a failed fetch.
        """
        if self._tree is None:
            return NOTHING
        for other in others:
            if self._is_in_a_gap(other.number):
                self._tree.remember(other)
        asked = self._asked.pop(header.hash, None)
        if asked is not None:
            self._tree.remember(header)
            if asked.is_history:
                self._history_failures = 0
        return self._settle(self._tree)

    def fetch_failed(self, block_hash: str) -> Change:
        """No node gave the block: heads that need it are dropped. Asked for again when one of them is announced."""
        tree = self._tree
        if self._asked.pop(block_hash, None) is None or tree is None or block_hash in tree:
            return NOTHING
        if tree.oldest.parent_hash == block_hash:
            self._history_failures += 1
            self._history_rests = True
            if self._history_failures >= HISTORY_TRIES:
                self._floor = tree.low
        for source, head in tuple(self._voices.items()):
            place = tree.place(head)
            if place.at is At.MISSING and place.lowest.parent_hash == block_hash:
                tree.drop(place.lowest.hash)  # the block without a parent may be the false one
                self._silence(source, head, Why.UNFETCHED)
        return self._settle(tree)

    # decisions out

    def resume(self, last_seen: str | int, limit: int) -> Missed | None:
        """What a client has missed that saw the block of this hash or number last.

        With the hash of an abandoned block, what is to be taken back as well. ``None`` if the block is unknown (also a
        number above the tip), or if more than ``limit`` blocks were missed or are to be taken back.
        """
        return None if self._tree is None else self._tree.resume(last_seen, limit)

    # what follows

    def _settle(self, tree: BlockTree) -> Change:
        """Draw the conclusions from the voices as they are now."""
        while self._lacks_history(tree) and tree.lengthen():
            pass
        if tree.oldest.parent_hash in tree:  # it is there, but it cannot be the parent
            self._floor = tree.low
        rivals = self._rivals(tree)
        if rivals and all(rival.place.at in _OUT_OF_REACH for rival in rivals):
            heads = sorted(self._voices.values(), key=lambda head: head.number)
            return self._start(heads[(len(heads) - 1) // 2], too_far=True)
        best = self._best(tree, rivals)
        removed, added = self._move(tree, best) if best else ((), ())
        wanted = self._wants(tree, rivals, best is not None or _is_supported(tree.tip, rivals))
        if len(tree) > self._sweep_at:
            tree.sweep(self._voices.values())
            self._sweep_at = max(self._sweep_at, 2 * len(tree))
        return self._change(wanted, removed, added)

    def _change(
        self,
        wanted: tuple[Wanted, ...],
        removed: tuple[Header, ...] = (),
        added: tuple[Header, ...] = (),
        too_far: bool = False,
    ) -> Change:
        refuted = tuple(self._refuted)
        self._refuted.clear()
        return Change(wanted, removed, added, too_far, refuted)

    def _start(self, head: Header, *, too_far: bool = False) -> Change:
        """Begin at a head; what was before it is forgotten, but for the voices."""
        self._tree = tree = BlockTree(head, self._keep)
        self._told_from = head.number
        self._floor = max(0, head.number - self._history)
        self._history_failures, self._history_rests = 0, False
        for voice in self._voices.values():
            tree.remember(voice)
        return self._change(self._wants(tree, self._rivals(tree), supported=True), too_far=too_far)

    def _rivals(self, tree: BlockTree) -> list[_Rival]:
        """The heads that are spoken for, each once; voices whose path does not hold are silenced."""
        rivals: dict[tuple[str, int], _Rival] = {}
        for source, head in tuple(self._voices.items()):
            name = head.hash, head.number
            rival = rivals.get(name)
            place = self._place(tree, head) if rival is None else rival.place
            if place.at is At.BROKEN:  # its two blocks cannot both be right
                tree.drop(place.lowest.hash, place.lowest.parent_hash)
                self._silence(source, head, Why.NUMBER)
            else:
                rivals[name] = _Rival(head, place, 1 if rival is None else rival.voices + 1)
        return list(rivals.values())

    def _place(self, tree: BlockTree, head: Header) -> Place:
        """Where a head stands: too far ahead is beyond; below the oldest block may be history that is on its way."""
        place = tree.place(head)
        if place.at is At.MISSING and head.number > tree.tip.number + self._backfill:
            return place._replace(at=At.BEYOND)
        if place.at is At.BEYOND and self._lacks_history(tree) and head.number > self._floor:
            return place._replace(at=At.MISSING)
        return place

    def _best(self, tree: BlockTree, rivals: list[_Rival]) -> _Rival | None:
        """The head to move to, if there is a better one than the tip."""
        inside = [rival for rival in rivals if rival.place.at in (At.JOINED, At.CHAIN)]
        higher = [rival for rival in inside if rival.head.number > tree.tip.number]
        candidates = higher or ([] if _is_supported(tree.tip, rivals) else inside)
        best = max(candidates, key=_merit, default=None)
        return None if best is None or best.place.at is At.CHAIN else best

    def _move(self, tree: BlockTree, rival: _Rival) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
        """Make a joined head the tip; what subscribers have to take back, and to take, for it."""
        fork = rival.place.fork
        removed, added = tree.move(rival.head, fork)
        told = tuple(header for header in removed if header.number >= self._told_from)
        if fork < self._told_from:
            self._told_from = added[0].number
        return told, tuple(added)

    def _silence(self, source: Hashable, head: Header, why: Why) -> None:
        self._voices.pop(source, None)
        self._refuted.append(Refuted(source, head, why))

    # what is asked for

    def _wants(self, tree: BlockTree, rivals: list[_Rival], supported: bool) -> tuple[Wanted, ...]:
        """Blocks to ask for that are not asked for yet: parents of the highest heads, then of the history."""
        wanted: dict[str, Wanted] = {}
        room = MAX_ASKED - sum(not asked.is_history for asked in self._asked.values())
        for rival in sorted(rivals, key=lambda rival: -rival.head.number):
            lowest = rival.place.lowest
            missing, number = lowest.parent_hash, lowest.number - 1
            is_needed = rival.head.number > tree.tip.number or not supported
            # one that ends below the oldest block waits for the history to come down to it
            is_missing = rival.place.at is At.MISSING and lowest.number > tree.low
            if is_missing and is_needed and missing not in self._asked and len(wanted) < room:
                wanted[missing] = Wanted(missing, number, min(number, tree.tip.number + 1))
        parent = tree.oldest.parent_hash
        asks_history = any(asked.is_history for asked in self._asked.values())
        if self._lacks_history(tree) and not (asks_history or self._history_rests or parent in self._asked):
            wanted.setdefault(parent, Wanted(parent, tree.low - 1, self._floor, is_history=True))
        self._asked |= wanted
        return tuple(wanted.values())

    def _lacks_history(self, tree: BlockTree) -> bool:
        return tree.low > self._floor and tree.tip.number - tree.low < self._keep

    def _is_in_a_gap(self, number: int) -> bool:
        return any(asked.down_to <= number < asked.number for asked in self._asked.values())


def _is_supported(tip: Header, rivals: list[_Rival]) -> bool:
    """Whether a voice is the tip, or may descend from it for all that is known.

    One that does descend from it is not asked about: it is higher, and wins.
    """
    return any(
        (place.at is At.CHAIN and head.number == tip.number) or (place.at is At.MISSING and head.number > tip.number)
        for head, place, _ in rivals
    )


def _merit(rival: _Rival) -> tuple[int, int, bool]:
    return rival.head.number, rival.voices, rival.place.at is At.CHAIN
