"""The metrics of one evmlb, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from evmlb.events import Events
from evmlb.metrics.families import FAMILIES
from evmlb.metrics.lag import LoopLag
from evmlb.metrics.numbers import MetricsSource, Numbers
from evmlb.metrics.page import Page, render
from evmlb.stats import FrontStats, WebSocketStats


class Metrics(Collector):
    """Everything that Prometheus may read.

    ``version`` and ``loop`` (the name of the event loop) are build information; ``loop_lag`` is shown when given;
    ``websockets`` counts those of clients.
    """

    def __init__(
        self,
        sources: Iterable[MetricsSource],
        front_stats: FrontStats,
        version: str,
        now: Callable[[], float],
        *,
        loop: str = "unknown",
        loop_lag: LoopLag | None = None,
        websockets: WebSocketStats | None = None,
    ) -> None:
        self._numbers = Numbers(sources, front_stats, version, now, loop, loop_lag, websockets)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def observe(self, events: Events) -> None:
        """Count what happened."""
        for event in events:
            self._numbers.count(event)

    def render(self, accept: str | None = None) -> Page:
        """Begin a page in the format that an ``Accept`` header asks for; each series is read when it is written."""
        return render(FAMILIES, self._numbers, accept)

    def collect(self) -> Iterator[Metric]:
        """All families, whole, for whoever has prometheus_client's own interface; holds the loop if there are many."""
        for family in FAMILIES:
            yield family.holding(family.rows(self._numbers), canonical=True)

    def describe(self) -> list[Metric]:
        """Nothing: names are not claimed when the registry asks, so that it reads no number at the start."""
        return []
