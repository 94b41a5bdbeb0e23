"""Who is asked next.

The network's order says which nodes may serve, best first. What one exchange adds to it, first that applies:

* an ejected node that is due gets a trial, with a fast call or batch, before anyone else is looked at;
* a filter is asked for only where it is held, as long as its holder may serve, and a new one is made there as well;
* a client that sent a transaction a moment ago reads its nonce and its pending state where it was taken, and nowhere
  else while that node is well;
* a call that names a block, by its number or by a hash that was told, goes within the serving tier to a node which is
  known to have it; one for the tip of the chain to a node which has the block that its client was told of last;
* a strategy that shares has its say on the first attempt; later ones go down the order;
* a node that said it lacks the method, or that is silent on it, is left out, unless all are;
* whoever was tried is not asked again; when all were, the ejected ones are what is left.

A node that is full is still eligible: whether to pass it over or to wait for it is the caller's question.
"""

from __future__ import annotations

from collections.abc import Sequence

from evmlb.exchange import Exchange
from evmlb.jsonrpc import Call
from evmlb.methods import FAST
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.balancing import Chooser
from evmlb.policy.blocks import block_reference, needed_block, reads_own_writes
from evmlb.policy.members import highest_block, looked_at, methods_of
from evmlb.routing.effort import made_effort, tried_by
from evmlb.routing.learning import Learner, uses_filter


class Choices:
    """The choice among the nodes of one network. Without a ``chooser`` the first of the order is always preferred."""

    def __init__(self, network: Network, learner: Learner, chooser: Chooser | None) -> None:
        self._network = network
        self._learner = learner
        self._chooser = chooser

    def trial(self, exchange: Exchange, now: float) -> Node | None:
        """The ejected node that is due to be tried again, if this call is one to try it with. The trial has begun."""
        effort = made_effort(exchange)
        if exchange.klass is not FAST or exchange.call is None or (effort is not None and effort.is_bound):
            return None
        node = self._network.due_trial(now)
        if node is None or not node.has_room(now):
            return None
        self._network.begin_trial(node, now)
        return node

    def free(self, exchange: Exchange, now: float) -> Node | None:
        """The node to try next: untried and with room."""
        return first_free(self.eligible(exchange, now), now)

    def rival(self, exchange: Exchange, now: float, *, across_tiers: bool) -> Node | None:
        """The node to ask beside those that are being asked: of the serving tier, in good standing, with room."""
        serving = self._network.order.serving
        for node in self.eligible(exchange, now):
            if (across_tiers or node in serving) and not node.suspect and node.has_room(now):
                return node
        return None

    def eligible(self, exchange: Exchange, now: float) -> Sequence[Node]:
        """The untried nodes that may be asked, full ones too, in the order in which they should be."""
        order = self._network.order
        nodes = order.candidates
        call, tried = exchange.call, tried_by(exchange)
        if call is not None:
            holder = self._learner.holder(call, now)
            if holder is not None and holder in nodes:
                # while it may serve, nobody else knows the filter; another one with the same id may be another client's
                nodes = (holder,) if uses_filter(call) else (holder, *nodes)
                return [node for node in nodes if node not in tried]
            writer = self.writer(exchange, now)
            if writer is not None and writer in nodes and writer not in tried:
                return (writer,)
        if self._chooser is not None and order.serving and not tried:
            nodes = (self._chooser.first(order), *nodes)
        if call is not None and len(nodes) > 1:
            nodes = self._preferred(exchange, call, nodes, now)
        if not tried:
            return nodes
        return [node for node in nodes if node not in tried] or [
            node for node in order.last_resort if node not in tried
        ]

    def writer(self, exchange: Exchange, now: float) -> Node | None:
        """The node that knows this client's last transaction, if the call asks for what depends on it."""
        call, writer = exchange.call, self._learner.writer(exchange, now)
        if call is None or writer is None or writer.suspect:
            return None
        reads = any(reads_own_writes(member.method, member.params) for member in looked_at(call))
        return writer if reads else None

    def is_narrow(self, exchange: Exchange, now: float) -> bool:
        """Whether not every node of the order may be asked: others may have room before this one finds any."""
        return len(set(self.eligible(exchange, now))) < len(self._network.order.candidates)

    def _preferred(self, exchange: Exchange, call: Call, nodes: tuple[Node, ...], now: float) -> tuple[Node, ...]:
        """The same nodes, those first that are likelier to have what the call asks for."""
        if any(node.avoidance for node in nodes):
            methods = methods_of(call)
            able = (node for node in nodes if not any(node.avoidance.covers(method, now) for method in methods))
            nodes = tuple(able) or nodes
        top = self._network.top
        if any(node.reached < top for node in nodes):
            nodes = self._with_block_first(exchange, call, nodes, top)
        return nodes

    def _with_block_first(self, exchange: Exchange, call: Call, nodes: tuple[Node, ...], top: int) -> tuple[Node, ...]:
        session = exchange.reply.session
        told = 0 if session is None else min(session.height, top)
        recent = self._network.recent

        def needed(member: Call) -> int | None:
            if member.method == "eth_blockNumber":  # by itself its answer is raised; in a batch it is passed on
                return None if member is call else told or None
            return needed_block(block_reference(member.method, member.params), told, recent)

        number = highest_block(call, top, needed)
        if number is None:
            return nodes
        serving = self._network.order.serving
        ready = [node for node in nodes if node.reached >= number and node in serving]
        return (*ready, *nodes) if ready else nodes


def first_free(nodes: Sequence[Node], now: float) -> Node | None:
    """The first that has room."""
    for node in nodes:
        if node.has_room(now):
            return node
    return None
