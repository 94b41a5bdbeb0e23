"""A client of the front in memory: a transport with half-close, backpressure and reset, and a reader of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure

from evmlb.front.front import Front
from tests.routing.support import World
from tests.support import FakeHead, Sent, UpstreamSpy, config

BALANCE = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}'


def post(body: bytes = BALANCE, *lines: bytes, path: bytes = b"/net", version: bytes = b"HTTP/1.1") -> bytes:
    """A POST with a Content-Length."""
    head = (b"POST %b %b" % (path, version), b"Host: x", *lines, b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(head)


def chunked(body: bytes, *lines: bytes, size: int = 7, path: bytes = b"/net") -> bytes:
    """A POST with a chunked body."""
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)
    )
    head = (b"POST %b HTTP/1.1" % path, b"Host: x", *lines, b"Transfer-Encoding: chunked", b"", b"")
    return b"\r\n".join(head) + chunks + b"0\r\n\r\n"


class ClientTransport:
    """The lane's transport. What it writes piles up in ``out``; ``room`` bytes of it may be unread."""

    def __init__(self, room: int | None = None) -> None:
        self.lane: Any = None
        self.out = b""
        self.state = "open"  # half (we sent a FIN), closed, aborted
        self.reading = True
        self.producer: Any = None
        self.room = room
        self.unread = 0
        self.is_stuffed = False
        self.inbox: list[bytes | None] = []  # None: the client's FIN

    # what the lane calls

    def write(self, data: bytes) -> None:
        if self.state != "open":
            return
        assert isinstance(data, bytes)
        self.out += data
        self.unread += len(data)
        if self.room is not None and self.unread > self.room and not self.is_stuffed:
            self.is_stuffed = True
            if self.producer is not None:
                self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self.flush()

    def loseConnection(self) -> None:
        assert self.producer is None, "a Twisted transport waits for its producer"
        if self.state in ("open", "half"):
            self.state = "closed"

    def loseWriteConnection(self) -> None:
        if self.state == "open":
            self.state = "half"

    def abortConnection(self) -> None:
        self.state = "aborted"

    # what the client does

    def flush(self) -> None:
        while self.inbox and self.reading and self.state in ("open", "half"):
            data = self.inbox.pop(0)
            if data is None:
                self.lane.readConnectionLost()
            else:
                self.lane.dataReceived(data)

    def read(self) -> None:
        """The client reads all that is there."""
        self.unread = 0
        if self.is_stuffed:
            self.is_stuffed = False
            if self.producer is not None:
                self.producer.resumeProducing()


@dataclass
class Reply:
    """One answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]


def read_replies(data: bytes, heads: tuple[int, ...] = ()) -> list[Reply]:
    """Take a stream of answers apart. ``heads``: the places of those to HEAD requests."""
    replies: list[Reply] = []
    while data:
        head, blank, data = data.partition(b"\r\n\r\n")
        assert blank, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name.lower() not in headers, line
            headers[name.lower()] = value
        body = b""
        if len(replies) in heads or int(status) in (100, 204, 304):
            assert int(status) != 204 or "content-length" not in headers
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, data = data[:length], data[length:]
            assert len(body) == length, "the answer is cut"
        elif headers.get("transfer-encoding") == "chunked":
            while True:
                size, _, data = data.partition(b"\r\n")
                length = int(size, 16)
                body += data[:length]
                assert data[length : length + 2] == b"\r\n"
                data = data[length + 2 :]
                if not length:
                    break
        else:
            body, data = data, b""
        replies.append(Reply(int(status), headers, body))
    return replies


class Echo(UpstreamSpy):
    """An upstream that answers at once: every id of the request with the request's own bytes, hex encoded."""

    def send(self, sink: Any, body: bytes, **rest: Any) -> None:
        self.script = [answer_by_echo]
        super().send(sink, body, **rest)


def answer_by_echo(sent: Sent) -> None:
    """Answer a request with itself."""
    call = sent.sink.exchange.call
    told = b"%b %b %b" % (sent.method, sent.target, sent.body)
    if call is None:
        sent.sink.answered(FakeHead(content_type=b"text/plain"), [b"" if sent.method == b"HEAD" else told])
    elif call.members is None:
        body = b'{"jsonrpc":"2.0","id":%b,"result":"0x%b"}' % (call.id, told.hex().encode()) if call.id else b""
        sent.answer(body)
    else:
        answers = (b'{"id":%b,"result":"0x1"}' % member.id for member in call.members if member.id)
        sent.answer(b"[%b]" % b",".join(answers) if call.expects_answer else b"", 200)


class StillThreads:
    """Threads that work when they are told to. ``fails``: each piece of work raises an exception."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.fails = False

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.waiting.append((work, done))

    def step(self) -> None:
        """The first piece of work is done."""
        work, done = self.waiting.pop(0)
        done(None if self.fails else work())

    def finish(self) -> None:
        """All of it."""
        while self.waiting:
            self.step()


class FrontWorld(World):
    """A front before a routing world. ``network``: keys of its configuration."""

    def __init__(
        self,
        *names: str,
        max_connections: int = 100,
        echo: bool = False,
        network: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*(names or ("a b",)), **(network or {}))
        self.threads = StillThreads()
        if echo:
            for place, name in enumerate(self.spies):
                spy = self.spies[name] = Echo(name, self.events)
                self.router._upstreams = tuple(
                    spy if index == place else upstream for index, upstream in enumerate(self.router._upstreams)
                )
        routers = {"net": self.router}
        self.front = Front(config(**settings), routers, max_connections, self.clock.seconds, self.threads)

    def connect(self, address: Any = None, room: int | None = None) -> Visitor:
        lane = self.front.build(address)
        assert lane is not None
        return Visitor(self, lane, room)

    def sweep(self, seconds: float) -> None:
        """Let time pass as the service does, with a look at the connections every second."""
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            self.front.sweep()


class Visitor:
    """One client connection."""

    def __init__(self, world: FrontWorld, lane: Any, room: int | None) -> None:
        self.world = world
        self.lane = lane
        self.transport = ClientTransport(room)
        self.transport.lane = lane
        lane.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Bytes arrive, as far as the lane reads."""
        self.transport.inbox.append(data)
        self.transport.flush()

    def fin(self) -> None:
        """The client sends no more."""
        self.transport.inbox.append(None)
        self.transport.flush()

    def lose(self, reason: type[Exception] = error.ConnectionDone) -> None:
        """The connection is gone."""
        self.transport.state = "gone"
        self.lane.connectionLost(Failure(reason()))

    def take(self) -> bytes:
        """The bytes that came since the last call."""
        data, self.transport.out = self.transport.out, b""
        return data

    def replies(self, *heads: int) -> list[Reply]:
        """The answers that came since the last call; ``heads``: the places of those to HEAD requests."""
        return read_replies(self.take(), heads)

    @property
    def reply(self) -> Reply:
        """The one answer that came since the last call."""
        [reply] = self.replies()
        return reply

    @property
    def state(self) -> str:
        return self.transport.state
