"""The logs that subscribers asked for, block by block.

All subscriptions share one :class:`~evmlb.subscribing.flow.Flow`: the blocks of the view are worked through one after
the other, so that no log of a block comes before one of the block before it, and each block's logs are asked for once,
for all filters. When a block is abandoned, its logs are told once more with ``removed: true``, the last one first, to
those who were told of them.

A client that resumes has a flow of its own until it has caught up: first what it missed, then whatever changes
meanwhile; it never holds up the others.

::

    place of the change     41   42   43   44   45   46
    shared flow             #41  #42  #43  -43  #43' #44'     (a reorg replaces block 43)
    subscribed at 42                  #43  -43  #43' #44'
    resumed at 43, with 41       #42  #43 | -43 #43' #44'     its own flow up to the bar, then the shared one
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from evmlb.network import Network
from evmlb.policy.changes import Change, Missed
from evmlb.policy.headers import Header
from evmlb.subscribing.blocklogs import BlockLogs, Turns
from evmlb.subscribing.fanout import FanOut
from evmlb.subscribing.flow import ALWAYS, Flow, LogSubscription, Step
from evmlb.subscribing.nodes import Nodes

CATCHING_UP = 8
"""The logs of so many blocks are asked for at the same time for all who catch up."""


class Logs:
    """The subscriptions to logs of one network.

    ``kept``: so many blocks back a reorg may go. ``failed`` is called with subscriptions that cannot be told what they
    should be, and why.
    """

    def __init__(
        self,
        network: Network,
        nodes: Nodes,
        fanout: FanOut,
        kept: int,
        failed: Callable[[Sequence[LogSubscription], str], None],
    ) -> None:
        config = network.config
        self._fanout = fanout
        self._kept = kept
        self._failed = failed
        self._most = 2 * max(config.backfill_blocks, config.resume_blocks, 1)
        self._turns = Turns(CATCHING_UP)
        self._place = 0  # of the last step
        self._added_at: OrderedDict[str, int] = OrderedDict()  # places, by block
        self._shared: Flow
        self._own: dict[LogSubscription, Flow] = {}
        self.blocks = BlockLogs(network, nodes, kept)
        self._shared = self._flow(None)

    @property
    def unproven(self) -> int:
        """Blocks whose bloom promised logs that no node gave."""
        return self.blocks.unproven

    def _flow(self, turns: Turns | None) -> Flow:
        return Flow(self.blocks, self._fanout, self._most, self._failed, self._drained, turns)

    # who is told

    def join(self, subscription: LogSubscription, missed: Missed | None) -> None:
        """Tell it of logs from the next block on; one that resumes first of what it ``missed``."""
        subscription.since = subscription.began = self._place
        if missed is None:
            self._shared.join(subscription)
            return
        steps = self._steps_of(missed)
        subscription.since -= len(steps)
        subscription.began = ALWAYS
        flow = self._own[subscription] = self._flow(self._turns)
        flow.join(subscription)
        flow.add(steps)
        flow.go_on()

    def _steps_of(self, missed: Missed) -> list[Step]:
        """What was missed, as steps that end at the present place."""
        first = self._place - len(missed.removed) - len(missed.added) + 1
        removed = [Step(first + n, header, is_removed=True) for n, header in enumerate(missed.removed)]
        first += len(removed)
        return removed + [Step(first + n, header) for n, header in enumerate(missed.added)]

    def _drained(self, _: Flow) -> None:
        """When the shared flow has told all its steps, those are taken into it whose own flow has, too."""
        if len(self._shared):
            return
        for subscription, flow in [(each, flow) for each, flow in self._own.items() if not len(flow)]:
            del self._own[subscription]
            flow.subscriptions.clear()
            subscription.since = self._place
            self._shared.join(subscription)

    def leave(self, subscription: LogSubscription) -> None:
        """It is over."""
        self._own.pop(subscription, self._shared).leave(subscription)

    # what is told

    def observe(self, change: Change) -> None:
        """The chain changed: its abandoned blocks are taken back, its new ones told."""
        steps = [*self._take_back(change.removed), *self._add(change.added)]
        flows = [flow for flow in (self._shared, *self._own.values()) if flow.subscriptions]
        for flow in flows:  # all of them first: one that goes on may let another go on
            flow.add(steps)
        for flow in flows:
            flow.go_on()

    def _take_back(self, headers: Sequence[Header]) -> Iterator[Step]:
        for header in headers:
            self._place += 1
            yield Step(self._place, header, is_removed=True, added_at=self._added_at.pop(header.hash, 0))

    def _add(self, headers: Sequence[Header]) -> Iterator[Step]:
        for header in headers:
            self._place += 1
            self._added_at[header.hash] = self._place
            self._added_at.move_to_end(header.hash)
            if len(self._added_at) > self._kept:
                self._added_at.popitem(last=False)
            yield Step(self._place, header)

    def stop(self) -> None:
        """Drop what is left to be told, and what is remembered."""
        for flow in (self._shared, *self._own.values()):
            flow.stop()
        self._own.clear()
        self._added_at.clear()
        self.blocks.forget()
