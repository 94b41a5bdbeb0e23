"""Blocks whose logs are told one after the other, to the same subscriptions.

A *step* is one block, added to the chain or taken back. Steps are numbered, in the order in which the chain changed;
that number, their *place*, says whom they concern (:meth:`LogSubscription.hears`). The logs of the next few steps are
asked for in advance; they are told in order.

A block that is abandoned before its logs were told is passed over: nobody is told of it, and nobody waits for logs that
nodes may have dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.interfaces import Subscriber
from evmlb.policy.headers import Header
from evmlb.policy.logfilter import Log, LogFilter, removed
from evmlb.policy.logindex import Found, LogIndex
from evmlb.subscribing.blocklogs import BlockLogs, LogsUnknown, Turns
from evmlb.subscribing.fanout import FanOut, Subscription
from evmlb.subscribing.params import LOGS

_log = Logger(namespace="evmlb.subscribing")

IN_ADVANCE = 8
"""So many steps' logs are asked for at the same time."""
MOST_EVENTS = 4096
"""While so many events wait to be written, no further step is told."""
ALWAYS = -1
"""As ``began``: it has seen everything."""


class LogSubscription(Subscription):
    """A subscription to logs. It is told of the steps behind the place ``since``.

    ``began`` is the place at which it was made, or ``ALWAYS`` if its client has seen all before, too: blocks that were
    added before that are not taken back.
    """

    __slots__ = ("began", "filter", "since")

    def __init__(self, subscription_id: str, subscriber: Subscriber, log_filter: LogFilter) -> None:
        super().__init__(subscription_id, subscriber)
        self.filter = log_filter
        self.since = 0
        self.began = 0

    def hears(self, step: Step) -> bool:
        """Whether a step concerns it."""
        return self.is_active and self.since < step.place and (not step.is_removed or self.began < step.added_at)


class Step(NamedTuple):
    """One block. ``added_at``: at which place it was added, 0 when that was before all."""

    place: int
    header: Header
    is_removed: bool = False
    added_at: int = 0


class Flow:
    """Steps on their way to subscriptions, none of which has been told of them before.

    ``drained`` is called each time that all steps have been told; ``failed`` when the logs of a step cannot be had, or
    more than ``most`` steps wait, with those whom it concerns, and why. ``turns``, where given, bounds how many steps
    of all flows that share it are asked for at the same time.
    """

    def __init__(
        self,
        logs: BlockLogs,
        fanout: FanOut,
        most: int,
        failed: Callable[[Sequence[LogSubscription], str], None],
        drained: Callable[[Flow], None],
        turns: Turns | None = None,
    ) -> None:
        self._logs = logs
        self._fanout = fanout
        self._most = most
        self._failed = failed
        self._drained = drained
        self._turns = turns
        self._index: LogIndex[LogSubscription] = LogIndex()
        self._filters: frozenset[LogFilter] | None = None
        self._steps: deque[Step] = deque()  # the first one is being told
        self._asked: dict[int, Deferred[Sequence[Log]]] = {}  # by place
        self._undone: list[Deferred[Sequence[Log]]] = []
        self._working: Deferred[None] | None = None
        self._pausing: Deferred[None] | None = None
        self.subscriptions: dict[LogSubscription, None] = {}

    def __len__(self) -> int:
        return len(self._steps)

    # who is told

    def join(self, subscription: LogSubscription) -> None:
        """Tell it of the steps that concern it."""
        self.subscriptions[subscription] = None
        self._index.add(subscription.filter, subscription)
        self._filters = None

    def leave(self, subscription: LogSubscription) -> None:
        """Tell it nothing more; with the last one, the steps are dropped."""
        if subscription in self.subscriptions:
            del self.subscriptions[subscription]
            self._index.remove(subscription)
            self._filters = None
            if not self.subscriptions:
                self.stop()

    @property
    def filters(self) -> frozenset[LogFilter]:
        """The distinct filters; the same object as long as they are the same."""
        if self._filters is None:
            self._filters = frozenset(self._index.filters)
        return self._filters

    # what is told

    def add(self, steps: Sequence[Step]) -> None:
        """Take these steps behind those before. Nothing comes of it before :meth:`go_on`."""
        for step in steps:
            if step.is_removed and self._steps and self._steps[-1].header.hash == step.header.hash:
                self._pass_over(self._steps.pop())
            else:
                self._steps.append(step)

    def _pass_over(self, step: Step) -> None:
        asking = self._asked.pop(step.place, None)
        if asking is not None:
            self._undone.append(asking)

    def go_on(self) -> None:
        """Tell the steps there are."""
        undone, self._undone = self._undone, []
        for asking in undone:
            _drop(asking)
        if len(self._steps) > self._most:
            self._failed(tuple(self.subscriptions), "the logs of too many blocks are missing")
        if self._working is None and self._steps and self.subscriptions:
            self._working = Deferred.fromCoroutine(self._work())
            self._working.addBoth(self._rest)
        elif self._working is None:
            self._rest(None)
        else:
            self._ask_in_advance()

    def stop(self) -> None:
        """Drop what is left."""
        self._steps.clear()
        asked, self._asked = self._asked, {}
        for asking in asked.values():
            _drop(asking)
        if self._pausing is not None:
            self._pausing.cancel()

    def _rest(self, outcome: Failure | None) -> None:
        self._working = None
        if outcome is not None:
            _log.failure("logs could not be told", outcome)
        if not self._steps:
            self._drained(self)

    async def _work(self) -> None:
        while self._steps:
            step = self._steps[0]
            self._ask_in_advance()
            try:
                logs = await self._asked[step.place]
            except defer.CancelledError:
                continue  # the step was passed over
            except Exception as error:
                self._fail(step, error)
            else:
                if self._is_first(step):
                    self._tell(step, logs)
            if self._is_first(step):
                self._steps.popleft()
                self._asked.pop(step.place, None)
            await self._pause()

    def _is_first(self, step: Step) -> bool:
        """Whether it is still to be told: it may have been passed over, or dropped, meanwhile."""
        return bool(self._steps) and self._steps[0] is step

    async def _pause(self) -> None:
        """Let the clients have what there is for them, if that is much."""
        if self._steps and self._fanout.backlog(LOGS) > MOST_EVENTS:
            self._pausing = self._fanout.emptied(LOGS)
            with suppress(defer.CancelledError):
                await self._pausing
            self._pausing = None

    def _ask_in_advance(self) -> None:
        for step in islice(self._steps, IN_ADVANCE):
            if step.place not in self._asked:
                self._asked[step.place] = Deferred.fromCoroutine(self._logs_of(step))

    async def _logs_of(self, step: Step) -> Sequence[Log]:
        filters = self.filters
        if step.is_removed:  # not of those who were not told of it: nodes may not know it any more
            filters = frozenset(each.filter for each in self.subscriptions if each.hears(step))
        return await self._logs.of(step.header, filters, is_abandoned=step.is_removed, turns=self._turns)

    def _tell(self, step: Step, logs: Sequence[Log]) -> None:
        found = self._index.find(reversed(logs) if step.is_removed else logs)
        self._fanout.tell_each(LOGS, [(_concerned(each, step), _events(each, step)) for each in found])

    def _fail(self, step: Step, error: Exception) -> None:
        if not isinstance(error, LogsUnknown):
            _log.failure("logs could not be told")
        may_match = self._logs.may_have
        concerned = [each for each in self.subscriptions if each.hears(step) and may_match(step.header, each.filter)]
        self._failed(concerned, str(error))


def _concerned(found: Found[LogSubscription], step: Step) -> list[LogSubscription]:
    return [each for each in found.keys if each.hears(step)]


def _events(found: Found[LogSubscription], step: Step) -> list[bytes]:
    return [removed(log.raw) if step.is_removed else log.raw for log in found.logs]


def _drop(asking: Deferred[Sequence[Log]]) -> None:
    asking.addErrback(lambda _: ()).cancel()
