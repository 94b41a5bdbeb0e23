"""Where WebSocket frames end, without I/O and without reading them (RFC 6455, 5.2): for a pipe that passes bytes.

A pipe may only put in a frame of its own between two frames of others, a message between two messages, and must know
when a side has said goodbye. For all of it the headers are enough: lengths are counted down, payloads are not looked
at, but for the code of a close frame, and the beginning of a message, which tells answers from events. Nothing is ever
refused here: what breaks the rules is for the two ends to complain of.
"""

from __future__ import annotations

import re

CLOSE = 8
"""The opcode of a close frame."""
NO_CODE = 1005
"""What a close frame without a code counts as (RFC 6455, 7.1.5)."""
_LONGEST_HEAD = 14
_EVENT = re.compile(rb'\{(?:"jsonrpc":"2\.0",)?"method":')
_BEGINNING_BYTES = 48
"""So much of a message is looked at, blanks left out: an event names its method first, as all nodes write it."""


class FrameWatch:
    """Follows one direction. ``is_between``: all that passed are whole frames.

    ``message_end``: where in the bytes fed last a message of another's may be put in; None where none may. ``answers``:
    so many messages that are no events were begun since the last look at it, which the looker sets back.

    ``close_code``: of the close frame that has passed, whole; None before. A code that may not be (below 1000 or above
    4999) counts as 1002.
    """

    __slots__ = (
        "_beginning",
        "_closing",
        "_head",
        "_is_inside",
        "_left",
        "_opening",
        "answers",
        "close_code",
        "message_end",
    )

    def __init__(self) -> None:
        self._head = b""  # of a frame whose header is not whole
        self._left = 0  # payload bytes of the present frame that are still to come
        self._closing: _CloseCode | None = None  # while the present frame is a close frame
        self._opening: int | None = None  # the first byte of the present frame's header, if it is one of data
        self._beginning: bytearray | None = None  # of the present message, while it is looked at
        self.close_code: int | None = None
        self._is_inside = False  # between the frames of one message
        self.message_end: int | None = 0
        self.answers = 0

    @property
    def is_between(self) -> bool:
        """Whether no frame is begun and not whole."""
        return not self._left and not self._head

    @property
    def is_between_messages(self) -> bool:
        """Whether no message is begun and not whole."""
        return not self._is_inside and self.is_between

    def feed(self, data: bytes) -> int:
        """Follow more bytes; return where in them the last frame ends, 0 when none does.

        Nothing counts behind a close frame: its end is the last.
        """
        position = end = 0
        self.message_end = 0 if self.is_between_messages else None
        while position < len(data) and self.close_code is None:
            if not self._left:
                position = self._begin(data, position)
                if self._head:
                    break
            if self._left:
                position = self._pass(data, position)
            if not self._left:
                end = position
                self._finish(position)
        return end

    def _begin(self, data: bytes, start: int) -> int:
        """Read a header, or keep the part of it that is there; return where its payload begins."""
        kept = len(self._head)
        head = self._head + data[start : start + _LONGEST_HEAD - kept]
        size = _head_size(head)
        if len(head) < size:
            self._head = head
            return len(data)
        self._head = b""
        masked = head[1] >> 7
        body = head[2 : size - 4 * masked]
        self._left = int.from_bytes(body, "big") if body else head[1] & 0x7F
        if head[0] & 0x0F < CLOSE:
            self._opening = head[0]
            if head[0] & 0x0F:
                self._beginning = bytearray()
        if head[0] & 0x0F == CLOSE:
            self._closing = _CloseCode(head[size - 4 : size] if masked else bytes(4))
        return start + size - kept

    def _pass(self, data: bytes, start: int) -> int:
        """Count payload bytes; return where what was counted ends."""
        end = min(start + self._left, len(data))
        if self._closing is not None:
            self._closing.feed(data[start : min(end, start + 2)])
        elif self._beginning is not None and self._opening is not None:
            self._look(data[start : min(end, start + _BEGINNING_BYTES)])
        self._left -= end - start
        return end

    def _look(self, data: bytes) -> None:
        """Count a message as an answer or not, once enough of it is there."""
        beginning = self._beginning
        if beginning is not None:
            beginning += data.translate(None, b" \t\r\n")
            if len(beginning) >= _BEGINNING_BYTES:
                self._count(beginning)

    def _count(self, beginning: bytearray) -> None:
        self._beginning = None
        self.answers += _EVENT.match(beginning) is None

    def _finish(self, position: int) -> None:
        if self._closing is not None:
            self.close_code = self._closing.code
            self._closing = None
        if self._opening is not None:
            self._is_inside = not self._opening & 0x80
            self._opening = None
            if self._beginning is not None and not self._is_inside:
                self._count(self._beginning)
        if not self._is_inside:
            self.message_end = position


def _head_size(head: bytes) -> int:
    """How long the header is that begins so, as far as that can be told."""
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if head[1] & 0x80 else 0)


class _CloseCode:
    """The first two bytes of a close frame's payload, unmasked."""

    __slots__ = ("_key", "_payload")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._payload = b""

    def feed(self, data: bytes) -> None:
        self._payload += data[: 2 - len(self._payload)]

    @property
    def code(self) -> int:
        if len(self._payload) < 2:
            return NO_CODE
        code = int.from_bytes(byte ^ mask for byte, mask in zip(self._payload, self._key, strict=False))
        return code if 1000 <= code <= 4999 else 1002


def close_frame(code: int, reason: str, key: bytes = b"") -> bytes:
    """A close frame of ours. ``key``: four random bytes where it goes to a node, none to a client (RFC 6455, 5.3)."""
    payload = code.to_bytes(2, "big") + reason.encode()[:123]
    if not key:
        return bytes((0x80 | CLOSE, len(payload))) + payload
    masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
    return bytes((0x80 | CLOSE, 0x80 | len(payload))) + key + masked
