"""Text from elsewhere, made fit to be shown: no secret in it, and no way to forge a line.

What a node, a client or a library says ends up in logs and on pages. It may repeat a URL with its key, and it may hold
line ends or terminal sequences. Nothing here raises, whatever the text is.
"""

from __future__ import annotations

import re

from evmlb.urls import mask_url

_URL = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z0-9+.\-]+://\S+")
_MASK = re.compile(r"\*\*\*[0-9a-f]{4}")
_LONG_WORD = re.compile(r"[A-Za-z0-9_.~%+=-]{16,}")
_DIGIT = re.compile(r"[0-9]")
_UNREAD = re.compile(r"<!--.*?-->|<(script|style|svg)\b.*?</\1\s*>|<[^>]*>?", re.DOTALL | re.IGNORECASE)
_SEEN_BYTES = 2048
_WORDS = 160
_BEHIND_A_URL = "\"'`)]}>,.;:!?"


def masked(text: str) -> str:
    """The text with every URL in it masked as :func:`~evmlb.urls.mask_url` does; what is masked already stays.

    A URL reaches to the next blank: whatever sticks to it may be a part of the secret. Only punctuation at its end is
    not taken for a part of it.
    """
    return _URL.sub(_masked_match, text) if "://" in text else text


def _masked_match(match: re.Match[str]) -> str:
    found = match.group()
    url = found.rstrip(_BEHIND_A_URL)
    if url.endswith((":/", "://")):
        return found
    return _masked_once(url) + found[len(url) :]


def _masked_once(url: str) -> str:
    """The mask of a mask is another one, and nobody would recognise it: two forms that differ in that only are one."""
    result = mask_url(url)
    return url if _MASK.sub("***", result) == _MASK.sub("***", url) else result


def one_line(text: str) -> str:
    r"""The text with everything that is not printable written as an escape (``\\n``, ``\\x1b``, ``\\u202e``)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def shown(text: str, limit: int = 8192) -> str:
    """Masked, on one line, and not longer than ``limit`` characters by much."""
    safe = one_line(masked(text))
    return safe if len(safe) <= limit else f"{safe[:limit]}... ({len(safe) - limit} more characters)"


def words_of(body: bytes) -> str:
    """What a body that is no JSON-RPC says, on one short line; empty when nothing.

    Of a page the text. Such bodies repeat what was asked for, also without a scheme before it, and a path may be a key:
    so here everything is masked that looks like one. All such things look the same, because a number that is another
    one each time (of the request, of the edge) would make each failure a new one.
    """
    cut = len(body) > _SEEN_BYTES
    text = body[:_SEEN_BYTES].decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        text = _UNREAD.sub(" ", text)
    words = text.split()[: -1 if cut else None]  # the last may be a part of a key, too short to look like one
    return shown(_LONG_WORD.sub(_masked_if_key, masked(" ".join(words))), _WORDS)


def _masked_if_key(match: re.Match[str]) -> str:
    return "***" if _DIGIT.search(match.group()) else match.group()
