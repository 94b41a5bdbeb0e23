"""What the fast lane beneath autobahn saves: ``python bench/websocket_micro.py``.

A message comes in by one WebSocket, masked, and an answer goes out, in memory, in microseconds of one core: best of
several runs. What a call costs beside it (routing, the node's side) is not in the figures; ``bench/micro.py`` has parts
of that, and ``bench/run.py`` the whole over real connections.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import Timer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.xormasker import create_xor_masker

from evmlb.bridge.autobahn import opening
from evmlb.bridge.bridge import Bridge
from evmlb.bridge.frames import unmask
from evmlb.bridge.socket import Socket
from evmlb.config.schema import Config
from evmlb.interfaces import Upgrade
from evmlb.policy.shares import Shares
from evmlb.wire.http1 import read_request_head

REPEATS = 7
SIZES = (60, 120, 1000, 16_000)
REQUEST = (
    b"GET /ethereum HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x1234567"}'


class Transport:
    """Forgets what is written."""

    def write(self, data: bytes) -> None:
        pass

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass


class Answering:
    """Answers each message at once."""

    is_full = owes = is_subscribed = False

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def received(self, message: bytes) -> None:
        self._send(ANSWER)


class ByAutobahn(Socket):
    """The same socket without its fast lane."""

    def dataReceived(self, data: bytes) -> None:
        WebSocketServerProtocol.dataReceived(self, data)

    def send_text(self, text: bytes) -> None:
        self.sendMessage(text)


def main() -> None:
    """Print the tables."""
    print(f"{'a message of so many bytes in, a small one out: us':56}{'autobahn':>10}{'fast lane':>11}")
    for size in SIZES:
        data = frame(b"x" * size)
        times = [best(partial(opened(kind).dataReceived, data)) for kind in (ByAutobahn, Socket)]
        print(f"  {size:<54}{times[0]:10.2f}{times[1]:11.2f}")
    burst = frame(b"x" * 120) * 20
    times = [best(partial(opened(kind).dataReceived, burst)) / 20 for kind in (ByAutobahn, Socket)]
    print(f"  {'120, twenty in one read, each':54}{times[0]:10.2f}{times[1]:11.2f}")
    print(f"{'unmasking so many bytes: us':56}{'autobahn':>10}{'ours':>11}")
    for size in SIZES:
        payload, key = os.urandom(size), os.urandom(4)
        theirs = best(partial(unmask_by_autobahn, payload, key))
        print(f"  {size:<54}{theirs:10.2f}{best(partial(unmask, payload, key)):11.2f}")


def unmask_by_autobahn(payload: bytes, key: bytes) -> bytes:
    """What autobahn does for each frame."""
    return bytes(create_xor_masker(key, len(payload)).process(payload))


def opened(kind: type[Socket]) -> Socket:
    """An open socket in memory."""
    bridge = Bridge(Config(networks=()), 2, Shares(2**40), time.monotonic, {})
    head = read_request_head(REQUEST)
    upgrade = Upgrade(head, None, "192.0.2.1", b"", b"", None, lambda socket: None)
    socket = kind(bridge, upgrade)
    socket.receiver = Answering(socket.send_text)
    if kind is ByAutobahn:
        socket.makeConnection(Transport())  # type: ignore[arg-type]
        socket.dataReceived(opening(head, b""))
    else:
        socket.open(Transport(), b"")
    return socket


def frame(payload: bytes) -> bytes:
    """A text frame of a client."""
    length = len(payload)
    size = bytes((0x80 + length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    key = b"\x12\x34\x56\x78"
    return b"\x81" + size + key + unmask(payload, key)


def best(work: Callable[[], object]) -> float:
    """Microseconds."""
    timer = Timer(work)
    number = max(1, timer.autorange()[0] // 10)
    return min(timer.repeat(REPEATS, number)) / number * 1e6


if __name__ == "__main__":
    main()
