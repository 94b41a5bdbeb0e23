"""What all client connections share: the networks, the limits, and the end of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evmlb.config.schema import Config, LimitsConfig, LogLevel
from evmlb.errors import NO_WEBSOCKET, Refusal
from evmlb.exchange import Exchange
from evmlb.front.answers import Answers
from evmlb.front.clients import UNIX_PEER, ClientAddresses, plain_address
from evmlb.front.cors import cors_of
from evmlb.front.lane import Lane
from evmlb.front.marks import Marks
from evmlb.front.packing import Packing, Runs
from evmlb.interfaces import ClientConnection, Upgrade, Upgrades
from evmlb.policy.pages import Hosts
from evmlb.policy.shares import Shares
from evmlb.routing import Router
from evmlb.stats import FrontStats
from evmlb.wire.http1 import RequestHead
from evmlb.wire.transport import change_protocol

_log = Logger(namespace="evmlb.front")

_OPAQUE_HEADERS = (
    b"content-type",
    b"accept",
    b"access-control-request-method",
    b"access-control-request-headers",
    b"origin",
)


class Front:
    """The client side of the balancer. ``build`` makes the protocol of one more connection.

    ``upgrades``, where given, makes WebSockets of some of them; they count as connections still. ``threads`` compress
    large answers.
    """

    upgrades: Upgrades | None = None

    def __init__(
        self,
        config: Config,
        routers: Mapping[str, Router],
        max_connections: int,
        now: Callable[[], float],
        threads: Runs | None = None,
    ) -> None:
        self.now = now
        self.routers = dict(routers)
        self.limits: LimitsConfig = config.limits
        self.cors = cors_of(config.cors, now)
        self.hosts = Hosts(config.hosts) if config.hosts else None
        self.answers = Answers(config, self.cors)
        self.clients = ClientAddresses(config.trusted_proxies)
        self.marks = Marks(config, self.clients)
        self.stats = FrontStats()
        self.forward_headers = tuple(name.lower().encode() for name in config.forward_headers)
        self.tracing = config.log_level is LogLevel.TRACE
        self.closes_connections = False
        self.lanes: dict[ClientConnection, str] = {}  # by whose share of connections they are in
        self.memory = Shares(config.limits.max_request_memory_bytes, config.limits.max_body_bytes)
        self.packing = Packing(config.gzip, self.memory, self.stats, threads)
        self._emptied: Deferred[None] | None = None
        self.connections = Shares(max_connections)

    # connections

    def build(self, address: Any) -> Lane | None:
        """A lane for a new connection; None when there are too many, in all or of this peer.

        A trusted peer speaks for clients that are not known as yet: it has no share, but all there is.
        """
        peer = plain_address(getattr(address, "host", "") or UNIX_PEER)
        if not self.connections.take(peer, bound=not self.clients.is_trusted(peer)):
            self.stats.rejected += 1
            return None
        lane = Lane(self, peer)
        self.lanes[lane] = peer
        self.stats.accepted += 1
        self.stats.open += 1
        return lane

    def upgrade(self, lane: Lane, head: RequestHead, router: Router, rest: bytes) -> Refusal | None:
        """Make a WebSocket of a lane's connection, which is the lane's no more; or say why not.

        ``rest``: bytes that came behind the head.
        """
        client = self.clients.client(lane.peer, head.forwarded_for)
        line = self.clients.line(lane.peer, head.forwarded_for)
        says_more = router.prioritises or head.query or self.tracing
        describe = partial(self._describe_call, head, router) if says_more else None
        is_proxy = self.clients.is_trusted(client)
        hosts = self.asked_hosts(head, lane.peer)
        upgrade = Upgrade(head, router, client, self.forwarded(head), line, describe, self.gone, is_proxy, hosts)
        socket = NO_WEBSOCKET if self.upgrades is None else self.upgrades.take(upgrade)
        if isinstance(socket, Refusal):
            return socket
        self.lanes[socket] = self.lanes.pop(lane)
        lane.transport.unregisterProducer()
        change_protocol(lane.transport, socket)
        socket.open(lane.transport, rest)
        return None

    def _describe_call(self, head: RequestHead, router: Router, exchange: Exchange) -> None:
        exchange.target = head.query
        if router.prioritises:
            self.marks.read(exchange, head, router)
        if self.tracing:
            self.trace(router, exchange)

    def gone(self, lane: ClientConnection) -> None:
        """A connection ended."""
        peer = self.lanes.pop(lane, None)
        if peer is not None:
            self.connections.give_back(peer)
        self.stats.open = len(self.lanes)
        if not self.lanes and self._emptied is not None and not self._emptied.called:
            self._emptied.callback(None)

    def sweep(self) -> None:
        """End connections that idle, or read or write too slowly. Called about once a second."""
        now = self.now()
        for lane in tuple(self.lanes):
            lane.check(now)

    def drain(self) -> Deferred[None]:
        """Close idle connections, and the others with their next answer; fires when none is left. Cancellable."""
        self.closes_connections = True
        self._emptied = Deferred()
        for lane in tuple(self.lanes):
            if lane.is_idle:
                lane.close()
        if self.upgrades is not None:
            self.upgrades.drain()
        if not self.lanes and not self._emptied.called:
            self._emptied.callback(None)
        return self._emptied

    def abort(self) -> None:
        """Cut off what did not end in time."""
        for lane in tuple(self.lanes):
            lane.transport.abortConnection()

    def asked_hosts(self, head: RequestHead, peer: str) -> tuple[bytes, bytes]:
        """By what authorities a client asked: its Host, and that which a trusted proxy says was its Host."""
        forwarded = head.value(b"x-forwarded-host") if self.clients.is_trusted(peer) else b""
        return head.value(b"host"), forwarded

    # what goes to nodes beside the body

    def describe(self, exchange: Exchange, head: RequestHead, router: Router) -> None:
        """Add what goes to the node beside the body, and what the client asks of us beside an answer.

        The exchange comes with the peer as its client.
        """
        peer = exchange.client_address
        exchange.client_address = self.clients.client(peer, head.forwarded_for)
        exchange.forwarded_for = self.clients.line(peer, head.forwarded_for)
        exchange.target = head.extra + head.query
        exchange.headers = self.forwarded(head, opaque=exchange.call is None)
        if head.is_marked or router.prioritises:
            self.marks.read(exchange, head, router)

    def forwarded(self, head: RequestHead, *, opaque: bool = False) -> bytes:
        """Header lines of the client's that go to the node, but for those that it means for us alone."""
        names = self.forward_headers + (_OPAQUE_HEADERS if opaque else ())
        if not names:
            return b""
        hop = {name.strip() for name in head.value(b"connection").lower().split(b",")}
        return b"".join(
            b"%b: %b\r\n" % (name, value) for name, value in head.headers if name in names and name not in hop
        )

    def trace(self, router: Router, exchange: Exchange) -> None:
        """Write who asks for what; only called where ``tracing``."""
        _log.debug(
            "{client} asks {network} for {method}",
            client=exchange.client_address,
            network=router.network.name,
            method=exchange.http_method.decode() if exchange.call is None else exchange.call.method,
            trace=True,
        )

    def overview(self) -> bytes:
        """What ``GET /`` says: the networks and whether they can serve."""
        networks = [
            {"name": name, "path": f"/{name}", "serving": bool(router.network.order.candidates)}
            for name, router in self.routers.items()
        ]
        return orjson.dumps({"networks": networks})
