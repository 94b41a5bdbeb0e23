"""The services of which the program consists; what starts first stops last.

    admin -> nodes -> front

Stopping runs backwards, one after the other: not ready, stop listening, finish what is in flight (bounded), then the
pollers and upstream connections, then the admin port. The parts themselves are made in :mod:`evmlb.balancer`.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.admin.resources import NetworkView, make_admin_site, readers_of
from evmlb.balancer import Balancer, see_to_sockets
from evmlb.config.schema import Config, NetworkConfig, Role
from evmlb.events import Events
from evmlb.polling import spread
from evmlb.wire.ports import ports_of
from evmlb.wire.sockets import BuildFactory, bind_tcp

TICK_SECONDS = 1.0

_log = Logger(namespace="evmlb")


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
            see_to_sockets(parts)
        self._ticking.start(TICK_SECONDS, now=False).addErrback(
            lambda failure: _log.failure("the clock stopped", failure)
        )

    def stopService(self) -> Deferred[None]:
        """Poll no more, and close the connections to nodes."""
        super().stopService()
        if self._ticking.running:
            self._ticking.stop()
        self._balancer.loop_lag.stop()
        self._balancer.deadlines.cancel_timer()
        closing = []
        for parts in self._balancer.networks.values():
            for poller in parts.pollers:
                poller.stop()
            for node_socket in parts.sockets:
                node_socket.stop()
            if parts.hub is not None:
                parts.hub.stop()
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
        self._balancer.threads.start()
        ports = self._ports or ()
        for network in self._balancer.networks:
            _log.info("{network}: served at {urls}", network=network, urls=", ".join(_urls(ports, network)))
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
        balancer.threads.stop()


def _urls(ports: Sequence[Any], network: str) -> list[str]:
    """What a client on this machine asks; on a UNIX socket the path of it, and that of the network."""
    hosts = [port.getHost() for port in ports]
    return [
        f"http://localhost:{host.port}/{network}"
        if hasattr(host, "port")
        else f"{getattr(host, 'name', host)} /{network}"
        for host in hosts
    ]


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
            readers=readers_of(balancer.config),
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
