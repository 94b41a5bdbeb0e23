"""Patterns of verdict rules: what is one, what it may cost, and what is found in texts of every kind."""

import os
import re
import tempfile
import warnings

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.patterns import (
    MAX_ALL_STEPS,
    MAX_PATTERN,
    MAX_STEPS,
    checked_pattern,
    is_plain,
    searcher,
    steps_of,
    too_many,
    words_of,
)
from evmlb.config.rules import MAX_MESSAGE, builtin_rules
from evmlb.config.values import Unexpected
from tests.support import run_property

EXPONENTIAL = (  # for an engine that goes back, on the text beside it
    (r"(a+)+$", "a" * (MAX_MESSAGE - 1) + "!"),
    (r"^(a|a)*$", "a" * (MAX_MESSAGE - 1) + "!"),
    (r"^(a*)*$", "a" * (MAX_MESSAGE - 1) + "!"),
    (r"^((a|b)+c?)*$", "ab" * (MAX_MESSAGE // 2 - 1) + "!"),
    (r"(\w+\s?)*x", "a" * MAX_MESSAGE),
    (r"(?i)(a?a)*x", "a" * MAX_MESSAGE),
    (r"(?s:(.*)*)x", "a" * MAX_MESSAGE),
    (r"(?:a{1,9}){1,9}(a+)+b", "a" * MAX_MESSAGE),
    (r"a?" * 100 + r"a" * 100 + "b", "a" * MAX_MESSAGE),
    (r".*.*.*.*.*x", "\U0001f600" * MAX_MESSAGE),
)

REFUSED = (  # what RE2 does not know, or takes for something else
    r"(?#harmless)(a+)+$",
    r"(?x) (a+)+ $",
    r"(?x: (a+)+ )$",
    r"(?a)x",
    r"x{1000}{1000}",
    r"(x{1000}){1000}",
    r"x{1001}",
    r"\pL{200}",
    r"a**",
    r"a++",
    r"(?>a+)b",
    r"(?=x)y",
    r"(?!x)y",
    r"(?<=x)y",
    r"(?<!x)y",
    r"(a)\1",
    r"(?P<x>a)(?P=x)",
    r"(a)?(?(1)b|c)",
    r"\N{DASH}",
    r"x\Z",
    r"(x",
    r"x)",
    r"[x",
    "x\\",
    ".{,40}x",
    "(?:x){,}",
    "x" * (MAX_PATTERN + 1),
    ".{999}",
)

PIECES = (
    *(
        "a",
        "b",
        "(",
        "(?:",
        "(?i)",
        ")",
        "[",
        "[^",
        "]",
        "?",
        "*",
        "+",
        "|",
        ".",
        "{1,}",
        "{2}",
        "{",
        "}",
        "-",
        "^",
        "$",
    ),
    *("\\", "\\d", "\\b", "\\Q", "\\E", "\\C", "\\pL", "\\p{L}", "\\141", "\\x61", "\\x{61}", "[:alpha:]"),
)


def is_found(pattern: str, text: str) -> bool:
    return searcher(pattern)(text)


def is_accepted(pattern: str) -> bool:
    try:
        checked_pattern(pattern)
    except Unexpected:
        return False
    return True


class BoundsTests(SynchronousTestCase):
    def test_hostile(self) -> None:
        """What would take exponential time is matched, in no more steps than are allowed for each character."""
        for pattern, text in EXPONENTIAL:
            self.assertEqual(checked_pattern(pattern), pattern)
            self.assertLessEqual(steps_of(pattern), MAX_STEPS)
            self.assertFalse(is_found(pattern, text), pattern)

    def test_refused(self) -> None:
        """What is not known, or is too large, is refused in our words."""
        for pattern in REFUSED:
            error = self.assertRaises(Unexpected, checked_pattern, pattern)
            self.assertTrue(error.expected.startswith("expected a re"), error.expected)

    def test_look_around(self) -> None:
        """One who writes what only other engines know is told so, without the pattern, which may be long or secret."""
        for pattern in (r"(?<!secret)x", r"(secret)\1"):
            said = self.assertRaises(Unexpected, checked_pattern, pattern).expected
            self.assertIn("RE2, which has no look-around and no back references", said)
            self.assertNotIn("secret", said)

    def test_sizes(self) -> None:
        """A pattern is bounded by its characters and its steps; a set with a comma is no repeat."""
        self.assertTrue(is_accepted("x" * MAX_PATTERN))
        self.assertTrue(is_accepted(".{0,100}.{0,100}"))
        self.assertFalse(is_accepted(".{0,100}.{0,100}.{0,100}"))
        for pattern in ("[{,}]x", r"\{,3}", "x{0,3}", "x{3,}", "{"):
            self.assertTrue(is_accepted(pattern), pattern)

    def test_steps(self) -> None:
        """Plain words have no steps, and all the built-in patterns keep the bounds of one's own."""
        self.assertEqual(steps_of("plain words"), 0)
        builtin = [p for rule in builtin_rules() for c in rule.conditions for p in c.texts + c.bodies]
        self.assertEqual([pattern for pattern in builtin if not is_accepted(pattern)], [])
        self.assertEqual(too_many(builtin), "")
        self.assertLess(sum(map(steps_of, builtin)), MAX_ALL_STEPS)

    def test_silence(self) -> None:
        """RE2 writes nothing to the standard error, neither on what it refuses nor on what it matches."""
        with tempfile.TemporaryFile() as file:
            before = os.dup(2)
            os.dup2(file.fileno(), 2)
            try:
                for pattern in REFUSED:
                    is_accepted(pattern)
                for pattern, text in EXPONENTIAL:
                    is_found(pattern, text)
            finally:
                os.dup2(before, 2)
                os.close(before)
            file.seek(0)
            self.assertEqual(file.read(), b"")

    def test_anything(self) -> None:
        """Every text is a pattern or is refused, and every pattern can be looked for in every text."""
        pieces = st.sampled_from(("(?", "{1,9}", "{999}", "[[:alpha:]]", r"\pL", r"\Q", r"\C", "\x00", "\ud800", "é"))
        patterns = st.lists(pieces | st.text(alphabet="ab()[]{}*+?|\\,0129^$.", max_size=4), max_size=8).map("".join)

        @given(patterns, st.text(st.characters()))
        def check(pattern: str, text: str) -> None:
            if is_accepted(pattern) and not is_plain(pattern):
                self.assertIn(is_found(pattern, text), (True, False))

        run_property(check)


class TextsTests(SynchronousTestCase):
    def test_letters(self) -> None:
        """Upper and lower case are the same; classes are about ASCII."""
        self.assertTrue(is_found("Header (Not|never) found", "HEADER NOT FOUND"))
        self.assertTrue(is_found("^[A-Z]+$", "words"))
        self.assertTrue(is_found(r"^größe\b.*", "größe"))
        self.assertTrue(is_found("^请求.{1,2}多$", "请求过多"))
        self.assertFalse(is_found(r"\d", "٣"))
        self.assertFalse(is_found(r"\w", "é"))

    def test_odd_characters(self) -> None:
        """Half a surrogate pair, NUL and characters of every length are one character each."""
        for odd in ("\x00", "\x7f", "é", "语", "\U0001f600", "\ud800", "\udfff", "\uffff", "\U0010ffff"):
            self.assertTrue(is_found("^a.b$", f"a{odd}b"), ascii(odd))
            self.assertTrue(is_found(f"^[{odd}]$", odd), ascii(odd))
            self.assertFalse(is_found(f"^a{odd}+b$", "ab"), ascii(odd))

    def test_as_pythons(self) -> None:
        """What Python's engine finds in ASCII is found, and nothing else, where both know the pattern."""
        alphabet = "ab()[^]?*+|.{1,}\\$ "

        @given(st.text(alphabet=alphabet, min_size=1, max_size=10), st.text(alphabet="ab? ", max_size=8))
        def check(pattern: str, text: str) -> None:
            if not is_accepted(pattern):
                return
            try:
                theirs = re.compile(pattern, re.IGNORECASE | re.ASCII)
            except re.error:
                return
            self.assertEqual(is_found(pattern, text), theirs.search(text) is not None)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Python's, about sets that may one day mean something else
            run_property(check)


class WordsTests(SynchronousTestCase):
    def test_words(self) -> None:
        """The words that are looked for before a pattern are in everything that the pattern matches."""
        for pattern, words in (
            (r"block.{0,90}not found", "not found"),
            (r"(^|[^n])Known Transaction", "known transaction"),
            (r"max(imum)? block range", " block range"),
            (r"a|bcd", ""),
            (r"limited to (a |0 - )?[\d,.]{1,20}k? ?(block|range)", "limited to "),
            (r"pool\(stale\)", "stale"),
            (r"colou?r", "colo"),
            (r"^mined$", "mined"),
            (r"größe.*", ""),
            ("foo.*?barbaz", "barbaz"),
            ("fooa??barr", "barr"),
            ("a{2}?bbb", "bbb"),
            (r"\x41bcd", ""),
            (r"\pLbcd", ""),
            (r"[[:alpha:]]b", ""),
            (r"\Qa|b\E", ""),
            ("(?s) a b", ""),
        ):
            self.assertEqual(words_of(pattern), words, pattern)

    def test_words_of_any_pattern(self) -> None:
        """No pattern matches a text without its words."""
        token = st.sampled_from(PIECES)
        text = st.text(alphabet="ab?{}[]-2", max_size=8)

        @given(st.lists(token, min_size=1, max_size=8).map("".join), text)
        def check(pattern: str, text: str) -> None:
            if is_accepted(pattern) and is_found(pattern, text):
                self.assertIn(words_of(pattern), text)

        run_property(check)
