"""A scanner over the top-level members of a JSON object, which may be cut off: values are skipped, not parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator


class Unreadable(Exception):
    """The text ends, or goes wrong, before the scan is done."""


_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_KEY = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|-?[0-9][0-9eE+.\-]*|true|false|null", re.DOTALL)
_NESTING = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*([,}])")
_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")


def scan_members(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield ``(quoted name, start, end)`` of each top-level member of the object that ``text`` begins with.

    ``text`` may be the beginning of a longer answer: members are yielded as long as they are whole, and a last member
    whose value is an unfinished array or object is yielded with ``end`` -1. Raises :class:`Unreadable` where the
    text ends or is no object. Values are skipped, not validated.
    """
    opening = _OPEN.match(text)
    if opening is None:
        raise Unreadable
    position = opening.end()
    if text[position : position + 1] == b"}":
        return
    while True:
        key = _KEY.match(text, position)
        if key is None:
            raise Unreadable
        start = key.end()
        end = _skip_value(text, start)
        yield key.group(1), start, end
        comma = _COMMA.match(text, end) if end >= 0 else None
        if comma is None:
            raise Unreadable
        if comma.group(1) == b"}":
            return
        position = comma.end()


def _skip_value(text: bytes, start: int) -> int:
    """Where the value at ``start`` ends; -1 when the text ends first."""
    if text[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, start)
        return -1 if scalar is None or scalar.end() == len(text) else scalar.end()
    depth = 0
    for token in _NESTING.finditer(text, start):
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
