"""What became of a request, told to those who asked and kept for those who will.

The trail itself is :mod:`evmlb.trail`; here is what of an exchange goes into it. Nothing here runs for a request that
nobody asked about and that went as it should.
"""

from __future__ import annotations

from evmlb.exchange import Exchange
from evmlb.network import Network
from evmlb.routing.attempts import Attempt
from evmlb.routing.effort import attempt_of, made_effort
from evmlb.trail import Record, Ring, Trail


def trail_of(exchange: Exchange, network: Network) -> Trail:
    """The trail of an exchange, begun now if there is none: with what it was until now."""
    trail = exchange.trail
    if trail is None:
        trail = exchange.trail = Trail()
    if not trail.candidates:
        trail.candidates = network.order.places
    return trail


def note(exchange: Exchange, network: Network, now: float, what: str, node: str = "", detail: str = "") -> None:
    """Note a step that is not common. The first sending is told before it, if it was not."""
    trail = trail_of(exchange, network)
    attempt = attempt_of(exchange)
    if not trail.steps and attempt is not None:
        trail.note(attempt.sent_at - exchange.started, "asked", attempt.node.name)
    trail.note(now - exchange.started, what, node, detail)


def note_sent(exchange: Exchange, attempt: Attempt) -> None:
    """A node was asked; only noted where a trail is kept."""
    if exchange.trail is not None:
        exchange.trail.note(attempt.sent_at - exchange.started, "asked", attempt.node.name)


def tell_so_far(exchange: Exchange, network: Network, now: float, outcome: str) -> None:
    """The head of a large answer is written before its end is known: tell what there is until now."""
    if exchange.trail is not None:
        exchange.trail.record = _record(exchange, network, now - exchange.started, outcome)


def keep(exchange: Exchange, network: Network, seconds: float, outcome: str, ring: Ring) -> None:
    """An exchange that is worth a record is over. ``outcome``: in a word or two; ``answered`` is the good one."""
    record = _record(exchange, network, seconds, outcome)
    if exchange.trail is not None:
        exchange.trail.record = record
    if outcome != "answered":
        ring.keep_failure(record)
    elif seconds > ring.bar_seconds:
        ring.keep_slow(seconds, record)


def _record(exchange: Exchange, network: Network, seconds: float, outcome: str) -> Record:
    trail = exchange.trail or Trail()
    effort = made_effort(exchange)
    call = exchange.call
    return {
        "network": network.name,
        "method": exchange.http_method.decode() if call is None else call.method,
        "outcome": outcome,
        "node": None if outcome == "refused" else exchange.node or None,
        "attempts": exchange.attempts,
        "hedges": 0 if effort is None else effort.hedges,
        "total_ms": round(seconds * 1000, 1),
        **trail.told(),
    }
