"""What all WebSockets of clients share: the limits, autobahn's options, the hubs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evmlb.bridge.autobahn import make_factory
from evmlb.config.schema import Config
from evmlb.interfaces import Subscriptions
from evmlb.policy.shares import Shares
from evmlb.stats import WebSocketStats


class Shared:
    """What a WebSocket knows of all of them. They come and go at :class:`.bridge.Bridge`, which is one.

    ``memory`` for requests is shared with those over HTTP. ``hubs``: the makers of subscriptions, by network.
    """

    def __init__(
        self, config: Config, memory: Shares, now: Callable[[], float], hubs: Mapping[str, Subscriptions]
    ) -> None:
        self.config = config.websocket
        self.stats = WebSocketStats()
        self.now = now
        self.memory = memory
        self.hubs = hubs
        self.stuffed_seconds = config.limits.client_idle_timeout_seconds
        self.message_seconds = config.limits.request_read_timeout_seconds
        self.factory = make_factory(self.config.max_message_bytes, self.config.compression)

    def opened(self, socket: Any) -> None:
        """A handshake is done."""
        raise NotImplementedError

    def gone(self, socket: Any, code: int | None) -> None:
        """A connection ended, by a close code; None when it never was open."""
        raise NotImplementedError
