"""What the layers ask of each other, as protocols: drivers and edges fulfil them, routing and polling use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from evmlb.errors import Fault, Refusal
from evmlb.jsonrpc import Call


class AnswerHead(Protocol):
    """The outside of a node's HTTP answer. ``length`` is negative while it is not known."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def length(self) -> int:
        """Bytes of the body, or negative."""
        ...

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays; surely not where its end is the answer's end."""
        ...

    @property
    def content_type(self) -> bytes:
        """The Content-Type, empty when there is none."""
        ...

    @property
    def is_encoded(self) -> bool:
        """Whether the body is compressed, which nobody asked for."""
        ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """All headers, names in lower case."""
        ...

    def value(self, name: bytes) -> bytes:
        """The first value of a header, empty when there is none."""
        ...


class Flight(Protocol):
    """A request that is on its way, or its answer. ``held_bytes``: so much of the answer is held back by now."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the answer that came and were not handed on yet."""
        ...

    def abort(self) -> None:
        """Give it up: nothing more is told of it, and the connection is closed."""
        ...

    def pause(self) -> None:
        """Read no more of the answer for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Sink(Protocol):
    """Hears how one request at one node goes.

    Either ``answered`` is called once; or ``began``, any number of ``streamed``, and ``ended``; or ``failed`` at any
    point but after ``answered`` or ``ended``. ``progressed`` comes with each piece that is held back.
    """

    flight: Flight | None
    repeatable: bool

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer is there."""
        ...

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The answer is larger than what is held: this is its beginning."""
        ...

    def streamed(self, data: bytes) -> None:
        """More of it."""
        ...

    def ended(self) -> None:
        """That was all of it."""
        ...

    def progressed(self) -> None:
        """A part of the answer came."""
        ...

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no whole answer. ``sent`` False: the node surely did not receive the request."""
        ...

    def is_sent_anew(self) -> bool:
        """A kept connection ended without a byte of an answer: whether the request goes out on another one.

        Only asked of a sink that is ``repeatable``. True: it is, and counts as one more sending.
        """
        ...


class Upstream(Protocol):
    """Sends requests to one node."""

    @property
    def losses(self) -> int:
        """How many connections the node, or the network, has ended so far."""
        ...

    def send(
        self,
        sink: Sink,
        body: bytes,
        *,
        method: bytes = b"POST",
        target: bytes = b"",
        headers: bytes = b"",
    ) -> None:
        """Send ``body``. ``target`` is path and query to add to the node's own, ``headers`` whole lines."""
        ...

    def cancel(self, sink: Sink) -> None:
        """Forget a request, whether it waits for a connection or is under way."""
        ...

    def redirect(self, sink: Sink, to: Sink) -> bool:
        """Let another sink take the answer; False when nothing was sent yet, and the request is forgotten."""
        ...


# WebSockets of clients


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client connection that wants to become a WebSocket, as the client port hands it over.

    ``head`` is its request's, ``router`` that of its network. ``client``: the address that counts, ``headers`` and
    ``forwarded_for``: whole lines for nodes, as with any request. ``describe``, where there is one, says more of each
    exchange. ``gone`` takes the WebSocket when it has ended. ``is_proxy``: the client is a trusted address, and may
    speak for many. ``hosts``: by what authorities it asked.
    """

    head: Any
    router: Any
    client: str
    headers: bytes
    forwarded_for: bytes
    describe: Callable[[Any], None] | None
    gone: Callable[[Any], None]
    is_proxy: bool = False
    hosts: tuple[bytes, ...] = ()


class ClientConnection(Protocol):
    """What the client port does with a connection, whatever is spoken on it."""

    transport: Any

    @property
    def is_idle(self) -> bool:
        """Whether it can be closed at once when evmlb stops."""
        ...

    def check(self, now: float) -> None:
        """Called about once a second: end what takes too long."""
        ...

    def close(self) -> None:
        """Take nothing more, and close behind what is written."""
        ...


class ClientSocket(ClientConnection, Protocol):
    """A WebSocket that was not opened yet."""

    def open(self, transport: Any, rest: bytes) -> None:
        """Begin, on a transport that is told of its new protocol already. ``rest``: bytes that came after the head."""
        ...


class Upgrades(Protocol):
    """Makes WebSockets of client connections."""

    def take(self, upgrade: Upgrade) -> ClientSocket | Refusal:
        """The WebSocket of a connection, to be opened; or why there shall be none."""
        ...

    def drain(self) -> None:
        """Take no more, and close those there are, bit by bit over the grace time."""
        ...


class Subscriber(Protocol):
    """One client's WebSocket, as the maker of its subscriptions sees it. ``client``: whose share they count in.

    ``subscriptions`` is the hub's to keep: how many there are; a connection that has any is not idle.
    ``max_subscriptions`` is for the hub to hold it to.
    """

    client: str
    subscriptions: int
    max_subscriptions: int

    @property
    def is_open(self) -> bool:
        """Whether what is sent may still arrive."""
        ...

    @property
    def queued_bytes(self) -> int:
        """So much of what was sent is still held here, because the client does not read it."""
        ...

    def reply(self, call_id: bytes, result: bytes) -> None:
        """Answer a call by its result, which is JSON. Nothing is sent where the call has no id."""
        ...

    def refuse(self, call_id: bytes, code: int, message: str) -> None:
        """Answer a call by an error. Nothing is sent where the call has no id."""
        ...

    def notify(self, prefix: bytes, subscription_id: bytes, suffix: bytes) -> None:
        """Send one text message made of three parts."""
        ...

    def send_frame(self, frame: bytes) -> None:
        """Send a whole frame (RFC 6455, 5.2), made once for many."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close the connection; the reason has at most 123 bytes."""
        ...


class Subscriptions(Protocol):
    """The subscriptions of one network: a hub that makes events once for any number of clients."""

    @property
    def told_height(self) -> int:
        """The number of the newest block that subscribers of blocks were told of; 0 before the first."""
        ...

    def subscribe(self, subscriber: Subscriber, call: Call) -> None:
        """Take an ``eth_subscribe``; it is answered by ``subscriber.reply`` or ``refuse``, now or later."""
        ...

    def unsubscribe(self, subscriber: Subscriber, subscription_id: str) -> bool:
        """End a subscription; False when this subscriber has none of that id."""
        ...

    def gone(self, subscriber: Subscriber) -> None:
        """The connection ended, and with it all its subscriptions; nothing can be sent any more."""
        ...
