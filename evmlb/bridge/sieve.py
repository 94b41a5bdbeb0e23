"""A client's messages on a pipe, taken apart without I/O, so that each can be judged before a node sees a byte of it.

Bytes go in; out come, in their order, control frames as they are, and whole messages: their frames as they came, and
what they say. No extension is negotiated on a pipe, so what they say can be read. A client that breaks the rules of RFC
6455 is told so here, by a :class:`Breach`: what a node makes of broken frames nobody knows, and it might be a call.

What is held is at most one message: the payload, and its frames, which may be at most twice as long as a message may
be.
"""

from __future__ import annotations

from typing import NamedTuple

from evmlb.bridge.frames import unmask

_CONTROL = 8
_CLOSE, _PING, _PONG = 8, 9, 10
_MOST_CONTROL_BYTES = 125
_KEY_BYTES = 4


class Message(NamedTuple):
    """A whole message: ``frames`` as they came, and their ``payload``."""

    frames: bytes
    payload: bytes


class Breach(NamedTuple):
    """The client broke a rule: a close code, and words."""

    code: int
    words: str


class _Frame(NamedTuple):
    first: int
    is_masked: bool
    begin: int  # of the payload
    end: int


class Sieve:
    """See the module's head. ``most``: so many bytes may a message have. ``messages``: so many were whole."""

    __slots__ = ("_frames", "_is_broken", "_kept", "_most", "_payload", "messages")

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()  # not a whole frame
        self._frames = bytearray()  # whole frames of a message that is not whole
        self._payload = bytearray()  # what these say
        self._is_broken = False
        self.messages = 0

    @property
    def held_bytes(self) -> int:
        """So many bytes are held; none between two messages."""
        return len(self._kept) + len(self._frames) + len(self._payload)

    def feed(self, data: bytes) -> list[bytes | Message | Breach]:
        """Take more bytes; a breach comes last, and after one nothing."""
        if self._is_broken:
            return []
        self._kept += data
        steps: list[bytes | Message | Breach] = []
        at = 0
        while (frame := _frame_at(self._kept, at)) is not None:
            breach = self._breach(frame)
            if breach is not None:
                self._is_broken = True
                self._kept.clear()
                return [*steps, breach]
            if frame.end > len(self._kept):
                break
            step = self._take(frame, at)
            if step is not None:
                steps.append(step)
            at = frame.end
        del self._kept[:at]
        return steps

    def _breach(self, frame: _Frame) -> Breach | None:
        """What is wrong with a frame, as far as its header tells."""
        opcode, is_final, length = frame.first & 0x0F, frame.first & 0x80, frame.end - frame.begin
        if frame.first & 0x70:
            return Breach(1002, "reserved bits are set, though no extension was negotiated")
        if not frame.is_masked:
            return Breach(1002, "frames of a client are masked")
        if opcode >= _CONTROL:
            is_good = opcode <= _PONG and is_final and length <= _MOST_CONTROL_BYTES
            return None if is_good else Breach(1002, "a control frame that is none")
        if opcode > 2 or (opcode != 0) == bool(self._frames):
            return Breach(1002, "a frame of data out of its turn")
        if len(self._payload) + length > self._most or len(self._frames) > 2 * self._most:
            return Breach(1009, f"a message is longer than {self._most} bytes")
        return None

    def _take(self, frame: _Frame, start: int) -> bytes | Message | None:
        raw = bytes(self._kept[start : frame.end])
        if frame.first & 0x0F >= _CONTROL:
            return raw
        begin = frame.begin - start
        self._frames += raw
        self._payload += unmask(raw[begin:], raw[begin - _KEY_BYTES : begin])
        if not frame.first & 0x80:
            return None
        message = Message(bytes(self._frames), bytes(self._payload))
        self._frames, self._payload = bytearray(), bytearray()
        self.messages += 1
        return message


def _frame_at(data: bytearray, start: int) -> _Frame | None:
    """The frame that begins there; None while its header is not whole."""
    if len(data) < start + 2:
        return None
    length, is_masked = data[start + 1] & 0x7F, data[start + 1] >= 0x80
    begin = start + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(data) < begin + size:
            return None
        length = int.from_bytes(data[begin : begin + size], "big")
        begin += size
    begin += _KEY_BYTES * is_masked
    return _Frame(data[start], is_masked, begin, begin + length)
