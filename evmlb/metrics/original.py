"""The families of StakeSquid's evm-loadbalancer: promises, in name, labels, types and buckets.

``rpc_endpoint`` is the masked URL, where the original showed the whole one. ``invalid_url`` of the error types is not
there: such a configuration is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from evmlb.errors import Fault
from evmlb.methods import MethodClass
from evmlb.metrics.lag import Histogram
from evmlb.metrics.numbers import NetworkNumbers, NodeNumbers
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import ENDPOINT, NETWORK, of_networks, per_endpoint, per_network
from evmlb.node import Node
from evmlb.stats import DURATION_BOUNDS_SECONDS

_NODE_FAULTS = frozenset(
    fault.value
    for fault in (
        Fault.UNREACHABLE,
        Fault.DISCONNECTED,
        Fault.TIMED_OUT,
        Fault.STALLED,
        Fault.GARBAGE,
        Fault.HTTP_ERROR,
        Fault.UNAUTHORIZED,
        Fault.RATE_LIMITED,
    )
)
"""Ends of attempts that the original would have called a ``proxy_error``: there was no answer of the node's to pass on.

JSON-RPC errors are answers, and a client that left is nobody's error.
"""
_POLL_NO_CHAINHEAD_ERRORS = frozenset(("ok", "load_error", "check_failed", Fault.UNREACHABLE.value))
"""Ends of polls that are not a ``chainhead_error``: that is a node which did not tell its head when it was asked.

A node with ``check_failed`` answered, only not as ``health_check`` demands (too far behind, too few peers). The
original has no such demands, and a node that was behind or syncing had no error with it: it shows in ``blocks_behind``,
and here in ``evmlb_polls_total``. An alert on errors that was made for the original keeps its meaning.
"""


def blocks_behind(node: Node, numbers: NetworkNumbers) -> float | None:
    """The lag; of a node that does not answer any more, the distance of its last head, which grows."""
    return node.lag_at(numbers.network.chainhead, numbers.network.chain_id)


def _is_best(node: Node, numbers: NetworkNumbers) -> float:
    candidates = numbers.network.order.candidates
    return float(bool(candidates) and candidates[0] is node)


def _node_errors(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    proxy_errors = [0] * len(network.nodes)
    for (index, klass, outcome), count in tuple(network.stats.failed.items()):
        # a slow call that runs out of time is not held against the node (evmlb.policy.verdicts)
        if outcome in _NODE_FAULTS and (klass, outcome) != (MethodClass.SLOW, Fault.TIMED_OUT.value):
            proxy_errors[index] += count
    for each, proxy_error in zip(network.nodes, proxy_errors, strict=True):
        for kind, count in _poll_errors(each):
            yield (*each.by_endpoint, kind), count
        yield (*each.by_endpoint, "proxy_error"), proxy_error


def _poll_errors(each: NodeNumbers) -> Iterator[tuple[str, int]]:
    yield "dial_error", each.polls[Fault.UNREACHABLE.value]
    yield "chainhead_error", sum(n for outcome, n in each.polls.items() if outcome not in _POLL_NO_CHAINHEAD_ERRORS)
    yield "load_error", each.polls["load_error"]


def _durations(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    histogram = Histogram(DURATION_BOUNDS_SECONDS)
    histogram.counts = list(network.stats.duration_counts)
    histogram.sum = network.stats.duration_sum_seconds
    yield network.labels, histogram


def _by_client(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for client, count in tuple(network.stats.by_client.items()):
        yield (*network.labels, client), count


ORIGINAL: tuple[Family, ...] = (
    Family(
        "gauge",
        "loadbalancer_node_latency_seconds",
        "Moving average of the node's answers to polls.",
        ENDPOINT,
        per_endpoint(lambda node, _: node.latency_seconds),
    ),
    Family(
        "gauge",
        "loadbalancer_node_chainhead",
        "Newest block number that the node reported.",
        ENDPOINT,
        per_endpoint(lambda node, _: node.head),
    ),
    Family(
        "gauge",
        "loadbalancer_node_blocks_behind",
        "Blocks behind the network's chainhead.",
        ENDPOINT,
        per_endpoint(blocks_behind),
    ),
    Family(
        "gauge",
        "loadbalancer_node_load",
        "Load of the node's machine, from its node-exporter.",
        ENDPOINT,
        per_endpoint(lambda node, _: node.load),
    ),
    Family(
        "gauge",
        "loadbalancer_best_endpoint",
        "1 for the node that is asked first, else 0; 0 for all when none can serve.",
        ENDPOINT,
        per_endpoint(_is_best),
    ),
    Family(
        "counter",
        "loadbalancer_node_errors_total",
        "What went wrong with the node, by type.",
        (*ENDPOINT, "type"),
        of_networks(_node_errors),
    ),
    Family(
        "counter",
        "loadbalancer_requests_total",
        "Requests that were proxied; a batch counts once.",
        NETWORK,
        per_network(lambda network, _: network.stats.requests),
    ),
    Family(
        "histogram",
        "loadbalancer_request_duration_seconds",
        "How long proxied requests took.",
        NETWORK,
        of_networks(_durations),
    ),
    Family(
        "counter",
        "loadbalancer_requests_by_ip_total",
        "Proxied requests by client address; the first 500 addresses, the rest as other.",
        (*NETWORK, "client_ip"),
        of_networks(_by_client),
    ),
)
"""In the original's order."""
