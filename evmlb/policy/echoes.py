"""A request's own words in a node's error, which are no witness against the node.

Nodes repeat what they were given: ``invalid type: string "too many requests", expected a boolean``. What a client
writes must not decide whether a node is held off, blamed, or not asked for a method any more. So a rule with such
consequences looks at the message without every word that the request has too: those in the method, in the parameters
(names of members as well as values), in the id, and in a path, a query and headers that go with it.

Words rather than whole strings, since no two nodes quote alike: they escape, shorten, and cut a string apart, but leave
its words. A word of the message is the request's if one of the request begins with it, or, when it is long enough not
to be there by chance, if one has it inside. Words of one or two characters stay; no rule is met by those alone.

Where a request has more words than can be looked at, nothing in the message is believed. Only errors that a rule with
consequences would match come here; one costs 10 us for a common request, and 0.6 ms for the worst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from evmlb.jsonrpc import Call

__all__ = ["NOTHING_SAID", "Echoes"]

MAX_REQUEST_BYTES = 64 * 1024
"""Longer requests are not read. Counted is what may be repeated, and that of a batch once."""
MAX_TEXT_CHARACTERS = 16 * 1024
"""What may be left of a request without its hexadecimal data, which says nothing."""
MAX_WORDS_CHARACTERS = 4 * 1024
"""What may be left of that when each word is there once."""
_MAX_ESCAPES = 500  # each costs a call
_INSIDE_CHARACTERS = 6
"""From this length on, a word may also be the inside or the end of one of the request's."""

_ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
_HEX_DATA = re.compile(r"0x(?<![a-z0-9]0x)[0-9a-f]*+(?![a-z0-9])")
_WORD = re.compile(r"[a-z0-9]+")
_ESCAPE_OR_WORD = re.compile(
    r"\\+(?:u00[01][0-9a-f]{5}|u[0-9a-f]{4}|u\{[0-9a-f]{1,6}\}|x[0-9a-f]{2}|[a-z0])|%[0-9a-f]{2}|[a-z0-9]{3,}"
)


class Echoes:
    """What a node may repeat of one request, read when it is first asked for.

    ``beside`` is what else of the client's goes to the node: path, query, headers.
    """

    __slots__ = ("_beside", "_blanked", "_call", "_words")

    def __init__(self, call: Call | None, beside: bytes = b"") -> None:
        self._call = call
        self._beside = beside
        self._words: dict[str, None] | None = None
        self._blanked = ("", "")  # the last message, and what became of it: several rules may ask in turn

    def blank(self, lower: str) -> str:
        """A node's words, given in lower case, with those of the request and all escapes blanked out.

        As long as it was, so that nothing comes nearer to anything. Empty if the request has too many words.
        """
        if self._call is None and not self._beside:
            return lower
        if self._words is None:
            self._words = _words_of(_texts_of(self._call, self._beside))
        if self._blanked[0] != lower:
            self._blanked = (lower, _without(self._words, lower))
        return self._blanked[1]


NOTHING_SAID = Echoes(None)
"""For an error that answers nothing a client wrote."""


def _without(words: dict[str, None], lower: str) -> str:
    if not words:
        return ""
    joined = f" {' '.join(words)}"

    def blanked(found: re.Match[str]) -> str:
        word = found.group()
        known = word in words or word[0] in "\\%" or (word if len(word) >= _INSIDE_CHARACTERS else f" {word}") in joined
        return "…" * len(word) if known else word

    return _ESCAPE_OR_WORD.sub(blanked, lower)


def _texts_of(call: Call | None, beside: bytes) -> Iterator[bytes]:
    """The parts of a request, all of them as JSON has them: a backslash escapes."""
    yield unquote_to_bytes(beside).replace(b"\\", b" ")
    if call is None:
        return
    for each in (call,) if call.members is None else call.members:
        yield json.dumps(each.method).encode()
        yield bytes(memoryview(each.params)[: MAX_REQUEST_BYTES + 1])
        yield each.id


def _words_of(texts: Iterator[bytes]) -> dict[str, None]:
    """The words, in lower case, each once; none if they are too many, and then nothing is believed."""
    given: dict[bytes, None] = {}
    room = MAX_REQUEST_BYTES
    for part in texts:
        if len(part) > MAX_REQUEST_BYTES:
            return {}  # to look whether it was there before would take longer than all else
        if part not in given:
            given[part] = None
            room -= len(part)
        if room < 0:
            return {}
    text = b"\n".join(given).decode("utf-8", "replace")
    if "\\" in text:
        if text.count("\\") > _MAX_ESCAPES:
            return {}
        text = _ESCAPED.sub(_unescaped, text)
    text = _HEX_DATA.sub("", text.lower())
    if len(text) > MAX_TEXT_CHARACTERS:
        return {}
    words = dict.fromkeys(_WORD.findall(text))
    return words if sum(map(len, words)) + len(words) <= MAX_WORDS_CHARACTERS else {}


def _unescaped(escape: re.Match[str]) -> str:
    """The character that four digits stand for; of other escapes none stands for a letter."""
    digits = escape.group(1)
    return chr(int(digits, 16)) if digits else " "
