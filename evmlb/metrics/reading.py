"""How the samples of a family are read: from every network, every node, or once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from evmlb.metrics.numbers import NetworkNumbers, Numbers
from evmlb.metrics.page import Row
from evmlb.node import Node

NETWORK = ("network",)
NODE = ("network", "node")
ENDPOINT = ("network", "rpc_endpoint")

NetworkRows = Callable[[NetworkNumbers, float], Iterable[Row]]


def of_networks(rows: NetworkRows) -> Callable[[Numbers], Iterator[Row]]:
    """The rows of all networks."""

    def read(numbers: Numbers) -> Iterator[Row]:
        for network in numbers.networks:
            yield from rows(network, numbers.now())

    return read


def per_network(value: Callable[[NetworkNumbers, float], float | None]) -> Callable[[Numbers], Iterator[Row]]:
    """One sample per network."""

    def rows(network: NetworkNumbers, now: float) -> Iterator[Row]:
        known = value(network, now)
        if known is not None:
            yield network.labels, known

    return of_networks(rows)


def per_node(value: Callable[[Node, NetworkNumbers, float], float | None]) -> Callable[[Numbers], Iterator[Row]]:
    """One sample per node, by its name."""

    def rows(network: NetworkNumbers, now: float) -> Iterator[Row]:
        for each in network.nodes:
            known = value(each.node, network, now)
            if known is not None:
                yield each.by_name, known

    return of_networks(rows)


def per_endpoint(value: Callable[[Node, NetworkNumbers], float | None]) -> Callable[[Numbers], Iterator[Row]]:
    """One sample per node, by its endpoint."""

    def rows(network: NetworkNumbers, _now: float) -> Iterator[Row]:
        for each in network.nodes:
            known = value(each.node, network)
            if known is not None:
                yield each.by_endpoint, known

    return of_networks(rows)


def one(value: Callable[[Numbers], float]) -> Callable[[Numbers], Iterator[Row]]:
    """A single sample."""
    return lambda numbers: iter([((), value(numbers))])


def age(since: float | None, now: float) -> float | None:
    """Seconds since then; None stays None."""
    return None if since is None else max(0.0, now - since)
