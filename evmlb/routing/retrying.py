"""Whether a request that failed goes on, after what pause, and what its client gets in the end.

* Each eligible node of the serving tier and one of the next is tried, and at least 1 + ``rpc_retries``.
* Retries must not double the load of a network that is broken. So those that were *in vain* are charged to a budget
  (20 % of the requests, and never less than 10 a second), when they have failed: a retry that helps costs nothing,
  however many there are at the moment a node dies. Finagle's ``RetryBudget`` and eRPC's count all of them, and so give
  up requests that the next node would have answered. Errors that nodes answer with have a budget of their own, so that
  who asks for what fails everywhere does not spend that for broken connections.
* Outside the budget stands what costs a node nothing: a request that was surely not carried out, and one whose failure
  blames nobody (a pruned node, a method that is not there).
* With nobody untried left, two things may change by themselves: a node that could not be reached may be back in a
  moment, and a block that is not there yet may be there after a part of a block time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import orjson

from evmlb.errors import Fault
from evmlb.exchange import Exchange
from evmlb.jsonrpc import Unreadable, decoder
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.blocks import block_reference, recent
from evmlb.policy.budget import Budget
from evmlb.policy.members import looked_at
from evmlb.policy.verdicts import Verdict
from evmlb.routing.effort import Effort, effort_of, tried_by, tries_of
from evmlb.stats import NetworkStats

AGAIN_SECONDS = 0.1
"""The pause before a node is asked again that failed already, when there is no other; doubles each time."""
NEWS_SHARE = 0.5
"""The part of a block time that is waited for data which is not there yet."""
NEWS_SECONDS = (0.1, 2.0)
"""At least, and at most."""
UNKNOWN_BLOCK_TIME_SECONDS = 1.0


class Retrying:
    """The retries of one network."""

    def __init__(self, network: Network, stats: NetworkStats) -> None:
        config = network.config.retry_budget
        self._network = network
        self._stats = stats
        self._tries = 1 + network.config.rpc_retries
        share = (config.budget_percent, config.budget_min_per_second)
        self._for_errors, self._for_faults = Budget(*share), Budget(*share)

    def tick(self, total_requests: int, now: float) -> None:
        """About once a second."""
        self._for_errors.tick(total_requests, now)
        self._for_faults.tick(total_requests, now)

    def untried(self, exchange: Exchange, eligible: Sequence[Node]) -> Sequence[Node]:
        """Those of the ``eligible`` nodes that are worth an attempt.

        As many as configured, yet in any case each of the serving tier, one of the next, and each that is ejected: it
        may be well again.
        """
        if tries_of(exchange) < self._tries or not eligible:
            return eligible
        order = self._network.order
        had_reserve = any(node in order.reserve for node in tried_by(exchange))
        return [node for node in eligible if not had_reserve or node not in order.reserve]

    def affords(self, effort: Effort, now: float) -> bool:
        """Whether the budget has room for a retry after the last verdict."""
        verdict = effort.verdicts[-1]
        if not _counts(verdict):
            return True
        budget = self._budget_of(verdict)
        if not budget.may_spend(self._stats.requests + self._stats.in_flight, now):
            self._stats.retries_denied += 1
            return False
        effort.paid_by = budget
        return True

    def charge(self, effort: Effort, now: float) -> None:
        """An attempt failed; if it was a retry, it was in vain."""
        budget, effort.paid_by = effort.paid_by, None
        if budget is not None:
            budget.spend(now)

    def _budget_of(self, verdict: Verdict) -> Budget:
        return self._for_errors if verdict.fault is Fault.RPC_ERROR else self._for_faults

    def pause_seconds(self, exchange: Exchange) -> float | None:
        """How long to wait before all nodes may be asked anew; None when nothing is to be hoped for."""
        effort, tries = effort_of(exchange), tries_of(exchange)
        verdict = effort.verdicts[-1]
        if any(verdict.not_there_yet for verdict in effort.verdicts):
            return self._news_pause(exchange, effort)
        passes = verdict.retry_here or verdict.fault in (Fault.UNREACHABLE, Fault.DISCONNECTED)
        if not passes or effort.saved is not None or tries >= self._tries:
            return None
        return float(AGAIN_SECONDS * 2 ** max(0, tries - len(set(effort.tried))))

    def _news_pause(self, exchange: Exchange, effort: Effort) -> float | None:
        if effort.paused or exchange.call is None or not self._may_come(exchange):
            return None
        effort.paused = True
        block_time = self._network.block_time_seconds or UNKNOWN_BLOCK_TIME_SECONDS
        least, most = NEWS_SECONDS
        return min(max(least, NEWS_SHARE * block_time), most)

    def _may_come(self, exchange: Exchange) -> bool:
        """Whether what was missing is at the tip of the chain."""
        call, chainhead = exchange.call, self._network.chainhead
        return call is not None and any(
            recent(block_reference(member.method, member.params), chainhead) for member in looked_at(call)
        )


def _counts(verdict: Verdict) -> bool:
    """Whether a retry after this costs the nodes something: not where nobody is to blame or nothing was done."""
    return bool(verdict.blame) and not verdict.not_executed


def outward(exchange: Exchange, verdict: Verdict, parts: list[bytes]) -> list[bytes]:
    """The body of an error as the client gets it: as it is, but for a code that a rule replaces."""
    call = exchange.call
    if verdict.client_code is None or call is None or call.members is not None:
        return parts
    try:
        error = _read_answer(b"".join(parts)).error
    except Unreadable:
        return parts
    given = {name: orjson.Fragment(bytes(value)) for name, value in error.items()}
    error_with_code = orjson.dumps(given | {"code": verdict.client_code})
    return [b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call.id or b"null", error_with_code)]


class _Answer(msgspec.Struct, gc=False):
    error: dict[str, msgspec.Raw]


_read_answer = decoder(_Answer)


def outvoted(verdict: Verdict) -> Verdict:
    """The verdict on one node's refusal of a transaction that others are being asked to take as well."""
    return replace(verdict, fault=Fault.RPC_ERROR, informative=True, retry=False)
