"""Text from elsewhere, made fit to be shown."""

from __future__ import annotations

import time
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.texts import masked, one_line, shown, words_of
from evmlb.urls import mask, mask_url
from tests.support import run_property

KEYS = st.text("abcdefghijkABCDEF0123456789_-", min_size=16, max_size=40).filter(
    lambda key: any(character.isdigit() for character in key)
)
AROUND = st.text(st.characters(exclude_categories=["Cs", "Nd"]), max_size=20)


class MaskedTests(SynchronousTestCase):
    def test_urls_in_sentences(self) -> None:
        """A URL is masked where it stands, punctuation behind it stays."""
        key = "0123456789abcdef"
        for before, after in (
            ("", ""),
            ("<Endpoint ", ">"),
            ("see (", ")."),
            ("'", "',"),
            ("no answer from ", ": reset"),
        ):
            url = f"https://node.test/v3/{key}"
            self.assertEqual(masked(f"{before}{url}{after}"), f"{before}{mask_url(url)}{after}")

    def test_without_a_url(self) -> None:
        """Other text stays as it is."""
        for text in ("", "a: b", "error -32000: header not found", "://", "http://", "c:/d"):
            self.assertEqual(masked(text), text)

    def test_masked_already(self) -> None:
        """A mask is not masked again: it is what makes equal secrets recognisable."""
        url = mask_url("https://user:pass@node.test/v3/0123456789abcdef?key=hush")
        self.assertEqual(masked(f"node at {url} is down"), f"node at {url} is down")

    def test_two_that_stick_together(self) -> None:
        """What cannot be told apart is masked as one."""
        self.assertNotIn("hush", masked("http://a/?k=hush,http://b/?k=hush"))

    def test_no_key_gets_through(self) -> None:
        """Keys in paths, query values and user information are not in what is shown, whatever is around the URL."""

        @settings(max_examples=200, deadline=None)
        @given(KEYS, AROUND, AROUND, st.sampled_from(("https://h.test/v2/{}", "wss://u:{}@h.test/", "http://h/?k={}")))
        def check(key: str, before: str, after: str, form: str) -> None:
            self.assertNotIn(key, shown(f"{before} {form.format(key)}{after}"))
            self.assertNotIn(key, shown(f"({form.format(key)}){after}"))

        run_property(check)

    def test_once_is_enough(self) -> None:
        """Masking again changes nothing."""

        @settings(max_examples=200, deadline=None)
        @given(AROUND, KEYS, AROUND)
        def check(before: str, key: str, after: str) -> None:
            once = masked(f"{before} https://u:{key}@h.test/{key}?a={key} {after}")
            self.assertEqual(masked(once), once)

        run_property(check)

    def test_long_text(self) -> None:
        """Masking takes time in proportion to the text."""
        for text in ("a" * 200_000 + " x://", "a://" * 50_000, "a" * 200_000 + "://b"):
            masked(text)

    def test_not_a_mask(self) -> None:
        """A secret that only looks a little like a mask is masked."""
        self.assertNotIn("hush", masked(f"https://h.test/?a={mask('x')}&b=hush"))


class OneLineTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Line ends, terminal sequences, directions of writing and lone surrogates are written out."""
        text = "a\nb\r\x1b[31m\u2028\u202e\x85\ud800\U000e0001é 世"
        self.assertEqual(one_line(text), r"a\nb\r\x1b[31m\u2028\u202e\x85\ud800\U000e0001é 世")

    def test_always_one_line(self) -> None:
        """Whatever comes in, one printable line comes out, which any terminal or parser takes for one."""

        @settings(max_examples=300, deadline=None)
        @given(st.text())
        def check(text: str) -> None:
            line = shown(text)
            self.assertLessEqual(len(line.splitlines()), 1)
            self.assertEqual({c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}, set())
            line.encode()

        run_property(check)

    def test_long(self) -> None:
        """Long text is cut, and says by how much."""
        self.assertEqual(shown("x" * 20, limit=5), "xxxxx... (15 more characters)")


class WordsTests(SynchronousTestCase):
    def test_page(self) -> None:
        """Of a page the text is left, without scripts, styles and comments, however it ends."""
        page = b"<!DOCTYPE html><script>var a='<b>'</script><style>x</style><b>Access denied</b><!-- no --> Go <a hr"
        self.assertEqual(words_of(page), "Access denied Go")

    def test_same_each_time(self) -> None:
        """A number of the request, which is another one each time, does not make the words others."""
        says = [words_of(b"denied, ray %b" % ray) for ray in (b"8f3a2b1c9d4e5f60", b"1f3a2b1c9d4e5f61-FRA")]
        self.assertEqual(says, ["denied, ray ***"] * 2)

    def test_anything(self) -> None:
        """Whatever the body is, its words are one short line, and no key is in them, be it cut anywhere."""
        key = "Zk3-0123456789abcdef"

        @settings(max_examples=300, deadline=None)
        @given(st.binary(max_size=200), st.sampled_from((b" ", b"/", b"=", b"://x/", b'"', b"<")), st.integers(0, 2100))
        def check(before: bytes, between: bytes, filler: int) -> None:
            words = words_of(before + b" " * filler + between + key.encode() + between + before)
            self.assertLessEqual(len(words), 160 + len("... (9999 more characters)"))
            self.assertEqual(words, one_line(words))
            self.assertNotIn(key[:8], words)

        run_property(check)

    def test_time(self) -> None:
        """No body takes long."""
        for piece in (b"<!--", b"<script ", b"<", b"a", b"a://", b"<p>a", b"1."):
            begun = time.perf_counter()
            words_of(b"<" + piece * 100_000)
            self.assertLess(time.perf_counter() - begun, 0.1, piece)
