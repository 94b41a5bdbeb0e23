"""Clients of the fault and overload benchmarks: what is asked, and what became of each request.

A client speaks just enough HTTP/1.1 to be strict about it: whatever is not a whole answer with status 200, with the id
asked with and a result that is right, is held against whoever gave it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from chain import (
    FIRST_ID,
    GOOD,
    OLD,
    SEND,
    WRONG,
    call,
    judge,
    logs,
    random_call,
    raw_sending,
    sending,
    trace,
)
from ws_wire import Client as WebSocket
from ws_wire import masked

FAILED = "failed"
"""No result: an error of any kind, from a connection that ends to an error in JSON-RPC."""
OUTCOMES = (GOOD, OLD, WRONG, FAILED)
GIVE_UP_SECONDS = 12.0
RECONNECT_SECONDS = 0.02
_BAD = (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError)
"""How reading an answer that is none ends; a time-out is an OSError."""


class Asked(NamedTuple):
    """One request: when (``time.monotonic``), how long, how it ended; ``status`` 0: without an answer.

    ``marker`` is that of a call that must not be carried out twice, else empty.
    """

    sent: float
    seconds: float
    outcome: str
    words: str
    status: int
    retry_after: bool
    marker: str

    @property
    def ended(self) -> float:
        return self.sent + self.seconds


@dataclass(frozen=True, slots=True)
class Question:
    """A call, ready to be sent, with what is needed to judge the answer."""

    id: int
    method: str
    params: list[Any]

    @property
    def body(self) -> bytes:
        return orjson.dumps({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": self.params})

    def outcome(self, status: int, body: bytes, sent: float, ended: float) -> tuple[str, str]:
        """What an answer is, and in words why it is not good."""
        try:
            answer = orjson.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            return (WRONG if status == 200 else FAILED), f"HTTP {status}, no JSON: {body[:60]!r}"
        if answer.get("error") is not None:
            error = answer["error"]
            return FAILED, f"HTTP {status}, error {error.get('code')}: {error.get('message')}"
        if status != 200 or "result" not in answer:
            return FAILED, f"HTTP {status} without error and result"
        if answer.get("id") != self.id:
            return WRONG, f"another id: {answer.get('id')!r}"
        outcome = judge(self.method, self.params, answer["result"], sent, ended)
        return outcome, "" if outcome == GOOD else f"{outcome} result of {self.method}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that are sent as one array."""

    members: tuple[Question, ...]

    @property
    def method(self) -> str:
        return "batch"

    @property
    def params(self) -> list[Any]:
        return []

    @property
    def body(self) -> bytes:
        return b"[" + b",".join(member.body for member in self.members) + b"]"

    def outcome(self, status: int, body: bytes, sent: float, ended: float) -> tuple[str, str]:
        """The worst of its members' outcomes."""
        try:
            answers = {answer["id"]: orjson.dumps(answer) for answer in orjson.loads(body)}
        except (ValueError, LookupError, TypeError):
            return (WRONG if status == 200 else FAILED), f"HTTP {status}, no array: {body[:60]!r}"
        if len(answers) != len(self.members):
            return WRONG, f"{len(answers)} of {len(self.members)} answers"
        outcomes = [each.outcome(status, answers.get(each.id, b"{}"), sent, ended) for each in self.members]
        return max(outcomes, key=lambda outcome: OUTCOMES.index(outcome[0]))


Ask = Callable[[], Question | Batch]
"""Makes up the next question."""

_LENGTH_OF_A_BATCH = 5
KINDS: dict[str, Callable[[random.Random], tuple[str, list[Any]]]] = {
    "read": lambda rng: random_call(rng, time.monotonic()),
    "unsafe": lambda rng: sending(f"0x{rng.getrandbits(64):016x}"),
    "call": call,
    "logs": lambda rng: logs(rng, time.monotonic()),
    "trace": trace,
    "raw": raw_sending,
}
"""What is asked: fast reads, what must not be sent twice, and what takes longer."""
MIX = ("call",) * 45 + ("read",) * 40 + ("logs",) * 10 + ("raw",) * 3 + ("trace",) * 2
"""What a provider's clients ask, roughly; for ``mix``."""


def asker(seed: int, kind: str) -> Ask:
    """Questions with ids and parameters that no other asker has; the same seed asks the same.

    ``kind``: one of ``KINDS``, or ``mix``, or ``batch``: reads in batches of five.
    """
    rng = random.Random(seed)
    number = FIRST_ID * (seed + 1)

    def question() -> Question:
        nonlocal number
        number += 1
        return Question(number, *KINDS["read" if kind == "batch" else rng.choice(MIX) if kind == "mix" else kind](rng))

    def batch() -> Batch:
        return Batch(tuple(question() for _ in range(_LENGTH_OF_A_BATCH)))

    return batch if kind == "batch" else question


class Client:
    """One connection that is kept, and made anew when it ended."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._address = address
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, question: Question | Batch) -> Asked:
        """Ask and wait; never fails."""
        sent = time.monotonic()
        status, retry_after = 0, False
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                status, retry_after, body = await self._exchange(question.body)
        except _BAD as error:
            self.close()
            outcome, words = FAILED, f"{type(error).__name__}: {error}"
        else:
            outcome, words = question.outcome(status, body, sent, time.monotonic())
        seconds = time.monotonic() - sent
        marker = question.params[0]["data"] if question.method == SEND else ""
        return Asked(sent, seconds, outcome, words, status, retry_after, marker)

    async def _exchange(self, body: bytes) -> tuple[int, bool, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._address, self._port)
        reader, writer = self._streams
        writer.write(b"POST /n0 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        lines = dict(line.split(b": ", 1) for line in head[:-4].split(b"\r\n")[1:])
        answer = await reader.readexactly(int(lines[b"content-length"]))
        if lines.get(b"connection") == b"close":
            self.close()
        if not head.startswith(b"http/1.1 "):
            raise ValueError("no HTTP")
        return int(head[9:12]), b"retry-after" in lines, answer

    def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class WebSocketClient(Client):
    """The same over a WebSocket: an answer has no status but its own."""

    _socket: _Socket | None = None

    async def _exchange(self, body: bytes) -> tuple[int, bool, bytes]:
        if self._socket is None:
            self._socket = _Socket()
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self._socket, self._address, self._port)
            await self._socket.next()
        self._socket.transport.write(masked(body))
        return 200, False, await self._socket.next()

    def close(self) -> None:
        if self._socket is not None and self._socket.transport is not None:
            self._socket.transport.abort()
        self._socket = None


class _Socket(WebSocket):
    """A connection whose messages are waited for one by one; that it is open is the first."""

    transport = None

    def __init__(self) -> None:
        super().__init__("/n0")
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def next(self) -> bytes:
        """The next message. Raises :class:`EOFError` where there will be none."""
        message = await self._messages.get()
        if not message:
            raise EOFError("the connection ended")
        return message

    def opened(self) -> None:
        self._messages.put_nowait(b"open")

    def message(self, text: bytes) -> None:
        self._messages.put_nowait(text)

    def connection_lost(self, reason: Exception | None) -> None:
        self._messages.put_nowait(b"")
