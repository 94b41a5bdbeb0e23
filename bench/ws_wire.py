"""WebSocket as the benchmark speaks it (RFC 6455), by hand: a library would take longer than what is measured.

Whole messages of one frame, pings and pongs; no extensions, no fragments. Enough for programs that know each other.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hashlib import sha1
from typing import Any

END_OF_HEAD = b"\r\n\r\n"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
"""The key of every masked frame. Frames are made once and sent often; whoever unmasks them does not know that."""
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SMALL, _TWO_BYTES = 125, 126


def request_head(path: str) -> bytes:
    """What opens a connection."""
    lines = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY.decode()}\r\n\r\n"
    )
    return lines.encode()


def answer_head(key: bytes) -> bytes:
    """What a server says to a request with this key."""
    lines = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
    )
    return lines % b64encode(sha1(key + _GUID).digest()) + b"\r\n"


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame as a server sends it."""
    return bytes((0x80 | opcode,)) + _length(len(payload), 0) + payload


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame as a client sends it."""
    return bytes((0x80 | opcode,)) + _length(len(payload), 0x80) + MASK + _xor(payload, MASK)


def _length(length: int, mask_bit: int) -> bytes:
    if length <= _SMALL:
        return bytes((mask_bit | length,))
    if length < 1 << 16:
        return bytes((mask_bit | _TWO_BYTES,)) + length.to_bytes(2, "big")
    return bytes((mask_bit | _TWO_BYTES + 1,)) + length.to_bytes(8, "big")


def _xor(payload: bytes, key: bytes) -> bytes:
    length = len(payload)
    mask = (key * ((length >> 2) + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(length, "little")


class Frames:
    """Takes bytes as they come, gives frames as they are complete."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def read(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are whole now: opcode and payload, unmasked."""
        data = self._kept + data if self._kept else data
        found: list[tuple[int, bytes]] = []
        start, size = 0, len(data)
        while size - start >= 2:
            begin, length = start + 2, data[start + 1] & 0x7F
            if length > _SMALL:
                begin += 2 if length == _TWO_BYTES else 8
                length = int.from_bytes(data[start + 2 : begin], "big")
            is_masked = data[start + 1] & 0x80
            if is_masked:
                begin += 4
            if begin + length > size:
                break
            payload = data[begin : begin + length]
            found.append((data[start] & 0x0F, _xor(payload, data[begin - 4 : begin]) if is_masked else payload))
            start = begin + length
        self._kept = data[start:]
        return found


class Client(asyncio.Protocol):
    """One connection of a client: shakes hands, answers pings, and says what came."""

    transport: Any

    def __init__(self, path: str) -> None:
        self._path = path
        self._head: bytes | None = b""  # None: the handshake is done
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(request_head(self._path))

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(END_OF_HEAD)
            if not end:
                return
            self._head = None
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.transport.close()
                return
            self.opened()
        if data:
            for opcode, payload in self._frames.read(data):
                self._take(opcode, payload)

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self.message(payload)
        elif opcode == PING:
            self.transport.write(masked(payload, PONG))
        elif opcode == CLOSE:
            self.transport.close()

    def opened(self) -> None:
        """The handshake is done."""

    def message(self, text: bytes) -> None:
        """A message came."""
