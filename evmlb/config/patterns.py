"""The regular expressions of verdict rules: their syntax, their bounds, and how they are matched.

What they are matched with comes from nodes, which may send anything. So they are RE2's: it never goes back in a text,
and its time is at most the length of the text times the steps of the pattern's program, whatever the pattern is. It has
no look-around and no back references for that reason. Steps are counted when the configuration is read, and bounded
here, for one pattern and for all; so is the memory that RE2 keeps of what it has seen.

Plain words, as most patterns are, are no matter of RE2's: they are looked for as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol

import re2

from evmlb.config.values import Unexpected

__all__ = [
    "MAX_ALL_STEPS",
    "MAX_MEMORY",
    "MAX_PATTERN",
    "MAX_PATTERNS",
    "MAX_STEPS",
    "checked_pattern",
    "is_plain",
    "searcher",
    "steps_of",
    "too_many",
    "words_of",
]

MAX_PATTERN = 500
"""Characters of one pattern."""
MAX_STEPS = 2000
"""Steps of one pattern's program: 5 ns for each byte of a message at worst, 40 ms for the longest message."""
MAX_PATTERNS = 500
"""Patterns of all the rules of a configuration, plain words too."""
MAX_ALL_STEPS = 20_000
"""Steps of all the patterns of a configuration."""
MAX_MEMORY = 256 * 1024
"""Bytes that RE2 may take for one pattern: its program, and what it remembers of texts to be quick."""

_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_SET = re.compile(r"\[\^?\]?[^\]]*\]")
_REPEAT = re.compile(r".(?:[?*]|\{[^}]*\})", re.DOTALL)
_INNERMOST_GROUP = re.compile(r"\([^()]*\)(?:[?*+]|\{[^}]*\})?")
_ODD = re.compile(r"\\[0-9A-Zpux]|\(\?[a-zA-Z]+\)|\[:|[^ -~]")  # long escapes, flags, named sets, other alphabets
_NO_LOWER_BOUND = re.compile(r"\{,[0-9]*\}")


class _Program(Protocol):
    """A compiled pattern, as far as it is used here: RE2's Python module has no types."""

    @property
    def programsize(self) -> int: ...

    def search(self, text: bytes) -> object | None: ...


def is_plain(pattern: str) -> bool:
    """Whether a pattern is nothing but words."""
    return not _SPECIAL.search(pattern)


def checked_pattern(text: str) -> str:
    """A pattern as the configuration has it; :class:`~evmlb.config.values.Unexpected` if it cannot be used."""
    if len(text) > MAX_PATTERN:
        raise Unexpected(f"expected a regular expression of at most {MAX_PATTERN} characters")
    # RE2 takes it for these very characters, which nobody means
    if _NO_LOWER_BOUND.search(_SET.sub("", _ESCAPED.sub("", text))):
        raise Unexpected("expected a repeat with both bounds: {0,40} for {,40}")
    steps = steps_of(text)
    if steps > MAX_STEPS:
        raise Unexpected(
            f"expected a regular expression of at most {MAX_STEPS:,} steps, this one has {steps:,}: "
            "repeats with large numbers have many, * and + have few"
        )
    return text


def steps_of(pattern: str) -> int:
    """The steps of a pattern's program, none of plain words; :class:`~evmlb.config.values.Unexpected` if it is bad."""
    return 0 if is_plain(pattern) else _compiled(pattern).programsize


def too_many(patterns: Iterable[str]) -> str:
    """What was expected in place of so many good patterns, or so large ones; empty if they may be as they are."""
    steps = [steps_of(pattern) for pattern in patterns]
    if len(steps) > MAX_PATTERNS:
        return f"expected at most {MAX_PATTERNS} texts and bodies in all the rules, not {len(steps)}"
    if sum(steps) > MAX_ALL_STEPS:
        return f"expected regular expressions of at most {MAX_ALL_STEPS:,} steps in all the rules, not {sum(steps):,}"
    return ""


def searcher(pattern: str) -> Callable[[str], bool]:
    """What tells whether a pattern is found in a text, whatever characters that has."""
    search = _compiled(pattern).search

    def is_found(text: str) -> bool:
        return search(_bytes(text)) is not None

    return is_found


def _bytes(text: str) -> bytes:
    """UTF-8, as RE2 reads it. JSON may have half a surrogate pair, and that is some character, too."""
    return text.encode("utf-8", "surrogatepass")


def _compiled(pattern: str) -> _Program:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False  # it would write them to stderr
    options.max_mem = MAX_MEMORY
    options.never_capture = True
    try:
        program: _Program = re2.compile(_bytes(pattern), options)
    except re2.error as error:
        raise Unexpected(
            f"expected a regular expression of RE2, which has no look-around and no back references ({_reason(error)})"
        ) from None
    return program


def _reason(error: Exception) -> str:
    """RE2's own words, without the part of the pattern that follows them: a pattern is not repeated."""
    said = error.args[0] if error.args else b""
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return words.partition(": ")[0]


def words_of(pattern: str) -> str:
    """The longest run of plain characters, in lower case, that every match of a pattern contains; "" when unsure."""
    if _ODD.search(pattern):
        return ""
    text = _SET.sub("\0", _ESCAPED.sub("\0", pattern))
    while _INNERMOST_GROUP.search(text):
        text = _INNERMOST_GROUP.sub("\0", text)
    if "|" in text:
        return ""
    text = re.sub(r"[.^$+?]", "\0", _REPEAT.sub("\0", text))
    return max(text.split("\0"), key=len).lower()
