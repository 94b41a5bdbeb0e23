"""Who is asked next.

The network's order says which nodes may serve, best first. What one exchange adds to it, first that applies:

* an ejected node that is due gets a trial, with a single fast call, before anyone else is looked at;
* a filter is asked for only where it is held, as long as its holder may serve, and a new one is made there as well;
* a strategy that shares has its say on the first attempt; later ones go down the order;
* whoever was tried is not asked again.

A node that is full is still eligible: whether to pass it over or to wait for it is the caller's question.
"""

from __future__ import annotations

from collections.abc import Sequence

from evmlb.exchange import Exchange
from evmlb.methods import FAST
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.balancing import Chooser
from evmlb.routing.learning import Learner, uses_filter


class Choices:
    """The choice among the nodes of one network. Without a ``chooser`` the first of the order is always preferred."""

    def __init__(self, network: Network, learner: Learner, chooser: Chooser | None) -> None:
        self._network = network
        self._learner = learner
        self._chooser = chooser

    def trial(self, exchange: Exchange, now: float) -> Node | None:
        """The ejected node that is due to be tried again, if this call is one to try it with. The trial has begun."""
        if exchange.klass is not FAST or exchange.call is None or exchange.call.members is not None:
            return None
        node = self._network.due_trial(now)
        if node is None or node.in_flight >= node.capacity:
            return None
        self._network.begin_trial(node, now)
        return node

    def free(self, exchange: Exchange, now: float) -> Node | None:
        """The node to try next: untried and with room."""
        return first_free(self.eligible(exchange, now))

    def eligible(self, exchange: Exchange, now: float) -> Sequence[Node]:
        """The untried nodes that may be asked, full ones too, in the order in which they should be."""
        order = self._network.order
        nodes = order.candidates
        holder = self._learner.holder(exchange.call, now)
        if holder is not None and holder in nodes:
            # while it may serve, nobody else knows the filter; another one with the same id may be another client's
            nodes = (holder,) if uses_filter(exchange.call) else (holder, *nodes)
        elif self._chooser is not None and order.serving and not exchange.tried:
            nodes = (self._chooser.first(order), *nodes)
        tried = exchange.tried
        return [node for node in nodes if node not in tried] if tried else nodes


def first_free(nodes: Sequence[Node]) -> Node | None:
    """The first that has room."""
    for node in nodes:
        if node.in_flight < node.capacity:
            return node
    return None
