"""Which node holds which filter.

A filter lives in the node that made it: every later use must go there. The table is bounded, and a filter that nobody
used for ``IDLE_SECONDS`` is forgotten (geth forgets it after five minutes).

Some nodes number filters from 0x1, so two nodes may give the same id. While a node that made a filter may still
serve, new filters are made there too, which keeps ids of one network apart but for a failover in between.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

IDLE_SECONDS = 600.0
MAX_FILTERS = 10_000

Holder = TypeVar("Holder")


class Filters(Generic[Holder]):
    """The filters of one network, by the bytes of their id."""

    def __init__(self, max_filters: int = MAX_FILTERS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._max_filters = max_filters
        self._idle_seconds = idle_seconds
        self._holders: OrderedDict[bytes, tuple[Holder, float]] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._holders)

    def record_created(self, filter_id: bytes, holder: Holder, now: float) -> None:
        """``holder`` made a filter."""
        self._holders[filter_id] = (holder, now)
        self._holders.move_to_end(filter_id)
        self._forget(now)

    def record_removed(self, filter_id: bytes) -> None:
        """The filter is gone."""
        self._holders.pop(filter_id, None)

    def holder(self, filter_id: bytes, now: float) -> Holder | None:
        """Who holds the filter; None for one that is not known. Counts as a use."""
        self._forget(now)
        known = self._holders.get(filter_id)
        if known is None:
            return None
        self._holders[filter_id] = (known[0], now)
        self._holders.move_to_end(filter_id)
        return known[0]

    def latest_holder(self, now: float) -> Holder | None:
        """Who holds the filter used last: where a new one should be made."""
        self._forget(now)
        return next(reversed(self._holders.values()))[0] if self._holders else None

    def _forget(self, now: float) -> None:
        while self._holders:
            filter_id, (_, used_at) = next(iter(self._holders.items()))
            if len(self._holders) <= self._max_filters and now - used_at < self._idle_seconds:
                return
            del self._holders[filter_id]
