"""The blocks of one network, each once and in order, as all its nodes together tell them.

Nodes announce heads: those with WebSocket push them, of the others polls tell the number and the head is fetched. Each
announcement goes into the view (:mod:`evmlb.policy.chainview`), which says what changed, or which ancestors it lacks;
these are asked for, by hash; where many are missing, those below are asked for by number at the same time, and count if
they turn out to be linked.

Changes are told one after the other, each before what it made us ask for: an answer that is there at once does not
overtake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.chainview import ChainView
from evmlb.policy.changes import Change, Wanted
from evmlb.policy.headers import Header, read_header
from evmlb.question import AskFailed
from evmlb.subscribing.nodes import Nodes

_log = Logger(namespace="evmlb.subscribing")

AHEAD = 16
"""So many blocks below a missing one are asked for at the same time."""
PUSH_SECONDS = 2.0
"""A head that a poll has shown, of a node that pushes them, is fetched if it was not pushed after this time."""
LEAST_KEPT = 128
"""So many blocks are kept at least: a reorg may be as deep."""


class Blocks:
    """The view of one network and what feeds it.

    ``changed`` hears of every change of the chain: blocks abandoned (newest first) and blocks added (oldest first);
    ``cut`` that more blocks were missed than can be made up for.

    ``backfilled``: blocks that were told together with a later one, as they had been missed. ``deepest_reorg``: in
    blocks.
    """

    def __init__(
        self,
        network: Network,
        nodes: Nodes,
        now: Callable[[], float],
        changed: Callable[[Change], None],
        cut: Callable[[], None],
    ) -> None:
        self._network = network
        self._nodes = nodes
        self._now = now
        self._changed = changed
        self._cut = cut
        self._view: ChainView | None = None
        self._changes: deque[Change] = deque()
        self._is_telling = False
        self._asked: dict[str, Deferred[Any]] = {}  # ancestors by hash, and heads by node and number
        self._announced: dict[Node, int] = {}
        self._ahead_since: dict[Node, float] = {}  # nodes whose polls are ahead of what they push
        self._waiting: list[Deferred[None]] = []
        self.backfilled = 0
        self.deepest_reorg = 0

    @property
    def view(self) -> ChainView | None:
        """The view while it runs."""
        return self._view

    @property
    def kept(self) -> int:
        """So many blocks back a reorg may go."""
        return max(self._network.config.resume_blocks, LEAST_KEPT)

    def start(self) -> None:
        """Begin a view. It is for the caller to tell of the heads as they are."""
        config = self._network.config
        self._view = ChainView(config.backfill_blocks, keep=self.kept, history_blocks=config.resume_blocks)

    def stop(self) -> None:
        """Nobody wants to know any more."""
        self._view = None
        self._changes.clear()
        self._announced.clear()
        self._ahead_since.clear()
        asked, self._asked = self._asked, {}
        for asking in asked.values():
            asking.cancel()

    async def news(self, seconds: float) -> None:
        """Wait until something was learnt of the chain, or for so long."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        try:
            await waiting.addTimeout(seconds, self._nodes.reactor)
        except defer.TimeoutError:
            pass
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    # nodes tell

    def observe_number(self, node: Node, number: int, *, pushes: bool) -> None:
        """A poll said how far a node is. Its head is fetched, unless it is known, or about to be pushed."""
        if self._view is None or not self._may_tell(node, number):
            return
        announced = self._announced.get(node)
        if announced == number or (pushes and announced is not None and not self._is_overdue(node, number)):
            return
        self._announced[node] = number
        self._fetch(f"{node.index} {number}", self._fetch_head(node, number))

    def _may_tell(self, node: Node, number: int) -> bool:
        """Whether a node's word counts, and can be believed: it is no further than the chain can be."""
        return number <= self._network.top and node in self._network.order.candidates

    def _is_overdue(self, node: Node, number: int) -> bool:
        """Whether a node that pushes should have pushed this head by now."""
        if number <= self._announced[node]:
            self._ahead_since.pop(node, None)
            return False
        return self._now() - self._ahead_since.setdefault(node, self._now()) >= PUSH_SECONDS

    def observe_head(self, node: Node, header: Header) -> bool:
        """A node pushed a head; False if it cannot be believed as yet."""
        if self._view is None or not self._may_tell(node, header.number):
            return False
        self._announced[node] = header.number
        self._ahead_since.pop(node, None)
        self._take(self._view.observe(node, header))
        return True

    def forget(self, node: Node) -> None:
        """A node's word does not count any more: it is gone, or may not serve."""
        self._announced.pop(node, None)
        self._ahead_since.pop(node, None)
        if self._view is not None:
            self._take(self._view.forget(node))

    # what follows

    def _take(self, change: Change) -> None:
        self._changes.append(self._with_history(change))
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._changes:
                self._tell(self._changes.popleft())
        finally:
            self._is_telling = False
        self._wake()

    def _with_history(self, change: Change) -> Change:
        """The same, with all blocks that were abandoned.

        The view leaves out those that are older than itself, as nobody was told of them; but who resumed knows them.
        """
        if not change.removed or self._view is None:
            return change
        missed = self._view.resume(change.removed[0].hash, self.kept + self._network.config.backfill_blocks)
        return change if missed is None else replace(change, removed=missed.removed)

    def _tell(self, change: Change) -> None:
        self.deepest_reorg = max(self.deepest_reorg, len(change.removed))
        self.backfilled += max(0, len(change.added) - 1)
        if change.too_far:
            self._cut()
        elif change.added or change.removed:
            self._changed(change)
        for refuted in change.refuted:
            self._announced.pop(refuted.source, None)  # type: ignore[call-overload]
            _log.info(
                "{network}: a head of {node} is passed over: {why}",
                network=self._network.name,
                node=getattr(refuted.source, "name", "?"),
                why=refuted.why.value,
            )
        for wanted in change.wanted:
            self._fetch(wanted.hash, self._fetch_ancestor(wanted))

    def _wake(self) -> None:
        """Let those go on who wait for news; now that all is told, what they see of the view is what was told."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    # asking

    def _fetch(self, key: str, fetching: Coroutine[Any, Any, None]) -> None:
        if key in self._asked or self._view is None:
            fetching.close()
            return
        asking = self._asked[key] = Deferred.fromCoroutine(fetching)
        asking.addBoth(self._fetched, key, asking)

    def _fetched(self, outcome: Any, key: str, asking: Deferred[None]) -> None:
        if self._asked.get(key) is asking:
            del self._asked[key]
        if outcome is not None and not outcome.check(defer.CancelledError):
            _log.failure("a block could not be fetched", outcome)

    async def _fetch_head(self, node: Node, number: int) -> None:
        try:
            header = read_header(await self._nodes.ask(node, "eth_getBlockByNumber", [hex(number), False]))
        except (AskFailed, defer.TimeoutError):
            header = None
        if self._view is None or self._announced.get(node) != number:
            return  # it was pushed meanwhile, or does not count any more
        if header is None or header.number != number:
            del self._announced[node]  # the next poll asks again
        else:
            self._take(self._view.observe(node, header))

    async def _fetch_ancestor(self, wanted: Wanted) -> None:
        view = self._view
        lower = range(max(wanted.down_to, wanted.number - AHEAD), wanted.number)
        more = [self._nodes.ask_any(n, "eth_getBlockByNumber", [hex(n), False], read_header) for n in lower]
        try:
            found = await self._nodes.ask_any(
                wanted.number, "eth_getBlockByHash", [wanted.hash, False], lambda block: _block(block, wanted.hash)
            )
            headers = [header for header in await defer.gatherResults(more) if header is not None]
        finally:
            for asking in more:
                asking.addErrback(lambda _: None).cancel()
        if view is None or self._view is not view:
            return
        if found is None:
            self._take(view.fetch_failed(wanted.hash))
        else:
            self._take(view.fetched(found, *headers))


def _block(value: object, block_hash: str) -> Header | None:
    """The header of a block, if it is the one of this hash."""
    header = read_header(value)
    return header if header is not None and header.hash == block_hash else None
