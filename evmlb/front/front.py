"""All client connections: how they begin, become WebSockets, and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from evmlb.config.schema import Config
from evmlb.errors import NO_WEBSOCKET, Refusal
from evmlb.front.clients import UNIX_PEER, plain_address
from evmlb.front.lane import Lane
from evmlb.front.packing import Runs
from evmlb.front.shared import Shared
from evmlb.interfaces import ClientConnection, Upgrade, Upgrades
from evmlb.policy.shares import Shares
from evmlb.routing import Router
from evmlb.wire.http1 import RequestHead
from evmlb.wire.transport import change_protocol


class Front(Shared):
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
        super().__init__(config, routers, now, threads)
        self.lanes: dict[ClientConnection, str] = {}  # by whose share of connections they are in
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

    def upgrade(
        self, lane: ClientConnection, peer: str, head: RequestHead, router: Router, rest: bytes
    ) -> Refusal | None:
        """See :class:`.shared.Shared`. The connection is the lane's no more."""
        client = self.clients.client(peer, head.forwarded_for)
        line = self.clients.line(peer, head.forwarded_for)
        says_more = router.prioritises or head.query or self.tracing
        describe = partial(self.describe_message, head, router) if says_more else None
        is_proxy = self.clients.is_trusted(client)
        hosts = self.asked_hosts(head, peer)
        upgrade = Upgrade(head, router, client, self.forwarded(head), line, describe, self.gone, is_proxy, hosts)
        socket = NO_WEBSOCKET if self.upgrades is None else self.upgrades.take(upgrade)
        if isinstance(socket, Refusal):
            return socket
        self.lanes[socket] = self.lanes.pop(lane)
        lane.transport.unregisterProducer()
        change_protocol(lane.transport, socket)
        socket.open(lane.transport, rest)
        return None

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
