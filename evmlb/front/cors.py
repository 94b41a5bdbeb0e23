"""What pages in browsers may ask and read (https://fetch.spec.whatwg.org/#http-cors-protocol): no I/O.

There are two policies. With origins configured, the word is evmlb's own, for answers, refusals and preflights:
:class:`OwnCors`. Otherwise (``cors: pass``) it is the nodes': :class:`NodesCors`. Then three things are still decided
here, because a page whose node fails would see no more than that it was a matter of CORS:

* a refusal of evmlb's own repeats what a node last allowed to this origin in this network;
* a preflight is answered here: with what a node said to the same one within the last minute, else a node is asked, and
  where none answers the page gets what was last said. Of a node's answer only its Access-Control lines go on, since
  its words may repeat the path that it was asked under, which is often a key;
* nothing is allowed that no node allowed. A page's call would reach its node, whether or not the page may read the
  answer: the preflight is what protects a node whose accounts are unlocked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from evmlb.config.schema import CorsConfig
from evmlb.interfaces import AnswerHead
from evmlb.policy.pages import Origins
from evmlb.wire.http1 import RequestHead

K = TypeVar("K")
W = TypeVar("W")

FRESH_SECONDS = 60.0
"""So long a node's answer to a preflight is repeated before a node is asked again."""
MAX_REMEMBERED = 256
"""So many answers of nodes are remembered, of each kind; then all are forgotten: those that are in use come again."""
MAX_WORD_BYTES = 4096
"""What takes more, question and answer together, is not remembered."""

_OF_REFUSALS = (b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers")
_VARY = b"Vary: Origin\r\n"


class Cors(Protocol):
    """What is said to pages. Each method gives whole header lines; ``request`` comes from a page, and says so."""

    def permits(self, origin: bytes, *hosts: bytes) -> bool:
        """Whether a page may ask at all. ``hosts``: the authorities that it asked."""
        ...

    def of_answer(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """For a node's answer."""
        ...

    def of_refusal(self, request: RequestHead) -> bytes:
        """For an answer of our own."""
        ...

    def of_preflight(self, request: RequestHead) -> bytes | None:
        """For the answer to a preflight; None when a node is to be asked."""
        ...

    def learn(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """The same, after a node was asked and answered."""
        ...

    def last_of_preflight(self, request: RequestHead) -> bytes:
        """The same, after nodes were asked and none answered; empty when nothing is known."""
        ...


def cors_of(config: CorsConfig, now: Callable[[], float]) -> Cors:
    """The policy that is configured."""
    return OwnCors(config) if config.origins else NodesCors(now)


class OwnCors:
    """Origins are configured: nodes are not asked what they think."""

    def __init__(self, config: CorsConfig) -> None:
        self._config = config
        self._origins = Origins(config.origins)

    def permits(self, origin: bytes, *hosts: bytes) -> bool:
        """See :class:`Cors`. Pages of our own origin may always ask."""
        return self._origins.permit(origin, *hosts)

    def of_answer(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """See :class:`Cors`."""
        return self.of_refusal(request)

    def of_refusal(self, request: RequestHead) -> bytes:
        """See :class:`Cors`. To a page of an origin that is not configured nothing is said."""
        origin = self._allowed(request.origin)
        return b"Access-Control-Allow-Origin: %b\r\n%b" % (origin, _VARY) if origin else b""

    def of_preflight(self, request: RequestHead) -> bytes:
        """See :class:`Cors`."""
        if not self._allowed(request.origin):
            return _VARY
        config = self._config
        return self.of_refusal(request) + (
            b"Access-Control-Allow-Methods: %b\r\nAccess-Control-Allow-Headers: %b\r\nAccess-Control-Max-Age: %d\r\n"
            % (config.methods.encode(), config.headers.encode(), int(config.max_age_seconds))
        )

    def learn(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """See :class:`Cors`."""
        return self.of_preflight(request)

    def last_of_preflight(self, request: RequestHead) -> bytes:
        """See :class:`Cors`."""
        return self.of_preflight(request)

    def _allowed(self, origin: bytes) -> bytes:
        if "*" in self._config.origins:
            return b"*"
        return origin if origin.decode("latin-1") in self._config.origins else b""


class _Word(NamedTuple):
    lines: bytes
    at: float


class NodesCors:
    """What nodes say is passed on, and remembered. ``now``: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._answers: dict[tuple[str, bytes], bytes] = {}
        self._preflights: dict[tuple[object, ...], _Word] = {}

    def permits(self, origin: bytes, *hosts: bytes) -> bool:
        """See :class:`Cors`. It is for the nodes to say, when a preflight comes."""
        return True

    def of_answer(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """See :class:`Cors`."""
        self._remember_answer(request, answer)
        return _lines(answer)

    def of_refusal(self, request: RequestHead) -> bytes:
        """See :class:`Cors`."""
        return self._answers.get((request.network, request.origin), b"")

    def of_preflight(self, request: RequestHead) -> bytes | None:
        """See :class:`Cors`."""
        word = self._preflights.get(_question(request))
        return word.lines if word is not None and self._now() - word.at < FRESH_SECONDS else None

    def learn(self, request: RequestHead, answer: AnswerHead) -> bytes:
        """See :class:`Cors`. A preflight counts as denied unless its answer is a good one and names the origin."""
        if not 200 <= answer.status < 300 or not answer.value(b"access-control-allow-origin"):
            self._answers.pop((request.network, request.origin), None)
            lines = _VARY
        else:
            self._remember_answer(request, answer)
            lines = _lines(answer)
        question = _question(request)
        if len(lines) + sum(len(part) for part in question) <= MAX_WORD_BYTES:
            _put(self._preflights, question, _Word(lines, self._now()))
        return lines

    def last_of_preflight(self, request: RequestHead) -> bytes:
        """See :class:`Cors`."""
        word = self._preflights.get(_question(request))
        return b"" if word is None else word.lines

    def _remember_answer(self, request: RequestHead, answer: AnswerHead) -> None:
        lines = b"".join(_line(name, value) for name, value in answer.headers if name in _OF_REFUSALS)
        if not answer.value(b"access-control-allow-origin") or len(lines) + len(request.origin) > MAX_WORD_BYTES:
            return
        _put(self._answers, (request.network, request.origin), lines + _VARY)


def _question(request: RequestHead) -> tuple[str, bytes, bytes, bytes, bytes]:
    """All that the answer to a preflight may depend on."""
    asked = (request.value(b"access-control-request-method"), request.value(b"access-control-request-headers"))
    return (request.network, request.origin, request.extra, *asked)


def _put(words: dict[K, W], key: K, word: W) -> None:
    if key not in words and len(words) >= MAX_REMEMBERED:
        words.clear()
    words[key] = word


def _lines(answer: AnswerHead) -> bytes:
    """What a node says of pages, as it says it."""
    return b"".join(
        _line(name, value) for name, value in answer.headers if name.startswith(b"access-control-") or name == b"vary"
    )


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name, value)
