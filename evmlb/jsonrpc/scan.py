"""Where the top-level members of a JSON object lie, by a bounded walk.

A decoder says what the members are, not where. This says where; but each step of it is Python's, 0.3 to 3 us, so it
walks over ``MAX_WALKED_BYTES`` at most. What is longer than that is either given as known, because a decoder has seen
it (:class:`msgspec.Raw`), and passed over in one stride; or it is not walked, and the scan ends there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Raw

from evmlb.jsonrpc.reading import Unreadable, read_value

MAX_WALKED_BYTES = 8 * 1024
"""So much of a text is looked at: all names and blanks, and each value that is not known. At the worst 5 ms."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|-?[0-9][0-9eE+.\-]*|true|false|null", re.DOTALL)
_NESTING = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*([,}])")
_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_SELF_DELIMITING = (b"[", b"{", b'"')


def scan_members(text: bytes, known: tuple[Raw, ...] = ()) -> Iterator[tuple[bytes, int, int]]:
    """Yield ``(quoted name, start, end)`` of each top-level member of the object that ``text`` begins with.

    ``text`` may be the beginning of a longer answer: members are yielded as long as they are whole, and a last member
    whose value does not end, or is too long to be walked over, is yielded with ``end`` -1. Raises :class:`Unreadable`
    where the text ends, is no object, or goes on behind what is walked. Values are passed over, not validated.

    ``known``: lists, objects and strings in it that a decoder has found to be whole.
    """
    strides = [raw for raw in known if bytes(memoryview(raw)[:1]) in _SELF_DELIMITING]
    opening = _OPEN.match(text)
    if opening is None:
        raise Unreadable
    position = opening.end()
    limit = min(len(text), position + MAX_WALKED_BYTES)
    if text[position : position + 1] == b"}":
        return
    while True:
        key = _KEY.match(text, position, limit)
        if key is None:
            raise Unreadable
        start = key.end()
        raw = next((raw for raw in strides if text.startswith(raw, start)), None)
        if raw is None:
            end = _skip_value(text, start, limit)
        else:
            strides.remove(raw)  # else many equal values would be many strides
            end = start + len(raw)
            limit = min(len(text), limit + len(raw))
        yield key.group(1), start, end
        comma = _COMMA.match(text, end, limit) if end >= 0 else None
        if comma is None:
            raise Unreadable
        if comma.group(1) == b"}":
            return
        position = comma.end()


def _skip_value(text: bytes, start: int, limit: int) -> int:
    """Where the value at ``start`` ends; -1 when that is not before ``limit``."""
    if text[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, start, limit)
        return -1 if scalar is None or scalar.end() == limit else scalar.end()
    depth = 0
    for token in _NESTING.finditer(text, start, limit):
        mark = token.group()
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
        elif mark == b'"':
            return -1  # a string that does not end
    return -1


def name_of(key: bytes) -> str:
    """The name that a quoted one stands for, however it is written; empty for what is none."""
    if b"\\" not in key:
        return key[1:-1].decode("utf-8", "replace")
    try:
        return str(read_value(key))
    except Unreadable:
        return ""
