"""What a client may ask about its request beside an answer, and the header lines that tell it.

* ``X-Evmlb-Explain: 1`` asks for the path of the request; the answer has it in a header of the same name, as one line
  of JSON. Who may ask is configured: the path names nodes, and repeats what they said. So its texts are cleaned: no
  key in a URL, nothing but printable ASCII, which no line can be broken with.
* ``X-Fast-Track``, ``X-High-Priority`` and ``high_prio`` choose the class in which a request waits, where the network
  has priorities; its answers then tell in prio-load-balancer's headers how long it waited, and behind how many.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evmlb.config.schema import Config, ExplainFor
from evmlb.exchange import Exchange
from evmlb.policy.priority import class_of
from evmlb.texts import shown
from evmlb.trail import Record, Trail
from evmlb.wire.http1 import RequestHead

if TYPE_CHECKING:
    from evmlb.front.clients import ClientAddresses
    from evmlb.routing import Router

MAX_LINE_BYTES = 8000
"""Clients take a header line of 8 KiB, hardly one more; a longer path is shortened."""
MAX_TEXT = 400
"""Characters of one text in a path."""
SHORT_TEXT = 150
"""The same in one that is shortened: then its beginning fits for certain, at twelve bytes a character."""


class Marks:
    """Reads what clients ask for, and writes the lines of the answers. ``clients`` says who is trusted."""

    def __init__(self, config: Config, clients: ClientAddresses) -> None:
        self._explain = config.explain
        self._clients = clients

    def read(self, exchange: Exchange, head: RequestHead, router: Router) -> None:
        """Note on the exchange what its request asks for; what the client may not ask for is passed over."""
        if head.value(b"x-evmlb-explain") == b"1" and self._may_read(exchange.client_address, head.forwarded_for):
            exchange.trail = Trail(asked=True)
        if router.prioritises:
            method = "" if exchange.call is None else exchange.call.method
            exchange.priority = class_of(head.value, method, router.network.config.priority_queue)

    def _may_read(self, client: str, forwarded_for: bytes) -> bool:
        """Whether the client may ask for a path.

        A trusted one has nobody before it who is not. Where a proxy names somebody in a way that cannot be read
        (``192.0.2.1:4711``), the proxy itself counts as the client, and it may speak for anybody.
        """
        if self._explain is not ExplainFor.TRUSTED:
            return self._explain is ExplainFor.EVERYBODY
        hops = forwarded_for.decode("latin-1").split(",") if forwarded_for else []
        return all(self._clients.is_trusted(hop.strip()) for hop in (client, *hops))

    def lines(self, exchange: Exchange) -> bytes:
        """The lines for the answer; empty for nearly every request."""
        trail = exchange.trail
        path = b""
        if trail is not None and trail.asked and trail.record is not None:
            path = b"X-Evmlb-Explain: %b\r\n" % _one_line(trail.record)
        return path + _queue_lines(exchange)


def _one_line(record: Record) -> bytes:
    """A record as one line of printable ASCII; when it is too long, without the candidates and the later steps."""
    line = _json(_cleaned(record, MAX_TEXT))
    return line if len(line) <= MAX_LINE_BYTES else _json(_shortened(_cleaned(record, SHORT_TEXT)))


def _shortened(record: Record) -> Record:
    """The record with as many of the first steps as there is room for; how much is left out is told."""
    steps = record["steps"]
    short = {
        **record,
        "candidates": [],
        "candidates_left_out": len(record["candidates"]),
        "steps": [],
        "steps_left_out": len(steps),
    }
    room = MAX_LINE_BYTES - len(_json(short))
    for step in steps:
        room -= len(_json(step)) + len(",")
        if room < 0:
            break
        short["steps"].append(step)
        short["steps_left_out"] -= 1
    return short


def _cleaned(value: Any, limit: int) -> Any:
    """The same with every text in it cut and fit to be shown: some are a node's words, or the client's."""
    if isinstance(value, str):
        return shown(value, limit)
    if isinstance(value, dict):
        return {name: _cleaned(each, limit) for name, each in value.items()}
    return [_cleaned(each, limit) for each in value] if isinstance(value, list) else value


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _queue_lines(exchange: Exchange) -> bytes:
    """prio-load-balancer's lines on a good answer: times in microseconds, sizes of the request's own class."""
    queued = exchange.queued
    if queued is None:
        return b""
    names = (b"QueueDurationUs", b"SimDurationUs", b"TotalDurationUs", b"QueueSizeStart", b"QueueSizeEnd")
    return b"".join(b"X-PrioLB-%b: %d\r\n" % line for line in zip(names, queued, strict=True))
