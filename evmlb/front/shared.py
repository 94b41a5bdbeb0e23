"""What all client connections share: the networks, the limits, how answers look, what goes to nodes beside a body."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
from twisted.logger import Logger

from evmlb.config.schema import Config, LimitsConfig, LogLevel
from evmlb.errors import Refusal
from evmlb.exchange import Exchange
from evmlb.front.answers import Answers
from evmlb.front.clients import ClientAddresses
from evmlb.front.cors import cors_of
from evmlb.front.marks import Marks
from evmlb.front.packing import Packing, Runs
from evmlb.interfaces import ClientConnection
from evmlb.policy.pages import Hosts
from evmlb.policy.shares import Shares
from evmlb.routing import Router
from evmlb.stats import FrontStats
from evmlb.wire.http1 import RequestHead

_log = Logger(namespace="evmlb.front")

_OPAQUE_HEADERS = (
    b"content-type",
    b"accept",
    b"access-control-request-method",
    b"access-control-request-headers",
    b"origin",
)


class Shared:
    """What a connection knows of the client side. Connections come and go at :class:`.front.Front`, which is one."""

    def __init__(
        self,
        config: Config,
        routers: Mapping[str, Router],
        now: Callable[[], float],
        threads: Runs | None = None,
    ) -> None:
        self.now = now
        self.routers = dict(routers)
        self.limits: LimitsConfig = config.limits
        self.cors = cors_of(config.cors, now)
        self.hosts = Hosts(config.hosts) if config.hosts else None
        self.answers = Answers(config, self.cors)
        self.clients = ClientAddresses(config.trusted_proxies)
        self.marks = Marks(config, self.clients)
        self.stats = FrontStats()
        self.forward_headers = tuple(name.lower().encode() for name in config.forward_headers)
        self.tracing = config.log_level is LogLevel.TRACE
        self.closes_connections = False
        self.memory = Shares(config.limits.max_request_memory_bytes, config.limits.max_body_bytes)
        self.packing = Packing(config.gzip, self.memory, self.stats, threads)

    def upgrade(
        self, lane: ClientConnection, peer: str, head: RequestHead, router: Router, rest: bytes
    ) -> Refusal | None:
        """Make a WebSocket of a connection; or say why not.

        ``rest``: bytes that came behind the head.
        """
        raise NotImplementedError

    def gone(self, lane: ClientConnection) -> None:
        """A connection ended."""
        raise NotImplementedError

    def asked_hosts(self, head: RequestHead, peer: str) -> tuple[bytes, bytes]:
        """By what authorities a client asked: its Host, and that which a trusted proxy says was its Host."""
        forwarded = head.value(b"x-forwarded-host") if self.clients.is_trusted(peer) else b""
        return head.value(b"host"), forwarded

    # what goes to nodes beside the body

    def describe(self, exchange: Exchange, head: RequestHead, router: Router) -> None:
        """Add what goes to the node beside the body, and what the client asks of us beside an answer.

        The exchange comes with the peer as its client.
        """
        peer = exchange.client_address
        exchange.client_address = self.clients.client(peer, head.forwarded_for)
        exchange.forwarded_for = self.clients.line(peer, head.forwarded_for)
        exchange.target = head.extra + head.query
        exchange.headers = self.forwarded(head, opaque=exchange.call is None)
        if head.is_marked or router.prioritises:
            self.marks.read(exchange, head, router)

    def describe_message(self, head: RequestHead, router: Router, exchange: Exchange) -> None:
        """The same for one message of a WebSocket, whose request had this head."""
        exchange.target = head.query
        if router.prioritises:
            self.marks.read(exchange, head, router)
        if self.tracing:
            self.trace(router, exchange)

    def forwarded(self, head: RequestHead, *, opaque: bool = False) -> bytes:
        """Header lines of the client's that go to the node, but for those that it means for us alone."""
        names = self.forward_headers + (_OPAQUE_HEADERS if opaque else ())
        if not names:
            return b""
        hop = {name.strip() for name in head.value(b"connection").lower().split(b",")}
        return b"".join(
            b"%b: %b\r\n" % (name, value) for name, value in head.headers if name in names and name not in hop
        )

    def trace(self, router: Router, exchange: Exchange) -> None:
        """Write who asks for what; only called where ``tracing``."""
        _log.debug(
            "{client} asks {network} for {method}",
            client=exchange.client_address,
            network=router.network.name,
            method=exchange.http_method.decode() if exchange.call is None else exchange.call.method,
            trace=True,
        )

    def overview(self) -> bytes:
        """What ``GET /`` says: the networks and whether they can serve."""
        networks = [
            {"name": name, "path": f"/{name}", "serving": bool(router.network.order.candidates)}
            for name, router in self.routers.items()
        ]
        return orjson.dumps({"networks": networks})
