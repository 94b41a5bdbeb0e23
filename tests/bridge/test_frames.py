"""Whole text frames, read and written without autobahn as autobahn does it."""

from __future__ import annotations

from autobahn.websocket.xormasker import create_xor_masker
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.frames import is_utf8, may_become_text, read_text, text_header, unmask
from tests.bridge.support import frame
from tests.support import run_property

MANY = 1 << 16
LENGTHS = (0, 1, 3, 4, 125, 126, 127, 2047, 2048, 2049, 65535)
KEYS = st.binary(min_size=4, max_size=4)


class ReadText(SynchronousTestCase):
    def test_lengths(self) -> None:
        """A whole frame is read, wherever it begins, with what is behind it left."""
        for length in LENGTHS:
            text = b"x" * length
            data = frame(text)
            self.assertEqual(read_text(data, 0, MANY), (text, len(data)))
            self.assertEqual(read_text(b"ab" + data + b"cd", 2, MANY), (text, len(data) + 2))

    def test_limit(self) -> None:
        """The limit counts the text."""
        self.assertEqual(read_text(frame(b"xyz"), 0, 3), (b"xyz", 9))
        self.assertIsNone(read_text(frame(b"xyz"), 0, 2))

    def test_cut(self) -> None:
        """No beginning of a frame is one; each may become one."""
        for text in (b"", b"x", b"y" * 126):
            data = frame(text)
            for end in range(len(data)):
                self.assertIsNone(read_text(data[:end], 0, MANY), end)
                self.assertIs(may_become_text(data[:end], MANY), end > 0, end)

    def test_not_ours(self) -> None:
        """What is autobahn's to read, or to refuse, is neither read nor waited for."""
        odd = {
            "binary": frame(b"x", 2),
            "ping": frame(b"x", 9),
            "continuation": frame(b"x", 0),
            "no end": frame(b"x", fin=False),
            "reserved bit": frame(b"x", rsv=4),
            "not masked": frame(b"xxxxxxx", key=None),
            "long": frame(b"x" * 65536),
            "126 for 125": frame(b"x" * 125, size=b"\x7e\x00\x7d"),
            "127 for 1": frame(b"x", size=b"\x7f" + b"\x00" * 7 + b"\x01"),
        }
        for name, data in odd.items():
            self.assertIsNone(read_text(data, 0, 1 << 20), name)
            self.assertIs(may_become_text(data, MANY), False, name)
        self.assertIsNone(read_text(frame(b"\xff"), 0, MANY), "not UTF-8")
        self.assertIs(may_become_text(frame(b"\xff"), MANY), False, "whole, and wrong")
        self.assertIs(may_become_text(frame(b"xyz")[:5], 2), False, "beyond the limit")

    def test_utf8(self) -> None:
        """Text is UTF-8 to its end, with neither surrogates nor overlong forms."""
        for text in ("é".encode(), "€".encode(), "\U0001f600".encode(), b""):
            self.assertEqual(read_text(frame(text), 0, MANY), (text, len(frame(text))))
        for text in (b"\xc3", b"a\x80", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
            self.assertIs(is_utf8(text), False)
            self.assertIsNone(read_text(frame(text), 0, MANY))


class Unmask(SynchronousTestCase):
    def test_as_autobahn(self) -> None:
        """Unmasking gives what autobahn's masker gives, on both sides of the size where it is used."""

        @given(KEYS, st.sampled_from(LENGTHS), st.binary(min_size=1, max_size=7))
        def check(key: bytes, length: int, pattern: bytes) -> None:
            payload = (pattern * length)[:length]
            expected = create_xor_masker(key, length).process(payload) if payload else b""
            self.assertEqual(unmask(payload, key), expected)

        run_property(check)


class Write(SynchronousTestCase):
    def test_headers(self) -> None:
        """The shortest encoding of each length."""
        expected = {
            0: b"\x81\x00",
            125: b"\x81\x7d",
            126: b"\x81\x7e\x00\x7e",
            65535: b"\x81\x7e\xff\xff",
            65536: b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
        }
        self.assertEqual({length: text_header(length) for length in expected}, expected)
