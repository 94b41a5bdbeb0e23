"""What the pages show: plain values of the state of networks and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from evmlb.network import Network, Place
from evmlb.node import facts_of
from evmlb.stats import NetworkStats
from evmlb.texts import shown
from evmlb.trail import Record

SLICE_RECORDS = 10
"""So many requests with their paths are written without a pause: less than a millisecond, unless all are long."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """What pages are made from. ``poll_outcomes``: one per node, in the order of ``network.nodes``."""

    network: Network
    stats: NetworkStats
    poll_outcomes: tuple[Counter[str], ...]


def network_facts(view: NetworkView, now: float) -> dict[str, Any]:
    """Everything known of a network, for a person to read: JSON-able, times as ages in seconds, no secret."""
    network, order = view.network, view.network.order
    known = network.chainhead is not None
    facts = {
        "chain_id": network.chain_id,
        "chainhead": network.chainhead,
        "chainhead_age_seconds": round(max(0.0, now - network.chainhead_since), 3) if known else None,
        "block_time_seconds": network.block_time_seconds,
        "started": network.started,
        "tier": order.tier.value if order.tier else None,
        "degraded": order.degraded,
        "panic": order.panic,
        "refusal": order.refusal,
        "order": [node.name for node in order.candidates],
        "requests": view.stats.requests,
        "in_flight": view.stats.in_flight,
        "queued": view.stats.queued,
        "failovers": view.stats.failovers,
        "hedges": view.stats.hedges,
        "shed": view.stats.shed,
        "nodes": [
            _node_facts(network, place, polls, now)
            for place, polls in zip(order.places, view.poll_outcomes, strict=True)
        ],
    }
    safe: dict[str, Any] = _safe(facts)
    return safe


def _node_facts(network: Network, place: Place, polls: Counter[str], now: float) -> dict[str, Any]:
    return {
        **facts_of(place.node, now),
        "lag_blocks": place.node.lag_at(network.chainhead, network.chain_id),
        "state": place.state.value,
        "rank": place.rank,
        "reason": place.reason,
        "polls": dict(polls),
    }


def _safe(value: Any) -> Any:
    """The value with every text in it fit to be shown: nodes and libraries had their words in some."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {name: _safe(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_INTEGER:
        return str(value)
    return value


_MAX_INTEGER = 2**63 - 1


def as_json(value: Any) -> bytes:
    """For a person: indented."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def nodes_page(views: Mapping[str, NetworkView], now: Callable[[], float]) -> Iterator[bytes]:
    """``{"networks": {...}}`` in pieces, one per network: each is read when its piece is taken."""
    yield b'{\n"networks": {'
    for place, (name, view) in enumerate(views.items()):
        yield b"%b%b: %b" % (b",\n" if place else b"\n", orjson.dumps(name), as_json(network_facts(view, now())))
    yield b"}\n}\n"


def requests_page(lists: Mapping[str, Callable[[], Iterable[Record]]]) -> Iterator[bytes]:
    """``{"failures": [...], ...}`` in pieces; each list is read when its first piece is taken."""
    yield b"{\n"
    for place, (name, records) in enumerate(lists.items()):
        yield b"%b%b: " % (b"," if place else b"", orjson.dumps(name))
        yield from records_page(records)
    yield b"}\n"


def records_page(records: Callable[[], Iterable[Record]]) -> Iterator[bytes]:
    """A list of records in pieces of a few."""
    taken = iter(records())
    separator = b"[\n"
    while part := list(islice(taken, SLICE_RECORDS)):
        yield separator + b",\n".join(as_json(_safe(record)).rstrip() for record in part)
        separator = b",\n"
    yield b"]\n" if separator == b",\n" else b"[]\n"
