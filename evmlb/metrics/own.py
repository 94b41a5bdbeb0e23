"""Our own families of networks and nodes. A node goes by its name here, never by an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evmlb.config.schema import Role
from evmlb.methods import CLASS_NAMES, MethodClass
from evmlb.metrics.numbers import NODE_CHANGES, NetworkNumbers, Numbers
from evmlb.metrics.original import blocks_behind
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import NETWORK, NODE, age, of_networks, per_network, per_node
from evmlb.policy.states import NodeState

USUAL_OUTCOMES = ("unreachable", "disconnected", "timed_out", "http_error", "rate_limited", "rpc_error", "garbage")
"""Failures whose series are there from the start, at 0: a rate over a series that begins with its first failure is 0.
All outcomes of all classes would be three times as many."""
USUAL_REFUSALS = (429, 502, 503, 504)
_SENT = tuple(klass for klass in MethodClass if klass is not MethodClass.REFUSED)


def _attempts(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, counts in zip(network.nodes, network.stats.answered, strict=True):
        for klass, count in enumerate(counts):
            if klass != MethodClass.REFUSED:
                yield (*each.by_name, CLASS_NAMES[klass], "answered"), count
    failed = dict(network.stats.failed)
    for each in network.nodes:
        for klass in _SENT:
            for outcome in USUAL_OUTCOMES:
                failed.setdefault((each.node.index, klass, outcome), 0)
    for (index, klass, outcome), count in failed.items():
        yield (*network.nodes[index].by_name, CLASS_NAMES[klass], outcome), count


def _polls(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each in network.nodes:
        for outcome, count in {"ok": 0, **each.polls}.items():
            yield (*each.by_name, outcome), count


def _refusals(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for status, count in {**dict.fromkeys(USUAL_REFUSALS, 0), **network.stats.refusals}.items():
        yield (*network.labels, str(status)), count


def _ranks(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, place in zip(network.nodes, network.network.order.places, strict=True):
        if place.rank is not None:
            yield each.by_name, place.rank


def _tiers(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for role in Role:
        yield (*network.labels, role.value), float(network.network.order.tier is role)


def _states(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, place in zip(network.nodes, network.network.order.places, strict=True):
        for state in NodeState:
            yield (*each.by_name, state.value), float(place.state is state)


def _in_state(*states: NodeState) -> Callable[[NetworkNumbers, float], Iterator[Row]]:
    """1 for a node that is in one of these, else 0."""

    def rows(network: NetworkNumbers, _now: float) -> Iterator[Row]:
        for each, place in zip(network.nodes, network.network.order.places, strict=True):
            yield each.by_name, float(place.state in states)

    return rows


def _node_changes(numbers: Numbers) -> Iterator[Row]:
    for network in numbers.networks:
        for each in network.nodes:
            for change in NODE_CHANGES.values():
                yield (*each.by_name, change), numbers.node_changes[(*each.by_name, change)]


def _roles(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each in network.nodes:
        yield (*each.by_name, each.node.role.value), 1


OWN: tuple[Family, ...] = (
    Family(
        "counter",
        "evmlb_attempts_total",
        "Requests sent to nodes, by how they ended.",
        (*NODE, "method_class", "outcome"),
        of_networks(_attempts),
    ),
    Family(
        "counter",
        "evmlb_failovers_total",
        "Attempts after which another node was asked.",
        NETWORK,
        per_network(lambda network, _: network.stats.failovers),
    ),
    Family(
        "counter",
        "evmlb_refusals_total",
        "Requests answered with an error of evmlb's own, by HTTP status.",
        (*NETWORK, "status"),
        of_networks(_refusals),
    ),
    Family(
        "gauge",
        "evmlb_requests_in_flight",
        "Requests under way.",
        NETWORK,
        per_network(lambda network, _: network.stats.in_flight),
    ),
    Family(
        "gauge",
        "evmlb_requests_queued",
        "Requests that wait for a node with room; part of those in flight.",
        NETWORK,
        per_network(lambda network, _: network.stats.queued),
    ),
    Family(
        "gauge",
        "evmlb_network_chainhead",
        "The block number that the network agrees on.",
        NETWORK,
        per_network(lambda network, _: network.network.chainhead),
    ),
    Family(
        "gauge",
        "evmlb_chainhead_age_seconds",
        "Time since the chainhead took its present value.",
        NETWORK,
        per_network(
            lambda network, now: (
                None if network.network.chainhead is None else age(network.network.chainhead_since, now)
            )
        ),
    ),
    Family(
        "counter",
        "evmlb_chainhead_drops_total",
        "How often the chainhead came down or was lost.",
        NETWORK,
        lambda numbers: ((n.labels, numbers.chainhead_drops[n.network.name]) for n in numbers.networks),
    ),
    Family(
        "counter",
        "evmlb_chain_id_disputes_total",
        "How often the nodes disagreed on the chain id without a majority.",
        NETWORK,
        lambda numbers: ((n.labels, numbers.disputes[n.network.name]) for n in numbers.networks),
    ),
    Family(
        "counter",
        "evmlb_order_changes_total",
        "How often it changed who serves, or in what order.",
        NETWORK,
        lambda numbers: ((n.labels, numbers.order_changes[n.network.name]) for n in numbers.networks),
    ),
    Family(
        "counter",
        "evmlb_reorders_total",
        "Those changes of the order that only changed the sequence of the nodes.",
        NETWORK,
        lambda numbers: ((n.labels, numbers.reorders[n.network.name]) for n in numbers.networks),
    ),
    Family(
        "gauge",
        "evmlb_network_candidates",
        "Nodes that may serve now; 0: requests are refused.",
        NETWORK,
        per_network(lambda network, _: len(network.network.order.candidates)),
    ),
    Family(
        "gauge",
        "evmlb_network_tier",
        "1 for the role whose nodes serve, else 0.",
        (*NETWORK, "role"),
        of_networks(_tiers),
    ),
    Family(
        "gauge",
        "evmlb_network_degraded",
        "1 while no node is in range and the nearest serve.",
        NETWORK,
        per_network(lambda network, _: float(network.network.order.degraded)),
    ),
    Family("gauge", "evmlb_node_info", "1, with the node's role.", (*NODE, "role"), of_networks(_roles)),
    Family(
        "gauge",
        "evmlb_node_usable",
        "1 while the node may be asked: it serves, or stands in reserve; else 0.",
        NODE,
        of_networks(_in_state(NodeState.SERVING, NodeState.RESERVE)),
    ),
    Family(
        "gauge",
        "evmlb_node_serving",
        "1 while the node is of the tier that answers, else 0.",
        NODE,
        of_networks(_in_state(NodeState.SERVING)),
    ),
    Family(
        "gauge",
        "evmlb_node_state",
        "1 for the state that the node is in, else 0.",
        (*NODE, "state"),
        of_networks(_states),
    ),
    Family(
        "gauge",
        "evmlb_node_rank",
        "The node's place in the order, 0 is asked first; absent while it may not serve.",
        NODE,
        of_networks(_ranks),
    ),
    Family(
        "gauge",
        "evmlb_node_suspect",
        "1 while something went wrong and the node is asked last in its tier, else 0.",
        NODE,
        per_node(lambda node, *_: float(node.suspect)),
    ),
    Family(
        "gauge",
        "evmlb_node_ejected",
        "1 while failing requests keep the node out, else 0.",
        NODE,
        per_node(lambda node, *_: float(node.ejected)),
    ),
    Family(
        "counter",
        "evmlb_node_changes_total",
        "What happened to the node, by kind.",
        (*NODE, "change"),
        _node_changes,
    ),
    Family(
        "gauge",
        "evmlb_node_head",
        "Newest block number that the node reported.",
        NODE,
        per_node(lambda node, *_: node.head),
    ),
    Family(
        "gauge",
        "evmlb_node_head_age_seconds",
        "Time since the node's head changed.",
        NODE,
        per_node(lambda node, _, now: age(node.head_changed_at, now)),
    ),
    Family(
        "gauge",
        "evmlb_node_lag_blocks",
        "Blocks behind the chainhead; of a node that answers no more, by its last head.",
        NODE,
        per_node(lambda node, network, _: blocks_behind(node, network)),
    ),
    Family(
        "gauge",
        "evmlb_node_latency_seconds",
        "Moving average of the node's answers to polls.",
        NODE,
        per_node(lambda node, *_: node.latency_seconds),
    ),
    Family(
        "gauge",
        "evmlb_node_in_flight",
        "Requests under way at the node.",
        NODE,
        per_node(lambda node, *_: node.in_flight),
    ),
    Family(
        "gauge",
        "evmlb_node_capacity",
        "Requests that the node may have under way.",
        NODE,
        per_node(lambda node, *_: node.capacity),
    ),
    Family(
        "gauge",
        "evmlb_node_last_good_poll_age_seconds",
        "Time since the node last answered a poll well.",
        NODE,
        per_node(lambda node, _, now: age(node.last_good_poll_at, now)),
    ),
    Family("counter", "evmlb_polls_total", "Polls, by how they ended.", (*NODE, "outcome"), of_networks(_polls)),
)
"""Networks first, then their nodes."""
