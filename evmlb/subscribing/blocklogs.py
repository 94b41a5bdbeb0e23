"""The logs of single blocks: asked of nodes where the block's bloom matches, and remembered.

Several filters are asked for in one question. Nodes announce heads before their logs can be read. So an empty answer
where the bloom promises a log is not believed: the block's logs are asked for without a filter, and are believed to be
all of them when they make up the block's bloom. Until then they are asked for again, of other nodes too, for up to one
block time.

What was found is remembered, with the filters that it was asked for: to be taken back when the block is abandoned, and
for others who want the same. It is bounded by blocks and by bytes; what is needed later is asked for again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evmlb.network import Network
from evmlb.policy.bloom import BloomTrust, bloom_of
from evmlb.policy.headers import Header
from evmlb.policy.logfilter import Log, LogFilter, read_logs, union
from evmlb.subscribing.nodes import Nodes, as_json

_log = Logger(namespace="evmlb.subscribing")

UNKNOWN_BLOCK_TIME_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0
"""So long the logs of a block are asked for when no node answers at all."""
GIVE_UP_ABANDONED_SECONDS = 3.0
"""The same for a block that was abandoned: nodes may not know it any more."""
REMEMBERED_BYTES = 64 * 1024 * 1024
_LOG_BYTES = 600
"""What a log takes beside its JSON, about."""


Filters = frozenset[LogFilter]


class Turns:
    """So many may ask at the same time, the others in turn.

    ``DeferredSemaphore`` would let the next one go on from within the one before: thousands are too deep.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[Deferred[None]] = deque()
        self._is_giving = False

    def take(self) -> Deferred[None]:
        """Fires when it is one's turn."""
        mine: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(mine)
        self._give()
        return mine

    def give_back(self) -> None:
        """It is another one's turn."""
        self._free += 1
        self._give()

    def _give(self) -> None:
        if self._is_giving:
            return
        self._is_giving = True
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().callback(None)
        self._is_giving = False


class LogsUnknown(Exception):
    """No node gave a block's logs."""


class _Known:
    """What is known of one block's logs: those found, and the sets of filters that were asked for."""

    def __init__(self) -> None:
        self.users = 0
        self.is_asked = False  # one asks, the others wait, and have it too
        self.waiting: list[Deferred[None]] = []
        self.asked: list[Filters] = []
        self.logs: dict[int, Log] = {}
        self.size = 0

    def lacks(self, filters: Filters) -> list[LogFilter]:
        """Those of the filters that were not asked for."""
        return [each for each in filters if not any(each in asked for asked in self.asked)]


class BlockLogs:
    """The logs of the blocks of one network, remembered for so many ``blocks``.

    ``unproven``: blocks whose bloom promised logs that no node gave.
    """

    def __init__(self, network: Network, nodes: Nodes, blocks: int) -> None:
        self._network = network
        self._nodes = nodes
        self._blocks = blocks
        self._trust = BloomTrust()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._size = 0
        self.unproven = 0

    @property
    def remembered_bytes(self) -> int:
        """About how much memory the remembered logs take."""
        return self._size

    def forget(self) -> None:
        """Forget all logs."""
        self._known.clear()
        self._size = 0

    async def of(
        self, header: Header, filters: Filters, *, is_abandoned: bool = False, turns: Turns | None = None
    ) -> Sequence[Log]:
        """The block's logs in order: at least those that these filters want. ``turns``: asked only when it is ours.

        Raises :class:`LogsUnknown` when no node gives them.
        """
        known = self._known.get(header.hash)
        if known is None:
            if not self._matching(header, filters):
                return ()
            known = self._known[header.hash] = _Known()
        within = GIVE_UP_ABANDONED_SECONDS if is_abandoned else GIVE_UP_SECONDS
        known.users += 1
        try:
            await self._learn(header, known, filters, within, turns)
        finally:
            known.users -= 1
        return tuple(known.logs[index] for index in sorted(known.logs))

    async def _learn(self, header: Header, known: _Known, filters: Filters, within: float, turns: Turns | None) -> None:
        while missing := self._matching(header, known.lacks(filters)):
            if known.is_asked:
                known.waiting.append(Deferred())
                await known.waiting[-1]
                continue
            known.is_asked = True
            try:
                self._add(header, known, await self._fetch(header, missing, within, turns))
                known.asked.append(filters)
            finally:
                known.is_asked = False
                waiting, known.waiting = known.waiting, []
                for each in waiting:
                    each.callback(None)

    def _add(self, header: Header, known: _Known, logs: Iterable[Log]) -> None:
        new = {log.index: log for log in logs if log.index not in known.logs}
        known.logs |= new
        if self._known.get(header.hash) is known:
            size = sum(len(log.raw) + _LOG_BYTES for log in new.values())
            known.size += size
            self._size += size
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for block_hash in [*self._known]:
            if len(self._known) <= self._blocks and self._size <= REMEMBERED_BYTES:
                return
            if not self._known[block_hash].users:
                self._size -= self._known.pop(block_hash).size

    # asking

    def may_have(self, header: Header, log_filter: LogFilter) -> bool:
        """Whether the filter may find something in the block."""
        return bool(self._matching(header, (log_filter,)))

    def _matching(self, header: Header, filters: Collection[LogFilter]) -> Collection[LogFilter]:
        """The filters that may find something in the block."""
        if not self._trust.believes(header.bloom):
            return filters
        bits = int.from_bytes(header.bloom, "big")
        return [each for each in filters if each.may_match_bits(bits)]

    async def _fetch(
        self, header: Header, filters: Collection[LogFilter], within: float, turns: Turns | None
    ) -> Sequence[Log]:
        if turns is not None:
            await turns.take()
        try:
            logs = await self._insist(header, filters, within)
            if not logs and self._trust.promises(header.bloom):
                logs = await self._prove(header) or await self._insist(header, filters, within)
                self._count_unproven(header, logs)
        finally:
            if turns is not None:
                turns.give_back()
        self._trust.observe(header.bloom, _items(logs))
        return logs

    async def _insist(self, header: Header, filters: Collection[LogFilter], within: float) -> Sequence[Log]:
        """Ask until a node answers."""
        logs = await self._ask(header, union(filters), within)
        if logs is None:
            abandoned = ", which was abandoned" if within == GIVE_UP_ABANDONED_SECONDS else ""
            raise LogsUnknown(f"no node gives the logs of block {header.number}{abandoned}")
        return logs

    async def _prove(self, header: Header) -> Sequence[Log] | None:
        """Ask for all of the block's logs until an answer makes up its bloom."""
        return await self._ask(header, {}, self._network.block_time_seconds or UNKNOWN_BLOCK_TIME_SECONDS, prove=True)

    def _count_unproven(self, header: Header, logs: Sequence[Log]) -> None:
        if logs:
            return
        self.unproven += 1
        _log.info(
            "{network}: no node gave the logs of block {number}, whose bloom promises some",
            network=self._network.name,
            number=header.number,
        )

    async def _ask(
        self, header: Header, wanted: dict[str, Any], within: float, *, prove: bool = False
    ) -> Sequence[Log] | None:
        """Ask the nodes for so long; None when none has an answer. Logs of another block are no answer."""

        def read(result: object) -> Sequence[Log] | None:
            logs = _read(result, header)
            return logs if logs is not None and (not prove or _is_all(logs, header)) else None

        params = [{"blockHash": header.hash, **wanted}]
        asking = self._nodes.ask_any(header.number, "eth_getLogs", params, read, within=within)
        found: Sequence[Log] | None = await asking
        return found


def _read(result: object, header: Header) -> Sequence[Log] | None:
    """The logs in an answer, if they are of this block."""
    raw = as_json(result)
    logs = None if raw is None else read_logs(raw)
    return logs if logs is not None and all(log.block_hash == header.hash for log in logs) else None


def _is_all(logs: Iterable[Log], header: Header) -> bool:
    """Whether these logs set every bit of the block's bloom."""
    bits = int.from_bytes(bloom_of(_items(logs)), "big")
    return int.from_bytes(header.bloom, "big") & ~bits == 0


def _items(logs: Iterable[Log]) -> Iterable[bytes]:
    return (item for log in logs for item in log.items())
