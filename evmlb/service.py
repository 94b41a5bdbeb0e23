"""The composition: every part made once, then joined; what starts first stops last.

    networks -> upstreams -> pollers -> routers -> front -> admin

Stopping runs backwards, one after the other: not ready, stop listening, finish what is in flight (bounded), then the
pollers and upstream connections, then the admin port.
"""

from __future__ import annotations

import gc
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb import __version__, logs
from evmlb.admin.readiness import Readiness
from evmlb.admin.resources import NetworkView, make_admin_site
from evmlb.config.schema import Config, LogLevel, NetworkConfig, Role
from evmlb.events import Events, NodeWentDown
from evmlb.exchange import InFlight
from evmlb.front.front import Front
from evmlb.logs import EventLog
from evmlb.metrics import LoopLag, Metrics, MetricsSource
from evmlb.network import Network
from evmlb.policy.balancing import chooser
from evmlb.policy.verdicts import Verdicts
from evmlb.polling import NodePoller, spread
from evmlb.routing import Router
from evmlb.stats import ClientSeries
from evmlb.trail import Ring
from evmlb.upstream.exporter import Exporter
from evmlb.upstream.http import Connect, HttpUpstream
from evmlb.wire.ports import ports_of
from evmlb.wire.reactor import native_loop
from evmlb.wire.sockets import BuildFactory, bind_tcp, connect, raise_descriptor_limit

CONNECT_SECONDS = 2.0
"""Connecting to a node takes at most this, or ``rpc_timeout`` if that is shorter."""
CONNECTIONS_SHARE = 0.4
"""The share of the descriptor limit that clients may use; nodes get as many, the rest is for everything else."""
TICK_SECONDS = 1.0

_log = Logger(namespace="evmlb")


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """Everything that serves one network."""

    network: Network
    upstreams: tuple[HttpUpstream, ...]
    exporters: tuple[Exporter, ...]
    pollers: tuple[NodePoller, ...]
    router: Router


class OrderedService(MultiService):
    """Stops its children in reverse, each when the one before is done; a child that fails does not stop the rest."""

    def stopService(self) -> Deferred[None]:
        """Stop all; fires when the first child is stopped."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_children())

    async def _stop_children(self) -> None:
        for child in reversed(list(self)):
            try:
                await maybeDeferred(child.stopService)
            except Exception:
                _log.failure("while stopping {child}", child=child)


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
        self.in_flight = InFlight(reactor, now)
        self.event_log = EventLog()
        self._client_series = ClientSeries()
        self._verdicts = Verdicts(config.verdicts)
        self.ring = Ring(config.explain_kept, now)
        self.networks = {network.name: self._make_network(network) for network in config.networks}
        routers = {name: parts.router for name, parts in self.networks.items()}
        descriptors = raise_descriptor_limit()  # also where max_connections is set: nodes need them too
        limit = config.limits.max_connections or int(descriptors * CONNECTIONS_SHARE)
        self.front = Front(config, routers, limit, now)
        self.loop_lag = LoopLag(reactor, now)
        self.metrics = Metrics(
            [_source(parts) for parts in self.networks.values()],
            self.front.stats,
            __version__,
            now,
            loop=_loop_name(reactor),
            loop_lag=self.loop_lag,
        )
        self.readiness = Readiness([parts.network for parts in self.networks.values()], now())

    def _make_network(self, config: NetworkConfig) -> NetworkParts:
        network = Network(config, self.now(), self.rng)
        upstreams = tuple(self._make_upstream(config, node.config) for node in network.nodes)
        router = Router(
            network,
            upstreams,
            self.in_flight,
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
        return NetworkParts(network, upstreams, tuple(exporters), tuple(pollers), router)

    def _make_upstream(self, network: NetworkConfig, node: Any) -> HttpUpstream:
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
            self.networks[name].router.wake()

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


def _loop_name(reactor: Any) -> str:
    """What runs it: ``uvloop``, ``asyncio``, or the reactor's module (``epollreactor``)."""
    loop = native_loop(reactor)
    if loop is None:
        return type(reactor).__module__.rpartition(".")[2]
    return type(loop).__module__.partition(".")[0]


def _source(parts: NetworkParts) -> MetricsSource:
    polls = tuple(poller.outcomes for poller in parts.pollers)
    return MetricsSource(parts.network, parts.router.stats, polls, parts.upstreams, parts.router.paces)


class NodesService(Service):
    """Polling, and everything that goes by the clock."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._ticking = LoopingCall(balancer.tick)
        self._ticking.clock = balancer.reactor

    def startService(self) -> None:
        """Begin to poll; dead nodes delay nothing."""
        super().startService()
        self._balancer.loop_lag.start()
        for parts in self._balancer.networks.values():
            spread(list(parts.pollers))
        self._ticking.start(TICK_SECONDS, now=False).addErrback(
            lambda failure: _log.failure("the clock stopped", failure)
        )

    def stopService(self) -> Deferred[None]:
        """Poll no more, and close the connections to nodes."""
        super().stopService()
        if self._ticking.running:
            self._ticking.stop()
        self._balancer.loop_lag.stop()
        self._balancer.in_flight.cancel_timer()
        closing = []
        for parts in self._balancer.networks.values():
            for poller in parts.pollers:
                poller.stop()
            for upstream in parts.upstreams:
                upstream.close()
            closing += [exporter.close() for exporter in parts.exporters]
        return DeferredList(closing).addCallback(lambda _: None)


class FrontService(Service):
    """The client port. Ports are bound when this is made ready, so that one that is taken is told at once."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._ports: list[Any] | None = None
        self.listening: Deferred[list[int]] = Deferred()
        """Fires with the port numbers once connections are accepted."""

    def privilegedStartService(self) -> None:
        """Open the ports, while privileges are there. Not everyone who runs services calls this (``twist`` does not).

        Ends the program, in words, when one cannot be opened.
        """
        super().privilegedStartService()
        if self._ports is None:
            config, reactor = self._balancer.config, ports_of(self._balancer.reactor)
            factory = BuildFactory(self._balancer.front.build)
            self._ports = open_ports(reactor, config.port, config.listen, factory)

    def startService(self) -> None:
        """Serve."""
        self.privilegedStartService()
        super().startService()
        ports = self._ports or ()
        _log.info("serving {networks} on {where}", networks=", ".join(self._balancer.networks), where=_where(ports))
        self.listening.callback([getattr(port.getHost(), "port", 0) for port in ports])

    def stopService(self) -> Deferred[None]:
        """Drain: see the module's head."""
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        balancer, config = self._balancer, self._balancer.config
        balancer.readiness.draining = True
        balancer.front.closes_connections = True
        if config.shutdown_delay_seconds:
            await deferLater(balancer.reactor, config.shutdown_delay_seconds)
        for port in self._ports or ():
            await maybeDeferred(port.stopListening)
        emptied = balancer.front.drain()
        emptied.addTimeout(config.shutdown_grace_seconds, balancer.reactor)
        try:
            await emptied
        except Exception:
            _log.info("cutting off {count} connections that did not end in time", count=len(balancer.front.lanes))
            balancer.front.abort()


def _where(ports: Sequence[Any]) -> str:
    """The ports' numbers, or the paths of UNIX sockets."""
    hosts = [port.getHost() for port in ports]
    return ", ".join(str(getattr(host, "port", None) or getattr(host, "name", host)) for host in hosts)


def open_ports(reactor: Any, port: int, strings: Sequence[str], factory: Any) -> list[Any]:
    """Listen on a TCP port, or on endpoint strings in its place; ends the program when that cannot be."""
    ports: list[Any] = []
    failed: list[Failure] = []
    if not strings:
        try:
            ports.append(adopt(reactor, bind_tcp(port), factory))
        except OSError as error:
            _give_up(f"port {port}", error.strerror or str(error))
    for text in strings:
        opening = maybeDeferred(_listen_on, reactor, text, factory)
        opening.addCallbacks(ports.append, failed.append)
        if failed:
            _give_up(text, failed[0].getErrorMessage())
    return ports


def _listen_on(reactor: Any, text: str, factory: Any) -> Any:
    return serverFromString(reactor, text).listen(factory)


def adopt(reactor: Any, sock: socket.socket, factory: Any) -> Any:
    """Listen on a bound socket; the reactor has its own descriptor of it then."""
    sock.listen()
    port = reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
    sock.close()
    return port


def _give_up(where: str, why: str) -> None:
    raise SystemExit(f"evmlb: cannot listen on {where}: {why}")


class AdminService(Service):
    """The metrics port."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._site = make_admin_site(
            {
                name: NetworkView(parts.network, parts.router.stats, tuple(p.outcomes for p in parts.pollers))
                for name, parts in balancer.networks.items()
            },
            balancer.metrics,
            balancer.readiness,
            balancer.now,
            ring=balancer.ring,
        )
        self._ports: list[Any] | None = None
        self.port = 0

    def privilegedStartService(self) -> None:
        """Open the port, while privileges are there, on Twisted's own transports: nothing here is hot."""
        super().privilegedStartService()
        if self._ports is None:
            config, reactor = self._balancer.config, self._balancer.reactor
            self._ports = open_ports(reactor, config.metrics_port, config.admin_listen, self._site)
            self.port = getattr(self._ports[0].getHost(), "port", 0) if self._ports else 0

    def startService(self) -> None:
        """Serve."""
        self.privilegedStartService()
        super().startService()
        _log.info("metrics, probes and nodes are shown on {where}", where=_where(self._ports or ()))

    def stopService(self) -> Deferred[None]:
        """Close the port."""
        super().stopService()
        closing = [maybeDeferred(port.stopListening) for port in self._ports or ()]
        return DeferredList(closing).addCallback(lambda _: None)


class BalancerService(OrderedService):
    """The whole program as one service. ``watch`` hears every network's events beside log and metrics."""

    def __init__(self, config: Config, reactor: Any, watch: Callable[[Events], None] | None = None) -> None:
        super().__init__()
        self.balancer = Balancer(config, reactor, watch=watch)
        self._admin = AdminService(self.balancer)
        self._front = FrontService(self.balancer)
        for part in (self._admin, NodesService(self.balancer), self._front):
            part.setServiceParent(self)

    def startService(self) -> None:
        """Start all. What was made until now stays: the garbage collector need not look at it again.

        A full collection over 60 MB of modules and tables holds the loop for 40 ms, in the middle of requests.
        """
        super().startService()
        gc.collect()
        gc.freeze()

    @property
    def listening(self) -> Deferred[list[int]]:
        """Fires with the numbers of the client ports once connections are accepted."""
        return self._front.listening

    @property
    def admin_port(self) -> int:
        """The number of the metrics port."""
        return self._admin.port


def make_service(
    config: Config,
    reactor: Any,
    warnings: Sequence[object] = (),
    *,
    watch: Callable[[Events], None] | None = None,
) -> BalancerService:
    """The whole program as one service. ``warnings`` of the configuration are written to the log."""
    for warning in warnings:
        _log.warn("configuration: {words}", words=warning)  # a field called warning means another thing to Twisted
    for network in config.networks:
        _say_who_may_serve(network)
    return BalancerService(config, reactor, watch)


def _say_who_may_serve(network: NetworkConfig) -> None:
    """Once, at the start: the original's documents contradict each other on whether monitoring nodes serve."""
    if any(node.role is Role.MONITORING for node in network.nodes):
        words = "before the fallback nodes" if network.monitoring_nodes_serve else "never (monitoring_nodes_serve)"
        _log.info("{network}: monitoring nodes serve {words}", network=network.name, words=words)
