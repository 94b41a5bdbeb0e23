"""One node's WebSocket, as the maker of subscriptions sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from evmlb.node import Node


class FeedListener(Protocol):
    """Who hears of feeds; the hub."""

    def feed_came(self, feed: Feed) -> None:
        """The node's WebSocket stands."""
        ...

    def feed_went(self, feed: Feed) -> None:
        """It is lost, with all that was subscribed to."""
        ...


class Feed:
    """One node and its WebSocket; what :class:`evmlb.upstream.websocket.NodeSocket` tells goes to the listener.

    ``pushed`` is the head that the node pushed last on this connection, as JSON; ``is_news`` whether the
    view has still to be told of it.
    """

    def __init__(self, node: Node, listener: FeedListener) -> None:
        self.node = node
        self.socket: Any = None  # set by whoever made it with this feed as its listener
        self.is_up = False
        self.pushed: bytes | None = None
        self.is_news = False
        self._listener = listener

    def connected(self, socket: Any) -> None:
        """See ``SocketListener``."""
        self.is_up = True
        self._listener.feed_came(self)

    def disconnected(self, socket: Any, reason: str) -> None:
        """See ``SocketListener``."""
        self.is_up = False
        self.pushed = None
        self._listener.feed_went(self)

    def subscribe(self, params: Sequence[object], told: Callable[[bytes], None]) -> Deferred[Any]:
        """Subscribe at the node; fires with what has ``unsubscribe()``."""
        subscribing: Deferred[Any] = self.socket.subscribe(params, told)
        return subscribing
