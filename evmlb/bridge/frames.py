"""WebSocket frames of the common shape (RFC 6455, 5.2), without I/O: one whole, masked text message in one frame.

::

     0x81    0x80 + n     (2 bytes)      4 bytes    n bytes
    +------+-----------+--------------+----------+-----------------+
    | text | masked, n | n, if n' 126 | mask key | payload, masked |
    +------+-----------+--------------+----------+-----------------+

Nearly every message of a JSON-RPC client looks like this. Everything else (control frames, fragments, extensions,
64 KiB and more, and whatever is wrong) is left to autobahn, byte for byte as it came. So this module never refuses
anything: it either knows what autobahn would say, or says that it does not.
"""

from __future__ import annotations

from typing import Any

from autobahn.websocket import xormasker

TEXT = 0x81
"""The first byte of a whole text message: FIN, no reserved bits, opcode 1."""
_FIRST_BYTE = bytes((TEXT,))
MOST_BYTES = 0xFFFF
"""Longer payloads have another length encoding."""
_SMALL = 125
_TWO_BYTES = 126
_BIG_XOR_BYTES = 2048
"""Up to here one XOR of two large integers is faster than autobahn's masker, which is native but costs 4 us a frame."""


def read_text(data: bytes, start: int, limit: int) -> tuple[bytes, int] | None:
    """The text message whose frame begins at ``start``, and where the frame ends.

    None when there is no such frame, when it is not whole, longer than ``limit`` bytes, or not UTF-8.
    """
    begin = start + 6
    if len(data) < begin or data[start] != TEXT:
        return None
    length = data[start + 1] - 0x80  # negative: not masked
    if length > _SMALL:
        begin += 2
        if length > _TWO_BYTES:
            return None
        length = data[start + 2] << 8 | data[start + 3]
        if length <= _SMALL:
            return None  # not the shortest encoding
    end = begin + length
    if length < 0 or length > limit or end > len(data):
        return None
    text = unmask(data[begin:end], data[begin - 4 : begin])
    return (text, end) if text.isascii() or is_utf8(text) else None


def may_become_text(data: bytes, limit: int) -> bool:
    """Whether these bytes are the beginning of a frame that ``read_text`` would read, and not the whole of one.

    Nothing can be wrong with them but what is still to come.
    """
    if len(data) < 2:
        return data[:1] == _FIRST_BYTE
    begin, length = 6, data[1] - 0x80
    if data[0] != TEXT or not 0 <= length <= _TWO_BYTES:
        return False
    if length == _TWO_BYTES:
        if len(data) < 4:
            return True
        begin, length = 8, data[2] << 8 | data[3]
        if length <= _SMALL:
            return False
    return length <= limit and len(data) < begin + length


def unmask(payload: bytes, key: bytes) -> bytes:
    """``payload`` XOR the four bytes of ``key``, again and again."""
    length = len(payload)
    if length > _BIG_XOR_BYTES:
        masker: Any = xormasker
        return bytes(masker.create_xor_masker(key, length).process(payload))
    mask = (key * ((length >> 2) + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(length, "little")


def is_utf8(text: bytes) -> bool:
    """Whether bytes are UTF-8 to their end."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_header(length: int) -> bytes:
    """What stands before ``length`` bytes of text in a frame from a server, which is not masked."""
    if length <= _SMALL:
        return _SHORT_HEADERS[length]
    if length <= MOST_BYTES:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


_SHORT_HEADERS = tuple(bytes((TEXT, length)) for length in range(_SMALL + 1))
