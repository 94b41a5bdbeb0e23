"""What there is to read: the sources, and what is counted of the networks' events."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Protocol

import twisted
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    Event,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeLimitLifted,
    NodeOnWrongChain,
    NodeRateLimited,
    NodeTimeAhead,
    NodeWentDown,
    OrderChanged,
)
from evmlb.metrics.lag import LoopLag
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.pace import Paces
from evmlb.stats import FrontStats, NetworkStats, WebSocketStats

NODE_CHANGES: dict[type[Event], str] = {
    NodeWentDown: "went_down",
    NodeCameUp: "came_up",
    NodeBecameSuspect: "became_suspect",
    NodeFellBehind: "fell_behind",
    NodeCaughtUp: "caught_up",
    NodeHeadDoubted: "head_doubted",
    NodeOnWrongChain: "on_wrong_chain",
    NodeRateLimited: "rate_limited",
    NodeLimitLifted: "limit_lifted",
    NodeTimeAhead: "time_ahead",
}
"""The events of one node, as they are called in a label."""


class Connections(Protocol):
    """The connections to one node. ``unasked``: answers that came on them though nobody waited for one."""

    @property
    def unasked(self) -> int:
        """How many since the start."""
        ...


class FanOutNumbers(Protocol):
    """What is known of events on their way to subscribers."""

    delivered: int
    lag_seconds: float


class BlocksNumbers(Protocol):
    """What is known of the blocks that subscribers are told of."""

    backfilled: int
    deepest_reorg: int


class LogsNumbers(Protocol):
    """What is known of the logs that they are told of."""

    @property
    def unproven(self) -> int:
        """Blocks whose bloom promised logs that no node gave."""
        ...


class HubNumbers(Protocol):
    """The subscriptions of one network."""

    @property
    def gaps_possible(self) -> int:
        """How often events of a relayed topic may have been missed."""
        ...

    @property
    def cuts(self) -> int:
        """How often subscribers were closed because something could not be made up for."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there are, by kind."""
        ...

    @property
    def fanout(self) -> FanOutNumbers:
        """Events on their way."""
        ...

    @property
    def blocks(self) -> BlocksNumbers:
        """Heads."""
        ...

    @property
    def logs(self) -> LogsNumbers:
        """Logs."""
        ...


class SocketCounts(Protocol):
    """What is counted of the WebSockets to one node."""

    losses: int
    messages_in: int
    messages_out: int


class SocketNumbers(Protocol):
    """The WebSocket to one node."""

    @property
    def stats(self) -> SocketCounts:
        """What is counted."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether it stands."""
        ...


@dataclass(frozen=True, slots=True)
class MetricsSource:
    """Where the numbers of one network are.

    ``poll_outcomes``, ``connections`` and ``sockets``: one per node, in the order of ``network.nodes``. Families for
    which there is no source (no ``connections``, ``paces``, ``hub`` or ``sockets``) stay empty.
    """

    network: Network
    stats: NetworkStats
    poll_outcomes: tuple[Counter[str], ...]
    connections: tuple[Connections, ...] = ()
    paces: Paces | None = None
    hub: HubNumbers | None = None
    sockets: tuple[SocketNumbers, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeNumbers:
    """One node: ``by_name`` and ``by_endpoint`` are its labels in ``evmlb_*`` and ``loadbalancer_*`` families."""

    node: Node
    polls: Counter[str]
    by_name: tuple[str, str]
    by_endpoint: tuple[str, str]


class NetworkNumbers:
    """One network."""

    def __init__(self, source: MetricsSource) -> None:
        self.network = source.network
        self.stats = source.stats
        self.connections = source.connections
        self.paces = source.paces
        self.hub = source.hub
        self.sockets = source.sockets
        self.labels = (source.network.name,)
        endpoints = _endpoint_labels(source.network.nodes)
        self.nodes = tuple(
            NodeNumbers(node, polls, (*self.labels, node.name), (*self.labels, endpoint))
            for node, polls, endpoint in zip(source.network.nodes, source.poll_outcomes, endpoints, strict=True)
        )


def _endpoint_labels(nodes: Iterable[Node]) -> list[str]:
    """The masked endpoints. The same twice would void the whole page: the second gets the node's name behind it."""
    labels: list[str] = []
    for node in nodes:
        label = node.config.endpoint.masked
        labels.append(f"{label}#{node.name}" if label in labels else label)
    return labels


class Numbers:
    """Everything that families read."""

    def __init__(
        self,
        sources: Iterable[MetricsSource],
        front: FrontStats,
        version: str,
        now: Callable[[], float],
        loop: str,
        loop_lag: LoopLag | None,
        websockets: WebSocketStats | None = None,
    ) -> None:
        self.networks = tuple(NetworkNumbers(source) for source in sources)
        self.front = front
        self.websockets = websockets or WebSocketStats()
        self.build = (version, platform.python_version(), twisted.__version__, loop)
        self.now = now
        self.loop_lag = loop_lag
        self.started_at = time.time()
        self.order_changes: Counter[str] = Counter()
        self.reorders: Counter[str] = Counter()
        self.chainhead_drops: Counter[str] = Counter()
        self.disputes: Counter[str] = Counter()
        self.node_changes: Counter[tuple[str, str, str]] = Counter()

    @singledispatchmethod
    def count(self, event: Event) -> None:
        """Count one event; here: of a node."""
        change = NODE_CHANGES.get(type(event))
        if change is not None:
            self.node_changes[event.network, event.node, change] += 1  # type: ignore[union-attr]

    @count.register
    def _count_order(self, event: OrderChanged) -> None:
        self.order_changes[event.network] += 1
        self.reorders[event.network] += event.reordered

    @count.register
    def _count_dispute(self, event: ChainIdDisputed) -> None:
        self.disputes[event.network] += 1

    @count.register
    def _count_chainhead(self, event: ChainheadMoved) -> None:
        if event.previous is not None and (event.number is None or event.number < event.previous):
            self.chainhead_drops[event.network] += 1
