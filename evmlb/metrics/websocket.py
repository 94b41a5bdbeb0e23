"""Families of clients' WebSockets, their subscriptions, and the WebSockets to nodes that feed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evmlb.metrics.numbers import HubNumbers, NetworkNumbers, Numbers
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import NETWORK, NODE, of_networks, one
from evmlb.stats import WebSocketStats

MAX_CODES = 32
"""Close codes that have a series of their own: a client may close by any of 5,000."""


def _of_clients(value: Callable[[WebSocketStats], float]) -> Callable[[Numbers], Iterator[Row]]:
    return one(lambda numbers: value(numbers.websockets))


def _messages(numbers: Numbers) -> Iterator[Row]:
    stats = numbers.websockets
    yield ("in",), stats.messages_in
    yield ("out",), stats.messages_out


def _closes(numbers: Numbers) -> Iterator[Row]:
    others = 0
    for place, (code, count) in enumerate(numbers.websockets.closes.most_common()):
        if place < MAX_CODES:
            yield (str(code),), count
        else:
            others += count
    if others:
        yield ("other",), others


def _of_hub(value: Callable[[HubNumbers], float]) -> Callable[[Numbers], Iterator[Row]]:
    """One sample per network that has subscriptions."""

    def rows(network: NetworkNumbers, _now: float) -> Iterator[Row]:
        if network.hub is not None:
            yield network.labels, value(network.hub)

    return of_networks(rows)


def _subscriptions(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    if network.hub is not None:
        for kind, count in network.hub.counts.items():
            yield (*network.labels, kind), count


def _node_sockets(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, socket in zip(network.nodes, network.sockets, strict=False):  # of all nodes, or of none
        yield each.by_name, float(socket.is_connected)


def _node_losses(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, socket in zip(network.nodes, network.sockets, strict=False):
        yield each.by_name, socket.stats.losses


def _node_messages(network: NetworkNumbers, _now: float) -> Iterator[Row]:
    for each, socket in zip(network.nodes, network.sockets, strict=False):
        yield (*each.by_name, "in"), socket.stats.messages_in
        yield (*each.by_name, "out"), socket.stats.messages_out


WEBSOCKET: tuple[Family, ...] = (
    Family("gauge", "evmlb_websocket_connections", "Open WebSockets of clients.", (), _of_clients(lambda s: s.open)),
    Family(
        "counter",
        "evmlb_websocket_accepted_total",
        "WebSockets of clients that were opened.",
        (),
        _of_clients(lambda stats: stats.accepted),
    ),
    Family(
        "counter",
        "evmlb_websocket_rejected_total",
        "WebSockets that were not opened: over a limit, of a strange origin, or while stopping.",
        (),
        _of_clients(lambda stats: stats.rejected),
    ),
    Family(
        "counter",
        "evmlb_websocket_messages_total",
        "Messages from clients (in) and to them (out), events included.",
        ("direction",),
        _messages,
    ),
    Family(
        "counter",
        "evmlb_websocket_calls_total",
        "Calls of clients by WebSocket that were sent on; a batch counts once.",
        (),
        _of_clients(lambda stats: stats.calls),
    ),
    Family(
        "counter",
        "evmlb_websocket_slow_closed_total",
        "WebSockets closed because the client did not read what was sent.",
        (),
        _of_clients(lambda stats: stats.slow_closed),
    ),
    Family(
        "counter",
        "evmlb_websocket_closes_total",
        "WebSockets of clients that ended, by close code; 1006 without one.",
        ("code",),
        _closes,
    ),
    Family("gauge", "evmlb_subscriptions", "Subscriptions, by kind.", (*NETWORK, "kind"), of_networks(_subscriptions)),
    Family(
        "counter",
        "evmlb_subscription_events_total",
        "Events of subscriptions that were written to clients.",
        NETWORK,
        _of_hub(lambda hub: hub.fanout.delivered),
    ),
    Family(
        "gauge",
        "evmlb_fanout_lag_seconds",
        "How long the last event took to be written to all its subscribers.",
        NETWORK,
        _of_hub(lambda hub: hub.fanout.lag_seconds),
    ),
    Family(
        "counter",
        "evmlb_backfilled_blocks_total",
        "Missed blocks that were fetched for subscribers.",
        NETWORK,
        _of_hub(lambda hub: hub.blocks.backfilled),
    ),
    Family(
        "gauge",
        "evmlb_deepest_reorg_blocks",
        "The most blocks that subscribers had to take back at one time.",
        NETWORK,
        _of_hub(lambda hub: hub.blocks.deepest_reorg),
    ),
    Family(
        "counter",
        "evmlb_gaps_possible_total",
        "Times that a topic which is only relayed changed its node, so that events may have been missed.",
        NETWORK,
        _of_hub(lambda hub: hub.gaps_possible),
    ),
    Family(
        "counter",
        "evmlb_subscribers_cut_total",
        "Times that subscribers were closed because blocks or logs that they missed could not be had.",
        NETWORK,
        _of_hub(lambda hub: hub.cuts),
    ),
    Family(
        "counter",
        "evmlb_unproven_logs_total",
        "Blocks whose bloom promised logs that no node gave.",
        NETWORK,
        _of_hub(lambda hub: hub.logs.unproven),
    ),
    Family(
        "gauge",
        "evmlb_node_websocket_up",
        "1 while the WebSocket to the node stands, else 0.",
        NODE,
        of_networks(_node_sockets),
    ),
    Family(
        "counter",
        "evmlb_node_websocket_losses_total",
        "WebSockets to the node that it, or the network, ended.",
        NODE,
        of_networks(_node_losses),
    ),
    Family(
        "counter",
        "evmlb_node_websocket_messages_total",
        "Messages from the node, in, and to the node, out.",
        (*NODE, "direction"),
        of_networks(_node_messages),
    ),
)
"""Clients first, then networks, then nodes."""
