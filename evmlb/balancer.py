"""All parts of one evmlb, each made once, then joined::

    networks -> upstreams -> pollers -> routers -> hubs -> front -> bridge -> metrics

What starts them, and stops them in order, is :mod:`evmlb.service`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.logger import Logger

from evmlb import __version__, logs
from evmlb.admin.readiness import Readiness
from evmlb.bridge.bridge import Bridge
from evmlb.bridge.search import Nodes
from evmlb.config.schema import Config, LogLevel, NetworkConfig, NodeConfig, Role, WebSocketMode
from evmlb.deadlines import Deadlines
from evmlb.events import Events, NodeWentDown
from evmlb.front.front import Front
from evmlb.logs import EventLog
from evmlb.metrics import LoopLag, Metrics, MetricsSource
from evmlb.network import Network
from evmlb.policy.balancing import chooser
from evmlb.policy.shares import Shares
from evmlb.policy.verdicts import Verdicts
from evmlb.polling import NodePoller
from evmlb.routing import Router
from evmlb.stats import ClientSeries
from evmlb.subscribing import Hub
from evmlb.subscribing.feeds import Feed
from evmlb.trail import Ring
from evmlb.upstream.exporter import Exporter
from evmlb.upstream.http import Connect, HttpUpstream
from evmlb.upstream.link import Target
from evmlb.upstream.multiplexed import WebSocketUpstream
from evmlb.upstream.piping import Dialler
from evmlb.upstream.websocket import NodeSocket
from evmlb.wire.reactor import native_loop
from evmlb.wire.sockets import connect, raise_descriptor_limit
from evmlb.wire.threads import Threads

CONNECT_SECONDS = 2.0
"""Connecting to a node takes at most this, or ``rpc_timeout`` if that is shorter."""
CONNECTIONS_SHARE = 0.4
"""The share of the descriptor limit that clients may use; nodes get as many, the rest is for everything else."""
DEFAULT_BLOCK_TIME_SECONDS = 12.0
"""Ethereum's own, until the network's is known."""

NodeUpstream = HttpUpstream | WebSocketUpstream
"""The client of one node, by its endpoint's scheme."""

_log = Logger(namespace="evmlb")


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """Everything that serves one network."""

    network: Network
    upstreams: tuple[NodeUpstream, ...]
    exporters: tuple[Exporter, ...]
    pollers: tuple[NodePoller, ...]
    router: Router
    hub: Hub | None  # of clients' subscriptions, where the network has WebSocket
    sockets: tuple[NodeSocket, ...]  # to the nodes, for the hub
    pipes: Nodes | None  # for WebSockets that are passed on, where the network has WebSocket


class Balancer:
    """All parts of one evmlb. ``reactor`` is the running one; clocks, randomness and the way to nodes may be given."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        now: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        watch: Callable[[Events], None] | None = None,
        connect: Connect = connect,
    ) -> None:
        self.config = config
        self.reactor = reactor
        self.now = now
        self.unix_time = unix_time
        self.rng = rng or random.Random()
        self.watch = watch
        self._connect = connect
        self.deadlines = Deadlines(reactor, now)
        self.event_log = EventLog()
        self._client_series = ClientSeries()
        self._subscription_memory = Shares(config.websocket.max_subscription_memory_bytes)
        self._verdicts = Verdicts(config.verdicts)
        self.ring = Ring(config.explain_kept, now)
        self.networks = {network.name: self._make_network(network) for network in config.networks}
        routers = {name: parts.router for name, parts in self.networks.items()}
        descriptors = raise_descriptor_limit()  # also where max_connections is set: nodes need them too
        limit = config.limits.max_connections or int(descriptors * CONNECTIONS_SHARE)
        self.threads = Threads(reactor, config.gzip.threads, "gzip")
        self.front = Front(config, routers, limit, now, self.threads)
        hubs = {name: parts.hub for name, parts in self.networks.items() if parts.hub is not None}
        pipes = {name: parts.pipes for name, parts in self.networks.items() if parts.pipes is not None}
        self.bridge = Bridge(config, limit, self.front.memory, now, hubs, pipes)
        self.front.upgrades = self.bridge
        self.loop_lag = LoopLag(reactor, now)
        self.metrics = Metrics(
            [_source(parts) for parts in self.networks.values()],
            self.front.stats,
            __version__,
            now,
            loop=_loop_name(reactor),
            loop_lag=self.loop_lag,
            websockets=self.bridge.stats,
        )
        self.readiness = Readiness([parts.network for parts in self.networks.values()], now())

    def _make_network(self, config: NetworkConfig) -> NetworkParts:
        network = Network(config, self.now(), self.rng)
        upstreams = tuple(self._make_upstream(config, node.config) for node in network.nodes)
        router = Router(
            network,
            upstreams,
            self.deadlines,
            self.publish,
            chooser(config.strategy, self.rng),
            client_series=self._client_series,
            debug=_log if self.config.log_level in (LogLevel.DEBUG, LogLevel.TRACE) else None,
            verdicts=self._verdicts,
            ring=self.ring,
            unix_time=self.unix_time,
        )
        pollers, exporters = [], []
        for node, upstream in zip(network.nodes, upstreams, strict=True):
            exporter = None
            if config.use_load_tracker and node.config.prometheus_endpoint is not None:
                exporter = Exporter(self.reactor, node.config.prometheus_endpoint, config.load_period_minutes)
                exporters.append(exporter)
            pollers.append(
                NodePoller(self.reactor, network, node, upstream, self.publish, self.now, self.unix_time, exporter)
            )
        hub, sockets = self._make_hub(network, upstreams)
        pipes = self._make_pipes(network, router)
        return NetworkParts(network, upstreams, tuple(exporters), tuple(pollers), router, hub, sockets, pipes)

    def _make_hub(
        self, network: Network, upstreams: Sequence[NodeUpstream]
    ) -> tuple[Hub | None, tuple[NodeSocket, ...]]:
        if network.config.websocket is not WebSocketMode.SUBSCRIPTIONS:
            return None, ()
        hub = Hub(network, upstreams, self.reactor, self.now, self.rng, self.publish, self._subscription_memory)
        for node in network.nodes:
            feed = Feed(node, hub)
            feed.socket = NodeSocket(self.reactor, node.config, self.now, self.rng, feed, connect=self._connect)
            hub.feeds.append(feed)
        return hub, tuple(feed.socket for feed in hub.feeds)

    def _make_pipes(self, network: Network, router: Router) -> Nodes | None:
        if network.config.websocket is not WebSocketMode.PASSTHROUGH:
            return None
        targets = [Target(self.reactor, node.config, self.now) for node in network.nodes]
        most = self.config.limits.max_header_bytes
        diallers = [
            Dialler(self.reactor, target, node.config, most, self._connect)
            for target, node in zip(targets, network.nodes, strict=True)
        ]
        strategy = chooser(network.config.strategy, self.rng)
        return Nodes(network, diallers, strategy, self.publish, self.now, self.unix_time, router.vacated)

    def _make_upstream(self, network: NetworkConfig, node: NodeConfig) -> NodeUpstream:
        if node.endpoint.scheme in ("ws", "wss"):
            return WebSocketUpstream(self.reactor, node, self.config.limits, self.now, self._connect)
        timeout = min(network.rpc_timeout_seconds, CONNECT_SECONDS)
        return HttpUpstream(self.reactor, node, self.config.limits, timeout, self.now, self._connect)

    def publish(self, events: Events) -> None:
        """Take what happened to everyone who wants to know, and let those go on who wait for a change."""
        if not events:
            return
        self.event_log.observe(events)
        self.metrics.observe(events)
        if self.watch is not None:
            self.watch(events)
        for event in events:
            if isinstance(event, NodeWentDown):
                self.networks[event.network].router.leave_node(event.node)
        for name in {event.network for event in events}:
            parts = self.networks[name]
            parts.router.wake()
            if parts.hub is not None:
                parts.hub.look()

    def tick(self) -> None:
        """Once a second: what only time changes. Whatever goes wrong in one part, the others tick on."""
        now = self.now()
        networks = (partial(self._tick_network, parts, now) for parts in self.networks.values())
        ticks: list[Callable[[], None]] = [logs.sweep, self.front.sweep, self.ring.expire, *networks]
        for tick in ticks:
            with _log.failuresHandled("while the clock ticked"):
                tick()

    def _tick_network(self, parts: NetworkParts, now: float) -> None:
        self.publish(parts.network.expire(now))
        parts.router.tick(now)
        for upstream in parts.upstreams:
            upstream.sweep(now)
        if parts.hub is not None:
            parts.hub.look()
            see_to_sockets(parts)


def see_to_sockets(parts: NetworkParts) -> None:
    """Those that cost or are only guessed are kept while somebody is subscribed; the others always."""
    if parts.hub is None:
        return  # there are none
    is_wanted = any(parts.hub.counts.values())
    for node, node_socket in zip(parts.network.nodes, parts.sockets, strict=True):
        node_socket.block_time_seconds = parts.network.block_time_seconds or DEFAULT_BLOCK_TIME_SECONDS
        free = not node.config.metered and (node.role is Role.LOCAL or node.config.ws_endpoint is not None)
        if is_wanted or free:
            node_socket.start()
        elif node.config.metered:
            node_socket.stop()


def _loop_name(reactor: Any) -> str:
    """What runs it: ``uvloop``, ``asyncio``, or the reactor's module (``epollreactor``)."""
    loop = native_loop(reactor)
    if loop is None:
        return type(reactor).__module__.rpartition(".")[2]
    return type(loop).__module__.partition(".")[0]


def _source(parts: NetworkParts) -> MetricsSource:
    polls = tuple(poller.outcomes for poller in parts.pollers)
    return MetricsSource(
        parts.network,
        parts.router.stats,
        polls,
        parts.upstreams,
        parts.router.paces,
        parts.hub,
        parts.sockets,
    )
