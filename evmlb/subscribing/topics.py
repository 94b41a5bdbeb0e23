"""The topics of one network that are passed to nodes: a relay for each that somebody is subscribed to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evmlb.network import Network
from evmlb.policy.shares import Charge, Shares
from evmlb.subscribing.fanout import FanOut, Subscription
from evmlb.subscribing.feeds import Feed
from evmlb.subscribing.params import topic_key
from evmlb.subscribing.relay import Refused, Relay

MOST_RELAYS = 1000
"""Different topics at one time in a network; one client may have half of them at most."""
_LIMIT_EXCEEDED = -32005


class Topics:
    """Relays by topic and parameters. ``gaps_possible``: how many times events of one may have been missed."""

    def __init__(
        self, network: Network, feeds: list[Feed], fanout: FanOut, reactor: Any, now: Callable[[], float]
    ) -> None:
        self._shares = Shares(MOST_RELAYS)
        self._charges: dict[bytes, Charge] = {}  # of the relays, each in the share of who wanted it first
        self._network = network
        self._feeds = feeds
        self._fanout = fanout
        self._reactor = reactor
        self._now = now
        self._relays: dict[bytes, Relay] = {}
        self.gaps_possible = 0

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return sum(len(relay.subscriptions) for relay in self._relays.values())

    async def join(self, params: list[Any], subscription: Subscription, made: Callable[[], None]) -> None:
        """Subscribe; ``made`` is called once a node feeds it, before the first event.

        Raises :class:`Refused` when none does, and :class:`evmlb.subscribing.params.InvalidParams`.
        """
        key = topic_key(params)
        relay = self._relays.get(key) or self._new_relay(key, params, subscription.subscriber.client)
        try:
            await relay.ready()
            if subscription.subscriber.is_open:
                relay.subscriptions[subscription.id] = subscription
                made()
        finally:
            self._drop_unwanted()

    def _new_relay(self, key: bytes, params: list[Any], client: str) -> Relay:
        charge = self._shares.charge(client)
        if charge is None:
            whose = "of this client's" if self._shares.left else "in this network"
            raise Refused(_LIMIT_EXCEEDED, f"too many different subscriptions {whose}")
        self._charges[key] = charge
        arguments = self._eligible_feeds, self._fanout, self._reactor, self._now, self._count_gap
        relay = self._relays[key] = Relay(self._network.name, params, *arguments)
        return relay

    def leave(self, subscription: Subscription) -> None:
        """It is over."""
        for relay in self._relays.values():
            relay.subscriptions.pop(subscription.id, None)
        self._drop_unwanted()

    def _drop_unwanted(self) -> None:
        for key, relay in tuple(self._relays.items()):
            if not relay.is_wanted:
                del self._relays[key]
                self._charges.pop(key).release()
                relay.stop()

    def _count_gap(self) -> None:
        self.gaps_possible += 1

    # nodes

    def _eligible_feeds(self) -> list[Feed]:
        """The feeds that stand and whose nodes may serve, in the order of the network."""
        by_node = {feed.node: feed for feed in self._feeds if feed.is_up}
        return [by_node[node] for node in self._network.order.candidates if node in by_node]

    def look(self) -> None:
        """The order of the network changed, or time has passed."""
        for relay in tuple(self._relays.values()):
            relay.look()

    def came(self, feed: Feed) -> None:
        """A node's connection stands."""
        for relay in tuple(self._relays.values()):
            relay.came(feed)

    def lost(self, feed: Feed) -> None:
        """A node's connection is gone."""
        for relay in tuple(self._relays.values()):
            relay.lost(feed)
