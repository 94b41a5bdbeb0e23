"""What a client's WebSocket, of either kind, knows of the bridge that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory

from evmlb.config.schema import WebSocketConfig
from evmlb.interfaces import Subscriptions
from evmlb.policy.shares import Shares
from evmlb.stats import WebSocketStats


class Keeper(Protocol):
    """Who counts the WebSockets of clients, and knows their limits.

    ``factory`` has autobahn's options, ``hubs`` the makers of subscriptions, by network.
    """

    config: WebSocketConfig
    stats: WebSocketStats
    stuffed_seconds: float
    message_seconds: float
    memory: Shares
    now: Callable[[], float]
    factory: WebSocketServerFactory
    hubs: Mapping[str, Subscriptions]

    def opened(self, socket: Any) -> None:
        """A handshake is done."""
        ...

    def gone(self, socket: Any, code: int | None) -> None:
        """A connection ended, by a close code; None when it never was open."""
        ...
