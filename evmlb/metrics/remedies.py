"""Families of what is done about nodes that fail, are slow, or are asked too much.

A node goes by its name here, as in all families of our own. Methods are a label only of hedge delays: only fast calls
are hedged, and which methods are fast is a list of ours, so no client can make series.
"""

from __future__ import annotations

from collections.abc import Iterator

from evmlb.metrics.numbers import NetworkNumbers
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import NETWORK, NODE, of_networks, per_network, per_node
from evmlb.policy.breaker import BreakerState
from evmlb.policy.priority import PriorityClass

MAX_METHODS = 64
"""So many methods of a network have a series of their own: more than there are fast ones."""


def _queue_lengths(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    by_class, total = network.stats.queued_by_class, network.stats.queued
    for klass in PriorityClass:
        yield (*network.labels, klass.name.lower()), by_class[klass]
    yield (*network.labels, "bound"), total - sum(by_class)


def _hedge_delays(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    if network.paces is not None:
        for method, seconds in network.paces.known()[:MAX_METHODS]:
            yield (*network.labels, method), seconds


def _breakers(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each in network.nodes:
        state = each.node.breaker.state
        for other in BreakerState:
            yield (*each.by_name, other.value), float(other is state)


def _unasked(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, connections in zip(network.nodes, network.connections, strict=False):  # of all nodes, or of none
        yield each.by_name, connections.unasked


def _verdicts(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for rule, count in sorted(network.stats.verdicts.items()):  # as many as the table has rules
        yield (*network.labels, rule), count


REMEDIES: tuple[Family, ...] = (
    Family(
        "counter",
        "evmlb_verdicts_total",
        "Errors of nodes, by the rule that judged them.",
        (*NETWORK, "rule"),
        of_networks(_verdicts),
    ),
    Family(
        "counter",
        "evmlb_retries_denied_total",
        "Retries that were not made because too many had been in vain.",
        NETWORK,
        per_network(lambda network, _: network.stats.retries_denied),
    ),
    Family(
        "counter",
        "evmlb_handed_over_total",
        "Attempts that were taken from a node which went down, and made elsewhere.",
        NETWORK,
        per_network(lambda network, _: network.stats.handed_over),
    ),
    Family(
        "counter",
        "evmlb_hedges_total",
        "Requests sent to one node more because an answer took long.",
        NETWORK,
        per_network(lambda network, _: network.stats.hedges),
    ),
    Family(
        "counter",
        "evmlb_hedges_won_total",
        "Requests that were answered by a node asked later, before the one asked first.",
        NETWORK,
        per_network(lambda network, _: network.stats.hedges_won),
    ),
    Family(
        "counter",
        "evmlb_hedges_denied_total",
        "Hedges that were not sent because the budget was spent.",
        NETWORK,
        per_network(lambda network, _: network.stats.hedges_denied),
    ),
    Family(
        "gauge",
        "evmlb_hedge_delay_seconds",
        "How long an answer may take before another node is asked as well: the method's 95th percentile, clamped.",
        (*NETWORK, "method"),
        of_networks(_hedge_delays),
    ),
    Family(
        "gauge",
        "evmlb_queue_length",
        "Requests that wait for a node with room, by class.",
        (*NETWORK, "class"),
        of_networks(_queue_lengths),
    ),
    Family(
        "counter",
        "evmlb_requests_shed_total",
        "Requests refused because too many waited, or had waited for too long.",
        NETWORK,
        per_network(lambda network, _: network.stats.shed),
    ),
    Family(
        "gauge",
        "evmlb_node_breaker_state",
        "1 for the state of the node's circuit breaker, else 0.",
        (*NODE, "state"),
        of_networks(_breakers),
    ),
    Family(
        "gauge",
        "evmlb_node_next_trial_seconds",
        "Time until an ejected node is due to be tried; absent while it is not ejected.",
        NODE,
        per_node(lambda node, _, now: node.breaker.due_in_seconds(now)),
    ),
    Family(
        "counter",
        "evmlb_node_trials_total",
        "Single requests, and polls where they count for the breaker, by which an ejected node was tried.",
        NODE,
        per_node(lambda node, *_: node.trials),
    ),
    Family(
        "gauge",
        "evmlb_node_rate_limited",
        "1 while the node is held off because it said that it is asked too often, else 0.",
        NODE,
        per_node(lambda node, *_: float(node.limit.limited)),
    ),
    Family(
        "gauge",
        "evmlb_node_rate_limited_seconds",
        "Time until a node that is held off is probed; 0 while it is not.",
        NODE,
        per_node(lambda node, _, now: node.limit.seconds_left(now)),
    ),
    Family(
        "gauge",
        "evmlb_node_unsupported_methods",
        "Methods that the node said it does not have, within the last ten minutes.",
        NODE,
        per_node(lambda node, *_: len(node.avoidance.unsupported)),
    ),
    Family(
        "counter",
        "evmlb_node_unasked_answers_total",
        "Answers of the node to no request, such as a second one to the same; the connection is closed then.",
        NODE,
        of_networks(_unasked),
    ),
)
"""Networks first, then their nodes."""
