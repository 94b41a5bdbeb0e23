"""An EVM node that misbehaves when told to: a process of its own, told by lines on its standard input.

    become FAULT    from the next request on; answered "ok"
    tally           answered with one line of JSON: the clients' requests by fault, and the most at one time

It ends when its standard input does, so it does not outlive whoever started it. A call that must not be carried out
twice is written to the journal as soon as it was received, whatever is answered then: nobody outside can know better,
and a file survives a SIGKILL.

A fault turns a request into a :class:`Reply`: what is sent, when, and what becomes of the connection. All requests
get it, polls too, with two exceptions: ``header not found`` is said of blocks and state only, and ``hangs-on-calls``
befalls the calls of clients only, so that polls find the node well.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import json
import os
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import uvloop
from chain import BEHIND_BLOCKS, FIRST_ID, SEND, USUAL_SECONDS, head_at, result_of

SLOW_SECONDS = 2.0
GARBAGE_BYTES = 512
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NOW = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


class Ending(enum.Enum):
    """What becomes of the connection behind a reply."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    RESET = enum.auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was received."""

    id: Any
    method: str
    params: list[Any]

    @property
    def is_of_a_client(self) -> bool:
        return isinstance(self.id, int) and self.id >= FIRST_ID


@dataclass(frozen=True, slots=True)
class Reply:
    """What follows a request. ``delay_seconds`` comes on top of the node's latency."""

    data: bytes
    ending: Ending = Ending.KEEP
    delay_seconds: float = 0.0


def http(status: str, body: bytes, content_type: str = "application/json", more: str = "") -> bytes:
    """An answer as bytes; ``more`` are header lines, each with its end."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _good(call: Call, behind: int = 0) -> bytes:
    result = result_of(call.method, call.params, head_at(time.monotonic()) - behind)
    return http("200 OK", orjson.dumps({"jsonrpc": "2.0", "id": call.id, "result": result}))


def _error(call: Call, code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    return http("200 OK", orjson.dumps({"jsonrpc": "2.0", "id": call.id, "error": error}))


def _healthy(call: Call) -> Reply:
    return Reply(_good(call))


def _truncated(call: Call) -> Reply:
    head, end, body = _good(call).partition(b"\r\n\r\n")
    return Reply(head + end + body[: len(body) // 2], Ending.CLOSE)


def _garbage(call: Call) -> Reply:
    return Reply(random.Random(call.id).randbytes(GARBAGE_BYTES))


def _header_not_found(call: Call) -> Reply:
    asks_for_state = call.method in ("eth_getBalance", "eth_getTransactionCount", "eth_getBlockByNumber")
    return Reply(_error(call, -32000, "header not found") if asks_for_state else _good(call))


_PAGE = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
FAULTS: dict[str, Callable[[Call], Reply]] = {
    "healthy": _healthy,
    "http-500": lambda call: Reply(http("500 Internal Server Error", b"internal error\n", "text/plain")),
    "http-429": lambda call: Reply(http("429 Too Many Requests", b"slow down\n", "text/plain")),
    "http-503": lambda call: Reply(
        http("503 Service Unavailable", b"try later\n", "text/plain", "Retry-After: 2\r\n"),
    ),
    "hangs": lambda call: Reply(b""),
    "hangs-on-calls": lambda call: Reply(b"") if call.is_of_a_client else _healthy(call),
    "rpc-32603": lambda call: Reply(_error(call, -32603, "Internal error")),
    "header-not-found": _header_not_found,
    "html": lambda call: Reply(http("200 OK", _PAGE, "text/html")),
    "truncated": _truncated,
    "reset": lambda call: Reply(b"", Ending.RESET),
    "garbage": _garbage,
    "slow": lambda call: replace(_healthy(call), delay_seconds=SLOW_SECONDS),
    "behind": lambda call: Reply(_good(call, BEHIND_BLOCKS)),
}


@dataclass(slots=True)
class Node:
    """What the connections share. ``latency_seconds`` passes before any reply, and what its method usually takes;
    where ``spread`` is above 0, times a factor whose logarithm is normal with that deviation.

    ``received``, ``busy`` and ``most_busy`` count requests of clients only.
    """

    latency_seconds: float
    journal: int  # a file descriptor
    spread: float = 0.0
    fault: str = "healthy"
    received: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    most_busy: int = 0

    def begin(self, call: Call) -> Reply:
        """A request was received; what follows."""
        if call.is_of_a_client:
            self.received[self.fault] += 1
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            if call.method == SEND:
                os.write(self.journal, f"{call.params[0]['data']}\n".encode())
        return FAULTS[self.fault](call)

    def seconds_for(self, method: str) -> float:
        """How long it takes to make up a reply."""
        return USUAL_SECONDS.get(method, self.latency_seconds) * random.lognormvariate(0, self.spread)

    def end(self, call: Call) -> None:
        """Its reply is due."""
        self.busy -= call.is_of_a_client

    def obey(self, line: str) -> str:
        """Carry out a line of the standard input; the answer to it."""
        if line == "tally":
            return json.dumps({"received": self.received, "most_busy": self.most_busy})
        self.fault = line.removeprefix("become ")
        return "ok" if self.fault in FAULTS else f"there is no fault {self.fault}"


def _joined(replies: list[Reply]) -> Reply:
    """The reply to a batch: one array where each has a body of JSON-RPC, else what befalls the first."""
    first = replies[0]
    bodies = [reply.data.partition(b"\r\n\r\n")[2] for reply in replies]
    if first.ending is not Ending.KEEP or not all(body[:1] == b"{" for body in bodies):
        return first
    return replace(first, data=http("200 OK", b"[" + b",".join(bodies) + b"]"))


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered before the next is read."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or (length is not None and len(body) < int(length[1])):
            return
        self._buffer = b""
        self._received(body)

    def _received(self, body: bytes) -> None:
        asked = orjson.loads(body)
        calls = [
            Call(one["id"], one["method"], one.get("params", []))
            for one in (asked if isinstance(asked, list) else [asked])
        ]
        replies = [self._node.begin(call) for call in calls]
        reply = _joined(replies) if isinstance(asked, list) else replies[0]
        pause = max(self._node.seconds_for(call.method) for call in calls) + reply.delay_seconds
        asyncio.get_running_loop().call_later(pause, self._send, calls, reply)

    def _send(self, calls: list[Call], reply: Reply) -> None:
        for call in calls:
            self._node.end(call)
        if self._transport.is_closing():
            return
        if reply.data:
            self._transport.write(reply.data)
        if reply.ending is Ending.RESET:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
            self._transport.abort()
        elif reply.ending is Ending.CLOSE:
            self._transport.close()


async def _serve(options: argparse.Namespace) -> None:
    journal = os.open(options.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    node = Node(options.latency_ms / 1000, journal, options.spread)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(node), sock=_listening(options.address, options.port))
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        print(node.obey(line.decode().strip()), flush=True)
    server.close()


def _listening(address: str, port: int) -> socket.socket:
    """A socket that can be had again at once after its process was killed."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(1024)
    return sock


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/fault_node.py", description="A node that misbehaves when told to.")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--latency-ms", type=float, default=3.0, help="before every answer")
    parser.add_argument("--spread", type=float, default=0.0, help="of what answers take: 0.5 is usual, 1 is wild")
    parser.add_argument("--journal", required=True, help="the file for calls that must not be carried out twice")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options))


if __name__ == "__main__":
    main()
