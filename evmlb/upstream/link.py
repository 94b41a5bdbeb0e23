"""One WebSocket connection to a node, from the first look-up to its end. It does not come again; its owner may.

autobahn speaks the protocol (handshake, frames, masks, closing) over evmlb's own connections. Three things it has are
not used: its timers, which truncate to whole seconds and run on the global reactor, so every time-out is kept here; its
log, where each closed connection would be a warning; its signals, which nobody listens to, and its UTF-8 check, since
``bytes.isascii`` says the same of nearly every message.

    dialling -> shaking hands -> open -> over

An end has an :class:`Ending`, which says whose doing it was, and words without addresses or secrets.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, cast

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectingRequest
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.config.schema import NodeConfig
from evmlb.upstream.conversation import Conversation, SocketStats
from evmlb.upstream.http import USER_AGENT, Connect, UnknownHost, _connect_words
from evmlb.upstream.messages import MAX_MESSAGE_BYTES, Garbage
from evmlb.urls import Endpoint
from evmlb.wire.names import Addresses
from evmlb.wire.sockets import ClientTLS

CONNECT_SECONDS = 5.0
"""Look-up, connecting, TLS and handshake together take at most this."""
PING_SECONDS = 10.0
"""A node from which nothing came between two pings is taken for dead, so after 10 to 20 s."""
MAX_HEAD_BYTES = 64 * 1024
"""Of the answer to the handshake."""
_OWN_HEADERS = frozenset(
    (
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "content-type",
        "content-length",
    )
)

_log = Logger(namespace="evmlb.upstream")


class Ending(enum.Enum):
    """How a link ended."""

    UNREACHABLE = "unreachable"  # no connection, or it took too long
    REFUSED = "refused"  # connected, and what came was no WebSocket
    LOST = "lost"  # the node or the network closed it
    SILENT = "silent"  # nothing came
    GARBAGE = "garbage"  # the node broke the rules
    CLOSED = "closed"  # our own doing


_GENTLE = frozenset((Ending.LOST, Ending.CLOSED))
"""What was written before such an end may still be sent."""


class LinkOwner(Protocol):
    """Who hears of a link: ``opened`` at most once, ``ended`` once."""

    def opened(self, link: Link) -> None:
        """The handshake is done."""
        ...

    def ended(self, link: Link, ending: Ending, words: str) -> None:
        """It is over; who still waited for answers was told before."""
        ...


class Target:
    """Where a node's WebSocket is, and how it is asked for.

    A node without ``ws_endpoint`` may have one beside its ``rpc_endpoint``: ``is_guess``. Raises ``OSError`` or
    ``ssl.SSLError`` when a ``ca_file`` cannot be used.
    """

    def __init__(self, reactor: Any, node: NodeConfig, now: Callable[[], float]) -> None:
        endpoint = self.endpoint = node.ws_endpoint or _beside(node.endpoint)
        self.is_guess = node.ws_endpoint is None and node.endpoint.scheme in ("http", "https")
        self.tls = ClientTLS(endpoint.host, node.ca_file) if endpoint.is_tls else None
        self.addresses = Addresses(reactor, endpoint.host, now)
        names_itself = any(name.lower() == "user-agent" for name, _ in node.headers)
        self._user_agent = None if names_itself else USER_AGENT
        self.factory = WebSocketClientFactory(reactor=reactor)
        self.factory.setProtocolOptions(
            utf8validateIncoming=False,
            maxFramePayloadSize=MAX_MESSAGE_BYTES,
            maxMessagePayloadSize=MAX_MESSAGE_BYTES,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
        )
        self._headers = _headers(node, endpoint)

    def request(self) -> ConnectingRequest:
        """What the handshake asks for."""
        host = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        endpoint, agent = self.endpoint, self._user_agent
        return ConnectingRequest(host, endpoint.port, endpoint.target, dict(self._headers), useragent=agent)


def _beside(endpoint: Endpoint) -> Endpoint:
    """The WebSocket endpoint at the same host, port and path."""
    scheme = "wss" if endpoint.is_tls else "ws"
    return replace(endpoint, scheme=scheme, masked=scheme + endpoint.masked.removeprefix(endpoint.scheme))


def _headers(node: NodeConfig, endpoint: Endpoint) -> dict[str, str]:
    given = {name: value for name, value in node.headers if name.lower() not in _OWN_HEADERS}
    if endpoint.authorization is not None and not any(name.lower() == "authorization" for name in given):
        given["Authorization"] = endpoint.authorization
    return given


class Link:
    """See the module's head. ``talk`` is what goes over it; use it while ``is_open``."""

    def __init__(
        self,
        reactor: IReactorTime,
        target: Target,
        now: Callable[[], float],
        stats: SocketStats,
        owner: LinkOwner,
        connect: Connect,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._owner = owner
        self._stats = stats
        self._dialling: defer.Deferred[None] | None = None
        self._protocol: Client | None = None
        self._pinged = False
        self._timer: Any = None
        self.target = target
        self.talk = Conversation(self._write, now, stats)
        self.heard = False  # since the last ping
        self.is_open = False
        self.is_over = False
        self.was_open = False

    def begin(self) -> None:
        """Connect. Its owner may hear of the end before this returns."""
        self._timer = self._reactor.callLater(CONNECT_SECONDS, self._take_too_long)
        self._dialling = defer.Deferred.fromCoroutine(self._dial())
        self._dialling.addErrback(self._fail_to_connect)

    def close(self) -> None:
        """End it properly, without waiting for the node."""
        if self.is_open and self._protocol is not None:
            self._protocol.leave()
        self.end(Ending.CLOSED, "closed by evmlb")

    def end(self, ending: Ending, words: str) -> None:
        """It is over: tell everyone, once, and cut what is left of the connection."""
        if self.is_over:
            return
        self.is_over, self.was_open, self.is_open = True, self.is_open, False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._count(ending)
        if self._dialling is not None:
            self._dialling.cancel()
        if self._protocol is not None and not (self.was_open and ending in _GENTLE):
            self._protocol.abandon()
        self.talk.end(words)
        self._owner.ended(self, ending, words)

    def _count(self, ending: Ending) -> None:
        if ending is Ending.CLOSED:
            return
        self._stats.losses += self.was_open
        self._stats.failures += not self.was_open
        self._stats.silences += ending is Ending.SILENT
        self._stats.garbage += ending is Ending.GARBAGE

    # connecting

    async def _dial(self) -> None:
        """Connect to the first of the host's addresses that answers; each gets its share of the time."""
        target = self.target
        addresses = await target.addresses.get()
        if not addresses:
            raise UnknownHost
        seconds = CONNECT_SECONDS / len(addresses)
        for address in addresses:
            client = Client(self)
            try:
                await self._connect(self._reactor, address, target.endpoint.port, client, target.tls, seconds)
                return
            except Exception:
                client.abandon()  # its transport may still come, when it was cancelled too late
                if self.is_over or address == addresses[-1]:
                    raise

    def _fail_to_connect(self, failure: Failure) -> None:
        self.end(Ending.UNREACHABLE, _connect_words(failure))

    def _take_too_long(self) -> None:
        connected = self._protocol is not None
        words = "the WebSocket handshake is not answered" if connected else "connecting took too long"
        self.end(Ending.UNREACHABLE, words)

    # what the protocol tells

    def joined(self, protocol: Client) -> bool:
        """A connection stands; False when nobody waits for it any more."""
        if not self.is_over:
            self._protocol = protocol
        return not self.is_over

    def shaken(self) -> None:
        """The handshake is done."""
        self._timer.cancel()
        self._timer = self._reactor.callLater(PING_SECONDS, self._ping)
        self.is_open = True
        self._stats.connects += 1
        self._owner.opened(self)

    def take(self, data: bytes) -> None:
        """A message came."""
        if not self.is_over:
            try:
                self.talk.received(data)
            except Garbage as garbage:
                self.end(Ending.GARBAGE, str(garbage))

    # the connection's life

    def _ping(self) -> None:
        protocol = self._protocol
        if self._pinged and not self.heard:
            self.end(Ending.SILENT, "nothing came for a while, not even the answer to a ping")
        elif protocol is not None:
            self._pinged, self.heard = True, False
            protocol.sendPing()
            self._timer = self._reactor.callLater(PING_SECONDS, self._ping)

    def _write(self, message: bytes) -> None:
        if self._protocol is not None:
            self._protocol.sendMessage(message)


class Client(WebSocketClientProtocol):
    """What autobahn speaks with, of one link. Its names are autobahn's."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.factory = link.target.factory
        self.log: Any = _SILENCE
        self._link = link
        self._is_abandoned = False
        self._has_begun = False
        self._is_gone = False

    def abandon(self) -> None:
        """Cut it, now or once it is there."""
        self._is_abandoned = True
        if self.transport is not None and not self._is_gone:
            cast(Any, self.transport).abortConnection()

    def leave(self) -> None:
        """Close it properly; whether the node answers is of no interest."""
        self.sendClose(1000)
        cast(Any, self.transport).loseConnection()

    def connectionMade(self) -> None:
        """Begin the handshake, if anybody still waits for it."""
        if self._is_abandoned or not self._link.joined(self):
            self.abandon()
            return
        self._has_begun = True
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; nothing that they cause gets past here."""
        link = self._link
        if link.is_over:
            return
        link.heard = True
        if not link.is_open and len(self.data) + len(data) > MAX_HEAD_BYTES and b"\r\n\r\n" not in self.data + data:
            link.end(Ending.REFUSED, "the answer to the WebSocket handshake has no end")
            return
        try:
            self._dataReceived(data)
        except UnicodeDecodeError:
            self.failHandshake("not HTTP")
        except Exception:
            _log.failure("while bytes of a node were being taken")
            link.end(Ending.GARBAGE, "its bytes could not be taken")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """It is gone."""
        self._is_gone = True
        if not self._has_begun:
            return
        super().connectionLost(reason)
        if self._link.is_open:
            self._link.end(Ending.LOST, "the connection ended")
        else:
            self._link.end(Ending.REFUSED, "the node ended the connection instead of answering the handshake")

    def onConnecting(self, transport_details: Any) -> ConnectingRequest:
        """Say what the handshake asks for."""
        return self._link.target.request()

    def failHandshake(self, reason: str) -> None:
        """What came is no WebSocket."""
        self._link.end(Ending.REFUSED, f"no WebSocket there: {_shown(reason)}")

    def onOpen(self) -> None:
        """The handshake is done."""
        self._link.shaken()

    def onMessageEnd(self) -> None:
        """A message is whole; autobahn's own version also feeds listeners that nobody registers."""
        data, self.message_data = self.message_data, []
        if not self.failedByMe:
            self._link.take(b"".join(data))

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> bool | None:
        """The node closes."""
        done = super().onCloseFrame(code, reasonRaw)
        shown = f"{code or 'no code'} {_shown((reasonRaw or b'').decode(errors='replace'))}".strip()
        cast(Any, self.transport).loseConnection()
        self._link.end(Ending.LOST, f"the node closed it ({shown})")
        return done

    def dropConnection(self, abort: bool = False) -> None:
        """The node broke WebSocket's rules; before the handshake, something else is at work."""
        super().dropConnection(abort)
        self._link.end(Ending.GARBAGE, _shown(self.wasNotCleanReason or "WebSocket's rules are broken"))


class _Silence:
    """Takes the place of autobahn's log."""

    def debug(self, *words: Any, **fields: Any) -> None:
        pass

    info = warn = error = failure = debug


_SILENCE = _Silence()


def _shown(text: str) -> str:
    """A node's words as they may stand in a log."""
    return "".join(letter for letter in text if letter.isprintable())[:150]
