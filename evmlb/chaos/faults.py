"""What befalls nodes, and what their clients then see.

An *ailment* is what is wrong with a node for a while. Three things can be: its connections (killed, unreachable,
silent one way), what it believes (a head that stands still, fell back, or is a lie), or how it answers a request. The
last kind is a function from a good answer to a :class:`Reply`; it may spare the polls, so that only requests meet it.

Whether a spoilt call was carried out before it was spoilt is part of the truth: ``after`` means that the node did the
work and then failed to say so. A node that refuses (429, 403, an unknown method) has done nothing.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson


class End(enum.Enum):
    """What becomes of the connection behind an answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"  # nothing more comes, and nothing ends


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered: these bytes, so many seconds late."""

    data: bytes = b""
    end: End = End.KEEP
    late_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Good:
    """The answer that a node would give if it were well: ``body``, and the ``ids`` it answers."""

    body: bytes
    ids: list[Any]
    is_batch: bool


@dataclass(frozen=True, slots=True)
class Ailment:
    """One thing that is wrong. ``name`` chooses it from the tables below; ``amount`` is its measure (seconds, blocks).

    ``spares_polls``: what the balancer asks by itself is answered well. ``share``: the probability that it strikes.
    """

    name: str
    amount: float = 0.0
    spares_polls: bool = False
    share: float = 1.0

    def __str__(self) -> str:
        words = [self.name, f"{self.amount:g}" if self.amount else "", "but polls" if self.spares_polls else ""]
        return " ".join((*filter(None, words), f"{self.share:.0%}" if self.share < 1 else "")).strip()


def response(body: bytes, status: int = 200, lines: bytes = b"", kind: bytes = b"application/json") -> bytes:
    """A whole HTTP answer."""
    head = b"HTTP/1.1 %d Said\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, kind, lines, len(body)) + body


def _error(good: Good, code: int, message: str) -> bytes:
    errors = [{"jsonrpc": "2.0", "id": each, "error": {"code": code, "message": message}} for each in good.ids]
    return response(orjson.dumps(errors if good.is_batch else errors[0]) if errors else b"")


def _slow(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(response(good.body), late_seconds=amount * (0.5 + rng.random()))


def _status(good: Good, amount: float, rng: random.Random) -> Reply:
    status = rng.choice((500, 502, 503, 504))
    return Reply(response(b"%d upstream trouble\n" % status, status, kind=b"text/plain"))


def _limited(good: Good, amount: float, rng: random.Random) -> Reply:
    after = b"Retry-After: %d\r\n" % amount if amount else b""
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"rate limit exceeded"}}'
    return Reply(response(rng.choice((body, b"too many requests\n")), 429, after))


def _refusing(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(response(b"forbidden\n", 403, kind=b"text/plain"))


def _internal(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(_error(good, -32603, "Internal error"))


def _limited_in_words(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(_error(good, *rng.choice(((-32005, "daily request count exceeded"), (-32029, "Too Many Requests")))))


def _missing(good: Good, amount: float, rng: random.Random) -> Reply:
    words = ("header not found", "missing trie node 1a2b (path )", "required historical state unavailable")
    return Reply(_error(good, -32000, rng.choice(words)))


def _unsupported(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(_error(good, -32601, "the method does not exist/is not available"))


def _node_timed_out(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(_error(good, -32000, "request timed out"))


def _garbage(good: Good, amount: float, rng: random.Random) -> Reply:
    page = response(b"<html><body>It works!</body></html>", kind=b"text/html")
    half = good.body[: len(good.body) // 2]
    return rng.choice(
        (
            Reply(response(b"\x00\xff}{" * 8)),
            Reply(page),
            Reply(response(half)),
            Reply(response(b"{}")),
            Reply(response(b"")),
            Reply(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", End.CLOSE),
        )
    )


def _wrong_id(good: Good, amount: float, rng: random.Random) -> Reply:
    answers = [{"jsonrpc": "2.0", "id": 987_654_321, "result": "0x1"} for _ in good.ids]
    return Reply(response(orjson.dumps(answers if good.is_batch else answers[0]) if answers else b""))


def _truncated(good: Good, amount: float, rng: random.Random) -> Reply:
    whole = response(good.body)
    return Reply(whole[: rng.randrange(len(whole))], rng.choice((End.CLOSE, End.RESET, End.STALL)))


def _resetting(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(b"", rng.choice((End.CLOSE, End.RESET)))


def _hanging(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(b"", End.STALL)


def _in_part(good: Good, amount: float, rng: random.Random) -> Reply:
    """Some members of a batch are answered, in any order, and others fail; a call by itself fails."""
    if not good.is_batch or not good.body:
        return _internal(good, amount, rng)
    said = (-32603, "Internal error"), (-32029, "Too Many Requests"), (-32000, "missing trie node 1a2b (path )")
    answers = orjson.loads(good.body)
    for i, answer in enumerate(answers):
        if rng.random() < 0.5:
            code, message = rng.choice(said)
            answers[i] = {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": code, "message": message}}
    rng.shuffle(answers)
    return Reply(response(orjson.dumps(answers)))


def _twice(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(response(good.body) * 2)


def _chatty(good: Good, amount: float, rng: random.Random) -> Reply:
    return Reply(response(good.body) + rng.choice((b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\x00" * 40)))


def _closing(good: Good, amount: float, rng: random.Random) -> Reply:
    """A good answer on a connection that ends behind it, said or unsaid: no failure at all."""
    said = rng.random() < 0.5
    return Reply(response(good.body, lines=b"Connection: close\r\n" if said else b""), End.CLOSE)


def _chunking(good: Good, amount: float, rng: random.Random) -> Reply:
    """A good answer in chunks, or until the connection's end: no failure at all."""
    if rng.random() < 0.3:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        return Reply(head + good.body, End.CLOSE)
    size = rng.randrange(1, 200)
    pieces = [good.body[start : start + size] for start in range(0, len(good.body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Reply(head + chunks + b"0\r\n\r\n")


Answering = Callable[[Good, float, random.Random], Reply]

ANSWERING: dict[str, Answering] = {
    "slow": _slow,
    "status 5xx": _status,
    "status 429": _limited,
    "status 403": _refusing,
    "internal error": _internal,
    "limited in words": _limited_in_words,
    "data missing": _missing,
    "unsupported": _unsupported,
    "timed out inside": _node_timed_out,
    "garbage": _garbage,
    "wrong id": _wrong_id,
    "truncated": _truncated,
    "resetting": _resetting,
    "hanging": _hanging,
    "two answers": _twice,
    "extra bytes": _chatty,
    "closing": _closing,
    "chunking": _chunking,
    "in part": _in_part,
}
"""Ailments of answering."""

HARMLESS = frozenset(("closing", "chunking"))
"""Unusual, but no fault: even the node that stays healthy may do it."""
DOES_NOTHING = frozenset(("status 429", "status 403", "limited in words", "data missing", "unsupported"))
"""Refusals: the call was surely not carried out."""
IN_VAIN = ("status 5xx", "garbage", "wrong id", "internal error", "in part")
"""What blames the node, so that to ask another one costs of the budget for retries."""
OF_CONNECTIONS = ("killed", "unreachable", "answers lost")
"""Ailments of a node's connections: all reset and new ones refused; silent both ways; requests arrive, answers do not.
"""
OF_BELIEF = ("frozen", "fell back")
"""Ailments of what a node believes: its head stands still, or jumps back by ``amount`` blocks."""
LYING = "lying head"
"""The head that a node tells is ``amount`` too high."""


@dataclass(frozen=True, slots=True)
class Change:
    """From this time on this is wrong with the node of this index; None: nothing."""

    at: float
    node: int
    ailment: Ailment | None


_COMMON = (*ANSWERING, *OF_CONNECTIONS * 2, *OF_BELIEF * 3, "fell back", "hanging", "slow")


def draw_ailment(rng: random.Random, *, may_lie: bool) -> Ailment:
    """Something that can be wrong."""
    name = rng.choice((*_COMMON, *[LYING] * (3 if may_lie else 0)))
    amount = 0.0
    if name == "slow":
        amount = rng.choice((0.2, 1.0, 3.0, 8.0))
    elif name == "status 429":
        amount = rng.choice((0, 0, 1, 5, 10**9))
    elif name == "fell back":
        amount = rng.choice((3, 10, 100, 100))
    elif name == LYING:
        amount = rng.choice((1_000, 1_000_000))
    share = rng.choice((1.0, 1.0, 1.0, 0.5, 0.1)) if name in ANSWERING else 1.0
    return Ailment(name, amount, spares_polls=name in ANSWERING and rng.random() < 0.5, share=share)


def draw_schedule(rng: random.Random, node: int, until: float, *, may_lie: bool) -> list[Change]:
    """What befalls one node up to a time, at which it is well again. Ailments follow each other, or flap.

    ``may_lie`` is for one node of a network at most: what two nodes say of the chain is believed.
    """
    changes: list[Change] = []
    at = 0.0 if rng.random() < 0.2 else rng.expovariate(1 / 4)
    while at < until:
        ailment = draw_ailment(rng, may_lie=may_lie)
        flaps = rng.random() < 0.2
        for _ in range(rng.randrange(3, 8) if flaps else 1):
            ill, well = (rng.uniform(0.05, 1.0), rng.uniform(0.05, 1.0)) if flaps else (rng.uniform(0.5, 10.0), 0.0)
            changes.append(Change(at, node, ailment))
            changes.append(Change(at + ill, node, None))
            at += ill + well
        at += rng.expovariate(1 / 3)
    return [change for change in changes if change.at < until] + [Change(until, node, None)]
