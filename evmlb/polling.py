"""Asking the nodes how they are: one loop per node, and one more for its load.

What a round asks is :mod:`evmlb.examining`'s, through the same client as requests, so that latency means what clients
feel. When the next one is due is :class:`Cadence`'s to say. Here is what comes of it:

* One try ends after ``health_check.timeout``, or min(``rpc_timeout``, max(1 s, interval)). The first failed try of a
  round already makes the node suspect; the rest of ``rpc_retries`` decide.
* A node that says it is asked too often is *limited*, which is no failure. Its rounds stop; what it is asked then is a
  single ``eth_blockNumber`` whenever :class:`~evmlb.policy.ratelimit.RateLimit` wants a probe.
* With ``combined_with_circuit_breaker`` polls count as requests do (TyrScale's meaning): one that is answered, as
  demanded or not, is a success; one whose tries all failed is a failure; a breaker that is due takes it as a trial.

A loop never ends by a failure, and never overlaps itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from evmlb.errors import Fault
from evmlb.events import Events
from evmlb.examining import CheckFailed, Examination
from evmlb.interfaces import Upstream
from evmlb.network import Network
from evmlb.node import Node, Poll
from evmlb.policy.ratelimit import parse_retry_after
from evmlb.question import AskFailed

LOAD_SECONDS = 5.0
BACK_OFF_SECONDS = 0.25
SPREAD_SECONDS = 1.0
"""The first polls are spread over this time, or over the interval if that is shorter; the first node's is at once."""
FASTEST_SECONDS = 0.25
"""A suspicious node is not polled more often than this, unless its interval is shorter anyway."""
LOOK_SECONDS = 1.0
"""A change of a node that asks for an earlier round is noticed after this, or after a quarter of the interval."""
LONGEST_REST = 12
"""A metered node that is not needed is polled once in at most so many intervals."""
PUSHED = 2
"""So many intervals lie between the polls of a node that pushes its heads."""
PUSHED_BLOCKS = 3
"""A node that pushed no head for so many block times does not push: polls take over."""
CHECK_FAILED = "check_failed"

T = TypeVar("T")


class LoadSource(Protocol):
    """Where a node's load comes from."""

    def fetch(self) -> Deferred[float]:
        """Fire with the load, or fail; cancellable."""
        ...


class Cadence:
    """When a node's next round is due.

    ============================================================  ==================================================
    the last round failed, or the node is suspect or ejected      a quarter of the interval, but 0.25 s or more
    it is metered, healthy, and not in the serving tier           2, 4, 8, then 12 intervals
    it pushes its heads: the last came within three block times   2 intervals
    otherwise                                                     the interval
    ============================================================  ==================================================

    The state is looked at every ``look_seconds``, by the clock: so a change acts soon, rounds stay on one grid, and
    there is no timer to set anew. The node is told the gap after each good round (``poll_gap_seconds``), since that
    is how long the word of this one must last.
    """

    def __init__(self, network: Network, node: Node) -> None:
        interval = node.interval_seconds
        self._network = network
        self._node = node
        self._fast_seconds = interval / max(1, min(4, int(interval / FASTEST_SECONDS)))
        self.look_seconds = self._fast_seconds / math.ceil(self._fast_seconds / LOOK_SECONDS)
        self._began_at = -math.inf
        self._failed = False  # the last round
        self._rests = 0  # rounds in a row after which the node was not needed

    def due(self, now: float) -> bool:
        """Whether a round should begin; half a look early, because neither timers nor floats are exact."""
        return now - self._began_at >= self._gap(now) - self.look_seconds / 2

    def begin(self, now: float) -> None:
        """A round, or a probe in its place, begins."""
        self._began_at = now
        if not self._is_at_rest():
            self._rests = 0

    def end(self, now: float, *, good: bool) -> None:
        """It is over."""
        self._failed = not good
        if self._is_at_rest():
            self._rests += 1
        if good:
            self._node.poll_gap_seconds = self._gap(now)

    def _gap(self, now: float) -> float:
        if self._is_suspicious():
            return self._fast_seconds
        if self._is_at_rest():
            intervals = min(2.0**self._rests, LONGEST_REST)
        else:
            intervals = PUSHED if self._pushes(now) else 1.0
        return intervals * self._node.interval_seconds

    def _pushes(self, now: float) -> bool:
        """Whether the node's heads come by themselves: a poll then only tells that it still answers."""
        pushed_at, block_time = self._node.pushed_at, self._network.block_time_seconds
        return pushed_at is not None and block_time is not None and now - pushed_at < PUSHED_BLOCKS * block_time

    def _is_suspicious(self) -> bool:
        return self._failed or self._node.suspect or self._node.ejected

    def _is_at_rest(self) -> bool:
        node = self._node
        if not node.config.metered or not node.healthy or self._is_suspicious():
            return False
        return node not in self._network.order.serving


class NodePoller:
    """The polling of one node.

    ``unix_time`` is the wall clock, needed only to tell whether a block's timestamp, or the date of a Retry-After,
    lies in the future.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        network: Network,
        node: Node,
        upstream: Upstream,
        publish: Callable[[Events], None],
        now: Callable[[], float],
        unix_time: Callable[[], float],
        load_source: LoadSource | None = None,
    ) -> None:
        self._reactor = reactor
        self._network = network
        self._node = node
        self._publish = publish
        self._now = now
        self._unix_time = unix_time
        self._load_source = load_source
        self.interval_seconds = node.interval_seconds
        self._cadence = Cadence(network, node)
        self._examination = Examination(reactor, network, node, upstream, publish, now, unix_time)
        self._try_seconds = self._examination.try_seconds
        self._tries = max(1, network.config.rpc_retries)
        self._counts_for_breaker = network.config.health_check.combined_with_circuit_breaker
        self._loops: list[LoopingCall] = []
        self._starting: list[Any] = []
        self._under_way: dict[str, Deferred[Any]] = {}
        self.outcomes: Counter[str] = Counter()
        """How often polls ended how: ``ok``, ``check_failed``, ``load_error``, or the value of a fault."""

    def start(self, delay_seconds: float) -> None:
        """Begin after a while, so that nodes are not polled in step."""
        self._add_loop("poll", self._look, self._cadence.look_seconds, delay_seconds)
        source = self._load_source
        if source is not None:
            interval = max(LOAD_SECONDS, self.interval_seconds)
            self._add_loop("load", lambda: self._ask_load(source), interval, delay_seconds)

    def _add_loop(
        self, what: str, function: Callable[[], Coroutine[Any, Any, None]], interval: float, delay_seconds: float
    ) -> None:
        loop = LoopingCall(lambda: self._watch(what, function()))
        loop.clock = self._reactor
        self._starting.append(self._reactor.callLater(delay_seconds, self._begin, loop, interval))

    def _begin(self, loop: LoopingCall, interval: float) -> None:
        self._loops.append(loop)
        loop.start(interval).addErrback(lambda failure: self.log.failure("polling of a node ended", failure))

    def stop(self) -> None:
        """Poll no more; what is under way is given up."""
        for delayed in self._starting:
            if delayed.active():
                delayed.cancel()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for under_way in tuple(self._under_way.values()):
            under_way.cancel()

    def _watch(self, what: str, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Run something that ``stop`` gives up, and that ends no loop whatever goes wrong."""
        running = self._under_way[what] = Deferred.fromCoroutine(coroutine)
        return running.addErrback(self._survive)

    def _survive(self, failure: Any) -> None:
        """Whatever went wrong in a round, the next one comes; being stopped is nothing wrong."""
        if not failure.check(defer.CancelledError):
            self.log.failure("a poll of {node} went wrong", failure, node=self._node.name)

    # one round

    async def _look(self) -> None:
        """Poll or probe the node if that is due."""
        now = self._now()
        limit = self._node.limit
        if not limit.limited:
            if self._cadence.due(now):
                self._cadence.begin(now)
                await self._poll(now)
        elif limit.probe_due(now):
            self._cadence.begin(now)
            await self._probe(now)

    async def _poll(self, now: float) -> None:
        self._examination.begin_round()
        if self._counts_for_breaker and self._node.breaker.due(now):
            self._network.begin_trial(self._node, now)
        for left in range(self._tries - 1, -1, -1):
            try:
                poll = await self._try(self._examination.examine())
            except (AskFailed, CheckFailed, defer.TimeoutError) as error:
                if _is_limit(error):
                    self._note_limit(error)
                    return
                self._note_failure(error, final=left == 0)
                if left:
                    await deferLater(self._reactor, BACK_OFF_SECONDS)
            else:
                self._note_good(poll)
                return

    async def _probe(self, now: float) -> None:
        """One question, the cheapest, to a node that is held off."""
        node = self._node
        self._examination.begin_round()
        node.limit.begin_probe(now)
        try:
            poll = await self._try(self._examination.ask_head())
        except (AskFailed, defer.TimeoutError) as error:
            self._publish(self._network.observe_probe(node, False, self._retry_after(error), self._now()))
            if _is_limit(error):
                self.outcomes[Fault.RATE_LIMITED.value] += 1
            else:
                self._note_failure(error, final=True)
        else:
            self._note_good(poll)  # first: it must not be let in with the head that it had when it was held off
            self._publish(self._network.observe_probe(node, True, None, self._now()))

    def _try(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        return Deferred.fromCoroutine(coroutine).addTimeout(self._try_seconds, self._reactor)

    # what came of it

    def _note_good(self, poll: Poll) -> None:
        now = self._now()
        self.outcomes["ok"] += 1
        self._publish(self._network.observe_poll(self._node, poll, now))
        self._count_success(now)
        self._cadence.end(self._now(), good=True)
        if self._examination.checkpoint_due:
            self._watch("checkpoint", self._examination.ask_checkpoint())  # beside the loop, as the next one
        if self._examination.details_due and not self._node.limit.limited:
            self._watch("details", self._examination.ask_details())  # beside the loop: nothing waits for it

    def _note_failure(self, error: Exception, *, final: bool) -> None:
        outcome, words = self._describe(error)
        now = self._now()
        self.outcomes[outcome] += 1
        if final and outcome == CHECK_FAILED:
            self._count_success(now)  # before the failure is told, since a success ends a suspicion
        self._publish(self._network.observe_poll_failure(self._node, words, now, final=final))
        if final:
            self._count_failure(outcome, words, now)
            self._cadence.end(self._now(), good=False)

    def _note_limit(self, error: Exception) -> None:
        """The node is not to be asked for a while: neither a good poll nor a bad one."""
        self.outcomes[Fault.RATE_LIMITED.value] += 1
        _, words = self._describe(error)
        self._publish(self._network.record_limited(self._node, self._retry_after(error), self._now(), words))

    def _count_success(self, now: float) -> None:
        """A success resets the breaker's counts. Of an open one, only a trial's is of interest."""
        breaker = self._node.breaker
        wanted = breaker.in_trial(now) if breaker.ejected else breaker.failing
        if self._counts_for_breaker and wanted:
            self._publish(self._network.record_success(self._node, now))

    def _count_failure(self, outcome: str, reason: str, now: float) -> None:
        if self._counts_for_breaker and outcome != CHECK_FAILED:
            self._publish(self._network.record_failure(self._node, reason, now, proven=True))

    def _describe(self, error: Exception) -> tuple[str, str]:
        """How a try ended, as a name to count by and in words."""
        if isinstance(error, AskFailed):
            return error.fault.value, str(error)
        if isinstance(error, CheckFailed):
            return CHECK_FAILED, str(error)
        return Fault.TIMED_OUT.value, f"no answer to a poll within {self._try_seconds:g} s"

    def _retry_after(self, error: Exception) -> float | None:
        value = error.retry_after if isinstance(error, AskFailed) else b""
        return parse_retry_after(value, self._unix_time())

    # load

    async def _ask_load(self, source: LoadSource) -> None:
        try:
            load: float | None = await source.fetch().addTimeout(self._try_seconds, self._reactor)
        except defer.CancelledError:
            raise
        except Exception as error:
            # whatever an exporter does must not end the loop; a load that is unknown sorts last
            self.log.debug("load of {node}: {error}", node=self._node.name, error=error)
            self.outcomes["load_error"] += 1
            load = None
        self._publish(self._network.observe_load(self._node, load, self._now()))


def _is_limit(error: Exception) -> bool:
    return isinstance(error, AskFailed) and error.fault is Fault.RATE_LIMITED


def spread(pollers: list[NodePoller]) -> None:
    """Start the pollers of one network, the first at once, the others spread out."""
    for place, poller in enumerate(pollers):
        window = min(SPREAD_SECONDS, poller.interval_seconds)
        poller.start(window * place / len(pollers) if place else 0.0)
