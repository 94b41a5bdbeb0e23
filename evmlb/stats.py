"""What is counted about requests: plain numbers, cheap to add to, read by whoever shows them.

A metrics library's counter takes a lock and 0.4 us per step, four of them a tenth of the whole request; an attribute
takes 0.03. The metrics page reads these when it is asked (:mod:`evmlb.metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from evmlb.methods import MethodClass

DURATION_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the original's duration histogram; above the last is infinity."""
MAX_CLIENTS = 500
"""So many client addresses get series of their own, over all networks; the rest are counted under ``other``."""
OTHER_CLIENTS = "other"


class ClientSeries:
    """How many clients may still get a series of their own; shared by all networks of a process."""

    __slots__ = ("left",)

    def __init__(self, most: int = MAX_CLIENTS) -> None:
        self.left = most


class NetworkStats:
    """The requests of one network since the start. ``client_series`` bounds ``by_client``."""

    __slots__ = (
        "_client_series",
        "answered",
        "by_client",
        "duration_counts",
        "duration_sum_seconds",
        "failed",
        "failovers",
        "handed_over",
        "hedges",
        "hedges_denied",
        "hedges_won",
        "in_flight",
        "queued",
        "queued_by_class",
        "refusals",
        "retries_denied",
        "shed",
        "verdicts",
    )

    def __init__(self, node_count: int, client_series: ClientSeries | None = None) -> None:
        self._client_series = client_series or ClientSeries()
        self.by_client: dict[str, int] = {}
        self.duration_counts = [0] * (len(DURATION_BOUNDS_SECONDS) + 1)
        self.duration_sum_seconds = 0.0
        self.answered = [[0] * len(MethodClass) for _ in range(node_count)]  # attempts, by node and method class
        self.failed: Counter[tuple[int, MethodClass, str]] = Counter()  # attempts, by node, class and outcome
        self.verdicts: Counter[str] = Counter()  # errors of nodes, by the rule that judged them
        self.refusals: Counter[int] = Counter()  # by HTTP status
        self.failovers = 0
        self.handed_over = 0  # attempts taken from a node that went down, to be made elsewhere
        self.retries_denied = 0  # for want of budget
        self.hedges = 0
        self.hedges_won = 0  # a node asked later was faster
        self.hedges_denied = 0  # for want of budget
        self.in_flight = 0
        self.queued = 0
        self.queued_by_class = (0, 0, 0)  # fast-track, high, low; requests bound to a node are in none
        self.shed = 0  # refused because too many wait, or for too long

    @property
    def requests(self) -> int:
        """Requests that were proxied, whatever came of it; a batch counts once."""
        return sum(self.duration_counts)

    def record_request(self, client: str, seconds: float) -> None:
        """A proxied request is done."""
        self.duration_counts[bisect_left(DURATION_BOUNDS_SECONDS, seconds)] += 1
        self.duration_sum_seconds += seconds
        by_client = self.by_client
        if client in by_client:
            by_client[client] += 1
        elif self._client_series.left > 0:
            self._client_series.left -= 1
            by_client[client] = 1
        else:
            by_client[OTHER_CLIENTS] = by_client.get(OTHER_CLIENTS, 0) + 1


class FrontStats:
    """The connections of clients."""

    __slots__ = ("accepted", "bad_requests", "gzip_bytes_in", "gzip_bytes_out", "gzip_skipped", "open", "rejected")

    def __init__(self) -> None:
        self.open = 0
        self.accepted = 0
        self.rejected = 0  # over max_connections
        self.bad_requests: Counter[int] = Counter()  # answered without a network, by HTTP status
        self.gzip_bytes_in = 0  # of answers that were compressed
        self.gzip_bytes_out = 0
        self.gzip_skipped = 0  # answers that went plain because too much was waiting


class WebSocketStats:
    """The WebSockets of clients, all networks together."""

    __slots__ = ("accepted", "calls", "closes", "messages_in", "messages_out", "open", "rejected", "slow_closed")

    def __init__(self) -> None:
        self.open = 0
        self.accepted = 0
        self.rejected = 0  # over a limit, from a strange origin, or while evmlb stops
        self.messages_in = 0
        self.messages_out = 0  # events of subscriptions included
        self.calls = 0  # sent on to nodes; a batch counts once
        self.slow_closed = 0  # did not read what was sent
        self.closes: Counter[int] = Counter()  # ended, by close code; 1006 without one
