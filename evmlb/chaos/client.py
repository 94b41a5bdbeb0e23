"""A client of a run: keeps a connection, asks, waits, and is now and then hasty, slow or gone.

It reads HTTP by itself, with none of the product's code: what it cannot read, is a fault of the balancer's.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from evmlb.chaos.clock import VirtualClock
from evmlb.chaos.network import Transport
from evmlb.chaos.questions import Question

HALF_CLOSED_SECONDS = 5.0
"""A client that sends no more is owed an answer for so long (``docs/reference/http.md``)."""
PRIORITIES = (b"", b"", b"X-Fast-Track: true\r\n", b"X-High-Priority: true\r\n")
"""Header lines by which a request chooses its queue, where there is one."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Unreadable(Exception):
    """What came is no HTTP answer."""


class Answer:
    """One HTTP answer."""

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self.status = status
        self.head = head
        self.body = body

    def value(self, name: str) -> str:
        """A header's value; empty when there is none."""
        found = re.search(rb"\r\n" + name.encode() + rb": *([^\r]*)", self.head, re.IGNORECASE)
        return found[1].decode() if found else ""


class AnswerReader:
    """Cuts a stream of bytes into answers. ``consumed``: the bytes of whole answers so far."""

    def __init__(self) -> None:
        self.kept = b""
        self.consumed = 0

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes; the answers that are whole now."""
        self.kept += data
        answers = []
        while (answer := self._next()) is not None:
            answers.append(answer)
        return answers

    def _next(self) -> Answer | None:
        head, blank, rest = self.kept.partition(b"\r\n\r\n")
        if not blank:
            return None
        if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit():
            raise Unreadable(repr(head[:40]))
        read = self._body(head, rest)
        if read is None:
            return None
        body, left = read
        self.consumed += len(self.kept) - len(left)
        self.kept = left
        return Answer(int(head[9:12]), head, body)

    def _body(self, head: bytes, rest: bytes) -> tuple[bytes, bytes] | None:
        if head[9:12] == b"204":
            return b"", rest
        if _CHUNKED.search(head):
            return _unchunk(rest)
        found = _LENGTH.search(head)
        if found is None:
            raise Unreadable("an answer without a length")
        length = int(found[1])
        return (rest[:length], rest[length:]) if len(rest) >= length else None


def _unchunk(data: bytes) -> tuple[bytes, bytes] | None:
    if b"0\r\n\r\n" not in data:
        return None  # looking for the end first: an answer may come in a thousand pieces
    body = b""
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return None
        size = int(line, 16)
        if len(rest) < size + 2:
            return None
        if size == 0:
            return body, rest[2:]
        body, data = body + rest[:size], rest[size + 2 :]


class Judge(Protocol):
    """Hears how questions end."""

    def answered(self, client: str, question: Question, answer: Answer) -> None:
        """An answer came to a question."""

    def unanswered(self, client: str, question: Question, why: str, *, excused: bool) -> None:
        """None will come. ``excused``: the client left, or what the rules of HTTP allow."""

    def violated(self, words: str) -> None:
        """Something happened that must not."""


class Client:
    """One client. ``call`` connects it; ``draw`` gives its next question; it asks until ``until``."""

    def __init__(
        self,
        name: str,
        clock: VirtualClock,
        judge: Judge,
        call: Callable[[Any], Transport | None],
        draw: Callable[[], Question],
        path: str,
        seed: int,
        until: float,
        think_seconds: float,
    ) -> None:
        self.name = name
        self.done = False
        self._connections = 0
        self._read_at = 0.0  # when the last answer came
        self._clock = clock
        self._judge = judge
        self._call = call
        self._draw = draw
        self._rng = random.Random(seed)
        self._until = until
        self._think_seconds = think_seconds
        self._start = f"POST /{path} HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\n".encode()
        self._owed: deque[Question] = deque()
        self._reader = AnswerReader()
        self._transport: Transport | None = None
        self._leaving = False  # what comes is not waited for any more
        self._last = False  # the answer was read that the balancer closes behind
        self._shut_at: float | None = None  # when we ended our side
        self._timers: list[Any] = []
        self._turn: Any = None

    def start(self, after: float) -> None:
        """Begin to ask."""
        self._turn = self._clock.callLater(after, self._ask)

    # asking

    def _think(self) -> None:
        if self._turn is None and not self.done:
            self._turn = self._clock.callLater(self._rng.expovariate(1 / self._think_seconds), self._ask)

    def _ask(self) -> None:
        self._turn = None
        if self._clock.rightNow >= self._until:
            self._finish()
            return
        if self._transport is None and not self._connect():
            self._think()
            return
        rng = self._rng
        count = rng.randrange(2, 5) if rng.random() < 0.08 else 1
        self._send([self._draw() for _ in range(count)])
        mood = rng.random()
        if mood < 0.03:
            self._later(rng.expovariate(1 / 0.05), self._leave)
        elif mood < 0.06:
            self._later(rng.expovariate(1 / 0.02), self._read_slowly)
        elif mood < 0.08:
            self._shut_sending_side()
        elif mood < 0.09:
            self._later(rng.expovariate(1 / 0.05), self._vanish)

    def _connect(self) -> bool:
        self._reader = AnswerReader()
        self._connections += 1
        self._leaving = self._last = False
        self._shut_at = None
        self._transport = self._call(_Ears(self))
        return self._transport is not None

    def _send(self, questions: list[Question]) -> None:
        data = b""
        for question in questions:
            question.asked_at = self._clock.rightNow
            question.connection = self._connections
            self._owed.append(question)
            data += self._request(question)
        if self._transport is not None:
            self._transport.write(data)

    def _request(self, question: Question) -> bytes:
        body, start = question.body, self._start + self._rng.choice(PRIORITIES)
        if self._rng.random() < 0.05 and body:
            return b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (start, len(body), body)
        if self._rng.random() < 0.03:
            start += b"Connection: close\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (start, len(body), body)

    # moods

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._timers.append(self._clock.callLater(seconds, what))

    def _leave(self) -> None:
        if self._transport is not None:
            self._leaving = True
            abrupt = self._rng.random() < 0.5
            self._transport.abortConnection() if abrupt else self._transport.loseConnection()

    def _vanish(self) -> None:
        """Be gone without a word, as when a machine loses its power."""
        if self._transport is not None:
            self._leaving = True
            self._transport.link.silent = True
            self._transport.abortConnection()

    def _read_slowly(self) -> None:
        if self._transport is not None:
            self._transport.pauseProducing()
            self._later(self._rng.uniform(0.1, 2.0), self._transport.resumeProducing)

    def _shut_sending_side(self) -> None:
        if self._transport is not None:
            self._shut_at = self._clock.rightNow
            self._transport.loseWriteConnection()

    # hearing

    def heard(self, data: bytes) -> None:
        """Bytes came."""
        if self._leaving:
            return
        try:
            answers = self._reader.feed(data)
        except (Unreadable, ValueError) as error:
            self._judge.violated(f"{self.name} got something that is no HTTP answer: {error}")
            self._leave()
            return
        for answer in answers:
            if not self._owed:
                self._judge.violated(f"{self.name} got an answer that nobody asked for: {answer.body[:80]!r}")
                return
            question = self._owed.popleft()
            question.due_since = max(question.asked_at, self._read_at)
            self._read_at = self._clock.rightNow
            self._judge.answered(self.name, question, answer)
            self._last = self._last or answer.value("Connection") == "close"
        if answers and not self._owed and not self._last and self._shut_at is None:
            self._think()

    def lost(self, reason: Failure) -> None:
        """The connection ended: what is owed still will not come, and that must have a reason."""
        transport, self._transport = self._transport, None
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()
        begun = transport is not None and transport.peer.written > self._reader.consumed
        excused = self._leaving or self._last or begun or self._waited_too_long() or self._came_too_late(transport)
        why = "the connection was closed" if reason.check(ConnectionDone) else "the connection was cut"
        while self._owed:
            self._judge.unanswered(self.name, self._owed.popleft(), why, excused=excused)
            excused = True  # nothing comes behind it
        self._think()

    def _came_too_late(self, transport: Transport | None) -> bool:
        """Whether the balancer had closed the connection, which idled, before the oldest request was there."""
        if transport is None or transport.peer.ended_at is None or not self._owed:
            return False
        on_the_way = 2 * transport.link.latency_seconds
        return self._owed[0].asked_at + on_the_way >= transport.peer.ended_at

    def _waited_too_long(self) -> bool:
        """Whether we ended our side so long ago that we may have given up."""
        return self._shut_at is not None and self._clock.rightNow - self._shut_at >= HALF_CLOSED_SECONDS

    def _finish(self) -> None:
        self.done = True
        if self._transport is not None:
            self._transport.loseConnection()

    @property
    def waits(self) -> bool:
        """Whether an answer is owed to it."""
        return bool(self._owed)


class _Ears:
    """The protocol of one connection of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        """See ``IProtocol``."""
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``."""
        self._client.heard(data)

    def connectionLost(self, reason: Failure) -> None:
        """See ``IProtocol``."""
        self._client.lost(reason)
