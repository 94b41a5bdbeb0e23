"""The one door for JSON that came from outside: in comes a value within bounds of ours, or :class:`Unreadable`.

Clients and nodes send what they like, and two parsers of JSON are two opinions on it: one takes ``1e400``, another
does not; one gives up at 1,000 levels, another crashes there, or what walks its result does. So nothing else in evmlb
calls a parser on such bytes (``tests/test_layers.py`` holds it), and nothing but :class:`Unreadable` is raised here.

Two ways lead through, and both cost C's time only, whatever the bytes are:

* :func:`decoder` makes a reader of a declared shape. What is no part of the shape is skipped, what is declared as
  ``msgspec.Raw`` stays the bytes it is. This is for texts of any length;
* :func:`read_value` makes Python values of a short text: its length, its depth and how many values it has are bounded.

A surrogate's escape without its other half is JSON (RFC 8259, 8.2), yet no text. No parser here takes it, so it is read
as U+FFFD, as browsers and Go do. What is passed on whole is passed on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, overload

import msgspec
import orjson
from msgspec import Raw

MAX_VALUE_BYTES = 64 * 1024
"""So long may a text be that :func:`read_value` makes values of, unless its caller says otherwise."""
MAX_VALUES = 200_000
"""So many commas, brackets and braces may be in it: 200,000 values take some 10 ms and 20 MB."""
MAX_DEPTH = 128
"""So deep may lists and objects lie in each other: what walks a value may recurse (``repr``, ``==``)."""
MAX_MENDED_BYTES = 64 * 1024
"""Half escapes are looked for in texts up to this length. At the worst that takes 10 ms."""

_UTF8_PIECE_BYTES = 64 * 1024

T = TypeVar("T")


class Unreadable(ValueError):
    """The text is not JSON, not of the shape that is read, or beyond the bounds."""


class TooDeep(Unreadable):
    """It is nested deeper than can be read."""


@overload
def decoder(shape: type[T]) -> Callable[[bytes | Raw], T]: ...
@overload
def decoder(shape: UnionType) -> Callable[[bytes | Raw], Any]: ...
def decoder(shape: Any) -> Callable[[bytes | Raw], Any]:
    """A reader of texts of this shape, which raises :class:`Unreadable`. Bytes that stay raw may be no UTF-8."""
    decode = msgspec.json.Decoder(shape).decode

    def read(text: bytes | Raw) -> Any:
        try:
            return decode(text)
        except RecursionError:
            raise TooDeep from None
        except ValueError:
            pass
        mended = with_whole_escapes(bytes(text)) if len(text) <= MAX_MENDED_BYTES else None
        if mended is None:
            raise Unreadable
        return read(mended)

    return read


def read_value(text: bytes | Raw, *, max_bytes: int = MAX_VALUE_BYTES) -> object:
    """The value of a short text, in Python's types; raises :class:`Unreadable`.

    As ``orjson.loads`` has it: integers beyond 64 bits become floats, of members with equal names the last one counts.
    """
    if len(text) > max_bytes:
        raise Unreadable
    data = bytes(text)
    containers = data.count(b"[") + data.count(b"{")
    if containers > MAX_DEPTH and (containers + data.count(b",") > MAX_VALUES or _depth(data) > MAX_DEPTH):
        raise TooDeep
    if len(data) > MAX_VALUES and data.count(b",") > MAX_VALUES:
        raise Unreadable
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    mended = with_whole_escapes(data)
    try:
        return orjson.loads(mended or b"")
    except ValueError:
        raise Unreadable from None


_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BUT_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _depth(data: bytes) -> int:
    """How deep lists and objects lie in each other at most; more than that for what is no JSON."""
    depth = deepest = 0
    for bracket in _STRINGS.sub(b"", data).translate(None, _BUT_BRACKETS):
        depth += _STEPS[bracket]
        if depth > deepest:
            deepest = depth
    return deepest


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def with_whole_escapes(text: bytes) -> bytes | None:
    """The text with each half of an escape that lacks the other replaced by U+FFFD, byte for byte as long as before.

    None when there is none, or the text is too long to be looked through.
    """
    if len(text) > MAX_MENDED_BYTES or b"\\u" not in text:
        return None
    mended = _ESCAPE.sub(lambda escape: b"\\ufffd" if escape.group(1) else escape.group(), text)
    return None if mended == text else mended


def is_utf8(text: bytes) -> bool:
    """Whether bytes are UTF-8 to their end. Takes no memory to speak of, however long they are."""
    if text.isascii():
        return True
    view = memoryview(text)
    start = 0
    try:
        while start < len(text):
            end = start + _UTF8_PIECE_BYTES
            while end < len(text) and 0x80 <= text[end] < 0xC0 and end > start:
                end -= 1  # a character is not cut in two
            if end == start:
                return False
            str(view[start:end], "utf-8")
            start = end
    except UnicodeDecodeError:
        return False
    return True
