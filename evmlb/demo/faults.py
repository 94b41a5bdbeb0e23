"""What can be wrong with a node, and what its client then sees.

A fault is a kind and an amount, written as one or two words: ``healthy``, ``lag 12``, ``slow 250``, ``status 503``.
Three things can be wrong, and a kind belongs to one of them:

* **what the node believes**: ``lag``, ``frozen``, ``wrong-chain``, ``syncing``, ``lying-head``, ``internal-error``
  (the node changes its answers; the bytes are sent properly);
* **how it answers**: everything else but ``refuse`` (:func:`play` turns the answer into steps);
* **whether it is there at all**: ``refuse`` (the port is closed).
"""

from __future__ import annotations

import enum
import gzip
from collections.abc import Iterator
from dataclasses import dataclass


class Kind(enum.Enum):
    """One way to misbehave; the value is its word. In brackets what the amount means, and its default."""

    HEALTHY = "healthy"
    REFUSE = "refuse"
    HANG = "hang"
    STATUS = "status"  # (HTTP status: 500)
    RATE_LIMIT = "rate-limit"  # 429 (Retry-After in seconds: 1)
    INTERNAL_ERROR = "internal-error"  # -32603 with status 200
    HTML = "html"  # a page, status 200
    GARBAGE = "garbage"  # a body that is no JSON, status 200
    NOT_HTTP = "not-http"  # bytes that are no HTTP at all
    TRUNCATE = "truncate"  # half of the body, then the end
    WRONG_LENGTH = "wrong-length"  # a Content-Length that is too small (bytes missing: 1)
    LAG = "lag"  # (blocks: 10)
    FROZEN = "frozen"  # the head stands still
    WRONG_CHAIN = "wrong-chain"  # (added to the chain id: 1)
    SYNCING = "syncing"  # (blocks to catch up: 1000)
    LYING_HEAD = "lying-head"  # (blocks into the future: 1000000)
    SLOW = "slow"  # (milliseconds before the answer: 1000)
    CLOSE = "close"  # closes once it has read the request
    RESET = "reset"  # the same, without a proper end
    CHUNKED = "chunked"  # a proper answer, in chunks (bytes each: 7)
    GZIP = "gzip"  # a proper answer, compressed without being asked to
    REDIRECT = "redirect"  # 302
    ENDLESS_HEADERS = "endless-headers"
    DRIP = "drip"  # a proper answer, a byte at a time (milliseconds between two: 100)


_DEFAULT_AMOUNT = {
    Kind.STATUS: 500,
    Kind.RATE_LIMIT: 1,
    Kind.WRONG_LENGTH: 1,
    Kind.LAG: 10,
    Kind.WRONG_CHAIN: 1,
    Kind.SYNCING: 1000,
    Kind.LYING_HEAD: 1_000_000,
    Kind.SLOW: 1000,
    Kind.CHUNKED: 7,
    Kind.DRIP: 100,
}

_DESCRIPTION = {
    Kind.HEALTHY: "is well",
    Kind.REFUSE: "refuses connections: its port is closed",
    Kind.HANG: "takes requests and never answers",
    Kind.STATUS: "answers HTTP {amount}",
    Kind.RATE_LIMIT: "answers HTTP 429, Retry-After {amount}",
    Kind.INTERNAL_ERROR: "answers every call with error -32603",
    Kind.HTML: "answers with a web page",
    Kind.GARBAGE: "answers with garbage",
    Kind.NOT_HTTP: "answers with bytes that are no HTTP",
    Kind.TRUNCATE: "breaks off in the middle of every answer",
    Kind.WRONG_LENGTH: "announces answers as {amount} bytes shorter than they are",
    Kind.LAG: "is {amount} blocks behind the chain",
    Kind.FROZEN: "stands still at its present block",
    Kind.WRONG_CHAIN: "serves another chain",
    Kind.SYNCING: "says that it is syncing, {amount} blocks to go",
    Kind.LYING_HEAD: "claims a head {amount} blocks in the future",
    Kind.SLOW: "answers {amount} ms late",
    Kind.CLOSE: "closes the connection instead of answering",
    Kind.RESET: "resets the connection instead of answering",
    Kind.CHUNKED: "answers in chunks of {amount} bytes",
    Kind.GZIP: "compresses its answers unasked",
    Kind.REDIRECT: "redirects to elsewhere",
    Kind.ENDLESS_HEADERS: "sends headers without end",
    Kind.DRIP: "sends a byte every {amount} ms",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of misbehaviour and its amount (see :class:`Kind`; meaningless for kinds without one)."""

    kind: Kind
    amount: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} {self.amount}" if self.kind in _DEFAULT_AMOUNT else self.kind.value

    @property
    def description(self) -> str:
        """What the node does, as the rest of a sentence that begins with its name."""
        return _DESCRIPTION[self.kind].format(amount=self.amount)


def fault(text: str) -> Fault:
    """The fault that the words name, the amount being optional; :class:`ValueError` if none does."""
    word, _, amount = text.strip().partition(" ")
    kind = Kind(word)
    if amount and kind not in _DEFAULT_AMOUNT:
        raise ValueError(f"{word} takes no amount")
    return Fault(kind, int(amount) if amount else _DEFAULT_AMOUNT.get(kind, 0))


HEALTHY = Fault(Kind.HEALTHY)
"""Nothing is wrong."""


class End(enum.Enum):
    """How the service of one request ends: ready for the next, closed, reset, or not at all."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    NEVER = "never"


Step = bytes | float | End
"""Bytes to send, seconds to wait, or the end (always the last step)."""

_REASONS = {200: "OK", 302: "Found", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {413: "Request Entity Too Large", 429: "Too Many Requests", 500: "Internal Server Error"}
_REASONS |= {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
_JSON = "application/json"
_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works!</body></html>\n"
_DRIPPED_BYTES = 4096


def response(
    body: bytes, *, status: int = 200, content_type: str = _JSON, headers: tuple[str, ...] = (), keep: bool = True
) -> bytes:
    """A whole HTTP/1.1 response with a Content-Length; ``headers`` are further lines."""
    return head(status, (f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers), keep) + body


def head(status: int, headers: tuple[str, ...], keep: bool) -> bytes:
    """Status line and headers, the empty line included."""
    connection = () if keep else ("Connection: close",)
    lines = (f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", "Vary: Origin", *headers, *connection, "", "")
    return "\r\n".join(lines).encode("latin-1")


def play(wrong: Fault, answer: bytes, keep: bool = True) -> Iterator[Step]:
    """The steps by which a node with this fault delivers an answer; ``keep``: the client wants to go on.

    The faults of belief change the answer before it comes here, and are delivered as if all were well.
    """
    after = End.KEEP if keep else End.CLOSE
    whole = response(answer, keep=keep)
    amount = wrong.amount
    match wrong.kind:
        case Kind.HANG:
            yield End.NEVER
        case Kind.STATUS:
            yield response(f"{amount} {_REASONS.get(amount, '')}\n".encode(), status=amount, content_type="text/plain")
            yield End.KEEP
        case Kind.RATE_LIMIT:
            body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"rate limit exceeded"}}\n'
            yield response(body, status=429, headers=(f"Retry-After: {amount}",))
            yield End.KEEP
        case Kind.REDIRECT:
            yield response(b"", status=302, headers=("Location: http://127.0.0.1:9/elsewhere",))
            yield End.KEEP
        case Kind.HTML:
            yield response(_PAGE, content_type="text/html; charset=utf-8", keep=keep)
            yield after
        case Kind.GARBAGE:
            yield response(b"\x00\xff}{" * 16, keep=keep)
            yield after
        case Kind.GZIP:
            yield response(gzip.compress(answer, mtime=0), headers=("Content-Encoding: gzip",), keep=keep)
            yield after
        case Kind.CHUNKED:
            yield from _chunked(answer, amount, keep)
            yield after
        case Kind.SLOW:
            yield amount / 1000
            yield whole
            yield after
        case Kind.DRIP:
            yield from _dripped(whole, amount / 1000)
            yield after
        case Kind.NOT_HTTP | Kind.TRUNCATE | Kind.WRONG_LENGTH | Kind.CLOSE | Kind.RESET | Kind.ENDLESS_HEADERS:
            yield from _broken(wrong, answer)
        case _:
            yield whole
            yield after


def _broken(wrong: Fault, answer: bytes) -> Iterator[Step]:
    """The answers after which nothing more can come on the connection."""
    lines = (f"Content-Type: {_JSON}", f"Content-Length: {max(0, len(answer) - wrong.amount)}")
    match wrong.kind:
        case Kind.NOT_HTTP:
            yield b"\x16\x03\x01\x00SSH-2.0-nothing\r\n\r\n"
        case Kind.TRUNCATE:
            yield head(200, lines, True) + answer[: len(answer) // 2]
        case Kind.WRONG_LENGTH:
            yield head(200, lines, True) + answer
        case Kind.ENDLESS_HEADERS:
            yield b"HTTP/1.1 200 OK\r\n"
            for number in range(1_000_000):
                yield f"X-More-{number}: {'x' * 100}\r\n".encode() * 10
                yield 0.001
    yield End.RESET if wrong.kind is Kind.RESET else End.CLOSE


def _chunked(answer: bytes, size: int, keep: bool) -> Iterator[Step]:
    yield head(200, (f"Content-Type: {_JSON}", "Transfer-Encoding: chunked"), keep)
    for start in range(0, len(answer), size):
        chunk = answer[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def _dripped(whole: bytes, seconds: float) -> Iterator[Step]:
    for position in range(min(len(whole), _DRIPPED_BYTES)):
        yield whole[position : position + 1]
        yield seconds
    yield whole[_DRIPPED_BYTES:]
