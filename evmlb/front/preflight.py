"""A preflight that a node is asked about: of its answer only what it says of pages reaches the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evmlb.errors import Refusal
from evmlb.front.answering import AnsweringSide
from evmlb.interfaces import AnswerHead
from evmlb.wire.http1 import RequestHead

if TYPE_CHECKING:
    from evmlb.exchange import Exchange
    from evmlb.front.cors import Cors
    from evmlb.session import Session


class Preflight:
    """What a router has of the page's connection: see ``Reply``. A body, however long, is dropped."""

    __slots__ = ("_begun", "_cors", "_lane", "_request", "session")

    def __init__(self, lane: AnsweringSide, request: RequestHead, cors: Cors) -> None:
        self._lane = lane
        self._request = request
        self._cors = cors
        self._begun: Any = None  # the head of an answer whose end is not there yet
        self.session: Session | None = None

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """A node answered."""
        self._lane.tell(self._cors.learn(self._request, head))

    def begin(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """The same, at length: nothing can be said before the end, which also ends the exchange."""
        self._begun = head

    def stream(self, exchange: Exchange, data: bytes) -> None:
        """See :meth:`begin`."""

    def finish(self, exchange: Exchange) -> None:
        """See :meth:`begin`."""
        self._lane.tell(self._cors.learn(self._request, self._begun))

    def abort(self, exchange: Exchange) -> None:
        """The answer was cut."""
        self._lane.abort(exchange)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """No node answered: what was last said holds. Where nothing was, the page may at least see the status."""
        lines = self._cors.last_of_preflight(self._request)
        if lines:
            self._lane.tell(lines)
        else:
            self._lane.refuse(exchange, refusal)
