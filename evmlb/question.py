"""A question of our own to a node: one request, and its answer as a Deferred.

:func:`ask` makes a JSON-RPC call and fires with the result. :func:`request` sends anything and fires with the outside
of the answer as soon as that is known, whatever the body is. Both go through the same client as clients' requests do,
both fail with :class:`AskFailed` and nothing else, and cancelling what they return ends the upstream work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead, Flight, Upstream
from evmlb.jsonrpc import Unreadable, call_body, read_value
from evmlb.texts import words_of

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_WORDS = 200
"""So many characters of a node's own words are kept."""
_QUESTION_ID = 1

_FAULT_OF_STATUS = {
    200: Fault.GARBAGE,
    401: Fault.UNAUTHORIZED,
    403: Fault.UNAUTHORIZED,
    429: Fault.RATE_LIMITED,
}
_LIMIT_CODES = frozenset((-32005, 429))
"""How JSON-RPC says "too often": -32005 is EIP-1474's "limit exceeded", 429 the HTTP status used as a code."""

T = TypeVar("T")


class AskFailed(Exception):
    """A question of ours was not answered well: ``fault`` says how, the text says it in words.

    ``code`` is that of a JSON-RPC error, else ``None``; ``message`` the node's own words where it gave any, else ours.
    ``retry_after`` is the value of the answer's Retry-After header, empty when there is none.
    """

    def __init__(self, fault: Fault, message: str, code: int | None = None, retry_after: bytes = b"") -> None:
        said = message if code is None else f"error {code}: {message}"
        super().__init__(f"{fault.value}: {said}")
        self.fault = fault
        self.message = message
        self.code = code
        self.retry_after = retry_after


class _Sink(ABC, Generic[T]):
    """Turns one answer into a Deferred; whatever comes after it is ignored."""

    repeatable = True

    def __init__(self, upstream: Upstream) -> None:
        self.flight: Flight | None = None
        self._upstream = upstream
        self.answer: Deferred[T] = Deferred(lambda _: upstream.cancel(self))

    @abstractmethod
    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The whole answer."""

    @abstractmethod
    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """The beginning of a large one."""

    def streamed(self, data: bytes) -> None:
        """More of it."""

    def ended(self) -> None:
        """That was all of it."""

    def progressed(self) -> None:
        """The time-out of who asks counts, nothing else."""

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no answer."""
        self._fail(AskFailed(fault, detail))

    def is_sent_anew(self) -> bool:
        """Our own questions may be asked twice, and have a time-out in any case."""
        return True

    def _fire(self, result: T) -> None:
        if not self.answer.called:
            self.answer.callback(result)

    def _fail(self, error: AskFailed) -> None:
        if not self.answer.called:
            self.answer.errback(error)


class _Question(_Sink[object]):
    """A JSON-RPC call: the whole answer is read, up to a bound."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self._head: AnswerHead | None = None  # of a large answer
        self._parts: list[bytes] = []
        self._size = 0

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        raw = b"".join(parts)
        try:
            body = read_value(raw, max_bytes=MAX_ANSWER_BYTES)
        except Unreadable:
            body = None
        if not isinstance(body, dict) or ("result" not in body and "error" not in body):
            fault = _FAULT_OF_STATUS.get(head.status, Fault.HTTP_ERROR)
            said = words_of(raw)
            words = f"HTTP {head.status} without a JSON-RPC answer" + (f": {said}" if said else "")
            self._fail(AskFailed(fault, words, retry_after=head.value(b"retry-after")))
        elif body.get("error") is not None:
            self._fail(_error_of(body["error"], head))
        elif body.get("id") not in (_QUESTION_ID, None):
            self._fail(AskFailed(Fault.GARBAGE, "the id is not the one asked with"))
        else:
            self._fire(body.get("result"))

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        self._head, self._parts = head, []
        for part in parts:
            self.streamed(part)

    def streamed(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES and not self.answer.called:
            self._upstream.cancel(self)
            self._fail(AskFailed(Fault.GARBAGE, "the answer is too large"))

    def ended(self) -> None:
        if self._head is not None:
            self.answered(self._head, self._parts)


class _Request(_Sink[AnswerHead]):
    """Any request: only the outside of the answer is of interest."""

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        self._fire(head)

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        self._upstream.cancel(self)  # nobody reads the rest, which may be without end
        self._fire(head)


def _error_of(error: object, head: AnswerHead) -> AskFailed:
    """What a JSON-RPC error says. One that comes with status 429 is a rate limit whatever its code."""
    code, message = None, error
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
    known = code if isinstance(code, int) and not isinstance(code, bool) else None
    limited = known in _LIMIT_CODES or head.status == 429
    fault = Fault.RATE_LIMITED if limited else Fault.RPC_ERROR
    return AskFailed(fault, str(message)[:MAX_WORDS], known, head.value(b"retry-after"))


def ask(upstream: Upstream, method: str, params: object = ()) -> Deferred[object]:
    """Make a JSON-RPC call; fires with its result."""
    question = _Question(upstream)
    upstream.send(question, call_body(method, params, _QUESTION_ID))
    return question.answer


def request(
    upstream: Upstream, body: bytes, *, method: bytes = b"POST", target: bytes = b"", headers: bytes = b""
) -> Deferred[AnswerHead]:
    """Send a request (see :meth:`evmlb.interfaces.Upstream.send`); fires with status and headers of the answer."""
    sink = _Request(upstream)
    upstream.send(sink, body, method=method, target=target, headers=headers)
    return sink.answer
