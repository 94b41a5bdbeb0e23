"""What the layers ask of each other, as protocols: drivers and edges fulfil them, routing and polling use them."""

from __future__ import annotations

from typing import Any, Protocol

from evmlb.errors import Fault, Refusal


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


class Upstream(Protocol):
    """Sends requests to one node. ``losses``: how many connections the node, or the network, has ended so far."""

    losses: int

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


class Downstream(Protocol):
    """One client connection, as routing sees it. ``exchange`` is what routing was given.

    ``session`` is routing's to make and to read: what this client has seen.
    """

    session: Any

    def answer(self, exchange: Any, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer."""
        ...

    def begin(self, exchange: Any, head: AnswerHead, parts: list[bytes]) -> None:
        """The beginning of a large answer; from here on it cannot be taken back."""
        ...

    def stream(self, data: bytes) -> None:
        """More of it."""
        ...

    def finish(self, exchange: Any) -> None:
        """That was all of it."""
        ...

    def abort(self) -> None:
        """The answer cannot be finished: never a clean end."""
        ...

    def refuse(self, exchange: Any, refusal: Refusal) -> None:
        """An answer of our own."""
        ...
