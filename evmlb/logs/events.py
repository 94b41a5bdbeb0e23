"""What networks tell, in words: one line per event.

At INFO one sees who serves and why; ERROR is for networks that nobody serves and for what only a person can mend.
Fields stay fields, so that JSON lines have them: ``network``, ``node``, and ``event``, the name of the event.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import Any

from twisted.logger import Logger, LogLevel

from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    Event,
    Events,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeLimitLifted,
    NodeOnWrongChain,
    NodeRateLimited,
    NodeStaysDown,
    NodeTimeAhead,
    NodeWentDown,
    OrderChanged,
)


class EventLog:
    """A sink for events: writes each to a logger."""

    def __init__(self, logger: Logger | None = None) -> None:
        self._log = logger or Logger(namespace="evmlb.events")

    def observe(self, events: Events) -> None:
        """Write what happened."""
        for event in events:
            self.tell(event)

    @singledispatchmethod
    def tell(self, event: Event) -> None:
        """Write one event; here: one that nobody has words for yet."""
        self._tell(LogLevel.info, event, "", "{network}: {event}")

    @tell.register
    def _went_down(self, event: NodeWentDown) -> None:
        self._tell(LogLevel.warn, event, "use", "{network}: node {node} is out: {reason}", reason=event.reason)

    @tell.register
    def _stays_down(self, event: NodeStaysDown) -> None:
        self._tell(LogLevel.warn, event, "use", "{network}: node {node} is still out: {reason}", reason=event.reason)

    @tell.register
    def _came_up(self, event: NodeCameUp) -> None:
        self._tell(LogLevel.info, event, "use", "{network}: node {node} is in: {reason}", reason=event.reason)

    @tell.register
    def _wrong_chain(self, event: NodeOnWrongChain) -> None:
        expected = "another" if event.expected is None else "{expected}"
        text = f"{{network}}: node {{node}} is out: it serves chain {{chain_id}} instead of {expected}"
        self._tell(LogLevel.error, event, "use", text, chain_id=event.chain_id, expected=event.expected)

    @tell.register
    def _suspect(self, event: NodeBecameSuspect) -> None:
        text = "{network}: node {node} is asked last for now: {reason}"
        self._tell(LogLevel.debug, event, "suspicion", text, reason=event.reason)

    @tell.register
    def _rate_limited(self, event: NodeRateLimited) -> None:
        until = "{seconds:.0f} s, as it said" if event.told else "{seconds:.0f} s, then it is tried"
        said = " ({words})" if event.words else ""
        text = "{network}: node {node} says that it is asked too often" + said + ": held off for " + until
        self._tell(LogLevel.warn, event, "limit", text, told=event.told, seconds=event.seconds, words=event.words)

    @tell.register
    def _limit_lifted(self, event: NodeLimitLifted) -> None:
        self._tell(LogLevel.info, event, "limit", "{network}: node {node} takes requests again")

    @tell.register
    def _fell_behind(self, event: NodeFellBehind) -> None:
        unit = _unit(event.lag_blocks)
        text = f"{{network}}: node {{node}} fell behind: {{lag_blocks}} {unit} behind (limit {{limit_blocks}})"
        self._tell(LogLevel.warn, event, "lag", text, lag_blocks=event.lag_blocks, limit_blocks=event.limit_blocks)

    @tell.register
    def _caught_up(self, event: NodeCaughtUp) -> None:
        text = f"{{network}}: node {{node}} caught up: {{lag_blocks}} {_unit(event.lag_blocks)} behind"
        self._tell(LogLevel.info, event, "lag", text, lag_blocks=event.lag_blocks)

    @tell.register
    def _doubted(self, event: NodeHeadDoubted) -> None:
        known = "none" if event.chainhead is None else "{chainhead}"
        text = (
            f"{{network}}: node {{node}} reports block {{number}} where {known} is known, more than time allows: "
            "it does not count until it is confirmed"
        )
        self._tell(LogLevel.warn, event, "doubt", text, number=event.number, chainhead=event.chainhead)

    @tell.register
    def _time_ahead(self, event: NodeTimeAhead) -> None:
        text = (
            "{network}: node {node} shows a block that is {seconds:.0f} s ahead of this machine's clock: "
            "one of the two is off"
        )
        self._tell(LogLevel.warn, event, "clock", text, seconds=event.seconds)

    @tell.register
    def _chainhead(self, event: ChainheadMoved) -> None:
        level, kind, text = _chainhead_words(event)
        values = {"number": event.number, "previous": event.previous}
        self._tell(level, event, "chainhead", text, kind=kind, **values)

    @tell.register
    def _disputed(self, event: ChainIdDisputed) -> None:
        text = "{network}: refused, its nodes do not agree on the chain id ({ids}), and chain_id is not configured"
        self._tell(LogLevel.error, event, "dispute", text, ids=", ".join(map(str, event.chain_ids)))

    @tell.register
    def _order(self, event: OrderChanged) -> None:
        level, text = _order_words(event)
        # who serves is told at once, and again and again only for the same nodes: so they are part of the key
        kind = "sequence" if event.reordered else f"{event.tier} {sorted(event.nodes)}"
        values: dict[str, Any] = {"tier": event.tier and event.tier.value, "nodes": list(event.nodes)}
        self._tell(level, event, "order", text, kind=kind, names=", ".join(event.nodes), reason=event.reason, **values)

    def _tell(self, level: Any, event: Event, topic: str, text: str, *, kind: str = "", **values: Any) -> None:
        node: str | None = getattr(event, "node", None)
        name = type(event).__name__
        if node is not None:
            values["node"] = node
        self._log.emit(
            level,
            text,
            network=event.network,
            event=name,
            log_key=(event.network, node, name, kind),
            log_state=(event.network, node, topic),
            **values,
        )


def _unit(count: int) -> str:
    return "block" if count == 1 else "blocks"


def _chainhead_words(event: ChainheadMoved) -> tuple[Any, str, str]:
    if event.number is None:
        return LogLevel.warn, "lost", "{network}: the chainhead is lost, no node's head counts (it was {previous})"
    if event.previous is not None and event.number < event.previous:
        return LogLevel.warn, "fell", "{network}: the chainhead came down from {previous} to {number}"
    return LogLevel.debug, "rose", "{network}: the chainhead is {number}"


def _order_words(event: OrderChanged) -> tuple[Any, str]:
    if not event.nodes:
        return LogLevel.error, "{network}: nobody serves: {reason}"
    if event.reordered:
        return LogLevel.debug, "{network}: {tier} nodes serve in another sequence: {names} ({reason})"
    if event.degraded:
        return LogLevel.warn, "{network}: no node is in range, the nearest serve: {names} ({reason})"
    return LogLevel.info, "{network}: {tier} nodes serve, first first: {names} ({reason})"
