"""What a client may ask about its request beside an answer, and the header lines that tell it.

* ``X-Evmlb-Explain: 1`` asks for the path of the request; the answer has it in a header of the same name, as one line
  of JSON. Who may ask is configured: the path names nodes.
* ``X-Fast-Track``, ``X-High-Priority`` and ``high_prio`` choose the class in which a request waits, where the network
  has priorities; its answers then tell in prio-load-balancer's headers how long it waited, and behind how many.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from evmlb.config.schema import Config, ExplainFor
from evmlb.exchange import Exchange
from evmlb.policy.priority import class_of
from evmlb.trail import Record, Trail
from evmlb.wire.http1 import RequestHead

if TYPE_CHECKING:
    from evmlb.front.clients import ClientAddresses
    from evmlb.routing import Router

MAX_LINE_BYTES = 8000
"""Clients take a header line of 8 KiB, hardly one more; a longer path is cut."""


class Marks:
    """Reads what clients ask for, and writes the lines of the answers. ``clients`` says who is trusted."""

    def __init__(self, config: Config, clients: ClientAddresses) -> None:
        self._explain = config.explain
        self._clients = clients

    def read(self, exchange: Exchange, head: RequestHead, router: Router) -> None:
        """Note on the exchange what its request asks for; what the client may not ask for is passed over."""
        if head.value(b"x-evmlb-explain") == b"1" and self._may_read(exchange.client_address):
            exchange.trail = Trail(asked=True)
        if router.prioritises and exchange.call is not None:
            priorities = router.network.config.priority_queue
            exchange.priority = class_of(head.value, exchange.call.method, priorities)

    def _may_read(self, client: str) -> bool:
        if self._explain is ExplainFor.TRUSTED:
            return self._clients.is_trusted(client)
        return self._explain is ExplainFor.EVERYBODY

    def lines(self, exchange: Exchange) -> bytes:
        """The lines for the answer; empty for nearly every request."""
        trail = exchange.trail
        path = b""
        if trail is not None and trail.asked and trail.record is not None:
            path = b"X-Evmlb-Explain: %b\r\n" % _one_line(trail.record)
        return path + _queue_lines(exchange)


def _one_line(record: Record) -> bytes:
    """A record as one line of ASCII; when it is too long, without the candidates and the later steps."""
    line = _json(record)
    if len(line) > MAX_LINE_BYTES:
        steps = record["steps"]
        line = _json({**record, "candidates": [], "steps": steps[:16], "steps_left_out": max(0, len(steps) - 16)})
    return line[:MAX_LINE_BYTES]


def _json(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii")


def _queue_lines(exchange: Exchange) -> bytes:
    """prio-load-balancer's lines on a good answer: times in microseconds, sizes of the request's own class."""
    queued = exchange.queued
    if queued is None:
        return b""
    names = (b"QueueDurationUs", b"SimDurationUs", b"TotalDurationUs", b"QueueSizeStart", b"QueueSizeEnd")
    return b"".join(b"X-PrioLB-%b: %d\r\n" % line for line in zip(names, queued, strict=True))
