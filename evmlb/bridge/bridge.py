"""What all WebSockets share: the limits, autobahn's options, the hubs, and the end of it all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from evmlb.bridge.autobahn import make_factory, with_options
from evmlb.bridge.calls import Calls
from evmlb.bridge.handshake import OWN_PATHS, refused_handshake
from evmlb.bridge.pipe import Pipe
from evmlb.bridge.search import Nodes
from evmlb.bridge.socket import Socket
from evmlb.config.schema import Config, WebSocketMode
from evmlb.errors import NO_WEBSOCKET, STRANGE_ORIGIN, Refusal
from evmlb.interfaces import Subscriptions, Upgrade
from evmlb.policy.pages import Origins
from evmlb.policy.shares import Shares
from evmlb.stats import WebSocketStats

LEAVE_SHARE = 0.7
"""The share of the grace time over which connections are closed; the rest is for the last of them."""

_TOO_MANY = Refusal(503, -32011, "too many WebSocket connections; try again", 5)
_TOO_MANY_OF_ADDRESS = Refusal(503, -32011, "too many WebSocket connections from this address", 5)
_STOPPING = Refusal(503, -32011, "evmlb is stopping; try again", 1)


class Bridge:
    """Makes WebSockets of client connections: ``Upgrades``.

    ``max_connections``: of clients in all, of which WebSockets are half unless configured. ``memory`` for requests is
    shared with those. ``hubs``: the makers of subscriptions, ``nodes``: the nodes as pipes see them, both by network.
    """

    def __init__(
        self,
        config: Config,
        max_connections: int,
        memory: Shares,
        now: Callable[[], float],
        hubs: Mapping[str, Subscriptions],
        nodes: Mapping[str, Nodes] | None = None,
    ) -> None:
        self.config = config.websocket
        self.origins = Origins(self.config.allowed_origins, config.cors.origins)
        self.stats = WebSocketStats()
        self.now = now
        self.memory = memory
        self.hubs = hubs
        self.nodes = nodes or {}
        self._error_status = config.error_status
        self.stuffed_seconds = config.limits.client_idle_timeout_seconds
        self.message_seconds = config.limits.request_read_timeout_seconds
        self.factory = make_factory(self.config.max_message_bytes, self.config.compression)
        self._socket: type[Socket] = with_options(Socket, self.factory)
        self._grace_seconds = config.shutdown_grace_seconds
        self._connections = Shares(self.config.max_connections or max(1, max_connections // 2))
        self._sockets: dict[Socket | Pipe, None] = {}  # those that were taken, in this order
        self._draining = False

    def take(self, upgrade: Upgrade) -> Socket | Pipe | Refusal:
        """The WebSocket of a connection, or why there shall be none."""
        nodes = self.nodes.get(upgrade.router.network.name)
        refusal = self._refusal(upgrade, nodes) or self._admit(upgrade)
        if refusal is not None:
            self.stats.rejected += 1
            return refusal
        made = self._pipe(upgrade, nodes) if nodes is not None and _is_piped(upgrade) else self._make_socket(upgrade)
        self._sockets[made] = None
        return made

    def _make_socket(self, upgrade: Upgrade) -> Socket:
        socket = self._socket(self, upgrade)
        socket.receiver = Calls(self, socket, upgrade)
        return socket

    def _pipe(self, upgrade: Upgrade, nodes: Nodes) -> Pipe:
        return Pipe(self, upgrade, nodes, os.urandom, self._error_status)

    def _refusal(self, upgrade: Upgrade, nodes: Nodes | None) -> Refusal | None:
        if self._draining:
            return _STOPPING
        if not self.origins.permit(upgrade.head.origin, *upgrade.hosts):
            return STRANGE_ORIGIN
        if nodes is None if _is_piped(upgrade) else upgrade.head.extra not in OWN_PATHS:
            return NO_WEBSOCKET.saying("WebSocket is not served at this path")
        return refused_handshake(upgrade.head)

    def _admit(self, upgrade: Upgrade) -> Refusal | None:
        """Count one more connection; or why there are too many. A proxy has no share: its clients are not known."""
        client, per_address = upgrade.client, self.config.max_connections_per_address
        if per_address and self._connections.held(client) >= per_address:
            return _TOO_MANY_OF_ADDRESS
        if self._connections.take(client, bound=not (per_address or upgrade.is_proxy)):
            return None
        return _TOO_MANY_OF_ADDRESS if self._connections.left else _TOO_MANY

    def opened(self, socket: Socket | Pipe) -> None:
        """A handshake is done."""
        self.stats.accepted += 1
        self.stats.open += 1

    def gone(self, socket: Socket | Pipe, code: int | None) -> None:
        """A connection ended, by a close code; None when it never was open."""
        self._sockets.pop(socket, None)
        self._connections.give_back(socket.upgrade.client)
        if code is None:
            self.stats.rejected += 1
        else:
            self.stats.open -= 1
            self.stats.closes[code] += 1
        socket.upgrade.gone(socket)

    def drain(self) -> None:
        """Take no more, and say when each has to go: clients that all come back at once would be a burden elsewhere."""
        self._draining = True
        now = self.now()
        step = self._grace_seconds * LEAVE_SHARE / max(1, len(self._sockets))
        for place, socket in enumerate(tuple(self._sockets)):
            socket.leave_at = now + place * step
            socket.check(now)


def _is_piped(upgrade: Upgrade) -> bool:
    """Whether a WebSocket is joined to a node's: only where that is configured."""
    return upgrade.router.network.config.websocket is WebSocketMode.PASSTHROUGH
